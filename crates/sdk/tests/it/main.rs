//! The SDK against real databases and brokers.

#[cfg(feature = "amqp")]
mod brokers;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod sql;
