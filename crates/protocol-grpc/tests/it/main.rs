//! The gRPC API through sockets, with tonic's client.

mod access;
mod admin;
mod consume;
mod harness;
mod live;
mod publish;
mod replay;
mod tls;
