//! Seeds of the random tests.

/// Runs `test` once a seed and prints each seed first, so that the last one shown is the one that failed. `POSTHOUSE_SEED`
/// replays one; `POSTHOUSE_SEEDS` says how many instead of `default_count`.
#[allow(clippy::print_stderr, reason = "shown only when the test fails")]
pub(crate) fn for_seeds(default_count: u64, mut test: impl FnMut(&mut fastrand::Rng)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("POSTHOUSE_SEED") {
        Some(seed) => seed..seed.saturating_add(1),
        None => 0..number("POSTHOUSE_SEEDS").unwrap_or(default_count),
    };
    for seed in seeds {
        eprintln!("POSTHOUSE_SEED={seed}");
        test(&mut fastrand::Rng::with_seed(seed));
    }
}
