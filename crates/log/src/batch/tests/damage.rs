//! Bytes that are wrong are told so, and nothing panics.

use super::super::limits::{HEADER_BYTES, LENGTH_PREFIX_BYTES};
use super::super::record_batch::crc_of;
use super::*;

/// A batch of any header and body, with the length and the checksum that go with them. This is how
/// a test gets malformed content past the checksum, as a foreign client could.
pub(super) fn signed(mut header: BatchHeader, body: &[u8]) -> Bytes {
    header.length_bytes = (HEADER_BYTES - LENGTH_PREFIX_BYTES + body.len()) as u32;
    let mut frame = [&header.encode()[..], body].concat();
    header.crc = crc_of(&frame);
    frame[..HEADER_BYTES].copy_from_slice(&header.encode());
    frame.into()
}

fn parse_error(bytes: impl Into<Bytes>) -> BatchError {
    RecordBatch::parse(bytes.into()).expect_err("this is no good batch")
}

fn sample_batch(codec: Codec) -> RecordBatch {
    let headers = vec![(b"trace".to_vec(), Some(b"abc".to_vec())), (b"none".to_vec(), None)];
    let first = Sample { key: Some(b"key".to_vec()), headers, ..Sample::of(0, b"first first first") };
    build(with_codec(codec), &[first, Sample { value: None, ..Sample::of(2, b"") }, Sample::of(3, b"third")])
}

#[test]
fn every_prefix_is_told_to_be_cut_short() {
    for codec in Codec::ALL {
        let bytes = sample_batch(codec).bytes();
        for len in 0..bytes.len() {
            let needed_bytes = if len < HEADER_BYTES { HEADER_BYTES } else { bytes.len() };
            let expected = BatchError::Truncated { needed_bytes, have_bytes: len };
            assert_eq!(parse_error(bytes.slice(..len)), expected, "{codec:?}");
        }
    }
}

#[test]
fn every_flipped_bit_under_the_checksum_is_detected() {
    let whole = sample_batch(Codec::None);
    for bit in 0..whole.size_bytes() * 8 {
        let mut bytes = whole.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        // Base offset and leader epoch are outside the checksum: whoever stores the batch guards
        // them. A negative base offset is the one flip of them that shows.
        let is_outside = matches!(bit / 8, 0..8 | 12..16);
        match RecordBatch::parse(bytes.into()) {
            Err(_) => assert!(!is_outside || bit == 7, "bit {bit}"),
            Ok((batch, _)) => {
                assert!(is_outside, "bit {bit} went unseen");
                assert_eq!(batch.body(), whole.body());
            }
        }
    }
}

#[test]
fn damaged_content_behind_a_good_checksum_never_panics() {
    let mut refused = 0;
    for codec in Codec::ALL {
        let batch = sample_batch(codec);
        let body = batch.body();
        let mut bodies: Vec<Vec<u8>> = (0..body.len()).map(|len| body[..len].to_vec()).collect();
        for bit in 0..body.len() * 8 {
            let mut flipped = body.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            bodies.push(flipped);
        }
        bodies.push([&body[..], b"more"].concat());
        for (index, damaged) in bodies.iter().enumerate() {
            let is_cut = index < body.len();
            match RecordBatch::parse(signed(*batch.header(), damaged)) {
                Ok((batch, _)) => {
                    let outcome = batch.validate();
                    assert!(outcome.is_err() || !is_cut, "{codec:?} {index}");
                    refused += usize::from(outcome.is_err());
                    let _ = batch.filter(|record| record.offset_delta > 0);
                    let _ = batch.positions().map(|places| places.count());
                    for position in 0..body.len() as u32 {
                        let _ = batch.record_from(RecordPosition(position));
                    }
                }
                Err(error) => assert!(matches!(error, BatchError::RecordCount { .. }), "{error}"),
            }
        }
    }
    assert!(refused > 1000, "only {refused} were refused");
}

#[test]
fn random_headers_and_bodies_never_panic() {
    for seed in 0..2_000 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let len = rng.usize(0..300);
        let mut bytes: Vec<u8> = std::iter::repeat_with(|| rng.u8(..)).take(len).collect();
        let _ = RecordBatch::parse(bytes.clone().into());
        // And once with what a parser looks at first put right.
        if bytes.len() > HEADER_BYTES {
            let length = (bytes.len() - 12) as u32;
            bytes[0] &= 0x7f;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = MAGIC;
            bytes[22] &= 0b1111_1000;
            bytes[22] |= rng.u8(0..5);
            bytes[23..27].copy_from_slice(&[0, 0, 0, 9]);
            bytes[57..61].copy_from_slice(&[0, 0, 0, rng.u8(0..9)]);
            if let Ok((batch, _)) = RecordBatch::parse_unchecked_crc(bytes.into()) {
                let _ = batch.validate();
                let _ = batch.control_record();
            }
        }
    }
}

#[test]
fn each_header_field_is_checked() {
    let batch = sample_batch(Codec::None);
    let good = batch.bytes();
    let patched = |at: usize, field: &[u8]| {
        let mut bytes = good.to_vec();
        bytes[at..at + field.len()].copy_from_slice(field);
        parse_error(bytes)
    };
    assert_eq!(patched(16, &[1]), BatchError::Magic { found: 1 });
    assert_eq!(parse_error(vec![0; 20]), BatchError::Magic { found: 0 });
    assert_eq!(patched(8, &48i32.to_be_bytes()), BatchError::Length { found: 48 });
    assert_eq!(patched(8, &(-1i32).to_be_bytes()), BatchError::Length { found: -1 });
    let length = BatchError::Truncated { needed_bytes: i32::MAX as usize + 12, have_bytes: good.len() };
    assert_eq!(patched(8, &i32::MAX.to_be_bytes()), length);
    let range = |base_offset, last_offset_delta| BatchError::OffsetRange { base_offset, last_offset_delta };
    assert_eq!(patched(0, &(-1i64).to_be_bytes()), range(-1, 3));
    assert_eq!(patched(0, &i64::MAX.to_be_bytes()), range(i128::from(i64::MAX), 3));
    assert_eq!(patched(23, &(-1i32).to_be_bytes()), range(0, -1));
    assert_eq!(patched(21, &5i16.to_be_bytes()), BatchError::UnknownCodec { bits: 5 });
    for count in [-1i32, 5, i32::MAX] {
        assert_eq!(patched(57, &count.to_be_bytes()), BatchError::RecordCount { found: count });
    }
    assert!(matches!(patched(17, &[0; 4]), BatchError::Checksum { stored: 0, .. }));
    assert!(
        RecordBatch::parse_unchecked_crc({
            let mut bytes = good.to_vec();
            bytes[17] ^= 1;
            bytes.into()
        })
        .is_ok()
    );
}

/// Puts one record of these bytes (after the length) into a batch, and says what is wrong with it.
fn fault_of(record: &[u8]) -> Result<(), BatchError> {
    let mut header = *build(BatchOptions::default(), &[Sample::of(3, b"x")]).header();
    header.base_timestamp_ms = i64::MAX;
    header.record_count = 1;
    let mut body = vec![(record.len() as u8) << 1];
    body.extend_from_slice(record);
    parse_whole(signed(header, &body)).validate()
}

#[test]
fn each_record_fault_is_named() {
    let at_zero = |fault| Err(BatchError::Record { position: 0, fault });
    // Attributes, timestamp delta, offset delta, key length, value length, header count.
    assert_eq!(fault_of(&[0, 0, 0, 1, 1, 0]), Ok(()));
    assert_eq!(fault_of(&[0, 0, 6, 1, 0, 0]), Ok(()));
    assert_eq!(fault_of(&[0, 0, 8, 1, 1, 0]), at_zero(RecordFault::OffsetDelta));
    assert_eq!(fault_of(&[0, 0, 1, 1, 1, 0]), at_zero(RecordFault::OffsetDelta));
    assert_eq!(fault_of(&[0, 2, 0, 1, 1, 0]), at_zero(RecordFault::Timestamp));
    assert_eq!(fault_of(&[0, 0, 0, 3, 1, 0]), at_zero(RecordFault::NegativeLength));
    assert_eq!(fault_of(&[0, 0, 0, 20, 1, 0]), at_zero(RecordFault::Truncated));
    assert_eq!(fault_of(&[0, 0, 0, 1, 1, 1]), at_zero(RecordFault::HeaderCount));
    assert_eq!(fault_of(&[0, 0, 0, 1, 1, 0x82, 0x80, 0x08]), at_zero(RecordFault::HeaderCount));
    assert_eq!(fault_of(&[0, 0, 0, 1, 1, 2, 1, 1]), at_zero(RecordFault::NegativeLength));
    assert_eq!(fault_of(&[0, 0, 0, 1, 1, 2, 2]), at_zero(RecordFault::Truncated));
    assert_eq!(fault_of(&[0, 0, 0, 1, 1, 0, 0]), at_zero(RecordFault::TrailingBytes));
}

#[test]
fn records_are_exactly_the_announced_ones_in_order() {
    let batch = sample_batch(Codec::None);
    let body = batch.body();
    let with_count = |record_count: u32, body: &[u8]| {
        parse_whole(signed(BatchHeader { record_count, ..*batch.header() }, body)).validate()
    };
    assert_eq!(with_count(3, &body), Ok(()));
    assert!(matches!(with_count(2, &body), Err(BatchError::TrailingBytes { .. })));
    let end = BatchError::Record { position: body.len() as u32, fault: RecordFault::Truncated };
    assert_eq!(with_count(4, &body), Err(end));
    let places: Vec<RecordPlace> = batch.positions().unwrap().map(Result::unwrap).collect();
    let (head, tail) = body.split_at(places[1].position.0 as usize);
    let swapped = [tail, head].concat();
    let position = tail.len() as u32;
    let order = BatchError::Record { position, fault: RecordFault::OffsetDelta };
    assert_eq!(with_count(3, &swapped), Err(order.clone()));

    // An error is the last thing a walk gives.
    let batch = parse_whole(signed(*batch.header(), &swapped));
    let walked: Vec<_> = batch.records().unwrap().collect();
    assert_eq!(walked.len(), 3);
    assert_eq!(walked[2], Err(order));
    let small = parse_whole(signed(
        BatchHeader { last_offset_delta: 99, record_count: 99, ..*sample_batch(Codec::Zstd).header() },
        &sample_batch(Codec::Zstd).body(),
    ));
    assert_eq!(small.block().unwrap_err(), BatchError::RecordCount { found: 99 });
}
