//! Messages that come in together: taken at the price of one, but for what each one in memory costs.

use types::{Now, Offset, Timestamp};

use super::{Arrival, Overflow, Queue, QueueEvent};

/// Messages of consecutive offsets that came in at the same time, none with a not-before of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first one's place.
    pub first: Offset,
    /// How many.
    pub count: u64,
    /// What they weigh together, in bytes.
    pub weight: u64,
    /// When they came into this queue.
    pub arrived: Timestamp,
}

impl<P> Queue<P> {
    /// Takes durable messages whose room was reserved, as [`enqueue`](Self::enqueue) would one after the other. `arrivals` are
    /// the messages of `run` in order; only those that are kept in memory are asked for.
    pub fn enqueue_run(&mut self, now: Now, run: Run, arrivals: impl Iterator<Item = Arrival<P>>) {
        let end = run.first.plus(run.count);
        if self.looks_at_each() || self.ready.is_held_beyond(run.first.0) {
            arrivals.for_each(|arrival| self.enqueue(now, arrival));
            return;
        }
        self.unreserve(run.count, run.weight);
        self.end = self.end.max(end);
        self.events.push(QueueEvent::EnqueuedRun { first: run.first, count: run.count });
        self.counts.waiting_bytes += run.weight;
        self.counts.ready += run.count;
        self.ages.add_many(run.arrived, run.count);
        if run.first.0 < self.readable_to() {
            self.ready.add_run(run.first.0..end.0, arrivals, &mut self.memory);
        } else {
            self.ready.add_unheld_run(run.first.0..end.0);
        }
    }

    /// Whether messages that come in together may end up in different places.
    fn looks_at_each(&self) -> bool {
        let is_delayed = || self.delay_rules.iter().any(|(_, delay)| delay.is_some());
        let is_bounded = || self.rules.max_messages.is_some() || self.rules.max_bytes.is_some();
        let drops = self.rules.overflow == Overflow::DropOldest && is_bounded();
        self.levels() > 1 || self.rules.keyed || drops || is_delayed()
    }
}
