//! The same power cuts, in what the real binary itself writes: `strace` notes it, and the confirms on the sockets among it.
//!
//! A call that changes a file counts when it has ended, and so does a sync. A confirm counts when the server begins to write it. A request counts as begun once
//! its connection has the answer before it.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use serde_json::{Value, json};
use testkit::DiskOperation;

use crate::harness::Server;
use crate::http::{BATCH, Http, JSON};
use crate::power_cut::cut;
use crate::power_cut_load::{
    Call, MOST_BODY_BYTES, MOST_MESSAGES, MOST_SETTLED, PARTITIONS, QUEUES, Recording, TOPIC, body_of, number_of,
};
use crate::trace::{self, Trace};

/// All that changes or syncs a file, and what may write to a socket.
const CALLS: &str = "trace=open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,truncate,ftruncate,fallocate,write,writev,\
                     pwrite64,pwritev,pwritev2,fdatasync,fsync,sync_file_range,msync,sendto,sendmsg,sendmmsg";
const FLAGS: [&str; 8] =
    ["--http", "127.0.0.1:0", "--grpc", "off", "--storage-wal-file", "64KiB", "--storage-wal-files", "2"];
/// Publishers of the queue `alone`, and as many of the topic.
const PUBLISHERS: usize = 2;
/// The load lasts so long.
const LOAD: Duration = Duration::from_secs(3);
/// Its owner's number; it is written without a sync and means nothing after the process's end.
const LOCK_FILE: &str = "LOCK";

#[test]
#[ignore = "needs strace: `cargo xtask proofs power-cut`"]
fn a_power_cut_in_what_the_binary_wrote_leaves_what_it_confirmed() {
    let images: usize = std::env::var("POSTHOUSE_PROOF_IMAGES").map_or(100, |images| images.parse().unwrap());
    for _ in 0..images.div_ceil(100) {
        let seed = fastrand::u64(..);
        cut(&recorded(seed), seed, images.min(100));
    }
}

/// What one connection asked for: a call each request, or none where nothing is changed.
struct Client {
    connection: String,
    calls: Vec<Option<Call>>,
}

/// Runs the load on the binary under `strace`.
fn recorded(seed: u64) -> Recording {
    let directory = tempfile::tempdir().unwrap();
    let (data, file) = (directory.path().join("data"), directory.path().join("trace"));
    let server = trace::start(&data, &file, CALLS, &FLAGS);
    let declaring = declare(&server);
    let deadline = Instant::now() + LOAD;
    let clients: Vec<Client> = std::thread::scope(|scope| {
        let server = &server;
        let publishers = (0..2 * PUBLISHERS).map(|client| scope.spawn(move || publish(server, client, seed, deadline)));
        let publishers: Vec<_> = publishers.collect();
        let consumers = (0..QUEUES.len()).map(|queue| scope.spawn(move || consume(server, queue, seed, deadline)));
        let consumers: Vec<_> = consumers.collect();
        publishers.into_iter().chain(consumers).map(|client| client.join().unwrap()).collect()
    });
    let pid = server.pid();
    server.signal("TERM");
    server.wait();
    recording(&Trace::read(&file, pid), &data, declaring, clients)
}

/// Declares all; it is one call that ends with the connection's last answer.
fn declare(server: &Server) -> (String, usize) {
    let mut http = Http::new(server);
    for queue in QUEUES {
        http.put(&format!("/v1/default/queues/{queue}"), &json!({}));
    }
    http.put(&format!("/v1/default/topics/{TOPIC}"), &json!({"retention": {}, "partitions": PARTITIONS}));
    for queue in &QUEUES[1..] {
        http.post("/v1/default/bindings", &json!({"topic": TOPIC, "target": {"queue": queue}}));
    }
    (http.connection(), 2 * QUEUES.len())
}

fn publish(server: &Server, client: usize, seed: u64, deadline: Instant) -> Client {
    let mut rng = Rng::with_seed(seed ^ client as u64);
    let mut http = Http::new(server);
    let (queues, path) = if client.is_multiple_of(2) {
        (vec![0], format!("/v1/default/queues/{}/messages", QUEUES[0]))
    } else {
        (vec![1, 2], format!("/v1/default/topics/{TOPIC}/messages"))
    };
    let (mut calls, mut next) = (Vec::new(), client as u32 * 1_000_000);
    while Instant::now() < deadline {
        let messages = next..next + rng.u32(1..=MOST_MESSAGES);
        next = messages.end;
        let longest = if rng.bool() { 200 } else { MOST_BODY_BYTES };
        let bodies: Vec<Value> = messages
            .clone()
            .map(|number| json!({"subject": "events.made", "text": body_of(number, rng.usize(0..longest))}))
            .collect();
        http.call("POST", &path, BATCH, json!({"messages": bodies}).to_string().as_bytes()).unwrap().ok();
        calls.push(Some(Call::Publish { client, turn: calls.len(), queues: queues.clone(), messages }));
    }
    Client { connection: http.connection(), calls }
}

fn consume(server: &Server, queue: usize, seed: u64, deadline: Instant) -> Client {
    let mut rng = Rng::with_seed(seed ^ (100 + queue as u64));
    let mut http = Http::new(server);
    let path = format!("/v1/default/queues/{}", QUEUES[queue]);
    let mut calls = Vec::new();
    while Instant::now() < deadline {
        let wanted = json!({"max": rng.usize(1..=MOST_SETTLED), "wait_ms": 20}).to_string();
        let answer = http.call("POST", &format!("{path}/receive"), JSON, wanted.as_bytes()).unwrap().ok();
        calls.push(None);
        let (mut acked, mut rejected, mut settlements) = (Vec::new(), Vec::new(), Vec::new());
        for one in answer["deliveries"].as_array().unwrap() {
            let number = number_of(one["message"]["text"].as_str().unwrap());
            // Some stay with the consumer, so that queues hold more than what is newest.
            let (list, action) = match rng.u8(0..10) {
                0..3 => continue,
                3 => (&mut rejected, "reject"),
                _ => (&mut acked, "ack"),
            };
            list.push(number);
            settlements.push(json!({"receipt": one["receipt"], "action": action}));
        }
        if settlements.is_empty() {
            continue;
        }
        let answer = http.post(&format!("{path}/settle"), &json!({"settlements": settlements}));
        assert!(answer["results"].as_array().unwrap().iter().all(|result| result["ok"] == json!(true)), "{answer}");
        calls.push(Some(Call::Settle { queue, acked, rejected }));
    }
    Client { connection: http.connection(), calls }
}

/// What was asked of the disk, with the marks of the calls where they belong.
fn recording(trace: &Trace, data: &Path, declaring: (String, usize), clients: Vec<Client>) -> Recording {
    let answers = trace.http_confirms(&declaring.0);
    assert_eq!(answers.len(), declaring.1, "the trace does not show what came over {}", declaring.0);
    let declared = *answers.last().unwrap();
    let mut calls = vec![Call::Declare];
    let mut events = vec![(0, DiskOperation::Mark(0)), (declared, DiskOperation::Mark(1))];
    for client in clients {
        let answers = trace.http_confirms(&client.connection);
        assert_eq!(answers.len(), client.calls.len(), "the trace does not show what came over {}", client.connection);
        for (at, call) in client.calls.into_iter().enumerate() {
            let Some(call) = call else { continue };
            let began = if at == 0 { declared } else { answers[at - 1] };
            let mark = 2 * calls.len() as u64;
            events.push((began, DiskOperation::Mark(mark)));
            events.push((answers[at], DiskOperation::Mark(mark + 1)));
            calls.push(call);
        }
    }
    check_syncs(trace);
    let changes = trace.calls.iter().filter(|call| call.result >= 0);
    events.extend(changes.filter_map(|call| Some((call.ended, operation(call, data)?))));
    // At one line a mark's call has not ended, so nothing else is there.
    events.sort_by_key(|(line, _)| *line);
    Recording { operations: events.into_iter().map(|(_, operation)| operation).collect(), calls }
}

/// A sync is taken to cover all that ended before it ended; that is right if nothing was written to the file meanwhile.
fn check_syncs(trace: &Trace) {
    for sync in trace.calls.iter().filter(|call| matches!(call.name.as_str(), "fdatasync" | "fsync")) {
        let meanwhile = |call: &&trace::Call| {
            let is_write = call.name.starts_with("pwrite") || matches!(call.name.as_str(), "ftruncate" | "fallocate");
            is_write && call.target == sync.target && call.began < sync.ended && call.ended > sync.began
        };
        assert_eq!(trace.calls.iter().filter(meanwhile).count(), 0, "written to {} during its sync", sync.target);
    }
}

/// What a call did to the data directory; `None` if that is nothing.
fn operation(call: &trace::Call, data: &Path) -> Option<DiskOperation> {
    let within = |path: &Path| path.strip_prefix(data).ok().map(Path::to_owned);
    let target = within(Path::new(&call.target));
    let named = |at: usize| within(Path::new(std::str::from_utf8(&call.texts[at]).unwrap()));
    if target.as_deref().is_some_and(|path| path.ends_with(LOCK_FILE)) {
        return None;
    }
    assert!(target.is_none() || !call.is_cut, "the trace shows only a part of what was written to {}", call.target);
    match call.name.as_str() {
        "openat" if call.makes => named(0).filter(|path| !path.ends_with(LOCK_FILE)).map(DiskOperation::Create),
        // The root is there from the start.
        "mkdir" => named(0).filter(|path| !path.as_os_str().is_empty()).map(DiskOperation::CreateDir),
        "rename" => Some(DiskOperation::Rename(named(0)?, named(1)?)),
        "unlink" => named(0).map(DiskOperation::Remove),
        "ftruncate" => Some(DiskOperation::SetLen(target?, call.last.unwrap())),
        "fallocate" => Some(DiskOperation::Allocate(target?, call.last.unwrap())),
        "pwrite64" | "pwritev" => {
            let bytes = Bytes::copy_from_slice(&call.data);
            Some(DiskOperation::Write { path: target?, offset: call.last.unwrap(), bytes })
        }
        "fdatasync" => Some(DiskOperation::SyncData(target?)),
        "fsync" => {
            let path = target?;
            // Of files only data is synced.
            Some(DiskOperation::SyncDir(path))
        }
        "openat" | "open" | "write" | "writev" | "sendto" | "sendmsg" | "sendmmsg" => {
            assert!(target.is_none() || call.name == "openat", "{} of {}", call.name, call.target);
            None
        }
        other => panic!("the server calls {other}, which this does not know"),
    }
}
