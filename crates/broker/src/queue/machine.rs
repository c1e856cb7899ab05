//! The queue: what it holds, how it begins, and how messages come in. Each other thing it does has its own file.

use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringTreemap;
use types::{Now, Offset, Timestamp};

use super::ages::Ages;
use super::consumers::Consumers;
use super::delay::Delays;
use super::keys::{Keys, Promoted};
use super::leases::Leases;
use super::memory::{Memory, NumberMap, WindowBudget};
use super::ready::Ready;
use super::retry::{Failure, Reasons};
use super::rules::levels;
use super::{
    Arrival, AttachError, ConsumerId, ConsumerRules, Departure, QueueDepth, QueueEvent, QueueRules, Recovered,
    RetryRecord,
};

/// First serials are below this, so that they stay exact where numbers are doubles.
const MAX_FIRST_SERIAL: u64 = 1 << 52;

/// A queue's state machine. See [`QueueMachine`](super::QueueMachine) for what each method promises.
#[derive(Debug)]
pub struct Queue<P> {
    pub(super) rules: QueueRules,
    pub(super) memory: Memory,
    pub(super) ready: Ready<P>,
    /// Due, but of a level that must be read first. Only with priorities.
    pub(super) unsorted: RoaringTreemap,
    pub(super) delays: Delays<P>,
    /// Out of a coarse bucket: to be read for their due times.
    pub(super) soon: RoaringTreemap,
    pub(super) keys: Keys<P>,
    pub(super) leases: Leases,
    /// Acked or given up, and not yet gone from the log.
    pub(super) leaving: NumberMap<u64, Leaving<P>>,
    /// Given up, and not yet put out by `tick`.
    pub(super) departures: Vec<Departure<P>>,
    pub(super) failures: NumberMap<u64, Failure>,
    pub(super) reasons: Reasons,
    /// Delivered before, and still here.
    pub(super) seen: RoaringTreemap,
    pub(super) consumers: Consumers,
    pub(super) unread: Unread,
    pub(super) counts: Counts,
    pub(super) ages: Ages,
    pub(super) events: Vec<QueueEvent>,
    pub(super) rng: fastrand::Rng,
    /// The queue's delay, each from an offset on.
    pub(super) delay_rules: Vec<(Offset, Option<Duration>)>,
    /// After the last message.
    pub(super) end: Offset,
    pub(super) delivered_to: Offset,
    /// Messages before this offset may have been out when the broker stopped.
    pub(super) recovered_delivered_to: Offset,
    reserved_messages: u64,
    reserved_bytes: u64,
}

/// A message on its way out of the log.
#[derive(Debug)]
pub(super) struct Leaving<P> {
    pub(super) arrival: Arrival<P>,
    /// It was delivered: should it come back, it comes marked redelivered.
    pub(super) seen: bool,
}

/// What lies in the log since a restart and was not looked at yet.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// From here on ...
    pub(super) cursor: Offset,
    /// ... to here.
    pub(super) end: Offset,
    /// Messages there.
    pub(super) messages: u64,
    /// Offsets there that are known all the same: failed messages.
    pub(super) known: RoaringTreemap,
    /// Those of them whose time of arrival is not known yet.
    pub(super) ageless: RoaringTreemap,
}

impl Unread {
    pub(super) fn is_empty(&self) -> bool {
        self.cursor >= self.end
    }

    /// Whether the offset was not looked at yet.
    pub(super) fn contains(&self, offset: Offset) -> bool {
        offset >= self.cursor && offset < self.end && !self.known.contains(offset.0)
    }
}

/// Counters that change with every step.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) ready: u64,
    pub(super) delayed: u64,
    pub(super) parked: u64,
    pub(super) waiting_bytes: u64,
    pub(super) in_flight_bytes: u64,
}

impl Counts {
    pub(super) fn waiting(&self) -> u64 {
        self.ready + self.delayed + self.parked
    }

    /// Takes the weight of a message that waits no more, and is not counted as waiting any more. The weight of one that was found gone from
    /// the log is never known: the sum is right again once nothing waits.
    pub(super) fn lighten(&mut self, bytes: u64) {
        self.waiting_bytes = if self.waiting() == 0 { 0 } else { self.waiting_bytes.saturating_sub(bytes) };
    }
}

impl<P> Queue<P> {
    /// An empty queue. `seed` feeds the jitter, and the first serial: let it differ from one start to the next.
    #[must_use]
    pub fn new(rules: QueueRules, seed: u64) -> Self {
        Self::recover(rules, seed, Recovered::default())
    }

    /// From now on counts what it holds in memory in a common budget, and holds little once that is spent.
    pub fn share_budget(&mut self, budget: Arc<WindowBudget>) {
        self.memory.share(budget);
    }

    /// A queue after a restart.
    #[must_use]
    pub fn recover(rules: QueueRules, seed: u64, recovered: Recovered) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let first_serial = rng.u64(0..MAX_FIRST_SERIAL);
        let mut queue = Self {
            memory: Memory::new(rules.window, rules.window_bytes),
            ready: Ready::new(levels(&rules)),
            unsorted: RoaringTreemap::new(),
            delays: Delays::new(),
            soon: RoaringTreemap::new(),
            keys: Keys::new(),
            leases: Leases::new(first_serial),
            leaving: NumberMap::default(),
            departures: Vec::new(),
            failures: NumberMap::default(),
            reasons: Reasons::default(),
            seen: RoaringTreemap::new(),
            consumers: Consumers::default(),
            unread: Unread { cursor: recovered.start, end: recovered.end, ..Unread::default() },
            counts: Counts { waiting_bytes: recovered.weight, ..Counts::default() },
            ages: Ages::new(),
            events: Vec::new(),
            rng,
            delay_rules: vec![(Offset::ZERO, rules.delay)],
            end: recovered.end,
            delivered_to: recovered.delivered_to,
            recovered_delivered_to: recovered.delivered_to,
            reserved_messages: 0,
            reserved_bytes: 0,
            rules,
        };
        let mut retries = recovered.retries;
        retries.sort_unstable_by_key(|retry| retry.offset);
        for retry in retries {
            queue.recover_retry(retry);
        }
        queue.unread.messages = recovered.records.saturating_sub(queue.unread.known.len());
        if queue.unread.messages == 0 && queue.unread.known.is_empty() {
            queue.unread.cursor = queue.unread.end;
        }
        queue.counts.ready += queue.unread.messages;
        queue
    }

    pub(super) fn recover_retry(&mut self, retry: RetryRecord) {
        let offset = retry.offset;
        if offset < self.unread.cursor || offset >= self.unread.end || !self.unread.known.insert(offset.0) {
            return;
        }
        self.unread.ageless.insert(offset.0);
        if let Some(key) = retry.key
            && self.rules.keyed
        {
            self.keys.hold(key, offset.0);
        }
        // There is no clock here, so all but the nearest go to the coarsest buckets: the first tick sorts them.
        self.delays.insert(Timestamp(i64::MIN / 2), retry.due, offset.0, None, &mut self.memory);
        self.counts.delayed += 1;
        let mut history = retry.history;
        history.last_error = history.last_error.map(|reason| self.reasons.share(reason));
        self.failures.insert(offset.0, Failure { history, key: retry.key, due: retry.due });
    }

    /// Reserves room for messages about to be committed; `false` if the queue is full and rejects.
    #[must_use]
    pub fn reserve(&mut self, messages: u64, bytes: u64) -> bool {
        let all_messages = self.reserved_messages.saturating_add(messages);
        let all_bytes = self.reserved_bytes.saturating_add(bytes);
        if self.rules.overflow.rejects() {
            let waiting = self.counts.waiting().saturating_add(all_messages);
            let waiting_bytes = self.counts.waiting_bytes.saturating_add(all_bytes);
            if self.rules.max_messages.is_some_and(|max| waiting > max)
                || self.rules.max_bytes.is_some_and(|max| waiting_bytes > max)
            {
                return false;
            }
        }
        self.reserved_messages = all_messages;
        self.reserved_bytes = all_bytes;
        true
    }

    /// Gives room back after a refused commit.
    pub fn unreserve(&mut self, messages: u64, bytes: u64) {
        self.reserved_messages = self.reserved_messages.saturating_sub(messages);
        self.reserved_bytes = self.reserved_bytes.saturating_sub(bytes);
    }

    /// Takes a durable message whose room was reserved.
    pub fn enqueue(&mut self, now: Now, arrival: Arrival<P>) {
        self.unreserve(1, u64::from(arrival.weight));
        self.end = self.end.max(arrival.offset.next());
        self.events.push(QueueEvent::Enqueued { offset: arrival.offset });
        self.counts.waiting_bytes += u64::from(arrival.weight);
        self.ages.add(arrival.arrived);
        self.sort_in(now, arrival);
        self.shed(now);
    }

    /// Puts a message that is counted nowhere where it belongs: it is ready, or waits for its time.
    pub(super) fn sort_in(&mut self, now: Now, arrival: Arrival<P>) {
        let due = self.due(&arrival);
        if due.is_some_and(|due| due > now.wall) {
            self.delay(now, due.unwrap_or_default(), arrival.offset.0, Some(arrival));
        } else {
            self.make_ready(arrival);
        }
    }

    /// When a message may be delivered at first.
    pub(super) fn due(&self, arrival: &Arrival<P>) -> Option<Timestamp> {
        arrival.not_before.or_else(|| {
            let in_force = self.delay_rules.iter().rfind(|(from, _)| *from <= arrival.offset);
            let delay = in_force.or(self.delay_rules.first()).and_then(|(_, delay)| *delay);
            delay.map(|delay| arrival.arrived.after(delay))
        })
    }

    pub(super) fn delay(&mut self, now: Now, due: Timestamp, offset: u64, entry: Option<Arrival<P>>) {
        self.counts.delayed += 1;
        self.delays.insert(now.wall, due, offset, entry, &mut self.memory);
    }

    /// Number of priority levels.
    pub(super) fn levels(&self) -> usize {
        self.ready.levels().len()
    }

    /// A message counted nowhere is due: it is ready, or parked.
    pub(super) fn make_ready(&mut self, entry: Arrival<P>) {
        let offset = entry.offset;
        if let Some(key) = entry.key
            && self.rules.keyed
            && self.keys.blocks(key, offset.0)
        {
            self.counts.parked += 1;
            self.keys.park(key, entry, &mut self.memory);
            return;
        }
        self.counts.ready += 1;
        let level = usize::from(entry.priority).min(self.levels() - 1);
        if offset.0 < self.readable_to() {
            self.ready.add(level, entry, &mut self.memory);
        } else {
            self.ready.add_unheld(level, offset.0);
        }
    }

    /// The same for a message that is not in memory.
    pub(super) fn make_ready_unheld(&mut self, offset: u64) {
        self.counts.ready += 1;
        if self.levels() == 1 {
            self.ready.add_unheld(0, offset);
        } else {
            self.unsorted.insert(offset);
        }
    }

    /// Messages from here on must not be delivered yet, as earlier ones are unread. Priorities without keys go by what is known.
    pub(super) fn readable_to(&self) -> u64 {
        if !self.unread.is_empty() && (self.levels() == 1 || self.rules.keyed) {
            self.unread.cursor.0
        } else {
            u64::MAX
        }
    }

    /// The message left the ready order, or its delivery ended for good: its key is free.
    pub(super) fn free_key(&mut self, key: Option<u64>, offset: Offset) {
        if let Some(key) = key
            && self.rules.keyed
            && let Some(promoted) = self.keys.release(key, offset.0, &mut self.memory)
        {
            self.promote(promoted);
        }
    }

    pub(super) fn promote(&mut self, promoted: Promoted<P>) {
        self.counts.parked -= 1;
        match promoted.entry {
            Some(entry) => self.make_ready(entry),
            None => self.make_ready_unheld(promoted.offset),
        }
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// If the queue is, or is asked to be, used exclusively while others are there.
    pub fn attach(&mut self, consumer: ConsumerId, rules: ConsumerRules) -> Result<(), AttachError> {
        self.consumers.attach(consumer, rules)?;
        self.elect();
        Ok(())
    }

    /// Says whether the consumer has credit.
    pub fn set_ready(&mut self, consumer: ConsumerId, ready: bool) {
        self.consumers.set_ready(consumer, ready);
    }

    /// The consumer takes nothing any more, and others may use the queue as if it were gone; what it has stays with it until it is settled
    /// or the consumer is detached. (AMQP's cancelled consumers.)
    pub fn retire(&mut self, consumer: ConsumerId) {
        self.consumers.retire(consumer);
        self.elect();
    }

    pub(super) fn elect(&mut self) {
        if let Some(consumer) = self.consumers.elect(self.rules.single_active) {
            self.events.push(QueueEvent::ActiveChanged { consumer });
        }
    }

    /// How many consumers are paused by their breakers.
    #[must_use]
    pub fn paused_consumers(&self) -> u64 {
        self.consumers.paused()
    }

    /// Counters.
    #[must_use]
    pub fn depth(&self) -> QueueDepth {
        QueueDepth {
            ready: self.counts.ready,
            unread: self.unread.messages,
            delayed: self.counts.delayed,
            parked: self.counts.parked,
            in_flight: self.leases.len() as u64,
            waiting_bytes: self.counts.waiting_bytes,
            in_flight_bytes: self.counts.in_flight_bytes,
            oldest: self.ages.oldest(),
        }
    }

    /// All failed messages that are still here, for a state log begun anew.
    #[must_use]
    pub fn retries(&self) -> Vec<RetryRecord> {
        let mut retries: Vec<_> = self.failures.iter().map(|(offset, failure)| failure.record(*offset)).collect();
        retries.sort_unstable_by_key(|retry| retry.offset);
        retries
    }

    /// What is to be recorded of the failures of a message that is here, or on its way out; `None` if it has not failed.
    #[must_use]
    pub fn failures_of(&self, offset: Offset) -> Option<RetryRecord> {
        self.failures.get(&offset.0).map(|failure| failure.record(offset.0))
    }

    /// Messages before this offset may have been handed out.
    #[must_use]
    pub fn delivered_to(&self) -> Offset {
        self.delivered_to
    }

    /// Takes the events since the last call.
    pub fn take_events(&mut self, out: &mut Vec<QueueEvent>) {
        out.append(&mut self.events);
    }
}
