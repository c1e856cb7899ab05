//! A locked queue: what may be done to it while nobody else does.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::MutexGuard;
use tokio::sync::Notify;
use types::{Now, Offset};

use super::{AUTO_ACK_CONSUMER, Inner, NEVER, PULL_CONSUMER, PULL_RULES, QueueOwner, WaitSlot, Waiter};
use crate::dedup::DedupHash;
use crate::queue::{Arrival, AttachError, ConsumerId, ConsumerRules, Out, Run};
use crate::record::Payload;
use crate::shared::Shared;

/// A locked queue.
pub(crate) struct QueueGuard<'a> {
    pub(crate) owner: &'a QueueOwner,
    pub(super) inner: MutexGuard<'a, Inner>,
    pub(crate) now: Now,
}

impl Deref for QueueGuard<'_> {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.inner
    }
}

impl DerefMut for QueueGuard<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.inner
    }
}

impl<'a> QueueGuard<'a> {
    pub(crate) fn enqueue(&mut self, arrival: Arrival<Payload>) {
        let now = self.now;
        self.inner.machine.enqueue(now, arrival);
    }

    /// Takes messages that follow each other.
    pub(crate) fn enqueue_run(&mut self, run: Run, arrivals: impl Iterator<Item = Arrival<Payload>>) {
        let now = self.now;
        self.inner.machine.enqueue_run(now, run, arrivals);
    }

    pub(crate) fn departed(&mut self, offset: Offset) {
        self.inner.machine.departed(offset);
        self.inner.recorded.remove(offset.0);
    }

    /// A delivery whose acknowledgement was refused is out again, as if nothing had happened; if its consumer or its time is gone, it
    /// is ready.
    pub(crate) fn restore_out(&mut self, out: Out) {
        let now = self.now;
        if out.consumer == PULL_CONSUMER {
            // If it cannot come back, the message is ready.
            let _ = self.ensure_attached(PULL_CONSUMER, PULL_RULES);
        }
        self.inner.machine.restore_out(now, out);
        self.retire_pull();
    }

    /// Asks for a tick after `wait`, if none is due earlier. The next tick forgets it.
    pub(crate) fn tick_after(&mut self, wait: Duration) {
        let at = self.now.mono.after(wait);
        self.inner.retick = Some(self.inner.retick.map_or(at, |have| have.min(at)));
    }

    /// A tick begins.
    pub(crate) fn begin_tick(&mut self) {
        self.inner.retick = None;
    }

    pub(crate) fn restore(&mut self, offset: Offset) {
        let now = self.now;
        self.inner.machine.restore(now, offset);
    }

    pub(crate) fn unreserve(&mut self, messages: u64, bytes: u64) {
        self.inner.machine.unreserve(messages, bytes);
    }

    pub(crate) fn confirm_dedup(&mut self, ids: &[DedupHash]) {
        if let Some(dedup) = &mut self.inner.dedup {
            ids.iter().for_each(|id| dedup.confirm(*id, Offset::ZERO));
        }
    }

    pub(crate) fn cancel_dedup(&mut self, ids: &[DedupHash]) {
        if let Some(dedup) = &mut self.inner.dedup {
            ids.iter().for_each(|id| dedup.cancel(*id));
        }
    }

    /// Adds a standing consumer.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub(crate) fn attach(&mut self, rules: ConsumerRules) -> Result<ConsumerId, AttachError> {
        let consumer = ConsumerId(self.inner.next_consumer);
        self.inner.machine.attach(consumer, rules)?;
        self.inner.next_consumer += 1;
        self.inner.consumers += 1;
        self.used_again();
        Ok(consumer)
    }

    /// Removes a standing consumer; what it holds goes back.
    pub(crate) fn detach(&mut self, consumer: ConsumerId) {
        let now = self.now;
        self.inner.machine.detach(now, consumer);
        self.left();
    }

    /// Removes one that was retired before.
    pub(crate) fn detach_retired(&mut self, consumer: ConsumerId) {
        let now = self.now;
        self.inner.machine.detach(now, consumer);
    }

    /// A standing consumer takes nothing any more; it keeps what it holds until it is detached.
    pub(crate) fn retire(&mut self, consumer: ConsumerId) {
        self.inner.machine.retire(consumer);
        self.left();
    }

    fn left(&mut self) {
        let now = self.now;
        self.inner.consumers = self.inner.consumers.saturating_sub(1);
        self.inner.last_used = now.mono;
        self.consumer_left();
    }

    /// Somebody means to use the queue.
    pub(crate) fn touch(&mut self) {
        self.inner.last_used = self.now.mono;
    }

    /// A receive without a standing consumer begins.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub(crate) fn begin_pull(&mut self, auto_ack: bool) -> Result<ConsumerId, AttachError> {
        let consumer = if auto_ack { AUTO_ACK_CONSUMER } else { PULL_CONSUMER };
        let rules = ConsumerRules { auto_ack, ..PULL_RULES };
        self.ensure_attached(consumer, rules)?;
        self.inner.pull_receives += 1;
        self.inner.machine.set_ready(consumer, true);
        Ok(consumer)
    }

    /// Attaches one of the queue's own consumers if it is not yet.
    ///
    /// # Errors
    /// See [`AttachError`].
    pub(crate) fn ensure_attached(&mut self, consumer: ConsumerId, rules: ConsumerRules) -> Result<(), AttachError> {
        if !self.inner.internal.contains(&consumer) {
            self.inner.machine.attach(consumer, rules)?;
            self.inner.internal.insert(consumer);
        }
        Ok(())
    }

    /// A receive ends. Once none is under way and nothing it took is out, its consumer leaves, so that it stands in nobody's way.
    pub(crate) fn end_pull(&mut self) {
        self.inner.pull_receives = self.inner.pull_receives.saturating_sub(1);
        self.inner.last_used = self.now.mono;
        self.retire_pull();
    }

    /// See [`end_pull`](Self::end_pull).
    pub(crate) fn retire_pull(&mut self) {
        if self.inner.pull_receives > 0 {
            return;
        }
        let now = self.now;
        for consumer in [PULL_CONSUMER, AUTO_ACK_CONSUMER] {
            if self.inner.internal.contains(&consumer) {
                if self.inner.machine.out_of(consumer) == 0 {
                    self.release_internal(consumer, now);
                } else {
                    self.inner.machine.set_ready(consumer, false);
                }
            }
        }
    }

    /// Removes one of the queue's own consumers; what it holds goes back.
    pub(crate) fn release_internal(&mut self, consumer: ConsumerId, now: Now) {
        if self.inner.internal.remove(&consumer) {
            self.inner.machine.detach(now, consumer);
        }
    }

    /// Registers a wait for `owner`, which is this queue; it is woken once when what it waits for might be there, or the queue goes.
    pub(crate) fn wait_slot(&mut self, shared: &Shared, owner: &Arc<QueueOwner>, waiter: Waiter) -> WaitSlot {
        let (slot, notify) = (self.inner.next_wait, Arc::new(Notify::new()));
        self.inner.next_wait += 1;
        // IMPORTANT: looked at under the lock. If the end came after the caller looked, the call that wakes all has been already.
        if self.owner.is_deleted() || shared.is_closed() {
            notify.notify_one();
        }
        self.inner.waiting.insert(slot, (waiter, Arc::clone(&notify)));
        WaitSlot { owner: Arc::clone(owner), slot, notify }
    }

    /// Whether nobody has used the queue for `span`.
    pub(crate) fn unused_for(&self, span: Duration) -> bool {
        let in_use =
            self.inner.consumers > 0 || self.inner.pull_receives > 0 || self.inner.machine.depth().in_flight > 0;
        !in_use && self.now.mono.since(self.inner.last_used) >= span
    }
}

impl Drop for QueueGuard<'_> {
    fn drop(&mut self) {
        let now = self.now;
        let inner = &mut *self.inner;
        let mut events = std::mem::take(&mut inner.events);
        inner.machine.take_events(&mut events);
        events.iter().for_each(|event| inner.meter.count(event));
        events.clear();
        inner.events = events;
        inner.wake(now);
        let machine = inner.machine.next_tick(now).map(|wait| now.mono.after(wait));
        let next = [machine, inner.retick].into_iter().flatten().min();
        self.owner.next_tick.store(next.map_or(NEVER, |at| at.0), Ordering::SeqCst);
        if let Some(next) = next {
            self.owner.alarm.due_at(next);
        }
    }
}
