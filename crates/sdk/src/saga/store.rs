//! Where sagas are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{SagaInstance, SagaStatus};
use crate::Envelope;
use crate::transport::{
    Expected, PublishError, RetentionSpec, StartAt, Support, TopicSpec, Topology, Transport, TransportError,
};

/// A saga and the version under which it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Grows with each change; what a change expects.
    pub version: u64,
    /// The saga.
    pub instance: SagaInstance,
}

/// Why a saga could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Somebody else wrote it in between. Nothing is written.
    #[error("the saga was changed by somebody else in between; nothing is written")]
    Conflict,
    /// What is stored cannot be read.
    #[error("the stored saga {id:?} cannot be read: {why}")]
    Unreadable {
        /// Which one.
        id: String,
        /// Why.
        why: String,
    },
    /// The store cannot be reached, or refuses.
    #[error("sagas cannot be kept: {0}")]
    Unavailable(String),
}

/// Keeps the sagas of one name.
pub trait Instances: Send + Sync + 'static {
    /// A saga, if there is one of this id.
    fn load<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>>;

    /// Writes a saga, if its version is as expected (`None`: there is none yet). Ready when that is durable; gives its new version.
    fn save<'a>(&'a self, expected: Option<u64>, instance: &'a SagaInstance) -> BoxFuture<'a, Result<u64, StoreError>>;

    /// The sagas of a status, at most `max`, those that changed longest ago first.
    fn list(&self, status: SagaStatus, max: usize) -> BoxFuture<'_, Result<Vec<SagaInstance>, StoreError>>;
}

/// Makes the [`Instances`] of one saga of one service.
type Make = Arc<dyn Fn(&str, &str, Arc<dyn Transport>) -> Arc<dyn Instances> + Send + Sync>;

/// Where a service keeps its sagas.
#[derive(Clone)]
pub struct SagaStore {
    make: Make,
    topic: bool,
}

impl SagaStore {
    /// In a topic of the broker, `<service>.saga.<name>`: each change an event under the saga's id as its key, so that the log is its history. Needs
    /// [`expected_version`](crate::transport::Capabilities::expected_version) and [`key_index`](crate::transport::Capabilities::key_index).
    #[must_use]
    pub fn topic() -> Self {
        let make: Make =
            Arc::new(|service, saga, transport| Arc::new(TopicInstances { topic: topic_of(service, saga), transport }));
        Self { make, topic: true }
    }

    /// In something of one's own: a function that makes it for a service's name and a saga's name.
    #[must_use]
    pub fn custom<I: Instances>(make: impl Fn(&str, &str) -> I + Send + Sync + 'static) -> Self {
        Self { make: Arc::new(move |service, saga, _| Arc::new(make(service, saga))), topic: false }
    }

    pub(crate) fn instances(&self, service: &str, saga: &str, transport: Arc<dyn Transport>) -> Arc<dyn Instances> {
        (self.make)(service, saga, transport)
    }

    /// Adds the topic, if it is one.
    pub(crate) fn add_to(&self, service: &str, saga: &str, topology: &mut Topology) {
        if self.topic {
            // What is over stays readable: the last record of each saga is kept.
            let retention = RetentionSpec { compact: true, ..RetentionSpec::default() };
            let name = topic_of(service, saga);
            topology.topics.push(TopicSpec { retention: Some(retention), key_index: true, ..TopicSpec::new(name) });
        }
    }

    /// What the transport lacks for it.
    pub(crate) fn missing(&self, transport: &dyn Transport) -> Option<&'static str> {
        let capabilities = transport.capabilities();
        let needed = [
            ("expected_version", capabilities.expected_version),
            ("key_index", capabilities.key_index),
            ("replay", capabilities.replay),
        ];
        needed.into_iter().find(|(_, support)| self.topic && *support == Support::No).map(|(what, _)| what)
    }
}

impl fmt::Debug for SagaStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SagaStore").field("topic", &self.topic).finish_non_exhaustive()
    }
}

fn topic_of(service: &str, saga: &str) -> String {
    format!("{service}.saga.{saga}")
}

/// Sagas in a topic.
struct TopicInstances {
    topic: String,
    transport: Arc<dyn Transport>,
}

impl Instances for TopicInstances {
    fn load<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async move {
            let record = self.transport.last_of_key(&self.topic, id.as_bytes()).await.map_err(unavailable)?;
            let Some(record) = record else { return Ok(None) };
            let instance = read(id, &record.message)?;
            Ok(Some(Stored { version: record.position.offset, instance }))
        })
    }

    fn save<'a>(&'a self, expected: Option<u64>, instance: &'a SagaInstance) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let body = serde_json::to_vec(instance).map_err(|error| StoreError::Unavailable(error.to_string()))?;
            let mut message = Envelope::new(self.topic.clone(), body);
            message.key = Some(Bytes::copy_from_slice(instance.id.as_bytes()));
            message.content_type = Some("application/json".into());
            let expected = expected.map_or(Expected::Nothing, Expected::Version);
            let published = self.transport.publish_expecting(&self.topic, vec![message], expected).await;
            match published {
                Ok(published) => {
                    let position = published.first().and_then(|one| one.position);
                    position.map(|position| position.offset).ok_or_else(|| {
                        StoreError::Unavailable("the broker does not tell where the saga was written".to_owned())
                    })
                }
                Err(PublishError::WrongVersion { .. }) => Err(StoreError::Conflict),
                Err(error) => Err(StoreError::Unavailable(error.to_string())),
            }
        })
    }

    fn list(&self, status: SagaStatus, max: usize) -> BoxFuture<'_, Result<Vec<SagaInstance>, StoreError>> {
        Box::pin(async move {
            let mut reader = self.transport.read(&self.topic, StartAt::Earliest, false).await.map_err(unavailable)?;
            // Of those of the wanted status the whole, of the others nothing: what is over is most of it.
            let mut found: BTreeMap<Bytes, SagaInstance> = BTreeMap::new();
            while let Some(records) = reader.next().await.map_err(unavailable)? {
                for record in records {
                    let Some(key) = record.message.key.clone() else { continue };
                    let instance = read(&String::from_utf8_lossy(&key), &record.message)?;
                    if instance.status == status {
                        found.insert(key, instance);
                    } else {
                        found.remove(&key);
                    }
                }
            }
            let mut all: Vec<SagaInstance> = found.into_values().collect();
            all.sort_by_key(|instance| instance.updated_ms);
            all.truncate(max);
            Ok(all)
        })
    }
}

fn read(id: &str, message: &Envelope) -> Result<SagaInstance, StoreError> {
    let body = message.body.as_deref().unwrap_or_default();
    serde_json::from_slice(body).map_err(|error| StoreError::Unreadable { id: id.to_owned(), why: error.to_string() })
}

#[allow(clippy::needless_pass_by_value, reason = "it is mapped over")]
fn unavailable(error: TransportError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
