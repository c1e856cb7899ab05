//! What waiting messages cost in memory: a process of its own fills a queue and says how much it grew.

use std::time::Duration;

use types::{Monotonic, Now, Offset, Timestamp};

use super::super::*;
use super::{CONSUMER, plain};

const MEASURE: &str = "queue::tests::memory::fills_a_queue_and_tells_its_size";
const KIND: &str = "POSTHOUSE_MEMORY_KIND";
const MILLION: u64 = 1_000_000;
/// What a queue, its window and the allocator's slack cost besides: resident memory is counted in what the allocator keeps, not what it gave out.
const FIXED: u64 = 1 << 20;

/// Resident memory of this process, in bytes, page by page: what `status` says is off by what each processor has not added up yet. Anonymous
/// memory alone, or code that runs for the first time would count.
fn resident() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn arrival(offset: u64) -> Arrival<u64> {
    Arrival { weight: 1024, payload: None, ..super::message(offset, super::at(0)) }
}

/// A restart with every second message acknowledged before, and ten priorities to be sorted.
fn restart() -> Queue<u64> {
    let now = super::at(0);
    let rules = QueueRules { window: 1024, priority_levels: 10, ..plain() };
    let recovered = Recovered {
        end: Offset(2 * MILLION),
        records: MILLION,
        weight: 1024 * MILLION,
        delivered_to: Offset(2 * MILLION),
        ..Recovered::default()
    };
    let mut queue = Queue::recover(rules, 1, recovered);
    while let Some(request) = queue.page_request(now) {
        let live = |offset: &u64| offset.is_multiple_of(2);
        let sent = |offset: u64| Arrival { priority: (offset * 7 % 10) as u8 / 2 * 2, ..arrival(offset) };
        let (records, read_to) = match &request {
            PageRequest::Exactly(offsets) => {
                (offsets.iter().map(|offset| sent(offset.0)).collect(), offsets.last().unwrap().next())
            }
            PageRequest::From { from, before, records } => {
                let to = before.0.min(from.0 + *records as u64);
                ((from.0..to).filter(live).map(sent).collect(), Offset(to))
            }
        };
        queue.page_in(now, request, records, read_to);
    }
    assert_eq!(queue.depth().ready, MILLION);
    queue
}

/// Fills a queue with messages of a kind.
fn fill(kind: &str) -> Queue<u64> {
    if kind == "acked" {
        return restart();
    }
    let now = super::at(0);
    let messages = if kind.ends_with("-5m") { 5 * MILLION } else { MILLION };
    let rules = QueueRules {
        window: 1024,
        keyed: kind.starts_with("key"),
        priority_levels: if kind.starts_with("priority") { 10 } else { 1 },
        lease: None,
        ..plain()
    };
    let mut queue = Queue::new(rules, 1);
    let mut rng = fastrand::Rng::with_seed(1);
    let hour_ms = 3_600_000;
    queue.attach(ConsumerId(1), CONSUMER).unwrap();
    let (mut out, mut events) = (Vec::new(), Vec::new());
    for offset in 0..messages {
        let mut arrival = arrival(offset);
        match kind {
            "delayed" => arrival.not_before = Some(Timestamp(now.wall.0 + rng.i64(1..hour_ms))),
            "delayed-5m" => arrival.not_before = Some(Timestamp(now.wall.0 + rng.i64(1..24 * hour_ms))),
            "priority" | "priority-5m" => arrival.priority = rng.u8(0..10),
            "key-one" => arrival.key = Some(1),
            "key-many" => arrival.key = Some(rng.u64(0..1000)),
            _ => {}
        }
        assert!(queue.reserve(1, 1024));
        queue.enqueue(now, arrival);
        if offset == 1000 && kind.starts_with("key") {
            // The key at the head is held; what was in the window is parked.
            queue.deliver(now, ConsumerId(1), Credit { messages: 1000, bytes: u64::MAX }, &mut out);
            out.clear();
        }
        events.clear();
        queue.take_events(&mut events);
    }
    queue
}

#[test]
#[ignore = "runs alone in a process of its own, started by the test below"]
#[allow(clippy::print_stdout, reason = "this is how the child process answers")]
fn fills_a_queue_and_tells_its_size() {
    let Ok(kind) = std::env::var(KIND) else { return };
    let before = resident();
    let queue = fill(&kind);
    println!("grew {} for {}", resident().saturating_sub(before), queue.depth().ready);
}

fn growth(kind: &str) -> u64 {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args(["--exact", MEASURE, "--ignored", "--nocapture"])
        .env(KIND, kind)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let grew = text.split_once("grew ").and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
    grew.unwrap_or_else(|| panic!("{kind}: no answer in {text}"))
}

#[test]
#[cfg(target_os = "linux")]
fn a_million_waiting_messages_cost_four_bytes_each_and_five_million_64_mib() {
    for kind in ["plain", "delayed", "priority", "key-one", "key-many", "acked"] {
        let grew = growth(kind);
        assert!(grew <= 4 * MILLION + FIXED, "{kind}: {grew} bytes");
    }
    for kind in ["delayed-5m", "priority-5m"] {
        let grew = growth(kind);
        assert!(grew <= 64 << 20, "{kind}: {grew} bytes");
    }
}

/// A million delayed messages fall due within one second: they are read bit by bit, never all at once.
#[test]
fn a_herd_that_falls_due_at_once_stays_in_the_window() {
    let now = super::at(0);
    let mut queue: Queue<u64> = Queue::new(QueueRules { window: 1024, ..plain() }, 1);
    queue.attach(ConsumerId(1), CONSUMER).unwrap();
    let message = |offset: u64| {
        let due = now.wall.0 + 600_000 + i64::try_from(offset % 1000).unwrap();
        Arrival { not_before: Some(Timestamp(due)), ..arrival(offset) }
    };
    let all = 100_000;
    for offset in 0..all {
        queue.enqueue(now, message(offset));
    }
    let mut wall = now.wall.0;
    while queue.depth().ready < all {
        let next = queue.next_tick(Now { wall: Timestamp(wall), mono: Monotonic(0) });
        wall += i64::try_from(next.unwrap_or(Duration::ZERO).as_millis()).unwrap().max(1);
        let now = Now { wall: Timestamp(wall), mono: Monotonic(0) };
        while queue.tick(now, &mut Vec::new(), &mut Vec::new()) {}
        while let Some(request) = queue.page_request(now) {
            let (records, read_to) = match &request {
                PageRequest::Exactly(offsets) => {
                    (offsets.iter().map(|offset| message(offset.0)).collect(), offsets.last().unwrap().next())
                }
                PageRequest::From { from, before, records } => {
                    let to = before.0.min(from.0 + *records as u64);
                    ((from.0..to).map(message).collect(), Offset(to))
                }
            };
            queue.page_in(now, request, records, read_to);
            let held = queue.peek(Offset::ZERO, usize::MAX).len();
            assert!(held <= 1024 + 1024 / 4, "{held} entries in memory");
        }
    }
    assert_eq!(wall, now.wall.0 + 601_000, "the last of them are due");
}
