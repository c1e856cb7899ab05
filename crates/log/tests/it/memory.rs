//! The suite over the engine in memory, and what only that engine has.

use std::sync::{Arc, Mutex};

use log::{CommitOutcome, Durability, Log, MemoryLimits, MemoryLog, OpenError, Operation, Refusal, Target};
use types::Offset;

use crate::suite::{self, A, B, Case, Harness, append, create, ended, expecting};

struct Memory(Arc<MemoryLog>);

impl Harness for Memory {
    fn engine(&self) -> Arc<dyn Log> {
        self.0.clone()
    }

    fn restart(&mut self) {
        self.0 = Arc::new(self.0.reopen());
    }
}

fn make() -> Box<dyn Harness> {
    Box::new(Memory(Arc::new(MemoryLog::new())))
}

mod contract {
    crate::suite::run_over!(crate::memory::make);
}

/// A case over this engine, and the engine by its own type.
fn case(engine: MemoryLog) -> (Case, Arc<MemoryLog>) {
    let engine = Arc::new(engine);
    (Case { harness: Box::new(Memory(engine.clone())), engine: engine.clone() }, engine)
}

fn is_committed(outcome: &CommitOutcome) -> bool {
    matches!(outcome, CommitOutcome::Committed(_))
}

#[test]
fn it_says_what_it_can_do() {
    let capabilities = MemoryLog::new().capabilities();
    assert!(!capabilities.durable && capabilities.key_index && capabilities.sparse_deletes);
}

#[test]
fn commits_of_a_manual_engine_wait_for_a_round() {
    let (case, engine) = case(MemoryLog::manual());
    let started: Vec<_> = [vec![create(A)], vec![append(A, &["a"])], vec![expecting(1, append(A, &["b"]))]]
        .into_iter()
        .map(|operations| case.start(Durability::Memory, operations))
        .collect();
    assert_eq!(engine.waiting(), 3);
    assert!(engine.engine_state().waiting_bytes > 0);
    assert!(started.iter().all(|receiver| receiver.try_recv().is_err()), "none has ended");
    assert!(engine.logs().is_empty(), "nothing is visible");
    assert_eq!(engine.run_round(), 3);
    assert!(started.iter().all(|receiver| is_committed(&ended(receiver))));
    assert_eq!(case.offsets(A), [0, 1]);
    assert_eq!(engine.engine_state().waiting_bytes, 0);
    assert_eq!((engine.run_round(), engine.engine_state().rounds), (0, 1));
}

#[test]
fn a_takeover_fences_commits_that_wait() {
    let (case, engine) = case(MemoryLog::manual());
    let created = case.start(Durability::Memory, [create(A)]);
    engine.run_round();
    assert!(is_committed(&ended(&created)));
    let late = case.start(Durability::Memory, [append(A, &["a"])]);
    let opened = case.open(A);
    engine.run_round();
    let refusal = Refusal::WrongEpoch { log: A, used: suite::FIRST, current: opened.epoch };
    assert_eq!(ended(&late), CommitOutcome::Refused(refusal));
    assert_eq!(case.state(A).end, opened.state.end, "the new owner was told the truth");
}

#[test]
fn commits_of_completions_wait_for_the_next_round() {
    let engine = Arc::new(MemoryLog::manual());
    let order = Arc::new(Mutex::new(Vec::new()));
    let (again, later) = (engine.clone(), order.clone());
    let commit =
        |operations: Vec<Target>| log::Commit { durability: Durability::Fsync, operations, uses_reserve: false };
    engine.commit(
        commit(vec![create(A)]),
        Box::new(move |_| {
            later.lock().unwrap().push("first");
            again.commit(commit(vec![append(A, &["a"])]), Box::new(move |_| later.lock().unwrap().push("again")));
        }),
    );
    let second = order.clone();
    engine.commit(commit(vec![create(B)]), Box::new(move |_| second.lock().unwrap().push("second")));
    assert_eq!(engine.run_round(), 2);
    assert_eq!(*order.lock().unwrap(), ["first", "second"]);
    assert_eq!(engine.run_round(), 1);
    assert_eq!(*order.lock().unwrap(), ["first", "second", "again"]);
}

#[test]
fn a_restart_drops_what_waits() {
    let (case, engine) = case(MemoryLog::manual());
    let created = case.start(Durability::Memory, [create(A)]);
    engine.run_round();
    assert!(is_committed(&ended(&created)));
    let lost = case.start(Durability::Memory, [append(A, &["a"])]);
    let reopened = engine.reopen();
    assert_eq!(reopened.state(A).unwrap().end, Offset(0));
    assert!(lost.try_recv().is_err());
    assert_eq!((engine.run_round(), reopened.run_round()), (0, 0));
    assert_eq!(case.commit([append(A, &["x"])]), CommitOutcome::Refused(Refusal::Closed), "the old one is closed");
}

#[test]
fn close_ends_what_waits_for_a_round() {
    let (case, engine) = case(MemoryLog::manual());
    let created = case.start(Durability::Memory, [create(A)]);
    engine.close();
    assert!(is_committed(&created.try_recv().unwrap()));
    assert_eq!(case.commit([append(A, &["x"])]), CommitOutcome::Refused(Refusal::Closed));
}

#[test]
fn the_next_commit_can_be_made_to_fail() {
    let (case, engine) = case(MemoryLog::new());
    case.must([create(A), create(B)]);
    let full = Refusal::DiskFull { free_bytes: 1, reserve_bytes: 2 };
    engine.fail_next(full.clone());
    engine.fail_next(Refusal::Damaged(A));
    assert_eq!(case.refused([append(A, &["x"]), append(B, &["x"])]), full);
    assert_eq!(case.refused([append(A, &["x"])]), Refusal::Damaged(A));
    assert_eq!(case.must([append(A, &["a"])])[0].base, Offset(0));
    assert!(case.values(B).is_empty());
}

#[test]
fn an_unknown_end_poisons_the_engine_until_the_restart() {
    for found_later in [false, true] {
        let (case, engine) = case(MemoryLog::new());
        case.must([create(A), create(B), append(A, &["a"])]);
        if found_later {
            engine.end_unknown_found_later()
        } else {
            engine.end_unknown()
        }
        let outcome = case.commit([append(A, &["b"]), append(B, &["c"])]);
        assert!(matches!(outcome, CommitOutcome::Unknown(_)), "{outcome:?}");
        assert!(matches!(case.refused([append(A, &["x"])]), Refusal::Poisoned(_)));
        assert!(matches!(engine.open(&[A])[0], Err(OpenError::Unavailable(_))));
        assert!(engine.engine_state().poisoned.is_some());
        assert_eq!((case.offsets(A), case.offsets(B)), (vec![0], vec![]), "what is not known is not shown");

        let (case, engine) = self::case(engine.reopen());
        let expected = if found_later { (vec![0, 1], vec![0]) } else { (vec![0], vec![]) };
        assert_eq!((case.offsets(A), case.offsets(B)), expected, "as a whole or not at all");
        assert_eq!(engine.engine_state().poisoned, None);
        case.must([suite::under(case.open(A).epoch, append(A, &["d"]))]);
    }
}

#[test]
fn limits_refuse_what_is_too_large_or_too_much() {
    let one = suite::batch(&["a"]).size_bytes() as u64;
    let limits = MemoryLimits { commit_bytes: 2 * one, waiting_bytes: 3 * one };
    let (case, _) = case(MemoryLog::with_limits(limits));
    case.must([create(A), create(B)]);
    let distinct = || append(A, &["a"]);
    assert_eq!(
        case.refused([distinct(), distinct(), distinct()]),
        Refusal::TooLarge { bytes: 3 * one, limit: 2 * one }
    );
    let shared = suite::batch(&["a"]);
    case.must((0..10).map(|at| suite::append_batch(if at % 2 == 0 { A } else { B }, shared.clone())));

    // Commits of a completion wait until it has ended, so they pile up.
    let engine = case.engine.clone();
    let (sender, receiver) = suite::ends();
    let commit =
        || log::Commit { durability: Durability::Fsync, operations: vec![append(A, &["a"])], uses_reserve: false };
    case.engine.commit(
        commit(),
        Box::new(move |_| {
            for _ in 0..4 {
                let sender = sender.clone();
                engine.commit(commit(), Box::new(move |outcome| sender.send(outcome).unwrap()));
            }
        }),
    );
    let outcomes: Vec<_> = receiver.iter().collect();
    assert!(outcomes[..3].iter().all(is_committed));
    assert_eq!(outcomes[3], CommitOutcome::Refused(Refusal::Overloaded { waiting_bytes: 4 * one }));
    assert_eq!(case.engine.engine_state().waiting_bytes, 0);
}

#[test]
fn a_panicking_completion_leaves_the_engine_working() {
    let (case, engine) = case(MemoryLog::new());
    let panicking = engine.clone();
    let thread = std::thread::spawn(move || {
        let commit = log::Commit { durability: Durability::Fsync, operations: vec![create(A)], uses_reserve: false };
        panicking.commit(commit, Box::new(|_| panic!("on purpose")));
    });
    assert!(thread.join().is_err());
    assert_eq!(case.must([append(A, &["a"])]).len(), 1);
    let operation = Operation::Trim(Offset(1));
    case.must([suite::target(A, operation)]);
}
