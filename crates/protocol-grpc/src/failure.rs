//! Every error of the broker as gRPC: status code, stable type, and what of it a program may want to know. docs/protocols/grpc.md has the
//! table.

use std::collections::HashMap;
use std::time::Duration;

use api::grpc::{MessageFault, Problem};
use broker::bounds::OutOfBounds;
use broker::queue::{AttachError, LeaseError};
use broker::{
    AccessError, ConsumeError, DeclareError, PublishError, ReplayError, RequestError, SettleError, StorageError,
};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The domain of `google.rpc.ErrorInfo`.
const DOMAIN: &str = "posthouse";

/// An answer that is not the one hoped for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure(pub(crate) Box<Problem>);

impl Failure {
    pub(crate) fn new(code: Code, slug: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            r#type: slug.to_owned(),
            detail: detail.into(),
            code: i32::from(code),
            ..Problem::default()
        }))
    }

    /// A field that makes no sense.
    pub(crate) fn invalid(field: &str, why: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, "invalid-value", why).field(field)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(Code::NotFound, "not-found", detail)
    }

    /// Something that passes a limit.
    pub(crate) fn too_large(detail: impl Into<String>, limit: &str) -> Self {
        Self::new(Code::InvalidArgument, "too-large", detail).limit(limit)
    }

    pub(crate) fn bad_receipt() -> Self {
        Self::new(Code::InvalidArgument, "bad-receipt", "this is not a receipt").field("receipt")
    }

    pub(crate) fn field(mut self, field: &str) -> Self {
        field.clone_into(&mut self.0.field);
        self
    }

    pub(crate) fn limit(mut self, limit: &str) -> Self {
        limit.clone_into(&mut self.0.limit);
        self
    }

    /// Trying again after this time makes sense.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        self
    }

    pub(crate) fn problem(self) -> Problem {
        *self.0
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let problem = failure.problem();
        let mut metadata = HashMap::new();
        let mut note = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                metadata.insert(name.to_owned(), value);
            }
        };
        note("field", (!problem.field.is_empty()).then(|| problem.field.clone()));
        note("limit", (!problem.limit.is_empty()).then(|| problem.limit.clone()));
        note("actual_version", problem.actual_version.map(|version| version.to_string()));
        note("start", problem.start.map(|offset| offset.to_string()));
        note("end", problem.end.map(|offset| offset.to_string()));
        note("expected", problem.expected.map(|number| number.to_string()));
        let mut details = ErrorDetails::with_error_info(problem.r#type, DOMAIN, metadata);
        if let Some(ms) = problem.retry_after_ms {
            details.set_retry_info(Some(Duration::from_millis(ms)));
        }
        if !problem.field.is_empty() {
            details.add_bad_request_violation(problem.field, problem.detail.clone());
        }
        Self::with_error_details(Code::from(problem.code), problem.detail, details)
    }
}

const SHORTLY: Duration = Duration::from_secs(1);

impl From<OutOfBounds> for Failure {
    fn from(found: OutOfBounds) -> Self {
        let failure = Self::invalid(&found.field, found.why);
        match found.limit {
            Some(limit) => failure.limit(limit),
            None => failure,
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        let detail = error.to_string();
        match error {
            StorageError::Full(_) => {
                Self::new(Code::ResourceExhausted, "storage-full", detail).retry_after(SHORTLY * 10)
            }
            StorageError::Failed(_) => Self::new(Code::Unavailable, "storage-failed", detail),
            StorageError::Overloaded(_) => {
                Self::new(Code::Unavailable, "storage-overloaded", detail).retry_after(SHORTLY)
            }
            StorageError::Damaged(_) => Self::new(Code::DataLoss, "storage-damaged", detail),
            StorageError::Unknown(_) => Self::new(Code::Unknown, "outcome-unknown", detail),
            StorageError::Unavailable(_) => Self::new(Code::Unavailable, "unavailable", detail).retry_after(SHORTLY),
            _ => Self::new(Code::Internal, "storage-error", detail),
        }
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        let detail = error.to_string();
        match error {
            AccessError::Unauthenticated => Self::new(Code::Unauthenticated, "unauthenticated", detail),
            AccessError::Busy => Self::new(Code::Unavailable, "logins-busy", detail).retry_after(SHORTLY),
            AccessError::NoSuchNamespace(_) => {
                Self::new(Code::NotFound, "no-such-namespace", detail).field("namespace")
            }
            _ => Self::new(Code::PermissionDenied, "forbidden", detail),
        }
    }
}

impl From<DeclareError> for Failure {
    fn from(error: DeclareError) -> Self {
        let detail = error.to_string();
        match error {
            DeclareError::Access(error) => error.into(),
            DeclareError::Storage(error) => error.into(),
            DeclareError::Name(_) => {
                Self::new(Code::InvalidArgument, "bad-name", detail).field("name").limit("MAX_NAME_BYTES")
            }
            DeclareError::Conflict { .. } => Self::new(Code::AlreadyExists, "definition-conflict", detail),
            DeclareError::NotFound { .. } => Self::not_found(detail),
            DeclareError::Invalid { field, .. } => Self::invalid(&field, detail),
            DeclareError::Quota { limit, .. } => {
                Self::new(Code::ResourceExhausted, "quota-reached", detail).limit(limit)
            }
            DeclareError::InUse { .. } => Self::new(Code::FailedPrecondition, "in-use", detail),
            DeclareError::Held { .. } => Self::new(Code::FailedPrecondition, "queue-held", detail),
            _ => Self::new(Code::InvalidArgument, "not-declared", detail),
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        let exhausted = |slug: &str, detail| Self::new(Code::ResourceExhausted, slug, detail).retry_after(SHORTLY);
        match error {
            PublishError::Access(error) => error.into(),
            PublishError::Storage(error) => error.into(),
            PublishError::NotFound { .. } => Self::not_found(detail),
            PublishError::TooLarge { limit_name, .. } => Self::too_large(detail, limit_name),
            PublishError::Invalid { field, .. } => Self::invalid(&field, detail),
            PublishError::QueueFull { .. } => exhausted("queue-full", detail),
            PublishError::DedupFull { .. } => exhausted("dedup-window-full", detail),
            PublishError::Backpressure => Self::new(Code::Unavailable, "backpressure", detail).retry_after(SHORTLY),
            PublishError::Quota { limit, .. } => exhausted("quota-reached", detail).limit(limit),
            PublishError::WrongVersion { actual } => {
                let mut failure = Self::new(Code::Aborted, "wrong-version", detail);
                failure.0.actual_version = actual.map(|offset| offset.0);
                failure
            }
            PublishError::OutOfSequence { expected, .. } => {
                let mut failure = Self::new(Code::FailedPrecondition, "out-of-sequence", detail);
                failure.0.expected = Some(expected);
                failure
            }
            PublishError::Fenced { current } => {
                let mut failure = Self::new(Code::FailedPrecondition, "producer-fenced", detail);
                failure.0.expected = Some(current.into());
                failure
            }
            _ => Self::new(Code::InvalidArgument, "not-published", detail),
        }
    }
}

impl From<ConsumeError> for Failure {
    fn from(error: ConsumeError) -> Self {
        let detail = error.to_string();
        match error {
            ConsumeError::Access(error) => error.into(),
            ConsumeError::Storage(error) => error.into(),
            ConsumeError::NotFound { .. } => Self::not_found(detail),
            ConsumeError::Held { .. } => Self::new(Code::FailedPrecondition, "queue-held", detail),
            ConsumeError::Attach(AttachError::HeldExclusively) => {
                Self::new(Code::FailedPrecondition, "held-exclusively", detail)
            }
            ConsumeError::Attach(_) => Self::new(Code::FailedPrecondition, "in-use", detail),
            ConsumeError::Deleted(_) => Self::new(Code::NotFound, "queue-deleted", detail),
            ConsumeError::Invalid { field, .. } => Self::invalid(&field, detail),
            _ => Self::new(Code::InvalidArgument, "not-consumed", detail),
        }
    }
}

impl From<SettleError> for Failure {
    fn from(error: SettleError) -> Self {
        let detail = error.to_string();
        match error {
            SettleError::Access(error) => error.into(),
            SettleError::Storage(error) => error.into(),
            SettleError::Publish(error) => (*error).into(),
            SettleError::BadReceipt => Self::bad_receipt(),
            SettleError::Lease(LeaseError::Expired) => Self::new(Code::FailedPrecondition, "lease-expired", detail),
            SettleError::Lease(_) => Self::new(Code::NotFound, "unknown-delivery", detail),
            _ => Self::new(Code::InvalidArgument, "not-settled", detail),
        }
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        let detail = error.to_string();
        match error {
            ReplayError::Access(error) => error.into(),
            ReplayError::Storage(error) => error.into(),
            ReplayError::NotFound { .. } => Self::not_found(detail),
            ReplayError::NoLog(_) => Self::new(Code::FailedPrecondition, "no-log", detail),
            ReplayError::NoKeyIndex(_) => Self::new(Code::FailedPrecondition, "no-key-index", detail),
            ReplayError::OutOfRange { start, end, .. } => {
                let mut failure = Self::new(Code::OutOfRange, "offset-out-of-range", detail);
                (failure.0.start, failure.0.end) = (Some(start.0), Some(end.0));
                failure
            }
            ReplayError::Membership(_) => Self::new(Code::FailedPrecondition, "not-a-member", detail),
            ReplayError::Invalid { field, .. } => Self::invalid(&field, detail),
            _ => Self::new(Code::InvalidArgument, "not-read", detail),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let detail = error.to_string();
        match error {
            RequestError::NoResponders(_) => Self::new(Code::Unavailable, "no-responders", detail),
            RequestError::Timeout(_) => Self::new(Code::DeadlineExceeded, "timeout", detail),
            RequestError::Publish(error) => error.into(),
            _ => Self::new(Code::InvalidArgument, "not-requested", detail),
        }
    }
}

impl From<MessageFault> for Failure {
    fn from(fault: MessageFault) -> Self {
        Self::invalid(fault.field(), fault.to_string())
    }
}

/// A status of tonic's own as ours: it refuses a frame that is too large before anything of ours sees it.
pub(crate) fn own(status: Status) -> Status {
    if status.code() == Code::OutOfRange && status.message().contains("message length too large") {
        return frame_too_large().into();
    }
    status
}

fn frame_too_large() -> Failure {
    let limit = crate::limits::MAX_FRAME_BYTES;
    let why = format!("a frame has at most {limit} bytes (MAX_FRAME_BYTES)");
    Failure::new(Code::ResourceExhausted, "too-large", why).limit("MAX_FRAME_BYTES")
}

/// The same, of an answer whose status stands in its headers already.
pub(crate) fn own_response<B: Default>(response: http::Response<B>) -> http::Response<B> {
    let headers = response.headers();
    let is_out_of_range = headers.get("grpc-status").is_some_and(|status| status.as_bytes() == b"11");
    let is_length = |message: &http::HeaderValue| {
        message.to_str().is_ok_and(|text| {
            text.contains("message%20length%20too%20large") || text.contains("message length too large")
        })
    };
    if is_out_of_range && headers.get("grpc-message").is_some_and(is_length) {
        return Status::from(frame_too_large()).into_http();
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Offset;

    #[track_caller]
    fn check(failure: impl Into<Failure>, code: Code, slug: &str) -> Problem {
        let problem = failure.into().problem();
        assert_eq!((Code::from(problem.code), problem.r#type.as_str()), (code, slug));
        assert!(!problem.detail.is_empty());
        problem
    }

    #[test]
    fn errors_have_their_code_and_type() {
        check(StorageError::Full("x".into()), Code::ResourceExhausted, "storage-full");
        check(StorageError::Unknown("x".into()), Code::Unknown, "outcome-unknown");
        check(AccessError::Unauthenticated, Code::Unauthenticated, "unauthenticated");
        check(DeclareError::Access(AccessError::NoSuchNamespace("x".into())), Code::NotFound, "no-such-namespace");
        let conflict = DeclareError::Conflict { entity: "queue".into(), difference: "ttl_ms".into() };
        check(conflict, Code::AlreadyExists, "definition-conflict");
        check(DeclareError::Held { entity: "queue".into() }, Code::FailedPrecondition, "queue-held");
        check(ConsumeError::Held { entity: "queue".into() }, Code::FailedPrecondition, "queue-held");
        let full = PublishError::QueueFull { queue: "q".into(), limit: "max_messages".into() };
        assert_eq!(check(full, Code::ResourceExhausted, "queue-full").retry_after_ms, Some(1000));
        let wrong = check(PublishError::WrongVersion { actual: Some(Offset(7)) }, Code::Aborted, "wrong-version");
        assert_eq!(wrong.actual_version, Some(7));
        check(SettleError::Lease(LeaseError::Expired), Code::FailedPrecondition, "lease-expired");
        let range = ReplayError::OutOfRange { asked: Offset(1), start: Offset(5), end: Offset(9) };
        assert_eq!(check(range, Code::OutOfRange, "offset-out-of-range").start, Some(5));
        check(RequestError::NoResponders("a".into()), Code::Unavailable, "no-responders");
        check(RequestError::Timeout(5), Code::DeadlineExceeded, "timeout");
    }

    #[test]
    fn a_status_carries_its_details() {
        let status = Status::from(Failure::invalid("to.queue", "why").limit("MAX").retry_after(SHORTLY));
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("invalid-value", DOMAIN));
        assert_eq!(info.metadata["field"], "to.queue");
        assert_eq!(info.metadata["limit"], "MAX");
        assert_eq!(details.retry_info().unwrap().retry_delay, Some(SHORTLY));
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "to.queue");
    }

    #[test]
    fn a_frame_that_is_too_large_names_the_limit() {
        let theirs =
            Status::out_of_range("Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes");
        assert!(own(theirs.clone()).message().contains("MAX_FRAME_BYTES"));
        let response = own_response(theirs.into_http::<()>());
        assert_eq!(response.headers()["grpc-status"], "8");
        let other = own_response(Status::out_of_range("offset").into_http::<()>());
        assert_eq!(other.headers()["grpc-status"], "11");
    }
}
