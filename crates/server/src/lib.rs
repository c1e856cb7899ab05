//! The composition root: configuration, wiring, listeners' start and drain, signals.

pub mod config;
mod engine;
mod error;
mod first_user;
pub mod logging;
mod metrics;
pub mod offline;
mod run;
mod server;

pub use error::StartError;
pub use metrics::Metrics;
pub use run::{Ended, run};
pub use server::Server;
