//! Tests of the whole module. What they share is here: a plain model of a record, and how to build
//! batches of it and read them back.

mod damage;
mod foreign;
mod parts;
mod refused;
mod round_trip;
mod timing;

use bytes::Bytes;
use types::Offset;

use super::*;

type Header = (Vec<u8>, Option<Vec<u8>>);

/// A record as a test thinks of it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sample {
    delta: u32,
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Header>,
}

impl Sample {
    fn of(delta: u32, value: &[u8]) -> Sample {
        Sample { delta, timestamp_ms: 1_700_000_000_000, key: None, value: Some(value.to_vec()), headers: Vec::new() }
    }
}

impl From<RecordRef<'_>> for Sample {
    fn from(record: RecordRef<'_>) -> Sample {
        let headers = record.headers.iter().map(|h| (h.name.to_vec(), h.value.map(<[u8]>::to_vec)));
        Sample {
            delta: record.offset_delta,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }
}

impl From<Record> for Sample {
    fn from(record: Record) -> Sample {
        let headers = record.headers.iter_shared().map(|(name, value)| (name.to_vec(), value.map(|v| v.to_vec())));
        Sample {
            delta: record.offset_delta,
            timestamp_ms: record.timestamp_ms,
            headers: headers.collect(),
            key: record.key.map(|key| key.to_vec()),
            value: record.value.map(|value| value.to_vec()),
        }
    }
}

fn builder_of(options: BatchOptions, samples: &[Sample]) -> BatchBuilder {
    let mut builder = BatchBuilder::new(options);
    for sample in samples {
        let headers = sample.headers.iter().map(|(name, value)| (name, value.as_deref()));
        let before = builder.len_bytes();
        let taken = builder
            .push(Some(sample.delta), sample.timestamp_ms, sample.key.as_deref(), sample.value.as_deref(), headers)
            .expect("the sample is within the limits");
        assert_eq!(builder.len_bytes(), before + taken);
    }
    builder
}

fn build(options: BatchOptions, samples: &[Sample]) -> RecordBatch {
    builder_of(options, samples).finish().expect("the samples make a batch")
}

fn with_codec(codec: Codec) -> BatchOptions {
    BatchOptions { codec, ..BatchOptions::default() }
}

/// Parses bytes that must be one good batch.
fn parse_whole(bytes: Bytes) -> RecordBatch {
    let (batch, rest) = RecordBatch::parse(bytes).expect("a good batch");
    assert!(rest.is_empty());
    batch
}

/// Reads a batch in each way there is, and checks that all agree.
fn read(batch: &RecordBatch) -> Vec<Sample> {
    let block = batch.block().expect("a good block");
    block.validate().expect("good records");
    let borrowed: Vec<Sample> = block.refs().map(|record| record.expect("a good record").into()).collect();
    let mut shared = Vec::new();
    for record in batch.records().expect("a good block") {
        let record = record.expect("a good record");
        assert_eq!(record.offset, batch.base_offset().plus(u64::from(record.offset_delta)));
        shared.push(Sample::from(record));
    }
    let mut pointed = Vec::new();
    let mut block_bytes = 0;
    for place in batch.positions().expect("a good block") {
        let place = place.expect("a good record");
        let record = batch.record_from(place.position).expect("a record at its position");
        assert_eq!(
            (record.offset, record.position, record.encoded_bytes),
            (place.offset, place.position, place.encoded_bytes)
        );
        assert_eq!(place.position.0 as usize, block_bytes);
        block_bytes += place.encoded_bytes as usize;
        pointed.push(Sample::from(record));
    }
    assert_eq!(block_bytes, block.bytes().len());
    assert_eq!(borrowed.len(), batch.record_count() as usize);
    assert_eq!(borrowed, shared);
    assert_eq!(borrowed, pointed);
    borrowed
}

fn random_bytes(rng: &mut fastrand::Rng, max_len: usize) -> Vec<u8> {
    let len = rng.usize(0..=max_len);
    // Half of them repeat one byte, so that compression has something to do.
    if rng.bool() {
        return vec![rng.u8(..); len];
    }
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

fn random_samples(rng: &mut fastrand::Rng) -> Vec<Sample> {
    let mut delta = rng.u32(0..3);
    let count = rng.usize(1..40);
    let mut samples = Vec::with_capacity(count);
    for _ in 0..count {
        let key = rng.bool().then(|| random_bytes(rng, 40));
        let value = (rng.u8(0..8) != 0).then(|| random_bytes(rng, 3000));
        let header_count = if rng.bool() { 0 } else { rng.usize(0..6) };
        let mut headers = Vec::new();
        for _ in 0..header_count {
            let name = random_bytes(rng, 12);
            headers.push((name, rng.bool().then(|| random_bytes(rng, 90))));
        }
        let timestamp_ms = 1_700_000_000_000 + rng.i64(-5_000..5_000_000);
        samples.push(Sample { delta, timestamp_ms, key, value, headers });
        delta += 1 + if rng.u8(0..6) == 0 { rng.u32(0..100_000) } else { 0 };
    }
    samples
}

fn random_options(rng: &mut fastrand::Rng) -> BatchOptions {
    BatchOptions {
        codec: Codec::ALL[rng.usize(0..Codec::ALL.len())],
        producer: rng.bool().then(|| Producer {
            id: rng.i64(0..i64::MAX),
            epoch: rng.i16(0..i16::MAX),
            base_sequence: rng.i32(0..i32::MAX),
        }),
        transactional: rng.bool(),
        control: false,
        timestamp_type: TimestampType::Create,
        base_timestamp_ms: rng.bool().then(|| 1_700_000_000_000 + rng.i64(-1000..1000)),
        delete_horizon: rng.u8(0..8) == 0,
        base_offset: Offset(rng.u64(0..1 << 62)),
        leader_epoch: rng.i32(-1..1000),
    }
}
