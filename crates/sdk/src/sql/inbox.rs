//! The inbox: a message that comes twice has its effect once.
//!
//! The row that says "seen" is written in the same transaction as the effect, so there is no moment in which one is there without the
//! other. What the row cannot cover is what a handler does *outside* of its database.

use std::time::Duration;

use super::backend::Backend;
use super::envelope;
use super::error::SqlError;
use super::limits::CLEANUP_ROWS;
use super::store::{Store, Tx};
use crate::Envelope;
use crate::transport::{Destination, Outgoing, RetrySpec};

/// The messages that this service's consumers have handled. From [`Store::inbox`].
#[derive(Debug)]
pub struct Inbox<'a, DB: Backend> {
    pub(super) store: &'a Store<DB>,
}

impl<DB: Backend> Inbox<'_, DB> {
    /// Whether this consumer sees this message for the first time. It counts as seen from then on, if the transaction is committed.
    ///
    /// While another transaction has the same message, this waits until that one has ended: if it was committed the answer is `false`, if
    /// not, `true`. With SQLite it is [`Store::begin`] that waits.
    ///
    /// # Errors
    /// [`SqlError::Database`], as when the other one takes too long.
    pub async fn first_time(&self, tx: &mut Tx<DB>, consumer: &str, message_id: &str) -> Result<bool, SqlError> {
        const SQL: &str = "INSERT INTO svc_inbox (consumer, message_id, seen_ms) VALUES ($1, $2, $3)
            ON CONFLICT (consumer, message_id) DO NOTHING";
        let args = vec![consumer.into(), message_id.into(), self.store.now().0.into()];
        Ok(tx.execute("writing the inbox", SQL, args).await? == 1)
    }

    /// The answer that was kept with a question that this consumer has seen.
    pub(super) async fn answer(
        &self,
        tx: &mut Tx<DB>,
        consumer: &str,
        message_id: &str,
    ) -> Result<Option<Envelope>, SqlError> {
        const SQL: &str = "SELECT answer, answer_body FROM svc_inbox WHERE consumer = $1 AND message_id = $2";
        let rows = tx.fetch("reading the inbox", SQL, vec![consumer.into(), message_id.into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let Some(answer) = row.maybe_text(0)? else { return Ok(None) };
        let kept = envelope::read(&answer, row.maybe_blob(1)?);
        kept.map(|kept| Some(kept.message)).map_err(|why| SqlError::Unreadable { table: "svc_inbox", why })
    }

    /// Keeps the answer to a question, to be given again.
    pub(super) async fn keep_answer(
        &self,
        tx: &mut Tx<DB>,
        consumer: &str,
        message_id: &str,
        answer: &Envelope,
    ) -> Result<(), SqlError> {
        const SQL: &str = "UPDATE svc_inbox SET answer = $3, answer_body = $4 WHERE consumer = $1 AND message_id = $2";
        let kept = Outgoing { to: Destination::Live, message: answer.clone() };
        let text = envelope::write(&kept).map_err(|why| SqlError::Unkeepable { why })?;
        let args = vec![consumer.into(), message_id.into(), text.into(), answer.body.as_deref().into()];
        tx.execute("writing the inbox", SQL, args).await?;
        Ok(())
    }

    /// Forgets the messages that are older than the window; how many. [`Store::maintain`] does it by itself.
    ///
    /// # Errors
    /// [`SqlError::Database`]. What was forgotten until then stays forgotten.
    pub async fn cleanup(&self) -> Result<u64, SqlError> {
        const SQL: &str = "DELETE FROM svc_inbox WHERE (consumer, message_id) IN
            (SELECT consumer, message_id FROM svc_inbox WHERE seen_ms < $1 ORDER BY seen_ms LIMIT $2)";
        let window_ms = i64::try_from(self.store.inbox_window.as_millis()).unwrap_or(i64::MAX);
        let before_ms = self.store.now().0.saturating_sub(window_ms);
        let mut forgotten = 0;
        loop {
            let args = vec![before_ms.into(), CLEANUP_ROWS.into()];
            let rows = self.store.execute("cleaning up the inbox", SQL, args).await?;
            forgotten += rows;
            if i64::try_from(rows).unwrap_or(i64::MAX) < CLEANUP_ROWS {
                return Ok(forgotten);
            }
        }
    }

    /// How long messages are remembered.
    #[must_use]
    pub const fn window(&self) -> Duration {
        self.store.inbox_window
    }

    /// Whether messages are remembered longer than a queue with this policy can bring them again by its retries.
    ///
    /// # Errors
    /// [`WindowTooShort`], whose text is meant for whoever configured it.
    pub fn check(&self, queue: &str, retry: &RetrySpec) -> Result<(), WindowTooShort> {
        check_window(self.store.inbox_window, queue, retry)
    }
}

/// Holds an inbox's window against a queue's retry policy; [`Inbox::check`].
///
/// ```
/// use std::time::Duration;
///
/// use sdk::sql::check_window;
/// use sdk::transport::RetrySpec;
///
/// let retry = RetrySpec::default();
/// assert!(check_window(Duration::from_secs(3600), "orders", &retry).is_ok());
/// assert!(check_window(Duration::from_secs(5), "orders", &retry).is_err());
/// ```
///
/// # Errors
/// [`WindowTooShort`].
pub fn check_window(window: Duration, queue: &str, retry: &RetrySpec) -> Result<(), WindowTooShort> {
    match retry.longest() {
        Some(longest) if window > longest => Ok(()),
        longest => Err(WindowTooShort { queue: queue.to_owned(), window, longest }),
    }
}

/// An inbox forgets messages that a queue may still bring again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowTooShort {
    /// The queue.
    pub queue: String,
    /// How long the inbox remembers.
    pub window: Duration,
    /// How long the queue retries; `None` is without end.
    pub longest: Option<Duration>,
}

impl std::fmt::Display for WindowTooShort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queue, window, longest } = self;
        match longest {
            Some(longest) => write!(
                f,
                "the inbox remembers messages for {window:?}, but the queue {queue:?} retries them for up to {longest:?}: one that comes \
                 again after the inbox forgot it would have its effect twice. Make the window longer than {longest:?}, or the retries fewer"
            ),
            None => write!(
                f,
                "the inbox remembers messages for {window:?}, but the queue {queue:?} retries them without end: one that comes again after \
                 the inbox forgot it would have its effect twice. Give the retries a last attempt"
            ),
        }
    }
}

impl std::error::Error for WindowTooShort {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_to_outlast_the_longest_retry() {
        let retry = RetrySpec { initial: Duration::from_secs(10), max_attempts: Some(3), ..RetrySpec::default() };
        assert_eq!(check_window(Duration::from_secs(31), "orders", &retry), Ok(()));
        let error = check_window(Duration::from_secs(30), "orders", &retry).unwrap_err();
        assert!(error.to_string().contains("\"orders\" retries them for up to 30s"), "{error}");
        let endless = RetrySpec { max_attempts: None, ..retry };
        let error = check_window(Duration::from_secs(1 << 40), "orders", &endless).unwrap_err();
        assert!(error.to_string().contains("without end"), "{error}");
    }
}
