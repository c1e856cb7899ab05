//! Starting sagas, and looking at them.

use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::store::{Instances, SagaStore, StoreError};
use super::{SagaInstance, SagaStatus};
use crate::client::{Client, Publishing, SendError};
use crate::contract::EncodeError;
use crate::transport::Destination;
use crate::{Envelope, Error};

/// The queue that moves a saga's instances on.
pub(crate) fn queue_of(service: &str, saga: &str) -> String {
    format!("{service}.saga.{saga}")
}

/// A message of that queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: String,
    #[serde(flatten)]
    pub(super) what: What,
}

/// What a saga is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(super) enum What {
    /// Begin, with this state; go on if it has begun.
    Start { state: serde_json::Value },
    /// Go on.
    Go,
    /// Go on, now that its time is over.
    Deadline,
    /// Go on, though it was given up.
    Resume,
}

impl Order {
    pub(super) fn read(message: &Envelope) -> Result<Self, Error> {
        serde_json::from_slice(message.body.as_deref().unwrap_or_default())
            .map_err(|error| Error::terminal(format!("this is no message to a saga: {error}")))
    }

    pub(super) fn publishing(&self, service: &str, saga: &str) -> Result<Publishing, EncodeError> {
        let queue = queue_of(service, saga);
        let body = serde_json::to_vec(self).map_err(|error| EncodeError {
            name: "a message to a saga",
            content_type: "application/json",
            why: error.to_string(),
        })?;
        let mut message = Envelope::new(queue.clone(), body);
        message.key = Some(Bytes::copy_from_slice(self.id.as_bytes()));
        message.content_type = Some("application/json".into());
        Ok(Publishing::envelope(Destination::Queue(queue), message))
    }
}

/// Starts sagas of one name, from wherever.
#[derive(Debug)]
pub struct SagaHandle<T> {
    service: String,
    saga: String,
    state: PhantomData<fn(T)>,
}

impl<T> Clone for SagaHandle<T> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), saga: self.saga.clone(), state: PhantomData }
    }
}

impl<T: Serialize> SagaHandle<T> {
    /// The sagas of this name of this service.
    #[must_use]
    pub fn new(service: impl Into<String>, saga: impl Into<String>) -> Self {
        Self { service: service.into(), saga: saga.into(), state: PhantomData }
    }

    /// What starts a saga, once it is published: sent by a client, returned or emitted by a handler, or put into an outbox. A second start of the same id
    /// starts nothing.
    ///
    /// # Errors
    /// [`EncodeError`] if the state cannot be written.
    pub fn start(&self, id: impl Into<String>, state: &T) -> Result<Publishing, EncodeError> {
        let state = serde_json::to_value(state).map_err(|error| EncodeError {
            name: std::any::type_name::<T>(),
            content_type: "application/json",
            why: error.to_string(),
        })?;
        Order { id: id.into(), what: What::Start { state } }.publishing(&self.service, &self.saga)
    }
}

/// The sagas of one name: to look at, and to resume.
pub struct Sagas {
    client: Client,
    service: String,
    saga: String,
    instances: Arc<dyn Instances>,
}

impl Sagas {
    /// The sagas of this name of this service, where the service keeps them.
    #[must_use]
    pub fn new(client: Client, service: impl Into<String>, saga: impl Into<String>, store: &SagaStore) -> Self {
        let (service, saga) = (service.into(), saga.into());
        let instances = store.instances(&service, &saga, Arc::clone(client.transport()));
        Self { client, service, saga, instances }
    }

    /// A saga.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get(&self, id: &str) -> Result<Option<SagaInstance>, StoreError> {
        Ok(self.instances.load(id).await?.map(|stored| stored.instance))
    }

    /// The sagas of this status, at most `max`, those that changed longest ago first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list(&self, status: SagaStatus, max: usize) -> Result<Vec<SagaInstance>, StoreError> {
        self.instances.list(status, max).await
    }

    /// Has a saga that is stuck tried again at once, with its attempts counted from the beginning.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn resume(&self, id: &str) -> Result<(), SendError> {
        let order = Order { id: id.to_owned(), what: What::Resume };
        self.client.send(order.publishing(&self.service, &self.saga)?).await?;
        Ok(())
    }
}

impl std::fmt::Debug for Sagas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sagas").field("service", &self.service).field("saga", &self.saga).finish_non_exhaustive()
    }
}
