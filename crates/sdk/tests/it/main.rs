//! The SDK against real brokers.

#[cfg(feature = "amqp")]
mod amqp;
