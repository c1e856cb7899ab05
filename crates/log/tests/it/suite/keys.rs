//! The key index.

use log::{KeySummary, LogConfig, ReadError};
use types::Offset;

use super::*;

fn indexed() -> LogConfig {
    LogConfig { key_index: true, ..config() }
}

/// First, last and count of a key of log `A`.
#[track_caller]
fn check(case: &Case, key: &str, expected: Option<(u64, u64, u64)>) {
    let expected = expected.map(|(first, last, count)| KeySummary { first: Offset(first), last: Offset(last), count });
    assert_eq!(case.engine.key(A, key.as_bytes()), Ok(expected), "key {key}");
}

/// Offsets 0 to 8: `a b a`, `b b c`, `a a d`.
fn filled(make: Make) -> Case {
    let case = Case::new(make);
    case.must([create_as(A, indexed())]);
    case.must([append_batch(A, keyed(T0, &["a=0", "b=1", "a=2"]))]);
    let compressed = build(Codec::Zstd, T0, &["b", "b", "c"].map(|key| (None, Some(key), Some("x"))));
    case.must([append_batch(A, compressed), append_batch(A, keyed(T0, &["a=6", "a", "d"]))]);
    case
}

pub(crate) fn the_index_knows_first_last_and_count(make: Make) {
    let case = filled(make);
    check(&case, "a", Some((0, 7, 4)));
    check(&case, "b", Some((1, 4, 3)));
    check(&case, "c", Some((5, 5, 1)));
    check(&case, "d", Some((8, 8, 1)));
    check(&case, "", None);
    check(&case, "ab", None);
    // Records that were not selected are not there.
    case.must([append_selected(A, keyed(T0, &["a=9", "e=10", "f=11"]), &[1..2])]);
    check(&case, "a", Some((0, 7, 4)));
    check(&case, "e", Some((10, 10, 1)));
    check(&case, "f", None);
}

pub(crate) fn the_index_follows_removals(make: Make) {
    let case = filled(make);
    case.must([delete(A, &[7..8])]);
    check(&case, "a", Some((0, 6, 3)));
    case.must([delete(A, &[0..1, 4..6])]);
    check(&case, "a", Some((2, 6, 2)));
    check(&case, "b", Some((1, 3, 2)));
    check(&case, "c", None);
    case.must([trim(A, 3)]);
    check(&case, "a", Some((6, 6, 1)));
    check(&case, "b", Some((3, 3, 1)));
    case.must([trim(A, 9)]);
    ["a", "b", "c", "d"].into_iter().for_each(|key| check(&case, key, None));
    case.must([append_batch(A, keyed(T0, &["a=9"]))]);
    check(&case, "a", Some((9, 9, 1)));
    // Compaction is a removal too.
    let cleanup = Cleanup { compact: Some(Duration::from_secs(9)), ..Cleanup::default() };
    case.must([configure(A, LogConfig { cleanup, ..indexed() }), append_batch(A, keyed(T0, &["a=10"]))]);
    case.maintain_until(Timestamp(T0), || case.state(A).records == 1);
    check(&case, "a", Some((10, 10, 1)));
}

pub(crate) fn the_index_is_there_after_a_restart(make: Make) {
    let mut case = filled(make);
    case.must([delete(A, &[0..1]), trim(A, 2)]);
    case.restart();
    check(&case, "a", Some((2, 7, 3)));
    check(&case, "b", Some((3, 4, 2)));
    let epoch = case.open(A).epoch;
    case.must([under(epoch, append_batch(A, keyed(T0, &["c=9"])))]);
    check(&case, "c", Some((5, 9, 2)));
    case.restart();
    check(&case, "c", Some((5, 9, 2)));
}

pub(crate) fn an_index_can_be_asked_for_later_and_given_up(make: Make) {
    let mut case = Case::new(make);
    case.must([create(A), append_batch(A, keyed(T0, &["a=0", "b=1", "a=2"])), delete(A, &[0..1])]);
    assert_eq!(case.engine.key(A, b"a"), Err(ReadError::NoKeyIndex(A)));
    case.must([configure(A, indexed())]);
    check(&case, "a", Some((2, 2, 1)));
    case.must([append_batch(A, keyed(T0, &["a=3"]))]);
    check(&case, "a", Some((2, 3, 2)));
    case.restart();
    check(&case, "a", Some((2, 3, 2)));
    let epoch = case.open(A).epoch;
    case.must([under(epoch, configure(A, config()))]);
    assert_eq!(case.engine.key(A, b"a"), Err(ReadError::NoKeyIndex(A)));
    case.must([under(epoch, append_batch(A, keyed(T0, &["a=4"])))]);
    case.restart();
    assert_eq!(case.engine.key(A, b"a"), Err(ReadError::NoKeyIndex(A)));
    let epoch = case.open(A).epoch;
    case.must([under(epoch, configure(A, indexed()))]);
    check(&case, "a", Some((2, 4, 3)));
}

pub(crate) fn records_without_a_key_are_not_indexed(make: Make) {
    let case = Case::new(make);
    case.must([create_as(A, indexed()), append(A, &["a", "b"])]);
    check(&case, "", None);
    case.must([append_batch(A, build(Codec::None, T0, &[(None, Some(""), Some("x"))]))]);
    check(&case, "", Some((2, 2, 1)));
    assert_eq!(case.offsets(A), [0, 1, 2]);
}
