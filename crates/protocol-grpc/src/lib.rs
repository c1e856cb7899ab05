//! The native gRPC API. docs/protocols/grpc.md says what each stream promises; `crates/api/proto` has the `.proto` files.
//!
//! A publish goes `publish::stream` → `broker::Session::start_publish_each`, many frames a call; a delivery `consume::stream` →
//! `broker::Consumer::next`. Every error becomes gRPC in `failure`.
//!
//! Architecture invariant: this crate maps gRPC to the broker's words and decides nothing. It never names another protocol's crate.

mod admin;
mod app;
mod caller;
mod consume;
mod failure;
mod health;
mod input;
pub mod limits;
mod live;
mod publish;
mod replay;
mod serve;
mod stall;
mod views;

pub use app::GrpcOptions;
pub use serve::{ALPN, Grpc, Services, serve};
