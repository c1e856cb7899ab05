//! Who takes messages from the queue, and whose turn it is.

use std::cmp::Reverse;

use types::Monotonic;

use super::breaker::Breaker;
use super::memory::NumberMap;
use super::{AttachError, ConsumerId, ConsumerRules};

/// One consumer.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) rules: ConsumerRules,
    pub(super) breaker: Breaker,
    /// It has credit.
    ready: bool,
    /// Grows with every consumer that attaches.
    order: u64,
    /// How many of its deliveries are out.
    out: usize,
    /// It takes nothing any more and stands in nobody's way, but keeps what it has.
    retired: bool,
}

/// All consumers of a queue.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    all: NumberMap<u64, Consumer>,
    attached: u64,
    active: Option<ConsumerId>,
}

impl Consumers {
    pub(super) fn attach(&mut self, id: ConsumerId, rules: ConsumerRules) -> Result<(), AttachError> {
        let mut others = self.all.values().filter(|consumer| !consumer.retired).peekable();
        let in_use = others.peek().is_some();
        if others.any(|consumer| consumer.rules.exclusive) {
            return Err(AttachError::HeldExclusively);
        }
        if rules.exclusive && in_use {
            return Err(AttachError::InUse);
        }
        self.attached += 1;
        let order = self.attached;
        let consumer = Consumer { rules, breaker: Breaker::new(), ready: false, order, out: 0, retired: false };
        self.all.insert(id.0, consumer);
        Ok(())
    }

    /// How many are paused by their breakers.
    pub(super) fn paused(&self) -> u64 {
        self.all.values().filter(|consumer| consumer.breaker.is_open()).count() as u64
    }

    pub(super) fn detach(&mut self, id: ConsumerId) -> Option<Consumer> {
        self.all.remove(&id.0)
    }

    pub(super) fn set_ready(&mut self, id: ConsumerId, ready: bool) {
        if let Some(consumer) = self.all.get_mut(&id.0) {
            consumer.ready = ready && !consumer.retired;
        }
    }

    pub(super) fn retire(&mut self, id: ConsumerId) {
        if let Some(consumer) = self.all.get_mut(&id.0) {
            (consumer.retired, consumer.ready) = (true, false);
        }
    }

    pub(super) fn get(&self, id: ConsumerId) -> Option<&Consumer> {
        self.all.get(&id.0)
    }

    pub(super) fn get_mut(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.all.get_mut(&id.0)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.all.values()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Consumer> {
        self.all.values_mut()
    }

    /// Chooses the single active consumer if there is none or it went. `Some` if that changed anything.
    ///
    /// The next one is one with credit if any has, then of the highest priority, then the one that waited longest.
    pub(super) fn elect(&mut self, single_active: bool) -> Option<Option<ConsumerId>> {
        let before = self.active;
        if !single_active {
            self.active = None;
            return None;
        }
        let serves = |active: ConsumerId| self.all.get(&active.0).is_some_and(|consumer| !consumer.retired);
        if before.is_none_or(|active| !serves(active)) {
            let best =
                |(_, consumer): &(&u64, &Consumer)| (consumer.ready, consumer.rules.priority, Reverse(consumer.order));
            self.active = self
                .all
                .iter()
                .filter(|(_, consumer)| !consumer.retired)
                .max_by_key(best)
                .map(|(id, _)| ConsumerId(*id));
        }
        (self.active != before).then_some(self.active)
    }

    /// How many messages the consumer may be given now, at most `wanted`.
    pub(super) fn allowance(&self, id: ConsumerId, now: Monotonic, single_active: bool, wanted: usize) -> usize {
        let Some(consumer) = self.all.get(&id.0) else { return 0 };
        if consumer.retired || (single_active && self.active != Some(id)) {
            return 0;
        }
        let waits = |other: &Consumer| {
            other.rules.priority > consumer.rules.priority && other.ready && other.breaker.allows(now, 1) > 0
        };
        if !single_active && self.all.len() > 1 && self.all.values().any(waits) {
            return 0;
        }
        consumer.breaker.allows(now, wanted)
    }
}

impl Consumer {
    /// A delivery is out.
    pub(super) fn delivered(&mut self) {
        self.out += 1;
    }

    /// How many deliveries are out.
    pub(super) fn out(&self) -> usize {
        self.out
    }

    /// A delivery was settled.
    pub(super) fn settled(&mut self) {
        self.out = self.out.saturating_sub(1);
    }
}
