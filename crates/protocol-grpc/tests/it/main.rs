//! The gRPC API through sockets, with tonic's client.

mod consume;
mod harness;
mod publish;
