//! How fast the hot path is. Run by hand:
//! `cargo test --release -p log timing -- --ignored --nocapture`.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a rate is printed, and the real clock measures it"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::*;

const RUN: Duration = Duration::from_millis(500);

/// Runs `round`, which handles `records` records, for a while, and prints the rate.
fn measure(what: &str, records: usize, mut round: impl FnMut()) {
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < RUN {
        round();
        rounds += 1;
    }
    let rate = (rounds * records) as f64 / start.elapsed().as_secs_f64();
    println!("{what:<44} {:>8.2} M records/s", rate / 1e6);
}

fn encode(codec: Codec, value: &[u8], records: usize) -> RecordBatch {
    let mut builder = BatchBuilder::with_capacity(with_codec(codec), records * (value.len() + 40));
    for index in 0..records {
        let headers = [("ph-id", Some(&b"0123456789abcdef"[..]))];
        builder.push(None, 1_700_000_000_000 + index as i64, None, Some(value), headers).unwrap();
    }
    builder.finish().unwrap()
}

#[test]
#[ignore = "prints rates, proves nothing"]
fn timing() {
    let mut rng = fastrand::Rng::with_seed(1);
    let text: Vec<u8> = std::iter::repeat_with(|| rng.alphanumeric() as u8).take(1024).collect();
    for (len, records) in [(100, 1000), (1024, 500), (1024, 1)] {
        let value = &text[..len];
        for codec in Codec::ALL {
            let name = format!("{len} B x {records} {codec:?}");
            measure(&format!("{name}: encode"), records, || {
                black_box(encode(codec, black_box(value), records));
            });
            let bytes = encode(codec, value, records).bytes();
            measure(&format!("{name}: parse, walk borrowed"), records, || {
                let (batch, _) = RecordBatch::parse(bytes.clone()).unwrap();
                for record in batch.block().unwrap().refs() {
                    black_box(record.unwrap().value);
                }
            });
            measure(&format!("{name}: parse, walk shared"), records, || {
                let (batch, _) = RecordBatch::parse(bytes.clone()).unwrap();
                for record in batch.records().unwrap() {
                    black_box(record.unwrap().value);
                }
            });
        }
    }
}
