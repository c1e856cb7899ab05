//! Compiles the `.proto` files, in Rust alone: no `protoc` is needed.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    #[cfg(feature = "grpc")]
    grpc()?;
    Ok(())
}

#[cfg(feature = "grpc")]
fn grpc() -> Result<(), Box<dyn Error>> {
    let directory = std::path::Path::new("proto/posthouse/v1");
    let mut files = Vec::new();
    for file in std::fs::read_dir(directory)? {
        files.push(file?.path());
    }
    files.sort();
    let descriptors = protox::compile(&files, ["proto"])?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("posthouse.v1.bin"), prost::Message::encode_to_vec(&descriptors))?;
    let package = "posthouse.v1";
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        // Read and written by hand: the fields are slices of the frame that they came in.
        .extern_path(".posthouse.v1.Message", "crate::grpc::Message")
        .extern_path(".posthouse.v1.Header", "crate::grpc::Header")
        .extern_path(".posthouse.v1.Value", "crate::grpc::Value")
        .codec_path("crate::grpc::Codec")
        .client_mod_attribute(package, "#[cfg(feature = \"grpc-client\")]")
        .server_mod_attribute(package, "#[cfg(feature = \"grpc-server\")]")
        .compile_fds(descriptors)?;
    Ok(())
}
