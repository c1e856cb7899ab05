//! `cargo xtask ci`: the landing checks, on a machine where everything is installed.

use std::process::Command;

/// Runs `.ci/run --no-install`, which is the one list of steps there is.
///
/// # Errors
/// When an argument is given, bash cannot be started, or a step fails.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(arguments.is_empty(), "ci takes no arguments; its settings are variables, see the head of .ci/run");
    let root = crate::repository_root()?;
    let status = Command::new("bash").arg(".ci/run").arg("--no-install").current_dir(root).status()?;
    anyhow::ensure!(status.success(), "a step failed ({status})");
    Ok(())
}
