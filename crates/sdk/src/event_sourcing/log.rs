//! Where events are kept.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::Envelope;
use crate::client::Client;
use crate::transport::{Destination, Expected, Outgoing, PublishError, RetentionSpec, TopicSpec};

/// Why events or a snapshot could not be read.
#[derive(Debug, thiserror::Error)]
#[error("events cannot be read: {0}")]
pub struct LogError(pub String);

/// Why events were not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// Others appended in between. Nothing is appended.
    #[error("others appended events in between; nothing is appended")]
    Conflict,
    /// Refused, or the log cannot be reached; nothing is appended, as far as is known.
    #[error("events are not appended: {0}")]
    Failed(String),
}

/// Keeps the events of many streams (an aggregate's id is its stream), and a snapshot for each.
///
/// A version is a number that grows with each event of a stream, with or without gaps.
pub trait EventLog: Send + Sync + 'static {
    /// Events of a stream behind this version (all if `None`), oldest first, at most `max`. Fewer than `max` are all there are.
    fn read<'a>(
        &'a self,
        stream: &'a str,
        after: Option<u64>,
        max: u32,
    ) -> BoxFuture<'a, Result<Vec<(u64, Envelope)>, LogError>>;

    /// Appends events if the stream's last version is as expected (`None`: it has none), all or none. The version of the last one, once they are durable.
    fn append<'a>(
        &'a self,
        stream: &'a str,
        expected: Option<u64>,
        events: Vec<Envelope>,
    ) -> BoxFuture<'a, Result<u64, AppendError>>;

    /// The last snapshot of a stream.
    fn snapshot<'a>(&'a self, stream: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, LogError>>;

    /// Keeps a snapshot in place of the one before.
    fn keep_snapshot<'a>(&'a self, stream: &'a str, snapshot: Bytes) -> BoxFuture<'a, Result<(), LogError>>;
}

/// Events in a topic of the broker, with the stream as their key, and snapshots in `<topic>.snapshots`. Needs
/// [`expected_version`](crate::transport::Capabilities::expected_version) and [`key_index`](crate::transport::Capabilities::key_index).
#[derive(Clone, Debug)]
pub struct TopicLog {
    client: Client,
    topic: String,
}

impl TopicLog {
    /// The events of this topic.
    #[must_use]
    pub fn new(client: &Client, topic: impl Into<String>) -> Self {
        Self { client: client.clone(), topic: topic.into() }
    }

    /// The topics that it needs: events for ever, of snapshots the last of each stream.
    #[must_use]
    pub fn topics(topic: &str) -> [TopicSpec; 2] {
        let events = TopicSpec { retention: Some(RetentionSpec::default()), key_index: true, ..TopicSpec::new(topic) };
        let compacted = RetentionSpec { compact: true, ..RetentionSpec::default() };
        let snapshots =
            TopicSpec { retention: Some(compacted), key_index: true, ..TopicSpec::new(snapshots_of(topic)) };
        [events, snapshots]
    }
}

fn snapshots_of(topic: &str) -> String {
    format!("{topic}.snapshots")
}

impl EventLog for TopicLog {
    fn read<'a>(
        &'a self,
        stream: &'a str,
        after: Option<u64>,
        max: u32,
    ) -> BoxFuture<'a, Result<Vec<(u64, Envelope)>, LogError>> {
        Box::pin(async move {
            let from = after.map_or(0, |version| version + 1);
            let records = self.client.transport().read_key(&self.topic, stream.as_bytes(), from, max).await;
            let records = records.map_err(|error| LogError(error.to_string()))?;
            Ok(records.into_iter().map(|record| (record.position.offset, record.message)).collect())
        })
    }

    fn append<'a>(
        &'a self,
        stream: &'a str,
        expected: Option<u64>,
        mut events: Vec<Envelope>,
    ) -> BoxFuture<'a, Result<u64, AppendError>> {
        Box::pin(async move {
            let key = Bytes::copy_from_slice(stream.as_bytes());
            events.iter_mut().for_each(|event| event.key = Some(key.clone()));
            crate::telemetry::inject_current(&mut events);
            let expected = expected.map_or(Expected::Nothing, Expected::Version);
            match self.client.transport().publish_expecting(&self.topic, events, expected).await {
                Ok(published) => {
                    let last = published.last().and_then(|one| one.position);
                    let untold =
                        || AppendError::Failed("the broker does not tell where events were written".to_owned());
                    last.map(|position| position.offset).ok_or_else(untold)
                }
                Err(PublishError::WrongVersion { .. }) => Err(AppendError::Conflict),
                Err(error) => Err(AppendError::Failed(error.to_string())),
            }
        })
    }

    fn snapshot<'a>(&'a self, stream: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, LogError>> {
        Box::pin(async move {
            let record = self.client.transport().last_of_key(&snapshots_of(&self.topic), stream.as_bytes()).await;
            let record = record.map_err(|error| LogError(error.to_string()))?;
            Ok(record.and_then(|record| record.message.body))
        })
    }

    fn keep_snapshot<'a>(&'a self, stream: &'a str, snapshot: Bytes) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(async move {
            let topic = snapshots_of(&self.topic);
            let mut message = Envelope::new(topic.clone(), snapshot);
            message.key = Some(Bytes::copy_from_slice(stream.as_bytes()));
            message.content_type = Some("application/json".into());
            let outgoing = Outgoing { to: Destination::Topic(topic), message };
            let kept = crate::runtime::publish_all(&self.client, vec![outgoing]).await;
            kept.map_err(|error| LogError(error.to_string()))
        })
    }
}
