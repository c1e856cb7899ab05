//! The conformance suite: what a [`Transport`] must do, as cases that run against a real broker.
//!
//! For whoever writes a transport. [`run`] reads its [`Capabilities`](crate::transport::Capabilities), runs the cases of everything that it
//! declares, and makes sure that what it does not have is refused and not passed over. Each case stands for one promise of the trait; its
//! name says which.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use sdk::conformance::{self, Options};
//! use sdk::transport::Transport;
//!
//! # async fn example(transport: Arc<dyn Transport>) {
//! let report = conformance::run(transport, Options::default()).await;
//! println!("{report}");
//! report.assert_passed();
//! # }
//! ```
//!
//! The suite makes topics and queues of its own, whose names begin with `conformance-` and hold a random part, so that suites may run
//! beside each other and again on the same broker. It leaves them behind, since the trait has nothing that deletes. It closes the transport
//! at its end, which is a case too.
//!
//! What the SDK supplies on top of a transport ([`Support::Sdk`](crate::transport::Support::Sdk)) is tested where the transport itself shows
//! it; what only the service runtime shows (retries by publishing again, for example) is told as [`Outcome::BySdk`] and is not this suite's.

mod cases;
mod ground;
mod report;
mod taker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

pub use self::report::{CaseReport, Outcome, Report};
use crate::transport::Transport;

/// Moves the broker's clock.
type Advance = Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;
/// Restarts the broker.
type Restart = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// How [`run`] runs.
pub struct Options {
    advance: Option<Advance>,
    restart: Option<Restart>,
    only: Option<String>,
    patience: Duration,
    quiet: Duration,
    case_timeout: Duration,
}

impl Default for Options {
    /// Real time, no restarts, all cases.
    fn default() -> Self {
        Self {
            advance: None,
            restart: None,
            only: None,
            patience: Duration::from_secs(10),
            quiet: Duration::from_millis(150),
            case_timeout: Duration::from_secs(60),
        }
    }
}

impl Options {
    /// The transport's clock stands still, and this moves it: waits of a minute take no time then. Ready when what is due at the new time
    /// has begun. Without it the cases wait in real time, some hundred milliseconds each.
    #[must_use]
    pub fn advance(mut self, advance: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        self.advance = Some(Box::new(advance));
        self
    }

    /// Restarts the broker; ready when it listens again at the same address, with what was durable. Without it the cases of
    /// restarts are not run.
    #[must_use]
    pub fn restart(mut self, restart: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        self.restart = Some(Box::new(restart));
        self
    }

    /// Only the cases whose name holds this; the transport is closed at the end even so.
    #[must_use]
    pub fn only(mut self, part: impl Into<String>) -> Self {
        self.only = Some(part.into());
        self
    }

    /// How long a case waits, in real time, for something that must come; 10 s unless told otherwise.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How long nothing must come, in real time, until a case believes that nothing will; 150 ms unless told otherwise.
    #[must_use]
    pub fn quiet(mut self, quiet: Duration) -> Self {
        self.quiet = quiet;
        self
    }

    /// How long a case may take in real time; 60 s unless told otherwise.
    #[must_use]
    pub fn case_timeout(mut self, timeout: Duration) -> Self {
        self.case_timeout = timeout;
        self
    }
}

impl Options {
    fn can_restart(&self) -> bool {
        self.restart.is_some()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("advance", &self.advance.is_some())
            .field("restart", &self.restart.is_some())
            .field("only", &self.only)
            .field("patience", &self.patience)
            .field("quiet", &self.quiet)
            .field("case_timeout", &self.case_timeout)
            .finish()
    }
}

/// Runs every case that the transport's capabilities ask for, one after the other, and closes the transport. See the [module](self).
///
/// Needs a Tokio runtime with time enabled.
pub async fn run(transport: Arc<dyn Transport>, options: Options) -> Report {
    let suite = ground::Suite::new(transport, options);
    let mut reports = Vec::new();
    for case in cases::all() {
        if suite.options.only.as_ref().is_some_and(|part| !case.title().contains(part.as_str())) {
            continue;
        }
        let outcome = match case.applies(&suite) {
            Ok(()) => suite.run(case).await,
            Err(outcome) => outcome,
        };
        reports.push(CaseReport { name: case.title(), capability: case.needs.capability(), outcome });
    }
    suite.transport.close().await;
    Report { transport: suite.transport.name(), cases: reports }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::paper::Paper;

    fn quick() -> Options {
        Options::default().quiet(Duration::from_millis(20)).patience(Duration::from_secs(2))
    }

    #[tokio::test]
    async fn a_transport_that_keeps_what_it_promises_passes() {
        let report = run(Paper::new(), quick()).await;
        report.assert_passed();
        let outcome = |name: &str| report.cases.iter().find(|case| case.name == name).map(|case| case.outcome.clone());
        assert_eq!(outcome("what is put into a queue comes out in order"), Some(Outcome::Passed));
        assert_eq!(outcome("without delays one is refused and its neighbours are published"), Some(Outcome::Passed));
        assert_eq!(outcome("a delay that is over is none"), Some(Outcome::NotDeclared));
        assert_eq!(outcome("a publish waits out a restart"), Some(Outcome::NotDeclared));
    }

    #[tokio::test]
    async fn a_transport_that_breaks_a_promise_fails_by_the_name_of_the_promise() {
        let report = run(Paper::that_swaps(), quick().only("comes out in order")).await;
        let failed: Vec<&CaseReport> = report.failed().collect();
        assert_eq!(failed.len(), 1, "{report}");
        assert_eq!(failed[0].name, "what is put into a queue comes out in order");
        assert!(report.to_string().contains("bodies in order: expected [\"0\", \"1\""), "{report}");
    }
}
