//! `cargo xtask bench`: Posthouse beside its peers and beside what the machine itself gives, in one run.
//!
//! Every figure is a ratio to something measured in the same run, turn by turn (ours, theirs, ours, theirs), and the median of the turns:
//! absolute figures say more about a machine, and about what else runs on it, than about a broker.

mod amqp;
mod cases;
mod figure;
mod machine;
mod page;
mod peers;
mod process;
mod sdk;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use self::cases::{CASES, Lab};
use self::figure::Figure;
use self::machine::Machine;
use self::peers::{Peers, Programs};
use self::process::Posthouse;

const USAGE: &str = "\
Usage: cargo xtask bench [--quick] [--no-build] [--no-page] [--list] [CASE...]

  --quick     fewer and shorter turns: under 5 minutes once everything is built, and no page
  --no-build  measure the binaries that are in target/release
  --no-page   leave docs/performance.md as it is; so does a run of named cases
  --list      show the cases";

/// How long the measurements are.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Turns of each case.
    turns: u32,
    /// Seconds of each measurement.
    seconds: u32,
    /// Messages that a consume measurement takes.
    consume: u64,
}

const FULL: Plan = Plan { turns: 5, seconds: 6, consume: 1_500_000 };
const QUICK: Plan = Plan { turns: 2, seconds: 2, consume: 400_000 };

/// Runs all cases or the named ones.
///
/// # Errors
/// When something needed is missing, a case cannot be measured, or a goal is missed.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--list") {
        for case in CASES {
            println!("{:14} {}", case.name, case.about);
        }
        return Ok(());
    }
    let mut named = Vec::new();
    for argument in arguments {
        match argument.as_str() {
            "--quick" | "--no-build" | "--no-page" => {}
            name => named.push(CASES.iter().find(|case| case.name == name).with_context(|| {
                format!("there is no case {name:?}; `cargo xtask bench --list` shows them\n\n{USAGE}")
            })?),
        }
    }
    let all = named.is_empty();
    let cases = if all { CASES.iter().collect() } else { named };
    let plan = if has("--quick") { QUICK } else { FULL };
    let root = crate::repository_root()?;
    if !has("--no-build") {
        build(&root)?;
    }
    let figures = measure(&root, plan, &cases)?;
    println!("\n{}", page::table(&figures));
    if all && !has("--quick") && !has("--no-page") {
        page::write(&root, &figures)?;
    }
    let missed: Vec<&str> =
        figures.1.iter().filter(|figure| figure.ok == Some(false)).map(|f| f.what.as_str()).collect();
    anyhow::ensure!(missed.is_empty(), "{} goals are missed: {}", missed.len(), missed.join("; "));
    Ok(())
}

fn build(root: &Path) -> anyhow::Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let built = Command::new(cargo)
        .args(["build", "--release", "-p", "cli", "-p", "bench"])
        .current_dir(root)
        .status()
        .context("cargo cannot be started")?;
    anyhow::ensure!(built.success(), "the release build failed ({built})");
    Ok(())
}

/// Removes what a run left on the disk.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes what runs left that were killed.
fn sweep(home: &Path) {
    for entry in std::fs::read_dir(home).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("run-")?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            drop(Scratch(entry.path()));
        }
    }
}

/// Everything is below the target directory: one file system for all that is compared.
fn measure(root: &Path, plan: Plan, cases: &[&cases::Case]) -> anyhow::Result<(Machine, Vec<Figure>)> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let release = target.join("release");
    let home = target.join("bench");
    sweep(&home);
    let scratch = Scratch(home.join(format!("run-{}", std::process::id())));
    std::fs::create_dir_all(&scratch.0)?;
    let programs = Programs::find(&release.join("bench"), &home)?;
    let peers = Peers::start(&programs, &scratch.0)?;
    let listeners = "--http 127.0.0.1:0 --grpc 127.0.0.1:0 --amqp off --management off";
    let posthouse = Posthouse::start(&release.join("posthouse"), &scratch.0.join("posthouse"), listeners)?;
    let lab = Lab { posthouse, programs, peers, directory: scratch.0.clone(), plan };
    let machine = Machine::look(&lab)?;
    println!("{machine}");
    let mut figures = Vec::new();
    for case in cases {
        println!("== {}: {}", case.name, case.about);
        let measured = (case.run)(&lab).unwrap_or_else(|error| {
            eprintln!("   not measured: {error:#}");
            vec![Figure::failed(case.about)]
        });
        for figure in measured {
            println!("   {figure}");
            figures.push(figure);
        }
    }
    Ok((machine, figures))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_case_is_an_error_that_says_where_to_look() {
        let error = run(&["no-such".to_owned()]).expect_err("an error").to_string();
        assert!(error.contains("no-such") && error.contains("--list"), "{error}");
    }

    #[test]
    fn only_what_killed_runs_left_is_swept_away() {
        let home = std::env::temp_dir().join(format!("xtask-bench-sweep-{}", std::process::id()));
        let here = home.join(format!("run-{}", std::process::id()));
        // Above the largest process id that Linux gives.
        let gone = home.join("run-4194305");
        for directory in [&here, &gone, &home.join("bin")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        sweep(&home);
        assert!(here.exists() && home.join("bin").exists() && !gone.exists());
        std::fs::remove_dir_all(&home).unwrap();
    }

    #[test]
    fn case_names_are_not_used_twice() {
        let mut names: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CASES.len());
    }
}
