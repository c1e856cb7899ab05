//! Ending deliveries: what the machine decided, made durable.

use std::sync::Arc;

use types::{Now, Offset};

use super::owner::{QueueGuard, QueueOwner};
use crate::errors::{SettleError, StorageError};
use crate::queue::{Departure, Lease, Settle, Settled};
use crate::record::Payload;
use crate::shared::Shared;
use crate::state_log::StateRecord;
use crate::transaction::Transaction;

/// What settlements of one queue lead to.
#[derive(Default)]
pub(crate) struct Settling {
    acked: Vec<Offset>,
    acked_weight: u64,
    records: Vec<StateRecord>,
    departures: Vec<Departure<Payload>>,
}

impl QueueOwner {
    /// Tells the machine of a settlement, and collects what must become durable for it.
    ///
    /// # Errors
    /// See [`LeaseError`](crate::queue::LeaseError); nothing changed then.
    pub(crate) fn settle_one(
        guard: &mut QueueGuard<'_>,
        lease: Lease,
        how: Settle,
        settling: &mut Settling,
    ) -> Result<(), SettleError> {
        let now = guard.now;
        match guard.machine.settle(now, lease, how)? {
            Settled::Acked { weight } => {
                settling.acked.push(lease.offset);
                settling.acked_weight += u64::from(weight);
                if guard.recorded.remove(lease.offset.0) {
                    settling.records.push(StateRecord::Forget(lease.offset));
                }
            }
            Settled::Retry(retry) => {
                guard.recorded.insert(retry.offset.0);
                settling.records.push(StateRecord::Retry(retry));
            }
            Settled::Released => {}
            Settled::Leaves(departure) => settling.departures.push(departure),
        }
        Ok(())
    }

    /// Adds what settlements led to to a transaction; gives the messages that are to be moved, each by a commit of its own.
    ///
    /// # Errors
    /// If the state records do not fit a batch.
    pub(crate) fn settle_into(
        self: &Arc<Self>,
        transaction: &mut Transaction,
        settling: Settling,
        now: Now,
    ) -> Result<Vec<Departure<Payload>>, StorageError> {
        transaction.at_least(self.durability());
        if !settling.acked.is_empty() {
            transaction.depart(self, settling.acked, settling.acked_weight);
        }
        self.state.record(transaction, &settling.records, now)?;
        Ok(settling.departures)
    }

    /// Makes settlements durable.
    ///
    /// # Errors
    /// If the storage refuses. Acknowledged messages come again then.
    pub(crate) async fn commit_settling(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        settling: Settling,
        now: Now,
    ) -> Result<(), StorageError> {
        let mut transaction = Transaction::new();
        let departures = self.settle_into(&mut transaction, settling, now)?;
        if !transaction.is_empty() {
            transaction.commit(shared).await?;
        }
        for departure in departures {
            self.move_out_and_wait(shared, departure, now).await?;
        }
        Ok(())
    }

    /// Acknowledges what was handed out to a consumer that acknowledges at once. Nothing waits for it: such a consumer takes a message
    /// at most once.
    pub(crate) fn forget_delivered(self: &Arc<Self>, shared: &Arc<Shared>, offsets: Vec<Offset>, weight: u64) {
        if offsets.is_empty() {
            return;
        }
        let mut transaction = Transaction::new();
        transaction.at_least(self.durability());
        transaction.depart(self, offsets, weight);
        shared.later(transaction);
    }
}
