//! Event sourcing in the service's own database.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use types::MessageId;

use super::backend::Backend;
use super::error::SqlError;
use super::events::{AppendError, NewEvent, Snapshot, StoredEvent};
use super::store::Store;
use crate::event_sourcing::{AppendError as LogAppendError, EventLog, LogError};
use crate::{Envelope, headers};

/// The events of aggregates, in the table `svc_events`: what a [`Repository`](crate::event_sourcing::Repository) keeps them in. From
/// [`Store::event_log`].
///
/// Of an event its id, subject, content type, headers, time and body are kept; its key is the stream.
#[derive(Debug)]
pub struct SqlLog<DB: Backend> {
    store: Store<DB>,
}

impl<DB: Backend> Store<DB> {
    /// An event log for aggregates in this database.
    #[must_use]
    pub fn event_log(&self) -> SqlLog<DB> {
        SqlLog { store: self.clone() }
    }
}

impl<DB: Backend> EventLog for SqlLog<DB> {
    fn read<'a>(
        &'a self,
        stream: &'a str,
        after: Option<u64>,
        max: u32,
    ) -> BoxFuture<'a, Result<Vec<(u64, Envelope)>, LogError>> {
        Box::pin(async move {
            let mut found = Vec::new();
            let mut after = after.unwrap_or(0);
            loop {
                let left = max - u32::try_from(found.len()).unwrap_or(max);
                let page = self.store.events().read_alone(stream, after, left).await.map_err(unreadable)?;
                let Some(last) = page.last() else { return Ok(found) };
                after = last.version;
                found.extend(page.into_iter().map(|stored| (stored.version, envelope(stored))));
            }
        })
    }

    fn append<'a>(
        &'a self,
        stream: &'a str,
        expected: Option<u64>,
        events: Vec<Envelope>,
    ) -> BoxFuture<'a, Result<u64, LogAppendError>> {
        Box::pin(async move {
            let failed = |error: SqlError| LogAppendError::Failed(error.to_string());
            let events: Vec<NewEvent> = events.into_iter().map(new_event).collect::<Result<_, _>>()?;
            let mut tx = self.store.begin().await.map_err(failed)?;
            match self.store.events().append(&mut tx, stream, expected.unwrap_or(0), &events).await {
                Ok(version) => {
                    tx.commit().await.map_err(failed)?;
                    Ok(version)
                }
                Err(AppendError::WrongVersion { .. }) => Err(LogAppendError::Conflict),
                Err(AppendError::Sql(error)) => Err(failed(error)),
            }
        })
    }

    fn snapshot<'a>(&'a self, stream: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, LogError>> {
        Box::pin(async move {
            let snapshot = self.store.events().snapshot(stream).await.map_err(unreadable)?;
            Ok(snapshot.map(|snapshot| Bytes::from(snapshot.body)))
        })
    }

    fn keep_snapshot<'a>(&'a self, stream: &'a str, snapshot: Bytes) -> BoxFuture<'a, Result<(), LogError>> {
        Box::pin(async move {
            let mut tx = self.store.begin().await.map_err(unreadable)?;
            let version = self.store.events().version(&mut tx, stream).await.map_err(unreadable)?;
            // The repository says within it which version it is of; here it is the newest that it can be of.
            let content_type = "application/json".to_owned();
            let snapshot = Snapshot { version, state_version: 0, content_type, body: snapshot.to_vec() };
            self.store.events().replace_snapshot(&mut tx, stream, &snapshot).await.map_err(unreadable)?;
            tx.commit().await.map_err(unreadable)
        })
    }
}

fn new_event(envelope: Envelope) -> Result<NewEvent, LogAppendError> {
    let unkept = |what: &str| LogAppendError::Failed(format!("an event without {what} is not kept"));
    let version = headers::number(&envelope, headers::VERSION).and_then(|version| u32::try_from(version).ok());
    Ok(NewEvent {
        id: envelope.id.as_ref().map(MessageId::to_string).ok_or_else(|| unkept("an id"))?,
        event_type: String::from_utf8(envelope.subject.to_vec()).map_err(|_| unkept("a subject of text"))?,
        event_version: version.unwrap_or(1),
        content_type: envelope.content_type.map(|text| text.to_string()).unwrap_or_default(),
        headers: envelope.headers,
        body: envelope.body.ok_or_else(|| unkept("a body"))?.to_vec(),
    })
}

fn envelope(stored: StoredEvent) -> Envelope {
    let mut envelope = Envelope::new(stored.event.event_type, stored.event.body);
    envelope.id = Some(MessageId::Text(stored.event.id.into()));
    envelope.key = Some(Bytes::from(stored.stream));
    envelope.content_type = Some(stored.event.content_type.into());
    envelope.headers = stored.event.headers;
    envelope.timestamp = Some(stored.recorded);
    envelope
}

#[allow(clippy::needless_pass_by_value, reason = "it is mapped over")]
fn unreadable(error: SqlError) -> LogError {
    LogError(error.to_string())
}
