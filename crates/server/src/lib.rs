//! The composition root: configuration, wiring, listeners' start and drain, signals.

pub mod config;
