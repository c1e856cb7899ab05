//! protocol-http
mod serve;

pub use serve::{ALPN, serve};
