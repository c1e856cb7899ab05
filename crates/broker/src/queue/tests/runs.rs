//! Messages taken in runs end up where they would if taken one by one.

use std::collections::BTreeMap;
use std::time::Duration;

use types::{Now, Offset};

use super::super::*;
use super::{CONSUMER, at, message, plain, read};
use crate::seeds::for_seeds;

fn take_all(queue: &mut Queue<u64>, now: Now, run: Run, log: &BTreeMap<u64, Arrival<u64>>, at_once: bool) {
    let arrivals = log.range(run.first.0..).map(|(_, arrival)| arrival.clone());
    assert!(queue.reserve(run.count, run.weight));
    match at_once {
        true => queue.enqueue_run(now, run, arrivals),
        false => arrivals.for_each(|arrival| queue.enqueue(now, arrival)),
    }
}

fn some_rules(rng: &mut fastrand::Rng) -> QueueRules {
    let limit = rng.u8(..).is_multiple_of(4).then(|| rng.u64(1..30));
    QueueRules {
        window: rng.usize(1..20),
        window_bytes: rng.u64(1..300),
        max_messages: limit,
        overflow: Overflow::DropOldest,
        delay: rng.u8(..).is_multiple_of(8).then_some(Duration::from_secs(1)),
        priority_levels: if rng.u8(..).is_multiple_of(8) { 3 } else { 1 },
        ..plain()
    }
}

#[test]
fn a_run_leaves_the_queue_as_its_messages_one_by_one_do() {
    for_seeds(300, |rng| {
        let rules = some_rules(rng);
        let mut queues = [Queue::new(rules.clone(), 1), Queue::new(rules, 1)];
        let mut log = BTreeMap::new();
        let (mut end, mut out): (u64, Vec<Lease>) = (0, Vec::new());
        queues.iter_mut().for_each(|queue| queue.attach(ConsumerId(1), CONSUMER).unwrap());
        for step in 0..rng.i64(1..60) {
            let now = at(step * 10);
            match rng.u8(0..4) {
                0 | 1 => {
                    // Offsets between runs may be other queues' or dead from the start.
                    let first = end + rng.u64(0..3);
                    end = first + rng.u64(1..12);
                    log.extend((first..end).map(|offset| (offset, message(offset, now))));
                    let count = end - first;
                    let run = Run { first: Offset(first), count, weight: 10 * count, arrived: now.wall };
                    let [one, other] = &mut queues;
                    take_all(one, now, run, &log, true);
                    take_all(other, now, run, &log, false);
                }
                2 => {
                    let credit = Credit { messages: rng.usize(1..10), bytes: u64::MAX };
                    let taken = queues.each_mut().map(|queue| {
                        let mut taken = Vec::new();
                        queue.deliver(now, ConsumerId(1), credit, &mut taken);
                        while let Some(request) = queue.page_request(now) {
                            let (records, read_to) = read(&log, &request, 100);
                            queue.page_in(now, request, records, read_to);
                        }
                        taken.into_iter().map(|one| one.lease).collect::<Vec<_>>()
                    });
                    assert_eq!(taken[0], taken[1]);
                    out.extend(&taken[0]);
                }
                _ if !out.is_empty() => {
                    let lease = out.swap_remove(rng.usize(..out.len()));
                    let how = if rng.bool() { Settle::Ack } else { Settle::Release };
                    let is_acked = how == Settle::Ack;
                    for queue in &mut queues {
                        queue.settle(now, lease, how.clone()).unwrap();
                        queue.departed(lease.offset);
                    }
                    if is_acked {
                        log.remove(&lease.offset.0);
                    }
                }
                _ => {}
            }
            let [one, other] = &queues;
            assert_eq!(one.depth(), other.depth());
            let state = |queue: &Queue<u64>| (0..end).map(|offset| queue.state_of(Offset(offset))).collect::<Vec<_>>();
            assert_eq!(state(one), state(other));
        }
    });
}
