use types::{Offset, Text, Timestamp};

use super::{ProducerRecord, Replay, StateRecord};
use crate::dedup::{DedupEntry, DedupHash};
use crate::idempotence::ProducerBatch;
use crate::queue::{History, RetryRecord};

fn retry(offset: u64, attempts: u32) -> StateRecord {
    let history = History {
        attempts,
        first_failed: Some(Timestamp(1)),
        last_failed: Some(Timestamp(2)),
        last_error: Some("no".into()),
    };
    StateRecord::Retry(RetryRecord { offset: Offset(offset), key: Some(7), due: Timestamp(3), history })
}

/// docs/formats/state-records.md draws these.
#[test]
fn records_are_stored_as_the_page_draws_them() {
    let check = |record: StateRecord, bytes: &[u8]| {
        assert_eq!(&record.encode()[..], bytes, "{record:?}");
        assert_eq!(StateRecord::decode(bytes), Some(record));
    };
    check(StateRecord::Reset { records: 2 }, b"\x00\0\0\0\0\0\0\0\x02");
    check(
        retry(5, 4),
        b"\x01\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x03\0\0\0\x04\x01\0\0\0\0\0\0\0\x07\x01\0\0\0\0\0\0\0\x01\x01\0\0\0\0\0\0\0\x02no",
    );
    check(StateRecord::Forget(Offset(5)), b"\x02\0\0\0\0\0\0\0\x05");
    check(StateRecord::DeliveredTo(Offset(5)), b"\x03\0\0\0\0\0\0\0\x05");
    let batch = ProducerBatch { epoch: 1, first_sequence: 2, messages: 3 };
    let producer = ProducerRecord { name: Text::from("p"), batch, at: Timestamp(4) };
    check(StateRecord::Producer(producer), b"\x05\0\0\0\0\0\0\0\x04\0\0\0\x01\0\0\0\x02\0\0\0\x03p");
    check(StateRecord::Producers(b"as it is".as_slice().into()), b"\x06as it is");
    check(StateRecord::Mark, b"\x07");
    let entry = DedupEntry { hash: DedupHash([9; 16]), at: Timestamp(4), offset: Offset(5) };
    let dedup = StateRecord::Dedup(vec![entry]);
    assert_eq!(StateRecord::decode(&dedup.encode()), Some(dedup));
}

#[test]
fn what_is_cut_short_or_unknown_is_no_record() {
    assert_eq!(StateRecord::decode(b""), None);
    assert_eq!(StateRecord::decode(b"\x08"), None);
    for record in [retry(5, 4), StateRecord::Forget(Offset(5)), StateRecord::Reset { records: 1 }] {
        let bytes = record.encode();
        // A retry's last part is its error, which may be any text.
        let fixed = bytes.len() - if matches!(record, StateRecord::Retry(_)) { 2 } else { 0 };
        (0..fixed).for_each(|end| assert_eq!(StateRecord::decode(&bytes[..end]), None, "{record:?} to {end}"));
    }
}

fn replayed(records: Vec<StateRecord>) -> (Vec<StateRecord>, u64) {
    let (mut replay, mut out) = (Replay::default(), Vec::new());
    for record in records {
        replay.take(record, &mut |record| out.push(record));
    }
    let begins = out.iter().rposition(|record| matches!(record, StateRecord::Reset { .. })).map_or(0, |at| at + 1);
    (out.split_off(begins), replay.since_snapshot)
}

#[test]
fn what_happened_while_a_snapshot_was_taken_comes_after_it() {
    let forget = StateRecord::Forget(Offset(2));
    let log = vec![
        retry(1, 1),
        retry(2, 1),
        StateRecord::Mark,
        retry(1, 2),
        forget.clone(),
        StateRecord::Reset { records: 2 },
        // As they stood at the mark.
        retry(1, 1),
        retry(2, 1),
        retry(3, 1),
    ];
    let expected = vec![retry(1, 1), retry(2, 1), retry(1, 2), forget, retry(3, 1)];
    assert_eq!(replayed(log), (expected, 3));
}

#[test]
fn a_mark_without_a_snapshot_changes_nothing_and_an_empty_snapshot_is_one() {
    let log = vec![StateRecord::Mark, retry(1, 1), StateRecord::Mark, retry(2, 1)];
    assert_eq!(replayed(log).0, [retry(1, 1), retry(2, 1)]);
    let log = vec![retry(1, 1), StateRecord::Mark, retry(2, 1), StateRecord::Reset { records: 0 }, retry(3, 1)];
    assert_eq!(replayed(log).0, [retry(2, 1), retry(3, 1)]);
}
