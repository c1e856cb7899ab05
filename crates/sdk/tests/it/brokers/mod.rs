//! The transport `amqp` against Posthouse and RabbitMQ, whose addresses are in `SDK_POSTHOUSE_AMQP_URL` and `SDK_RABBITMQ_URL`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[cfg(feature = "conformance")]
mod conformance;
mod ground;
mod live;
mod lost;
mod publishing;
mod queues;
