//! The one place where errors become HTTP: every error of the broker and of this crate, with its status and its stable type.

use std::time::Duration;

use api::{PROBLEM_PREFIX, PROBLEM_TYPE, Problem};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use broker::bounds::OutOfBounds;
use broker::queue::{AttachError, LeaseError};
use broker::{
    AccessError, BackupError, ConsumeError, DeclareError, PublishError, ReplayError, RequestError, SettleError,
    StorageError,
};

/// An answer that is not the one hoped for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure(pub(crate) Box<Problem>);

impl Failure {
    pub(crate) fn new(status: u16, slug: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            kind: format!("{PROBLEM_PREFIX}{slug}"),
            title: title(slug),
            status,
            detail: detail.into(),
            ..Problem::default()
        }))
    }

    /// A parameter or field that makes no sense.
    pub(crate) fn invalid(field: &str, why: impl Into<String>) -> Self {
        Self::new(400, "invalid-value", why).field(field)
    }

    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, "not-found", detail)
    }

    /// A body or message that passes a limit.
    pub(crate) fn too_large(detail: impl Into<String>, limit: &str) -> Self {
        Self::new(413, "too-large", detail).limit(limit)
    }

    pub(crate) fn field(mut self, field: &str) -> Self {
        self.0.field = Some(field.to_owned());
        self
    }

    pub(crate) fn limit(mut self, limit: &str) -> Self {
        self.0.limit = Some(limit.to_owned());
        self
    }

    /// Trying again after this time makes sense.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
        self
    }
}

/// `queue-full` → `Queue full`.
fn title(slug: &str) -> String {
    let mut title = slug.replace('-', " ");
    if let Some(first) = title.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    title
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_TYPE)], body).into_response();
        let headers = response.headers_mut();
        if let Some(ms) = self.0.retry_after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(ms.div_ceil(1000)));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"posthouse\", charset=\"UTF-8\""),
            );
            headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"posthouse\""));
        }
        response
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
            StorageError::Full(_) => Self::new(507, "storage-full", detail).retry_after(SHORTLY * 10),
            StorageError::Failed(_) => Self::new(503, "storage-failed", detail),
            StorageError::Overloaded(_) => Self::new(503, "storage-overloaded", detail).retry_after(SHORTLY),
            StorageError::Damaged(_) => Self::new(500, "storage-damaged", detail),
            StorageError::Unknown(_) => Self::new(500, "outcome-unknown", detail),
            StorageError::Unavailable(_) => Self::new(503, "unavailable", detail).retry_after(SHORTLY),
            _ => Self::new(500, "storage-error", detail),
        }
    }
}

impl From<AccessError> for Failure {
    fn from(error: AccessError) -> Self {
        let detail = error.to_string();
        match error {
            AccessError::Unauthenticated => Self::new(401, "unauthenticated", detail),
            AccessError::Busy => Self::new(503, "logins-busy", detail).retry_after(SHORTLY),
            AccessError::Forbidden { .. } => Self::new(403, "forbidden", detail),
            AccessError::NoSuchNamespace(_) => Self::new(404, "no-such-namespace", detail),
            _ => Self::new(403, "forbidden", detail),
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let detail = error.to_string();
        match error {
            BackupError::Access(error) => error.into(),
            error if error.is_under_way() => Self::new(409, "backup-under-way", detail).retry_after(SHORTLY * 10),
            error if error.is_unsupported() => Self::new(409, "no-backups", detail),
            _ => Self::new(503, "backup-failed", detail),
        }
    }
}

impl From<DeclareError> for Failure {
    fn from(error: DeclareError) -> Self {
        let detail = error.to_string();
        match error {
            DeclareError::Access(error) => error.into(),
            DeclareError::Storage(error) => error.into(),
            DeclareError::Name(_) => Self::new(400, "bad-name", detail).field("name").limit("MAX_NAME_BYTES"),
            DeclareError::Conflict { .. } => Self::new(409, "definition-conflict", detail),
            DeclareError::NotFound { .. } => Self::not_found(detail),
            DeclareError::Invalid { field, .. } => Self::invalid(&field, detail),
            DeclareError::Quota { limit, .. } => Self::new(409, "quota-reached", detail).limit(limit),
            DeclareError::InUse { .. } => Self::new(409, "in-use", detail),
            DeclareError::Held { .. } => Self::new(423, "queue-held", detail),
            _ => Self::new(400, "not-declared", detail),
        }
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        let detail = error.to_string();
        match error {
            PublishError::Access(error) => error.into(),
            PublishError::Storage(error) => error.into(),
            PublishError::NotFound { .. } => Self::not_found(detail),
            PublishError::TooLarge { limit_name, .. } => Self::too_large(detail, limit_name),
            PublishError::Invalid { field, .. } => Self::invalid(&field, detail),
            PublishError::QueueFull { .. } => Self::new(429, "queue-full", detail).retry_after(SHORTLY),
            PublishError::DedupFull { .. } => Self::new(429, "dedup-window-full", detail).retry_after(SHORTLY),
            PublishError::Backpressure => Self::new(503, "backpressure", detail).retry_after(SHORTLY),
            PublishError::Quota { limit, .. } => {
                Self::new(429, "quota-reached", detail).limit(limit).retry_after(SHORTLY)
            }
            PublishError::WrongVersion { actual } => {
                let mut failure = Self::new(412, "wrong-version", detail);
                failure.0.actual_version = actual.map(|offset| offset.0);
                failure
            }
            PublishError::OutOfSequence { expected, .. } => {
                let mut failure = Self::new(409, "out-of-sequence", detail);
                failure.0.expected = Some(expected);
                failure
            }
            PublishError::Fenced { current } => {
                let mut failure = Self::new(409, "producer-fenced", detail);
                failure.0.expected = Some(current.into());
                failure
            }
            _ => Self::new(400, "not-published", detail),
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
            ConsumeError::Held { .. } => Self::new(423, "queue-held", detail),
            ConsumeError::Attach(AttachError::HeldExclusively) => Self::new(409, "held-exclusively", detail),
            ConsumeError::Attach(_) => Self::new(409, "in-use", detail),
            ConsumeError::Deleted(_) => Self::new(410, "queue-deleted", detail),
            ConsumeError::Invalid { field, .. } => Self::invalid(&field, detail),
            _ => Self::new(400, "not-consumed", detail),
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
            SettleError::Lease(LeaseError::Expired) => Self::new(410, "lease-expired", detail),
            SettleError::Lease(_) => Self::new(410, "unknown-delivery", detail),
            _ => Self::new(400, "not-settled", detail),
        }
    }
}

impl Failure {
    pub(crate) fn bad_receipt() -> Self {
        Self::new(400, "bad-receipt", "this is not a receipt of a delivery of this queue").field("receipt")
    }
}

impl From<ReplayError> for Failure {
    fn from(error: ReplayError) -> Self {
        let detail = error.to_string();
        match error {
            ReplayError::Access(error) => error.into(),
            ReplayError::Storage(error) => error.into(),
            ReplayError::NotFound { .. } => Self::not_found(detail),
            ReplayError::NoLog(_) => Self::new(409, "no-log", detail),
            ReplayError::NoKeyIndex(_) => Self::new(409, "no-key-index", detail),
            ReplayError::OutOfRange { start, end, .. } => {
                let mut failure = Self::new(416, "offset-out-of-range", detail);
                (failure.0.start, failure.0.end) = (Some(start.0), Some(end.0));
                failure
            }
            ReplayError::Membership(_) => Self::new(409, "not-a-member", detail),
            ReplayError::Invalid { field, .. } => Self::invalid(&field, detail),
            _ => Self::new(400, "not-read", detail),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let detail = error.to_string();
        match error {
            RequestError::NoResponders(_) => Self::new(404, "no-responders", detail),
            RequestError::Timeout(_) => Self::new(504, "timeout", detail),
            RequestError::Publish(error) => error.into(),
            _ => Self::new(400, "not-requested", detail),
        }
    }
}

impl From<api::MessageError> for Failure {
    fn from(error: api::MessageError) -> Self {
        Self::invalid(error.field(), error.to_string())
    }
}

impl From<api::FilterError> for Failure {
    fn from(error: api::FilterError) -> Self {
        Self::invalid("filter", error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Offset;

    #[track_caller]
    fn check(failure: impl Into<Failure>, status: u16, slug: &str) -> Problem {
        let problem = *failure.into().0;
        assert_eq!((problem.status, problem.slug()), (status, slug));
        assert!(!problem.detail.is_empty());
        problem
    }

    #[test]
    fn errors_have_their_status_and_slug() {
        check(StorageError::Full("x".into()), 507, "storage-full");
        check(AccessError::Unauthenticated, 401, "unauthenticated");
        check(AccessError::Busy, 503, "logins-busy");
        check(DeclareError::Access(AccessError::NoSuchNamespace("x".into())), 404, "no-such-namespace");
        check(
            DeclareError::Conflict { entity: "queue".into(), difference: "ttl_ms".into() },
            409,
            "definition-conflict",
        );
        check(DeclareError::Held { entity: "queue".into() }, 423, "queue-held");
        check(ConsumeError::Held { entity: "queue".into() }, 423, "queue-held");
        let full =
            check(PublishError::QueueFull { queue: "q".into(), limit: "max_messages".into() }, 429, "queue-full");
        assert_eq!((full.title.as_str(), full.retry_after_ms), ("Queue full", Some(1000)));
        let wrong = check(PublishError::WrongVersion { actual: Some(Offset(7)) }, 412, "wrong-version");
        assert_eq!(wrong.actual_version, Some(7));
        check(SettleError::Publish(Box::new(PublishError::Backpressure)), 503, "backpressure");
        check(SettleError::Lease(LeaseError::Expired), 410, "lease-expired");
        let range = ReplayError::OutOfRange { asked: Offset(1), start: Offset(5), end: Offset(9) };
        assert_eq!(check(range, 416, "offset-out-of-range").start, Some(5));
        check(RequestError::NoResponders("a".into()), 404, "no-responders");
        check(RequestError::Timeout(5), 504, "timeout");
    }

    #[test]
    fn answers_carry_the_headers_that_go_with_them() {
        let response = Failure::from(PublishError::Backpressure).into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_TYPE);
        let response = Failure::from(AccessError::Unauthenticated).into_response();
        assert_eq!(response.headers().get_all(header::WWW_AUTHENTICATE).iter().count(), 2);
    }
}
