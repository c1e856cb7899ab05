//! What the fuzz targets check: each takes any bytes, hands them to something that reads foreign bytes, and holds the result against what
//! must be true of it.
//!
//! The targets themselves are in `fuzz/`, a line each, since cargo-fuzz builds them in a way of its own. Here everything runs on stable:
//! a test replays the kept inputs of `fuzz/corpus`, so that what was once found stays found.

pub mod amqp_content;
pub mod amqp_session;
pub mod data_directory;
pub mod filter;
pub mod grpc_frame;
pub mod http_body;
mod memory;
pub mod record_batch;
mod reference;
pub mod websocket;
pub mod write_ahead_log;

#[cfg(test)]
mod tests;

/// A target: its name, which is that of its binary and of its corpus, and what it checks.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("record_batch", record_batch::check),
    ("write_ahead_log", write_ahead_log::check),
    ("data_directory", data_directory::check),
    ("filter", filter::check),
    ("http_body", http_body::check),
    ("websocket", websocket::check),
    ("grpc_frame", grpc_frame::check),
    ("amqp_session", amqp_session::check),
    ("amqp_content", amqp_content::check),
];
