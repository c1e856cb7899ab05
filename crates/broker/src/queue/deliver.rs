//! Handing out what is due.

use types::Now;
use types::Timestamp;

use super::leases::InFlight;
use super::machine::Leaving;
use super::{Arrival, ConsumerId, ConsumerRules, Credit, Delivery, LeaveReason, Queue, QueueEvent};

impl<P> Queue<P> {
    /// Hands out what is due, up to the credit, in order.
    pub fn deliver(&mut self, now: Now, consumer: ConsumerId, credit: Credit, out: &mut Vec<Delivery<P>>) {
        self.wake_due(now, usize::MAX);
        let wanted = credit.messages.min(self.lease_room(consumer));
        let allowed = self.consumers.allowance(consumer, now.mono, self.rules.single_active, wanted);
        let Some(rules) = self.consumers.get(consumer).map(|consumer| consumer.rules) else { return };
        let (mut given, mut bytes) = (0, 0_u64);
        while given < allowed {
            let Some((level, head)) = self.head() else { return };
            if self.is_expired(now.wall, head) {
                self.drop_head(level, LeaveReason::Expired);
                continue;
            }
            if let Some(key) = head.key
                && self.rules.keyed
                && self.keys.blocks(key, head.offset.0)
            {
                self.park_head(level, key);
                continue;
            }
            bytes = bytes.saturating_add(u64::from(head.weight));
            if given > 0 && bytes > credit.bytes {
                return;
            }
            let Some(entry) = self.ready.pop(level, &mut self.memory) else { return };
            out.push(self.hand_out(now, consumer, rules, entry));
            given += 1;
        }
    }

    /// The message whose turn it is, with its level; none if nothing is ready, or something must be read first.
    pub(super) fn head(&self) -> Option<(usize, &Arrival<P>)> {
        if !self.unsorted.is_empty() {
            return None;
        }
        let readable_to = self.readable_to();
        for (number, level) in self.ready.levels().iter().enumerate().rev() {
            let unheld = level.first_unheld().filter(|offset| *offset < readable_to);
            match (level.head(), unheld) {
                (Some(head), unheld) if unheld.is_none_or(|unheld| head.offset.0 < unheld) => {
                    return Some((number, head));
                }
                (None, None) => {}
                _ => return None,
            }
        }
        None
    }

    /// Gives up the earliest entry of a level; the next tick puts it out.
    pub(super) fn drop_head(&mut self, level: usize, reason: LeaveReason) {
        if let Some(entry) = self.ready.pop(level, &mut self.memory) {
            self.counts.ready -= 1;
            self.give_up_waiting(entry, reason);
        }
    }

    fn park_head(&mut self, level: usize, key: u64) {
        if let Some(entry) = self.ready.pop(level, &mut self.memory) {
            self.counts.ready -= 1;
            self.counts.parked += 1;
            self.keys.park(key, entry, &mut self.memory);
        }
    }

    fn hand_out(&mut self, now: Now, id: ConsumerId, rules: ConsumerRules, mut entry: Arrival<P>) -> Delivery<P> {
        let offset = entry.offset;
        let weight = u64::from(entry.weight);
        let payload = entry.payload.take();
        let serial = self.leases.next_serial();
        let failed =
            if self.failures.is_empty() { None } else { self.failures.get(&offset.0).map(|f| f.history.attempts) };
        let attempt = failed.unwrap_or(0).saturating_add(1);
        let redelivered = failed.is_some()
            || offset < self.recovered_delivered_to
            || (!self.seen.is_empty() && self.seen.contains(offset.0));
        let lease = rules.lease.or(self.rules.lease).filter(|_| !rules.auto_ack);
        let until = lease.map(|lease| now.mono.after(lease));
        let delivery = Delivery {
            lease: super::Lease { offset, serial },
            attempt,
            redelivered,
            until,
            weight: entry.weight,
            payload,
        };
        self.counts.ready -= 1;
        self.counts.lighten(weight);
        self.delivered_to = self.delivered_to.max(offset.next());
        self.events.push(QueueEvent::Delivered { offset, consumer: id, attempt });
        if rules.auto_ack {
            self.ack(entry);
            return delivery;
        }
        self.counts.in_flight_bytes += weight;
        if let Some(key) = entry.key
            && self.rules.keyed
        {
            self.keys.begin(key, offset.0);
        }
        self.leases.insert(&InFlight { arrival: entry, serial, consumer: id, until });
        if let Some(consumer) = self.consumers.get_mut(id) {
            consumer.breaker.delivered(serial);
            consumer.delivered();
        }
        delivery
    }

    /// The message is done: it stays only until the log has forgotten it.
    pub(super) fn ack(&mut self, entry: Arrival<P>) {
        self.ages.remove(entry.arrived);
        self.events.push(QueueEvent::Acked { offset: entry.offset });
        self.free_key(entry.key, entry.offset);
        self.leaving.insert(entry.offset.0, Leaving { arrival: entry, seen: true });
        if self.counts.waiting() == 0 && self.leases.len() == 0 {
            self.ages.clear();
        }
    }

    /// Whether the message's own expiry or the queue's time to live has passed.
    pub(super) fn is_expired(&self, wall: Timestamp, entry: &Arrival<P>) -> bool {
        self.expiry(entry).is_some_and(|expiry| expiry <= wall)
    }

    pub(super) fn expiry(&self, entry: &Arrival<P>) -> Option<Timestamp> {
        let ttl = self.rules.ttl.map(|ttl| entry.arrived.after(ttl));
        ttl.into_iter().chain(entry.expires_at).min()
    }

    /// How many more leases the queue may have out. A consumer that acknowledges at once needs none.
    fn lease_room(&self, consumer: ConsumerId) -> usize {
        if self.consumers.get(consumer).is_some_and(|consumer| consumer.rules.auto_ack) {
            return usize::MAX;
        }
        self.rules.max_in_flight.saturating_sub(self.leases.len())
    }

    /// Whether a consumer could be given something now, or a page might bring something.
    #[must_use]
    pub fn has_ready(&self, now: Now, consumer: ConsumerId) -> bool {
        let anything = !self.ready.is_empty()
            || !self.unread.is_empty()
            || !self.unsorted.is_empty()
            || self.delays.next().is_some_and(|due| due <= now.wall);
        anything
            && self.lease_room(consumer) > 0
            && self.consumers.allowance(consumer, now.mono, self.rules.single_active, 1) > 0
    }
}
