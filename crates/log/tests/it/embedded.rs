//! The suite over the embedded engine, as it runs in a server and with files so small that everything moves all the time.

#![allow(
    clippy::disallowed_methods,
    reason = "how long an engine's own threads take is measured by the machine's clock"
)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use log::CommitOutcome::{self, Committed};
use log::{Commit, Durability, EmbeddedLog, EmbeddedOptions, Log, LogConfig, Refusal, Round};
use testkit::{CrashStyle, FaultDisk};
use types::Offset;
use types::disk::Disk;

use crate::suite::{A, B, Case, Harness, append, config, create, create_as, ended};

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

/// What is written nowhere need not wake the committer, but it has its turn like everything else.
#[test]
fn commits_in_memory_end_within_the_call_unless_others_are_before_them() {
    let disk = FaultDisk::new();
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), EmbeddedOptions::default()).unwrap();
    let case = Case { harness: Box::new(Nothing), engine: Arc::new(engine) };
    case.must([create(A), create_as(B, LogConfig { volatile: true, ..config() })]);
    let at_once = case.start(Durability::Memory, [append(B, &["at once"])]);
    // The creation's end was heard, but its round may still be ending: whoever comes then waits for the committer.
    ended(&at_once);
    let at_once = || case.start(Durability::Memory, [append(B, &["at once"])]).try_recv().is_ok();
    assert!((0..1000).any(|_| at_once()), "a commit in memory never ends within its call");
    disk.hold_syncs();
    let durable = case.start(Durability::Fsync, [append(A, &["first"])]);
    let behind: Vec<_> = (0..10).map(|_| case.start(Durability::Memory, [append(B, &["behind"])])).collect();
    assert!(durable.try_recv().is_err() && behind.iter().all(|end| end.try_recv().is_err()), "out of turn");
    disk.release_syncs();
    for end in std::iter::once(&durable).chain(&behind) {
        assert!(matches!(ended(end), Committed(_)));
    }
}

/// Whoever ends its own commits, and the committer, take turns: each log's ends come in the order of its offsets, nobody is forgotten, and a
/// commit that is made when another one ends is no exception.
#[test]
fn threads_that_end_their_own_commits_keep_the_order() {
    const THREADS: usize = 4;
    const COMMITS: usize = 300;
    let engine = EmbeddedLog::open(Arc::new(FaultDisk::new()), EmbeddedOptions::default()).unwrap();
    let case = Case { harness: Box::new(Nothing), engine: Arc::new(engine) };
    case.must([create(A), create_as(B, LogConfig { volatile: true, ..config() })]);
    let bases: Arc<Mutex<[Vec<u64>; 2]>> = Arc::default();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, bases, sender) = (&case.engine, &bases, &sender);
            scope.spawn(move || {
                for at in 0..COMMITS {
                    let durable = (at + thread) % 7 == 0;
                    let (place, target) = if durable { (0, append(A, &["a"])) } else { (1, append(B, &["b"])) };
                    let durability = if durable { Durability::Fsync } else { Durability::Memory };
                    let (bases, sender, again) = (bases.clone(), sender.clone(), engine.clone());
                    let done = move |outcome: CommitOutcome| {
                        let Committed(written) = outcome else { panic!("refused") };
                        bases.lock().unwrap()[place].push(written[0].base.0);
                        let nested = Commit {
                            durability: Durability::Memory,
                            operations: vec![append(B, &["nested"])],
                            uses_reserve: false,
                        };
                        let (bases, sender) = (bases.clone(), sender.clone());
                        let done = move |outcome: CommitOutcome| {
                            let Committed(written) = outcome else { panic!("refused") };
                            bases.lock().unwrap()[1].push(written[0].base.0);
                            sender.send(()).unwrap();
                        };
                        again.commit(nested, Box::new(done));
                    };
                    let commit = Commit { durability, operations: vec![target], uses_reserve: false };
                    engine.commit(commit, Box::new(done));
                }
            });
        }
    });
    for _ in 0..THREADS * COMMITS {
        receiver.recv_timeout(Duration::from_secs(60)).expect("a commit was forgotten");
    }
    let bases = bases.lock().unwrap();
    assert_eq!(bases[0].len() + bases[1].len(), 2 * THREADS * COMMITS);
    for bases in &*bases {
        assert!(bases.iter().copied().eq(0..bases.len() as u64), "out of order: {bases:?}");
    }
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
