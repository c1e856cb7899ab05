//! One example for each rule.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use types::{Now, Offset};

use super::super::*;
use super::{CONSUMER, at, message, plain, read};

const ONE: ConsumerId = ConsumerId(1);
const TWO: ConsumerId = ConsumerId(2);

/// A queue with consumer 1, a log to page from, and a clock.
struct Bench {
    queue: Queue<u64>,
    log: BTreeMap<u64, Arrival<u64>>,
    now: Now,
    departures: Vec<Departure<u64>>,
    retries: Vec<RetryRecord>,
}

fn bench(rules: QueueRules) -> Bench {
    let mut queue = Queue::new(rules, 1);
    queue.attach(ONE, CONSUMER).unwrap();
    Bench { queue, log: BTreeMap::new(), now: at(0), departures: Vec::new(), retries: Vec::new() }
}

impl Bench {
    fn put(&mut self, offset: u64, change: impl FnOnce(&mut Arrival<u64>)) {
        let mut arrival = message(offset, self.now);
        change(&mut arrival);
        assert!(self.queue.reserve(1, u64::from(arrival.weight)), "the queue is full");
        self.log.insert(offset, Arrival { payload: None, ..arrival.clone() });
        self.queue.enqueue(self.now, arrival);
    }

    fn put_all(&mut self, offsets: std::ops::Range<u64>) {
        for offset in offsets {
            self.put(offset, |_| {});
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms));
        self.tick();
    }

    fn tick(&mut self) {
        while self.queue.tick(self.now, &mut self.retries, &mut self.departures) {}
        while let Some(request) = self.queue.page_request(self.now) {
            let (records, read_to) = read(&self.log, &request, usize::MAX);
            self.queue.page_in(self.now, request, records, read_to);
            while self.queue.tick(self.now, &mut self.retries, &mut self.departures) {}
        }
    }

    fn take_of(&mut self, consumer: ConsumerId, messages: usize) -> Vec<Delivery<u64>> {
        self.tick();
        let mut out = Vec::new();
        self.queue.deliver(self.now, consumer, Credit { messages, bytes: u64::MAX }, &mut out);
        out
    }

    fn take(&mut self, messages: usize) -> Vec<Delivery<u64>> {
        self.take_of(ONE, messages)
    }

    /// The offsets and attempts of what is delivered next.
    fn check(&mut self, messages: usize, expected: &[(u64, u32)]) -> Vec<Lease> {
        let out = self.take(messages);
        let got: Vec<_> = out.iter().map(|delivery| (delivery.lease.offset.0, delivery.attempt)).collect();
        assert_eq!(got, expected);
        out.iter().map(|delivery| delivery.lease).collect()
    }

    fn settle(&mut self, lease: Lease, how: Settle) -> Settled<u64> {
        self.queue.settle(self.now, lease, how).expect("the lease is out")
    }

    fn fail(&mut self, lease: Lease, error: &str) -> Settled<u64> {
        self.settle(lease, Settle::Nack { after: None, error: Some(error.into()), counts: true })
    }

    fn events(&mut self) -> Vec<QueueEvent> {
        let mut events = Vec::new();
        self.queue.take_events(&mut events);
        events
    }
}

#[test]
fn what_comes_back_goes_to_its_place() {
    let mut bench = bench(plain());
    bench.put_all(0..5);
    let leases = bench.check(3, &[(0, 1), (1, 1), (2, 1)]);
    assert!(matches!(bench.settle(leases[1], Settle::Release), Settled::Released));
    assert!(matches!(bench.settle(leases[0], Settle::Ack), Settled::Acked { weight: 10 }));
    let again = bench.take(9);
    assert_eq!(again.iter().map(|d| d.lease.offset.0).collect::<Vec<_>>(), [1, 3, 4]);
    assert_eq!(again.iter().map(|d| d.redelivered).collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(bench.queue.settle(bench.now, leases[1], Settle::Ack).unwrap_err(), LeaseError::Expired);
    assert_eq!(bench.queue.settle(bench.now, leases[0], Settle::Ack).unwrap_err(), LeaseError::Unknown);
}

#[test]
fn credit_counts_messages_and_bytes() {
    let mut bench = bench(plain());
    bench.put_all(0..4);
    let mut out = Vec::new();
    bench.queue.deliver(bench.now, ONE, Credit { messages: 9, bytes: 25 }, &mut out);
    assert_eq!(out.len(), 2);
    bench.queue.deliver(bench.now, ONE, Credit { messages: 9, bytes: 1 }, &mut out);
    assert_eq!(out.len(), 3, "one is given even if it weighs more");
}

#[test]
fn a_failure_waits_longer_each_time_and_then_is_given_up() {
    let mut bench = bench(plain());
    bench.put_all(0..1);
    for (attempt, wait) in [(1, 1000), (2, 2000)] {
        let leases = bench.check(1, &[(0, attempt)]);
        let Settled::Retry(record) = bench.fail(leases[0], "busy") else { panic!("not retried") };
        assert_eq!(record.due, bench.now.after(Duration::from_millis(wait)).wall);
        assert_eq!(record.history.attempts, attempt);
        bench.pass(wait - 1);
        bench.check(1, &[]);
        bench.pass(1);
    }
    let leases = bench.check(1, &[(0, 3)]);
    let Settled::Leaves(departure) = bench.fail(leases[0], "still busy") else { panic!("not given up") };
    assert_eq!(departure.reason, LeaveReason::MaxAttempts);
    assert_eq!(departure.history.attempts, 3);
    assert_eq!(departure.history.first_failed, Some(at(0).wall));
    assert_eq!(departure.history.last_error.as_deref(), Some("still busy"));
    assert_eq!(bench.queue.depth(), QueueDepth::default());
}

#[test]
fn the_wait_is_capped_and_its_jitter_stays_within() {
    let mut rules = plain().retry;
    let waits: Vec<_> = [1, 2, 3, 7, 100, u32::MAX].iter().map(|failed| rules.backoff(*failed).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 60, 60, 60]);
    rules.jitter = true;
    rules.max_attempts = None;
    let mut rng = fastrand::Rng::with_seed(3);
    let mut draw = || match rules.verdict(4, true, None, &mut rng) {
        super::super::retry::Verdict::Again(wait) => wait.as_millis(),
        other => panic!("{other:?}"),
    };
    let drawn: Vec<_> = (0..1000).map(|_| draw()).collect();
    assert!(drawn.iter().all(|wait| *wait <= 8000));
    assert!(drawn.iter().any(|wait| *wait < 800) && drawn.iter().any(|wait| *wait > 7200), "not full jitter");
}

#[test]
fn a_reason_that_is_not_retried_is_told_by_its_name() {
    let mut rules = plain();
    rules.retry.non_retryable = vec!["BadOrder".into()];
    let mut bench = bench(rules);
    bench.put_all(0..3);
    let leases = bench.check(3, &[(0, 1), (1, 1), (2, 1)]);
    let left = |settled| matches!(settled, Settled::Leaves(Departure { reason: LeaveReason::NonRetryable, .. }));
    assert!(left(bench.fail(leases[0], "BadOrder")));
    assert!(left(bench.fail(leases[1], "BadOrder: no such article")));
    assert!(!left(bench.fail(leases[2], "BadOrders: many")));
}

#[test]
fn a_nack_may_name_its_wait_and_need_not_count() {
    let mut bench = bench(plain());
    bench.put_all(0..1);
    let leases = bench.check(1, &[(0, 1)]);
    let wait = Some(Duration::from_secs(7));
    let settled = bench.settle(leases[0], Settle::Nack { after: wait, error: None, counts: false });
    assert!(matches!(settled, Settled::Retry(record) if record.history.attempts == 0));
    bench.pass(6999);
    bench.check(1, &[]);
    bench.pass(1);
    let leases = bench.check(1, &[(0, 1)]);
    let zero = Some(Duration::ZERO);
    assert!(matches!(
        bench.settle(leases[0], Settle::Nack { after: zero, error: None, counts: true }),
        Settled::Retry(_)
    ));
    bench.check(1, &[(0, 2)]);
}

#[test]
fn a_lease_that_runs_out_is_a_failed_attempt() {
    let mut bench = bench(plain());
    bench.put_all(0..2);
    let leases = bench.check(2, &[(0, 1), (1, 1)]);
    bench.pass(20_000);
    bench.queue.extend(bench.now, leases[1], Duration::from_secs(30)).unwrap();
    assert_eq!(bench.queue.next_tick(bench.now), Some(Duration::from_secs(10)));
    bench.pass(10_000);
    assert_eq!(bench.retries.len(), 1);
    assert_eq!(bench.retries[0].history.last_error.as_deref(), Some("lease expired"));
    assert_eq!(bench.queue.extend(bench.now, leases[0], Duration::from_secs(1)), Err(LeaseError::Expired));
    assert_eq!(bench.queue.settle(bench.now, leases[0], Settle::Ack).unwrap_err(), LeaseError::Expired);
    bench.settle(leases[1], Settle::Ack);
}

#[test]
fn a_key_is_held_by_its_failed_message_and_the_queue_goes_on() {
    let mut bench = bench(QueueRules { keyed: true, ..plain() });
    for (offset, key) in [(0, Some(7)), (1, Some(7)), (2, Some(8)), (3, None), (4, Some(7)), (5, None)] {
        bench.put(offset, |arrival| arrival.key = key);
    }
    let leases = bench.check(9, &[(0, 1), (2, 1), (3, 1), (5, 1)]);
    assert_eq!(bench.queue.depth().parked, 2);
    assert_eq!(bench.queue.state_of(Offset(1)).map(|entry| entry.state), Some(BrowseState::Parked));
    bench.fail(leases[0], "busy");
    bench.check(9, &[]);
    bench.pass(1000);
    let leases = bench.check(9, &[(0, 2)]);
    bench.settle(leases[0], Settle::Ack);
    let leases = bench.check(9, &[(1, 1)]);
    bench.settle(leases[0], Settle::Reject { error: None });
    bench.check(9, &[(4, 1)]);
    assert_eq!(bench.queue.depth().parked, 0);
}

#[test]
fn switching_key_order_frees_and_holds() {
    let mut bench = bench(QueueRules { keyed: true, window: 4, ..plain() });
    for offset in 0..10 {
        bench.put(offset, |arrival| arrival.key = Some(1));
    }
    let first = bench.check(9, &[(0, 1)]);
    bench.queue.set_rules(bench.now, plain());
    let more = bench.check(2, &[(1, 1), (2, 1)]);
    bench.queue.set_rules(bench.now, QueueRules { keyed: true, ..plain() });
    bench.settle(first[0], Settle::Ack);
    bench.check(9, &[]);
    bench.settle(more[0], Settle::Release);
    bench.check(9, &[]);
    bench.settle(more[1], Settle::Ack);
    let leases = bench.check(9, &[(1, 1)]);
    bench.settle(leases[0], Settle::Ack);
    bench.check(9, &[(3, 1)]);
    assert_eq!(bench.queue.counts.parked, bench.queue.keys.parked_len());
}

#[test]
fn keys_leave_nothing_behind() {
    let mut bench = bench(QueueRules { keyed: true, window: 4, ..plain() });
    for offset in 0..50 {
        bench.put(offset, |arrival| arrival.key = Some(offset % 3));
    }
    let mut seen = Vec::new();
    loop {
        let out = bench.take(2);
        if out.is_empty() {
            break;
        }
        for delivery in out {
            seen.push(delivery.lease.offset.0);
            bench.settle(delivery.lease, Settle::Ack);
            bench.queue.departed(delivery.lease.offset);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
    assert!(bench.queue.keys.is_clear());
    assert_eq!(bench.queue.memory.used_bytes(), 0);
}

#[test]
fn the_highest_priority_goes_first_even_if_the_window_is_full_of_others() {
    let mut bench = bench(QueueRules { priority_levels: 3, window: 4, ..plain() });
    for (offset, priority) in (0..12).zip([0, 1, 2, 9].into_iter().cycle()) {
        bench.put(offset, |arrival| arrival.priority = priority);
    }
    let mut order = Vec::new();
    loop {
        let out = bench.take(3);
        if out.is_empty() {
            break;
        }
        order.extend(out.iter().map(|delivery| delivery.lease.offset.0));
    }
    assert_eq!(order, [2, 3, 6, 7, 10, 11, 1, 5, 9, 0, 4, 8]);
}

#[test]
fn a_restart_sorts_priorities_to_the_end_of_the_log() {
    let mut bench = bench(QueueRules { priority_levels: 10, window: 4, ..plain() });
    for offset in 0..100 {
        bench.put(offset, |arrival| arrival.priority = u8::from(offset == 99) * 9);
    }
    let recovered = Recovered { end: Offset(100), records: 100, weight: 1000, ..Recovered::default() };
    bench.queue = Queue::recover(bench.queue.rules.clone(), 2, recovered);
    bench.queue.attach(ONE, CONSUMER).unwrap();
    bench.check(2, &[(99, 1), (0, 1)]);
    assert_eq!(bench.queue.depth().ready, 98);
}

#[test]
fn delays_end_on_time_held_exactly_or_in_buckets() {
    let mut bench = bench(QueueRules { window: 4, ..plain() });
    // One entry is held exactly; the others are bits, up to hours away.
    let waits = [500, 90_000, 1_000, 20_000_000, 300_000, 10];
    for (offset, wait) in (0..).zip(waits) {
        bench.put(offset, |arrival| arrival.not_before = Some(at(wait).wall));
    }
    bench.put(6, |_| {});
    bench.check(9, &[(6, 1)]);
    assert_eq!(bench.queue.depth().delayed, 6);
    let mut sorted: Vec<_> = waits.into_iter().zip(0..).collect();
    sorted.sort_unstable();
    for (wait, offset) in sorted {
        // Tick as an owner would: when the queue says.
        while let Some(wake) = bench.queue.next_tick(bench.now)
            && bench.now.after(wake).wall < at(wait).wall
        {
            bench.pass(u64::try_from(wake.as_millis()).unwrap().max(1));
            bench.check(9, &[]);
        }
        bench.now = at(wait);
        bench.check(9, &[(offset, 1)]);
        // Leases are not the matter here.
        for lease in bench.queue.leases_of(ONE) {
            bench.settle(lease, Settle::Ack);
        }
    }
}

#[test]
fn the_queues_delay_is_the_one_at_arrival() {
    let mut bench = bench(QueueRules { delay: Some(Duration::from_secs(5)), window: 4, ..plain() });
    bench.put_all(0..4);
    bench.put(4, |arrival| arrival.not_before = Some(at(1000).wall));
    bench.queue.set_rules(bench.now, QueueRules { window: 4, ..plain() });
    bench.put_all(5..6);
    bench.check(9, &[(5, 1)]);
    bench.pass(1000);
    bench.check(9, &[(4, 1)]);
    bench.pass(3990);
    bench.check(9, &[]);
    bench.pass(10);
    bench.check(9, &[(0, 1), (1, 1), (2, 1), (3, 1)]);
}

#[test]
fn a_queue_nobody_consumes_expires_in_time() {
    let mut bench = bench(QueueRules { ttl: Some(Duration::from_secs(10)), window: 4, ..plain() });
    bench.put_all(0..50);
    bench.pass(5000);
    bench.put_all(50..60);
    assert_eq!(bench.queue.next_tick(bench.now), Some(Duration::from_secs(5)));
    bench.pass(5000);
    assert_eq!(bench.departures.len(), 50);
    assert!(bench.departures.iter().all(|departure| departure.reason == LeaveReason::Expired));
    assert_eq!(bench.queue.depth().ready, 10);
    assert_eq!(bench.queue.next_tick(bench.now), Some(Duration::from_secs(5)));
}

#[test]
fn an_expired_message_is_never_delivered() {
    let mut bench = bench(plain());
    bench.put(0, |arrival| arrival.expires_at = Some(at(100).wall));
    bench.put(1, |_| {});
    bench.now = at(100);
    let mut out = Vec::new();
    bench.queue.deliver(bench.now, ONE, Credit { messages: 9, bytes: 99 }, &mut out);
    assert_eq!(out.iter().map(|delivery| delivery.lease.offset.0).collect::<Vec<_>>(), [1]);
    assert_eq!(bench.queue.next_tick(bench.now), Some(Duration::ZERO));
    bench.tick();
    assert_eq!(bench.departures.len(), 1);
}

#[test]
fn a_full_queue_refuses() {
    let mut bench = bench(QueueRules { max_messages: Some(2), max_bytes: Some(100), ..plain() });
    assert!(!bench.queue.reserve(3, 10));
    assert!(!bench.queue.reserve(1, 101));
    assert!(bench.queue.reserve(1, 10));
    bench.put_all(0..1);
    assert!(!bench.queue.reserve(1, 10), "reserved room counts");
    bench.queue.unreserve(1, 10);
    bench.check(9, &[(0, 1)]);
    assert!(bench.queue.reserve(2, 20), "what is in flight does not count");
}

#[test]
fn a_full_queue_drops_its_oldest() {
    let rules = QueueRules { max_messages: Some(3), overflow: Overflow::DropOldest, window: 2, ..plain() };
    let mut bench = bench(rules);
    bench.put_all(0..10);
    bench.tick();
    assert_eq!(
        bench.departures.iter().map(|departure| departure.offset.0).collect::<Vec<_>>(),
        (0..7).collect::<Vec<_>>()
    );
    assert!(bench.departures.iter().all(|departure| departure.reason == LeaveReason::Overflow));
    bench.check(1, &[(7, 1)]);
    bench.check(1, &[(8, 1)]);
}

#[test]
fn a_full_queue_drops_the_lowest_priority_though_the_window_holds_higher_ones() {
    let rules = QueueRules { priority_levels: 2, overflow: Overflow::DropOldest, window: 2, ..plain() };
    let mut bench = bench(rules.clone());
    for offset in 0..10 {
        bench.put(offset, |arrival| arrival.priority = u8::from(offset >= 4));
    }
    bench.queue.set_rules(bench.now, QueueRules { max_messages: Some(5), ..rules });
    bench.tick();
    assert_eq!(bench.departures.iter().map(|departure| departure.offset.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn exclusive_consumers_are_alone() {
    let mut bench = bench(plain());
    let exclusive = ConsumerRules { exclusive: true, ..CONSUMER };
    assert_eq!(bench.queue.attach(TWO, exclusive), Err(AttachError::InUse));
    bench.queue.detach(bench.now, ONE);
    bench.queue.attach(TWO, exclusive).unwrap();
    assert_eq!(bench.queue.attach(ONE, CONSUMER), Err(AttachError::HeldExclusively));
}

#[test]
fn a_single_active_consumer_is_followed_by_the_next() {
    let mut bench = bench(QueueRules { single_active: true, ..plain() });
    bench.queue.attach(TWO, CONSUMER).unwrap();
    bench.put_all(0..3);
    assert!(bench.take_of(TWO, 1).is_empty() && !bench.queue.has_ready(bench.now, TWO));
    bench.check(2, &[(0, 1), (1, 1)]);
    bench.events();
    bench.queue.detach(bench.now, ONE);
    assert!(bench.events().contains(&QueueEvent::ActiveChanged { consumer: Some(TWO) }));
    assert!(bench.queue.has_ready(bench.now, TWO));
    assert_eq!(bench.take_of(TWO, 9).iter().map(|d| d.lease.offset.0).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn consumers_of_higher_priority_are_served_first() {
    let mut bench = bench(plain());
    bench.queue.attach(TWO, ConsumerRules { priority: 5, ..CONSUMER }).unwrap();
    bench.put_all(0..3);
    bench.queue.set_ready(TWO, true);
    bench.check(1, &[]);
    assert_eq!(bench.take_of(TWO, 1).len(), 1);
    bench.queue.set_ready(TWO, false);
    bench.check(9, &[(1, 1), (2, 1)]);
}

#[test]
fn an_automatic_acknowledgement_is_never_in_flight() {
    let mut bench = bench(plain());
    bench.queue.attach(TWO, ConsumerRules { auto_ack: true, ..CONSUMER }).unwrap();
    bench.put_all(0..2);
    let out = bench.take_of(TWO, 1);
    assert_eq!((out[0].until, bench.queue.depth().in_flight), (None, 0));
    assert_eq!(bench.queue.settle(bench.now, out[0].lease, Settle::Ack).unwrap_err(), LeaseError::Unknown);
    bench.queue.restore(bench.now, Offset(0));
    let again = bench.take(1);
    assert_eq!((again[0].lease.offset, again[0].redelivered), (Offset(0), true));
}

#[test]
fn a_breaker_opens_probes_and_doubles_its_pause() {
    let breaker = BreakerRules { failure_ratio: 0.5, window: 4, pause: Duration::from_secs(10) };
    let mut bench = bench(QueueRules { breaker: Some(breaker), lease: None, ..plain() });
    bench.put_all(0..20);
    let leases = bench.check(4, &[(0, 1), (1, 1), (2, 1), (3, 1)]);
    bench.settle(leases[0], Settle::Ack);
    bench.settle(leases[1], Settle::Ack);
    bench.fail(leases[2], "busy");
    assert!(bench.queue.has_ready(bench.now, ONE));
    bench.fail(leases[3], "busy");
    assert!(bench.events().contains(&QueueEvent::BreakerOpened { consumer: ONE }));
    assert!(!bench.queue.has_ready(bench.now, ONE));
    bench.pass(9_999);
    bench.check(9, &[]);
    assert_eq!(bench.queue.next_tick(bench.now), Some(Duration::from_millis(1)));
    bench.pass(1);
    let probe = bench.check(9, &[(2, 2)]);
    bench.check(9, &[]);
    bench.settle(probe[0], Settle::Reject { error: None });
    bench.pass(19_999);
    bench.check(9, &[]);
    bench.pass(1);
    let probe = bench.check(9, &[(3, 2)]);
    bench.settle(probe[0], Settle::Release);
    let probe = bench.check(9, &[(3, 2)]);
    bench.settle(probe[0], Settle::Ack);
    assert!(bench.events().contains(&QueueEvent::BreakerClosed { consumer: ONE }));
    assert_eq!(bench.take(9).len(), 9);
}

#[test]
fn a_purge_takes_what_waits_and_keeps_what_is_out() {
    let mut bench = bench(QueueRules { keyed: true, window: 4, ..plain() });
    for offset in 0..20 {
        bench.put(offset, |arrival| arrival.key = (offset % 2 == 0).then_some(1));
    }
    bench.put(20, |arrival| arrival.not_before = Some(at(99_000).wall));
    let leases = bench.check(2, &[(0, 1), (1, 1)]);
    bench.settle(leases[1], Settle::Ack);
    let purge = bench.queue.purge(bench.now);
    assert_eq!((purge.messages, purge.weight, purge.before), (19, 190, Offset(21)));
    assert_eq!(purge.keep, [Offset(0), Offset(1)]);
    assert_eq!(bench.queue.depth().waiting_bytes, 0);
    bench.put(30, |arrival| arrival.key = Some(1));
    bench.check(9, &[]);
    bench.settle(leases[0], Settle::Ack);
    bench.check(9, &[(30, 1)]);
}

#[test]
fn a_restart_keeps_attempts_and_marks_what_may_have_been_out() {
    let mut bench = bench(plain());
    bench.put_all(0..4);
    let leases = bench.check(2, &[(0, 1), (1, 1)]);
    bench.fail(leases[0], "busy");
    let recovered = Recovered {
        end: Offset(4),
        records: 4,
        weight: 40,
        retries: bench.queue.retries(),
        delivered_to: bench.queue.delivered_to(),
        ..Recovered::default()
    };
    bench.queue = Queue::recover(plain(), 9, recovered);
    bench.queue.attach(ONE, CONSUMER).unwrap();
    assert_eq!((bench.queue.depth().ready, bench.queue.depth().delayed), (3, 1));
    let out = bench.take(9);
    let got: Vec<_> = out.iter().map(|d| (d.lease.offset.0, d.attempt, d.redelivered)).collect();
    assert_eq!(got, [(1, 1, true), (2, 1, false), (3, 1, false)]);
    bench.pass(1000);
    bench.check(9, &[(0, 2)]);
    assert_ne!(leases[1].serial, out[0].lease.serial, "a lease from before must not name a delivery after");
}

#[test]
fn after_a_restart_a_failed_message_holds_back_those_behind_it_and_not_those_before_it() {
    let rules = QueueRules { keyed: true, ..plain() };
    let mut bench = bench(rules.clone());
    for offset in 0..4 {
        bench.put(offset, |arrival| arrival.key = Some(1));
    }
    // The first is given up; before that is durable the second is handed out, fails, and is recorded.
    let first = bench.check(9, &[(0, 1)])[0];
    bench.settle(first, Settle::Reject { error: None });
    let second = bench.check(9, &[(1, 1)])[0];
    bench.fail(second, "busy");
    let retries = bench.queue.retries().into_iter().filter(|retry| retry.offset == Offset(1)).collect();
    let recovered = Recovered { end: Offset(4), records: 4, weight: 40, retries, ..Recovered::default() };
    bench.queue = Queue::recover(rules, 9, recovered);
    bench.queue.attach(ONE, CONSUMER).unwrap();
    bench.pass(1000);
    let again = bench.check(9, &[(0, 1)])[0];
    bench.settle(again, Settle::Ack);
    let second = bench.check(9, &[(1, 2)])[0];
    bench.settle(second, Settle::Ack);
    let third = bench.check(9, &[(2, 1)])[0];
    bench.settle(third, Settle::Ack);
    bench.check(9, &[(3, 1)]);
}

#[test]
fn a_message_gone_from_the_log_is_forgotten_and_frees_its_key() {
    let mut bench = bench(QueueRules { keyed: true, window: 4, ..plain() });
    for offset in 0..20 {
        bench.put(offset, |arrival| arrival.key = Some(1));
    }
    for gone in [7, 8, 19] {
        bench.log.remove(&gone);
    }
    let mut seen = Vec::new();
    while let Some(delivery) = bench.take(1).pop() {
        seen.push(delivery.lease.offset.0);
        bench.settle(delivery.lease, Settle::Ack);
    }
    assert_eq!(seen, (0..20).filter(|offset| ![7, 8, 19].contains(offset)).collect::<Vec<_>>());
    let depth = bench.queue.depth();
    assert_eq!((depth.ready, depth.parked, depth.waiting_bytes), (0, 0, 0));
}

#[test]
fn browsing_shows_what_each_message_does() {
    let mut bench = bench(plain());
    bench.put_all(0..3);
    bench.put(3, |arrival| arrival.not_before = Some(at(500).wall));
    let leases = bench.check(2, &[(0, 1), (1, 1)]);
    bench.fail(leases[1], "busy");
    let retry = BrowseState::Delayed { due: at(1000).wall };
    let delayed = BrowseState::Delayed { due: at(500).wall };
    let expected = [(0, BrowseState::InFlight, 0), (1, retry, 1), (2, BrowseState::Ready, 0), (3, delayed, 0)];
    let expected = expected.map(|(offset, state, attempts)| BrowseEntry { offset: Offset(offset), state, attempts });
    assert_eq!(bench.queue.peek(Offset::ZERO, 9), expected);
    assert_eq!(bench.queue.peek(Offset(1), 1), expected[1..2]);
    assert_eq!(expected.map(|entry| bench.queue.state_of(entry.offset)), expected.map(Some));
    assert_eq!(bench.queue.state_of(Offset(4)), None);
}

#[test]
fn settled_leases_are_swept_and_many_failures_keep_their_reasons() {
    let mut bench = bench(plain());
    let reason: Arc<str> = "busy".into();
    for offset in 0..5000 {
        bench.put(offset, |_| {});
        let lease = bench.take(1)[0].lease;
        if offset % 1000 == 0 {
            bench.settle(lease, Settle::Nack { after: None, error: Some(reason.clone()), counts: true });
        } else {
            bench.settle(lease, Settle::Ack);
            bench.queue.departed(lease.offset);
        }
    }
    assert_eq!(bench.queue.retries().len(), 5);
    assert!(bench.queue.leases_of(ONE).is_empty());
    let remembered = bench.queue.leases.slots();
    assert!(remembered < 100, "{remembered} settled deliveries are remembered");
}

#[test]
fn messages_that_fail_for_the_same_reason_share_its_text() {
    let mut bench = bench(plain());
    for offset in 0..100 {
        bench.put(offset, |_| {});
        let lease = bench.take(1)[0].lease;
        bench.fail(lease, if offset % 2 == 0 { "busy" } else { "away" });
    }
    let retries = bench.queue.retries();
    let texts: std::collections::HashSet<_> =
        retries.iter().filter_map(|retry| retry.history.last_error.as_ref().map(Arc::as_ptr)).collect();
    assert_eq!((retries.len(), texts.len()), (100, 2));
}

#[test]
fn stragglers_among_many_settled_leases_cost_their_own_slots_only() {
    let mut bench = bench(plain());
    let mut kept = Vec::new();
    for offset in 0..20_000 {
        bench.put(offset, |_| {});
        let lease = bench.take(1)[0].lease;
        if offset % 100 == 0 {
            kept.push(lease);
        } else {
            bench.settle(lease, Settle::Ack);
            bench.queue.departed(lease.offset);
        }
    }
    assert_eq!(bench.queue.leases_of(ONE), kept);
    let remembered = bench.queue.leases.slots();
    assert!(remembered < 20 * kept.len(), "{remembered} slots for {} deliveries", kept.len());
    // They run out in the order in which they were made, but for the one that was extended.
    bench.queue.extend(bench.now, kept[0], Duration::from_secs(600)).unwrap();
    bench.now = super::at(60_000);
    let mut retries = Vec::new();
    while bench.queue.tick(bench.now, &mut retries, &mut Vec::new()) {}
    let ended: Vec<u64> = retries.iter().map(|retry| retry.offset.0).collect();
    assert_eq!(ended, (1..200).map(|number| number * 100).collect::<Vec<_>>());
    assert_eq!(bench.queue.leases_of(ONE), kept[..1]);
    assert_eq!(bench.queue.leases.next_end(), Some(types::Monotonic(600_000_000_000)));
}

#[test]
fn a_queue_hands_out_no_more_than_may_be_in_flight() {
    let mut bench = bench(QueueRules { max_in_flight: 3, ..plain() });
    (0..6).for_each(|offset| bench.put(offset, |_| {}));
    let leases = bench.check(9, &[(0, 1), (1, 1), (2, 1)]);
    bench.check(9, &[]);
    assert!(!bench.queue.has_ready(bench.now, ONE));
    bench.settle(leases[1], Settle::Ack);
    assert!(bench.queue.has_ready(bench.now, ONE));
    bench.check(9, &[(3, 1)]);
    bench.settle(leases[0], Settle::Release);
    bench.check(9, &[(0, 1)]);
}
