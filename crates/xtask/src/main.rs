//! Developer tasks: `cargo xtask <task>`. Without a task it lists them.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool speaks on the terminal")]

mod bench;
mod ci;
mod proofs;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

/// One task: its name, what the list says of it, and the function that does it.
struct Task {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> anyhow::Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "tidy",
        about: "check layers, sizes, panics on foreign bytes, links in docs, left-over markers",
        run: tidy::run,
    },
    Task {
        name: "ci",
        about: "run what .ci/run runs after its installation: all that must pass on a landing",
        run: ci::run,
    },
    Task {
        name: "bench",
        about: "measure beside peers and the disk, check the goals, write docs/performance.md; --quick, --list",
        run: bench::run,
    },
    Task {
        name: "proofs",
        about: "run the long proofs, or those named; --list shows them and their settings",
        run: proofs::run,
    },
];

/// Exit code for a call that is itself wrong, as shells and clap use it.
const EXIT_USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(name) = arguments.next().filter(|name| !is_help(name)) else {
        print!("{}", usage());
        return ExitCode::SUCCESS;
    };
    let rest: Vec<String> = arguments.collect();
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprintln!("there is no task `{name}`\n\n{}", usage());
        return ExitCode::from(EXIT_USAGE);
    };
    match (task.run)(&rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_help(argument: &str) -> bool {
    matches!(argument, "help" | "--help" | "-h")
}

fn usage() -> String {
    let mut text = String::from("Usage: cargo xtask <task>\n\nTasks:\n");
    for task in TASKS {
        text.push_str(&format!("  {:<8} {}\n", task.name, task.about));
    }
    text
}

/// The root of the repository: two folders above this crate.
fn repository_root() -> anyhow::Result<PathBuf> {
    // Cargo sets the variable when it runs us, also after the checkout was moved; the compiled-in path serves a direct call.
    let manifest_dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    let root = PathBuf::from(manifest_dir).join("../..");
    root.canonicalize().map_err(|error| anyhow::anyhow!("no repository at {}: {error}", root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_lists_every_task() {
        let text = usage();
        for task in TASKS {
            assert!(text.contains(task.name) && text.contains(task.about), "{text}");
        }
    }

    #[test]
    fn the_root_is_the_workspace() {
        assert!(repository_root().expect("a root").join("Cargo.lock").is_file());
    }
}
