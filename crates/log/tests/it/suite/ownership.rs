//! Who may write to a log, and how logs come and go.

use log::{Cleanup, LogConfig, OpenError, ReadError, Refusal};
use types::{Epoch, LogId, Offset};

use super::*;

pub(crate) fn a_new_log_starts_at_zero_under_epoch_one(make: Make) {
    let case = Case::new(make);
    let written = case.must([create(A)]);
    assert_eq!(written, [Written { base: Offset(0), end: Offset(0) }]);
    assert_eq!(case.state(A).end, Offset(0));
    assert_eq!(case.state(A).records, 0);
    assert_eq!(case.state(A).last_timestamp, None);
    assert!(case.values(A).is_empty());
    assert_eq!(case.must([under(Epoch(1), append(A, &["a"]))]), [Written { base: Offset(0), end: Offset(1) }]);
}

pub(crate) fn an_id_is_never_used_twice(make: Make) {
    let mut case = Case::with_logs(make);
    assert_eq!(case.refused([create(A)]), Refusal::Exists(A));
    case.must([remove(A)]);
    assert_eq!(case.refused([create(A)]), Refusal::Exists(A));
    assert_eq!(case.refused([remove(B), create(B)]), Refusal::Exists(B));
    case.restart();
    assert_eq!(case.refused([create(A)]), Refusal::Exists(A));
    assert_eq!(case.refused([create(B)]), Refusal::Exists(B));
}

pub(crate) fn a_refused_creation_does_not_use_the_id_up(make: Make) {
    let mut case = Case::new(make);
    assert_eq!(case.refused([create(A), append(B, &["a"])]), Refusal::NoSuchLog(B));
    assert_eq!(case.engine.state(A), Err(ReadError::NoSuchLog(A)));
    case.restart();
    assert!(case.engine.logs().is_empty());
    case.must([create(A)]);
}

pub(crate) fn opening_fences_the_owner_before(make: Make) {
    let case = Case::with_logs(make);
    let opened = case.open(A);
    assert!(opened.epoch > FIRST);
    for old in [append(A, &["x"]), delete(A, &[]), trim(A, 0), configure(A, config()), remove(A)] {
        let refusal = Refusal::WrongEpoch { log: A, used: FIRST, current: opened.epoch };
        assert_eq!(case.refused([old]), refusal);
    }
    case.must([under(opened.epoch, append(A, &["a"])), append(B, &["b"])]);
    let again = case.open(A);
    assert!(again.epoch > opened.epoch);
    assert!(matches!(case.refused([under(opened.epoch, append(A, &["x"]))]), Refusal::WrongEpoch { .. }));
    // An epoch that nobody was given yet is as wrong as an old one.
    let ahead = Epoch(again.epoch.0 + 1);
    assert!(matches!(case.refused([under(ahead, append(A, &["x"]))]), Refusal::WrongEpoch { .. }));
    assert_eq!(case.values(A), [(0, "a".to_owned())]);
}

pub(crate) fn epochs_only_grow_over_restarts(make: Make) {
    let mut case = Case::with_logs(make);
    let mut last = FIRST;
    for _ in 0..4 {
        let epoch = case.open(A).epoch;
        assert!(epoch > last, "{epoch} after {last}");
        assert!(matches!(case.refused([under(last, append(A, &["x"]))]), Refusal::WrongEpoch { .. }));
        last = epoch;
        case.restart();
    }
    let epoch = case.open(A).epoch;
    case.must([under(epoch, append(A, &["a"]))]);
}

pub(crate) fn open_answers_in_the_order_asked(make: Make) {
    let mut case = Case::new(make);
    let cleanup = Cleanup { max_records: Some(7), max_age: Some(Duration::from_secs(60)), ..Cleanup::default() };
    let other = LogConfig { label: "other".to_owned(), cleanup, key_index: true, volatile: false, apart: true };
    case.must([create(A), create_as(B, other.clone()), append(A, &["a", "b"]), append(B, &["c"])]);
    for _ in 0..2 {
        let opened = case.engine.open(&[B, LogId(99), A]);
        let [b, none, a] = &opened[..] else { panic!("{opened:?}") };
        assert_eq!(b.as_ref().unwrap().config, other);
        assert_eq!(b.as_ref().unwrap().state, case.state(B));
        assert_eq!(*none, Err(OpenError::NoSuchLog(LogId(99))));
        assert_eq!(a.as_ref().unwrap().config, config());
        assert_eq!(a.as_ref().unwrap().state.end, Offset(2));
        assert_eq!(a.as_ref().unwrap().damage, None);
        case.restart();
    }
}

pub(crate) fn a_removed_log_is_gone_for_good(make: Make) {
    let mut case = Case::with_logs(make);
    case.must([append(A, &["a"]), append(B, &["b"])]);
    let written = case.must([remove(A)]);
    assert_eq!(written, [Written { base: Offset(1), end: Offset(1) }]);
    for _ in 0..2 {
        assert_eq!(case.engine.read(A, Offset(0), EVERYTHING).err(), Some(ReadError::NoSuchLog(A)));
        assert_eq!(case.engine.state(A), Err(ReadError::NoSuchLog(A)));
        assert_eq!(case.engine.open(&[A]), [Err(OpenError::NoSuchLog(A))]);
        assert_eq!(case.refused([append(A, &["x"])]), Refusal::NoSuchLog(A));
        assert_eq!(case.refused([remove(A)]), Refusal::NoSuchLog(A));
        assert_eq!(case.values(B), [(0, "b".to_owned())]);
        case.restart();
    }
}

pub(crate) fn logs_lists_what_is_there(make: Make) {
    let mut case = Case::new(make);
    assert!(case.engine.logs().is_empty());
    case.must([create(A), create(B), create(LogId(u64::MAX))]);
    case.must([remove(B)]);
    for _ in 0..2 {
        let mut logs = case.engine.logs();
        logs.sort_unstable();
        assert_eq!(logs, [A, LogId(u64::MAX)]);
        case.restart();
    }
}

pub(crate) fn a_volatile_log_works_until_the_restart(make: Make) {
    let mut case = Case::new(make);
    case.must([create(A), create_as(B, LogConfig { volatile: true, key_index: true, ..config() })]);
    case.must([append(A, &["a"]), append_batch(B, keyed(T0, &["k=1", "k=2", "l=3"])), delete(B, &[0..1])]);
    assert_eq!(case.values(B), [(1, "2".to_owned()), (2, "3".to_owned())]);
    assert_eq!(case.engine.key(B, b"k").unwrap().unwrap().count, 1);
    assert_eq!(case.state(B).records, 2);
    let epoch = case.open(B).epoch;
    assert!(matches!(case.refused([trim(B, 2)]), Refusal::WrongEpoch { .. }));
    case.must([under(epoch, trim(B, 2))]);
    assert_eq!(case.offsets(B), [2]);
    // Atomic with logs that stay.
    assert_eq!(
        case.refused([under(epoch, append(B, &["x"])), expecting(9, append(A, &["x"]))]),
        Refusal::WrongEnd { log: A, expected: Offset(9), actual: Offset(1) }
    );
    assert_eq!(case.state(B).end, Offset(3));
    case.restart();
    assert_eq!(case.engine.logs(), [A]);
    assert_eq!(case.engine.state(B), Err(ReadError::NoSuchLog(B)));
    assert_eq!(case.values(A), [(0, "a".to_owned())]);
}

pub(crate) fn whether_a_log_is_volatile_cannot_change(make: Make) {
    let case = Case::with_logs(make);
    let refusal = case.refused([configure(A, LogConfig { volatile: true, ..config() })]);
    assert!(matches!(refusal, Refusal::Malformed(_)), "{refusal:?}");
}
