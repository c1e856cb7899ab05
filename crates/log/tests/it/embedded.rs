//! The suite over the embedded engine, as it runs in a server and with files so small that everything moves all the time.

#![allow(
    clippy::disallowed_methods,
    reason = "how long an engine's own threads take is measured by the machine's clock"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use log::CommitOutcome::{self, Committed};
use log::{Durability, EmbeddedLog, EmbeddedOptions, Log, Refusal, Round};
use testkit::{CrashStyle, FaultDisk};
use types::Offset;
use types::disk::Disk;

use crate::suite::{A, Case, Harness, append, create, ended};

struct Embedded {
    disk: Arc<dyn Disk>,
    options: EmbeddedOptions,
    engine: Option<Arc<EmbeddedLog>>,
}

impl Embedded {
    fn boxed(options: EmbeddedOptions) -> Box<dyn Harness> {
        let disk: Arc<dyn Disk> = Arc::new(FaultDisk::new());
        let engine = EmbeddedLog::open(disk.clone(), options.clone()).unwrap();
        Box::new(Self { disk, options, engine: Some(Arc::new(engine)) })
    }
}

impl Harness for Embedded {
    fn engine(&self) -> Arc<dyn Log> {
        self.engine.clone().unwrap()
    }

    fn restart(&mut self) {
        // The last handle goes first: its threads end before the next engine starts.
        drop(self.engine.take());
        self.engine = Some(Arc::new(EmbeddedLog::open(self.disk.clone(), self.options.clone()).unwrap()));
    }
}

fn as_in_a_server() -> Box<dyn Harness> {
    Embedded::boxed(EmbeddedOptions { wal_file_bytes: 1 << 20, ..EmbeddedOptions::default() })
}

/// Frames hardly fit a file, so that files are moved, checkpoints written and segments rewritten all the time.
fn with_tiny_files() -> Box<dyn Harness> {
    Embedded::boxed(EmbeddedOptions {
        wal_file_bytes: 4096,
        wal_files: 2,
        recent_bytes: 0,
        own_segment_bytes: 1024,
        ..EmbeddedOptions::default()
    })
}

mod contract {
    crate::suite::run_over!(crate::embedded::as_in_a_server);
}

mod contract_with_tiny_files {
    crate::suite::run_over!(crate::embedded::with_tiny_files);
}

#[test]
fn interval_commits_are_synced_in_time_even_if_they_never_stop_coming() {
    let disk = FaultDisk::new();
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), EmbeddedOptions::default()).unwrap();
    let case = Case { harness: Box::new(Nothing), engine: Arc::new(engine) };
    case.must([create(A)]);
    let commit = || assert!(matches!(ended(&case.start(Durability::Interval, [append(A, &["a"])])), Committed(_)));
    for _ in 0..3 {
        let (before, start) = (disk.syncs(), Instant::now());
        while disk.syncs() == before {
            commit();
            assert!(start.elapsed() < Duration::from_secs(20), "never synced");
        }
    }
    // And the last one is synced too, although nothing follows it.
    commit();
    let image = || EmbeddedLog::open(Arc::new(disk.crash_image(CrashStyle::Lost, 0)), EmbeddedOptions::default());
    let (end, start) = (case.state(A).end, Instant::now());
    while image().unwrap().state(A).unwrap().end < end {
        assert!(start.elapsed() < Duration::from_secs(20), "never synced");
    }
}

/// A harness of a test that does not restart.
struct Nothing;

impl Harness for Nothing {
    fn engine(&self) -> Arc<dyn Log> {
        Arc::new(log::MemoryLog::new())
    }

    fn restart(&mut self) {}
}

#[test]
fn commits_that_wait_while_a_sync_runs_share_the_next_one() {
    let disk = FaultDisk::new();
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), EmbeddedOptions::default()).unwrap();
    let case = Case { harness: Box::new(Nothing), engine: Arc::new(engine) };
    case.must([create(A)]);
    disk.hold_syncs();
    let first = case.start(Durability::Fsync, [append(A, &["first"])]);
    let (rounds, start) = (case.engine.engine_state().rounds, Instant::now());
    while case.engine.engine_state().rounds == rounds && start.elapsed() < Duration::from_secs(20) {
        std::thread::yield_now();
    }
    let waiting: Vec<_> = (0..100).map(|_| case.start(Durability::Fsync, [append(A, &["a"])])).collect();
    assert!(first.try_recv().is_err() && waiting.iter().all(|end| end.try_recv().is_err()), "none before its sync");
    assert_eq!(case.state(A).end, Offset(0), "nothing is readable before its sync");
    disk.release_syncs();
    for end in std::iter::once(&first).chain(&waiting) {
        assert!(matches!(ended(end), Committed(_)));
    }
    let state = case.engine.engine_state();
    assert!(state.rounds <= rounds + 3, "{} rounds for 101 commits", state.rounds - rounds);
    assert_eq!(state.sync_us.iter().sum::<u64>(), state.rounds, "one sync a round");
}

#[test]
fn behind_the_bound_on_waiting_bytes_commits_are_refused_as_overloaded() {
    let options = EmbeddedOptions { threads: false, max_waiting_bytes: 10_000, ..EmbeddedOptions::default() };
    let engine = EmbeddedLog::open(Arc::new(FaultDisk::new()), options).unwrap();
    let engine = Arc::new(engine);
    let case = Case { harness: Box::new(Nothing), engine: engine.clone() };
    let created = case.start(Durability::Fsync, [create(A)]);
    let text = "x".repeat(3000);
    let started: Vec<_> = (0..5).map(|_| case.start(Durability::Fsync, [append(A, &[&text])])).collect();
    let refused = |end: &std::sync::mpsc::Receiver<CommitOutcome>| {
        matches!(end.try_recv(), Ok(CommitOutcome::Refused(Refusal::Overloaded { .. })))
    };
    assert_eq!(started.iter().map(refused).collect::<Vec<_>>(), [false, false, false, true, true]);
    while engine.run_round() == Round::Done {}
    assert!(matches!(ended(&created), Committed(_)));
    assert_eq!(case.state(A).records, 3);
    assert_eq!(case.engine.engine_state().waiting_bytes, 0);
}
