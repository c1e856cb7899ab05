//! Backups of a running server, and servers that are started on them.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::{Value, json};

use crate::features::Api;
use crate::harness::{PATIENCE, Server, failed, posthouse};
use crate::http::raw;

/// Runs a command without a server; gives what it prints.
#[track_caller]
fn run(arguments: &[&str]) -> String {
    let output = posthouse().args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(code: i32, arguments: &[&str]) -> String {
    failed(posthouse().args(arguments), code)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Takes all there is of a queue and acknowledges it; gives the bodies, each once for each time that it came.
fn drain(server: &Server, queue: &str) -> Vec<String> {
    let said = server.run(&format!("consume {queue} --wait 0s --body"));
    said.lines().map(str::to_owned).collect()
}

/// What the writers and the reader of a busy server know.
#[derive(Default)]
struct Known {
    /// Confirmed by the server.
    published: BTreeSet<String>,
    /// Handed out and begun to be acknowledged; then acknowledged for sure.
    settling: BTreeSet<String>,
    acked: BTreeSet<String>,
}

fn publish(server: &Server, known: &Mutex<Known>, stop: &AtomicBool, name: usize) {
    let mut api = Api::new(server);
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let bodies: Vec<String> = (0..5).map(|at| format!("{name}-{number}-{at}")).collect();
        let messages: Vec<Value> = bodies.iter().map(|body| json!({"text": body})).collect();
        api.publish("topics/orders", &messages);
        known.lock().unwrap().published.extend(bodies);
    }
}

fn consume(server: &Server, known: &Mutex<Known>, stop: &AtomicBool) {
    let mut api = Api::new(server);
    while !stop.load(Ordering::Relaxed) {
        let answer = api.post("queues/work/receive", &json!({"max": 7, "wait_ms": 100}));
        let deliveries = answer["deliveries"].as_array().unwrap().clone();
        let bodies: Vec<String> =
            deliveries.iter().map(|delivery| delivery["message"]["text"].as_str().unwrap().to_owned()).collect();
        let receipts: Vec<Value> = deliveries.iter().map(|delivery| delivery["receipt"].clone()).collect();
        if receipts.is_empty() {
            continue;
        }
        known.lock().unwrap().settling.extend(bodies.iter().cloned());
        let settlements: Vec<Value> =
            receipts.into_iter().map(|receipt| json!({"receipt": receipt, "action": "ack"})).collect();
        let answer = api.post("queues/work/settle", &json!({"settlements": settlements}));
        assert!(answer["results"].as_array().unwrap().iter().all(|result| result["ok"] == json!(true)), "{answer}");
        known.lock().unwrap().acked.extend(bodies);
    }
}

#[test]
fn a_backup_of_a_busy_server_has_all_that_was_confirmed_and_nothing_that_was_acknowledged_before() {
    let (data, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    server.run("topic create orders --retain forever");
    server.run("queue create work --lease 1h");
    server.run("binding create orders work");
    server.run("group create audit --topic orders");
    let (known, stop) = (Mutex::new(Known::default()), AtomicBool::new(false));
    let file = away.path().join("copy.tar");
    let (before, after) = std::thread::scope(|scope| {
        (0..2).for_each(|name| {
            drop(scope.spawn({
                let (server, known, stop) = (&server, &known, &stop);
                move || publish(server, known, stop, name)
            }))
        });
        scope.spawn(|| consume(&server, &known, &stop));
        let deadline = Instant::now() + PATIENCE;
        while known.lock().unwrap().acked.len() < 100 && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let look = || {
            let known = known.lock().unwrap();
            (known.published.clone(), known.settling.clone(), known.acked.clone())
        };
        let before = look();
        let made = server.command(&format!("backup {} -o json", text(&file))).output().unwrap();
        let after = look();
        stop.store(true, Ordering::Relaxed);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        (before, after)
    });
    assert!(before.2.len() >= 100, "nothing was consumed");
    drop(server);

    assert!(run(&["restore", "--verify", text(&file)]).contains("is whole: "));
    let restored = away.path().join("data");
    let said = run(&["restore", text(&file), "--data", text(&restored)]);
    assert!(said.contains("start it with: posthouse serve --data"), "{said}");
    assert!(run(&["log", "verify", text(&restored)]).contains("no damage"));
    let server = Server::start(&restored);
    let logged: Vec<String> =
        server.run("consume --topic orders --from earliest --wait 0s --body").lines().map(str::to_owned).collect();
    let all: BTreeSet<String> = logged.iter().cloned().collect();
    assert_eq!(all.len(), logged.len(), "none twice");
    assert!(before.0.is_subset(&all), "confirmed before, and not there");
    // Each message of the topic's log is waiting in the queue, or was acknowledged: at least those that were before, at most those that
    // were begun to be until the backup's end.
    let left = drain(&server, "work");
    let queued: BTreeSet<String> = left.iter().cloned().collect();
    assert_eq!(queued.len(), left.len(), "none twice");
    assert!(queued.is_subset(&all), "whole publishes");
    let gone: BTreeSet<String> = all.difference(&queued).cloned().collect();
    assert!(before.2.is_subset(&gone), "acknowledged before, and came back");
    assert!(gone.is_subset(&after.1.union(&known.into_inner().unwrap().settling).cloned().collect()), "lost");
    // Each request of five is there as a whole.
    for body in &all {
        let (request, _) = body.rsplit_once('-').unwrap();
        assert!((0..5).all(|at| all.contains(&format!("{request}-{at}"))), "{request} is there in part");
    }
    assert!(server.run("group list").contains("audit"));
}

#[test]
fn a_restored_server_remembers_users_tokens_producers_dedup_ids_and_dead_letters() {
    let (data, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    server.run("queue create once --dedup-window 1h");
    server.run("queue create work --max-attempts 1");
    server.run("publish --queue once --dedup-id a first");
    server.run("publish --queue work poison");
    server.run("consume work --max 1 --exec 'exit 1'");
    server.until("dlq show work -o json", |said| said.contains("poison"));
    server.run_with("user create boss --admin --password-stdin", "secret\n");
    let boss = "--user boss --password secret";
    server.run_with(&format!("user create reader --password-stdin --read '*' {boss}"), "pw\n");
    let token = server.run(&format!("token create boss --description ci {boss}"));
    let file = away.path().join("copy.tar");
    // It is for administrators.
    server.fails(5, &format!("backup {}", text(&file)));
    server.fails(5, &format!("backup {} --user reader --password pw", text(&file)));
    assert!(!file.exists());
    let said = server.run(&format!("backup {} {boss}", text(&file)));
    assert!(said.contains("copy.tar holds ") && said.contains(" logs with "), "{said}");
    server.run(&format!("publish --queue once --dedup-id b later {boss}"));
    // What is there is not written over unasked.
    assert!(server.fails(4, &format!("backup {} {boss}", text(&file))).contains("--force"));
    let second = away.path().join("second.tar");
    std::fs::write(&second, "old").unwrap();
    server.run(&format!("backup {} --force {boss}", text(&second)));
    assert!(!away.path().join("second.tar.partial").exists());
    run(&["restore", "--verify", text(&second)]);
    drop(server);

    let restored = away.path().join("data");
    run(&["restore", text(&file), "--data", text(&restored)]);
    let server = Server::start(&restored);
    server.fails(5, "queue list");
    let by_token = format!("--token {}", token.trim().lines().last().unwrap().trim());
    server.run(&format!("queue list {by_token}"));
    // Known before the backup: not stored again. Known only after it: stored.
    server.run(&format!("publish --queue once --dedup-id a again {boss}"));
    server.run(&format!("publish --queue once --dedup-id b later {boss}"));
    assert_eq!(server.run(&format!("consume once --wait 0s --body {boss}")), "first\nlater\n");
    assert!(server.run(&format!("dlq show work -o json {boss}")).contains("poison"));
}

#[test]
fn a_backup_goes_through_a_pipe_and_what_is_broken_on_the_way_is_not_kept() {
    let (data, away) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(data.path());
    server.run("queue create work");
    server.run("publish --queue work needle");
    let mut backup = server.command("backup -").stdout(Stdio::piped()).spawn().unwrap();
    let restored = away.path().join("piped");
    let mut restore = posthouse();
    restore.args(["restore", "-", "--data", text(&restored)]).stdin(backup.stdout.take().unwrap());
    let restore = restore.output().unwrap();
    assert!(restore.status.success() && backup.wait().unwrap().success(), "{restore:?}");

    let file = away.path().join("copy.tar");
    server.run(&format!("backup {}", text(&file)));
    let metrics = server.run("status -o json");
    assert!(metrics.contains("last_backup_ms") && !metrics.contains("last_backup_error"), "{metrics}");
    drop(server);
    let archive = std::fs::read(&file).unwrap();
    let (cut, flipped) = (away.path().join("cut.tar"), away.path().join("flipped.tar"));
    std::fs::write(&cut, &archive[..archive.len() / 2]).unwrap();
    let at = archive.windows(6).position(|window| window == b"needle").unwrap();
    let mut bytes = archive.clone();
    bytes[at] ^= 1;
    std::fs::write(&flipped, bytes).unwrap();
    let target = away.path().join("target");
    for (file, why) in [(&cut, "cut off"), (&flipped, "checksum"), (&data.path().join("wal/00000001.wal"), "no backup")]
    {
        assert!(fails(1, &["restore", "--verify", text(file)]).contains(why));
        assert!(fails(1, &["restore", text(file), "--data", text(&target)]).contains(why));
        assert!(!target.exists(), "nothing is left of {why}");
    }
    assert!(fails(3, &["restore", "--verify", "no-such-file.tar"]).contains("no-such-file.tar"));
    // Nothing is written over, and somebody's directory stays as it is.
    assert!(fails(4, &["restore", text(&file), "--data", text(data.path())]).contains("not empty"));
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("notes.txt"), "mine").unwrap();
    assert!(fails(4, &["restore", text(&file), "--data", text(&target)]).contains("notes.txt"));
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 1);
    // A restore that was killed is told apart from a data directory, and run again.
    let half = away.path().join("half");
    std::fs::create_dir_all(half.join("wal")).unwrap();
    std::fs::write(half.join("RESTORING"), "").unwrap();
    std::fs::write(half.join("wal/00000001.wal"), "half").unwrap();
    let said = fails(1, &["serve", "--data", text(&half), "--http", "127.0.0.1:0", "--grpc", "off"]);
    assert!(said.contains("posthouse restore"), "{said}");
    run(&["restore", text(&file), "--data", text(&half)]);
    for data in [&half, &restored] {
        assert_eq!(drain(&Server::start(data), "work"), ["needle"]);
    }
}

#[test]
fn a_client_that_goes_away_ends_its_backup_and_the_next_one_may_begin() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    server.run("queue create work");
    let line = "x".repeat(1_000_000);
    server.run_with("publish --queue work --lines -", &format!("{line}\n").repeat(30));
    let mut stalled = raw(&server);
    stalled.write_all(b"GET /admin/v1/backup HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut head = [0; 12];
    stalled.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let said = server.until("status", |said| said.contains("backup under way"));
    assert!(said.contains("disk kept for it"), "{said}");
    let away = tempfile::tempdir().unwrap();
    let file = away.path().join("copy.tar");
    let said = server.fails(4, &format!("backup {}", text(&file)));
    assert!(said.contains("another backup is under way") && said.contains("posthouse status"), "{said}");
    // The broker goes on meanwhile.
    server.run("publish --queue work more");
    drop(stalled);
    server.until("status", |said| said.contains("the last backup FAILED: the client went away"));
    server.run(&format!("backup {}", text(&file)));
    assert!(!server.run("status").contains("FAILED"));
    run(&["restore", "--verify", text(&file)]);
    // A server that stops does not wait for who does not read.
    let mut stalled = raw(&server);
    stalled.write_all(b"GET /admin/v1/backup HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    stalled.read_exact(&mut head).unwrap();
    server.signal("TERM");
    assert_eq!(server.wait().0, Some(0));
}
