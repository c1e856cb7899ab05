//! Fuzzing without libFuzzer: kept inputs, changed at random. It knows nothing of coverage, but runs wherever tests run.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::corpus;
use crate::TARGETS;

/// Longest input, in bytes.
const MAX_BYTES: usize = 32 * 1024;
/// Most changes of one input.
const MAX_CHANGES: usize = 8;
/// Numbers at which something often ends.
const EDGES: &[u64] = &[0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0xffff_ffff, u64::MAX >> 1, u64::MAX];

/// `POSTHOUSE_PROOF_SECONDS` a target, from `POSTHOUSE_SEED` on; `POSTHOUSE_TARGET` chooses one.
#[test]
#[ignore = "takes as long as it is told"]
#[expect(clippy::disallowed_methods, reason = "how long it runs is a person's wish")]
fn mutations_hold() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
    };
    let (seconds, seed) = (number("POSTHOUSE_PROOF_SECONDS", 5), number("POSTHOUSE_SEED", 1));
    let only = std::env::var("POSTHOUSE_TARGET").ok();
    for (name, check) in TARGETS.iter().filter(|(name, _)| only.as_ref().is_none_or(|only| only == name)) {
        let pool: Vec<Vec<u8>> = std::fs::read_dir(corpus(name))
            .expect("a corpus")
            .map(|entry| std::fs::read(entry.expect("an entry").path()).expect("a file"))
            .collect();
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut runs = 0;
        while Instant::now() < until {
            one(name, *check, &pool, seed.wrapping_add(runs));
            runs += 1;
        }
        println!("{name}: seeds {seed}..{}", seed.wrapping_add(runs));
    }
}

/// A failure leaves its input where libFuzzer would leave it.
fn one(name: &str, check: fn(&[u8]), pool: &[Vec<u8>], seed: u64) {
    let input = mutated(pool, seed);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&input))) {
        let directory = corpus(name).join("../../artifacts").join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        let file = directory.join(format!("seed-{seed}"));
        std::fs::write(&file, &input).expect("a file");
        println!("{name}: POSTHOUSE_SEED={seed}, {}", file.display());
        resume_unwind(panic);
    }
}

fn mutated(pool: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut rng = Rng::with_seed(seed);
    let mut input = pool[rng.usize(..pool.len())].clone();
    for _ in 0..rng.usize(1..=MAX_CHANGES) {
        change(&mut rng, pool, &mut input);
        input.truncate(MAX_BYTES);
    }
    input
}

fn change(rng: &mut Rng, pool: &[Vec<u8>], input: &mut Vec<u8>) {
    // Most of what is looked at stands near the front.
    let at = if rng.bool() { rng.usize(..=input.len()) } else { rng.usize(..=input.len().min(64)) };
    match rng.u8(..9) {
        0 | 1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        }
        2 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = rng.u8(..);
            }
        }
        3 => input.insert(at, rng.u8(..)),
        4 => drop(input.drain(at..(at + rng.usize(..16)).min(input.len()))),
        5 => {
            let edge = EDGES[rng.usize(..EDGES.len())];
            let bytes = if rng.bool() { edge.to_le_bytes() } else { edge.to_be_bytes() };
            let width = 1 << rng.u32(..4);
            let from = if rng.bool() { 0 } else { 8 - width };
            for (place, byte) in input.iter_mut().skip(at).zip(&bytes[from..from + width]) {
                *place = *byte;
            }
        }
        6 => input.truncate(at),
        _ => {
            // A piece of another input, or of this one.
            let other = &pool[rng.usize(..pool.len())];
            let from = rng.usize(..=other.len());
            let piece = other[from..(from + rng.usize(1..64)).min(other.len())].to_vec();
            input.splice(at..at, piece);
        }
    }
}
