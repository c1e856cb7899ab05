//! The wire types of the native gRPC API, version 1: what is in `proto/posthouse/v1`, compiled.
//!
//! With the feature `grpc-client` there is a client of each service, with `grpc-server` a trait to serve it. [`Message`], [`Header`] and
//! [`Value`] are read and written by hand, since every message of every stream passes through them.

mod codec;
mod message;
mod value;

pub use codec::{Codec, ProtoDecoder, ProtoEncoder};
pub use message::{Message, MessageFault};
pub use value::{Header, Value};

/// What the `.proto` files say.
#[allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, rust_2018_idioms)]
#[allow(rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/posthouse.v1.rs"));
}

pub use generated::*;

/// The compiled `.proto` files as a `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/posthouse.v1.bin"));
