//! `cargo xtask tidy`: what the compiler does not hold. Each check is a function of plain inputs that returns findings.

mod layers;
mod links;
mod markers;
mod panics;
mod rust_source;
mod size;
mod walk;

use std::fmt;
use std::path::Path;

use anyhow::Context;

use rust_source::RustSource;

/// One thing that is wrong: where, what, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Path from the root of the repository.
    path: String,
    /// Line, from 1; 0 when the finding is about the whole file.
    line: usize,
    what: String,
    /// The next step for whoever reads this.
    fix: String,
}

impl Finding {
    fn new(path: &str, line: usize, what: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, what: what.into(), fix: fix.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}; {}", self.path, self.what, self.fix),
            line => write!(f, "{}:{line}: {}; {}", self.path, self.what, self.fix),
        }
    }
}

/// What one check has to say: a summary for the terminal, and what is wrong.
struct Report {
    name: &'static str,
    summary: String,
    findings: Vec<Finding>,
}

/// Runs every check, prints a summary of each and then all findings.
///
/// # Errors
/// When an argument is given, the repository cannot be read, or there is a finding.
pub(crate) fn run(arguments: &[String]) -> anyhow::Result<()> {
    anyhow::ensure!(arguments.is_empty(), "tidy takes no arguments");
    let reports = check_repository(&crate::repository_root()?)?;
    for report in &reports {
        let verdict = if report.findings.is_empty() { "ok" } else { "FAILED" };
        println!("tidy {:<8} {verdict}: {}", report.name, report.summary);
    }
    let findings: Vec<&Finding> = reports.iter().flat_map(|report| &report.findings).collect();
    if findings.is_empty() {
        return Ok(());
    }
    println!();
    for finding in &findings {
        println!("{finding}");
    }
    anyhow::bail!("{} findings", findings.len())
}

fn check_repository(root: &Path) -> anyhow::Result<Vec<Report>> {
    let files = walk::files(root)?;
    let texts = walk::read_texts(root, &files)?;
    let (sources, unreadable) = rust_source::load(&texts);
    let mut panics = panics::check(&sources);
    panics.findings.extend(unreadable);
    Ok(vec![
        layers::check(root).context("the layer check could not run")?,
        size::check(&sources),
        panics,
        links::check(&files, &texts),
        markers::check(&texts),
    ])
}

/// The crate of a path such as `crates/log/src/wal.rs`.
fn crate_of(path: &str) -> Option<&str> {
    path.strip_prefix("crates/")?.split('/').next()
}

/// The production sources of a crate, under the rule given.
fn sources_of<'a>(sources: &'a [RustSource], keep: impl Fn(&str) -> bool + 'a) -> impl Iterator<Item = &'a RustSource> {
    sources.iter().filter(move |source| crate_of(&source.path).is_some_and(&keep))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_is_tidy() {
        let reports = check_repository(&crate::repository_root().expect("a root")).expect("all checks run");
        let findings: Vec<String> =
            reports.iter().flat_map(|report| &report.findings).map(ToString::to_string).collect();
        assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
    }

    #[test]
    fn a_finding_says_where_what_and_what_to_do() {
        assert_eq!(Finding::new("a/b.rs", 7, "bad", "mend it").to_string(), "a/b.rs:7: bad; mend it");
        assert_eq!(Finding::new("a/b.rs", 0, "bad", "mend it").to_string(), "a/b.rs: bad; mend it");
    }
}
