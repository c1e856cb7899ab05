//! Killed in the middle of the work, again and again: what was confirmed is there, once and in order, and what was settled is settled.
//!
//! Publishers over HTTP and gRPC feed two keyed queues at once. Some publish with producer stamps to a topic that keeps a log and is bound
//! to the queue `work`; what a kill left open they send again under the same stamps. The others publish straight into a queue without
//! stamps, and never again: what a kill left open may be there, and of a call that takes all or none, whole or not at all. Consumers over
//! both protocols acknowledge all they get from `work`; of what they get from `frail` they fail some, now and then or until it is given up.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server};
use crate::http::{BATCH, Http};
use crate::kill_grpc::{self, block_on};
use crate::kill_ledger::{Fate, Ledger, MAX_ATTEMPTS, error_of, id_of, key_of};

/// What each publisher does: by which protocol, to where, and whether each of its calls is taken all or none.
const PUBLISHERS: [(Protocol, To, bool); 8] = [
    (Protocol::Http, To::Topic, true),
    (Protocol::Http, To::Queue(WORK), true),
    (Protocol::Http, To::Queue(FRAIL), true),
    (Protocol::Grpc, To::Topic, true),
    (Protocol::Grpc, To::Topic, true),
    (Protocol::Grpc, To::Queue(WORK), true),
    (Protocol::Grpc, To::Queue(WORK), false),
    (Protocol::Grpc, To::Queue(FRAIL), false),
];
/// A consumer each: by which protocol, of which queue.
const CONSUMERS: [(Protocol, usize); 5] = [
    (Protocol::Http, WORK),
    (Protocol::Http, FRAIL),
    (Protocol::Grpc, WORK),
    (Protocol::Grpc, WORK),
    (Protocol::Grpc, FRAIL),
];
/// Places of the queues in the list of ledgers.
const WORK: usize = 0;
const FRAIL: usize = 1;
const PARTITIONS: u64 = 2;
const MAX_BATCH: u64 = 8;
/// A round's load lasts at most so long before the kill.
const MAX_ROUND_MS: u64 = 700;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

/// Where a publisher's messages go: through the topic, with stamps, or into the queue of this ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Topic,
    Queue(usize),
}

#[test]
fn a_kill_under_load_loses_nothing_that_was_confirmed_and_brings_back_nothing_that_was_settled() {
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
    let ledgers = [Mutex::new(Ledger::new("work", false)), Mutex::new(Ledger::new("frail", true))];
    let mut publishers: Vec<Publisher> =
        (0..).zip(PUBLISHERS).map(|(n, kind)| Publisher::new(n, kind, rng.fork())).collect();
    let mut log = TopicLog::default();
    for kill in 0..kills {
        let load = Duration::from_millis(rng.u64(0..MAX_ROUND_MS));
        round(data.path(), &ledgers, &mut publishers, &mut log, load);
        if kill % 20 == 19 {
            println!("kill {}: {}", kill + 1, sums(&ledgers));
        }
    }
    finish(data.path(), &ledgers, &mut publishers);
    println!("{kills} kills: {}", sums(&ledgers));
    for ledger in &ledgers {
        let ledger = ledger.lock().unwrap();
        assert!(ledger.confirmed > 0 && ledger.acked > 0, "without work nothing is proved");
    }
    assert!(ledgers[FRAIL].lock().unwrap().dead() > 0, "without dead letters nothing is proved of them");
}

fn sums(ledgers: &[Mutex<Ledger>; 2]) -> String {
    let of = |ledger: &Mutex<Ledger>| {
        let Ledger { queue, confirmed, acked, again, .. } = &*ledger.lock().unwrap();
        format!("{queue}: {confirmed} confirmed, {acked} acknowledged, {again} came again, all marked")
    };
    let (work, frail) = (of(&ledgers[WORK]), of(&ledgers[FRAIL]));
    let ledger = ledgers[FRAIL].lock().unwrap();
    format!("{work}; {frail}, {} dead letters", ledger.dead())
}

fn start(data: &Path) -> Server {
    Server::start_with(data, &["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"], &[])
}

fn declare(data: &Path) {
    let server = start(data);
    let mut http = Http::new(&server);
    http.put("/v1/default/queues/work", &json!({"keyed": true, "lease_ms": 600_000, "retry": {"max_attempts": 0}}));
    let retry = json!({"max_attempts": MAX_ATTEMPTS, "initial_ms": 1, "jitter": false});
    let dead_letter = json!({"queue": "frail.dead"});
    let frail = json!({"keyed": true, "lease_ms": 600_000, "retry": retry, "dead_letter": dead_letter});
    http.put("/v1/default/queues/frail", &frail);
    http.put("/v1/default/topics/events", &json!({"retention": {}, "partitions": PARTITIONS}));
    http.post("/v1/default/bindings", &json!({"topic": "events", "target": {"queue": "work"}}));
    server.signal("KILL");
    server.wait();
}

/// Starts, looks at what the last kill left, works until the next.
fn round(data: &Path, ledgers: &[Mutex<Ledger>; 2], publishers: &mut [Publisher], log: &mut TopicLog, load: Duration) {
    let server = start(data);
    log.check(&mut Http::new(&server), publishers);
    for ledger in ledgers {
        let mut ledger = ledger.lock().unwrap();
        ledger.begin_round();
        ledger.check_dead(&mut Http::new(&server));
    }
    std::thread::scope(|scope| {
        let server = &server;
        for publisher in &mut *publishers {
            match publisher.protocol {
                Protocol::Http => {
                    let mut http = Http::new(server);
                    scope.spawn(move || {
                        while wait_for_room(&ledgers[publisher.queue()]) && publisher.publish(&mut http, ledgers) {}
                    });
                }
                Protocol::Grpc => {
                    scope.spawn(move || block_on(publisher.stream(server, ledgers, true)));
                }
            }
        }
        for (protocol, queue) in CONSUMERS {
            let ledger = &ledgers[queue];
            match protocol {
                Protocol::Http => {
                    let mut http = Http::new(server);
                    scope.spawn(move || while consume(&mut http, ledger, 20_000).is_some() {});
                }
                Protocol::Grpc => {
                    scope.spawn(move || block_on(kill_grpc::consume(server, ledger)));
                }
            }
        }
        std::thread::sleep(load);
        server.signal("KILL");
        ledgers.iter().for_each(|ledger| ledger.lock().unwrap().is_over = true);
    });
    server.wait();
}

/// `false` if the server is gone.
fn wait_for_room(ledger: &Mutex<Ledger>) -> bool {
    loop {
        let ledger = ledger.lock().unwrap();
        if ledger.is_over || ledger.has_room() {
            return !ledger.is_over;
        }
        drop(ledger);
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// After the last kill: all that is left is sent and taken, and the sums are done.
fn finish(data: &Path, ledgers: &[Mutex<Ledger>; 2], publishers: &mut [Publisher]) {
    let server = start(data);
    let mut http = Http::new(&server);
    ledgers.iter().for_each(|ledger| ledger.lock().unwrap().begin_round());
    for publisher in publishers.iter_mut().filter(|publisher| !publisher.open.is_empty()) {
        match publisher.protocol {
            Protocol::Http => assert!(publisher.publish(&mut http, ledgers)),
            Protocol::Grpc => block_on(publisher.stream(&server, ledgers, false)),
        }
        assert!(publisher.open.is_empty(), "what was open is not taken when it is sent again");
    }
    for ledger in ledgers {
        drain(&mut http, ledger);
    }
    TopicLog::default().check(&mut http, publishers);
    for ledger in ledgers {
        let mut ledger = ledger.lock().unwrap();
        ledger.check_dead(&mut http);
        ledger.check_empty();
    }
    for publisher in publishers.iter() {
        let ledger = ledgers[publisher.queue()].lock().unwrap();
        for (first, count) in &publisher.unknown {
            let seen = (*first..first + count).filter(|n| ledger.was_seen((publisher.number, *n))).count() as u64;
            let number = publisher.number;
            assert!(seen == 0 || seen == *count, "{seen} of the {count} messages of one call from {number}/{first}");
        }
    }
}

/// Takes all that is in a queue. However much that is, the queue must not stand still.
fn drain(http: &mut Http, ledger: &Mutex<Ledger>) {
    let queue = ledger.lock().unwrap().queue;
    let (mut least, mut deadline) = (u64::MAX, Instant::now() + PATIENCE);
    loop {
        let left = depth(http, queue);
        if left == 0 {
            return;
        }
        if left < least {
            (least, deadline) = (left, Instant::now() + PATIENCE);
        }
        assert!(Instant::now() < deadline, "{queue} does not drain: {left} are left");
        for _ in 0..100 {
            consume(http, ledger, 10).unwrap();
        }
    }
}

fn depth(http: &mut Http, queue: &str) -> u64 {
    let depth = &http.get(&format!("/v1/default/queues/{queue}"))["depth"];
    ["ready", "delayed", "parked", "in_flight"].iter().map(|part| depth[part].as_u64().unwrap()).sum()
}

pub(crate) struct Publisher {
    pub(crate) number: u64,
    protocol: Protocol,
    pub(crate) to: To,
    pub(crate) is_atomic: bool,
    rng: Rng,
    pub(crate) next: u64,
    /// First number and count of each call or frame whose answer did not come yet, in order.
    pub(crate) open: VecDeque<(u64, u64)>,
    /// Calls and frames of all or none, without a stamp, whose answers never came.
    pub(crate) unknown: Vec<(u64, u64)>,
}

impl Publisher {
    fn new(number: u64, (protocol, to, is_atomic): (Protocol, To, bool), rng: Rng) -> Self {
        Self { number, protocol, to, is_atomic, rng, next: 0, open: VecDeque::new(), unknown: Vec::new() }
    }

    pub(crate) fn is_stamped(&self) -> bool {
        self.to == To::Topic
    }

    /// The queue that its messages come into.
    pub(crate) fn queue(&self) -> usize {
        match self.to {
            To::Topic => WORK,
            To::Queue(queue) => queue,
        }
    }

    /// How many messages the next call has.
    pub(crate) fn count(&mut self) -> u64 {
        self.rng.u64(1..=MAX_BATCH)
    }

    /// One call over HTTP; `false` if its answer did not come.
    fn publish(&mut self, http: &mut Http, ledgers: &[Mutex<Ledger>; 2]) -> bool {
        let (first, count) = self.open.pop_front().unwrap_or_else(|| (self.next, self.count()));
        let message = |n| json!({"subject": "events.made", "key": key_of((self.number, n)), "body": [self.number, n]});
        let messages: Vec<Value> = (first..first + count).map(message).collect();
        let path = match self.to {
            To::Topic => {
                format!("/v1/default/topics/events/messages?producer_id=p{}&producer_sequence={first}", self.number)
            }
            To::Queue(queue) => format!("/v1/default/queues/{}/messages", ledgers[queue].lock().unwrap().queue),
        };
        self.next = first + count;
        let body = json!({"messages": messages}).to_string();
        match http.call("POST", &path, BATCH, body.as_bytes()) {
            Ok(answer) => {
                let answer = answer.ok();
                assert_eq!(answer["published"].as_array().unwrap().len() as u64, count);
                ledgers[self.queue()].lock().unwrap().confirm(self.number, first, count);
                true
            }
            Err(_) => {
                if self.is_stamped() {
                    self.open.push_back((first, count));
                } else {
                    self.unknown.push((first, count));
                }
                false
            }
        }
    }
}

/// Takes some over HTTP and settles them; `None` if an answer did not come.
fn consume(http: &mut Http, ledger: &Mutex<Ledger>, wait_ms: u64) -> Option<()> {
    let queue = format!("/v1/default/queues/{}", ledger.lock().unwrap().queue);
    let wanted = json!({"max": 20, "wait_ms": wait_ms}).to_string();
    let answer = http.call("POST", &format!("{queue}/receive"), "application/json", wanted.as_bytes()).ok()?.ok();
    let deliveries = answer["deliveries"].as_array().unwrap();
    if deliveries.is_empty() {
        return Some(());
    }
    let mut taken = Vec::new();
    let mut settlements = Vec::new();
    for delivery in deliveries {
        let message = &delivery["message"];
        let id = id_of(&message["body"]);
        assert_eq!(message["key"].as_str().unwrap(), key_of(id));
        let attempt = delivery["attempt"].as_u64().unwrap();
        let fate = ledger.lock().unwrap().deliver(id, attempt, delivery["redelivered"].as_bool().unwrap());
        taken.push((id, attempt, fate));
        let receipt = &delivery["receipt"];
        settlements.push(match fate {
            Fate::Ack => json!({"receipt": receipt, "action": "ack"}),
            Fate::Nack => json!({"receipt": receipt, "action": "nack", "error": error_of(id, attempt)}),
            Fate::Reject => json!({"receipt": receipt, "action": "reject", "error": error_of(id, attempt)}),
        });
    }
    let settle = json!({"settlements": settlements}).to_string();
    let answer = http.call("POST", &format!("{queue}/settle"), "application/json", settle.as_bytes()).ok()?.ok();
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), taken.len());
    for ((id, attempt, fate), result) in taken.into_iter().zip(results) {
        assert_eq!(result["ok"], json!(true), "{result}");
        ledger.lock().unwrap().settled(id, attempt, fate);
    }
    Some(())
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
            let confirmed = publisher.open.front().map_or(publisher.next, |(first, _)| *first);
            let missing: Vec<u64> = (0..confirmed).filter(|n| !found.contains(n)).collect();
            assert!(missing.is_empty(), "confirmed and not in the log, of publisher {}: {missing:?}", publisher.number);
            // What is beyond are calls and frames without an answer: the first few of them, each whole.
            let beyond = found.len() as u64 - confirmed;
            let mut whole = vec![0];
            for (_, count) in &publisher.open {
                whole.push(whole.last().unwrap() + count);
            }
            assert!(whole.contains(&beyond), "{beyond} of what was open: {:?}", publisher.open);
        }
    }

    fn record(&mut self, body: &Value) {
        let (publisher, n) = id_of(body);
        assert!(self.found.entry(publisher).or_default().insert(n), "{publisher}/{n} is in the log twice");
        let last = self.last.insert(key_of((publisher, n)), n);
        assert!(last.is_none_or(|last| last < n), "{publisher}/{n} lies behind {last:?}");
    }
}
