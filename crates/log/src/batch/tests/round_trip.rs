//! What goes in comes out.

use super::*;

#[test]
fn random_batches_come_back_whole_and_survive_filtering() {
    for seed in 0..400 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (options, samples) = (random_options(&mut rng), random_samples(&mut rng));
        let built = build(options, &samples);
        let parsed = parse_whole(built.bytes());
        assert_eq!(parsed, built, "seed {seed}");
        assert_eq!(read(&parsed), samples, "seed {seed}");
        check_header(&parsed, &options, &samples, seed);

        let kept: Vec<Sample> = samples.iter().filter(|_| rng.u8(0..3) != 0).cloned().collect();
        let filtered = parsed.filter(|record| kept.iter().any(|sample| sample.delta == record.offset_delta));
        match filtered.expect("a good batch") {
            None => assert!(kept.is_empty(), "seed {seed}"),
            Some(filtered) => {
                let filtered = parse_whole(filtered.bytes());
                assert_eq!(read(&filtered), kept, "seed {seed}");
                let span = |batch: &RecordBatch| (batch.base_offset(), batch.last_offset(), batch.base_timestamp_ms());
                assert_eq!(span(&filtered), span(&parsed), "seed {seed}");
                assert_eq!(filtered.producer(), parsed.producer(), "seed {seed}");
                assert_eq!(filtered.header().attributes, parsed.header().attributes, "seed {seed}");
                assert_eq!(filtered.header().leader_epoch, parsed.header().leader_epoch, "seed {seed}");
                assert_eq!(Some(filtered.max_timestamp_ms()), kept.iter().map(|s| s.timestamp_ms).max());
            }
        }
    }
}

fn check_header(batch: &RecordBatch, options: &BatchOptions, samples: &[Sample], seed: u64) {
    let (first, last) = (&samples[0], &samples[samples.len() - 1]);
    assert_eq!(batch.codec(), options.codec, "seed {seed}");
    assert_eq!(batch.producer(), options.producer, "seed {seed}");
    assert_eq!(batch.is_transactional(), options.transactional, "seed {seed}");
    assert!(!batch.is_control(), "seed {seed}");
    assert_eq!(batch.timestamp_type(), TimestampType::Create, "seed {seed}");
    assert_eq!(batch.base_offset(), options.base_offset, "seed {seed}");
    assert_eq!(batch.header().leader_epoch, options.leader_epoch, "seed {seed}");
    assert_eq!(batch.last_offset_delta(), last.delta, "seed {seed}");
    assert_eq!(batch.last_offset(), options.base_offset.plus(u64::from(last.delta)), "seed {seed}");
    assert_eq!(batch.base_timestamp_ms(), options.base_timestamp_ms.unwrap_or(first.timestamp_ms), "seed {seed}");
    assert_eq!(Some(batch.max_timestamp_ms()), samples.iter().map(|s| s.timestamp_ms).max(), "seed {seed}");
    let horizon = options.delete_horizon.then_some(batch.base_timestamp_ms());
    assert_eq!(batch.delete_horizon_ms(), horizon, "seed {seed}");
    assert_eq!(batch.size_bytes(), batch.bytes().len(), "seed {seed}");
}

#[test]
fn every_codec_carries_blocks_of_every_kind() {
    let mut rng = fastrand::Rng::with_seed(7);
    let noise: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(300_000).collect();
    let blocks: [&[u8]; 6] = [b"", b"x", &[7; 200_000], &noise, &noise[..32 * 1024], &noise[..64 * 1024]];
    for codec in Codec::ALL {
        for block in blocks {
            let mut out = b"before".to_vec();
            compress(codec, block, &mut out).expect("it compresses");
            assert_eq!(&out[..6], b"before", "{codec:?} overwrote what was there");
            let compressed = Bytes::copy_from_slice(&out[6..]);
            let back = decompress(codec, &compressed, block.len());
            assert_eq!(back.as_deref(), Ok(block), "{codec:?}, {} bytes, limit of exactly that", block.len());
        }
    }
}

#[test]
fn uncompressed_records_are_slices_of_the_parsed_buffer() {
    let sample = Sample {
        key: Some(b"key".to_vec()),
        headers: vec![(b"name".to_vec(), Some(b"header".to_vec()))],
        ..Sample::of(0, b"value")
    };
    let bytes = build(BatchOptions::default(), &[sample]).bytes();
    let range = bytes.as_ptr_range();
    let batch = parse_whole(bytes.clone());
    let record = batch.records().unwrap().next().unwrap().unwrap();
    let (name, header) = record.headers.iter_shared().next().unwrap();
    for slice in [record.key.unwrap(), record.value.unwrap(), name, header.unwrap()] {
        assert!(range.contains(&slice.as_ptr()), "a copy was made");
    }
}

#[test]
fn append_time_stands_for_every_records_time() {
    let options = BatchOptions { timestamp_type: TimestampType::LogAppend, ..BatchOptions::default() };
    let early = Sample { timestamp_ms: 5, ..Sample::of(0, b"a") };
    let late = Sample { timestamp_ms: 90, ..Sample::of(1, b"b") };
    let batch = parse_whole(build(options, &[early, late]).bytes());
    assert_eq!(batch.timestamp_type(), TimestampType::LogAppend);
    assert_eq!(read(&batch).iter().map(|sample| sample.timestamp_ms).collect::<Vec<_>>(), [90, 90]);
    let filtered = batch.filter(|record| record.offset_delta == 0).unwrap().unwrap();
    assert_eq!(filtered.max_timestamp_ms(), 90, "the append time is not that of the kept records");
}

#[test]
fn batches_in_a_row_are_parsed_one_by_one() {
    let first = build(BatchOptions::default(), &[Sample::of(0, b"one")]);
    let second = build(with_codec(Codec::Lz4), &[Sample::of(0, b"two")]);
    let (parsed, rest) = RecordBatch::parse([first.bytes(), second.bytes()].concat().into()).unwrap();
    assert_eq!(parsed, first);
    assert_eq!(parse_whole(rest), second);
}

#[test]
fn a_moved_batch_shares_its_body_and_keeps_its_checksum() {
    let batch = build(with_codec(Codec::Zstd), &[Sample::of(0, b"a"), Sample::of(4, b"b")]);
    let same = batch.with_base_offset(Offset(0), NO_LEADER_EPOCH).unwrap();
    assert_eq!(same.bytes().as_ptr(), batch.bytes().as_ptr(), "nothing changed, so nothing is copied");

    let moved = batch.with_base_offset(Offset(1_000_000), 12).unwrap();
    assert_eq!(moved.body().as_ptr(), batch.body().as_ptr(), "the body is shared");
    assert_eq!((moved.base_offset(), moved.last_offset()), (Offset(1_000_000), Offset(1_000_004)));
    assert_ne!(moved, batch);
    assert!(moved.shares_body_with(&batch));
    assert!(!parse_whole(batch.bytes().to_vec().into()).shares_body_with(&batch));
    let written = [&moved.header_bytes()[..], &moved.body()].concat();
    assert_eq!(moved.bytes(), written);
    assert_eq!(batch.header_with_base_offset(Offset(1_000_000), 12), Ok(moved.header_bytes()));
    let read_back = parse_whole(written.into());
    assert_eq!(read_back, moved);
    assert_eq!(read_back.header().leader_epoch, 12);
    let offsets: Vec<_> = moved.records().unwrap().map(|record| record.unwrap().offset).collect();
    assert_eq!(offsets, [Offset(1_000_000), Offset(1_000_004)]);

    let back = moved.with_base_offset(Offset(0), NO_LEADER_EPOCH).unwrap();
    assert_eq!(back.bytes(), batch.bytes());
}
