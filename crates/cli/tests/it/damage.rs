//! Files that something else wrote into, cut or took away: what is damaged is named, and its neighbours notice nothing.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::bad_input::{beside_a_neighbour, check};
use crate::harness::{Server, failed, posthouse};
use crate::http::Http;

/// Small files, so that little data is spread over many.
const SMALL_FILES: [&str; 6] = ["--http", "127.0.0.1:0", "--storage-wal-file", "64KiB", "--storage-wal-files", "2"];

/// A data directory with 100 messages in the queue `hurt` and 5 behind them in `fine`. Each message is its number, many times.
fn filled(data: &Path) {
    let server = Server::start_with(data, &SMALL_FILES, &[]);
    let mut http = Http::new(&server);
    for (queue, count) in [("hurt", 100), ("fine", 5)] {
        http.put(&format!("/v1/default/queues/{queue}"), &json!({}));
        for n in 0..count {
            let path = format!("/v1/default/queues/{queue}/messages");
            http.call("POST", &path, "text/plain", numbered(n).as_bytes()).unwrap().ok();
        }
    }
    server.signal("TERM");
    assert_eq!(server.wait().0, Some(0));
}

fn numbered(n: u64) -> String {
    format!("{n:08}").repeat(500)
}

/// What is lost with a file of messages is theirs: without the definitions there would be no start.
#[test]
fn a_missing_file_of_messages_does_not_take_the_definitions_along() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    let (file, _) = holding(data.path(), numbered(2).as_bytes());
    assert_eq!(file.extension().unwrap(), "seg", "{}", file.display());
    std::fs::remove_file(&file).unwrap();
    let place = file.strip_prefix(data.path()).unwrap().display().to_string();
    let report = posthouse().args(["log", "verify"]).arg(data.path()).output().unwrap();
    let report = String::from_utf8(report.stdout).unwrap();
    assert!(report.contains(&format!("DAMAGE at {place}: the file is missing")), "{report}");
    let server = Server::start_with(data.path(), &SMALL_FILES, &[]);
    let mut http = Http::new(&server);
    assert!(http.get("/v1/default/queues/hurt")["damage"].as_str().unwrap().contains(&place));
    acknowledge_first(&mut http, "fine");
}

/// Receives and acknowledges the queue's first message.
fn acknowledge_first(http: &mut Http, queue: &str) {
    let answer = http.post(&format!("/v1/default/queues/{queue}/receive"), &json!({}));
    assert_eq!(answer["deliveries"][0]["message"]["text"], json!(numbered(0)));
    http.post(&format!("/v1/default/queues/{queue}/ack"), &json!({"receipt": answer["deliveries"][0]["receipt"]}));
}

/// The file that holds these bytes, and where.
fn holding(data: &Path, bytes: &[u8]) -> (PathBuf, usize) {
    let mut files: Vec<PathBuf> = ["wal", "segments"]
        .iter()
        .flat_map(|directory| std::fs::read_dir(data.join(directory)).unwrap())
        .map(|entry| entry.unwrap().path())
        .collect();
    // What moved to a segment may stand in a write-ahead file that is kept for use as well: the segment counts.
    files.sort();
    let found = files.into_iter().find_map(|path| {
        let content = std::fs::read(&path).unwrap();
        let at = content.windows(bytes.len()).position(|window| window == bytes)?;
        Some((path, at))
    });
    found.expect("the message is in some file")
}

/// What damage does: `log verify` and the server say where it is, its queue is read-only, and the other works.
fn check_damage(data: &Path, file: &Path) {
    let place = file.strip_prefix(data).unwrap().display().to_string();
    let said = failed(posthouse().args(["log", "verify"]).arg(data), 1);
    assert!(said.contains("damaged"), "{said}");
    let report = posthouse().args(["log", "verify", "-o", "json"]).arg(data).output().unwrap();
    let report: Value = serde_json::from_slice(&report.stdout).unwrap();
    let faults = report["faults"].as_array().unwrap();
    let named = |fault: &Value| {
        let text = fault.to_string();
        text.contains(&place) && text.contains("at byte")
    };
    assert!(faults.iter().any(named), "{place} and a byte of it: {report}");
    let hurt = report["logs"].as_array().unwrap().iter().filter(|log| !log["damage"].is_null());
    let hurt: Vec<&Value> = hurt.map(|log| &log["label"]).collect();
    assert_eq!(hurt, [&json!("queue default/hurt")], "{report}");

    let server = Server::start_with(data, &SMALL_FILES, &[]);
    beside_a_neighbour(&server, || {
        let mut http = Http::new(&server);
        for n in 0..5 {
            let answer = http.post("/v1/default/queues/fine/receive", &json!({}));
            assert_eq!(answer["deliveries"][0]["message"]["text"], json!(numbered(n)));
        }
        let problem =
            check(&server, "POST", "/v1/default/queues/hurt/messages", "text/plain", b"x", 500, "storage-damaged");
        assert!(problem["detail"].as_str().unwrap().contains("log verify"), "{problem}");
        // What is readable is not handed out either: it could not be acknowledged.
        check(&server, "POST", "/v1/default/queues/hurt/receive", "application/json", b"{}", 500, "storage-damaged");
        let shown = http.get("/v1/default/queues/hurt");
        assert!(shown["damage"].as_str().unwrap().contains(&place), "{shown}");
    });
    server.signal("TERM");
    let (code, log) = server.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains(&place) && log.contains("read-only"), "{log}");
}

#[test]
fn a_damaged_batch_closes_its_queue_to_writes_and_no_other() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    let (file, at) = holding(data.path(), numbered(97).as_bytes());
    assert_eq!(file.extension().unwrap(), "wal", "{}", file.display());
    let mut content = std::fs::read(&file).unwrap();
    content[at + 100] ^= 1;
    std::fs::write(&file, content).unwrap();
    check_damage(data.path(), &file);
}

#[test]
fn a_truncated_data_file_closes_its_queue_to_writes_and_no_other() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    let (file, at) = holding(data.path(), numbered(40).as_bytes());
    assert_eq!(file.extension().unwrap(), "seg", "{}", file.display());
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(at as u64 + 100).unwrap();
    check_damage(data.path(), &file);
}

#[test]
fn a_write_ahead_file_that_is_cut_is_told_and_never_taken_for_a_torn_tail() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    let mut http = Http::new(&server);
    http.put("/v1/default/queues/hurt", &json!({}));
    for n in 0..8 {
        http.call("POST", "/v1/default/queues/hurt/messages", "text/plain", numbered(n).as_bytes()).unwrap().ok();
    }
    server.signal("KILL");
    server.wait();
    let (file, at) = holding(data.path(), numbered(5).as_bytes());
    let cut = at as u64 + 100;
    std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(cut).unwrap();
    let place = format!("{} {cut}", place_of(data.path(), &file));
    let report = posthouse().args(["log", "verify"]).arg(data.path()).output().unwrap();
    let said = String::from_utf8_lossy(&report.stdout);
    assert!(said.contains(&format!("DAMAGE at {place}: the file ends here")) && said.contains("all logs"), "{said}");
    let hint = String::from_utf8_lossy(&report.stderr);
    assert!(hint.contains("does not start"), "{hint}");
    // Twice: the first start does not hide it from the second.
    for _ in 0..2 {
        let mut serve = posthouse();
        serve.arg("serve").arg("--data").arg(data.path()).args(SMALL_FILES);
        let said = failed(&mut serve, 1);
        assert!(said.contains(&place), "{said}");
    }
}

/// Flips a bit within these bytes of a file.
fn flip(file: &Path, at: usize) {
    let mut content = std::fs::read(file).unwrap();
    content[at] ^= 1;
    std::fs::write(file, content).unwrap();
}

fn place_of(data: &Path, file: &Path) -> String {
    format!("{} at byte", file.strip_prefix(data).unwrap().display())
}

fn start(data: &Path) -> Server {
    Server::start_with(data, &SMALL_FILES, &[])
}

/// A metric without labels.
fn metric(server: &Server, name: &str) -> f64 {
    let page = Http::new(server).call("GET", "/metrics", "", b"").unwrap().body;
    let page = String::from_utf8(page).unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

/// What the command line shows of an entity.
fn shown(server: &Server, entity: &str) -> Value {
    serde_json::from_str(&server.run(&format!("{entity} -o json"))).unwrap()
}

#[test]
fn damage_that_is_met_while_the_server_runs_shows_at_once() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    let (file, at) = holding(data.path(), numbered(40).as_bytes());
    assert_eq!(file.extension().unwrap(), "seg", "a start does not read it: {}", file.display());
    flip(&file, at + 100);
    let place = place_of(data.path(), &file);
    let server = start(data.path());
    let mut http = Http::new(&server);
    // A queue reads ahead by itself, so it may have been met already.
    beside_a_neighbour(&server, || {
        // Consuming ends with an error that says why, before or at the damaged message.
        let mut open = Value::Null;
        let mut received = 0;
        let problem = loop {
            let path = "/v1/default/queues/hurt/receive";
            let answer = http.call("POST", path, "application/json", b"{}").unwrap();
            if answer.status != 200 {
                break answer.problem(500);
            }
            let answer = answer.ok();
            assert_eq!(answer["deliveries"][0]["message"]["text"], json!(numbered(received)));
            open = answer["deliveries"][0]["receipt"].clone();
            received += 1;
            assert!(received <= 40, "the damaged message was handed out");
        };
        assert_eq!(problem.0, "storage-damaged");
        let said = problem.1["detail"].as_str().unwrap();
        assert!(said.contains(&place) && said.contains("log verify"), "{said}");
        if received > 0 {
            let receipt = json!({ "receipt": open }).to_string();
            let ack = "/v1/default/queues/hurt/ack";
            check(&server, "POST", ack, "application/json", receipt.as_bytes(), 500, "storage-damaged");
        }
        assert!(http.get("/v1/default/queues/hurt")["damage"].as_str().unwrap().contains(&place));
        assert!(shown(&server, "queue show hurt")["damage"].as_str().unwrap().contains(&place));
        assert!(server.run("queue show hurt").contains(&place));
        let status = server.run("status");
        assert!(status.contains("DAMAGED: 1 logs") && status.contains("hurt (DAMAGED)"), "{status}");
        assert_eq!(shown(&server, "status")["status"]["damaged_logs"], json!(1));
        assert_eq!(metric(&server, "posthouse_damaged_logs"), 1.0);
        // Whoever comes now is told at once; what can be read can be looked at.
        let receive = "/v1/default/queues/hurt/receive";
        check(&server, "POST", receive, "application/json", b"{}", 500, "storage-damaged");
        check(&server, "POST", "/v1/default/queues/hurt/messages", "text/plain", b"x", 500, "storage-damaged");
        let first = http.get("/v1/default/queues/hurt/messages?max=10");
        assert_eq!(first["messages"][0]["message"]["text"], json!(numbered(0)));
        // The neighbour is as it was.
        assert_eq!(http.get("/v1/default/queues/fine")["damage"], Value::Null);
        acknowledge_first(&mut http, "fine");
    });
    server.signal("TERM");
    assert_eq!(server.wait().0, Some(0));
    let report = posthouse().args(["log", "verify"]).arg(data.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&report.stdout).contains(&format!("DAMAGE at {place}")), "{report:?}");
}

#[test]
fn a_standing_consumer_is_told_of_damage_that_another_one_met() {
    let data = tempfile::tempdir().unwrap();
    filled(data.path());
    let (file, at) = holding(data.path(), numbered(40).as_bytes());
    flip(&file, at + 100);
    let server = start(data.path());
    let said = server.fails(1, "consume hurt --wait 60s");
    assert!(said.contains(&place_of(data.path(), &file)), "{said}");
}

/// The write-ahead file's frame that begins before this byte: where, and where its payload ends.
fn frame_before(content: &[u8], at: usize) -> (usize, usize) {
    let begin = content[..at].windows(4).rposition(|word| word == b"PHFP").unwrap();
    let word = |from: usize| u32::from_le_bytes(content[begin + from..begin + from + 4].try_into().unwrap()) as usize;
    (begin, begin + 64 + word(44) + word(52))
}

#[test]
fn topics_and_groups_show_their_damage_too() {
    let data = tempfile::tempdir().unwrap();
    let server = start(data.path());
    for line in ["topic create hurt --retain forever", "topic create fine --retain forever", "queue create evidence"] {
        server.run(line);
    }
    let mut http = Http::new(&server);
    let mut publish = |to: &str, n: u64| {
        let path = format!("/v1/default/{to}/messages");
        http.call("POST", &path, "text/plain", numbered(n).as_bytes()).unwrap().ok();
    };
    publish("topics/fine", 7);
    (0..60).for_each(|n| publish("topics/hurt", n));
    // A group's offsets, and behind them what shows that they were confirmed.
    server.run("group create lost --topic fine");
    server.run("group create kept --topic fine");
    server.run("group seek kept 1");
    server.run("group seek lost 1");
    (100..102).for_each(|n| publish("queues/evidence", n));
    server.signal("KILL");
    server.wait();
    let (file, at) = holding(data.path(), numbered(100).as_bytes());
    let content = std::fs::read(&file).unwrap();
    let (evidence, _) = frame_before(&content, at);
    let (_, end) = frame_before(&content, evidence);
    flip(&file, end - 1);
    let of_group = place_of(data.path(), &file);
    let (file, at) = holding(data.path(), numbered(20).as_bytes());
    assert_eq!(file.extension().unwrap(), "seg", "{}", file.display());
    flip(&file, at + 100);
    let of_topic = place_of(data.path(), &file);

    let server = start(data.path());
    let mut http = Http::new(&server);
    let group = http.get("/v1/default/groups/lost");
    assert!(group["damage"].as_str().is_some_and(|damage| damage.contains(&of_group)), "{group}");
    assert!(server.run("group show lost").contains(&of_group));
    assert!(server.fails(1, "group seek lost 0").contains("damaged"));
    assert!(server.run("group seek kept 0").contains("next 0"), "its neighbour works");
    assert_eq!(http.get("/v1/default/groups/kept")["damage"], Value::Null);

    assert_eq!(http.get("/v1/default/topics/hurt")["damage"], Value::Null, "nobody has read it yet");
    assert_eq!(metric(&server, "posthouse_damaged_logs"), 1.0);
    assert!(!server.run("status").contains("(DAMAGED)"));
    let said = server.fails(1, "consume --topic hurt --from earliest --wait 60s");
    assert!(said.contains(&of_topic), "{said}");
    let topic = http.get("/v1/default/topics/hurt");
    assert!(topic["damage"].as_str().is_some_and(|damage| damage.contains(&of_topic)), "{topic}");
    assert!(server.run("topic show hurt").contains(&of_topic));
    assert_eq!(metric(&server, "posthouse_damaged_logs"), 2.0);
    let status = server.run("status");
    assert!(status.contains("DAMAGED: 2 logs") && status.contains("hurt (DAMAGED)"), "{status}");
    assert_eq!(http.get("/v1/default/topics/fine")["damage"], Value::Null);
    assert!(server.run("consume --topic fine --from earliest --body --wait 0s").contains("00000007"));
}
