//! How deliveries end, and how messages leave.

use std::sync::Arc;
use std::time::Duration;

use types::{Now, Offset};

use super::breaker::{Change, Outcome};
use super::consumers::Consumer;
use super::leases::InFlight;
use super::machine::Leaving;
use super::retry::Verdict;
use super::{
    Arrival, ConsumerId, Departure, Lease, LeaseError, LeaveReason, Out, Overflow, Queue, QueueEvent, Settle, Settled,
};

/// What the history says of an attempt whose lease ran out.
const LEASE_EXPIRED: &str = "lease expired";
/// Most messages that one call drops from a full queue.
const MAX_SHED: usize = 1024;

/// A failed delivery.
struct Failed {
    after: Option<Duration>,
    error: Option<Arc<str>>,
    counts: bool,
    lease_expired: bool,
}

impl<P> Queue<P> {
    /// Ends a delivery.
    ///
    /// # Errors
    /// If the lease ran out, or there is no such delivery; nothing changed then.
    pub fn settle(&mut self, now: Now, lease: Lease, how: Settle) -> Result<Settled<P>, LeaseError> {
        let outcome = match &how {
            Settle::Ack => Outcome::Success,
            Settle::Reject { .. } | Settle::Nack { counts: true, .. } => Outcome::Failure,
            Settle::Release | Settle::Nack { counts: false, .. } => Outcome::Untried,
        };
        let Some(entry) = self.end_delivery(now, lease, outcome) else { return Err(self.why_no_lease(lease)) };
        Ok(match how {
            Settle::Ack => {
                let weight = entry.weight;
                self.ack(entry);
                Settled::Acked { weight }
            }
            Settle::Nack { after, error, counts } => {
                self.fail(now, entry, Failed { after, error, counts, lease_expired: false })
            }
            Settle::Reject { error } => {
                self.note_failure(now, &entry, error, false);
                Settled::Leaves(self.give_up(entry, LeaveReason::Rejected, true))
            }
            Settle::Release => {
                self.put_back(entry);
                Settled::Released
            }
        })
    }

    /// Ends a delivery whose lease has run out: a failed attempt.
    pub(super) fn expire_lease(&mut self, now: Now, lease: Lease) -> Option<Settled<P>> {
        let entry = self.end_delivery(now, lease, Outcome::Failure)?;
        let error = Some(LEASE_EXPIRED.into());
        Some(self.fail(now, entry, Failed { after: None, error, counts: true, lease_expired: true }))
    }

    fn end_delivery(&mut self, now: Now, lease: Lease, outcome: Outcome) -> Option<Arrival<P>> {
        let out = self.leases.take(lease)?;
        self.counts.in_flight_bytes -= u64::from(out.arrival.weight);
        if let Some(consumer) = self.consumers.get_mut(out.consumer) {
            consumer.settled();
            match consumer.breaker.settled(now.mono, self.rules.breaker.as_ref(), lease.serial, outcome) {
                Some(Change::Opened) => self.events.push(QueueEvent::BreakerOpened { consumer: out.consumer }),
                Some(Change::Closed) => self.events.push(QueueEvent::BreakerClosed { consumer: out.consumer }),
                None => {}
            }
        }
        Some(out.arrival)
    }

    fn why_no_lease(&self, lease: Lease) -> LeaseError {
        if self.state_of(lease.offset).is_some() { LeaseError::Expired } else { LeaseError::Unknown }
    }

    fn fail(&mut self, now: Now, entry: Arrival<P>, failed: Failed) -> Settled<P> {
        let offset = entry.offset;
        let error = failed.error.clone();
        if failed.counts {
            self.note_failure(now, &entry, failed.error, failed.lease_expired);
        }
        let attempts = self.failures.get(&offset.0).map_or(0, |failure| failure.history.attempts);
        let wait = match self.rules.retry.verdict(attempts, failed.counts, error.as_deref(), &mut self.rng) {
            Verdict::GiveUp(reason) => return Settled::Leaves(self.give_up(entry, reason, true)),
            Verdict::Again(wait) => failed.after.unwrap_or(wait),
        };
        let due = now.wall.after(wait);
        if !failed.counts && due <= now.wall {
            self.put_back(entry);
            return Settled::Released;
        }
        let failure = self.failures.entry(offset.0).or_default();
        failure.due = due;
        failure.key = entry.key;
        let record = failure.record(offset.0);
        self.seen.insert(offset.0);
        self.counts.waiting_bytes += u64::from(entry.weight);
        if due > now.wall {
            self.delay(now, due, offset.0, Some(entry));
        } else {
            self.make_ready(entry);
        }
        Settled::Retry(record)
    }

    fn note_failure(&mut self, now: Now, entry: &Arrival<P>, error: Option<Arc<str>>, lease_expired: bool) {
        let error = error.map(|reason| self.reasons.share(reason));
        let failure = self.failures.entry(entry.offset.0).or_default();
        failure.history.fail(now.wall, error);
        failure.key = entry.key;
        failure.due = now.wall;
        let attempts = failure.history.attempts;
        self.events.push(QueueEvent::Failed { offset: entry.offset, attempts, lease_expired });
    }

    /// Untried, back to its place.
    fn put_back(&mut self, entry: Arrival<P>) {
        self.events.push(QueueEvent::Released { offset: entry.offset });
        self.seen.insert(entry.offset.0);
        self.counts.waiting_bytes += u64::from(entry.weight);
        self.make_ready(entry);
    }

    /// Gives up a message that is counted nowhere any more. Its owner hears of it by what this returns.
    fn give_up(&mut self, mut entry: Arrival<P>, reason: LeaveReason, seen: bool) -> Departure<P> {
        let offset = entry.offset;
        self.ages.remove(entry.arrived);
        self.events.push(QueueEvent::Left { offset, reason: reason.clone() });
        self.free_key(entry.key, offset);
        let history = self.failures.get(&offset.0).map(|failure| failure.history.clone()).unwrap_or_default();
        let departure = Departure { offset, reason, history, weight: entry.weight, payload: entry.payload.take() };
        let seen = seen || self.seen.contains(offset.0);
        self.leaving.insert(offset.0, Leaving { arrival: entry, seen });
        departure
    }

    /// Gives up a message that waited and was taken out of its place; the next tick puts it out.
    pub(super) fn give_up_waiting(&mut self, entry: Arrival<P>, reason: LeaveReason) {
        self.counts.lighten(u64::from(entry.weight));
        let departure = self.give_up(entry, reason, false);
        self.departures.push(departure);
    }

    /// Whether the queue holds more than it may and drops what is ready.
    pub(super) fn is_overfull(&self) -> bool {
        self.rules.overflow == Overflow::DropOldest
            && self.counts.ready > 0
            && (self.rules.max_messages.is_some_and(|max| self.counts.waiting() > max)
                || self.rules.max_bytes.is_some_and(|max| self.counts.waiting_bytes > max))
    }

    /// The lowest level that has ready messages: the first to be dropped from.
    pub(super) fn lowest_level(&self) -> Option<usize> {
        self.ready.levels().iter().position(|level| level.held() > 0 || !level.unheld().is_empty())
    }

    /// The level whose earliest entry is dropped next, if it is in memory.
    pub(super) fn sheddable(&self) -> Option<usize> {
        let number = self.lowest_level().filter(|_| self.is_overfull())?;
        let level = self.ready.levels().get(number)?;
        let head = level.head()?.offset.0;
        level.first_unheld().is_none_or(|unheld| head < unheld).then_some(number)
    }

    /// Drops the oldest ready messages of a full queue, as far as they are in memory; pages bring the rest.
    pub(super) fn shed(&mut self, _now: Now) {
        for _ in 0..MAX_SHED {
            let Some(level) = self.sheddable() else { return };
            self.drop_head(level, LeaveReason::Overflow);
        }
    }

    /// Moves the end of a lease.
    ///
    /// # Errors
    /// If the lease ran out, or there is no such delivery; nothing changed then.
    pub fn extend(&mut self, now: Now, lease: Lease, by: Duration) -> Result<(), LeaseError> {
        self.leases.extend(lease, now.mono.after(by)).map_err(|_| self.why_no_lease(lease))
    }

    /// All deliveries of a consumer that are out, ascending by serial.
    #[must_use]
    pub fn leases_of(&self, consumer: ConsumerId) -> Vec<Lease> {
        let its = self.leases.iter().filter(|(_, out)| out.consumer == consumer).map(|(lease, _)| lease);
        // Once they are all found, the rest is not looked at.
        its.take(self.out_of(consumer)).collect()
    }

    /// Removes a consumer; its deliveries go back to their places.
    pub fn detach(&mut self, _now: Now, consumer: ConsumerId) {
        let leases = self.leases_of(consumer);
        self.consumers.detach(consumer);
        for lease in leases {
            if let Some(out) = self.leases.take::<P>(lease) {
                self.counts.in_flight_bytes -= u64::from(out.arrival.weight);
                self.put_back(out.arrival);
            }
        }
        self.elect();
    }

    /// The delivery that a lease names, as [`restore_out`](Self::restore_out) takes it back; `None` if it is not out.
    #[must_use]
    pub fn out(&self, lease: Lease) -> Option<Out> {
        let out = self.leases.get(lease)?;
        Some(Out { lease, consumer: out.consumer, until: out.until })
    }

    /// Whether a delivery is out.
    ///
    /// # Errors
    /// If the lease ran out, or there is no such delivery.
    pub fn check_out(&self, lease: Lease) -> Result<(), LeaseError> {
        if self.leases.get(lease).is_some() { Ok(()) } else { Err(self.why_no_lease(lease)) }
    }

    /// How many deliveries of a consumer are out.
    #[must_use]
    pub fn out_of(&self, consumer: ConsumerId) -> usize {
        self.consumers.get(consumer).map_or(0, Consumer::out)
    }

    /// The deletion of an acked message was refused, and its consumer is to try again: the delivery is out as before. If the consumer
    /// or the lease's time is gone, the message is ready.
    pub fn restore_out(&mut self, now: Now, out: Out) {
        let Out { lease: Lease { offset, serial }, consumer: id, until } = out;
        if until.is_some_and(|until| until <= now.mono) || self.consumers.get(id).is_none() {
            self.restore(now, offset);
            return;
        }
        let Some(Leaving { arrival, .. }) = self.leaving.remove(&offset.0) else { return };
        self.ages.add(arrival.arrived);
        self.counts.in_flight_bytes += u64::from(arrival.weight);
        if let Some(key) = arrival.key
            && self.rules.keyed
        {
            self.keys.begin(key, offset.0);
        }
        self.leases.insert(&InFlight { arrival, serial, consumer: id, until });
        if let Some(consumer) = self.consumers.get_mut(id) {
            consumer.delivered();
        }
    }

    /// The deletion or move of an acked or departed message is durable.
    pub fn departed(&mut self, offset: Offset) {
        if self.leaving.remove(&offset.0).is_none() {
            return;
        }
        if !self.failures.is_empty() {
            self.failures.remove(&offset.0);
        }
        if !self.seen.is_empty() {
            self.seen.remove(offset.0);
        }
        if !self.unread.ageless.is_empty() {
            self.unread.ageless.remove(offset.0);
        }
    }

    /// The deletion or move of an acked or departed message was refused: it is ready again, in its place.
    pub fn restore(&mut self, _now: Now, offset: Offset) {
        let Some(Leaving { arrival, seen }) = self.leaving.remove(&offset.0) else { return };
        if seen {
            self.seen.insert(offset.0);
        }
        self.ages.add(arrival.arrived);
        self.counts.waiting_bytes += u64::from(arrival.weight);
        self.make_ready(arrival);
    }
}
