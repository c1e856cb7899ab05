//! What is kept of a saga.

use serde::{Deserialize, Serialize};

/// How far a saga is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SagaStatus {
    /// At its steps.
    Running,
    /// All steps are done.
    Completed,
    /// Being undone.
    Compensating,
    /// Undone.
    Compensated,
    /// Being undone, and that fails again and again: somebody should look. It goes on trying, unless its error is terminal.
    Stuck,
}

impl SagaStatus {
    /// Whether nothing more happens to it.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Compensated)
    }

    /// As it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
            Self::Stuck => "stuck",
        }
    }
}

/// A saga as it is kept: what it has done, and its state. Stored as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SagaInstance {
    /// What tells it from others of its name.
    pub id: String,
    /// How far it is.
    pub status: SagaStatus,
    /// How many steps are done: the number of the next one, counted from 0. Of a saga that is undone, how many are still to be undone.
    pub step: usize,
    /// The name of the step that is next, or is undone next; none once it is over.
    pub step_name: Option<String>,
    /// Failed attempts of that step, or of undoing it, so far.
    pub attempts: u32,
    /// It is not tried any more before somebody resumes it.
    #[serde(default)]
    pub halted: bool,
    /// It is stuck on its way forward, behind its [pivot](super::Step::pivot), and not while it is undone.
    #[serde(default)]
    pub forward: bool,
    /// The last error; of a saga that is undone, what began that.
    pub error: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// When this was written, in milliseconds since 1970.
    pub updated_ms: i64,
    /// When it is undone unless it is completed, in milliseconds since 1970.
    pub deadline_ms: Option<i64>,
    /// The saga's own state.
    pub state: serde_json::Value,
}
