//! Listeners for every protocol: binding, TLS with certificates that are replaced while running, connection limits, and a
//! graceful drain.
//!
//! A protocol crate hands [`Listener::run`] a function from a [`Connection`] to a future, and knows nothing of how the
//! connection came about.
//!
//! Architecture invariant: this crate knows no protocol and no broker.

mod address;
mod connection;
mod drain;
pub mod limits;
mod listener;
mod tls;

pub use address::{BindError, ListenAddress, ListenAddressError};
pub use connection::{Connection, PeerInfo};
pub use drain::{Drain, Drained};
pub use listener::{ConnectionCounts, Listener, ListenerOptions};
pub use tls::{ClientCertificates, TlsError, TlsFiles, TlsStore};
