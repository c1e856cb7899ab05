//! Has the services built where `cargo run` built this program alone.

use std::env;
use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, ensure};
use tokio::process::Command;

use crate::output;

/// Builds the services' binaries, as they are now, if this program was started by `cargo run -p shop`. Otherwise they are taken as they are.
///
/// # Errors
/// If they cannot be built.
pub async fn build_services() -> anyhow::Result<()> {
    let by_cargo = env::var_os("CARGO_PKG_NAME").is_some_and(|name| name == env!("CARGO_PKG_NAME"));
    let (Some(cargo), Some(manifest), true) = (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR"), by_cargo)
    else {
        return Ok(());
    };
    let us = env::current_exe().context("finding this program's own file")?;
    // Cargo puts programs into <target directory>/<profile>/.
    let (Some(profile), Some(target)) = (us.parent(), us.parent().and_then(Path::parent)) else { return Ok(()) };
    output::remark("building the services ...");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--package", env!("CARGO_PKG_NAME"), "--bins", "--manifest-path"]);
    command.arg(Path::new(&manifest).join("Cargo.toml")).arg("--target-dir").arg(target);
    if profile.file_name() == Some(OsStr::new("release")) {
        command.arg("--release");
    }
    let status = command.kill_on_drop(true).status().await.context("running cargo")?;
    ensure!(status.success(), "the services could not be built ({status})");
    Ok(())
}
