//! A real file system that becomes read-only under the server, as ext4 does when it meets an error, and one whose device fails what is written
//! to it: nothing more is confirmed, the server says why, and once the disk is well again everything that was confirmed is there.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Server, failed, posthouse};
use crate::http::{BATCH, Http, JSON};
use crate::mounted::Disk;

const DISK_BYTES: u64 = 128 * 1024 * 1024;
/// Connections that publish at the same time, and messages of a call.
const PUBLISHERS: u64 = 4;
const BATCH_MESSAGES: u64 = 3;
/// What the consumer takes at once.
const TAKEN: u64 = 20;
/// The load runs so long before the file system fails, and so many times.
const LOAD: Duration = Duration::from_millis(700);
const ROUNDS: u64 = 5;

/// What is known of the messages.
#[derive(Default)]
struct Known {
    confirmed: BTreeSet<u64>,
    /// Answered as unknown: each may be there or not.
    in_doubt: BTreeSet<u64>,
    acked: BTreeSet<u64>,
    /// Their acknowledgement had no good answer.
    ack_in_doubt: BTreeSet<u64>,
}

impl Known {
    fn add(&mut self, other: Self) {
        self.confirmed.extend(other.confirmed);
        self.in_doubt.extend(other.in_doubt);
        self.acked.extend(other.acked);
        self.ack_in_doubt.extend(other.ack_in_doubt);
    }
}

fn start(data: &Path) -> Server {
    Server::start_with(data, &["--http", "127.0.0.1:0", "--storage-wal-file", "1MiB", "--storage-wal-files", "2"], &[])
}

#[test]
#[ignore = "mounts a file system: `cargo xtask proofs read-only`"]
fn a_disk_that_becomes_read_only_confirms_nothing_more_and_has_lost_nothing_when_it_is_back() {
    let disk = Disk::ext4(DISK_BYTES);
    let data = disk.place().join("data");
    let mut known = Known::default();
    for round in 0..ROUNDS {
        let server = start(&data);
        let mut http = Http::new(&server);
        http.put("/v1/default/queues/q", &json!({"lease_ms": 600_000}));
        known.add(load(&server, &disk, round * 1_000_000));
        check_failed(&server);
        server.signal("TERM");
        let (code, log) = server.wait();
        assert_eq!(code, Some(0), "it drains and ends as ever: {log}");
        assert!(says_why(&log), "its log does not say why: {log}");
        assert!(!log.contains("panicked"), "{log}");
        disk.mount_again();
        check_start_without_writes(&disk, &data);
    }
    let server = start(&data);
    check_found(&mut Http::new(&server), &known);
    println!(
        "{ROUNDS} rounds: {} confirmed, {} in doubt, {} acknowledged",
        known.confirmed.len(),
        known.in_doubt.len(),
        known.acked.len()
    );
    assert!(known.confirmed.len() > known.acked.len() && !known.acked.is_empty(), "without work nothing is proved");
}

/// Of the device that says more than it has.
const THIN_BYTES: u64 = 256 * 1024 * 1024;
const ROOM_BYTES: u64 = 48 * 1024 * 1024;
const LARGE_BODY_BYTES: usize = 64 * 1024;

#[test]
#[ignore = "mounts a file system: `cargo xtask proofs read-only`"]
fn a_device_that_fails_under_its_file_system_has_lost_nothing_that_was_confirmed_when_it_is_back() {
    let disk = Disk::thin(THIN_BYTES, ROOM_BYTES);
    let data = disk.place().join("data");
    let server = start(&data);
    let mut http = Http::new(&server);
    http.put("/v1/default/queues/q", &json!({"lease_ms": 600_000}));
    let known = Mutex::new(Known::default());
    std::thread::scope(|scope| {
        for client in 0..PUBLISHERS {
            let (server, known) = (&server, &known);
            scope.spawn(move || {
                let found = publish_until_refused(server, client * 100_000);
                known.lock().unwrap().add(found);
            });
        }
    });
    check_failed(&server);
    server.signal("TERM");
    let (code, log) = server.wait();
    assert!(code == Some(0) && says_why(&log) && !log.contains("panicked"), "{code:?}: {log}");
    disk.make_room(THIN_BYTES);
    disk.mount_again();
    let server = start(&data);
    let known = known.into_inner().unwrap();
    check_found(&mut Http::new(&server), &known);
    let why = log.lines().find(|line| says_why(line)).unwrap();
    println!("{} confirmed, {} in doubt; what failed first: {why}", known.confirmed.len(), known.in_doubt.len());
    assert!(!known.confirmed.is_empty(), "without work nothing is proved");
}

/// With large bodies, until one is refused: new room is needed for each.
fn publish_until_refused(server: &Server, first: u64) -> Known {
    let (mut http, mut known) = (Http::new(server), Known::default());
    for n in first.. {
        let body = json!({"messages": [{"headers": {"n": n}, "text": "x".repeat(LARGE_BODY_BYTES)}]}).to_string();
        let answer = http.call("POST", "/v1/default/queues/q/messages", BATCH, body.as_bytes()).unwrap();
        match answer.status {
            200..300 => drop(known.confirmed.insert(n)),
            500 => {
                assert_eq!(answer.problem(500).0, "outcome-unknown");
                known.in_doubt.insert(n);
            }
            _ => {
                assert_eq!(answer.problem(503).0, "storage-failed");
                break;
            }
        }
    }
    known
}

/// Publishes and consumes until the file system fails under it, and a little longer.
fn load(server: &Server, disk: &Disk, first: u64) -> Known {
    // Set once nothing can be written any more, and once the server has said so.
    let (is_over, is_known) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (is_over, is_known) = (&is_over, &is_known);
        let mut clients: Vec<_> = (0..PUBLISHERS)
            .map(|client| scope.spawn(move || publish(server, first + client * 100_000, is_over, is_known)))
            .collect();
        clients.push(scope.spawn(move || consume(server, is_over, is_known)));
        std::thread::sleep(LOAD);
        disk.become_read_only();
        is_over.store(true, Ordering::SeqCst);
        let mut known = Known::default();
        for client in clients {
            known.add(client.join().unwrap());
        }
        known
    })
}

/// Until a call that began when nothing could be written any more was refused.
fn publish(server: &Server, first: u64, is_over: &AtomicBool, is_known: &AtomicBool) -> Known {
    let (mut http, mut known) = (Http::new(server), Known::default());
    for call in 0.. {
        let numbers = first + call * BATCH_MESSAGES..first + (call + 1) * BATCH_MESSAGES;
        let messages: Vec<Value> =
            numbers.clone().map(|n| json!({"headers": {"n": n}, "text": "x".repeat(700)})).collect();
        let body = json!({"messages": messages}).to_string();
        let was_over = is_over.load(Ordering::SeqCst);
        let answer = http.call("POST", "/v1/default/queues/q/messages", BATCH, body.as_bytes()).unwrap();
        if answer.status / 100 == 2 {
            assert!(!was_over, "a publish that began on a read-only disk was confirmed");
            known.confirmed.extend(numbers);
            continue;
        }
        if answer.status == 500 {
            // It was being written: the server cannot tell, and says so.
            assert_eq!(answer.problem(500).0, "outcome-unknown");
            known.in_doubt.extend(numbers);
        } else {
            // Refused: it must not be there.
            assert_eq!(answer.problem(503).0, "storage-failed");
            is_known.store(true, Ordering::SeqCst);
            if was_over {
                break;
            }
        }
    }
    known
}

/// Takes and acknowledges until that is refused.
fn consume(server: &Server, is_over: &AtomicBool, is_known: &AtomicBool) -> Known {
    let (mut http, mut known) = (Http::new(server), Known::default());
    loop {
        let was_known = is_known.load(Ordering::SeqCst);
        let wanted = json!({"max": TAKEN, "wait_ms": 50}).to_string();
        let answer = http.call("POST", "/v1/default/queues/q/receive", JSON, wanted.as_bytes()).unwrap();
        if answer.status != 200 {
            assert_eq!(answer.problem(503).0, "storage-failed");
            if was_known {
                return known;
            }
            continue;
        }
        let answer = answer.ok();
        let deliveries = answer["deliveries"].as_array().unwrap();
        assert!(!was_known, "what cannot be acknowledged is handed out");
        // Half of them, so that some wait at the end.
        let taken: Vec<&Value> = deliveries.iter().step_by(2).collect();
        let acks: Vec<Value> = taken.iter().map(|one| json!({"receipt": one["receipt"], "action": "ack"})).collect();
        let was_over = is_over.load(Ordering::SeqCst);
        let answer = http.post("/v1/default/queues/q/settle", &json!({"settlements": acks}));
        for (one, result) in taken.iter().zip(answer["results"].as_array().unwrap()) {
            let n = one["message"]["headers"]["n"].as_u64().unwrap();
            if result["ok"] == json!(true) {
                assert!(!was_over, "an acknowledgement that began on a read-only disk was confirmed");
                known.acked.insert(n);
            } else {
                known.ack_in_doubt.insert(n);
            }
        }
    }
}

/// The system's words: the first for a call that came after, the others for one that the failure met under way.
fn says_why(text: &str) -> bool {
    ["Read-only file system", "Input/output error", "No space left on device"].iter().any(|why| text.contains(why))
}

/// A server whose disk became read-only lives, says so everywhere, and takes nothing.
fn check_failed(server: &Server) {
    let mut http = Http::new(server);
    assert_eq!(http.call("GET", "/livez", "", b"").unwrap().status, 200);
    let (kind, problem) = http.call("GET", "/readyz", "", b"").unwrap().problem(503);
    let said = problem["detail"].as_str().unwrap();
    assert!(kind == "not-ready" && said.contains("storage has failed"), "{problem}");
    assert!(says_why(said), "the reason of the system is missing: {problem}");
    let status = http.get("/admin/v1/status");
    assert_eq!(status["ready"], json!(false), "{status}");
    assert!(status["not_ready"].as_str().is_some_and(says_why), "{status}");
    assert!(server.run("status").contains("NOT READY"));
    let page = http.call("GET", "/metrics", "", b"").unwrap().body;
    let page = String::from_utf8(page).unwrap();
    for line in ["posthouse_ready 0", "posthouse_log_failed 1"] {
        assert!(page.lines().any(|one| one.strip_suffix(".0").unwrap_or(one) == line), "no {line} in {page}");
    }
    for (method, path, kind, body) in [
        ("POST", "/v1/default/queues/q/messages", "text/plain", "x"),
        ("POST", "/v1/default/queues/q/receive", JSON, "{}"),
        ("PUT", "/v1/default/queues/another", JSON, "{}"),
    ] {
        let answer = http.call(method, path, kind, body.as_bytes()).unwrap();
        assert_eq!(answer.problem(503).0, "storage-failed", "{method} {path}");
    }
    // What is there can be looked at.
    assert!(http.get("/v1/default/queues/q/messages?max=1")["messages"].is_array());
}

/// Where nothing can be written, a server does not start, and says why; looking at the files works.
fn check_start_without_writes(disk: &Disk, data: &Path) {
    disk.set_read_only(true);
    let said = failed(posthouse().args(["serve", "--http", "127.0.0.1:0", "--data"]).arg(data), 1);
    assert!(said.contains("Read-only file system") && said.contains(&data.display().to_string()), "{said}");
    let report = posthouse().args(["log", "verify"]).arg(data).output().unwrap();
    assert!(report.status.success(), "{}", String::from_utf8_lossy(&report.stdout));
    disk.set_read_only(false);
}

fn check_found(http: &mut Http, known: &Known) {
    let mut found = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "the queue does not become empty");
        let wanted = json!({"max": 1000, "wait_ms": 100}).to_string();
        let answer = http.call("POST", "/v1/default/queues/q/receive", JSON, wanted.as_bytes()).unwrap().ok();
        let deliveries = answer["deliveries"].as_array().unwrap();
        if deliveries.is_empty() {
            break;
        }
        for one in deliveries {
            let n = one["message"]["headers"]["n"].as_u64().unwrap();
            assert!(found.insert(n), "{n} is there twice");
        }
    }
    let wanted: BTreeSet<u64> = known.confirmed.difference(&known.acked).copied().collect();
    let missing: Vec<&u64> = wanted.difference(&found).filter(|n| !known.ack_in_doubt.contains(n)).collect();
    assert!(missing.is_empty(), "confirmed and lost: {missing:?}");
    let back: Vec<&u64> = found.intersection(&known.acked).collect();
    assert!(back.is_empty(), "acknowledged and back: {back:?}");
    let strange: Vec<&u64> = found.difference(&wanted).filter(|n| !known.in_doubt.contains(n)).collect();
    assert!(strange.is_empty(), "refused or never published, and there: {strange:?}");
}
