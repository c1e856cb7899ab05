//! Consuming from queues.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use types::limits::{MAX_LEASE, MAX_RECEIVE_MESSAGES, MAX_RECEIVE_WAIT};
use types::{EntityId, Offset};

use super::{Receive, Redrive, Session};
use crate::access::Action;
use crate::consumer::{Consumer, ConsumerOptions, Held};
use crate::errors::{ConsumeError, SettleError};
use crate::queue::{Credit, Delivery, LeaseError, Settle};
use crate::queues::{QueueOwner, Settling, WaitSlot, Waiter};
use crate::receipt::Receipt;
use crate::record::Payload;
use crate::views::{Browsed, Delivered, RedriveInfo};

impl Session {
    /// Attaches a standing consumer.
    ///
    /// # Errors
    /// See [`ConsumeError`].
    pub fn consume(&self, queue: &str, options: ConsumerOptions) -> Result<Consumer, ConsumeError> {
        let queue = self.readable(queue)?;
        if options.rules.lease.is_some_and(|lease| lease > MAX_LEASE) {
            return Err(too_long("lease", MAX_LEASE));
        }
        Consumer::attach(self.clone(), queue, options)
    }

    /// Takes messages without a standing consumer; leases last on after the call.
    ///
    /// # Errors
    /// See [`ConsumeError`].
    pub async fn receive(&self, queue: &str, receive: Receive) -> Result<Vec<Delivered>, ConsumeError> {
        let queue = self.readable(queue)?;
        if receive.max == 0 || receive.max > MAX_RECEIVE_MESSAGES {
            let why = format!("must be from 1 to {MAX_RECEIVE_MESSAGES}");
            return Err(ConsumeError::Invalid { field: "max".to_owned(), why });
        }
        if receive.wait > MAX_RECEIVE_WAIT {
            return Err(too_long("wait", MAX_RECEIVE_WAIT));
        }
        if receive.lease.is_some_and(|lease| lease > MAX_LEASE) {
            return Err(too_long("lease", MAX_LEASE));
        }
        let deadline = self.now().mono.after(receive.wait);
        let pull = Pull::begin(self, &queue, receive.auto_ack)?;
        loop {
            let slot = {
                let (taken, slot) = pull.take(receive)?;
                if !taken.is_empty() {
                    return Held::new(&queue, taken, receive.auto_ack, self.now()).hand_out(self).await;
                }
                slot
            };
            if self.shared().is_closed() {
                return Ok(Vec::new());
            }
            let Some(slot) = slot else {
                // The log is not looked through yet: "nothing there" would be a guess, however little time there was to wait.
                tokio::task::yield_now().await;
                continue;
            };
            let left = deadline.since(self.now().mono);
            if left.is_zero() {
                return Ok(Vec::new());
            }
            let _ = tokio::time::timeout(left, slot.notify.notified()).await;
        }
    }

    /// Ends deliveries; ready when that is durable. One answer each, in order. What it leads to is begun for all of them, of whatever queues,
    /// before it waits for any: they share a sync.
    pub async fn settle(&self, settlements: Vec<(Receipt, Settle)>) -> Vec<Result<(), SettleError>> {
        let mut answers: Vec<Result<(), SettleError>> = settlements.iter().map(|_| Ok(())).collect();
        let mut by_queue: BTreeMap<EntityId, Vec<(usize, Receipt, Settle)>> = BTreeMap::new();
        for (at, (receipt, how)) in settlements.into_iter().enumerate() {
            by_queue.entry(receipt.queue).or_default().push((at, receipt, how));
        }
        let mut answer = |at: usize, result| {
            if let Some(answer) = answers.get_mut(at) {
                *answer = result;
            }
        };
        let mut under_way = Vec::with_capacity(by_queue.len());
        for group in by_queue.into_values() {
            let Some((_, receipt, _)) = group.first() else { continue };
            let queue = match self.queue_of(*receipt) {
                Ok(queue) => queue,
                Err(error) => {
                    group.iter().for_each(|(at, ..)| answer(*at, Err(error.clone())));
                    continue;
                }
            };
            let (now, mut settling) = (self.now(), Settling::default());
            {
                let mut guard = queue.lock(now);
                for (at, receipt, how) in group {
                    let result = self
                        .check_boot(receipt)
                        .and_then(|()| QueueOwner::settle_one(&mut guard, at, receipt.lease, how, &mut settling));
                    if result.is_err() {
                        answer(at, result);
                    }
                }
                guard.retire_pull();
            }
            under_way.push(queue.commit_settling(self.shared(), settling, now));
            self.shared().flush();
        }
        for settlements in under_way {
            for (at, error) in settlements.ended().await {
                answer(at, Err(error.into()));
            }
        }
        answers
    }

    /// Makes a lease last `by` from now.
    ///
    /// # Errors
    /// See [`SettleError`].
    pub fn extend(&self, receipt: Receipt, by: Duration) -> Result<(), SettleError> {
        let queue = self.queue_of(receipt)?;
        self.check_boot(receipt)?;
        let now = self.now();
        queue.lock(now).machine.extend(now, receipt.lease, by.min(MAX_LEASE))?;
        Ok(())
    }

    /// Looks at a queue's messages from an offset on without taking them; gives where to go on.
    ///
    /// # Errors
    /// See [`ConsumeError`].
    pub fn browse(&self, queue: &str, from: Offset, max: usize) -> Result<(Vec<Browsed>, Offset), ConsumeError> {
        let queue = self.readable(queue)?;
        Ok(queue.browse(self.shared(), from, max.clamp(1, MAX_RECEIVE_MESSAGES), self.now())?)
    }

    /// Starts moving a queue's messages back to where they came from, or elsewhere; one redrive a queue at a time.
    ///
    /// # Errors
    /// See [`ConsumeError`].
    pub fn redrive(&self, queue: &str, redrive: Redrive) -> Result<RedriveInfo, ConsumeError> {
        let queue = self.readable(queue)?;
        if let Some(to) = &redrive.to {
            self.may(Action::Write, "queue", to)?;
            if *to == *queue.name {
                let why = "the target is the queue itself".to_owned();
                return Err(ConsumeError::Invalid { field: "to".to_owned(), why });
            }
            self.space.queue(to).ok_or_else(|| missing(to))?;
        } else {
            // Each message is checked as it goes; who may write to none of the queues that lead here is told at once.
            let sources = self.space.dead_letter_sources(&queue.name);
            let mut refused = None;
            for source in &sources {
                match self.may(Action::Write, "queue", source) {
                    Ok(()) => refused = Some(Ok(())),
                    Err(error) => drop(refused.get_or_insert(Err(error))),
                }
            }
            refused.unwrap_or(Ok(()))?;
        }
        if redrive.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
            let why = "must be above 0 messages a second".to_owned();
            return Err(ConsumeError::Invalid { field: "rate".to_owned(), why });
        }
        queue.begin_redrive(redrive, self.principal.clone(), self.now())
    }

    /// Stops a redrive.
    ///
    /// # Errors
    /// See [`ConsumeError`].
    pub fn stop_redrive(&self, queue: &str) -> Result<RedriveInfo, ConsumeError> {
        let queue = self.readable(queue)?;
        queue.stop_redrive(self.now())
    }

    fn readable(&self, name: &str) -> Result<Arc<QueueOwner>, ConsumeError> {
        self.may(Action::Read, "queue", name)?;
        let queue = self.space.queue(name).ok_or_else(|| missing(name))?;
        if self.is_held(&queue) {
            return Err(ConsumeError::Held { entity: format!("queue {name:?}") });
        }
        Ok(queue)
    }

    /// The queue of a receipt, if the caller may read it. A receipt of another namespace is nobody's.
    pub(super) fn queue_of(&self, receipt: Receipt) -> Result<Arc<QueueOwner>, SettleError> {
        let queue = self.shared().queue_by_id(receipt.queue).ok_or(LeaseError::Unknown)?;
        if queue.namespace != self.space.id {
            return Err(LeaseError::Unknown.into());
        }
        self.may(Action::Read, "queue", &queue.name)?;
        Ok(queue)
    }

    /// Leases do not outlive the process.
    pub(super) fn check_boot(&self, receipt: Receipt) -> Result<(), SettleError> {
        if receipt.boot == self.shared().boot.0 { Ok(()) } else { Err(LeaseError::Expired.into()) }
    }
}

/// A receive under way.
struct Pull<'a> {
    session: &'a Session,
    queue: &'a Arc<QueueOwner>,
    consumer: crate::queue::ConsumerId,
    auto_ack: bool,
}

impl<'a> Pull<'a> {
    fn begin(session: &'a Session, queue: &'a Arc<QueueOwner>, auto_ack: bool) -> Result<Self, ConsumeError> {
        let consumer = queue.lock(session.now()).begin_pull(auto_ack)?;
        Ok(Self { session, queue, consumer, auto_ack })
    }

    /// Takes what is there; if nothing is, gives a slot to wait in (`None`: look again at once).
    fn take(&self, receive: Receive) -> Result<(Vec<Delivery<Payload>>, Option<WaitSlot>), ConsumeError> {
        if self.queue.is_deleted() {
            return Err(ConsumeError::Deleted(self.queue.name.to_string()));
        }
        let (shared, now) = (self.session.shared(), self.session.now());
        self.queue.check_sound(shared)?;
        let (mut out, mut slot) = (Vec::new(), None);
        {
            let mut guard = self.queue.lock(now);
            let credit = Credit { messages: receive.max, bytes: receive.max_bytes };
            let more = self.queue.take(shared, &mut guard, self.consumer, credit, &mut out)?;
            if out.is_empty() && !more {
                slot = Some(guard.wait_slot(shared, self.queue, Waiter::Delivery(self.consumer)));
            }
            if let Some(lease) = receive.lease.filter(|_| !self.auto_ack) {
                for delivery in &mut out {
                    if guard.machine.extend(now, delivery.lease, lease).is_ok() {
                        delivery.until = Some(now.mono.after(lease));
                    }
                }
            }
            self.queue.keep_state(shared, &mut guard);
        }
        shared.flush();
        Ok((out, slot))
    }
}

impl Drop for Pull<'_> {
    fn drop(&mut self) {
        self.queue.lock(self.session.now()).end_pull();
    }
}

fn missing(name: &str) -> ConsumeError {
    ConsumeError::NotFound { entity: format!("queue {name:?}") }
}

fn too_long(field: &str, limit: Duration) -> ConsumeError {
    ConsumeError::Invalid { field: field.to_owned(), why: format!("must be at most {} s", limit.as_secs()) }
}
