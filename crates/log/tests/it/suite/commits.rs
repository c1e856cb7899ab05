//! Commits: together or not at all, and their ends in order.

use std::sync::Mutex;

use log::{LogConfig, ReadError, Refusal};
use types::{LogId, Offset};

use super::*;

fn written(base: u64, end: u64) -> Written {
    Written { base: Offset(base), end: Offset(end) }
}

pub(crate) fn a_commit_says_where_everything_went(make: Make) {
    let case = Case::with_logs(make);
    let done = case.must([append(A, &["a", "b"]), append(B, &["c"]), append(A, &["d"])]);
    assert_eq!(done, [written(0, 2), written(0, 1), written(2, 3)]);
    let done = case.must([delete(A, &[0..1]), trim(A, 2), configure(B, config()), remove(A)]);
    assert_eq!(done, [written(3, 3), written(3, 3), written(1, 1), written(3, 3)]);
}

pub(crate) fn operations_of_a_commit_see_those_before_them(make: Make) {
    let mut case = Case::new(make);
    case.must([
        create(A),
        expecting(0, append(A, &["a", "b", "c", "d"])),
        expecting(4, delete(A, &[1..2])),
        trim(A, 1),
        append(A, &["e"]),
        expecting(5, configure(A, LogConfig { label: "new".to_owned(), ..config() })),
    ]);
    for _ in 0..2 {
        assert_eq!(case.values(A), [(2, "c".to_owned()), (3, "d".to_owned()), (4, "e".to_owned())]);
        assert_eq!(case.open(A).config.label, "new");
        case.restart();
    }
    assert_eq!(case.refused([create(B), remove(B), append(B, &["x"])]), Refusal::NoSuchLog(B));
    case.must([create(B), remove(B)]);
    assert_eq!(case.refused([create(B)]), Refusal::Exists(B));
}

pub(crate) fn a_refusal_of_one_part_refuses_all(make: Make) {
    let mut case = Case::with_logs(make);
    let epoch = case.open(B).epoch;
    case.must([append(A, &["a"]), under(epoch, append(B, &["b"]))]);
    let none = LogId(77);
    let bad: Vec<(Target, Refusal)> = vec![
        (append(none, &["x"]), Refusal::NoSuchLog(none)),
        (create(B), Refusal::Exists(B)),
        (append(B, &["x"]), Refusal::WrongEpoch { log: B, used: FIRST, current: epoch }),
        (
            under(epoch, expecting(0, append(B, &["x"]))),
            Refusal::WrongEnd { log: B, expected: Offset(0), actual: Offset(1) },
        ),
    ];
    for (bad, refusal) in bad {
        let good = || [append(A, &["x"]), delete(A, &[0..1]), trim(A, 1), create(LogId(50))];
        // At the front, in the middle, at the end.
        for at in 0..=good().len() {
            let mut operations: Vec<Target> = good().into();
            operations.insert(at, bad.clone());
            assert_eq!(case.refused(operations), refusal, "at {at}");
            let with_configuration = [configure(A, LogConfig { key_index: true, ..config() }), bad.clone(), remove(A)];
            assert_eq!(case.refused(with_configuration), refusal);
        }
    }
    for _ in 0..2 {
        assert_eq!(case.values(A), [(0, "a".to_owned())]);
        assert_eq!(case.values(B), [(0, "b".to_owned())]);
        assert_eq!(case.state(A).end, Offset(1));
        assert_eq!(case.engine.key(A, b"k"), Err(ReadError::NoKeyIndex(A)));
        assert_eq!(case.engine.logs().len(), 2);
        case.restart();
    }
}

pub(crate) fn the_expected_end_counts_commits_under_way(make: Make) {
    let case = Case::with_logs(make);
    let started: Vec<_> =
        (0..50).map(|at| case.start(Durability::Fsync, [expecting(at * 2, append(A, &["a", "b"]))])).collect();
    for (at, receiver) in started.iter().enumerate() {
        let at = at as u64 * 2;
        assert_eq!(ended(receiver), CommitOutcome::Committed(vec![written(at, at + 2)]));
    }
    let refusal = case.refused([expecting(98, append(A, &["x"]))]);
    assert_eq!(refusal, Refusal::WrongEnd { log: A, expected: Offset(98), actual: Offset(100) });
    // Also for what is no append, and for a log just made.
    assert!(matches!(case.refused([expecting(7, trim(A, 1))]), Refusal::WrongEnd { .. }));
    assert_eq!(case.state(A).records, 100);
}

pub(crate) fn malformed_commits_are_refused(make: Make) {
    let case = Case::with_logs(make);
    case.must([append(A, &["a", "b", "c", "d"])]);
    let bad = [
        ("not ascending", delete(A, &[2..3, 0..1])),
        ("overlapping", delete(A, &[0..2, 1..3])),
        ("backwards", delete(A, &[Range { start: 3, end: 1 }])),
        ("empty", delete(A, &[Range { start: 2, end: 2 }])),
        ("beyond the end", delete(A, &[3..5])),
        ("trim beyond the end", trim(A, 5)),
        ("selection overlaps", append_selected(A, batch(&["x", "y", "z"]), &[0..2, 1..3])),
        ("selection not ascending", append_selected(A, batch(&["x", "y", "z"]), &[2..3, 0..1])),
        ("selection empty", append_selected(A, batch(&["x", "y", "z"]), &[Range { start: 1, end: 1 }])),
        ("selection beyond the batch", append_selected(A, batch(&["x", "y", "z"]), &[1..4])),
    ];
    for (what, bad) in bad {
        let refusal = case.refused([append(B, &["x"]), bad]);
        assert!(matches!(refusal, Refusal::Malformed(_)), "{what}: {refusal:?}");
    }
    assert_eq!(case.offsets(A), [0, 1, 2, 3]);
    assert_eq!(case.state(A).end, Offset(4));
    assert_eq!(case.state(B).end, Offset(0));
}

/// Also with refused commits and quick durabilities in between: an order of ends that depended on either would let a reader see
/// a record before the one in front of it.
pub(crate) fn completions_come_in_the_order_of_commits(make: Make) {
    let mut case = Case::new(make);
    case.must([create(A), create_as(B, LogConfig { volatile: true, ..config() })]);
    let order = Arc::new(Mutex::new(Vec::new()));
    let durabilities = [Durability::Fsync, Durability::Memory, Durability::Interval, Durability::Os];
    let (sender, receiver) = ends();
    for at in 0..200usize {
        let operation = match at % 5 {
            0..3 => append(A, &["a"]),
            3 => append(B, &["b"]),
            _ => append(LogId(99), &["refused"]),
        };
        let (order, sender) = (order.clone(), sender.clone());
        let commit = Commit { durability: durabilities[at % 4], operations: vec![operation], uses_reserve: false };
        let done = move |outcome: CommitOutcome| {
            order.lock().unwrap().push((at, matches!(outcome, CommitOutcome::Committed(_))));
            sender.send(()).unwrap();
        };
        case.engine.commit(commit, Box::new(done));
    }
    (0..200).for_each(|_| receiver.recv_timeout(PATIENCE).unwrap());
    let expected: Vec<_> = (0..200).map(|at| (at, at % 5 != 4)).collect();
    assert_eq!(*order.lock().unwrap(), expected);
    assert_eq!(case.state(A).end, Offset(120));
    case.restart();
}

pub(crate) fn completions_of_many_threads_come_once_each_and_in_offset_order(make: Make) {
    let case = Case::with_logs(make);
    let order = Arc::new(Mutex::new(Vec::new()));
    let (sender, receiver) = ends();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (engine, order, sender) = (case.engine.clone(), order.clone(), sender.clone());
            scope.spawn(move || {
                for _ in 0..50 {
                    let (order, sender) = (order.clone(), sender.clone());
                    let commit = Commit {
                        durability: Durability::Os,
                        operations: vec![append(A, &["a", "b"])],
                        uses_reserve: false,
                    };
                    let done = move |outcome: CommitOutcome| {
                        let CommitOutcome::Committed(written) = outcome else { panic!("{outcome:?}") };
                        order.lock().unwrap().push(written[0]);
                        sender.send(()).unwrap();
                    };
                    engine.commit(commit, Box::new(done));
                }
            });
        }
    });
    (0..200).for_each(|_| receiver.recv_timeout(PATIENCE).unwrap());
    let expected: Vec<_> = (0..200).map(|at| written(at * 2, at * 2 + 2)).collect();
    assert_eq!(*order.lock().unwrap(), expected);
}

pub(crate) fn a_completion_may_commit_again(make: Make) {
    fn chain(engine: &Arc<dyn Log>, left: u64, seen: Arc<Mutex<Vec<u64>>>, finished: std::sync::mpsc::SyncSender<()>) {
        let again = engine.clone();
        let commit = Commit { durability: Durability::Fsync, operations: vec![append(A, &["a"])], uses_reserve: false };
        let done = move |outcome: CommitOutcome| {
            let CommitOutcome::Committed(written) = outcome else { panic!("{outcome:?}") };
            // Reads may be made from here too: no lock is held.
            assert!(again.state(A).unwrap().end >= written[0].end);
            seen.lock().unwrap().push(written[0].base.0);
            if left == 0 {
                finished.send(()).unwrap();
            } else {
                chain(&again, left - 1, seen, finished);
            }
        };
        engine.commit(commit, Box::new(done));
    }
    let case = Case::with_logs(make);
    let (sender, receiver) = ends();
    let seen = Arc::new(Mutex::new(Vec::new()));
    // Long enough that an engine which completes within the call would run out of stack.
    chain(&case.engine, 20_000, seen.clone(), sender.clone());
    chain(&case.engine, 100, seen.clone(), sender);
    (0..2).for_each(|_| receiver.recv_timeout(PATIENCE * 3).unwrap());
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 20_102);
    assert!(seen.is_sorted(), "in order");
}

pub(crate) fn what_was_confirmed_can_be_read_at_once(make: Make) {
    let case = Case::with_logs(make);
    let (sender, receiver) = ends();
    for _ in 0..100 {
        let (engine, sender) = (case.engine.clone(), sender.clone());
        let commit = Commit {
            durability: Durability::Memory,
            operations: vec![append(A, &["a"]), append(B, &["b"])],
            uses_reserve: false,
        };
        let done = move |outcome: CommitOutcome| {
            let CommitOutcome::Committed(written) = outcome else { panic!("{outcome:?}") };
            for (log, written) in [A, B].into_iter().zip(written) {
                let entries = engine.read(log, written.base, EVERYTHING).unwrap();
                assert_eq!(entries[0].base, written.base);
            }
            sender.send(()).unwrap();
        };
        case.engine.commit(commit, Box::new(done));
    }
    (0..100).for_each(|_| receiver.recv_timeout(PATIENCE).unwrap());
}

pub(crate) fn every_durability_is_confirmed(make: Make) {
    let mut case = Case::with_logs(make);
    for durability in [Durability::Fsync, Durability::Os, Durability::Interval] {
        let outcome = ended(&case.start(durability, [append(A, &["a"])]));
        assert!(matches!(outcome, CommitOutcome::Committed(_)), "{durability:?}: {outcome:?}");
    }
    assert!(matches!(ended(&case.start(Durability::Memory, [append(B, &["b"])])), CommitOutcome::Committed(_)));
    assert_eq!(case.offsets(B), [0]);
    case.restart();
    assert_eq!(case.offsets(A), [0, 1, 2]);
}

pub(crate) fn one_batch_may_go_to_many_logs(make: Make) {
    let mut case = Case::new(make);
    let logs: Vec<LogId> = (1..=40).map(LogId).collect();
    case.must(logs.iter().map(|log| create(*log)));
    case.must([append(LogId(40), &["before"])]);
    let shared = batch(&["a", "b", "c"]);
    // Each takes another part of it, and one takes it twice.
    let part = |log: &LogId| append_selected(*log, shared.clone(), &[(log.0 % 3) as u32..3]);
    case.must(logs.iter().map(part).chain([append_batch(LogId(1), shared.clone())]));
    case.must([delete(LogId(3), &[0..1])]);
    for _ in 0..2 {
        let letters = |log: u64| -> String { case.values(LogId(log)).into_iter().map(|(_, value)| value).collect() };
        assert_eq!(letters(1), "bcabc");
        assert_eq!(letters(2), "c");
        assert_eq!(letters(3), "bc", "a delete in one log is no delete in another");
        assert_eq!(letters(6), "abc");
        assert_eq!(
            case.values(LogId(40)),
            [(0, "before"), (2, "b"), (3, "c")].map(|(at, value)| (at, value.to_owned()))
        );
        case.restart();
    }
}

pub(crate) fn an_empty_commit_is_committed(make: Make) {
    let case = Case::new(make);
    assert_eq!(case.must([]), []);
}

pub(crate) fn a_batch_that_cannot_be_decoded_is_refused_where_keys_matter(make: Make) {
    let case = Case::new(make);
    case.must([create(A), create_as(B, LogConfig { key_index: true, ..config() })]);
    // A batch whose one record claims to be longer than the batch.
    let good = keyed(T0, &["a=1"]);
    let bytes = [&good.header().encode()[..], &vec![0x7e; good.body().len()]].concat();
    let (broken, _) = RecordBatch::parse_unchecked_crc(bytes.into()).unwrap();
    assert!(broken.validate().is_err());
    let refusal = case.refused([append(A, &["x"]), append_batch(B, broken)]);
    assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
    assert_eq!(case.state(A).end, Offset(0));
}

pub(crate) fn close_ends_what_is_under_way_and_refuses_the_rest(make: Make) {
    let mut case = Case::with_logs(make);
    let started: Vec<_> = (0..20).map(|_| case.start(Durability::Fsync, [append(A, &["a"])])).collect();
    case.engine.close();
    for receiver in &started {
        let outcome = receiver.try_recv().expect("ended before close returned");
        assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
    }
    assert_eq!(case.refused([append(A, &["x"])]), Refusal::Closed);
    assert!(case.engine.open(&[A])[0].is_err());
    case.engine.close();
    case.restart();
    assert_eq!(case.state(A).end, Offset(20));
    assert_eq!(case.offsets(A), (0..20).collect::<Vec<_>>());
}

pub(crate) fn commits_are_counted(make: Make) {
    let case = Case::with_logs(make);
    let before = case.engine.engine_state();
    for _ in 0..5 {
        case.must([append(A, &["a"])]);
    }
    let after = case.engine.engine_state();
    assert_eq!(after.commits - before.commits, 5);
    assert_eq!(after.waiting_bytes, 0);
    assert_eq!(after.poisoned, None);
    assert!(!after.disk_full && after.faults.is_empty());
}
