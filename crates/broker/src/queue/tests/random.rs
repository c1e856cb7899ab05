//! The machine against the model: random rules, operations and clocks, a tiny window, restarts. A failing seed is printed; give it back with
//! `POSTHOUSE_SEED=n`. `POSTHOUSE_SEEDS=n` tries more.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use types::{Monotonic, Now, Offset, Timestamp};

use super::super::*;
use super::model::{Model, Place};
use super::{plain, read};

const STEPS: usize = 120;
const SEEDS: u64 = 3000;

struct World {
    rng: fastrand::Rng,
    seed: u64,
    now: Now,
    log: BTreeMap<u64, Arrival<u64>>,
    next: u64,
    queue: Queue<u64>,
    model: Model,
    consumers: BTreeMap<ConsumerId, (ConsumerRules, bool)>,
    active: Option<ConsumerId>,
    next_consumer: u64,
    old_leases: Vec<Lease>,
    /// A page that was read before other things happened.
    late_page: Option<(PageRequest, Vec<Arrival<u64>>, Offset)>,
    /// No request is open and nothing is due that was not looked at.
    settled: bool,
    trace: Vec<String>,
}

fn rules(rng: &mut fastrand::Rng) -> QueueRules {
    let mut rules = plain();
    rules.window = rng.choice([1, 2, 4, 4, 8, 64]).unwrap_or(4);
    rules.window_bytes = rng.choice([0, 60, 1000]).unwrap_or(0);
    rules.keyed = rng.bool();
    rules.priority_levels = rng.choice([1, 1, 1, 3, 10]).unwrap_or(1);
    rules.retry.jitter = rng.bool();
    rules.retry.max_attempts = rng.choice([None, Some(1), Some(3)]).unwrap_or(None);
    rules.retry.initial = Duration::from_millis(rng.choice([0, 100, 3000]).unwrap_or(0));
    rules.retry.non_retryable = vec!["fatal".into()];
    rules.lease = rng.choice([None, Some(Duration::from_secs(5))]).unwrap_or(None);
    rules.delay = rng.choice([None, None, None, Some(Duration::from_secs(3))]).unwrap_or(None);
    limits(rng, &mut rules);
    rules
}

/// The rules that change as the queue runs.
fn limits(rng: &mut fastrand::Rng, rules: &mut QueueRules) {
    rules.ttl = rng.choice([None, None, Some(Duration::from_secs(20))]).unwrap_or(None);
    rules.single_active = rng.u8(0..4) == 0;
    rules.max_messages = rng.choice([None, None, Some(10), Some(30)]).unwrap_or(None);
    rules.max_bytes = rng.choice([None, None, None, Some(800)]).unwrap_or(None);
    rules.overflow = if rng.bool() { Overflow::Reject } else { Overflow::DropOldest };
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let rules = rules(&mut rng);
        Self {
            seed,
            now: Now { wall: Timestamp(1_000_000_000), mono: Monotonic(5) },
            log: BTreeMap::new(),
            next: rng.choice([0, 7, 65_530, u64::from(u32::MAX) - 20]).unwrap_or(0),
            queue: Queue::new(rules.clone(), rng.u64(..)),
            model: Model::new(rules),
            consumers: BTreeMap::new(),
            active: None,
            next_consumer: 0,
            old_leases: Vec::new(),
            late_page: None,
            settled: false,
            trace: Vec::new(),
            rng,
        }
    }

    fn step(&mut self) {
        self.settled = false;
        match self.rng.u32(0..100) {
            0..25 => self.publish(),
            25..45 => self.consume(),
            45..62 => self.settle(),
            62..72 => self.depart(),
            72..82 => self.pass_time(),
            82..86 => self.page(),
            86..88 => self.tick(),
            88..93 => self.come_and_go(),
            93 => self.extend(),
            94 => self.purge(),
            95..97 => self.change_rules(),
            97 => self.restart(),
            _ => self.drain(),
        }
        self.check();
    }

    fn say(&mut self, what: String) {
        self.trace.push(what);
    }

    fn publish(&mut self) {
        for _ in 0..self.rng.u32(1..6) {
            let mut arrival = super::message(self.next, self.now);
            let rng = &mut self.rng;
            arrival.weight = rng.u32(1..100);
            arrival.key = rng.choice([None, Some(1), Some(2), Some(3)]).unwrap_or(None);
            arrival.priority = rng.u8(0..12);
            let wait = rng.choice([-1000, 10, 990, 2500, 70_000, 200_000, 9_000_000]).unwrap_or(0);
            arrival.not_before = (rng.u8(0..4) == 0).then(|| Timestamp(self.now.wall.0 + wait));
            let ends = rng.choice([1000, 60_000]).unwrap_or(0);
            arrival.expires_at = (rng.u8(0..5) == 0).then(|| Timestamp(self.now.wall.0 + ends));
            let weight = u64::from(arrival.weight);
            let (messages, bytes) = self.model.count(|place| *place == Place::Waiting);
            let rules = &self.model.rules;
            let fits = rules.overflow == Overflow::DropOldest
                || (rules.max_messages.is_none_or(|max| messages < max)
                    && rules.max_bytes.is_none_or(|max| bytes + weight <= max));
            assert_eq!(self.queue.reserve(1, weight), fits, "reserve");
            if !fits {
                continue;
            }
            if self.rng.u8(0..10) == 0 {
                self.queue.unreserve(1, weight);
                self.next += 1;
                continue;
            }
            self.say(format!("enqueue {arrival:?}"));
            self.log.insert(self.next, Arrival { payload: None, ..arrival.clone() });
            self.next += self.rng.u64(1..3);
            self.model.enqueue(self.now, arrival.clone());
            self.queue.enqueue(self.now, arrival);
            self.events();
        }
    }

    /// Serves pages until none is wanted, so that the machine knows all that it can know.
    fn settle_down(&mut self) {
        self.apply_late_page();
        for _ in 0..2000 {
            self.tick();
            let Some(request) = self.queue.page_request(self.now) else {
                self.settled = true;
                return;
            };
            let most = self.rng.usize(1..20);
            let (records, read_to) = read(&self.log, &request, most);
            self.say(format!("page {request:?} gives {} to {read_to}", records.len()));
            self.queue.page_in(self.now, request, records, read_to);
            self.events();
        }
        panic!("paging does not end");
    }

    fn page(&mut self) {
        self.apply_late_page();
        let Some(request) = self.queue.page_request(self.now) else { return };
        let most = self.rng.usize(1..20);
        let (records, read_to) = read(&self.log, &request, most);
        self.say(format!("late page {request:?} gives {} to {read_to}", records.len()));
        self.late_page = Some((request, records, read_to));
    }

    fn apply_late_page(&mut self) {
        if let Some((request, records, read_to)) = self.late_page.take() {
            self.say(format!("apply {request:?}"));
            self.queue.page_in(self.now, request, records, read_to);
            self.events();
        }
    }

    fn allowed(&self, id: ConsumerId) -> bool {
        let Some((rules, _)) = self.consumers.get(&id) else { return false };
        if self.model.rules.single_active {
            return self.active == Some(id);
        }
        !self.consumers.values().any(|(other, ready)| *ready && other.priority > rules.priority)
    }

    fn consume(&mut self) {
        let Some(id) = self.rng.choice(self.consumers.keys().copied().collect::<Vec<_>>()) else { return };
        let auto_ack = self.consumers[&id].0.auto_ack;
        let allowed = self.allowed(id);
        let patient = self.rng.u8(0..3) > 0;
        let mut credit = self.rng.usize(1..8);
        loop {
            if patient {
                self.settle_down();
            }
            let bytes = if patient { u64::MAX } else { self.rng.u64(0..300) };
            let mut out = Vec::new();
            self.queue.deliver(self.now, id, Credit { messages: credit, bytes }, &mut out);
            self.say(format!("deliver to {id:?} of {credit}: {:?}", out.iter().map(|d| d.lease).collect::<Vec<_>>()));
            assert!(out.len() <= credit, "more than the credit");
            assert!(out.len() <= 1 || out.iter().map(|d| u64::from(d.weight)).sum::<u64>() <= bytes, "too many bytes");
            assert!(allowed || out.is_empty(), "{id:?} is not to be served");
            self.follow(id, &out, auto_ack);
            credit -= out.len();
            self.events();
            // It may have passed over what was in memory, and want to read on.
            let done = out.is_empty() && self.queue.page_request(self.now).is_none();
            if !patient || credit == 0 || done || !allowed {
                break;
            }
        }
        if patient && allowed && credit > 0 {
            let left = self.model.next(self.now);
            assert!(left.is_none(), "not delivered though ready: {left:?}");
            assert!(!self.queue.has_ready(self.now, id), "whoever waits would be woken for nothing, again and again");
        }
    }

    fn delivered(&mut self, id: ConsumerId, delivery: &Delivery<u64>, auto_ack: bool) {
        let offset = delivery.lease.offset;
        let msg = &self.model.all[&offset.0];
        assert!(self.model.may_go(self.now, msg), "must not be delivered: {msg:?}");
        assert_eq!(delivery.attempt, msg.attempts + 1, "attempt of {offset}");
        let again = msg.seen || msg.recorded || offset < self.model.recovered_delivered_to;
        assert_eq!(delivery.redelivered, again, "redelivered of {offset}");
        assert_eq!(delivery.weight, msg.arrival.weight);
        assert!(delivery.payload.is_none_or(|payload| payload == offset.0), "payload of {offset}");
        let ordered = !(self.model.rules.keyed && self.model.rules.priority_levels > 1);
        if self.settled && ordered {
            let first = self.model.next(self.now);
            assert!(
                first.is_none_or(|first| self.model.rank(first) >= self.model.rank(msg)),
                "{offset} overtook {first:?}"
            );
        }
        self.model.delivered(delivery, id, auto_ack);
    }

    fn leases(&self) -> Vec<(u64, Lease)> {
        let out = self.model.all.iter().filter_map(|(offset, msg)| match msg.place {
            Place::Out { lease, .. } => Some((*offset, lease)),
            _ => None,
        });
        out.collect()
    }

    fn settle(&mut self) {
        if self.rng.u8(0..6) == 0 {
            return self.settle_old();
        }
        for _ in 0..self.rng.u8(1..4) {
            let Some((offset, lease)) = self.rng.choice(self.leases()) else { return };
            let error = self.rng.choice([None, Some("fatal: no such order"), Some("busy")]).unwrap_or(None);
            let error: Option<std::sync::Arc<str>> = error.map(Into::into);
            let after = self.rng.choice([None, Some(0), Some(500), Some(100_000)]).unwrap_or(None);
            let how = match self.rng.u8(0..10) {
                0..4 => Settle::Ack,
                4..7 => Settle::Nack { after: after.map(Duration::from_millis), error, counts: self.rng.u8(0..4) > 0 },
                7 => Settle::Reject { error },
                _ => Settle::Release,
            };
            self.old_leases.push(lease);
            self.say(format!("settle {lease:?} {how:?}"));
            let settled = self.queue.settle(self.now, lease, how.clone()).expect("the lease is out");
            self.settled_as(offset, &how, settled);
            self.events();
        }
    }

    fn settled_as(&mut self, offset: u64, how: &Settle, settled: Settled<u64>) {
        let now = self.now;
        let msg = self.model.all.get_mut(&offset).expect("out");
        msg.seen = true;
        match (how, settled) {
            (Settle::Ack, Settled::Acked { weight }) => {
                assert_eq!(weight, msg.arrival.weight);
                msg.place = Place::Leaving { told: true };
                self.model.free(offset);
            }
            (Settle::Reject { .. }, Settled::Leaves(departure)) => {
                assert_eq!(departure.reason, LeaveReason::Rejected);
                msg.attempts += 1;
                self.left(offset, &departure);
            }
            (Settle::Release, Settled::Released) => self.model.back(offset, None, now),
            (Settle::Nack { counts, error, .. }, Settled::Leaves(departure)) => {
                msg.attempts += u32::from(*counts);
                let last = self.model.rules.retry.max_attempts.is_some_and(|max| *counts && msg.attempts >= max);
                match departure.reason {
                    LeaveReason::NonRetryable => assert!(error.as_ref().is_some_and(|e| e.starts_with("fatal"))),
                    LeaveReason::MaxAttempts => assert!(last),
                    ref other => panic!("a nack led to {other:?}"),
                }
                msg.recorded |= *counts;
                self.left(offset, &departure);
            }
            (Settle::Nack { after, counts, error }, Settled::Retry(record)) => {
                assert!(error.as_ref().is_none_or(|error| !error.starts_with("fatal")));
                msg.attempts += u32::from(*counts);
                self.retried(offset, &record, *after);
            }
            (Settle::Nack { counts: false, .. }, Settled::Released) => self.model.back(offset, None, now),
            (how, settled) => panic!("{how:?} led to {settled:?}"),
        }
    }

    fn retried(&mut self, offset: u64, record: &RetryRecord, after: Option<Duration>) {
        let rules = self.model.rules.retry.clone();
        let msg = self.model.all.get_mut(&offset).expect("out");
        msg.recorded = true;
        assert_eq!(record.offset, Offset(offset));
        assert_eq!(record.key, msg.arrival.key);
        assert_eq!(record.history.attempts, msg.attempts);
        let longest = rules.backoff(msg.attempts.max(1));
        let wait = record.due.since(self.now.wall);
        match after {
            Some(after) => assert_eq!(wait, after),
            None if rules.jitter => assert!(wait <= longest, "{wait:?} > {longest:?}"),
            None => assert_eq!(wait, longest),
        }
        self.model.back(offset, Some(record.due), self.now);
    }

    fn left(&mut self, offset: u64, departure: &Departure<u64>) {
        let msg = self.model.all.get_mut(&offset).expect("here");
        assert_eq!(departure.history.attempts, msg.attempts, "attempts of {offset}");
        msg.recorded |= matches!(departure.reason, LeaveReason::Rejected | LeaveReason::MaxAttempts);
        msg.place = Place::Leaving { told: true };
        self.model.free(offset);
    }

    fn settle_old(&mut self) {
        let Some(lease) = self.rng.choice(self.old_leases.clone()) else { return };
        let here = self.model.all.get(&lease.offset.0).map(|msg| msg.place);
        let expected = match here {
            Some(Place::Leaving { .. }) | None => LeaseError::Unknown,
            Some(_) => LeaseError::Expired,
        };
        let got = self.queue.settle(self.now, lease, Settle::Ack).expect_err("an old lease");
        // What was not looked at since the restart may be there or not.
        assert!(got == expected || self.queue.unread.contains(lease.offset), "{lease:?} {here:?} {got:?}");
    }

    fn extend(&mut self) {
        let Some((offset, lease)) = self.rng.choice(self.leases()) else { return };
        let by = Duration::from_millis(self.rng.u64(0..20) * 1000);
        self.queue.extend(self.now, lease, by).expect("the lease is out");
        let msg = self.model.all.get_mut(&offset).expect("out");
        if let Place::Out { until, .. } = &mut msg.place {
            *until = Some(self.now.mono.after(by));
        }
        self.say(format!("extend {lease:?} by {by:?}"));
    }

    fn depart(&mut self) {
        for _ in 0..self.rng.u8(1..6) {
            let told = self.model.all.iter().filter(|(_, msg)| msg.place == Place::Leaving { told: true });
            let Some(offset) = self.rng.choice(told.map(|(offset, _)| *offset).collect::<Vec<_>>()) else { return };
            if self.rng.u8(0..8) == 0 {
                self.say(format!("restore {offset}"));
                self.queue.restore(self.now, Offset(offset));
                let seen = self.model.all[&offset].seen;
                self.model.back(offset, None, self.now);
                self.model.all.get_mut(&offset).expect("restored").seen = seen;
                self.model.look_at_clock(self.now);
            } else {
                self.say(format!("departed {offset}"));
                self.log.remove(&offset);
                self.model.all.remove(&offset);
                self.queue.departed(Offset(offset));
            }
            self.events();
        }
    }

    fn pass_time(&mut self) {
        let ms = self.rng.choice([10, 100, 1000, 3000, 6000, 62_000, 130_000]).unwrap_or(10);
        self.now = self.now.after(Duration::from_millis(ms));
        if self.rng.u8(0..8) == 0 {
            let jump = self.rng.choice([-5_000_000, -60_000, -10, 50, 600_000, 10_000_000]).unwrap_or(0);
            self.now.wall.0 += jump;
        }
        self.say(format!("time is {:?}", self.now));
        self.model.look_at_clock(self.now);
        if self.rng.bool() {
            self.tick();
        }
    }

    fn tick(&mut self) {
        for _ in 0..1000 {
            let (mut retries, mut departures) = (Vec::new(), Vec::new());
            let more = self.queue.tick(self.now, &mut retries, &mut departures);
            self.say(format!("tick: {retries:?} {departures:?}"));
            for record in retries {
                self.ran_out(record.offset.0);
                self.retried(record.offset.0, &record, None);
            }
            // What left because its lease ran out was not yet in the model when its event came.
            for departure in departures {
                let offset = departure.offset.0;
                if departure.reason == LeaveReason::MaxAttempts {
                    self.ran_out(offset);
                } else {
                    self.events();
                    assert_eq!(
                        self.model.all[&offset].place,
                        Place::Leaving { told: false },
                        "{offset} left unannounced"
                    );
                }
                self.left(offset, &departure);
            }
            self.events();
            if !more {
                for msg in self.model.all.values() {
                    if let Place::Out { until: Some(until), .. } = msg.place {
                        assert!(until > self.now.mono, "the lease has run out: {msg:?}");
                    }
                }
                return;
            }
        }
        panic!("ticking does not end");
    }

    fn ran_out(&mut self, offset: u64) {
        let msg = self.model.all.get_mut(&offset).expect("out");
        let Place::Out { until: Some(until), lease, .. } = msg.place else { panic!("not out: {msg:?}") };
        assert!(until <= self.now.mono, "the lease has not run out: {msg:?}");
        msg.attempts += 1;
        msg.seen = true;
        self.old_leases.push(lease);
    }

    /// Follows what the machine does by itself.
    fn events(&mut self) {
        self.follow(ConsumerId(0), &[], false);
    }

    /// Follows deliveries, and what happened between them: one that expires may free its key for another.
    fn follow(&mut self, id: ConsumerId, out: &[Delivery<u64>], auto_ack: bool) {
        let mut events = Vec::new();
        self.queue.take_events(&mut events);
        let mut deliveries = out.iter();
        for event in events {
            match event {
                QueueEvent::Left { offset, reason: reason @ (LeaveReason::Expired | LeaveReason::Overflow) } => {
                    let msg = self.model.all.get_mut(&offset.0).expect("left, but was not there");
                    assert_eq!(msg.place, Place::Waiting, "{offset} left, but did not wait");
                    assert!(msg.was_due, "{offset} left before it was due");
                    assert!(reason == LeaveReason::Overflow || msg.was_expired, "{offset} is not expired");
                    msg.place = Place::Leaving { told: false };
                    self.model.free(offset.0);
                    self.trace.push(format!("{offset} left: {reason:?}"));
                }
                QueueEvent::Delivered { offset, consumer, attempt } => {
                    let delivery = deliveries.next().expect("an event without its delivery");
                    let told = (delivery.lease.offset, id, delivery.attempt);
                    assert_eq!((offset, consumer, attempt), told);
                    self.delivered(id, delivery, auto_ack);
                }
                QueueEvent::ActiveChanged { consumer } => self.active = consumer,
                _ => {}
            }
        }
        assert_eq!(deliveries.count(), 0, "deliveries without their events");
    }

    fn come_and_go(&mut self) {
        let id = self.rng.choice(self.consumers.keys().copied().collect::<Vec<_>>());
        match (self.rng.u8(0..4), id) {
            (0 | 1, _) => {
                self.next_consumer += 1;
                let id = ConsumerId(self.next_consumer);
                let lease = self.rng.choice([None, Some(Duration::from_secs(1))]).unwrap_or(None);
                let (exclusive, auto_ack) = (self.rng.u8(0..8) == 0, self.rng.u8(0..4) == 0);
                let rules = ConsumerRules { exclusive, priority: self.rng.i32(0..3), lease, auto_ack };
                let expected = if self.consumers.values().any(|(other, _)| other.exclusive) {
                    Err(AttachError::HeldExclusively)
                } else if exclusive && !self.consumers.is_empty() {
                    Err(AttachError::InUse)
                } else {
                    Ok(())
                };
                let got = self.queue.attach(id, rules);
                assert_eq!(got, expected);
                self.say(format!("attach {id:?} {rules:?}"));
                if got.is_ok() {
                    self.consumers.insert(id, (rules, false));
                }
            }
            (2, Some(id)) => {
                let ready = self.rng.bool();
                self.queue.set_ready(id, ready);
                self.consumers.get_mut(&id).expect("there").1 = ready;
                self.say(format!("set_ready {id:?} {ready}"));
            }
            (_, Some(id)) => {
                self.say(format!("detach {id:?}"));
                let mut out: Vec<_> = self.leases().into_iter().filter(|(offset, _)| {
                    matches!(self.model.all[offset].place, Place::Out { consumer, .. } if consumer == id)
                }).collect();
                out.sort_by_key(|(_, lease)| lease.serial);
                assert_eq!(self.queue.leases_of(id), out.iter().map(|(_, lease)| *lease).collect::<Vec<_>>());
                self.queue.detach(self.now, id);
                self.consumers.remove(&id);
                for (offset, lease) in out {
                    self.model.back(offset, None, self.now);
                    self.old_leases.push(lease);
                }
            }
            (_, None) => {}
        }
        self.events();
        self.model.look_at_clock(self.now);
    }

    fn purge(&mut self) {
        if self.rng.bool() {
            return;
        }
        let purge = self.queue.purge(self.now);
        self.say(format!("purge {purge:?}"));
        self.events();
        let (messages, weight) = self.model.count(|place| *place == Place::Waiting);
        assert_eq!((purge.messages, purge.weight), (messages, weight));
        self.model.all.retain(|_, msg| msg.place != Place::Waiting);
        let keep: Vec<_> = self.model.all.keys().map(|offset| Offset(*offset)).collect();
        assert_eq!(purge.keep, keep);
        self.log.retain(|offset, _| *offset >= purge.before.0 || purge.keep.contains(&Offset(*offset)));
        let here: Vec<_> = self.model.all.keys().copied().collect();
        self.model.begun.retain(|_, holder| here.contains(holder));
        self.model.failed.values_mut().for_each(|failed| failed.retain(|offset| here.contains(offset)));
    }

    fn change_rules(&mut self) {
        let mut rules = self.model.rules.clone();
        limits(&mut self.rng, &mut rules);
        rules.window = self.rng.choice([1, 4, 64]).unwrap_or(4);
        rules.priority_levels = self.rng.choice([1, 3, rules.priority_levels]).unwrap_or(1);
        self.say(format!("rules {rules:?}"));
        self.model.rules = rules.clone();
        if !rules.single_active {
            self.active = None;
        }
        self.model.look_at_clock(self.now);
        self.queue.set_rules(self.now, rules);
        self.events();
    }

    fn restart(&mut self) {
        self.late_page = None;
        // Departures under way are through, or not.
        let leaving = self.model.all.iter().filter(|(_, msg)| matches!(msg.place, Place::Leaving { .. }));
        for offset in leaving.map(|(offset, _)| *offset).collect::<Vec<_>>() {
            if self.rng.bool() {
                self.log.remove(&offset);
                self.model.all.remove(&offset);
            }
        }
        let retries: Vec<_> =
            self.queue.retries().into_iter().filter(|r| self.model.all.contains_key(&r.offset.0)).collect();
        if self.rng.bool() {
            self.model.rules.keyed = self.rng.bool();
        }
        self.model.begun.clear();
        self.model.failed.clear();
        for offset in self.model.all.keys().copied().collect::<Vec<_>>() {
            let first_due = self.model.first_due(&self.model.all[&offset].arrival);
            let msg = self.model.all.get_mut(&offset).expect("there");
            let record = retries.iter().find(|record| record.offset.0 == offset);
            assert_eq!(record.is_some(), msg.recorded, "record of {offset}");
            (msg.place, msg.seen) = (Place::Waiting, false);
            msg.due = record.map_or(first_due, |record| Some(record.due));
            (msg.was_due, msg.was_expired) = (false, false);
            if let (Some(_), Some(key), true) = (record, msg.arrival.key, self.model.rules.keyed) {
                self.model.failed.entry(key).or_default().insert(offset);
            }
        }
        self.model.look_at_clock(self.now);
        self.model.recovered_delivered_to = self.model.delivered_to;
        self.say(format!("restart with {} of {retries:?}", self.log.len()));
        let recovered = Recovered {
            start: Offset(self.log.keys().next().copied().unwrap_or(self.next)),
            end: Offset(self.next),
            records: self.log.len() as u64,
            weight: self.log.values().map(|record| u64::from(record.weight)).sum(),
            retries,
            delivered_to: self.queue.delivered_to(),
        };
        self.queue = Queue::recover(self.model.rules.clone(), self.rng.u64(..), recovered);
        self.consumers.clear();
        self.old_leases.clear();
        self.active = None;
    }

    /// Consumes and acknowledges all that is ready, to see that it can be done.
    fn drain(&mut self) {
        if self.rng.u8(0..3) > 0 || self.consumers.values().any(|(rules, _)| rules.exclusive) {
            return;
        }
        for id in self.consumers.keys().copied().collect::<Vec<_>>() {
            self.queue.set_ready(id, false);
            self.consumers.get_mut(&id).expect("there").1 = false;
        }
        let Some(id) = self.consumers.keys().copied().find(|id| self.allowed(*id)) else { return };
        let auto_ack = self.consumers[&id].0.auto_ack;
        loop {
            self.settle_down();
            let mut out = Vec::new();
            self.queue.deliver(self.now, id, Credit { messages: 5, bytes: u64::MAX }, &mut out);
            if out.is_empty() && self.queue.page_request(self.now).is_none() {
                break;
            }
            self.say(format!("drain {:?}", out.iter().map(|d| d.lease).collect::<Vec<_>>()));
            self.follow(id, &out, auto_ack);
            for delivery in &out {
                if !auto_ack {
                    let settled = self.queue.settle(self.now, delivery.lease, Settle::Ack).expect("out");
                    self.settled_as(delivery.lease.offset.0, &Settle::Ack, settled);
                }
            }
            self.events();
        }
        assert!(self.model.next(self.now).is_none(), "not drained: {:?}", self.model.next(self.now));
    }

    fn check(&mut self) {
        self.settled = false;
        if self.rng.u8(0..4) == 0 {
            self.settle_down();
        }
        let depth = self.queue.depth();
        let (waiting, waiting_bytes) = self.model.count(|place| *place == Place::Waiting);
        let (out, out_bytes) = self.model.count(|place| matches!(place, Place::Out { .. }));
        assert_eq!(depth.ready + depth.delayed + depth.parked, waiting, "{depth:?}");
        assert_eq!(depth.waiting_bytes, waiting_bytes, "{depth:?}");
        assert_eq!((depth.in_flight, depth.in_flight_bytes), (out, out_bytes), "{depth:?}");
        assert_eq!(self.queue.delivered_to(), self.model.delivered_to);
        self.check_inside();
        if self.settled {
            self.check_settled(depth);
        }
    }

    fn check_inside(&self) {
        let queue = &self.queue;
        let levels = queue.ready.levels();
        let held: usize = levels.iter().map(|level| level.held()).sum();
        let unheld: u64 = levels.iter().map(|level| level.unheld().len()).sum();
        assert_eq!(queue.ready.held(), held);
        assert!(held <= queue.memory.whole_window(), "the window holds {held}");
        let ready = held as u64 + unheld + queue.unsorted.len() + queue.unread.messages;
        assert_eq!(queue.counts.ready, ready, "ready");
        assert_eq!(queue.counts.delayed, queue.delays.len() + queue.soon.len(), "delayed");
        assert_eq!(queue.counts.parked, queue.keys.parked_len(), "parked");
        assert!(queue.peek(Offset::ZERO, usize::MAX).len() < 100_000);
    }

    fn check_settled(&self, depth: QueueDepth) {
        let rules = &self.model.rules;
        // What is at the head of a plain queue is not expired, and a queue that drops is not too full.
        if rules.priority_levels == 1 && !rules.keyed {
            let first = self.model.all.values().find(|msg| msg.place == Place::Waiting && msg.was_due);
            let due =
                |msg: &super::model::Msg| msg.due.is_none_or(|due| (due.0 + 9).div_euclid(10) * 10 <= self.now.wall.0);
            let ready = first.filter(|msg| due(msg));
            if let Some(first) = ready {
                let expiry = self.model.expiry(first);
                assert!(expiry.is_none_or(|expiry| expiry > self.now.wall), "expired at the head: {first:?}");
            }
        }
        if rules.overflow == Overflow::DropOldest && depth.ready > 0 {
            let waiting = depth.ready + depth.delayed + depth.parked;
            assert!(rules.max_messages.is_none_or(|max| waiting <= max), "too many: {depth:?}");
            assert!(rules.max_bytes.is_none_or(|max| depth.waiting_bytes <= max), "too heavy: {depth:?}");
        }
        self.check_wakes();
        // The age is told to the second, once everything was looked at.
        if self.queue.unread.is_empty() && self.queue.unread.ageless.is_empty() {
            let here = self.model.all.values().filter(|msg| !matches!(msg.place, Place::Leaving { .. }));
            let oldest = here.map(|msg| msg.arrival.arrived).min();
            match (depth.oldest, oldest) {
                (Some(told), Some(oldest)) => assert!(told <= oldest && oldest.since(told).as_millis() < 1000),
                (told, oldest) => assert_eq!(told, oldest, "oldest"),
            }
        }
        for (offset, msg) in &self.model.all {
            let state = self.queue.state_of(Offset(*offset));
            match msg.place {
                Place::Leaving { .. } => assert_eq!(state, None),
                Place::Out { .. } => assert_eq!(state.map(|s| s.state), Some(BrowseState::InFlight)),
                Place::Waiting => assert_eq!(state.map(|s| s.attempts), Some(msg.attempts), "{msg:?}"),
            }
        }
    }
}

impl World {
    /// Whoever sleeps until the next tick misses nothing, and whoever waits for a message is woken.
    fn check_wakes(&self) {
        let sleep = self.queue.next_tick(self.now).unwrap_or(Duration::MAX);
        assert!(sleep > Duration::ZERO, "ticking would not end");
        for msg in self.model.all.values() {
            match (msg.place, msg.due) {
                (Place::Out { until: Some(until), .. }, _) => {
                    assert!(sleep <= until.since(self.now.mono), "sleeps {sleep:?} past the lease of {msg:?}");
                }
                (Place::Waiting, Some(due)) if !msg.was_due && self.queue.unread.is_empty() => {
                    let due = Timestamp((due.0 + 9).div_euclid(10) * 10);
                    assert!(sleep <= due.since(self.now.wall), "sleeps {sleep:?} past {msg:?}");
                }
                _ => {}
            }
        }
        if self.model.next(self.now).is_some() {
            for id in self.consumers.keys().filter(|id| self.allowed(**id)) {
                assert!(self.queue.has_ready(self.now, *id), "{id:?} is not woken");
            }
        }
    }
}

fn run(seed: u64) -> Result<(), String> {
    let mut world = World::new(seed);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for _ in 0..STEPS {
            world.step();
        }
    }));
    outcome.map_err(|_| {
        let from = world.trace.len().saturating_sub(if std::env::var("POSTHOUSE_SEED").is_ok() { 400 } else { 15 });
        format!("seed {} fails after:\n{}\nrules {:?}", world.seed, world.trace[from..].join("\n"), world.model.rules)
    })
}

#[test]
fn the_queue_does_what_its_model_says() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("POSTHOUSE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("POSTHOUSE_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if let Err(report) = run(seed) {
            panic!("{report}\nreplay with POSTHOUSE_SEED={seed}");
        }
    }
}
