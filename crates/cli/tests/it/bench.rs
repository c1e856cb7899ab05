//! `posthouse bench`, in runs of a few hundred messages.

use serde_json::Value;

use crate::harness::{Server, posthouse};

/// Runs a benchmark that must succeed; gives its result. Nothing that it made may be left.
#[track_caller]
fn check(server: &Server, line: &str) -> Value {
    let grpc = server.ready.split_whitespace().find(|word| word.starts_with("grpc://")).unwrap_or("grpc://127.0.0.1:1");
    let line = if line.contains(" grpc") { format!("{line} --grpc {grpc}") } else { line.to_owned() };
    let report: Value = serde_json::from_str(&server.run(&format!("bench {line} -o json"))).unwrap();
    assert_eq!(report["errors"], 0, "{line}: {report}");
    assert_eq!(report["interrupted"], false, "{line}");
    for kind in ["queue", "topic"] {
        let left: Value = serde_json::from_str(&server.run(&format!("{kind} list -o json"))).unwrap();
        assert_eq!(left, serde_json::json!([]), "{line} leaves a {kind}");
    }
    report
}

/// The counts and latencies of a report fit each other.
#[track_caller]
fn check_figures(report: &Value, messages: u64) {
    assert_eq!(report["messages"], messages, "{report}");
    assert!(report["messages_per_second"].as_f64().unwrap() > 0.0, "{report}");
    let latency = &report["latency"];
    assert_eq!(latency["count"], messages, "{report}");
    let quantiles = ["p50_us", "p99_us", "p999_us", "max_us"].map(|name| latency[name].as_u64().unwrap());
    assert!(quantiles[0] > 0 && quantiles.is_sorted(), "{report}");
}

const PROTOCOLS: [&str; 3] = ["http", "ws", "grpc"];

#[test]
fn every_protocol_publishes_what_it_says_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), &["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"], &[]);
    for protocol in PROTOCOLS {
        let report = check(&server, &format!("publish --protocol {protocol} --count 300 --concurrency 3 --queues 7"));
        check_figures(&report, 300);
        assert_eq!(report["stored"], 300, "{report}");
        // 300 is no multiple of the batch: the last one is smaller.
        let line =
            format!("publish --protocol {protocol} --count 300 --batch 70 --window 200 --broker-pid {}", server.pid());
        let report = check(&server, &line);
        check_figures(&report, 300);
        assert_eq!(report["stored"], 300, "{report}");
        let broker = &report["broker"];
        assert_eq!(broker["messages"], 300, "{report}");
        assert!(broker["wal_bytes_per_message"].as_f64().unwrap() >= 1024.0, "{report}");
        assert!(broker["cpu_seconds"].as_f64().unwrap() >= 0.0, "{report}");
    }
    // What waits goes together, over however many frames; and publishes may be calls of their own.
    let report = check(&server, "publish --protocol grpc --count 1000 --batch 64 --coalesce --window 100");
    check_figures(&report, 1000);
    let report = check(&server, "publish --protocol grpc --unary --count 1000 --batch 100 --window 400");
    check_figures(&report, 1000);
    assert_eq!(report["stored"], 1000, "{report}");
}

#[test]
fn every_protocol_consumes_what_was_published() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), &["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"], &[]);
    for protocol in PROTOCOLS {
        let report = check(&server, &format!("consume --protocol {protocol} --count 300 --window 50 --concurrency 2"));
        check_figures(&report, 300);
        let report = check(&server, &format!("consume --protocol {protocol} --count 200 --window 20 --stalled 1"));
        check_figures(&report, 200);
    }
}

#[test]
fn every_protocol_carries_messages_from_end_to_end() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), &["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"], &[]);
    for protocol in PROTOCOLS {
        let report = check(&server, &format!("end-to-end --protocol {protocol} --count 300 --window 20 --queues 2"));
        check_figures(&report, 300);
    }
}

#[test]
fn every_protocol_fans_out_to_all_queues() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), &["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"], &[]);
    for protocol in PROTOCOLS {
        let report = check(&server, &format!("fan-out --protocol {protocol} --count 100 --queues 4"));
        check_figures(&report, 100);
        assert_eq!(report["stored"], 400, "{report}");
    }
}

#[test]
fn every_protocol_asks_and_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start_with(directory.path(), &["--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"], &[]);
    for protocol in PROTOCOLS {
        check_figures(&check(&server, &format!("request-reply --protocol {protocol} --count 200")), 200);
        let line = format!("request-reply --protocol {protocol} --count 200 --concurrency 2 --window 5");
        check_figures(&check(&server, &line), 200);
    }
}

#[test]
fn an_open_loop_keeps_its_rate_and_a_duration_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let report = check(&server, "publish --rate 200 --duration 1s --warmup 200ms --concurrency 2");
    let messages = report["messages"].as_u64().unwrap();
    // A machine that is too slow has fewer; more than fell due there can be only by what was late when measuring began.
    assert!((1..=400).contains(&messages), "{report}");
    assert!(report["latency"]["measured"].as_str().unwrap().contains("due"), "{report}");
    let report = check(&server, "publish --protocol ws --duration 500ms --warmup 100ms --coalesce --batch 50");
    assert!((report["seconds"].as_f64().unwrap() - 0.5).abs() < 1e-6, "{report}");
}

#[test]
fn a_disk_is_measured_without_a_server_and_left_clean() {
    let directory = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let mut command = posthouse();
        command.args(["bench", "disk", "--duration", "200ms", "-o", "json", "--dir"]).arg(directory.path()).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["disk"].as_array().unwrap().clone()
    };
    let rhythms = run(&[]);
    let sizes: Vec<u64> = rhythms.iter().map(|rhythm| rhythm["sync_bytes"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [64 << 10, 1 << 20]);
    for rhythm in &rhythms {
        let (syncs, seconds) = (rhythm["syncs"].as_f64().unwrap(), rhythm["seconds"].as_f64().unwrap());
        let mib = rhythm["sync_bytes"].as_f64().unwrap() * syncs / 1_048_576.0;
        assert!((rhythm["mib_per_second"].as_f64().unwrap() - mib / seconds).abs() < 0.01, "{rhythm}");
        assert!(rhythm["fdatasync_p50_us"].as_u64().unwrap() <= rhythm["fdatasync_p99_us"].as_u64().unwrap());
    }
    assert_eq!(run(&["--sync-bytes", "4KiB"]).len(), 1);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn the_disk_beside_a_run_gives_a_ratio() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let server = Server::start(&data);
    let report = check(&server, &format!("publish --count 100 --with-disk '{}'", directory.path().display()));
    let ratios: Vec<f64> =
        report["disk"].as_array().unwrap().iter().map(|rhythm| rhythm["ratio"].as_f64().unwrap()).collect();
    assert_eq!(ratios.len(), 2);
    assert!(ratios.iter().all(|ratio| *ratio > 0.0), "{report}");
}

#[test]
fn ctrl_c_shows_what_was_measured_and_removes_everything() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    let mut command = server.command("bench publish --duration 1h --warmup 0s -o json");
    let child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let count = |text: &str| {
        let queues: Value = serde_json::from_str(text).unwrap();
        queues[0]["counters"]["enqueued"].as_u64().unwrap_or(0)
    };
    server.until("queue list -o json", |text| count(text) > 10);
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["interrupted"], true);
    assert!(report["messages"].as_u64().unwrap() > 0, "{report}");
    let left: Value = serde_json::from_str(&server.run("queue list -o json")).unwrap();
    assert_eq!(left, serde_json::json!([]));
}

#[test]
fn a_run_that_cannot_work_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path());
    assert!(server.fails(2, "bench publish --batch 10 --window 5").contains("does not fit a window"));
    assert!(server.fails(2, "bench publish --unary").contains("--protocol grpc"));
    assert!(server.fails(2, "bench consume --rate 5").contains("--rate"));
    assert!(server.fails(2, "bench publish --size 8B").contains("16 B"));
    let nobody =
        posthouse().args(["bench", "publish", "--count", "5", "--url", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(7));
}
