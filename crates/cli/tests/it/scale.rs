//! Queues of millions of messages, and thousands of queues: what they cost in memory, and how soon they are there again after a kill.
//!
//! Variables say how many: `POSTHOUSE_PROOF_MESSAGES` of 1 KiB, `POSTHOUSE_PROOF_MANY` of 100 B (some cases take a half or a tenth of
//! them), `POSTHOUSE_PROOF_QUEUES`. Run them with `--release`: the bounds are meant for the binary that is shipped.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server};
use crate::http::{BATCH, Http};

const BATCH_MESSAGES: u64 = 1000;
const MAX_START: Duration = Duration::from_secs(3);
/// How long memory that was in use while the queue was filled may take to go back.
const SETTLE: Duration = Duration::from_secs(5);
/// Settlements of one request.
const SETTLEMENTS: usize = 5000;
/// Keys whose first message fails and holds back the others.
const HEADS: u64 = 10;

/// They measure: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// What may be resident.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// So many MiB more than a server whose queue is empty.
    Growth(u64),
    /// So many MiB in all.
    All(u64),
}

impl Bound {
    fn most(self, empty: u64) -> u64 {
        match self {
            Self::Growth(mib) => empty + mib * 1024,
            Self::All(mib) => mib * 1024,
        }
    }
}

/// A queue that is filled, worked on and killed.
struct Case {
    name: &'static str,
    messages: u64,
    body_bytes: usize,
    bound: Bound,
    queue: Value,
    /// What message `n` has besides its body.
    fields: fn(u64) -> Value,
    /// Done when the first messages are there.
    early: fn(&mut Http),
    /// Done when all are there.
    work: fn(&mut Http),
    /// Says whether the messages are in the state that the case is about.
    holds: fn(&Depth, u64) -> bool,
}

impl Case {
    /// Issue bound of a million: 64 MiB more than an empty queue.
    fn million(name: &'static str) -> Self {
        Self::new(name, count("POSTHOUSE_PROOF_MESSAGES", 1_000_000), 1024, Bound::Growth(64))
    }

    /// A share of many small messages: 256 MiB in all.
    fn many(name: &'static str, share: u64) -> Self {
        Self::new(name, count("POSTHOUSE_PROOF_MANY", 10_000_000) / share, 100, Bound::All(256))
    }

    fn new(name: &'static str, messages: u64, body_bytes: usize, bound: Bound) -> Self {
        Self {
            name,
            messages,
            body_bytes,
            bound,
            queue: json!({}),
            fields: |_| json!({}),
            early: |_| {},
            work: |_| {},
            holds: |depth, messages| depth.ready == messages,
        }
    }

    /// All wait for a time: from one hour to two.
    fn delayed(self) -> Self {
        Self {
            fields: |n| json!({"delay_ms": 3_600_000 + n * 7919 % 3_600_000}),
            holds: |depth, messages| depth.delayed == messages,
            ..self
        }
    }

    fn priorities(self) -> Self {
        Self { queue: json!({"priority_levels": 10}), fields: |n| json!({"priority": n * 7919 % 10}), ..self }
    }

    /// The first few messages fail and wait for an hour; every second message is of one of their keys.
    fn parked(self) -> Self {
        Self {
            queue: json!({"keyed": true}),
            fields: |n| {
                let key = match n {
                    first if first < HEADS => format!("head-{first}"),
                    even if even.is_multiple_of(2) => format!("head-{}", even / 2 % HEADS),
                    odd => format!("key-{}", odd % 1009),
                };
                json!({ "key": key })
            },
            early: fail_the_heads,
            holds: |depth, messages| depth.parked == (messages - HEADS) / 2 && depth.delayed == HEADS,
            ..self
        }
    }

    /// All are handed out; every second one is acknowledged, the others go back to their places.
    fn half_acknowledged(self) -> Self {
        Self {
            queue: json!({"lease_ms": 3_600_000}),
            work: acknowledge_every_second,
            holds: |depth, messages| depth.ready == messages / 2,
            ..self
        }
    }
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_waiting() {
    Case::million("1 KiB: waiting").check();
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_delayed() {
    Case::million("1 KiB: all delayed").delayed().check();
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_priorities() {
    Case::million("1 KiB: ten priorities").priorities().check();
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_parked_key() {
    Case::million("1 KiB: half of them behind parked keys at the head").parked().check();
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_half_acknowledged() {
    Case::million("1 KiB: every second acknowledged").half_acknowledged().check();
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_many_waiting() {
    Case::many("100 B: waiting", 1).check();
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_many_delayed() {
    Case::many("100 B: all delayed", 2).delayed().check();
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_many_priorities() {
    Case::many("100 B: ten priorities", 2).priorities().check();
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_many_half_acknowledged() {
    Case::many("100 B: every second acknowledged", 10).half_acknowledged().check();
}

#[test]
#[ignore = "long: `cargo xtask proofs scale`"]
fn scale_idle_queues() {
    const MAX_IDLE_KIB: u64 = 150 * 1024;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let queues = count("POSTHOUSE_PROOF_QUEUES", 10_000);
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut http = Http::new(&server);
    for queue in 0..queues {
        http.put(&format!("/v1/default/queues/queue-{queue}"), &json!({}));
    }
    std::thread::sleep(SETTLE);
    let made = memory(&server);
    server.signal("KILL");
    server.wait();
    let begun = Instant::now();
    let server = Server::start(data.path());
    let mut http = Http::new(&server);
    while http.call("GET", "/readyz", "", b"").unwrap().status != 200 {
        assert!(begun.elapsed() < PATIENCE, "it does not get ready");
    }
    let started = begun.elapsed();
    http.get(&format!("/v1/default/queues/queue-{}", queues - 1));
    std::thread::sleep(SETTLE);
    let again = memory(&server);
    println!("| {queues} idle queues | {} MiB | | {} MiB | {:.2} s |", mib(made), mib(again), started.as_secs_f64());
    assert!(made.max(again) <= MAX_IDLE_KIB, "{made} KiB, {again} KiB after a start");
    assert!(started <= MAX_START, "ready after {started:?}");
}

fn count(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |count| count.parse().unwrap())
}

fn fail_the_heads(http: &mut Http) {
    let heads = receive(http, usize::try_from(HEADS).unwrap());
    assert!(heads.iter().all(|head| head["message"]["key"].as_str().unwrap().starts_with("head")));
    for head in heads {
        let nack = json!({"receipt": head["receipt"], "after_ms": 3_600_000, "error": "the first of its key failed"});
        http.post("/v1/default/queues/work/nack", &nack);
    }
}

fn acknowledge_every_second(http: &mut Http) {
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

impl Case {
    /// Fills the queue, works on it, and holds memory and start against their bounds.
    fn check(self) {
        let Self { name, messages, bound, .. } = self;
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path());
        let mut http = Http::new(&server);
        http.put("/v1/default/queues/work", &self.queue);
        let empty = memory(&server);

        let begun = Instant::now();
        let few = HEADS.min(messages);
        self.fill(&mut http, 0..few);
        (self.early)(&mut http);
        self.fill(&mut http, few..messages);
        let filled = begun.elapsed();
        assert_eq!(depth(&mut http).all(), messages);
        let full = memory(&server);
        (self.work)(&mut http);
        let left = depth(&mut http);
        assert!((self.holds)(&left, messages), "{left:?}");
        let busy = memory(&server);
        std::thread::sleep(SETTLE);
        let idle = memory(&server);
        let peak = memory_of(&server, "VmHWM:");
        server.signal("KILL");
        server.wait();

        let (server, started, again) = restart(data.path(), left.all());
        let mut http = Http::new(&server);
        let restarted = memory(&server);
        // Before anything is received: of a key that is out, others would be parked.
        let exact = until_exact(&mut http, &left);
        let taking = Instant::now();
        let first = receive(&mut http, 1);
        let took = taking.elapsed();
        assert_eq!(first.is_empty(), left.ready == 0, "{left:?}");
        settle(&mut http, &first.iter().map(|one| one["receipt"].clone()).collect::<Vec<_>>(), "ack");
        // Acknowledged, as one that is released would go on holding its key.
        let expected = Depth { ready: left.ready - first.len() as u64, ..left };
        std::thread::sleep(SETTLE);
        let (later, later_depth) = (memory(&server), depth(&mut http));
        println!(
            "scale {name}: {messages} in {:.0} s, {left:?}; KiB: {empty} empty, {full} filled, {busy} worked on, {idle} after {} s, {peak} \
             at most; ready again in {:.2} s ({again:?}), {restarted} KiB, first receive {:.2} s, exact {exact:?} later, then {later} KiB \
             ({later_depth:?})",
            filled.as_secs_f64(),
            SETTLE.as_secs(),
            started.as_secs_f64(),
            took.as_secs_f64(),
        );
        // As the bound counts it.
        let base = if matches!(bound, Bound::Growth(_)) { empty } else { 0 };
        println!(
            "| {name} | {} MiB | {} MiB | {} MiB | {:.2} s |",
            mib(idle.saturating_sub(base)),
            mib(peak.saturating_sub(base)),
            mib(later.saturating_sub(base)),
            started.as_secs_f64()
        );
        assert_eq!(later_depth, expected, "{name}");
        let most = bound.most(empty);
        assert!(idle <= most, "{name}: {idle} KiB; empty it was {empty}");
        assert!(later <= most, "{name}: {later} KiB after a start; empty it was {empty}");
        assert!(started <= MAX_START, "{name}: ready after {started:?}");
    }

    fn fill(&self, http: &mut Http, numbers: std::ops::Range<u64>) {
        let text = "x".repeat(self.body_bytes - 10);
        for first in numbers.clone().step_by(usize::try_from(BATCH_MESSAGES).unwrap()) {
            let mut body = String::from("{\"messages\":[");
            for n in first..(first + BATCH_MESSAGES).min(numbers.end) {
                let comma = if n == first { "" } else { "," };
                let more = (self.fields)(n).to_string();
                let more = more.trim_matches(['{', '}']);
                let more_comma = if more.is_empty() { "" } else { "," };
                write!(body, "{comma}{{\"text\":\"{n:010}{text}\"{more_comma}{more}}}").unwrap();
            }
            body.push_str("]}");
            http.call("POST", "/v1/default/queues/work/messages", BATCH, body.as_bytes()).unwrap().ok();
        }
    }
}

/// Until the queue shows what it showed before the kill.
fn until_exact(http: &mut Http, left: &Depth) -> Option<Duration> {
    let begun = Instant::now();
    while depth(http) != *left {
        if begun.elapsed() > PATIENCE {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(begun.elapsed())
}

fn mib(kib: u64) -> u64 {
    kib.div_ceil(1024)
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
