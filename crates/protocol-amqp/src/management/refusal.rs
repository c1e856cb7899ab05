//! What goes wrong, as RabbitMQ's management API says it: a status, and a JSON object of `error` and `reason`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use broker::{AccessError, ConsumeError, DeclareError, PublishError};
use serde_json::json;

use crate::fault::Fault;

/// A refused request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) reason: String,
}

impl Refusal {
    pub(super) fn bad_request(reason: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: "bad_request", reason: reason.into() }
    }

    /// There is no such thing.
    pub(super) fn not_found(reason: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, error: "not_found", reason: reason.into() }
    }

    /// There is no such thing, or no such endpoint.
    pub(super) fn no_such_object() -> Self {
        Self { status: StatusCode::NOT_FOUND, error: "Object Not Found", reason: "Not Found".to_owned() }
    }

    pub(super) fn method() -> Self {
        Self {
            status: StatusCode::METHOD_NOT_ALLOWED,
            error: "method_not_allowed",
            reason: "Method Not Allowed".into(),
        }
    }

    /// Who asks is not known, or may not. RabbitMQ answers both alike.
    pub(super) fn not_authorized(reason: impl Into<String>) -> Self {
        Self { status: StatusCode::UNAUTHORIZED, error: "not_authorized", reason: reason.into() }
    }

    /// Something that RabbitMQ does and this broker does not.
    pub(super) fn not_done(reason: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, error: "not_supported", reason: reason.into() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = Json(json!({"error": self.error, "reason": self.reason}));
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        let reason = fault.text.split_once(" - ").map_or(fault.text.as_str(), |(_, reason)| reason).to_owned();
        match fault.code {
            403 => Self::not_authorized(reason),
            404 => Self::not_found(reason),
            500.. => {
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                Self { status, error: "internal_server_error", reason }
            }
            _ => Self::bad_request(reason),
        }
    }
}

impl From<DeclareError> for Refusal {
    fn from(error: DeclareError) -> Self {
        Fault::from(error).into()
    }
}

impl From<PublishError> for Refusal {
    fn from(error: PublishError) -> Self {
        Fault::from(error).into()
    }
}

impl From<ConsumeError> for Refusal {
    fn from(error: ConsumeError) -> Self {
        Fault::from(error).into()
    }
}

impl From<AccessError> for Refusal {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::NoSuchNamespace(_) => Self::not_authorized("User not authorised to access virtual host"),
            AccessError::Unauthenticated => Self::not_authorized("Login failed"),
            AccessError::Busy => {
                let reason = "too many logins are being checked; try again shortly".to_owned();
                Self { status: StatusCode::SERVICE_UNAVAILABLE, error: "busy", reason }
            }
            error => Self::not_authorized(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channels_refusal_is_said_without_its_code_name() {
        let refusal = Refusal::from(Fault::precondition_failed("inequivalent arg 'durable' - really"));
        assert_eq!((refusal.status.as_u16(), &*refusal.reason), (400, "inequivalent arg 'durable' - really"));
        assert_eq!(Refusal::from(Fault::not_found("no queue")).status.as_u16(), 404);
        assert_eq!(Refusal::from(Fault::access_refused("no")).status.as_u16(), 401);
    }
}
