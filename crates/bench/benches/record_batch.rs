//! The record batch codec: what each message of 1 KiB costs on its way to the disk and back.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use log::batch::{BatchBuilder, BatchOptions, Codec, RecordBatch};

const VALUE: [u8; 1024] = [7; 1024];
const HEADERS: [(&str, Option<&[u8]>); 2] =
    [("tenant", Some(b"a")), ("traceparent", Some(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))];

fn build(records: usize, codec: Codec) -> RecordBatch {
    let mut builder =
        BatchBuilder::with_capacity(BatchOptions { codec, ..BatchOptions::default() }, records * (VALUE.len() + 128));
    for _ in 0..records {
        builder.push(None, 1, Some(b"customer-7"), Some(&VALUE), HEADERS).expect("within the limits");
    }
    builder.finish().expect("within the limits")
}

fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("record batch");
    for records in [1, 100, 1000] {
        group.throughput(Throughput::Elements(records as u64));
        group.bench_function(format!("build {records}"), |bencher| {
            bencher.iter(|| build(black_box(records), Codec::None))
        });
        let bytes = build(records, Codec::None).bytes();
        group.bench_function(format!("parse {records}"), |bencher| {
            bencher.iter_batched(
                || bytes.clone(),
                |bytes: Bytes| {
                    let (batch, _) = RecordBatch::parse(bytes).expect("valid");
                    batch
                        .records()
                        .expect("valid")
                        .filter_map(Result::ok)
                        .filter(|record| record.value.is_some())
                        .count()
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.throughput(Throughput::Elements(1000));
    group.bench_function("build 1000, lz4", |bencher| bencher.iter(|| build(black_box(1000), Codec::Lz4)));
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
