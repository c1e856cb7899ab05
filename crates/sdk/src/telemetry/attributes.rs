//! The names of OpenTelemetry's semantic conventions for messaging, and the attributes of a destination.

use opentelemetry::KeyValue;

use super::Source;
use crate::Envelope;
use crate::transport::Destination;

pub(super) const SYSTEM: &str = "messaging.system";
pub(super) const OPERATION_NAME: &str = "messaging.operation.name";
pub(super) const OPERATION_TYPE: &str = "messaging.operation.type";
pub(super) const BATCH_COUNT: &str = "messaging.batch.message_count";
pub(super) const ERROR_TYPE: &str = "error.type";
pub(super) const SERVER_ADDRESS: &str = "server.address";
pub(super) const SERVER_PORT: &str = "server.port";
const DESTINATION: &str = "messaging.destination.name";
const DESTINATION_TEMPLATE: &str = "messaging.destination.template";
const DESTINATION_TEMPORARY: &str = "messaging.destination.temporary";
const PARTITION: &str = "messaging.destination.partition.id";
const CONSUMER_GROUP: &str = "messaging.consumer.group.name";
const MESSAGE_ID: &str = "messaging.message.id";
const CONVERSATION_ID: &str = "messaging.message.conversation_id";
const BODY_SIZE: &str = "messaging.message.body.size";

/// A destination in spans and metrics. Metrics have no value that grows without bound: no partition of a log, no live subject.
pub(super) struct Place {
    /// What stands in the span's name.
    pub(super) name: String,
    /// In metrics and spans.
    pub(super) shared: Vec<KeyValue>,
    /// In spans alone.
    pub(super) span: Vec<KeyValue>,
}

/// A destination that lives as long as a request: its name says nothing, and there is no end of them.
const TEMPORARY: &str = "(temporary)";

impl Place {
    /// Where a message is sent to.
    pub(super) fn sent(to: &Destination, envelope: &Envelope) -> Self {
        match to {
            Destination::Topic(name) | Destination::Queue(name) => Self::named(name),
            Destination::Live => Self::named(&String::from_utf8_lossy(&envelope.subject)),
        }
    }

    /// Where an answer is sent to.
    pub(super) fn answered() -> Self {
        let shared = vec![KeyValue::new(DESTINATION_TEMPORARY, true)];
        Self { name: TEMPORARY.to_owned(), shared, span: Vec::new() }
    }

    /// Where a message was taken from.
    pub(super) fn taken(from: &Source<'_>, envelope: Option<&Envelope>) -> Self {
        let mut place = match from {
            Source::Queue { queue, .. } => Self::named(queue),
            Source::Log { topic, partition, .. } => {
                let mut place = Self::named(topic);
                place.span.push(KeyValue::new(PARTITION, partition.to_string()));
                place
            }
            Source::Live { pattern, .. } => {
                let shared = vec![KeyValue::new(DESTINATION_TEMPLATE, (*pattern).to_owned())];
                let subject = envelope.map(|envelope| String::from_utf8_lossy(&envelope.subject).into_owned());
                let span = subject.map(|subject| KeyValue::new(DESTINATION, subject)).into_iter().collect();
                Self { name: (*pattern).to_owned(), shared, span }
            }
        };
        let (Source::Queue { group, .. } | Source::Log { group, .. } | Source::Live { group, .. }) = from;
        if let Some(group) = group {
            place.shared.push(KeyValue::new(CONSUMER_GROUP, (*group).to_owned()));
        }
        place
    }

    fn named(name: &str) -> Self {
        let shared = vec![KeyValue::new(DESTINATION, name.to_owned())];
        Self { name: name.to_owned(), shared, span: Vec::new() }
    }
}

/// What a span says of one message.
pub(super) fn of_message(envelope: &Envelope, attributes: &mut Vec<KeyValue>) {
    if let Some(id) = &envelope.id {
        attributes.push(KeyValue::new(MESSAGE_ID, id.to_string()));
    }
    if let Some(conversation) = &envelope.correlation_id {
        attributes.push(KeyValue::new(CONVERSATION_ID, conversation.to_string()));
    }
    let size = envelope.body.as_ref().map_or(0, bytes::Bytes::len);
    attributes.push(KeyValue::new(BODY_SIZE, i64::try_from(size).unwrap_or(i64::MAX)));
}
