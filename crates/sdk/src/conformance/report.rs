//! What a run gave.

use std::fmt;

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// As it must be.
    Passed,
    /// Otherwise: what was expected, and what came.
    Failed(String),
    /// Not run: the transport does not declare the capability, or the options do not give what the case needs.
    NotDeclared,
    /// Not run: the service runtime supplies it on top of the transport.
    BySdk,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Passed => "passed",
            Self::Failed(_) => "FAILED",
            Self::NotDeclared => "not declared",
            Self::BySdk => "by the SDK",
        })
    }
}

/// One case of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseReport {
    /// The promise, as a sentence.
    pub name: String,
    /// The capability that it proves; `core` is what every transport has.
    pub capability: &'static str,
    /// How it ended.
    pub outcome: Outcome,
}

/// What a run gave. It prints as a table, with what went wrong below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The transport's name.
    pub transport: &'static str,
    /// The cases, in the order in which they ran.
    pub cases: Vec<CaseReport>,
}

impl Report {
    /// The cases that failed.
    pub fn failed(&self) -> impl Iterator<Item = &CaseReport> {
        self.cases.iter().filter(|case| matches!(case.outcome, Outcome::Failed(_)))
    }

    /// Nothing failed, and something ran.
    ///
    /// # Panics
    /// With the whole report, if a case failed or no case was run.
    #[track_caller]
    pub fn assert_passed(&self) {
        assert!(self.cases.iter().any(|case| case.outcome == Outcome::Passed), "no case passed:\n{self}");
        assert!(self.failed().next().is_none(), "the transport does not keep what it promises:\n{self}");
    }

    fn count(&self, outcome: &Outcome) -> usize {
        self.cases.iter().filter(|case| case.outcome == *outcome).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest =
            |of: fn(&CaseReport) -> usize, least: usize| self.cases.iter().map(of).max().unwrap_or(0).max(least);
        let name = widest(|case| case.name.len(), "case".len());
        let capability = widest(|case| case.capability.len(), "capability".len());
        writeln!(f, "| {:name$} | {:capability$} | {:12} |", "case", "capability", self.transport)?;
        writeln!(f, "|{:-<1$}|{2:-<3$}|{4:-<14}|", "", name + 2, "", capability + 2, "")?;
        for case in &self.cases {
            writeln!(f, "| {:name$} | {:capability$} | {:12} |", case.name, case.capability, case.outcome)?;
        }
        writeln!(
            f,
            "\n{} passed, {} failed, {} not declared, {} by the SDK",
            self.count(&Outcome::Passed),
            self.failed().count(),
            self.count(&Outcome::NotDeclared),
            self.count(&Outcome::BySdk)
        )?;
        for case in self.failed() {
            if let Outcome::Failed(why) = &case.outcome {
                writeln!(f, "\n{} ({}):\n    {why}", case.name, case.capability)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(outcomes: Vec<Outcome>) -> Report {
        let case = |outcome| CaseReport { name: "what is in stays in".to_owned(), capability: "core", outcome };
        Report { transport: "paper", cases: outcomes.into_iter().map(case).collect() }
    }

    #[test]
    fn a_report_prints_as_a_table_with_the_failures_below() {
        let text =
            report(vec![Outcome::Passed, Outcome::Failed("expected a, got b".to_owned()), Outcome::BySdk]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "| case                | capability | paper        |");
        assert_eq!(lines[1], "|---------------------|------------|--------------|");
        assert_eq!(lines[3], "| what is in stays in | core       | FAILED       |");
        assert!(text.contains("1 passed, 1 failed, 0 not declared, 1 by the SDK"), "{text}");
        assert!(text.ends_with("what is in stays in (core):\n    expected a, got b\n"), "{text}");
    }

    #[test]
    fn a_run_passes_if_something_ran_and_nothing_failed() {
        report(vec![Outcome::Passed, Outcome::NotDeclared]).assert_passed();
        let fails = |outcomes| std::panic::catch_unwind(|| report(outcomes).assert_passed()).is_err();
        assert!(fails(vec![Outcome::Passed, Outcome::Failed(String::new())]));
        assert!(fails(vec![Outcome::NotDeclared]), "a run of nothing proves nothing");
    }
}
