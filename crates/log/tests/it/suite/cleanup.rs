//! What goes away by itself.

use log::{Cleanup, LogConfig};
use types::{Clock, Offset, Timestamp};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn kept_as(cleanup: Cleanup) -> LogConfig {
    LogConfig { cleanup, ..config() }
}

/// Batches of 3 records, a second apart, in a log that is kept so.
fn filled(make: Make, batches: u64, cleanup: Cleanup) -> (Case, ManualClock) {
    let case = Case::new(make);
    let clock = ManualClock::new();
    case.must([create_as(A, kept_as(cleanup)), create(B), append(B, &["neighbour"])]);
    for _ in 0..batches {
        case.must([append_batch(A, batch_at(clock.now().wall.0, &["a", "b", "c"]))]);
        clock.advance(SECOND);
    }
    (case, clock)
}

#[track_caller]
fn check_tail(case: &Case, from: u64, end: u64) {
    assert_eq!(case.offsets(A), (from..end).collect::<Vec<_>>());
    let state = case.state(A);
    assert_eq!((state.records, state.end), (end - from, Offset(end)));
    assert!(state.start <= Offset(from));
    assert_eq!(case.offsets(B), [0], "a neighbour is not touched");
}

pub(crate) fn without_cleanup_everything_stays(make: Make) {
    let (case, clock) = filled(make, 4, Cleanup::default());
    case.engine.maintain(clock.advance(SECOND * 1_000_000_000).wall);
    check_tail(&case, 0, 12);
}

pub(crate) fn records_go_by_age(make: Make) {
    let (case, clock) = filled(make, 10, Cleanup { max_age: Some(SECOND * 5), ..Cleanup::default() });
    // The batches are 10, 9, 8, ... 1 seconds old.
    case.maintain_until(clock.now().wall, || case.state(A).records == 15);
    check_tail(&case, 15, 30);
    // Nothing is younger than zero: a wall clock that was set back takes nothing away.
    clock.jump_wall(-3_600_000);
    case.engine.maintain(clock.now().wall);
    check_tail(&case, 15, 30);
    clock.jump_wall(3_600_000);
    let now = clock.advance(SECOND * 2).wall;
    case.maintain_until(now, || case.state(A).records == 9);
    check_tail(&case, 21, 30);
    case.maintain_until(clock.advance(SECOND * 60).wall, || case.state(A).records == 0);
    assert_eq!(case.must([append(A, &["a"])])[0].base, Offset(30), "offsets go on");
}

pub(crate) fn the_oldest_batches_go_by_bytes(make: Make) {
    let case = Case::new(make);
    let text = "x".repeat(1000);
    case.must([
        create_as(A, kept_as(Cleanup { max_bytes: Some(5600), ..Cleanup::default() })),
        create(B),
        append(B, &["b"]),
    ]);
    (0..10).for_each(|_| drop(case.must([append(A, &[&text])])));
    case.maintain_until(Timestamp(T0), || case.state(A).records <= 5);
    check_tail(&case, 5, 10);
    case.engine.maintain(Timestamp(T0));
    check_tail(&case, 5, 10);
    // Deleted records make room for others, at the latest when their whole batches are dead.
    case.must([delete(A, &[7..10])]);
    (0..3).for_each(|_| drop(case.must([append(A, &[&text])])));
    case.engine.maintain(Timestamp(T0));
    assert_eq!(case.offsets(A), [5, 6, 10, 11, 12]);
}

pub(crate) fn the_oldest_batches_go_by_records(make: Make) {
    let (case, clock) = filled(make, 10, Cleanup { max_records: Some(10), ..Cleanup::default() });
    case.maintain_until(clock.now().wall, || case.state(A).records <= 10);
    // Batches go whole.
    check_tail(&case, 21, 30);
    case.must([delete(A, &[22..24]), append(A, &["d", "e", "f"])]);
    case.engine.maintain(clock.now().wall);
    assert_eq!(case.state(A).records, 10, "the bound itself is allowed");
    case.must([append(A, &["g"])]);
    case.maintain_until(clock.now().wall, || case.state(A).records <= 10);
    assert_eq!(case.offsets(A), (24..34).collect::<Vec<_>>());
}

/// A compacted log with an hour for tombstones.
fn compacted(make: Make) -> Case {
    let case = Case::new(make);
    case.must([create_as(A, kept_as(Cleanup { compact: Some(SECOND * 3600), ..Cleanup::default() }))]);
    case
}

pub(crate) fn compaction_keeps_the_last_of_each_key(make: Make) {
    let case = compacted(make);
    case.must([append_batch(A, keyed(T0, &["a=1", "b=1", "a=2", "c=1"]))]);
    case.must([
        append(A, &["keyless"]),
        append_batch(A, keyed(T0, &["b=2", "d=1"])),
        append_batch(A, keyed(T0, &["d=2"])),
    ]);
    let expected = [(2, "2"), (3, "1"), (4, "keyless"), (5, "2"), (7, "2")].map(|(at, value)| (at, value.to_owned()));
    case.maintain_until(Timestamp(T0), || case.state(A).records == 5);
    assert_eq!(case.values(A), expected);
    assert_eq!(case.state(A).end, Offset(8));
    case.must([append_batch(A, keyed(T0, &["c=2"])), append_batch(A, keyed(T0, &["a=3"]))]);
    case.maintain_until(Timestamp(T0), || case.state(A).records == 5);
    assert_eq!(case.offsets(A), [4, 5, 7, 8, 9]);
    // What was deleted is not brought back, and does not shadow anything.
    case.must([delete(A, &[9..10]), append_batch(A, keyed(T0, &["e=1"]))]);
    case.engine.maintain(Timestamp(T0));
    assert_eq!(case.offsets(A), [4, 5, 7, 8, 10]);
    // Nor if it stands in a batch that others keep alive.
    case.must([append_batch(A, keyed(T0, &["f=1", "f=2", "g=1"])), delete(A, &[12..13])]);
    case.must([append_batch(A, keyed(T0, &["e=2"]))]);
    case.maintain_until(Timestamp(T0), || !case.offsets(A).contains(&10));
    assert_eq!(case.offsets(A), [4, 5, 7, 8, 11, 13, 14]);
}

pub(crate) fn a_tombstone_goes_after_its_time(make: Make) {
    let case = compacted(make);
    case.must([append_batch(A, keyed(T0, &["a=1", "b=1"])), append_batch(A, keyed(T0 + 1000, &["a"]))]);
    case.maintain_until(Timestamp(T0 + 2000), || case.state(A).records == 2);
    assert_eq!(case.values(A), [(1, "1".to_owned()), (2, "-".to_owned())], "readers see the tombstone");
    case.engine.maintain(Timestamp(T0 + 3_600_000));
    assert_eq!(case.offsets(A), [1, 2], "not yet");
    case.maintain_until(Timestamp(T0 + 3_602_000), || case.state(A).records == 1);
    assert_eq!(case.offsets(A), [1]);
    // A key that comes back after its tombstone is there.
    case.must([append_batch(A, keyed(T0, &["b"])), append_batch(A, keyed(T0, &["b=2"]))]);
    case.maintain_until(Timestamp(T0 + 3_602_000), || case.state(A).records == 1);
    assert_eq!(case.offsets(A), [4]);
}

pub(crate) fn cleanup_holds_from_when_it_is_configured(make: Make) {
    let (case, clock) = filled(make, 6, Cleanup::default());
    case.engine.maintain(clock.now().wall);
    check_tail(&case, 0, 18);
    case.must([configure(A, kept_as(Cleanup { max_records: Some(9), ..Cleanup::default() }))]);
    case.maintain_until(clock.now().wall, || case.state(A).records == 9);
    check_tail(&case, 9, 18);
    case.must([configure(A, kept_as(Cleanup::default()))]);
    case.must([append(A, &["a", "b", "c"])]);
    case.engine.maintain(clock.now().wall);
    check_tail(&case, 9, 21);
    // Compaction of records that came before it was asked for.
    case.must([append_batch(B, keyed(T0, &["a=1", "a=2", "b=1"]))]);
    case.must([configure(B, kept_as(Cleanup { compact: Some(SECOND), ..Cleanup::default() }))]);
    case.maintain_until(clock.now().wall, || case.state(B).records == 3);
    assert_eq!(case.offsets(B), [0, 2, 3]);
    // All bounds hold together.
    let both = Cleanup { max_records: Some(7), max_age: Some(SECOND * 3600), ..Cleanup::default() };
    case.must([configure(A, kept_as(both))]);
    case.maintain_until(clock.now().wall, || case.state(A).records == 6);
}

pub(crate) fn what_was_cleaned_up_stays_gone_over_a_restart(make: Make) {
    let cleanup = Cleanup { max_records: Some(9), ..Cleanup::default() };
    let (mut case, clock) = filled(make, 10, cleanup);
    case.must([create_as(LogId(3), kept_as(Cleanup { compact: Some(SECOND), ..Cleanup::default() }))]);
    case.must([append_batch(LogId(3), keyed(T0, &["a=1", "a=2", "b=1"]))]);
    let now = clock.now().wall;
    case.maintain_until(now, || case.state(A).records == 9 && case.state(LogId(3)).records == 2);
    case.restart();
    check_tail(&case, 21, 30);
    assert_eq!(case.offsets(LogId(3)), [1, 2]);
    let epoch = case.open(A).epoch;
    case.must([under(epoch, append(A, &["d"]))]);
    case.maintain_until(clock.now().wall, || case.state(A).records == 7);
    check_tail(&case, 24, 31);
}
