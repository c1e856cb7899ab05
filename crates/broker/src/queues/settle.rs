//! Ending deliveries: what the machine decided, made durable.

use std::sync::Arc;

use tokio::sync::oneshot;
use types::limits::MAX_PROPERTY_BYTES;
use types::{Now, Offset};

use super::dead_letter::{Failed, Moved};
use super::owner::{QueueGuard, QueueOwner};
use crate::errors::{SettleError, StorageError};
use crate::queue::{Departure, Lease, Out, RetryRecord, Settle, Settled};
use crate::record::Payload;
use crate::shared::Shared;
use crate::state_log::StateRecord;
use crate::transaction::{Transaction, Undo};

/// What settlements of one queue lead to. Each has the number that the caller knows it by.
#[derive(Default)]
pub(crate) struct Settling {
    acked: Vec<Offset>,
    acked_weight: u64,
    /// The deliveries that were acknowledged, if they are to be out again should the commit be refused.
    out: Option<Vec<Out>>,
    records: Vec<StateRecord>,
    /// Settlements that the commit makes durable.
    durable: Vec<usize>,
    departures: Vec<(usize, Departure<Payload>)>,
}

/// Says how a commit ended.
type End = oneshot::Receiver<Result<(), StorageError>>;

/// Settlements whose commits are under way, each with the numbers of those that it makes durable.
pub(crate) struct Settlements {
    waits: Vec<(Vec<usize>, End)>,
    /// Those that failed before they began.
    failed: Vec<(usize, StorageError)>,
}

impl Settlements {
    /// Waits for the end. Gives those that failed, by number: what was acknowledged or given up in vain is in the queue again.
    pub(crate) async fn ended(self) -> Vec<(usize, StorageError)> {
        let Self { waits, mut failed } = self;
        for (numbers, receive) in waits {
            let result =
                receive.await.unwrap_or_else(|_| Err(StorageError::Unavailable("the storage stopped".to_owned())));
            if let Err(error) = result {
                failed.extend(numbers.into_iter().map(|number| (number, error.clone())));
            }
        }
        failed
    }
}

impl Settling {
    /// Whoever acknowledges keeps the delivery if the commit is refused.
    pub(crate) fn keeping_deliveries() -> Self {
        Self { out: Some(Vec::new()), ..Self::default() }
    }

    /// Messages whose failures are among the records.
    fn failed_again(&self) -> Vec<Offset> {
        let offset = |record: &StateRecord| match record {
            StateRecord::Retry(retry) => Some(retry.offset),
            _ => None,
        };
        self.records.iter().filter_map(offset).collect()
    }
}

impl QueueOwner {
    /// Tells the machine of a settlement, and collects what must become durable for it.
    ///
    /// # Errors
    /// See [`LeaseError`](crate::queue::LeaseError); nothing changed then.
    pub(crate) fn settle_one(
        guard: &mut QueueGuard<'_>,
        number: usize,
        lease: Lease,
        how: Settle,
        settling: &mut Settling,
    ) -> Result<(), SettleError> {
        let now = guard.now;
        let out = if settling.out.is_some() { guard.machine.out(lease) } else { None };
        match guard.machine.settle(now, lease, shortened(how))? {
            Settled::Acked { weight } => {
                settling.durable.push(number);
                settling.acked.push(lease.offset);
                settling.acked_weight += u64::from(weight);
                if let (Some(all), Some(out)) = (&mut settling.out, out) {
                    all.push(out);
                }
                if guard.recorded.contains(lease.offset.0) {
                    settling.records.push(StateRecord::Forget(lease.offset));
                }
            }
            Settled::Retry(retry) => {
                settling.durable.push(number);
                guard.owner.failing.begin(retry.offset);
                guard.recorded.insert(retry.offset.0);
                settling.records.push(StateRecord::Retry(retry));
            }
            Settled::Released => {}
            Settled::Leaves(departure) => {
                // Should the move be refused, the message is ready again.
                guard.owner.failing.begin(departure.offset);
                settling.departures.push((number, departure));
            }
        }
        Ok(())
    }

    /// Adds what settlements led to to a transaction, but for the messages that are to be moved: each takes a commit of its own.
    ///
    /// # Errors
    /// If the state records do not fit a batch; cancel the transaction then.
    pub(crate) fn settle_into(
        self: &Arc<Self>,
        transaction: &mut Transaction,
        settling: Settling,
        now: Now,
    ) -> Result<(), StorageError> {
        transaction.at_least(self.durability());
        transaction.uses_reserve();
        if !settling.acked.is_empty() {
            let undo = settling.out.map_or(Undo::Ready, Undo::Out);
            transaction.depart(self, settling.acked, settling.acked_weight, undo);
        }
        self.state.record(transaction, &settling.records, now)
    }

    /// Begins to make settlements durable; it ends even if nobody waits.
    pub(crate) fn commit_settling(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        mut settling: Settling,
        now: Now,
    ) -> Settlements {
        let durable = std::mem::take(&mut settling.durable);
        let departures = std::mem::take(&mut settling.departures);
        let mut waits = Vec::with_capacity(1 + departures.len());
        let mut failed = Vec::new();
        if !durable.is_empty() {
            let failed_again = settling.failed_again();
            let mut transaction = Transaction::new();
            match self.settle_into(&mut transaction, settling, now) {
                Ok(()) => {
                    let (send, receive) = oneshot::channel();
                    let queue = Arc::clone(self);
                    let done = move |result: Result<_, crate::transaction::CommitFailure>| {
                        queue.failing.end(&failed_again);
                        drop(send.send(result.map(|_| ()).map_err(StorageError::from)));
                    };
                    transaction.submit(shared, done);
                    waits.push((durable, receive));
                }
                Err(error) => {
                    transaction.cancel(shared);
                    self.failing.end(&failed_again);
                    failed.extend(durable.into_iter().map(|number| (number, error.clone())));
                }
            }
        }
        for (number, departure) in departures {
            let (send, receive) = oneshot::channel();
            let (queue, recorder, offset) = (Arc::clone(self), Arc::clone(shared), departure.offset);
            self.move_out(shared, departure, now, Failed::Restore, move |moved| {
                let done = move |result| drop(send.send(result));
                match moved {
                    Ok(Moved::Gone) => {
                        queue.failing.end(&[offset]);
                        done(Ok(()));
                    }
                    // It stays for now, so its failure is to be known after a restart.
                    Ok(Moved::Later) => queue.record_failures_of(&recorder, offset, now, done),
                    Err(error) => queue.record_failures_of(&recorder, offset, now, move |_| done(Err(error))),
                }
            });
            waits.push((vec![number], receive));
        }
        Settlements { waits, failed }
    }

    /// Records the failures of a message that was given up and is still here. Until that has ended it is not handed out.
    fn record_failures_of(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        offset: Offset,
        now: Now,
        done: impl FnOnce(Result<(), StorageError>) + Send + 'static,
    ) {
        let record = {
            let mut guard = self.lock(now);
            let record = guard.machine.failures_of(offset);
            if record.is_some() {
                guard.recorded.insert(offset.0);
            }
            record
        };
        let queue = Arc::clone(self);
        self.record_retries(shared, record.into_iter().collect(), now, move |result| {
            queue.failing.end(&[offset]);
            done(result);
        });
    }

    /// Records failures in a commit of their own.
    pub(super) fn record_retries(
        &self,
        shared: &Arc<Shared>,
        retries: Vec<RetryRecord>,
        now: Now,
        done: impl FnOnce(Result<(), StorageError>) + Send + 'static,
    ) {
        let records: Vec<StateRecord> = retries.into_iter().map(StateRecord::Retry).collect();
        let mut transaction = Transaction::new();
        transaction.at_least(self.durability());
        transaction.uses_reserve();
        match self.state.record(&mut transaction, &records, now) {
            Ok(()) => transaction.submit(shared, move |result| done(result.map(|_| ()).map_err(StorageError::from))),
            Err(error) => done(Err(error)),
        }
    }

    /// Acknowledges what was handed out to a consumer that acknowledges at once. Nothing waits for it: such a consumer takes a message
    /// at most once.
    pub(crate) fn forget_delivered(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        offsets: Vec<Offset>,
        weight: u64,
        now: Now,
    ) {
        if offsets.is_empty() {
            return;
        }
        let forgotten: Vec<StateRecord> = {
            let guard = self.lock(now);
            let recorded = offsets.iter().filter(|offset| guard.recorded.contains(offset.0));
            recorded.map(|offset| StateRecord::Forget(*offset)).collect()
        };
        let mut transaction = Transaction::new();
        transaction.at_least(self.durability());
        transaction.depart(self, offsets, weight, Undo::Ready);
        // A few dozen bytes a message: they fit. Without them a restart would look for the messages once more, in vain.
        let _ = self.state.record(&mut transaction, &forgotten, now);
        transaction.submit(shared, |_| {});
    }
}

/// A consumer's words travel with the message and lie in memory: they have a bound.
fn shortened(how: Settle) -> Settle {
    let cut = |error: Option<Arc<str>>| {
        error.map(|error| match error.get(..error.floor_char_boundary(MAX_PROPERTY_BYTES)) {
            Some(short) if error.len() > MAX_PROPERTY_BYTES => Arc::from(short),
            _ => error,
        })
    };
    match how {
        Settle::Nack { after, error, counts } => Settle::Nack { after, error: cut(error), counts },
        Settle::Reject { error } => Settle::Reject { error: cut(error) },
        Settle::Ack | Settle::Release => how,
    }
}
