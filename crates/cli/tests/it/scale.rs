//! A queue of a million waiting messages of 1 KiB: what it costs in memory, and how soon it is there again after a kill.
//!
//! `POSTHOUSE_PROOF_MESSAGES` says how many. Run it with `--release`: the bounds are meant for the binary that is shipped.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server};
use crate::http::{BATCH, Http};

const BATCH_MESSAGES: u64 = 1000;
const BODY_BYTES: usize = 1024;
const MAX_GROWTH_KIB: u64 = 64 * 1024;
const MAX_START: Duration = Duration::from_secs(3);
/// How long memory that was in use while the queue was filled may take to go back.
const SETTLE: Duration = Duration::from_secs(5);
/// Settlements of one request.
const SETTLEMENTS: usize = 5000;

/// They measure: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_waiting() {
    check("waiting", &json!({}), |_| json!({}), |_| {});
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_delayed() {
    // From one hour to two.
    check("delayed", &json!({}), |n| json!({"delay_ms": 3_600_000 + n * 7919 % 3_600_000}), |_| {});
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_priorities() {
    check("ten priorities", &json!({"priority_levels": 10}), |n| json!({"priority": n * 7919 % 10}), |_| {});
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_parked_key() {
    // Every tenth message is of the key whose first one failed and waits for an hour.
    let key =
        |n: u64| json!({"key": if n.is_multiple_of(10) { "head".to_owned() } else { format!("key-{}", n % 1009) }});
    let fail_the_first = |http: &mut Http| {
        let first = receive(http, 1).remove(0);
        assert_eq!(first["message"]["key"], json!("head"));
        let nack = json!({"receipt": first["receipt"], "after_ms": 3_600_000, "error": "the first of its key failed"});
        http.post("/v1/default/queues/work/nack", &nack);
    };
    check("a parked key at the head", &json!({"keyed": true}), key, fail_the_first);
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_half_acknowledged() {
    check(
        "every second acknowledged",
        &json!({"lease_ms": 3_600_000}),
        |_| json!({}),
        |http| {
            // All are handed out; every second one is done, the others go back to their places.
            let mut back = Vec::new();
            loop {
                let deliveries = receive(http, 1000);
                if deliveries.is_empty() {
                    break;
                }
                let (even, odd): (Vec<_>, Vec<_>) = deliveries.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
                settle(http, &even.iter().map(|(_, one)| one["receipt"].clone()).collect::<Vec<_>>(), "ack");
                back.extend(odd.into_iter().map(|(_, one)| one["receipt"].clone()));
            }
            settle(http, &back, "release");
        },
    );
}

fn receive(http: &mut Http, max: usize) -> Vec<Value> {
    let answer = http.post("/v1/default/queues/work/receive", &json!({"max": max, "max_bytes": 64 << 20}));
    answer["deliveries"].as_array().unwrap().clone()
}

fn settle(http: &mut Http, receipts: &[Value], action: &str) {
    for some in receipts.chunks(SETTLEMENTS) {
        let all: Vec<Value> = some.iter().map(|receipt| json!({"receipt": receipt, "action": action})).collect();
        let answer = http.post("/v1/default/queues/work/settle", &json!({"settlements": all}));
        assert!(answer["results"].as_array().unwrap().iter().all(|one| one["ok"] == json!(true)), "{answer}");
    }
}

/// Fills the queue with messages that have what `fields` says of each, does `work`, and holds memory and start against their bounds.
fn check(name: &str, queue: &Value, fields: impl Fn(u64) -> Value, work: impl FnOnce(&mut Http)) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let messages = std::env::var("POSTHOUSE_PROOF_MESSAGES").map_or(1_000_000, |count| count.parse().unwrap());
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut http = Http::new(&server);
    http.put("/v1/default/queues/work", queue);
    let empty = memory(&server);

    let begun = Instant::now();
    fill(&mut http, messages, &fields);
    let filled = begun.elapsed();
    let before = depth(&mut http);
    assert_eq!(before.all(), messages);
    let full = memory(&server);
    work(&mut http);
    let left = depth(&mut http);
    let busy = memory(&server);
    std::thread::sleep(SETTLE);
    let idle = memory(&server);
    let peak = memory_of(&server, "VmHWM:");
    server.signal("KILL");
    server.wait();

    let (server, started, again) = restart(data.path(), left.all());
    let mut http = Http::new(&server);
    let restarted = memory(&server);
    let taking = Instant::now();
    let first = receive(&mut http, 1);
    let took = taking.elapsed();
    assert_eq!(first.is_empty(), left.ready == 0, "{left:?}");
    std::thread::sleep(SETTLE);
    let (later, later_depth) = (memory(&server), depth(&mut http));
    assert_eq!(later_depth.all(), left.all());
    println!(
        "scale {name}: {messages} in {:.0} s, {left:?}; KiB: {empty} empty, {full} filled, {busy} worked on, {idle} after {} s, {peak} at \
         most; ready again in {:.2} s ({again:?}), {restarted} KiB, first receive {:.2} s, later {later} KiB ({later_depth:?})",
        filled.as_secs_f64(),
        SETTLE.as_secs(),
        started.as_secs_f64(),
        took.as_secs_f64(),
    );
    println!(
        "| {name} | {} MiB | {} MiB | {} MiB | {:.2} s |",
        mib(idle.saturating_sub(empty)),
        mib(peak.saturating_sub(empty)),
        mib(later.saturating_sub(empty)),
        started.as_secs_f64()
    );
    assert!(idle <= empty + MAX_GROWTH_KIB, "{name}: {} KiB more than an empty server", idle - empty);
    assert!(later <= empty + MAX_GROWTH_KIB, "{name}: {} KiB more than an empty one after a start", later - empty);
    assert!(started <= MAX_START, "{name}: ready after {started:?}");
}

fn mib(kib: u64) -> u64 {
    kib.div_ceil(1024)
}

fn fill(http: &mut Http, messages: u64, fields: &impl Fn(u64) -> Value) {
    let text = "x".repeat(BODY_BYTES - 10);
    for first in (0..messages).step_by(usize::try_from(BATCH_MESSAGES).unwrap()) {
        let mut body = String::from("{\"messages\":[");
        for n in first..(first + BATCH_MESSAGES).min(messages) {
            let comma = if n == first { "" } else { "," };
            let more = fields(n).to_string();
            let more = more.trim_matches(['{', '}']);
            let more_comma = if more.is_empty() { "" } else { "," };
            write!(body, "{comma}{{\"text\":\"{n:010}{text}\"{more_comma}{more}}}").unwrap();
        }
        body.push_str("]}");
        http.call("POST", "/v1/default/queues/work/messages", BATCH, body.as_bytes()).unwrap().ok();
    }
}

#[derive(Debug, PartialEq)]
struct Depth {
    ready: u64,
    delayed: u64,
    parked: u64,
    in_flight: u64,
}

impl Depth {
    fn all(&self) -> u64 {
        self.ready + self.delayed + self.parked + self.in_flight
    }
}

fn depth(http: &mut Http) -> Depth {
    let depth = &http.get("/v1/default/queues/work")["depth"];
    let part = |name: &str| depth[name].as_u64().unwrap();
    Depth { ready: part("ready"), delayed: part("delayed"), parked: part("parked"), in_flight: part("in_flight") }
}

/// Starts on what a kill left; gives the time until it is ready and shows all messages.
fn restart(data: &Path, messages: u64) -> (Server, Duration, Depth) {
    let begun = Instant::now();
    let server = Server::start(data);
    let mut http = Http::new(&server);
    loop {
        if http.call("GET", "/readyz", "", b"").unwrap().status == 200 {
            let depth = depth(&mut http);
            if depth.all() == messages {
                return (server, begun.elapsed(), depth);
            }
        }
        assert!(begun.elapsed() < PATIENCE, "it does not get ready");
    }
}

/// Resident memory, in KiB.
fn memory(server: &Server) -> u64 {
    memory_of(server, "VmRSS:")
}

fn memory_of(server: &Server, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(which)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
