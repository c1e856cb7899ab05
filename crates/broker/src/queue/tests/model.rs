//! A queue as one would write it with no thought of memory: a list of messages, and a look at all of them for every question.

use std::collections::BTreeMap;

use types::{Now, Offset, Timestamp};

use super::super::*;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    Waiting,
    Out {
        lease: Lease,
        consumer: ConsumerId,
        until: Option<types::Monotonic>,
    },
    /// Acked, or given up; `told` once the owner knows and may say departed or restore.
    Leaving {
        told: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Msg {
    pub(super) arrival: Arrival<u64>,
    pub(super) place: Place,
    /// Not deliverable before.
    pub(super) due: Option<Timestamp>,
    /// It was due at some moment, so it may be ready though the clock was set back since.
    pub(super) was_due: bool,
    /// It was past its expiry at some moment.
    pub(super) was_expired: bool,
    pub(super) attempts: u32,
    /// It failed, so that the state log knows of it.
    pub(super) recorded: bool,
    pub(super) seen: bool,
}

pub(super) struct Model {
    pub(super) rules: QueueRules,
    pub(super) all: BTreeMap<u64, Msg>,
    /// Which delivered message holds a key.
    pub(super) begun: BTreeMap<u64, u64>,
    /// Which failed before a restart, by key: they hold back what is behind them.
    pub(super) failed: BTreeMap<u64, std::collections::BTreeSet<u64>>,
    pub(super) recovered_delivered_to: Offset,
    pub(super) delivered_to: Offset,
}

impl Model {
    pub(super) fn new(rules: QueueRules) -> Self {
        Self {
            rules,
            all: BTreeMap::new(),
            begun: BTreeMap::new(),
            failed: BTreeMap::new(),
            recovered_delivered_to: Offset::ZERO,
            delivered_to: Offset::ZERO,
        }
    }

    pub(super) fn first_due(&self, arrival: &Arrival<u64>) -> Option<Timestamp> {
        arrival.not_before.or_else(|| self.rules.delay.map(|delay| arrival.arrived.after(delay)))
    }

    pub(super) fn enqueue(&mut self, now: Now, arrival: Arrival<u64>) {
        let msg = Msg {
            due: self.first_due(&arrival),
            arrival,
            place: Place::Waiting,
            was_due: false,
            was_expired: false,
            attempts: 0,
            recorded: false,
            seen: false,
        };
        self.all.insert(msg.arrival.offset.0, msg);
        self.look_at_clock(now);
    }

    pub(super) fn expiry(&self, msg: &Msg) -> Option<Timestamp> {
        let ttl = self.rules.ttl.map(|ttl| msg.arrival.arrived.after(ttl));
        ttl.into_iter().chain(msg.arrival.expires_at).min()
    }

    /// Remembers what was ever due or expired.
    pub(super) fn look_at_clock(&mut self, now: Now) {
        let ttl = self.rules.ttl;
        for msg in self.all.values_mut() {
            msg.was_due |= msg.due.is_none_or(|due| due <= now.wall);
            let ends = ttl.map(|ttl| msg.arrival.arrived.after(ttl)).into_iter().chain(msg.arrival.expires_at).min();
            msg.was_expired |= ends.is_some_and(|end| end <= now.wall);
        }
    }

    fn blocked(&self, msg: &Msg) -> bool {
        let Some(key) = msg.arrival.key.filter(|_| self.rules.keyed) else { return false };
        let offset = msg.arrival.offset.0;
        let failed = self.failed.get(&key).and_then(|failed| failed.first());
        self.begun.get(&key).is_some_and(|holder| *holder != offset) || failed.is_some_and(|failed| *failed < offset)
    }

    /// Whether the message may be handed out.
    pub(super) fn may_go(&self, now: Now, msg: &Msg) -> bool {
        msg.place == Place::Waiting
            && msg.was_due
            && !self.blocked(msg)
            && self.expiry(msg).is_none_or(|expiry| expiry > now.wall)
    }

    /// Whether the message must be handed out, to whoever has credit. Due times count in the delay index's finest steps.
    pub(super) fn must_go(&self, now: Now, msg: &Msg) -> bool {
        self.may_go(now, msg) && msg.due.is_none_or(|due| (due.0 + 9).div_euclid(10) * 10 <= now.wall.0)
    }

    pub(super) fn rank(&self, msg: &Msg) -> (std::cmp::Reverse<u16>, u64) {
        let level = u16::from(msg.arrival.priority).min(self.rules.priority_levels.max(1) - 1);
        (std::cmp::Reverse(level), msg.arrival.offset.0)
    }

    /// The message that must be handed out next.
    pub(super) fn next(&self, now: Now) -> Option<&Msg> {
        self.all.values().filter(|msg| self.must_go(now, msg)).min_by_key(|msg| self.rank(msg))
    }

    pub(super) fn delivered(&mut self, delivery: &Delivery<u64>, consumer: ConsumerId, auto_ack: bool) {
        let offset = delivery.lease.offset;
        self.delivered_to = self.delivered_to.max(offset.next());
        let msg = self.all.get_mut(&offset.0).expect("delivered a message that is not there");
        if auto_ack {
            msg.place = Place::Leaving { told: true };
            msg.seen = true;
            self.free(offset.0);
        } else {
            msg.place = Place::Out { lease: delivery.lease, consumer, until: delivery.until };
            if let Some(key) = msg.arrival.key.filter(|_| self.rules.keyed) {
                self.begun.insert(key, offset.0);
                self.failed.entry(key).or_default().remove(&offset.0);
            }
        }
    }

    /// The message is on its way out: its key is free.
    pub(super) fn free(&mut self, offset: u64) {
        self.begun.retain(|_, holder| *holder != offset);
        for failed in self.failed.values_mut() {
            failed.remove(&offset);
        }
    }

    pub(super) fn back(&mut self, offset: u64, due: Option<Timestamp>, now: Now) {
        let msg = self.all.get_mut(&offset).expect("a message came back that is not there");
        msg.place = Place::Waiting;
        msg.due = due;
        msg.was_due = due.is_none_or(|due| due <= now.wall);
        msg.seen = true;
    }

    pub(super) fn count(&self, is: impl Fn(&Place) -> bool) -> (u64, u64) {
        let found: Vec<_> = self.all.values().filter(|msg| is(&msg.place)).collect();
        (found.len() as u64, found.iter().map(|msg| u64::from(msg.arrival.weight)).sum())
    }
}
