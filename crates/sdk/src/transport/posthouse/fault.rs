//! What the broker or the connection says when something fails, and what it means for whoever asked.

use std::time::Duration;

use api::grpc::Problem;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::transport::{PublishError, TransportError};

/// A failure, of a call or of one message of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    code: Code,
    /// The broker's stable type; empty if the broker did not say it, but the connection.
    reason: String,
    detail: String,
    actual_version: Option<u64>,
}

impl Fault {
    pub(super) fn of_status(status: &Status) -> Self {
        let info = status.get_error_details().error_info().cloned();
        let actual = info.as_ref().and_then(|info| info.metadata.get("actual_version")?.parse().ok());
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason).unwrap_or_default(),
            detail: status.message().to_owned(),
            actual_version: actual,
        }
    }

    pub(super) fn of_problem(problem: Problem) -> Self {
        Self {
            code: Code::from(problem.code),
            reason: problem.r#type,
            detail: problem.detail,
            actual_version: problem.actual_version,
        }
    }

    /// The connection is gone, for this reason.
    pub(super) fn lost(why: &str) -> Self {
        Self { code: Code::Unavailable, reason: String::new(), detail: why.to_owned(), actual_version: None }
    }

    /// The broker's type.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether waiting, and perhaps connecting again, may help.
    pub(super) fn heals(&self) -> bool {
        match self.reason.as_str() {
            "" => matches!(
                self.code,
                Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded
            ),
            "no-responders" => false,
            "outcome-unknown" | "too-many-waiting" => true,
            _ => self.code == Code::Unavailable,
        }
    }

    /// Whether it leaves open what became of a message: the connection was lost under way, or a write failed under way.
    pub(super) fn leaves_open(&self) -> bool {
        self.reason == "outcome-unknown" || (self.reason.is_empty() && self.heals())
    }

    /// Whether the broker is going: what it refuses for that it takes once it is back.
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.reason.as_str(), "unavailable" | "outcome-unknown")
    }

    pub(super) fn is_not_found(&self) -> bool {
        self.code == Code::NotFound
    }

    pub(super) fn is_conflict(&self) -> bool {
        self.reason == "definition-conflict"
    }

    /// As an error of everything but a publish. `what` names what it was about.
    pub(super) fn into_transport(self, what: &str, address: &str) -> TransportError {
        if self.heals() {
            return TransportError::Unavailable { address: address.to_owned(), why: self.detail };
        }
        match self.code {
            Code::NotFound => TransportError::NotFound(without_prefix(self.detail)),
            Code::AlreadyExists => TransportError::Conflict { what: what.to_owned(), why: self.detail },
            Code::PermissionDenied | Code::Unauthenticated => TransportError::Denied(self.detail),
            _ => TransportError::Invalid(self.detail),
        }
    }

    /// As an error of a publish that has waited for so long.
    pub(super) fn into_publish(self, waited: Duration) -> PublishError {
        if self.leaves_open() {
            return PublishError::Unconfirmed { waited };
        }
        match (self.reason.as_str(), self.code) {
            ("wrong-version", _) => PublishError::WrongVersion { actual: self.actual_version },
            ("lease-expired" | "unknown-delivery" | "bad-receipt", _) => PublishError::LeaseLost,
            (_, Code::NotFound) => PublishError::NotFound(without_prefix(self.detail)),
            (_, Code::ResourceExhausted | Code::Unavailable) => PublishError::Busy(self.detail),
            _ => PublishError::Refused(self.detail),
        }
    }
}

/// The broker says "there is no ..." and so do our errors.
fn without_prefix(detail: String) -> String {
    detail.strip_prefix("there is no ").map_or_else(|| detail.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(code: Code, reason: &str, detail: &str) -> Fault {
        Fault::of_problem(Problem {
            code: i32::from(code),
            r#type: reason.to_owned(),
            detail: detail.to_owned(),
            ..Problem::default()
        })
    }

    #[test]
    fn what_waiting_heals_is_told_from_what_it_does_not() {
        assert!(Fault::of_status(&Status::unavailable("tcp connect error")).heals());
        assert!(problem(Code::Unavailable, "unavailable", "stopping").heals());
        for (code, reason) in [
            (Code::NotFound, "not-found"),
            (Code::PermissionDenied, "forbidden"),
            (Code::Unavailable, "no-responders"),
            (Code::InvalidArgument, "invalid-value"),
        ] {
            assert!(!problem(code, reason, "x").heals(), "{reason}");
        }
        assert!(!Fault::of_status(&Status::unimplemented("no such service")).heals());
    }

    #[test]
    fn a_publish_fails_in_the_transports_words() {
        let waited = Duration::from_secs(3);
        let of = |code, reason, detail| problem(code, reason, detail).into_publish(waited);
        assert_eq!(
            of(Code::NotFound, "not-found", "there is no queue \"q\""),
            PublishError::NotFound("queue \"q\"".to_owned())
        );
        assert_eq!(of(Code::ResourceExhausted, "queue-full", "full"), PublishError::Busy("full".to_owned()));
        assert_eq!(of(Code::InvalidArgument, "too-large", "large"), PublishError::Refused("large".to_owned()));
        assert_eq!(of(Code::FailedPrecondition, "lease-expired", "x"), PublishError::LeaseLost);
        assert_eq!(of(Code::Unknown, "outcome-unknown", "x"), PublishError::Unconfirmed { waited });
        assert_eq!(Fault::lost("reset").into_publish(waited), PublishError::Unconfirmed { waited });
        assert_eq!(of(Code::Aborted, "wrong-version", "x"), PublishError::WrongVersion { actual: None });
    }
}
