//! The SDK against real databases and brokers.

#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod sql;
