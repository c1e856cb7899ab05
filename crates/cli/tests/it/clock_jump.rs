//! The wall clock of the real binary jumps, while it runs and between two runs: nothing is lost, nothing comes early, and what is
//! counted by the monotonic clock goes on as if nothing had happened.
//!
//! `libfaketime` stands between the binary and the C library, and adds to the wall clock what a file says. The monotonic clock is left alone, as
//! it is when somebody sets the time of a real machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server};
use crate::http::{BATCH, Http, JSON};

const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 60 * MINUTE_S;
const DAY_S: i64 = 24 * HOUR_S;
/// So many messages in each queue.
const COUNT: u64 = 5;
/// What nothing may come within, for it to count as not coming: more than the broker's longest pause between two looks at the clock, a second.
const QUIET: Duration = Duration::from_millis(1_500);
/// The lease of a message that is held over a jump.
const LEASE_MS: u64 = 6_000;

/// A wall clock that is moved by hand.
struct WallClock {
    directory: tempfile::TempDir,
    library: PathBuf,
}

impl WallClock {
    fn new() -> Self {
        let machine = std::env::consts::ARCH;
        let library = PathBuf::from(format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketimeMT.so.1"));
        assert!(library.exists(), "this needs {} (package libfaketime)", library.display());
        let clock = Self { directory: tempfile::tempdir().unwrap(), library };
        clock.set(0);
        clock
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("offset")
    }

    /// Lets the wall clock show so many seconds more, or less, than the machine's.
    fn set(&self, seconds: i64) {
        let new = self.directory.path().join("new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    fn start(&self, data: &Path) -> Server {
        let (library, file) = (self.library.display().to_string(), self.file().display().to_string());
        let variables = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ];
        Server::start_with(data, &["--http", "127.0.0.1:0"], &variables)
    }
}

fn publish(http: &mut Http, queue: &str, envelope: &Value) {
    let message = |n: u64| {
        let mut message = envelope.clone();
        message["headers"] = json!({"n": n});
        message["text"] = json!("x");
        message
    };
    let messages: Vec<Value> = (0..COUNT).map(message).collect();
    let path = format!("/v1/default/queues/{queue}/messages");
    http.call("POST", &path, BATCH, json!({"messages": messages}).to_string().as_bytes()).unwrap().ok();
}

/// Takes what comes within this time, up to a whole queue; waits no longer once it has that.
fn take(http: &mut Http, queue: &str, within: Duration) -> Vec<Value> {
    let deadline = Instant::now() + within;
    let mut taken = Vec::new();
    while taken.len() < COUNT as usize {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let wanted = json!({"max": COUNT, "wait_ms": left}).to_string();
        let path = format!("/v1/default/queues/{queue}/receive");
        let answer = http.call("POST", &path, JSON, wanted.as_bytes()).unwrap().ok();
        taken.extend(answer["deliveries"].as_array().unwrap().iter().cloned());
        if left == 0 {
            break;
        }
    }
    taken
}

#[track_caller]
fn nothing_comes(http: &mut Http, queue: &str) {
    let taken = take(http, queue, QUIET);
    assert!(taken.is_empty(), "{queue} hands out what is not due: {taken:?}");
}

/// All of a queue comes soon, in order, once, at this attempt.
#[track_caller]
fn all_come(http: &mut Http, queue: &str, attempt: u64) -> Vec<Value> {
    let taken = take(http, queue, PATIENCE);
    let numbers: Vec<u64> = taken.iter().map(|one| one["message"]["headers"]["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>(), "{queue}");
    assert!(taken.iter().all(|one| one["attempt"] == json!(attempt)), "{queue}: {taken:?}");
    taken
}

fn settle(http: &mut Http, queue: &str, taken: &[Value], action: &Value) {
    let with_receipt = |one: &Value| {
        let mut settlement = action.clone();
        settlement["receipt"] = one["receipt"].clone();
        settlement
    };
    let settlements: Vec<Value> = taken.iter().map(with_receipt).collect();
    let answer = http.post(&format!("/v1/default/queues/{queue}/settle"), &json!({"settlements": settlements}));
    let results = answer["results"].as_array().unwrap();
    assert!(results.iter().all(|result| result["ok"] == json!(true)), "{queue}: {answer}");
}

/// What queues hold: ready, delayed and in flight, and what their dead letters are.
fn depths(http: &mut Http, queues: &[&str]) -> BTreeMap<String, (u64, u64, u64)> {
    let mut depths = BTreeMap::new();
    for queue in queues {
        let depth = &http.get(&format!("/v1/default/queues/{queue}"))["depth"];
        let count = |name: &str| depth[name].as_u64().unwrap();
        depths.insert((*queue).to_owned(), (count("ready"), count("delayed"), count("in_flight")));
    }
    depths
}

/// The wall clock that the server sees, in seconds more than this machine's.
fn shown_offset_s(http: &mut Http) -> i64 {
    http.call("POST", "/v1/default/queues/probe/messages", "text/plain", b"x").unwrap().ok();
    let wanted = json!({"max": 1, "wait_ms": 10_000}).to_string();
    let answer = http.call("POST", "/v1/default/queues/probe/receive", JSON, wanted.as_bytes()).unwrap().ok();
    let one = &answer["deliveries"][0];
    settle(http, "probe", std::slice::from_ref(one), &json!({"action": "ack"}));
    let here = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let there = one["enqueued_ms"].as_i64().unwrap() / 1000;
    there - i64::try_from(here.as_secs()).unwrap()
}

#[track_caller]
fn check_offset(http: &mut Http, wanted_s: i64) {
    let shown = shown_offset_s(http);
    assert!((shown - wanted_s).abs() <= 5, "the server's clock is {shown} s off, not {wanted_s}");
    assert_eq!(http.call("GET", "/readyz", "", b"").unwrap().status, 200);
}

/// Declares the queues; each of them holds messages that wait for something else.
fn fill(http: &mut Http) {
    for queue in ["probe", "soon", "later", "short", "long", "retried"] {
        http.put(&format!("/v1/default/queues/{queue}"), &json!({"lease_ms": 600_000}));
    }
    http.put("/v1/default/queues/leased", &json!({"lease_ms": LEASE_MS, "retry": {"initial_ms": 1, "jitter": false}}));
    let ms = |seconds: i64| json!(seconds * 1000);
    publish(http, "soon", &json!({"delay_ms": ms(30 * MINUTE_S)}));
    publish(http, "later", &json!({"delay_ms": ms(3 * DAY_S)}));
    publish(http, "short", &json!({"ttl_ms": ms(30 * MINUTE_S)}));
    publish(http, "long", &json!({"ttl_ms": ms(3 * DAY_S)}));
    publish(http, "retried", &json!({}));
    let taken = all_come(http, "retried", 1);
    settle(http, "retried", &taken, &json!({"action": "nack", "after_ms": ms(10 * MINUTE_S)}));
    publish(http, "leased", &json!({}));
}

const WAITING: [&str; 5] = ["soon", "later", "short", "long", "retried"];

fn wait_for(http: &mut Http, what: &str, wanted: impl Fn(&mut Http) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(http) {
        assert!(Instant::now() < deadline, "{what}: never");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// All messages of `short` are dead letters because their time ran out; none was dropped.
fn check_expired(http: &mut Http) {
    wait_for(http, "what is expired becomes dead letters", |http| depths(http, &["short.dlq"])["short.dlq"].0 == COUNT);
    for one in all_come(http, "short.dlq", 1) {
        assert_eq!(one["message"]["headers"]["ph-dead-letter-reason"], json!("expired"), "{one}");
    }
    assert_eq!(depths(http, &["short"])["short"], (0, 0, 0));
}

#[test]
#[ignore = "needs libfaketime: `cargo xtask proofs clock-jump`"]
fn a_clock_that_jumps_forward_brings_what_is_due_and_nothing_else() {
    let (clock, data) = (WallClock::new(), tempfile::tempdir().unwrap());
    let server = clock.start(data.path());
    let http = &mut Http::new(&server);
    fill(http);
    check_offset(http, 0);
    let before = depths(http, &WAITING);
    let leased = all_come(http, "leased", 1);
    let began = Instant::now();

    clock.set(HOUR_S);
    check_offset(http, HOUR_S);
    // What was delayed until within that hour is due, and comes once.
    let soon = all_come(http, "soon", 1);
    let retried = all_come(http, "retried", 2);
    settle(http, "soon", &soon, &json!({"action": "ack"}));
    settle(http, "retried", &retried, &json!({"action": "ack"}));
    check_expired(http);
    // What was not stays; a lease has nothing to do with the wall clock.
    nothing_comes(http, "later");
    let after = depths(http, &WAITING);
    assert_eq!((after["later"], after["long"]), (before["later"], before["long"]));
    assert!(began.elapsed() < Duration::from_millis(LEASE_MS - 1_000), "too slow a machine to tell");
    assert_eq!(depths(http, &["leased"])["leased"], (0, 0, COUNT), "leases ended with the jump");
    settle(http, "leased", &leased, &json!({"action": "ack"}));

    // The same again from a restart: only what is due comes.
    server.signal("KILL");
    server.wait();
    clock.set(2 * DAY_S);
    let server = clock.start(data.path());
    let http = &mut Http::new(&server);
    check_offset(http, 2 * DAY_S);
    nothing_comes(http, "later");
    let again = depths(http, &WAITING);
    assert_eq!((again["later"], again["long"]), (before["later"], before["long"]));
    server.signal("KILL");
    server.wait();
    clock.set(4 * DAY_S);
    let server = clock.start(data.path());
    let http = &mut Http::new(&server);
    all_come(http, "later", 1);
    wait_for(http, "what is expired becomes dead letters", |http| depths(http, &["long.dlq"])["long.dlq"].0 == COUNT);
    let empty = depths(http, &["soon", "short", "long", "retried", "leased"]);
    assert!(empty.values().all(|depth| *depth == (0, 0, 0)), "{empty:?}");
}

#[test]
#[ignore = "needs libfaketime: `cargo xtask proofs clock-jump`"]
fn a_clock_that_jumps_back_loses_nothing_and_stops_nothing() {
    let (clock, data) = (WallClock::new(), tempfile::tempdir().unwrap());
    let server = clock.start(data.path());
    let http = &mut Http::new(&server);
    fill(http);
    let before = depths(http, &WAITING);
    all_come(http, "leased", 1);
    let began = Instant::now();

    clock.set(-2 * HOUR_S);
    check_offset(http, -2 * HOUR_S);
    // Leases end at their time, which the wall clock does not know, and what comes back is tried again at once, not after two hours.
    let again = all_come(http, "leased", 2);
    let took = began.elapsed();
    let lease = Duration::from_millis(LEASE_MS);
    assert!(took >= lease - Duration::from_secs(1) && took < 4 * lease, "a lease of {lease:?} lasted {took:?}");
    settle(http, "leased", &again, &json!({"action": "ack"}));
    // What is made from now on is counted from now on.
    let began = Instant::now();
    publish(http, "leased", &json!({"delay_ms": 2_000}));
    let delayed = all_come(http, "leased", 1);
    assert!(began.elapsed() >= Duration::from_millis(1_900), "a delay ended early");
    settle(http, "leased", &delayed, &json!({"action": "ack"}));
    http.put("/v1/default/queues/brief", &json!({}));
    publish(http, "brief", &json!({"ttl_ms": 1_000}));
    wait_for(http, "a new message expires", |http| depths(http, &["brief.dlq"])["brief.dlq"].0 == COUNT);
    // What waits for a time of the wall clock waits for it, and none of it is gone.
    nothing_comes(http, "soon");
    nothing_comes(http, "retried");
    assert_eq!(depths(http, &WAITING), before);

    // Nor after a restart in the past.
    server.signal("KILL");
    server.wait();
    clock.set(-10 * DAY_S);
    let server = clock.start(data.path());
    let http = &mut Http::new(&server);
    check_offset(http, -10 * DAY_S);
    for queue in ["soon", "later", "retried"] {
        nothing_comes(http, queue);
    }
    assert_eq!(depths(http, &WAITING), before);
    // The clock is put right, and goes on to when things are due.
    clock.set(0);
    check_offset(http, 0);
    nothing_comes(http, "soon");
    assert_eq!(depths(http, &WAITING), before);
    clock.set(HOUR_S);
    all_come(http, "soon", 1);
    all_come(http, "retried", 2);
    check_expired(http);
    nothing_comes(http, "later");
    assert_eq!(depths(http, &["later", "long"])["long"], before["long"]);
    let long = all_come(http, "long", 1);
    settle(http, "long", &long, &json!({"action": "ack"}));
}
