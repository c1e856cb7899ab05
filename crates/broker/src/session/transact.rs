//! Publishes and acknowledgements that happen together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use log::Refusal;
use types::{EntityId, Message, Now};

use super::publish::{PUBLISH_TRIES, set_durability};
use super::{PublishOptions, PublishTo, Publishes, Session};
use crate::errors::{PublishError, SettleError, StorageError};
use crate::queue::{Lease, LeaseError, Settle};
use crate::queues::{QueueOwner, Settling};
use crate::receipt::Receipt;
use crate::routing::{Plan, place};
use crate::transaction::{CommitFailure, Transaction};
use crate::views::Published;

/// Deliveries to acknowledge, by their queues.
type Acks = BTreeMap<EntityId, (Arc<QueueOwner>, Vec<Lease>)>;

/// Settlements, sorted into what is part of the commit and what follows it.
struct Sorted {
    acks: Acks,
    later: Vec<(Receipt, Settle)>,
}

impl Session {
    /// Acknowledges a delivery and publishes what it led to, all or none.
    ///
    /// # Errors
    /// See [`SettleError`]; the delivery is still out then, unless its lease was the reason.
    pub async fn ack_and_publish(
        &self,
        receipt: Receipt,
        publishes: Vec<(PublishTo, Vec<Message>)>,
    ) -> Result<Vec<Published>, SettleError> {
        let mut all = Publishes::default();
        for (to, messages) in publishes {
            let to = Arc::new(to);
            messages.into_iter().for_each(|message| all.push(&to, message));
        }
        self.transact(all, vec![(receipt, Settle::Ack)], PublishOptions::default()).await
    }

    /// Publishes messages, to whatever places, and ends deliveries, of whatever queues, all or none. One answer for each message, in order.
    ///
    /// All publishes and acknowledgements are one commit. Deliveries that are given back, released or given up stay out until it has
    /// succeeded and are ended then, before this is ready: if the process ends in between, they come again as any delivery does that was
    /// not settled.
    ///
    /// # Errors
    /// See [`SettleError`]; all deliveries are still out then, unless their lease was the reason. A stamp or an expectation in `options` is
    /// refused: they are for the messages of one destination.
    pub async fn transact(
        &self,
        publishes: Publishes,
        settlements: Vec<(Receipt, Settle)>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, SettleError> {
        if self.is_held_back() && !publishes.is_empty() {
            return Err(failed(PublishError::Backpressure));
        }
        self.transact_admitted(publishes, settlements, options).await
    }

    /// As [`transact`](Self::transact), also when the broker is short of memory.
    pub(super) async fn transact_admitted(
        &self,
        mut publishes: Publishes,
        settlements: Vec<(Receipt, Settle)>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, SettleError> {
        if options.expect.is_some() || options.producer.is_some() {
            let why = "a stamp or an expectation cannot be part of a transaction".to_owned();
            return Err(failed(PublishError::Invalid { field: "options".to_owned(), why }));
        }
        let Sorted { acks, later } = self.sorted(settlements)?;
        self.admit(&mut publishes.messages, self.now()).map_err(failed)?;
        let published = self.commit_together(&publishes, &acks, &options).await?;
        self.shared().totals.published.fetch_add(published.len() as u64, Ordering::Relaxed);
        if !later.is_empty() {
            // A failure is not one of the transaction, which has happened. What could not be recorded is in its queue again.
            let _ = self.settle(later).await;
        }
        Ok(published)
    }

    /// Looks whether all of these deliveries are out, so that a settlement that is in vain leaves the others as they are.
    fn sorted(&self, settlements: Vec<(Receipt, Settle)>) -> Result<Sorted, SettleError> {
        let mut sorted = Sorted { acks: Acks::new(), later: Vec::new() };
        let mut owners: BTreeMap<EntityId, Arc<QueueOwner>> = BTreeMap::new();
        let mut seen = std::collections::HashSet::with_capacity(settlements.len());
        for (receipt, how) in settlements {
            let queue = match owners.get(&receipt.queue) {
                Some(queue) => Arc::clone(queue),
                None => {
                    let queue = self.queue_of(receipt)?;
                    owners.insert(receipt.queue, Arc::clone(&queue));
                    queue
                }
            };
            self.check_boot(receipt)?;
            if !seen.insert(receipt) {
                return Err(LeaseError::Unknown.into());
            }
            match how {
                Settle::Ack => {
                    sorted.acks.entry(receipt.queue).or_insert_with(|| (queue, Vec::new())).1.push(receipt.lease);
                }
                how => {
                    queue.lock(self.now()).machine.check_out(receipt.lease)?;
                    sorted.later.push((receipt, how));
                }
            }
        }
        for (queue, leases) in sorted.acks.values() {
            let guard = queue.lock(self.now());
            leases.iter().try_for_each(|lease| guard.machine.check_out(*lease))?;
        }
        Ok(sorted)
    }

    async fn commit_together(
        &self,
        publishes: &Publishes,
        acks: &Acks,
        options: &PublishOptions,
    ) -> Result<Vec<Published>, SettleError> {
        for _ in 0..PUBLISH_TRIES {
            let now = self.now();
            let mut plan = Plan::new(self.shared(), now);
            let mut parts = publishes.parts();
            if let Err(error) = parts.try_for_each(|(to, messages)| self.plan(&mut plan, to, messages, options)) {
                drop(plan);
                if let PublishError::QueueFull { .. } = error {
                    self.turn_away(publishes.parts(), options).await;
                }
                return Err(failed(error));
            }
            if plan.must_wait() {
                drop(plan);
                self.others_ended().await.map_err(failed)?;
                continue;
            }
            set_durability(&mut plan, &publishes.messages, options);
            let mut transaction = self.acknowledge(acks, now)?;
            let (placed, mut results) = plan.into_transaction(&mut transaction);
            if results.iter().any(|result| result.duplicate) {
                transaction.barrier();
            }
            let written = transaction.commit(self.shared()).await;
            let now = self.now();
            acks.values().for_each(|(queue, _)| queue.lock(now).retire_pull());
            match written {
                Ok(written) => {
                    place(&placed, &written, &mut results);
                    return Ok(results);
                }
                // A queue or topic on the way of a message was deleted meanwhile: without it, perhaps.
                Err(CommitFailure::Refused(Refusal::NoSuchLog(_)))
                    if !acks.values().any(|(queue, _)| queue.is_deleted()) => {}
                Err(failure) => return Err(SettleError::Storage(failure.into())),
            }
        }
        Err(failed(PublishError::Backpressure))
    }

    /// A transaction with these acknowledgements; if one is in vain, none of them has happened.
    fn acknowledge(&self, acks: &Acks, now: Now) -> Result<Transaction, SettleError> {
        let mut transaction = Transaction::new();
        for (queue, leases) in acks.values() {
            let mut settling = Settling::keeping_deliveries();
            let settled = {
                let mut guard = queue.lock(now);
                let mut ack = |lease| QueueOwner::settle_one(&mut guard, 0, lease, Settle::Ack, &mut settling);
                leases.iter().try_for_each(|lease| ack(*lease))
            };
            let recorded = queue.settle_into(&mut transaction, settling, now).map_err(StorageError::into);
            if let Err(error) = settled.and(recorded) {
                transaction.cancel(self.shared());
                return Err(error);
            }
        }
        Ok(transaction)
    }
}

fn failed(error: PublishError) -> SettleError {
    SettleError::Publish(Box::new(error))
}
