//! The broker under seeded simulation. `POSTHOUSE_SEEDS` says how many seeds, `POSTHOUSE_SEED` repeats one, `POSTHOUSE_STEPS` cuts a
//! run short: the smallest number that still fails is the shortest run. A seed that is repeated shows its whole trace.

#![allow(clippy::print_stderr, reason = "seeds and progress are for whoever runs it")]

use sim::{Outcome, Plan, run};

/// Steps of a long run and of a short one.
const STEPS: usize = 160;
const SHORT_STEPS: usize = 24;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// The seeds to run.
fn seeds(from: u64, count: u64) -> std::ops::Range<u64> {
    match number("POSTHOUSE_SEED") {
        Some(seed) => seed..seed + 1,
        None => from..from + number("POSTHOUSE_SEEDS").unwrap_or(count),
    }
}

fn steps(usual: usize) -> usize {
    number("POSTHOUSE_STEPS").map_or(usual, |steps| usize::try_from(steps).expect("a number of steps"))
}

fn run_or_show(plan: Plan) -> Outcome {
    std::panic::set_hook(Box::new(|info| {
        if number("POSTHOUSE_SEED").is_some() {
            eprintln!("{info}");
        }
    }));
    let result = run(plan);
    drop(std::panic::take_hook());
    result.unwrap_or_else(|failure| {
        if number("POSTHOUSE_SEED").is_some() {
            failure.lines.iter().enumerate().for_each(|(number, line)| eprintln!("{number:>5} {line}"));
        }
        panic!("{failure}")
    })
}

/// Runs a seed's workload to the end, then again with the disk dying on each of its operations.
fn crash_everywhere(seed: u64, steps: usize) -> u64 {
    let whole = run_or_show(Plan { seed, steps, crash_at: None, faults: false });
    for crash_at in 1..=whole.operations {
        run_or_show(Plan { seed, steps, crash_at: Some(crash_at), faults: false });
    }
    whole.operations
}

#[test]
fn whatever_fails_nothing_confirmed_is_lost_and_nothing_acknowledged_comes_back() {
    let mut lives = 0;
    for seed in seeds(0, 200) {
        lives += run_or_show(Plan { seed, steps: steps(STEPS), crash_at: None, faults: true }).lives;
    }
    eprintln!("{lives} lives");
}

#[test]
fn a_crash_at_any_operation_loses_nothing_confirmed() {
    let mut crashes = 0;
    for seed in seeds(0, 4) {
        crashes += crash_everywhere(seed, steps(SHORT_STEPS));
    }
    eprintln!("{crashes} crashes");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in seeds(0, 20) {
        let plan = Plan { seed, steps: steps(STEPS), crash_at: None, faults: true };
        let (one, two) = (run_or_show(plan), run_or_show(plan));
        let differs = one.lines.iter().zip(&two.lines).position(|(one, two)| one != two);
        if let Some(at) = differs {
            panic!("POSTHOUSE_SEED={seed}: line {at} is {:?} and {:?}", one.lines[at], two.lines[at]);
        }
        assert_eq!(one.hash, two.hash, "POSTHOUSE_SEED={seed}");
    }
}

/// A run of either kind says now and then how far it is: a long run that says nothing cannot be told from one that hangs.
const PROGRESS: u64 = 100;

#[test]
#[ignore = "the long run, for `cargo xtask proofs`"]
fn proof_simulation_with_faults_at_random() {
    let (mut lives, mut messages) = (0, 0);
    for seed in seeds(100_000, 2_000) {
        let steps = steps(STEPS);
        let outcome = run_or_show(Plan { seed, steps, crash_at: None, faults: true });
        (lives, messages) = (lives + outcome.lives, messages + outcome.messages);
        if seed % PROGRESS == PROGRESS - 1 {
            eprintln!("seed {seed}: {lives} lives, {messages} messages");
        }
        if seed % PROGRESS == 0 {
            let again = run_or_show(Plan { seed, steps, crash_at: None, faults: true });
            assert_eq!(outcome.hash, again.hash, "POSTHOUSE_SEED={seed} is not the same run twice");
        }
    }
    eprintln!("{lives} lives, {messages} messages");
}

#[test]
#[ignore = "the long run, for `cargo xtask proofs`"]
fn proof_simulation_with_a_crash_at_every_operation() {
    let count = number("POSTHOUSE_SEEDS").unwrap_or(2_000).div_ceil(20);
    let mut crashes = 0;
    for seed in seeds(200_000, count).take(usize::try_from(count).expect("a number of seeds")) {
        crashes += crash_everywhere(seed, steps(2 * SHORT_STEPS));
        if seed % 10 == 9 {
            eprintln!("seed {seed}: {crashes} crashes, each looked at three ways");
        }
    }
    eprintln!("{crashes} crashes");
}
