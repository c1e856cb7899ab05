//! What reads give.

use log::{Live, LogConfig, ReadError};
use types::{LogId, Offset, Timestamp};

use super::*;

fn pairs(values: &[(u64, &str)]) -> Vec<(u64, String)> {
    values.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
}

fn limit(bytes: usize, records: usize) -> ReadLimit {
    ReadLimit { bytes, records, ..EVERYTHING }
}

/// How many entries a read gives.
fn count(case: &Case, from: u64, limit: ReadLimit) -> usize {
    case.engine.read(A, Offset(from), limit).unwrap().len()
}

pub(crate) fn batches_come_back_as_they_were_whatever_the_codec(make: Make) {
    let mut case = Case::with_logs(make);
    let long = "the same words again and again ".repeat(200);
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    let batches: Vec<RecordBatch> = codecs
        .iter()
        .map(|codec| {
            build(*codec, T0 + 5, &[(None, Some("key"), Some(&long)), (None, None, None), (None, None, Some(""))])
        })
        .collect();
    for batch in &batches {
        case.must([append_batch(A, batch.clone())]);
    }
    for _ in 0..2 {
        let entries = case.engine.read(A, Offset(0), EVERYTHING).unwrap();
        assert_eq!(entries.len(), batches.len());
        for (at, (entry, batch)) in entries.iter().zip(&batches).enumerate() {
            assert_eq!(entry.base, Offset(at as u64 * 3));
            assert_eq!(entry.batch.body(), batch.body());
            assert_eq!(entry.batch.header().crc, batch.header().crc, "{:?}", batch.codec());
            assert_eq!(entry.live, Live::All);
        }
        assert_eq!(case.values(A)[3..6], pairs(&[(3, &long), (4, "-"), (5, "")]));
        case.restart();
    }
}

pub(crate) fn a_read_gives_what_is_live_from_an_offset_on(make: Make) {
    let case = Case::with_logs(make);
    case.must([append(A, &["a", "b", "c"]), append(A, &["d", "e"])]);
    case.must([append(A, &["f"]), delete(A, &[3..4])]);
    assert_eq!(case.values_from(A, 0), pairs(&[(0, "a"), (1, "b"), (2, "c"), (4, "e"), (5, "f")]));
    assert_eq!(case.values_from(A, 2), pairs(&[(2, "c"), (4, "e"), (5, "f")]));
    assert_eq!(case.values_from(A, 3), pairs(&[(4, "e"), (5, "f")]));
    assert_eq!(case.values_from(A, 5), pairs(&[(5, "f")]));
    assert!(case.values_from(A, 6).is_empty(), "at the end");
    assert!(case.values_from(A, 600).is_empty(), "beyond the end");
    // Records before the offset count as not live.
    let entries = case.engine.read(A, Offset(1), EVERYTHING).unwrap();
    assert_eq!(entries[0].base, Offset(0));
    assert!(!entries[0].live.contains(0) && entries[0].live.contains(1) && entries[0].live.contains(2));
    // Below the start is from the start.
    case.must([trim(A, 2)]);
    assert_eq!(case.values_from(A, 0), pairs(&[(2, "c"), (4, "e"), (5, "f")]));
}

pub(crate) fn a_read_ends_with_the_entry_that_passes_a_limit(make: Make) {
    let case = Case::with_logs(make);
    for _ in 0..10 {
        case.must([append(A, &["a", "b", "c"])]);
    }
    let bytes = batch(&["a", "b", "c"]).size_bytes();
    assert_eq!(count(&case, 0, EVERYTHING), 10);
    assert_eq!(count(&case, 0, limit(usize::MAX, 7)), 3);
    assert_eq!(count(&case, 0, limit(usize::MAX, 6)), 2, "a limit that is reached ends the read");
    assert_eq!(count(&case, 0, limit(bytes * 3 + 1, usize::MAX)), 4);
    assert_eq!(count(&case, 0, limit(bytes * 3 + 1, 7)), 3, "whichever comes first");
    for none in [limit(0, 0), limit(usize::MAX, 0), limit(0, usize::MAX), limit(1, 1)] {
        assert_eq!(count(&case, 4, none), 1, "one entry comes whatever the limit");
    }
    // Only live records count, and only those asked for.
    case.must([delete(A, &[0..2, 3..5, 6..8])]);
    assert_eq!(count(&case, 0, limit(usize::MAX, 3)), 3);
    assert_eq!(count(&case, 11, limit(usize::MAX, 2)), 2);
}

pub(crate) fn a_read_stays_below_its_upper_bound(make: Make) {
    let case = Case::with_logs(make);
    case.must([append(A, &["a", "b", "c"]), append(A, &["d", "e", "f"])]);
    let below = |from: u64, before: u64| -> Vec<u64> {
        let entries = case.engine.read(A, Offset(from), ReadLimit { before: Offset(before), ..EVERYTHING }).unwrap();
        entries.iter().flat_map(live_values).map(|(offset, _)| offset).collect()
    };
    assert_eq!(below(0, 6), [0, 1, 2, 3, 4, 5]);
    assert_eq!(below(0, 5), [0, 1, 2, 3, 4]);
    assert_eq!(below(1, 3), [1, 2]);
    assert_eq!(below(1, 2), [1]);
    assert!(below(0, 0).is_empty() && below(2, 2).is_empty() && below(4, 2).is_empty());
}

pub(crate) fn records_not_selected_take_offsets_and_are_never_live(make: Make) {
    let mut case = Case::with_logs(make);
    let five = batch(&["a", "b", "c", "d", "e"]);
    assert_eq!(case.must([append_selected(A, five.clone(), &[1..2, 3..5])])[0].end, Offset(5));
    assert_eq!(case.must([append_selected(A, five.clone(), &[])])[0].end, Offset(10));
    assert_eq!(case.must([append_selected(A, five.clone(), &[0..2, 2..5])])[0].end, Offset(15));
    case.must([append_selected(A, five, &[0..1])]);
    let expected =
        pairs(&[(1, "b"), (3, "d"), (4, "e"), (10, "a"), (11, "b"), (12, "c"), (13, "d"), (14, "e"), (15, "a")]);
    for _ in 0..2 {
        assert_eq!(case.values(A), expected);
        assert_eq!(case.state(A).records, 9);
        assert_eq!(case.state(A).end, Offset(20));
        assert_eq!(case.values_from(A, 4)[0].0, 4);
        assert_eq!(case.values_from(A, 5)[0].0, 10);
        case.restart();
    }
}

/// A batch that was compacted elsewhere has fewer records than offsets.
pub(crate) fn offsets_without_a_record_are_never_live(make: Make) {
    let mut case = Case::with_logs(make);
    for codec in [Codec::None, Codec::Lz4] {
        let gappy =
            build(codec, T0, &[(Some(1), None, Some("b")), (Some(4), None, Some("e")), (Some(5), None, Some("f"))]);
        case.must([append_batch(A, gappy)]);
    }
    for _ in 0..2 {
        assert_eq!(case.state(A).end, Offset(12));
        assert_eq!(case.state(A).records, 6);
        let entries = case.engine.read(A, Offset(0), EVERYTHING).unwrap();
        let live: Vec<u32> = (0..6).filter(|delta| entries[0].live.contains(*delta)).collect();
        assert_eq!(live, [1, 4, 5]);
        assert_eq!(case.offsets(A), [1, 4, 5, 7, 10, 11]);
        case.restart();
    }
    assert_eq!(case.engine.offset_at(A, Timestamp(T0)), Ok(Some(Offset(1))));
    let epoch = case.open(A).epoch;
    case.must([under(epoch, delete(A, &[0..5]))]);
    assert_eq!(case.state(A).records, 4);
}

pub(crate) fn a_log_that_does_not_exist_cannot_be_read(make: Make) {
    let case = Case::with_logs(make);
    let none = LogId(9);
    assert_eq!(case.engine.read(none, Offset(0), EVERYTHING).err(), Some(ReadError::NoSuchLog(none)));
    assert_eq!(case.engine.state(none), Err(ReadError::NoSuchLog(none)));
    assert_eq!(case.engine.offset_at(none, Timestamp(0)), Err(ReadError::NoSuchLog(none)));
    assert_eq!(case.engine.key(none, b"k"), Err(ReadError::NoSuchLog(none)));
    assert_eq!(case.engine.key(A, b"k"), Err(ReadError::NoKeyIndex(A)));
}

pub(crate) fn offset_at_finds_the_first_live_batch_of_a_time(make: Make) {
    let mut case = Case::with_logs(make);
    let at = |case: &Case, time: i64| case.engine.offset_at(A, Timestamp(T0 + time)).unwrap().map(|offset| offset.0);
    assert_eq!(at(&case, 0), None);
    for time in [10, 20, 20, 15, 40] {
        case.must([append_batch(A, batch_at(T0 + time, &["a", "b"]))]);
    }
    // Within a batch the greatest timestamp counts.
    let mut spread = BatchBuilder::new(BatchOptions::default());
    for time in [50, 70, 60] {
        spread.push(None, T0 + time, None, Some(b"x"), NO_HEADERS).unwrap();
    }
    case.must([append_batch(A, spread.finish().unwrap())]);
    for _ in 0..2 {
        let found: Vec<_> = [-5, 10, 11, 20, 21, 40, 41, 70].map(|time| at(&case, time)).into();
        assert_eq!(found, [Some(0), Some(0), Some(2), Some(2), Some(8), Some(8), Some(10), Some(10)]);
        assert_eq!(at(&case, 71), None);
        case.restart();
    }
    let epoch = case.open(A).epoch;
    case.must([under(epoch, delete(A, &[2..4])), under(epoch, trim(A, 1))]);
    assert_eq!(at(&case, 0), Some(1), "the first live offset of the batch");
    assert_eq!(at(&case, 15), Some(4), "a batch without live records is passed over");
}

pub(crate) fn state_says_how_far_a_log_reaches(make: Make) {
    let mut case = Case::new(make);
    case.must([create(A), create_as(B, LogConfig { key_index: true, ..config() })]);
    assert_eq!(case.state(A), LogState { disk_bytes: case.state(A).disk_bytes, ..LogState::default() });
    case.must([append_batch(A, batch_at(T0 + 7, &["a", "b", "c"])), append_batch(A, batch_at(T0 + 3, &["d"]))]);
    case.must([append(B, &["e"])]);
    for _ in 0..2 {
        let state = case.state(A);
        assert_eq!((state.start, state.end, state.records), (Offset(0), Offset(4), 4));
        assert_eq!(state.last_timestamp, Some(Timestamp(T0 + 3)), "the last batch's, not the greatest");
        let bytes = (batch(&["a", "b", "c"]).size_bytes() + batch(&["d"]).size_bytes()) as u64;
        assert!(state.disk_bytes >= bytes, "{} of {bytes}", state.disk_bytes);
        assert_eq!(case.state(B).records, 1);
        case.restart();
    }
}
