//! `cargo xtask proofs`: the long runs that no landing waits for. docs/proofs.md keeps their last results.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

/// Which of a package's tests a proof looks among.
const INTEGRATION: &[&str] = &["--test", "it"];
const ALL: &[&str] = &[];

/// One long run: ignored tests and the variables that say how long they are.
struct Proof {
    name: &'static str,
    /// What is known once it passed.
    proves: &'static str,
    package: &'static str,
    tests: &'static [&'static str],
    /// What the tests' names hold.
    filter: &'static str,
    /// Variables and their values here; one that is set already wins.
    settings: &'static [(&'static str, &'static str)],
}

impl Proof {
    /// Arguments of `cargo`.
    fn arguments(&self) -> Vec<&'static str> {
        let build = ["test", "--release", "-p", self.package];
        [&build[..], self.tests, &["--", "--ignored", "--nocapture", self.filter]].concat()
    }
}

/// To add a proof: write it as an `#[ignore]`d test that reads its counts from a variable, and add a row.
const PROOFS: &[Proof] = &[
    Proof {
        name: "log-crash",
        proves: "after a stop at any write, torn writes, lost pages or a failed fsync, each confirmed record is there, in order, once",
        package: "log",
        tests: INTEGRATION,
        filter: "crash",
        settings: &[("POSTHOUSE_PROOF_SEEDS", "200")],
    },
    Proof {
        name: "log-cut",
        proves: "a data file cut at any byte is told at each start and by `log verify`, or has lost nothing",
        package: "log",
        tests: INTEGRATION,
        filter: "cut",
        settings: &[],
    },
    Proof {
        name: "simulation",
        proves: "the whole broker over the real engine, whatever the disk does and wherever it ends, keeps what it confirmed",
        package: "sim",
        tests: INTEGRATION,
        filter: "simulation",
        settings: &[("POSTHOUSE_SEEDS", "4000")],
    },
    Proof {
        name: "kill-9",
        proves: "the real binary, killed in a loop under load through HTTP and gRPC at once, keeps each confirmed message and each dead letter",
        package: "cli",
        tests: INTEGRATION,
        filter: "kill::",
        settings: &[("POSTHOUSE_PROOF_KILLS", "200")],
    },
    Proof {
        name: "kill-9-amqp",
        proves: "the real binary, killed in a loop while AMQP clients publish with confirms and acknowledge, keeps each confirmed message in its order, and \
                 brings back nothing whose acknowledgement something behind it has answered for",
        package: "cli",
        tests: INTEGRATION,
        filter: "kill_amqp::",
        settings: &[("POSTHOUSE_PROOF_KILLS", "200")],
    },
    Proof {
        name: "syscalls",
        proves: "in a trace of the real binary's system calls, each confirm on a socket follows the fdatasync that covers its message",
        package: "cli",
        tests: INTEGRATION,
        filter: "syscalls::",
        settings: &[("POSTHOUSE_PROOF_TRACED", "2000")],
    },
    Proof {
        name: "power-cut",
        proves: "what power cuts leave of a busy broker's files, unsynced sectors and pages lost, torn or in any order, the real binary opens, and each confirmed \
                 message is there",
        package: "cli",
        tests: INTEGRATION,
        filter: "power_cut",
        settings: &[("POSTHOUSE_PROOF_IMAGES", "400")],
    },
    Proof {
        name: "disk-full",
        proves: "on a real file system of 256 MiB that is full, publishes are refused and acknowledgements taken, space comes back, and a kill -9 \
                 then loses nothing",
        package: "cli",
        tests: INTEGRATION,
        filter: "disk_full::",
        settings: &[],
    },
    Proof {
        name: "read-only",
        proves: "when a real file system becomes read-only under the server, or its device fails, nothing more is confirmed, the server says \
                 why, and nothing that was confirmed is lost",
        package: "cli",
        tests: INTEGRATION,
        filter: "read_only::",
        settings: &[],
    },
    Proof {
        name: "clock-jump",
        proves: "when the wall clock jumps, forward or back, while the real binary runs or between two runs, what is due comes, nothing \
                 else does, and nothing is lost",
        package: "cli",
        tests: INTEGRATION,
        filter: "clock_jump::",
        settings: &[],
    },
    Proof {
        name: "scale",
        proves: "a million messages of 1 KiB in a queue, in whatever state, cost at most 64 MiB of memory; ten million of 100 B fit in 256 MiB, \
                 ten thousand idle queues in 150 MiB; the server is ready within 3 s after kill -9",
        package: "cli",
        tests: INTEGRATION,
        filter: "scale",
        settings: &[
            ("POSTHOUSE_PROOF_MESSAGES", "1000000"),
            ("POSTHOUSE_PROOF_MANY", "10000000"),
            ("POSTHOUSE_PROOF_QUEUES", "10000"),
        ],
    },
    Proof {
        name: "fuzz",
        proves: "whatever bytes come, decoders, filters, the data directory's readers and both APIs refuse them or read what they say; the kept \
                 inputs changed at random, so many seconds a target (cargo-fuzz, which looks for coverage, is in CONTRIBUTING.md)",
        package: "fuzz",
        tests: ALL,
        filter: "mutations",
        settings: &[("POSTHOUSE_PROOF_SECONDS", "300")],
    },
    Proof {
        name: "slow-senders",
        proves: "connections that are begun and not gone on with are cut off in time",
        package: "cli",
        tests: INTEGRATION,
        filter: "slow_senders",
        settings: &[],
    },
];

/// How one run ended.
struct Outcome {
    proof: &'static Proof,
    tests_passed: u64,
    failure: Option<String>,
    took: Duration,
}

/// Runs all proofs or the named ones, each to its end, then prints a row of docs/proofs.md for each.
///
/// # Errors
/// When a name is unknown, cargo cannot be started, or a proof fails. A proof that matched no test has failed.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    if arguments.iter().any(|argument| argument == "--list") {
        print!("{}", list());
        return Ok(());
    }
    let mut outcomes = Vec::new();
    for proof in select(arguments)? {
        println!("== {}: {}", proof.name, settings_text(proof));
        outcomes.push(run_one(proof)?);
    }
    println!("\n| proof | settings | result | time |\n|---|---|---|---|");
    for outcome in &outcomes {
        println!("{}", row(outcome));
    }
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    anyhow::ensure!(failed == 0, "{failed} of {} proofs failed", outcomes.len());
    Ok(())
}

fn select(names: &[String]) -> anyhow::Result<Vec<&'static Proof>> {
    if names.is_empty() {
        return Ok(PROOFS.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            PROOFS
                .iter()
                .find(|proof| proof.name == name)
                .with_context(|| format!("there is no proof `{name}`; `cargo xtask proofs --list` shows them"))
        })
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "how long a run took is for a person to read")]
fn run_one(proof: &'static Proof) -> anyhow::Result<Outcome> {
    let started = Instant::now();
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    command.args(proof.arguments()).current_dir(crate::repository_root()?).stdout(Stdio::piped());
    for (name, _) in proof.settings {
        command.env(name, setting(proof, name));
    }
    let mut child = command.spawn().context("cargo could not be started")?;
    let stdout = child.stdout.take().context("the child has no output")?;
    let mut tests_passed = 0;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("the run's output broke off")?;
        tests_passed += passed_in(&line);
        println!("{line}");
    }
    let status = child.wait().context("the run's end was lost")?;
    let failure = if !status.success() {
        Some(status.to_string())
    } else if tests_passed == 0 {
        Some("no test matched, so nothing was proved".to_owned())
    } else {
        None
    };
    Ok(Outcome { proof, tests_passed, failure, took: started.elapsed() })
}

/// The count in a line such as `test result: ok. 3 passed; 0 failed; ...`; any other line counts nothing.
fn passed_in(line: &str) -> u64 {
    let Some((_, rest)) = line.split_once("test result: ") else {
        return 0;
    };
    rest.split_whitespace()
        .zip(rest.split_whitespace().skip(1))
        .find(|(_, word)| word.starts_with("passed"))
        .and_then(|(count, _)| count.parse().ok())
        .unwrap_or(0)
}

fn setting(proof: &Proof, name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        proof.settings.iter().find(|(known, _)| *known == name).map_or(String::new(), |(_, value)| (*value).to_owned())
    })
}

fn settings_text(proof: &Proof) -> String {
    let all: Vec<String> = proof.settings.iter().map(|(name, _)| format!("{name}={}", setting(proof, name))).collect();
    all.join(" ")
}

fn row(outcome: &Outcome) -> String {
    let result = match &outcome.failure {
        Some(failure) => format!("FAILED: {failure}"),
        None => format!("{} passed", outcome.tests_passed),
    };
    format!("| {} | `{}` | {result} | {} s |", outcome.proof.name, settings_text(outcome.proof), outcome.took.as_secs())
}

fn list() -> String {
    PROOFS
        .iter()
        .map(|proof| {
            format!(
                "{}\n  proves:  {}\n  runs:    cargo {}\n  setting: {}\n",
                proof.name,
                proof.proves,
                proof.arguments().join(" "),
                settings_text(proof)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_what_passed() {
        assert_eq!(passed_in("test result: ok. 3 passed; 0 failed; 1 ignored; finished in 0.1s"), 3);
        assert_eq!(passed_in("test result: FAILED. 0 passed; 2 failed; 0 ignored"), 0);
        assert_eq!(passed_in("running 5 tests"), 0);
    }

    #[test]
    fn an_unknown_proof_is_an_error_that_says_where_to_look() {
        let error = select(&["no-such".to_owned()]).err().expect("an error").to_string();
        assert!(error.contains("no-such") && error.contains("--list"), "{error}");
        assert_eq!(select(&[]).expect("all").len(), PROOFS.len());
    }

    #[test]
    fn a_failed_proof_is_shown_as_failed() {
        let outcome = Outcome {
            proof: &PROOFS[0],
            tests_passed: 0,
            failure: Some("no test matched".to_owned()),
            took: Duration::from_secs(2),
        };
        assert!(row(&outcome).contains("FAILED: no test matched"), "{}", row(&outcome));
    }
}
