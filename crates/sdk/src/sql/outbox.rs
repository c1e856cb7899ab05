//! The outbox: what a transaction publishes is kept with it, and brought to the broker after it.

use std::time::Duration;

use types::{MessageId, Timestamp};

use super::backend::Backend;
use super::error::SqlError;
use super::limits::MAX_PAGE;
use super::store::{Row, Store, Tx};
use super::{envelope, relay};
use crate::transport::{Destination, Outgoing};

/// In the column `state`: on its way.
pub(super) const PENDING: i64 = 0;
/// In the column `state`: refused for good.
pub(super) const FAILED: i64 = 1;

/// What was published and is not confirmed by the broker yet. From [`Store::outbox`]; [`Relay`](super::Relay) empties it.
#[derive(Debug)]
pub struct Outbox<'a, DB: Backend> {
    pub(super) store: &'a Store<DB>,
}

/// How much is in an outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages on their way.
    pub pending: u64,
    /// Messages that the broker refused for good: [`Outbox::failed`].
    pub failed: u64,
    /// For how long the oldest message has been on its way.
    pub oldest: Option<Duration>,
}

/// A message that the broker refused for good, or that was set aside by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct FailedMessage {
    /// Its place in the outbox, by which it is retried or discarded.
    pub seq: i64,
    /// The message's id.
    pub message_id: String,
    /// Where it was to go: `topic:orders`, `queue:orders` or `live`.
    pub destination: String,
    /// Why it did not.
    pub error: String,
    /// How often the relay tried.
    pub attempts: u64,
    /// When it was published.
    pub created: Timestamp,
    /// When it was given up.
    pub failed: Timestamp,
    /// The message, if this version of the service can read it.
    pub message: Option<Outgoing>,
}

impl<DB: Backend> Outbox<'_, DB> {
    /// Publishes a message, if and once this transaction is committed.
    ///
    /// It gets an id if it has none, which is its dedup id too unless it has one, and the time. Its place in the order is that of this call. Two
    /// transactions that run at the same time have no order between them unless the service makes one: where messages of a key have to follow
    /// the order of changes, lock what is changed (the order's row) before publishing.
    ///
    /// # Errors
    /// [`SqlError::Unkeepable`] if it cannot be kept, [`SqlError::Database`].
    pub async fn publish(&self, tx: &mut Tx<DB>, mut outgoing: Outgoing) -> Result<(), SqlError> {
        const SQL: &str = "INSERT INTO svc_outbox (message_id, destination, envelope, body, weight_bytes, created_ms)
            VALUES ($1, $2, $3, $4, $5, $6)";
        let now = self.store.now();
        let message = &mut outgoing.message;
        let id = message.id.get_or_insert_with(|| MessageId::Text(uuid::Uuid::now_v7().to_string().into())).to_string();
        if id.contains('\0') {
            return Err(SqlError::Unkeepable {
                why: "its id holds a zero byte, which PostgreSQL has no text for".to_owned(),
            });
        }
        message.dedup_id.get_or_insert_with(|| id.as_str().into());
        message.timestamp.get_or_insert(now);
        let envelope = envelope::write(&outgoing).map_err(|why| SqlError::Unkeepable { why })?;
        let body = outgoing.message.body.as_deref();
        let weight_bytes = i64::try_from(envelope.len() + body.map_or(0, <[u8]>::len)).unwrap_or(i64::MAX);
        let to = destination_text(&outgoing.to);
        let args = vec![id.into(), to.into(), envelope.into(), body.into(), weight_bytes.into(), now.0.into()];
        tx.execute("writing the outbox", SQL, args).await?;
        tx.mark_published();
        Ok(())
    }

    /// How many messages are on their way.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn pending(&self) -> Result<u64, SqlError> {
        Ok(self.backlog().await?.pending)
    }

    /// How much there is, for metrics and readiness.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn backlog(&self) -> Result<Backlog, SqlError> {
        const SQL: &str = "SELECT state, count(*), min(created_ms) FROM svc_outbox GROUP BY state";
        let mut backlog = Backlog::default();
        for row in self.store.fetch("counting the outbox", SQL, vec![]).await? {
            let count = u64::try_from(row.int(1)?).unwrap_or(0);
            if row.int(0)? == PENDING {
                backlog.pending = count;
                backlog.oldest = Some(self.store.now().since(Timestamp(row.int(2)?)));
            } else {
                backlog.failed = count;
            }
        }
        Ok(backlog)
    }

    /// Messages that were refused for good and come after this place, oldest first; `max` up to [`MAX_PAGE`]. 0 is the beginning.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn failed(&self, after_seq: i64, max: u32) -> Result<Vec<FailedMessage>, SqlError> {
        const SQL: &str = "SELECT seq, message_id, destination, error, attempts, created_ms, failed_ms, envelope, body
            FROM svc_outbox WHERE state = $1 AND seq > $2 ORDER BY seq LIMIT $3";
        let args = vec![FAILED.into(), after_seq.into(), i64::from(max.min(MAX_PAGE)).into()];
        let rows = self.store.fetch("listing the failed messages", SQL, args).await?;
        rows.iter().map(failed_message).collect()
    }

    /// Puts all failed messages on their way again; how many. Each is published after what was published in the meantime.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn retry_failed(&self) -> Result<u64, SqlError> {
        const SQL: &str =
            "UPDATE svc_outbox SET state = $1, attempts = 0, error = NULL, failed_ms = NULL WHERE state = $2";
        let rows = self.store.execute("retrying failed messages", SQL, vec![PENDING.into(), FAILED.into()]).await?;
        self.store.wake_relays();
        Ok(rows)
    }

    /// Puts one failed message on its way again; whether there was one.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn retry(&self, seq: i64) -> Result<bool, SqlError> {
        const SQL: &str = "UPDATE svc_outbox SET state = $1, attempts = 0, error = NULL, failed_ms = NULL
            WHERE state = $2 AND seq = $3";
        let args = vec![PENDING.into(), FAILED.into(), seq.into()];
        let rows = self.store.execute("retrying a failed message", SQL, args).await?;
        self.store.wake_relays();
        Ok(rows == 1)
    }

    /// Takes a message that is on its way for a failed one, so that it no longer holds up what comes after it; whether it was there.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn set_aside(&self, seq: i64, reason: &str) -> Result<bool, SqlError> {
        const SQL: &str = "UPDATE svc_outbox SET state = $1, error = $2, failed_ms = $3 WHERE state = $4 AND seq = $5";
        let reason = relay::shortened(reason);
        let args = vec![FAILED.into(), reason.into(), self.store.now().0.into(), PENDING.into(), seq.into()];
        Ok(self.store.execute("setting a message aside", SQL, args).await? == 1)
    }

    /// Deletes a failed message; whether there was one. It will never be published.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn discard(&self, seq: i64) -> Result<bool, SqlError> {
        const SQL: &str = "DELETE FROM svc_outbox WHERE state = $1 AND seq = $2";
        Ok(self.store.execute("discarding a failed message", SQL, vec![FAILED.into(), seq.into()]).await? == 1)
    }
}

fn failed_message<DB: Backend>(row: &Row<DB>) -> Result<FailedMessage, SqlError> {
    Ok(FailedMessage {
        seq: row.int(0)?,
        message_id: row.text(1)?,
        destination: row.text(2)?,
        error: row.maybe_text(3)?.unwrap_or_default(),
        attempts: u64::try_from(row.int(4)?).unwrap_or(0),
        created: Timestamp(row.int(5)?),
        failed: Timestamp(row.maybe_int(6)?.unwrap_or(0)),
        message: envelope::read(&row.text(7)?, row.maybe_blob(8)?).ok(),
    })
}

/// The column `destination`: by it the relay passes over those that take nothing at the moment.
fn destination_text(to: &Destination) -> String {
    match to {
        Destination::Topic(name) => format!("topic:{name}"),
        Destination::Queue(name) => format!("queue:{name}"),
        Destination::Live => "live".to_owned(),
    }
}
