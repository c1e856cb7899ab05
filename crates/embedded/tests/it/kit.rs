//! What the tests here say over and over.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use embedded::Embedded;
use sdk::Envelope;
use sdk::transport::{
    BindingSpec, Consume, Consumer, Delivery, Destination, Outgoing, Published, QueueSpec, RetentionSpec, Settle,
    TopicSpec, Topology, Transport,
};
use types::MessageId;

/// Longest that anything here may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What comes, or a panic if it takes too long.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it takes too long")
}

pub(crate) async fn manual() -> (Embedded, Arc<dyn Transport>) {
    let broker = Embedded::builder().manual_clock().start().await.unwrap();
    let transport = broker.transport();
    (broker, transport)
}

pub(crate) async fn queue(transport: &dyn Transport, spec: QueueSpec) {
    transport.declare(&Topology { queues: vec![spec], ..Topology::default() }).await.unwrap();
}

/// A topic with a log and an index of keys.
pub(crate) async fn log(transport: &dyn Transport, name: &str, partitions: u32) {
    let retention = Some(RetentionSpec::default());
    let topic = TopicSpec { retention, partitions, key_index: true, ..TopicSpec::new(name) };
    transport.declare(&Topology { topics: vec![topic], ..Topology::default() }).await.unwrap();
}

pub(crate) fn binding(topic: &str, queue: &str, subject: &str) -> BindingSpec {
    BindingSpec { topic: topic.to_owned(), queue: queue.to_owned(), subject: subject.to_owned() }
}

pub(crate) fn message(subject: &str, text: &str) -> Envelope {
    let mut message = Envelope::new(subject.to_owned(), text.to_owned());
    message.id = Some(MessageId::Text(format!("id-{text}").into()));
    message
}

pub(crate) fn keyed(key: &str, text: &str) -> Envelope {
    Envelope { key: Some(key.to_owned().into()), ..message("s", text) }
}

pub(crate) fn to_queue(queue: &str, text: &str) -> Outgoing {
    Outgoing { to: Destination::Queue(queue.to_owned()), message: message("", text) }
}

pub(crate) fn to_topic(topic: &str, message: Envelope) -> Outgoing {
    Outgoing { to: Destination::Topic(topic.to_owned()), message }
}

/// Publishes, and all of it is taken.
pub(crate) async fn publish(transport: &dyn Transport, messages: Vec<Outgoing>) -> Vec<Published> {
    soon(transport.publish(messages)).await.into_iter().map(|end| end.unwrap()).collect()
}

pub(crate) async fn consume(transport: &dyn Transport, queue: &str) -> Box<dyn Consumer> {
    let consume = Consume { queue: queue.to_owned(), name: "test".to_owned(), credit: 100, lease: None };
    soon(transport.consume(consume)).await.unwrap()
}

/// The next deliveries, at least so many.
pub(crate) async fn next(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut found = Vec::new();
    while found.len() < count {
        found.extend(soon(consumer.next()).await.unwrap().expect("the consumer has ended"));
    }
    found
}

pub(crate) fn text(message: &Envelope) -> String {
    String::from_utf8(message.body.clone().unwrap_or_default().to_vec()).unwrap()
}

pub(crate) fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| text(&delivery.message)).collect()
}

/// Settles one delivery, and waits until the broker knows.
pub(crate) async fn settle(consumer: &dyn Consumer, tag: u64, how: Settle) {
    let settler = consumer.settler();
    settler.settle(vec![(tag, how)]);
    soon(settler.flush()).await;
}

pub(crate) fn failed(error: &str) -> Settle {
    Settle::Retry { after: None, error: error.to_owned() }
}
