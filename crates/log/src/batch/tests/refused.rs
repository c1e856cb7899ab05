//! What the builder and the codecs refuse.

use super::super::limits::*;
use super::*;

fn push(builder: &mut BatchBuilder, delta: Option<u32>, timestamp_ms: i64) -> Result<usize, BuildError> {
    builder.push(delta, timestamp_ms, None, Some(b"v"), NO_HEADERS)
}

#[test]
fn a_refused_push_leaves_the_builder_as_it_was() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    assert!(builder.is_empty());
    push(&mut builder, Some(5), 0).unwrap();
    let before = builder.clone().finish().unwrap();
    let huge = vec![0; MAX_RECORD_BYTES + 1];
    let many = vec![("h", None); MAX_HEADERS_PER_RECORD + 1];
    let order = |found| Err(BuildError::OffsetDelta { found, previous: Some(5) });
    assert_eq!(push(&mut builder, Some(5), 0), order(5));
    assert_eq!(push(&mut builder, Some(1 << 31), 0), order(1 << 31));
    assert_eq!(builder.push(None, 0, None, Some(&huge), NO_HEADERS), Err(BuildError::RecordTooLarge));
    assert_eq!(builder.push(None, 0, Some(&huge[2..]), Some(b"12"), NO_HEADERS), Err(BuildError::RecordTooLarge));
    assert_eq!(builder.push(None, 0, None, None, many), Err(BuildError::TooManyHeaders));
    assert_eq!(builder.record_count(), 1);
    assert_eq!(builder.finish().unwrap(), before);

    let mut builder = BatchBuilder::new(BatchOptions { base_timestamp_ms: Some(-2), ..BatchOptions::default() });
    assert_eq!(push(&mut builder, None, i64::MAX), Err(BuildError::Timestamp { timestamp_ms: i64::MAX }));
    assert_eq!(builder.finish(), Err(BuildError::Empty));
}

#[test]
fn deltas_follow_on_and_end_at_31_bits() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    push(&mut builder, None, 0).unwrap();
    push(&mut builder, None, 0).unwrap();
    push(&mut builder, Some(i32::MAX as u32), 0).unwrap();
    let over = BuildError::OffsetDelta { found: 1 << 31, previous: Some(i32::MAX as u32) };
    assert_eq!(push(&mut builder, None, 0), Err(over));
    let deltas: Vec<u32> = read(&builder.finish().unwrap()).iter().map(|sample| sample.delta).collect();
    assert_eq!(deltas, [0, 1, i32::MAX as u32]);
}

#[test]
fn the_most_headers_that_are_allowed_are_read_back() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(None, 0, None, None, vec![("h", None); MAX_HEADERS_PER_RECORD]).unwrap();
    let records = read(&builder.finish().unwrap());
    assert_eq!(records[0].headers.len(), MAX_HEADERS_PER_RECORD);
}

#[test]
fn a_compressed_batch_stops_where_it_could_not_be_read_back() {
    let mut builder = BatchBuilder::new(with_codec(Codec::Zstd));
    let half = vec![0; MAX_DECOMPRESSED_BYTES / 2];
    builder.push(None, 0, None, Some(&half), NO_HEADERS).unwrap();
    let limit_bytes = HEADER_BYTES + MAX_DECOMPRESSED_BYTES;
    let refused = builder.push(None, 0, None, Some(&half), NO_HEADERS);
    assert_eq!(refused, Err(BuildError::BatchTooLarge { limit_bytes }));
    let batch = builder.finish().unwrap();
    assert!(batch.size_bytes() < 1 << 20);
    assert_eq!(batch.validate(), Ok(()));
    let limit = BatchError::Decompress(CodecError::TooLarge { codec: Codec::Zstd, limit_bytes: 1 << 20 });
    assert_eq!(batch.block_within(1 << 20).unwrap_err(), limit);
}

#[test]
fn offsets_end_at_63_bits() {
    let last = Offset(i64::MAX as u64);
    let samples = [Sample::of(0, b"a"), Sample::of(1, b"b")];
    let options = BatchOptions { base_offset: last, ..BatchOptions::default() };
    assert_eq!(builder_of(options, &samples).finish(), Err(BuildError::BaseOffset { base_offset: last }));
    let batch = build(BatchOptions::default(), &samples);
    for base_offset in [last, Offset(u64::MAX)] {
        let refused = batch.with_base_offset(base_offset, 0);
        let base_offset = i128::from(base_offset.0);
        assert_eq!(refused, Err(BatchError::OffsetRange { base_offset, last_offset_delta: 1 }));
    }
    assert!(batch.with_base_offset(Offset(last.0 - 1), 0).is_ok());
}

#[test]
fn bombs_are_refused_by_every_codec() {
    let zeros = vec![0; 8 << 20];
    let limit_bytes = (8 << 20) - 1;
    for codec in &Codec::ALL[1..] {
        let mut bomb = Vec::new();
        compress(*codec, &zeros, &mut bomb).unwrap();
        let refused = decompress(*codec, &bomb.into(), limit_bytes);
        assert_eq!(refused, Err(CodecError::TooLarge { codec: *codec, limit_bytes }));
    }
}

#[test]
fn a_claimed_size_is_not_believed() {
    // Snappy: a bare block that claims 2 GiB in five bytes of varint.
    let refused = decompress(Codec::Snappy, &Bytes::from_static(b"\xff\xff\xff\xff\x07\x00a"), usize::MAX / 2);
    assert!(matches!(refused, Err(CodecError::Malformed { codec: Codec::Snappy, .. })), "{refused:?}");

    // Zstandard: the frame header claims 100 MiB of a frame with one raw byte in it, and then more
    // than the limit.
    let frame = |size: u32| {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0b1010_0000];
        frame.extend_from_slice(&size.to_le_bytes());
        frame.extend_from_slice(&[0x09, 0, 0, b'x']);
        Bytes::from(frame)
    };
    let refused = decompress(Codec::Zstd, &frame(100 << 20), 128 << 20);
    assert!(matches!(refused, Err(CodecError::Malformed { codec: Codec::Zstd, .. })), "{refused:?}");
    let limit_bytes = 128 << 20;
    let too_large = CodecError::TooLarge { codec: Codec::Zstd, limit_bytes };
    assert_eq!(decompress(Codec::Zstd, &frame(200 << 20), limit_bytes), Err(too_large));
    assert_eq!(decompress(Codec::Zstd, &frame(1), limit_bytes).as_deref(), Ok(&b"x"[..]));
}

#[test]
fn zstandard_without_a_content_size_and_in_several_frames_is_read() {
    let mut rng = fastrand::Rng::with_seed(11);
    let text: Vec<u8> = std::iter::repeat_with(|| b"abcd"[rng.usize(0..4)]).take(100_000).collect();
    let zeros = vec![0; 1 << 20];
    let mut input = Vec::new();
    for part in [&text, &zeros] {
        let mut encoder = zstd::stream::write::Encoder::new(&mut input, 1).unwrap();
        std::io::Write::write_all(&mut encoder, part).unwrap();
        encoder.finish().unwrap();
    }
    let back = decompress(Codec::Zstd, &input.into(), 2 << 20).unwrap();
    assert_eq!(back, [text, zeros].concat());
}

#[test]
fn snappy_is_read_bare_and_in_several_streams() {
    let bare = snap::raw::Encoder::new().compress_vec(b"some text, some text").unwrap();
    assert_eq!(decompress(Codec::Snappy, &bare.into(), 100).as_deref(), Ok(&b"some text, some text"[..]));
    let mut streams = Vec::new();
    compress(Codec::Snappy, b"one ", &mut streams).unwrap();
    compress(Codec::Snappy, b"two", &mut streams).unwrap();
    assert_eq!(decompress(Codec::Snappy, &streams.into(), 100).as_deref(), Ok(&b"one two"[..]));
    for malformed in [
        &b""[..],
        b"\x82SNAPPY\0\0",
        b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\xff\xff\xff\xff",
        b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x09x",
    ] {
        let refused = decompress(Codec::Snappy, &Bytes::from_static(malformed), 100);
        assert!(matches!(refused, Err(CodecError::Malformed { .. })), "{malformed:?}: {refused:?}");
    }
}
