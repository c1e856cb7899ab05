//! AMQP 0-9-1, as RabbitMQ 4 speaks it: an exchange is a topic, a queue is a queue, a vhost a namespace.
//!
//! [`serve`] runs a listener. docs/protocols/amqp.md has every method and argument: done, differs (how), refused (why).

mod app;
mod channel;
mod codec;
mod connection;
mod deaths;
mod entities;
mod fault;
mod flags;
mod limits;
pub mod management;
mod message;
mod registry;
mod serve;
mod stream;
mod targets;
mod unsettled;

pub use app::AmqpOptions;
pub use codec::properties::reread;
pub use registry::Registry;
pub use serve::{ALPN, Amqp, serve};
