//! An AMQP client for tests: lapin, with what most tests of a server want.

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use crate::harness::Server;

/// A connection with a channel.
///
/// # Errors
/// If the server is gone.
pub(crate) async fn connect(server: &Server) -> lapin::Result<(Connection, Channel)> {
    let connection = Connection::connect(&format!("{}/%2f", server.amqp), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}

/// The same, on which publishes are confirmed.
///
/// # Errors
/// If the server is gone.
pub(crate) async fn connect_confirming(server: &Server) -> lapin::Result<(Connection, Channel)> {
    let (connection, channel) = connect(server).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

/// Properties of a message that is to be on the disk.
pub(crate) fn persistent() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2)
}

/// Declares a durable queue of this type.
pub(crate) async fn declare(channel: &Channel, queue: &str, kind: &str) {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await.unwrap();
}

/// Publishes straight into a queue, and waits for the confirm if the channel has any.
pub(crate) async fn publish(channel: &Channel, queue: &str, body: &[u8], properties: BasicProperties) {
    let sent = channel.basic_publish("".into(), queue.into(), BasicPublishOptions::default(), body, properties);
    assert!(!sent.await.unwrap().await.unwrap().is_nack());
}

/// Takes the message that is in a queue.
pub(crate) async fn take(channel: &Channel, queue: &str) -> lapin::message::Delivery {
    let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await.unwrap();
    let delivery = got.unwrap_or_else(|| panic!("{queue} is empty")).delivery;
    channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await.unwrap();
    delivery
}
