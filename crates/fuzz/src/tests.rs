//! The kept inputs, replayed on stable; and how the first of them are made.
#![allow(clippy::print_stdout, reason = "a test that fails says which input it was")]

use std::path::PathBuf;

use crate::TARGETS;

mod mutations;
mod seeds;

/// Most bytes of all kept inputs together: they are for finding again, not for measuring coverage.
const MAX_CORPUS_BYTES: u64 = 512 * 1024;

fn corpus(target: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

/// A test for each target, so that they run side by side and the one that fails says its name.
macro_rules! replays {
    ($($target:ident),*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*

        #[test]
        fn every_target_is_replayed() {
            let replayed = [$(stringify!($target)),*];
            assert_eq!(TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), replayed);
        }
    };
}

replays!(
    record_batch,
    write_ahead_log,
    data_directory,
    filter,
    http_body,
    websocket,
    grpc_frame,
    amqp_session,
    amqp_content
);

fn replay(name: &str) {
    let (_, check) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target");
    let mut files: Vec<_> =
        std::fs::read_dir(corpus(name)).expect("a corpus").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{name} has no kept inputs");
    for file in files {
        // Printed when the test fails: the last one is it.
        println!("{}", file.display());
        check(&std::fs::read(&file).expect("a file"));
    }
}

#[test]
fn the_corpora_are_small() {
    let mut bytes = 0;
    for (name, _) in TARGETS {
        for entry in std::fs::read_dir(corpus(name)).expect("a corpus") {
            bytes += entry.expect("an entry").metadata().expect("its metadata").len();
        }
    }
    assert!(bytes <= MAX_CORPUS_BYTES, "the corpora have {bytes} bytes, {MAX_CORPUS_BYTES} are allowed");
}

/// Every seed passes too, whether or not it is still among the kept inputs.
#[test]
fn seeds_pass() {
    let mut refused = Vec::new();
    for (name, inputs) in seeds::all() {
        let (_, check) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target");
        for input in inputs {
            check(&input);
            if name == "http_body" && !crate::http_body::is_taken(&input) {
                refused.push(String::from_utf8_lossy(&input).into_owned());
            }
        }
    }
    assert_eq!(refused, Vec::<String>::new(), "a seed should get as far as it can");
}

/// Writes the seeds to the corpora: `cargo test -p fuzz write_seeds -- --ignored`.
#[test]
#[ignore = "changes the kept inputs"]
fn write_seeds() {
    for (name, inputs) in seeds::all() {
        std::fs::create_dir_all(corpus(name)).expect("a directory");
        for (at, input) in inputs.iter().enumerate() {
            std::fs::write(corpus(name).join(format!("seed-{at:02}")), input).expect("a file");
        }
    }
}
