//! AMQP's entities as the broker's: a vhost is a namespace, an exchange a topic, a queue a queue, a stream a topic with a log.
//!
//! What the specification leaves open is done as RabbitMQ does it, with its reply texts, since clients' own tests compare them. Both the
//! channels of connections and the management API go through here.
//!
//! An exchange captures no subjects, and live subscriptions do not see what goes through it. A topic that is made elsewhere captures its own
//! name and everything below it unless told otherwise, which no two topics of a namespace may do at once: a client that declares the exchanges
//! `a` and `a.b` must not be refused for a mechanism that AMQP does not have.

pub(crate) mod arguments;
pub(crate) mod binding;
pub(crate) mod exchange;
mod kind;
pub(crate) mod names;
pub(crate) mod queue;
pub(crate) mod queue_arguments;
mod queue_config;
mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod vhost;
