//! Killed in the middle of the work, again and again: what was confirmed is there, once and in order, and what was acknowledged is gone.
//!
//! Publishers of two sorts feed one keyed queue. Those of even number publish with producer stamps to a topic that keeps a log and is
//! bound to the queue; what a kill left open they send again under the same stamp. Those of odd number publish straight into the queue
//! without stamps, and never again: what a kill left open may be there, whole or not at all. Consumers acknowledge all they get.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server};
use crate::http::{BATCH, Http};

const PUBLISHERS: u64 = 4;
const CONSUMERS: usize = 2;
const KEYS: u64 = 3;
const PARTITIONS: u64 = 2;
const MAX_BATCH: u64 = 8;
/// A round's load lasts at most so long before the kill.
const MAX_ROUND_MS: u64 = 700;

#[test]
fn a_kill_under_load_loses_nothing_that_was_confirmed_and_brings_back_nothing_that_was_acknowledged() {
    run(5);
}

#[test]
#[ignore = "long: `cargo xtask proofs kill-9`"]
fn kill_minus_nine_long() {
    run(std::env::var("POSTHOUSE_PROOF_KILLS").map_or(200, |kills| kills.parse().unwrap()));
}

fn run(kills: u64) {
    let seed = std::env::var("POSTHOUSE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("POSTHOUSE_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let data = tempfile::tempdir().unwrap();
    declare(data.path());
    let ledger = Mutex::new(Ledger::default());
    let mut publishers: Vec<Publisher> = (0..PUBLISHERS).map(|number| Publisher::new(number, rng.fork())).collect();
    let mut log = TopicLog::default();
    for kill in 0..kills {
        let load = Duration::from_millis(rng.u64(0..MAX_ROUND_MS));
        round(data.path(), &ledger, &mut publishers, &mut log, load);
        let ledger = ledger.lock().unwrap();
        if kill % 20 == 19 {
            println!("kill {}: {} confirmed, {} acknowledged", kill + 1, ledger.confirmed, ledger.acked);
        }
    }
    finish(data.path(), &ledger, &mut publishers);
    let ledger = ledger.into_inner().unwrap();
    let Ledger { confirmed, acked, again, .. } = &ledger;
    println!("{kills} kills: {confirmed} confirmed, {acked} acknowledged, {again} came again, all marked");
    assert!(ledger.confirmed > 0 && ledger.acked > 0, "without work nothing is proved");
}

fn declare(data: &Path) {
    let server = Server::start(data);
    let mut http = Http::new(&server);
    // For ever: a kill counts as a failed attempt of what was in flight.
    http.put("/v1/default/queues/work", &json!({"keyed": true, "lease_ms": 600_000, "retry": {"max_attempts": 0}}));
    http.put("/v1/default/topics/events", &json!({"retention": {}, "partitions": PARTITIONS}));
    http.post("/v1/default/bindings", &json!({"topic": "events", "target": {"queue": "work"}}));
    server.signal("KILL");
    server.wait();
}

/// Starts, looks at what the last kill left, works until the next.
fn round(data: &Path, ledger: &Mutex<Ledger>, publishers: &mut [Publisher], log: &mut TopicLog, load: Duration) {
    let server = Server::start(data);
    log.check(&mut Http::new(&server), publishers);
    ledger.lock().unwrap().last_of_round.clear();
    std::thread::scope(|scope| {
        for publisher in &mut *publishers {
            let mut http = Http::new(&server);
            scope.spawn(move || while publisher.publish(&mut http, ledger) {});
        }
        for _ in 0..CONSUMERS {
            let mut http = Http::new(&server);
            scope.spawn(move || while consume(&mut http, ledger, 20_000).is_some() {});
        }
        std::thread::sleep(load);
        server.signal("KILL");
    });
    server.wait();
}

/// After the last kill: all that is left is sent and taken, and the sums are done.
fn finish(data: &Path, ledger: &Mutex<Ledger>, publishers: &mut [Publisher]) {
    let server = Server::start(data);
    let mut http = Http::new(&server);
    ledger.lock().unwrap().last_of_round.clear();
    for publisher in &mut *publishers {
        if publisher.open.is_some() {
            assert!(publisher.publish(&mut http, ledger));
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while depth(&mut http) > 0 {
        assert!(Instant::now() < deadline, "the queue does not drain");
        consume(&mut http, ledger, 0).unwrap();
    }
    TopicLog::default().check(&mut http, publishers);
    let ledger = ledger.lock().unwrap();
    for (key, state) in &ledger.keys {
        assert!(state.waiting.is_empty(), "confirmed and lost, of key {key}: {:?}", state.waiting);
    }
    for (publisher, first, count) in publishers.iter().flat_map(|publisher| &publisher.unknown) {
        let seen = (*first..first + count).filter(|n| ledger.was_seen(*publisher, *n)).count() as u64;
        assert!(seen == 0 || seen == *count, "{seen} of the {count} messages of one call from {publisher}/{first}");
    }
}

fn depth(http: &mut Http) -> u64 {
    let depth = &http.get("/v1/default/queues/work")["depth"];
    ["ready", "delayed", "parked", "in_flight"].iter().map(|part| depth[part].as_u64().unwrap()).sum()
}

fn key_of(publisher: u64, n: u64) -> String {
    format!("{publisher}-{}", n % KEYS)
}

struct Publisher {
    number: u64,
    rng: Rng,
    next: u64,
    /// First number and count of a call whose answer did not come.
    open: Option<(u64, u64)>,
    /// Calls without a stamp whose answers did not come, with the publisher's number.
    unknown: Vec<(u64, u64, u64)>,
}

impl Publisher {
    fn new(number: u64, rng: Rng) -> Self {
        Self { number, rng, next: 0, open: None, unknown: Vec::new() }
    }

    fn is_stamped(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    /// One call; `false` if its answer did not come.
    fn publish(&mut self, http: &mut Http, ledger: &Mutex<Ledger>) -> bool {
        let (first, count) = self.open.unwrap_or_else(|| (self.next, self.rng.u64(1..=MAX_BATCH)));
        let message = |n| json!({"subject": "events.made", "key": key_of(self.number, n), "body": [self.number, n]});
        let messages: Vec<Value> = (first..first + count).map(message).collect();
        let path = match self.is_stamped() {
            true => {
                format!("/v1/default/topics/events/messages?producer_id=p{}&producer_sequence={first}", self.number)
            }
            false => "/v1/default/queues/work/messages".to_owned(),
        };
        self.next = first + count;
        let body = json!({"messages": messages}).to_string();
        match http.call("POST", &path, BATCH, body.as_bytes()) {
            Ok(answer) => {
                let answer = answer.ok();
                assert_eq!(answer["published"].as_array().unwrap().len() as u64, count);
                self.open = None;
                ledger.lock().unwrap().confirm(self.number, first, count);
                true
            }
            Err(_) => {
                if self.is_stamped() {
                    self.open = Some((first, count));
                } else {
                    self.unknown.push((self.number, first, count));
                }
                false
            }
        }
    }
}

/// Takes some and acknowledges them; `None` if an answer did not come.
fn consume(http: &mut Http, ledger: &Mutex<Ledger>, wait_ms: u64) -> Option<()> {
    let wanted = json!({"max": 20, "wait_ms": wait_ms}).to_string();
    let answer = http.call("POST", "/v1/default/queues/work/receive", "application/json", wanted.as_bytes()).ok()?.ok();
    let deliveries = answer["deliveries"].as_array().unwrap();
    if deliveries.is_empty() {
        return Some(());
    }
    let mut taken = Vec::new();
    let mut settlements = Vec::new();
    for delivery in deliveries {
        let message = &delivery["message"];
        let (publisher, n) = (message["body"][0].as_u64().unwrap(), message["body"][1].as_u64().unwrap());
        assert_eq!(message["key"].as_str().unwrap(), key_of(publisher, n));
        ledger.lock().unwrap().deliver(publisher, n, delivery["redelivered"].as_bool().unwrap());
        taken.push((publisher, n));
        settlements.push(json!({"receipt": delivery["receipt"], "action": "ack"}));
    }
    let settle = json!({"settlements": settlements}).to_string();
    let answer = http.call("POST", "/v1/default/queues/work/settle", "application/json", settle.as_bytes()).ok()?.ok();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), taken.len());
    for ((publisher, n), result) in taken.into_iter().zip(results) {
        assert_eq!(result["ok"], json!(true), "{result}");
        ledger.lock().unwrap().acknowledge(publisher, n);
    }
    Some(())
}

/// What is known of the queue from outside.
#[derive(Default)]
struct Ledger {
    keys: BTreeMap<String, Key>,
    /// The last number of each key that was delivered since the start.
    last_of_round: BTreeMap<String, u64>,
    confirmed: u64,
    acked: u64,
    again: u64,
}

#[derive(Default)]
struct Key {
    /// Confirmed, and not seen yet.
    waiting: BTreeSet<u64>,
    /// Delivered, and sent an acknowledgement for.
    seen: BTreeSet<u64>,
    /// Acknowledged, and the acknowledgement confirmed.
    acked: BTreeSet<u64>,
}

impl Ledger {
    fn confirm(&mut self, publisher: u64, first: u64, count: u64) {
        self.confirmed += count;
        for n in first..first + count {
            let key = self.keys.entry(key_of(publisher, n)).or_default();
            if !key.seen.contains(&n) {
                key.waiting.insert(n);
            }
        }
    }

    fn deliver(&mut self, publisher: u64, n: u64, redelivered: bool) {
        let name = key_of(publisher, n);
        let key = self.keys.entry(name.clone()).or_default();
        assert!(!key.acked.contains(&n), "{publisher}/{n} was acknowledged and came back");
        let passed = key.waiting.range(..n).next();
        assert!(passed.is_none(), "{publisher}/{n} came before {passed:?} of the same key");
        let last = self.last_of_round.insert(name, n);
        assert!(last.is_none_or(|last| last < n), "{publisher}/{n} came after {last:?} of the same key, in one run");
        key.waiting.remove(&n);
        if !key.seen.insert(n) {
            self.again += 1;
            assert!(redelivered, "message {n} of key {} comes again without saying so", key_of(publisher, n));
        }
    }

    fn acknowledge(&mut self, publisher: u64, n: u64) {
        self.acked += 1;
        self.keys.entry(key_of(publisher, n)).or_default().acked.insert(n);
    }

    fn was_seen(&self, publisher: u64, n: u64) -> bool {
        self.keys.get(&key_of(publisher, n)).is_some_and(|key| key.seen.contains(&n))
    }
}

/// How far the topic's log has been read.
#[derive(Default)]
struct TopicLog {
    /// Where to read on, a partition.
    next: BTreeMap<u64, u64>,
    /// What has been read of each publisher.
    found: BTreeMap<u64, BTreeSet<u64>>,
    /// The last of each key, which all lie in one partition.
    last: BTreeMap<String, u64>,
}

impl TopicLog {
    /// Reads on to the end: each record once, those of a key in order, and of each publisher all that was confirmed.
    fn check(&mut self, http: &mut Http, publishers: &[Publisher]) {
        for partition in 0..PARTITIONS {
            loop {
                let next = self.next.entry(partition).or_default();
                let path = format!("/v1/default/topics/events/messages?partition={partition}&from={next}&max=1000");
                let page = http.get(&path);
                *next = page["next"].as_u64().unwrap();
                let records = page["records"].as_array().unwrap();
                if records.is_empty() {
                    break;
                }
                for record in records {
                    self.record(&record["message"]["body"]);
                }
            }
        }
        for publisher in publishers.iter().filter(|publisher| publisher.is_stamped()) {
            let found = self.found.entry(publisher.number).or_default();
            let confirmed = publisher.open.map_or(publisher.next, |(first, _)| first);
            let missing: Vec<u64> = (0..confirmed).filter(|n| !found.contains(n)).collect();
            assert!(missing.is_empty(), "confirmed and not in the log, of publisher {}: {missing:?}", publisher.number);
            // What is beyond is the call without an answer, whole or not at all.
            let beyond = found.len() as u64 - confirmed;
            let open = publisher.open.map_or(0, |(_, count)| count);
            assert!(beyond == 0 || beyond == open, "{beyond} of a call of {open}");
        }
    }

    fn record(&mut self, body: &Value) {
        let (publisher, n) = (body[0].as_u64().unwrap(), body[1].as_u64().unwrap());
        assert!(self.found.entry(publisher).or_default().insert(n), "{publisher}/{n} is in the log twice");
        let last = self.last.insert(key_of(publisher, n), n);
        assert!(last.is_none_or(|last| last < n), "{publisher}/{n} lies behind {last:?}");
    }
}
