//! A real file system that fills up: what is refused says so, what is there can be taken, space comes back, and nothing confirmed is lost.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server};
use crate::http::{BATCH, Http, JSON};
use crate::mounted::Disk;

const DISK_BYTES: u64 = 256 * 1024 * 1024;
const BODY_BYTES: usize = 64 * 1024;
/// Messages of a call.
const BATCH_MESSAGES: u64 = 8;
/// What a consumer takes at once.
const TAKEN: u64 = 50;

fn start(data: &Path) -> Server {
    Server::start_with(data, &["--http", "127.0.0.1:0", "--storage-wal-file", "8MiB", "--storage-wal-files", "2"], &[])
}

/// The messages that are known of: those that were confirmed and not yet acknowledged, and those whose acknowledgement was confirmed.
#[derive(Default)]
struct Known {
    next: u64,
    waiting: BTreeSet<u64>,
    acked: BTreeSet<u64>,
}

impl Known {
    /// One call; `false` if the disk is full.
    fn publish(&mut self, http: &mut Http) -> bool {
        let numbers = self.next..self.next + BATCH_MESSAGES;
        let message = |n: u64| json!({"headers": {"n": n}, "text": "x".repeat(BODY_BYTES)});
        let messages: Vec<Value> = numbers.clone().map(message).collect();
        let body = json!({"messages": messages}).to_string();
        let answer = http.call("POST", "/v1/default/queues/q/messages", BATCH, body.as_bytes()).unwrap();
        self.next = numbers.end;
        if answer.status == 507 {
            let (kind, problem) = answer.problem(507);
            assert_eq!(kind, "storage-full", "{problem}");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("reserve")), "{problem}");
            return false;
        }
        answer.ok();
        self.waiting.extend(numbers);
        true
    }

    /// Takes some and acknowledges them; gives how many.
    fn consume(&mut self, http: &mut Http) -> usize {
        let wanted = json!({"max": TAKEN, "wait_ms": 100}).to_string();
        let answer = http.call("POST", "/v1/default/queues/q/receive", JSON, wanted.as_bytes()).unwrap().ok();
        let deliveries = answer["deliveries"].as_array().unwrap();
        let acks: Vec<Value> =
            deliveries.iter().map(|one| json!({"receipt": one["receipt"], "action": "ack"})).collect();
        if acks.is_empty() {
            return 0;
        }
        let answer = http.post("/v1/default/queues/q/settle", &json!({"settlements": acks}));
        for (one, result) in deliveries.iter().zip(answer["results"].as_array().unwrap()) {
            assert_eq!(result["ok"], json!(true), "an acknowledgement on a full disk: {result}");
            let n = one["message"]["headers"]["n"].as_u64().unwrap();
            assert!(!self.acked.contains(&n), "{n} was acknowledged and came back");
            assert!(self.waiting.remove(&n), "{n} was refused and is there");
            self.acked.insert(n);
        }
        deliveries.len()
    }
}

#[test]
#[ignore = "mounts a file system: `cargo xtask proofs disk-full`"]
fn a_full_disk_refuses_publishes_and_is_drained_and_a_kill_on_it_loses_nothing() {
    let disk = Disk::of_any_kind(DISK_BYTES);
    let data = disk.place().join("data");
    let mut known = Known::default();
    let server = start(&data);
    let mut http = Http::new(&server);
    http.put("/v1/default/queues/q", &json!({"lease_ms": 600_000}));
    while known.publish(&mut http) {}
    let filled = known.waiting.len();
    assert!(http.get("/admin/v1/status")["disk_full"].as_bool().unwrap(), "the status does not say it");

    // Full, it takes acknowledgements, and nothing is lost that was confirmed when it is killed so.
    assert!(known.consume(&mut http) > 0, "a full disk hands nothing out");
    server.signal("KILL");
    server.wait();
    let server = start(&data);
    let mut http = Http::new(&server);
    // What was full before may have found room in the start's upkeep; fill it again.
    while known.publish(&mut http) {}
    while known.consume(&mut http) > 0 {}
    assert!(known.waiting.is_empty(), "confirmed and lost: {:?}", known.waiting);
    let drained = known.acked.len();

    // What was drained is room again, and that is used more than once.
    for round in 0..3 {
        let deadline = Instant::now() + PATIENCE;
        while !known.publish(&mut http) {
            assert!(Instant::now() < deadline, "space does not come back, in round {round}");
            std::thread::sleep(Duration::from_millis(50));
        }
        while known.publish(&mut http) {}
        while known.consume(&mut http) > 0 {}
        assert!(known.waiting.is_empty(), "confirmed and lost: {:?}", known.waiting);
    }
    server.signal("KILL");
    server.wait();
    let server = start(&data);
    let depth = &Http::new(&server).get("/v1/default/queues/q")["depth"];
    assert_eq!((depth["ready"].as_u64(), depth["in_flight"].as_u64()), (Some(0), Some(0)), "{depth}");
    let (kind, total) = (disk.kind, known.acked.len());
    println!("{kind}: full after {filled} messages of 64 KiB, {drained} taken around a kill, {total} in all");
    drop(server);
}
