//! Streams of events, with the version of a stream as the guard against two writers, and snapshots.

use types::{Headers, Timestamp};

use super::backend::Backend;
use super::envelope;
use super::error::SqlError;
use super::limits::MAX_PAGE;
use super::store::{Row, Store, Tx, made};

/// Under this lock transactions that append to any stream follow each other until they are committed, so that whoever reads by position misses
/// none that is committed later at a lower position.
const APPEND_LOCK: i64 = 0x7376_635f_6576_6e74;

/// Streams of events. From [`Store::events`].
#[derive(Debug)]
pub struct Events<'a, DB: Backend> {
    pub(super) store: &'a Store<DB>,
}

/// An event to append.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// What tells it from all others: the id of the message that announces it.
    pub id: String,
    /// The name of its type: `order.created`.
    pub event_type: String,
    /// The version of its type.
    pub event_version: u32,
    /// MIME type of the body.
    pub content_type: String,
    /// Headers, such as the trace context and what caused it.
    pub headers: Headers,
    /// The body.
    pub body: Vec<u8>,
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its place among all events. Grows from event to event, with gaps.
    pub position: i64,
    /// Its stream.
    pub stream: String,
    /// Its place in the stream: 1 is the first.
    pub version: u64,
    /// When it was appended.
    pub recorded: Timestamp,
    /// The event.
    pub event: NewEvent,
}

/// The state of a stream as of a version, to read on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last event that is in it.
    pub version: u64,
    /// The version of the state's type: one of another version is passed over.
    pub state_version: u32,
    /// MIME type of the body.
    pub content_type: String,
    /// The state.
    pub body: Vec<u8>,
}

/// Why events were not appended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The stream is at another version.
    #[error(
        "the stream {stream:?} is at version {actual}, not {expected}; nothing is appended. Load it and decide again"
    )]
    WrongVersion {
        /// The stream.
        stream: String,
        /// The version that was expected.
        expected: u64,
        /// The version found, as far as this transaction sees.
        actual: u64,
    },
    /// The database.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

const COLUMNS: &str =
    "SELECT position, stream, version, recorded_ms, event_id, event_type, event_version, content_type,
    headers, body
    FROM svc_events";

impl<DB: Backend> Events<'_, DB> {
    /// Appends events to a stream that is at this version, which is that of its last event, or 0; the stream's new version.
    ///
    /// With PostgreSQL, transactions that append follow each other: append last, shortly before the commit.
    ///
    /// # Errors
    /// [`AppendError::WrongVersion`], and the transaction is to be rolled back; [`AppendError::Sql`].
    pub async fn append(
        &self,
        tx: &mut Tx<DB>,
        stream: &str,
        expected: u64,
        events: &[NewEvent],
    ) -> Result<u64, AppendError> {
        const SQL: &str = "INSERT INTO svc_events
            (stream, version, event_id, event_type, event_version, content_type, headers, body, recorded_ms)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (stream, version) DO NOTHING";
        const DOING: &str = "appending events";
        tx.lock(DOING, APPEND_LOCK).await?;
        let mut version = self.version(tx, stream).await?;
        let wrong = |actual| AppendError::WrongVersion { stream: stream.to_owned(), expected, actual };
        if version != expected {
            return Err(wrong(version));
        }
        for event in events {
            version += 1;
            let headers = envelope::headers_text(&event.headers).map_err(|why| SqlError::Unkeepable { why })?;
            let args = vec![
                stream.into(),
                int(version).into(),
                event.id.as_str().into(),
                event.event_type.as_str().into(),
                i64::from(event.event_version).into(),
                event.content_type.as_str().into(),
                headers.into(),
                event.body.as_slice().into(),
                self.store.now().0.into(),
            ];
            // A transaction that sees only what was there when it began (REPEATABLE READ) may find another's event here.
            if tx.execute(DOING, SQL, args).await? == 0 {
                return Err(wrong(version));
            }
        }
        Ok(version)
    }

    /// The version of a stream: that of its last event, or 0.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn version(&self, tx: &mut Tx<DB>, stream: &str) -> Result<u64, SqlError> {
        const SQL: &str = "SELECT max(version) FROM svc_events WHERE stream = $1";
        let rows = tx.fetch("reading a stream's version", SQL, vec![stream.into()]).await?;
        let version = rows.first().map_or(Ok(None), |row| row.maybe_int(0))?.unwrap_or(0);
        Ok(u64::try_from(version).unwrap_or(0))
    }

    /// Events of a stream that come after this version, in order; `max` up to [`MAX_PAGE`]. Fewer than `max` are all there are.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn read(
        &self,
        tx: &mut Tx<DB>,
        stream: &str,
        after: u64,
        max: u32,
    ) -> Result<Vec<StoredEvent>, SqlError> {
        let sql = format!("{COLUMNS} WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3");
        let args = vec![stream.into(), int(after).into(), i64::from(max.min(MAX_PAGE)).into()];
        tx.fetch("reading a stream", made(sql), args).await?.iter().map(stored_event).collect()
    }

    /// As [`read`](Self::read), outside of any transaction.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn read_alone(&self, stream: &str, after: u64, max: u32) -> Result<Vec<StoredEvent>, SqlError> {
        let sql = format!("{COLUMNS} WHERE stream = $1 AND version > $2 ORDER BY version LIMIT $3");
        let args = vec![stream.into(), int(after).into(), i64::from(max.min(MAX_PAGE)).into()];
        self.store.fetch("reading a stream", made(sql), args).await?.iter().map(stored_event).collect()
    }

    /// Events of all streams that come after this position (0 is the beginning), in the order in which they were committed; `max` up to
    /// [`MAX_PAGE`].
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn read_all(&self, after: i64, max: u32) -> Result<Vec<StoredEvent>, SqlError> {
        let sql = format!("{COLUMNS} WHERE position > $1 ORDER BY position LIMIT $2");
        let args = vec![after.into(), i64::from(max.min(MAX_PAGE)).into()];
        self.store.fetch("reading events", made(sql), args).await?.iter().map(stored_event).collect()
    }

    /// Keeps a snapshot of a stream, in place of an older one.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn save_snapshot(&self, tx: &mut Tx<DB>, stream: &str, snapshot: &Snapshot) -> Result<(), SqlError> {
        const SQL: &str = "INSERT INTO svc_snapshots (stream, version, state_version, content_type, body, taken_ms)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (stream) DO UPDATE SET version = excluded.version,
            state_version = excluded.state_version, content_type = excluded.content_type, body = excluded.body,
            taken_ms = excluded.taken_ms
            WHERE excluded.version > svc_snapshots.version OR excluded.state_version <> svc_snapshots.state_version";
        let args = vec![
            stream.into(),
            int(snapshot.version).into(),
            i64::from(snapshot.state_version).into(),
            snapshot.content_type.as_str().into(),
            snapshot.body.as_slice().into(),
            self.store.now().0.into(),
        ];
        tx.execute("saving a snapshot", SQL, args).await?;
        Ok(())
    }

    /// Keeps a snapshot of a stream, whatever was there before.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn replace_snapshot(&self, tx: &mut Tx<DB>, stream: &str, snapshot: &Snapshot) -> Result<(), SqlError> {
        const SQL: &str = "DELETE FROM svc_snapshots WHERE stream = $1";
        tx.execute("saving a snapshot", SQL, vec![stream.into()]).await?;
        self.save_snapshot(tx, stream, snapshot).await
    }

    /// The snapshot of a stream, which needs no transaction: what it has is in the stream for good.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn snapshot(&self, stream: &str) -> Result<Option<Snapshot>, SqlError> {
        const SQL: &str = "SELECT version, state_version, content_type, body FROM svc_snapshots WHERE stream = $1";
        let rows = self.store.fetch("loading a snapshot", SQL, vec![stream.into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Snapshot {
            version: uint(row.int(0)?),
            state_version: u32::try_from(row.int(1)?).unwrap_or(0),
            content_type: row.text(2)?,
            body: row.blob(3)?,
        }))
    }
}

fn stored_event<DB: Backend>(row: &Row<DB>) -> Result<StoredEvent, SqlError> {
    Ok(StoredEvent {
        position: row.int(0)?,
        stream: row.text(1)?,
        version: uint(row.int(2)?),
        recorded: Timestamp(row.int(3)?),
        event: NewEvent {
            id: row.text(4)?,
            event_type: row.text(5)?,
            event_version: u32::try_from(row.int(6)?).unwrap_or(0),
            content_type: row.text(7)?,
            headers: envelope::headers_from(&row.text(8)?)
                .map_err(|why| SqlError::Unreadable { table: "svc_events", why })?,
            body: row.blob(9)?,
        },
    })
}

fn int(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

fn uint(version: i64) -> u64 {
    u64::try_from(version).unwrap_or(0)
}
