//! AMQP 0-9-1, as RabbitMQ 4 speaks it: an exchange is a topic, a queue is a queue, a vhost a namespace.

mod codec;
mod entities;
mod fault;
mod limits;
mod registry;
