//! The relay: brings what is in the outbox to the broker.
//!
//! * **At least once.** A message leaves the outbox after the broker confirmed it. Whatever ends the relay in between, the message is published
//!   again, with the same id and dedup id: a queue with a dedup window, or a consumer with an inbox, takes it once.
//! * **In order per destination and key**, the order of the calls of [`Outbox::publish`](super::Outbox::publish). The next message of a key is
//!   sent when the one before is confirmed. Messages without a key are sent in order too, but do not wait for each other: one that has to be
//!   tried again is overtaken.
//! * **A message that the broker refuses for good blocks nothing.** It is set aside, to be seen ([`Outbox::failed`](super::Outbox::failed)) and
//!   retried ([`Outbox::retry_failed`](super::Outbox::retry_failed)); later ones of its key go on without it. A destination that takes nothing
//!   at the moment (a full queue) holds up its own messages, and no others.
//! * **One at a time.** Each instance of a service runs a relay; a lease in the database lets one of them work, and the next one when that
//!   one is gone. One that was paused beyond its lease may send again what it had in hand: again, and after later ones, but with the same id.

mod batch;
mod holds;
mod lease;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::batch::{Entry, Outcome, next_wave, read_batch, settle};
use self::holds::{Backoff, Holds};
use self::lease::Lease;
use super::backend::Backend;
use super::error::SqlError;
use super::limits::{MAX_ERROR_BYTES, MAX_RELAY_BATCH, MISSING_ATTEMPTS};
use super::store::Store;
use crate::transport::{PublishError, Published, Transport};

/// How the relay works. Times are real time, whatever clock a test's transport has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayOptions {
    /// Messages that are read at a time, up to [`MAX_RELAY_BATCH`].
    pub batch: u32,
    /// How often the outbox is looked at without a commit in this process; what other processes publish waits for so long at most.
    pub poll: Duration,
    /// For how long another relay waits for this one when it is gone without a word. At least [`RelayOptions::MIN_LEASE`].
    pub lease: Duration,
    /// The first wait after a failure. Each further one is twice as long, with jitter.
    pub backoff: Duration,
    /// The longest wait after a failure.
    pub backoff_cap: Duration,
    /// How long a stopped relay waits for confirmations that are out. What is not confirmed then is published again by the next.
    pub grace: Duration,
}

impl RelayOptions {
    /// The shortest lease.
    pub const MIN_LEASE: Duration = Duration::from_millis(200);

    fn check(&self) -> Result<(), RelayError> {
        let wrong = |what: String| Err(RelayError::Options(what));
        if self.batch == 0 || self.batch > MAX_RELAY_BATCH {
            return wrong(format!("batch is {}; it is from 1 to {MAX_RELAY_BATCH}", self.batch));
        }
        if self.lease < Self::MIN_LEASE {
            return wrong(format!("lease is {:?}; it is at least {:?}", self.lease, Self::MIN_LEASE));
        }
        if self.poll.is_zero() || self.backoff.is_zero() || self.backoff_cap < self.backoff {
            return wrong("poll and backoff are more than nothing, and backoff_cap is not below backoff".to_owned());
        }
        Ok(())
    }
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self {
            batch: MAX_RELAY_BATCH,
            poll: Duration::from_millis(500),
            lease: Duration::from_secs(10),
            backoff: Duration::from_millis(100),
            backoff_cap: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        }
    }
}

/// Why the relay ended without having been told to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The options contradict themselves.
    #[error("the relay's options: {0}")]
    Options(String),
    /// The transport was closed under it.
    #[error("the transport was closed; what is in the outbox stays there, for the next relay")]
    TransportClosed,
}

/// Brings messages from an outbox to a broker: at least once and always with the same id; in order for each destination and key; one relay at a time, whichever
/// instance's; and past a message that is refused for good, which [`Outbox::failed`](super::Outbox::failed) shows.
pub struct Relay<DB: Backend> {
    store: Store<DB>,
    transport: Arc<dyn Transport>,
    options: RelayOptions,
    stop: CancellationToken,
    commits: watch::Receiver<()>,
    lease: Lease,
    holds: Holds,
}

/// What is next.
enum Next {
    /// More may be there.
    Again,
    /// Nothing until somebody commits, or until this time has passed.
    Wait(Duration),
}

/// What came of publishing.
type Results = Vec<Result<Published, PublishError>>;

impl<DB: Backend> Relay<DB> {
    /// Works until it is told to stop, over all failures of broker and database. Run one for each instance of the service, from when the
    /// tables are made until the last handler has ended.
    ///
    /// # Errors
    /// [`RelayError`].
    pub async fn run(
        store: Store<DB>,
        transport: Arc<dyn Transport>,
        options: RelayOptions,
        stop: CancellationToken,
    ) -> Result<(), RelayError> {
        options.check()?;
        let commits = store.commits();
        let lease = Lease::new(options.lease);
        let holds = Holds::new(options.backoff, options.backoff_cap);
        Self { store, transport, options, stop, commits, lease, holds }.work().await
    }

    async fn work(mut self) -> Result<(), RelayError> {
        let mut backoff = Backoff::new(self.options.backoff, self.options.backoff_cap);
        let ended = loop {
            if self.stop.is_cancelled() {
                break Ok(());
            }
            // Seen before the outbox is looked at: a commit after this wakes the wait below.
            self.commits.mark_unchanged();
            match self.round().await {
                Ok(Next::Again) => backoff.reset(),
                Ok(Next::Wait(wait)) => {
                    backoff.reset();
                    self.wait(wait, true).await;
                }
                Err(RoundError::Closed) => break Err(RelayError::TransportClosed),
                Err(RoundError::Sql(error)) => {
                    let wait = backoff.next();
                    tracing::warn!(%error, ?wait, "the relay cannot read the outbox; it tries again");
                    self.wait(wait, false).await;
                }
            }
        };
        self.lease.release(&self.store).await;
        ended
    }

    /// Publishes one batch, if there is one and if it is this relay's turn.
    async fn round(&mut self) -> Result<Next, RoundError> {
        if let Some(wait) = self.holds.full() {
            return Ok(Next::Wait(wait));
        }
        let idle = Next::Wait(self.holds.soonest().map_or(self.options.poll, |hold| hold.min(self.options.poll)));
        if !self.lease.is_held() && !batch::is_any(&self.store, &self.holds).await? {
            return Ok(idle);
        }
        // IMPORTANT: the lease before the batch. One that was read before might be published already by the relay that had the lease.
        if !self.lease.ensure(&self.store).await? {
            return Ok(Next::Wait(self.options.poll));
        }
        let batch = read_batch(&self.store, &self.holds, self.options.batch).await?;
        if batch.entries.is_empty() && batch.unreadable.is_empty() {
            return Ok(idle);
        }
        let unreadable = batch.unreadable.into_iter().map(|(seq, why)| (seq, Outcome::Failed(why))).collect();
        self.settle(unreadable).await;
        let mut entries = batch.entries;
        loop {
            let wave = next_wave(&mut entries);
            if wave.is_empty() || self.stop.is_cancelled() || self.holds.full().is_some() {
                return Ok(Next::Again);
            }
            if !self.lease.ensure(&self.store).await? {
                return Ok(Next::Wait(self.options.poll));
            }
            let Some(results) = self.publish(&wave).await else {
                return Ok(Next::Again);
            };
            let closed = results.iter().any(|result| matches!(result, Err(PublishError::Closed)));
            let judged = wave.iter().zip(results).filter_map(|(entry, result)| self.judge(entry, result));
            let outcomes: Vec<(i64, Outcome)> = judged.collect();
            // IMPORTANT: for this round, whether or not the hold has run out by then: what follows of a key must not be sent before what failed of
            // it, which the next round reads again.
            let tried = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Tried(_)));
            let tried: HashSet<i64> = tried.map(|(seq, _)| *seq).collect();
            let failing = wave.iter().filter(|entry| tried.contains(&entry.seq));
            let failing: HashSet<&str> = failing.map(|entry| entry.destination.as_str()).collect();
            entries.retain(|entry| !failing.contains(entry.destination.as_str()));
            self.settle(outcomes).await;
            if closed {
                return Err(RoundError::Closed);
            }
        }
    }

    /// Publishes a wave, and keeps the lease meanwhile. `None` if the lease was lost or the relay was stopped before the confirmations came.
    async fn publish(&mut self, wave: &[Entry]) -> Option<Results> {
        let transport = Arc::clone(&self.transport);
        let mut publishing = transport.publish(wave.iter().map(|entry| entry.outgoing.clone()).collect());
        let stop = self.stop.clone();
        let grace = self.options.grace;
        let stopped = async move {
            stop.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        tokio::pin!(stopped);
        loop {
            tokio::select! {
                results = &mut publishing => return Some(results),
                () = &mut stopped => return None,
                () = tokio::time::sleep_until(self.lease.renew_at()) => match self.lease.ensure(&self.store).await {
                    Ok(true) => {}
                    Ok(false) => {
                        tracing::warn!("the relay lost its lease while publishing; another one goes on");
                        return None;
                    }
                    // The lease is still this one's for a while.
                    Err(_) if self.lease.is_held() => tokio::time::sleep(self.options.backoff).await,
                    Err(error) => {
                        tracing::warn!(%error, "the relay could not renew its lease while publishing");
                        return None;
                    }
                },
            }
        }
    }

    /// What becomes of a message; `None` if nothing is to be written.
    fn judge(&mut self, entry: &Entry, result: Result<Published, PublishError>) -> Option<(i64, Outcome)> {
        let error = match result {
            Ok(_) => {
                self.holds.release(&entry.destination);
                return Some((entry.seq, Outcome::Done));
            }
            Err(PublishError::Closed) => return None,
            Err(error) => error,
        };
        let missing = matches!(error, PublishError::NotFound(_));
        if error.is_transient() || (missing && entry.attempts + 1 < MISSING_ATTEMPTS) {
            let wait = self.holds.hold(&entry.destination);
            let (id, destination) = (&entry.message_id, &entry.destination);
            tracing::warn!(%id, %destination, %error, ?wait, "a message of the outbox could not be published; the relay tries again");
            return Some((entry.seq, Outcome::Tried(shortened(&error.to_string()))));
        }
        let (id, destination) = (&entry.message_id, &entry.destination);
        tracing::error!(%id, %destination, %error, "the broker refused a message of the outbox; it is set aside");
        Some((entry.seq, Outcome::Failed(shortened(&error.to_string()))))
    }

    /// Writes what became of messages. What is not written is published again, so this tries on until it succeeds or the relay is stopped.
    async fn settle(&mut self, outcomes: Vec<(i64, Outcome)>) {
        if outcomes.is_empty() {
            return;
        }
        let mut backoff = Backoff::new(self.options.backoff, self.options.backoff_cap);
        while let Err(error) = settle(&self.store, &outcomes).await {
            let wait = backoff.next();
            tracing::warn!(%error, ?wait, "the relay cannot write that messages are published; it tries again");
            self.wait(wait, false).await;
            if self.stop.is_cancelled() {
                return;
            }
        }
    }

    /// Waits for this long, or until stopped, or, if asked to, until somebody commits.
    async fn wait(&mut self, time: Duration, wakes: bool) {
        let commits = &mut self.commits;
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(time) => {}
            // The store that sends is a field of this relay, so there is always a sender.
            _ = commits.changed(), if wakes => {}
        }
    }
}

/// Why a round was not ended.
enum RoundError {
    Sql(SqlError),
    Closed,
}

impl From<SqlError> for RoundError {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl<DB: Backend> fmt::Debug for Relay<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay").field("store", &self.store).field("options", &self.options).finish_non_exhaustive()
    }
}

/// An error text of at most [`MAX_ERROR_BYTES`].
pub(super) fn shortened(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_ERROR_BYTES)).unwrap_or_default().replace('\0', "\u{fffd}")
}

/// In how long this moment comes.
fn until(moment: Instant) -> Duration {
    moment.saturating_duration_since(Instant::now())
}
