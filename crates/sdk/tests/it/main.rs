//! The SDK against real databases and brokers.

#[cfg(feature = "amqp")]
mod amqp;
#[cfg(all(feature = "sqlite", feature = "postgres"))]
mod sql;
