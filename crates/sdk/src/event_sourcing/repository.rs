//! Loads aggregates and appends to them.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Aggregate;
use super::log::{AppendError, EventLog, LogError, TopicLog};
use crate::Error;
use crate::client::Client;
use crate::contract::{DecodeError, EncodeError, Message, decode, encode};

/// Events that are read at a time.
const PAGE: u32 = 500;
/// How often an update decides anew when others append in between.
const MAX_CONFLICTS: u32 = 32;

/// Aggregates of one kind. Cheap to clone.
pub struct Repository<A> {
    log: Arc<dyn EventLog>,
    snapshot_every: Option<u64>,
    aggregate: PhantomData<fn() -> A>,
}

impl<A> Clone for Repository<A> {
    fn clone(&self) -> Self {
        Self { log: Arc::clone(&self.log), snapshot_every: self.snapshot_every, aggregate: PhantomData }
    }
}

/// An aggregate as its events made it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded<A> {
    /// Its id.
    pub id: String,
    /// The version of its last event; `None` if nothing has happened yet.
    pub version: Option<u64>,
    /// How many events it has.
    pub events: u64,
    /// What they add up to.
    pub state: A,
    /// How many of them the last snapshot has.
    snapshot_events: u64,
}

/// Why an aggregate was not updated. Nothing is stored then, as far as is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// The decision was against it.
    #[error("{0}")]
    Decided(Error),
    /// Others appended in between, as often as it was tried.
    #[error("others appended events to {id:?} in between, {tries} times; nothing is stored, try again")]
    Conflict {
        /// The aggregate.
        id: String,
        /// How often it was tried.
        tries: u32,
    },
    /// Events cannot be read.
    #[error(transparent)]
    Read(#[from] LogError),
    /// An event is not of the aggregate's contract, or of a version without an upcaster.
    #[error("an event of {id:?} cannot be read: {error}")]
    Decode {
        /// The aggregate.
        id: String,
        /// Why.
        #[source]
        error: DecodeError,
    },
    /// An event cannot be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Events were not appended.
    #[error(transparent)]
    Append(AppendError),
}

impl UpdateError {
    /// What it means for a handler: a decision is as the decision said, what cannot be read or written stays so, and all else may be tried again.
    pub(crate) fn into_failure(self) -> Result<Error, (Self, bool)> {
        match self {
            Self::Decided(error) => Ok(error),
            error @ (Self::Decode { .. } | Self::Encode(_)) => Err((error, true)),
            error => Err((error, false)),
        }
    }
}

/// A snapshot as it is kept.
#[derive(Serialize, Deserialize)]
struct Snapshot<A> {
    form: u32,
    version: u64,
    events: u64,
    state: A,
}

impl<A: Aggregate> Repository<A> {
    /// Aggregates whose events are in the topic of their contract. [`Service::event_sourced`](crate::Service::event_sourced) makes the topic.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self::over(Arc::new(TopicLog::new(client, A::Event::TOPIC)))
    }

    /// Aggregates whose events are elsewhere.
    #[must_use]
    pub fn over(log: Arc<dyn EventLog>) -> Self {
        Self { log, snapshot_every: None, aggregate: PhantomData }
    }

    /// Keeps a snapshot after so many events, so that loading reads no more than those behind it.
    #[must_use]
    pub fn snapshot_every(mut self, events: u64) -> Self {
        self.snapshot_every = Some(events.max(1));
        self
    }

    /// An aggregate; one that nothing has happened to yet has no version.
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub async fn load(&self, id: &str) -> Result<Loaded<A>, UpdateError> {
        let mut loaded = match self.snapshot(id).await? {
            Some(snapshot) => Loaded {
                id: id.to_owned(),
                version: Some(snapshot.version),
                events: snapshot.events,
                state: snapshot.state,
                snapshot_events: snapshot.events,
            },
            None => Loaded { id: id.to_owned(), version: None, events: 0, state: A::default(), snapshot_events: 0 },
        };
        loop {
            let page = self.log.read(id, loaded.version, PAGE).await?;
            let last = page.len() < PAGE as usize;
            for (version, envelope) in page {
                let event = decode::<A::Event>(&envelope);
                loaded.state.apply(event.map_err(|error| UpdateError::Decode { id: id.to_owned(), error })?);
                loaded.version = Some(version);
                loaded.events += 1;
            }
            if last {
                return Ok(loaded);
            }
        }
    }

    /// A snapshot of the form that the aggregate has now. One that cannot be read is passed over: the events are what counts.
    async fn snapshot(&self, id: &str) -> Result<Option<Snapshot<A>>, UpdateError> {
        if self.snapshot_every.is_none() {
            return Ok(None);
        }
        let Some(body) = self.log.snapshot(id).await? else { return Ok(None) };
        let form = serde_json::from_slice::<Form>(&body).map(|of| of.form);
        if form.is_ok_and(|form| form == A::SNAPSHOT_VERSION) {
            return Ok(serde_json::from_slice(&body).ok());
        }
        Ok(None)
    }

    /// Appends events to an aggregate as it was loaded.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] in [`UpdateError::Append`] if others appended since; see [`UpdateError`].
    pub async fn append(&self, loaded: &mut Loaded<A>, events: Vec<A::Event>) -> Result<(), UpdateError> {
        if events.is_empty() {
            return Ok(());
        }
        let envelopes = events.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let version = self.log.append(&loaded.id, loaded.version, envelopes).await.map_err(UpdateError::Append)?;
        loaded.version = Some(version);
        for event in events {
            loaded.state.apply(event);
            loaded.events += 1;
        }
        self.keep(loaded).await;
        Ok(())
    }

    /// Loads an aggregate, decides what happens to it, and appends that; decides anew if others appended in between.
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub async fn update(
        &self,
        id: &str,
        mut decide: impl FnMut(&A) -> Result<Vec<A::Event>, Error> + Send,
    ) -> Result<Loaded<A>, UpdateError> {
        for _ in 0..MAX_CONFLICTS {
            let mut loaded = self.load(id).await?;
            let events = decide(&loaded.state).map_err(UpdateError::Decided)?;
            match self.append(&mut loaded, events).await {
                Ok(()) => return Ok(loaded),
                Err(UpdateError::Append(AppendError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(UpdateError::Conflict { id: id.to_owned(), tries: MAX_CONFLICTS })
    }

    /// Keeps a snapshot if it is time for one. It only makes loading quicker, so that its failure is no failure of the update.
    async fn keep(&self, loaded: &mut Loaded<A>) {
        let (Some(every), Some(version)) = (self.snapshot_every, loaded.version) else { return };
        if loaded.events - loaded.snapshot_events < every {
            return;
        }
        let form = A::SNAPSHOT_VERSION;
        let snapshot = Snapshot { form, version, events: loaded.events, state: &loaded.state };
        let kept = match serde_json::to_vec(&snapshot) {
            Ok(body) => self.log.keep_snapshot(&loaded.id, Bytes::from(body)).await,
            Err(error) => Err(LogError(error.to_string())),
        };
        match kept {
            Ok(()) => loaded.snapshot_events = loaded.events,
            Err(error) => tracing::warn!(id = %loaded.id, %error, "a snapshot was not kept"),
        }
    }
}

/// What is read of a snapshot before the rest.
#[derive(Deserialize)]
struct Form {
    form: u32,
}

impl<A> fmt::Debug for Repository<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("snapshot_every", &self.snapshot_every).finish_non_exhaustive()
    }
}
