//! Control batches, filtering, emptied batches, headers.

use super::*;

#[test]
fn transaction_markers_come_back() {
    for outcome in [TransactionOutcome::Abort, TransactionOutcome::Commit] {
        let built = RecordBatch::end_transaction(outcome, 77, 9000, 4, 123_456).unwrap();
        let batch = parse_whole(built.bytes());
        assert!(batch.is_control() && batch.is_transactional());
        assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (9000, 4, NO_SEQUENCE));
        let marker = ControlRecord::EndTransaction { outcome, coordinator_epoch: 77 };
        assert_eq!(batch.control_record(), Ok(Some(marker)));
    }
    let plain = build(BatchOptions::default(), &[Sample::of(0, b"message")]);
    assert_eq!(plain.control_record(), Ok(None));
}

#[test]
fn a_commit_marker_has_the_bytes_that_kafka_defines() {
    let batch = RecordBatch::end_transaction(TransactionOutcome::Commit, 1, 5, 0, 0).unwrap();
    let block = batch.block().unwrap();
    let record = block.refs().next().unwrap().unwrap();
    assert_eq!(record.key, Some(&[0, 0, 0, 1][..]));
    assert_eq!(record.value, Some(&[0, 0, 0, 0, 0, 1][..]));
    assert_eq!(batch.header().attributes.bits(), 0b11_0000);
}

#[test]
fn other_and_malformed_markers_are_told_apart() {
    let options = BatchOptions { control: true, ..BatchOptions::default() };
    let marker = |key: &[u8], value: &[u8]| {
        build(options, &[Sample { key: Some(key.to_vec()), ..Sample::of(0, value) }]).control_record()
    };
    assert_eq!(marker(&[0, 0, 0, 2], b"leader"), Ok(Some(ControlRecord::Other { kind: 2 })));
    for (key, value) in [(&[0, 0, 0][..], &[0; 6][..]), (&[0, 0, 0, 1], &[0; 5]), (&[0xff, 0, 0, 1], &[0; 6])] {
        assert_eq!(marker(key, value), Err(BatchError::ControlRecord), "{key:?} {value:?}");
    }
}

#[test]
fn filtering_keeps_all_or_none_without_rewriting() {
    let batch = build(with_codec(Codec::Gzip), &[Sample::of(0, b"a"), Sample::of(1, b"b")]);
    let all = batch.filter(|_| true).unwrap().unwrap();
    assert_eq!(all.bytes().as_ptr(), batch.bytes().as_ptr());
    assert_eq!(batch.filter(|_| false), Ok(None));
}

#[test]
fn a_batch_that_compaction_emptied_is_read() {
    let batch = build(with_codec(Codec::Snappy), &[Sample::of(0, b"a"), Sample::of(9, b"b")]);
    let mut header = *batch.header();
    header.record_count = 0;
    let emptied = damage::signed(header, b"");
    let batch = parse_whole(emptied);
    assert_eq!((batch.record_count(), batch.last_offset_delta()), (0, 9));
    assert_eq!(read(&batch), []);
    assert_eq!(batch.filter(|_| true), Ok(None));
}

#[test]
fn headers_are_found_by_name_and_counted() {
    let headers = vec![
        (b"a".to_vec(), Some(b"1".to_vec())),
        (b"\xff".to_vec(), None),
        (b"a".to_vec(), Some(b"2".to_vec())),
        (b"".to_vec(), Some(b"".to_vec())),
    ];
    let batch = build(BatchOptions::default(), &[Sample { headers, ..Sample::of(0, b"v") }]);
    let record = batch.records().unwrap().next().unwrap().unwrap();
    assert_eq!((record.headers.len(), record.headers.iter().len()), (4, 4));
    assert!(!record.headers.is_empty());
    assert_eq!(record.headers.get(b"a"), Some(HeaderRef { name: b"a", value: Some(b"1") }));
    assert_eq!(record.headers.get(b"\xff").map(|header| (header.name_str(), header.value)), Some((None, None)));
    assert_eq!(record.headers.get(b"b"), None);
    assert_eq!(record.headers.iter().filter(|header| header.name_str() == Some("a")).count(), 2);
}

#[test]
fn a_walk_may_begin_at_any_record() {
    let samples: Vec<Sample> = (0..50).map(|n| Sample::of(n * 3, n.to_string().as_bytes())).collect();
    let block = build(with_codec(Codec::Zstd), &samples).block().unwrap();
    let places: Vec<RecordPlace> = block.positions().map(Result::unwrap).collect();
    for (place, sample) in places.iter().zip(&samples).rev() {
        assert_eq!(&Sample::from(block.record_from(place.position).unwrap()), sample);
    }
}
