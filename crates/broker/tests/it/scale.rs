//! How long starts take and what operations cost. Slow, and measured by hand: `cargo test --release -p broker --test it scale -- --ignored --nocapture`.

use std::sync::Arc;
use tokio::time::Instant;

use broker::definitions::{Permissions, QueueConfig};
use broker::{Broker, BrokerOptions, Credentials, UserChange};
use log::{EmbeddedLog, EmbeddedOptions, FileDisk};
use testkit::ManualClock;

const QUEUES: usize = 5_000;

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("there");
    line.split_whitespace().nth(1).expect("a number").parse().expect("a number")
}

fn open(path: &std::path::Path) -> Broker {
    let disk = Arc::new(FileDisk::open(path).expect("opens"));
    let log = EmbeddedLog::open(disk, EmbeddedOptions::default()).expect("starts");
    Broker::open(Arc::new(log), Arc::new(ManualClock::new()), BrokerOptions::default()).expect("starts")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures; run it by hand in release"]
#[allow(clippy::print_stdout, reason = "measurements are read by people")]
async fn a_start_with_ten_thousand_queues() {
    let path = std::env::temp_dir().join(format!("posthouse-scale-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a directory");
    let empty = Instant::now();
    let broker = open(&path);
    println!("an empty start took {:?}; resident {} KiB", empty.elapsed(), resident_kib());
    let principal = broker.authenticate(&Credentials::Anonymous).expect("open");
    let session = broker.session(&principal, "default").expect("there");
    let making = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..50 {
        let session = session.clone();
        tasks.spawn(async move {
            // Each brings its dead-letter queue.
            for n in 0..QUEUES / 50 {
                session.declare_queue(&format!("q-{task}-{n}"), QueueConfig::default(), false).await.expect("declares");
            }
        });
    }
    tasks.join_all().await;
    println!("{} queues made in {:?}", session.queues().expect("all").len(), making.elapsed());
    broker.close().await;
    drop((session, broker));
    let start = Instant::now();
    let broker = open(&path);
    println!("the start took {:?}; resident {} KiB", start.elapsed(), resident_kib());
    broker.tick().await;
    let tick = Instant::now();
    broker.tick().await;
    println!("a tick took {:?}", tick.elapsed());
    assert_eq!(broker.all_queues().len(), 2 * QUEUES);
    drop(broker);
    let _ = std::fs::remove_dir_all(&path);
}

/// The start alone, in a process that has done nothing else: what stays resident.
#[test]
#[ignore = "measures; run it by hand in release, with the directory in POSTHOUSE_SCALE_DIR"]
#[allow(clippy::print_stdout, reason = "measurements are read by people")]
fn a_start_alone() {
    let Ok(path) = std::env::var("POSTHOUSE_SCALE_DIR") else { return };
    let start = Instant::now();
    let broker = open(std::path::Path::new(&path));
    println!(
        "the start took {:?}; resident {} KiB; {} queues",
        start.elapsed(),
        resident_kib(),
        broker.all_queues().len()
    );
}

#[tokio::test]
#[ignore = "measures; run it by hand in release"]
#[allow(clippy::print_stdout, reason = "measurements are read by people")]
async fn a_permission_check() {
    let bench = crate::harness::Bench::new();
    let nobody = bench.broker.authenticate(&Credentials::Anonymous).expect("open");
    let root = UserChange { password: Some("long enough".into()), admin: Some(true), ..UserChange::default() };
    bench.broker.put_user(&nobody, "root", root).await.expect("makes");
    let credentials = Credentials::Password { user: "root".into(), password: "long enough".into() };
    let root = bench.broker.authenticate(&credentials).expect("is let in");
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let permissions = Permissions {
        configure: list(&["a*"]),
        write: list(&["b*", "*c"]),
        read: list(&["q.*"]),
        ..Permissions::default()
    };
    let change = UserChange { permissions: vec![("default".into(), Some(permissions))], ..UserChange::default() };
    bench.broker.put_user(&root, "u", change).await.expect("makes");
    let token = bench.broker.create_token(&root, "u", "", None).await.expect("makes");
    let user = bench.broker.authenticate(&Credentials::Token(token)).expect("is let in");
    let session = bench.broker.session(&user, "default").expect("sees it");
    let rounds = 1_000_000;
    let start = Instant::now();
    for _ in 0..rounds {
        // Allowed, and not there: little else than the check.
        assert!(session.stop_redrive("q.1").is_err());
    }
    println!("a refused operation, its check included: {:?}", start.elapsed() / rounds);
}
