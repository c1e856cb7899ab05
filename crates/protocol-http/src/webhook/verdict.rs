//! What an endpoint's answer means for the delivery.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use broker::queue::Settle;
use broker::webhook_target::Refused;
use types::Timestamp;

use super::limits::{CONNECT_TIMEOUT, MAX_ERROR_BYTES, MAX_RETRY_AFTER};

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// The endpoint has the message.
    Taken,
    /// It may take it another time.
    Failed {
        /// What happened: a name, a colon and the rest, as the retry policy's `non_retryable` wants it.
        error: Arc<str>,
        /// When the endpoint wants to be asked again; the queue's backoff if it did not say.
        after: Option<Duration>,
        /// How long nothing at all is to be sent to it.
        pause: Option<Duration>,
    },
    /// It will never take it.
    Rejected {
        /// What happened.
        error: Arc<str>,
    },
}

impl Verdict {
    /// A failure that is tried again by the queue's own backoff.
    pub(super) fn failed(error: &str) -> Self {
        Self::Failed { error: bounded(error), after: None, pause: None }
    }

    /// What an answer says. `now` is for a `Retry-After` that names a date.
    pub(super) fn of_answer(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Self {
        let error = || format!("http {}: {}", status.as_u16(), status.canonical_reason().unwrap_or("no reason known"));
        match status.as_u16() {
            200..=299 => Self::Taken,
            300..=399 => Self::failed(&format!("{}; redirects are not followed, set the webhook's new URL", error())),
            code @ (408 | 425 | 429 | 500..) => {
                let after = headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?, now));
                let pause = after.filter(|_| matches!(code, 429 | 503));
                Self::Failed { error: bounded(&error()), after, pause }
            }
            _ => Self::Rejected { error: bounded(&error()) },
        }
    }

    /// What an error on the way says. The URL is left out of it.
    pub(super) fn of_error(error: &reqwest::Error, timeout: Duration) -> Self {
        let mut root: &dyn std::error::Error = error;
        while let Some(source) = root.source() {
            if let Some(refused) = source.downcast_ref::<Refused>() {
                return Self::failed(&refused.to_string());
            }
            root = source;
        }
        let connecting = error.is_connect();
        Self::failed(&match (error.is_timeout(), connecting, error.source()) {
            (true, true, _) => format!("timeout: not connected within {} ms", timeout.min(CONNECT_TIMEOUT).as_millis()),
            (true, false, _) => format!("timeout: no answer within {} ms", timeout.as_millis()),
            (false, true, _) => format!("connect: {root}"),
            (false, false, Some(_)) => format!("request: {root}"),
            // Its own text would hold the URL.
            (false, false, None) => "request: it could not be sent".to_owned(),
        })
    }

    /// How the delivery ends.
    pub(super) fn settle(&self) -> Settle {
        match self {
            Self::Taken => Settle::Ack,
            Self::Failed { error, after, .. } => {
                Settle::Nack { after: *after, error: Some(Arc::clone(error)), counts: true }
            }
            Self::Rejected { error } => Settle::Reject { error: Some(Arc::clone(error)) },
        }
    }

    /// What happened, unless the message was taken.
    pub(super) fn error(&self) -> Option<&str> {
        match self {
            Self::Taken => None,
            Self::Failed { error, .. } | Self::Rejected { error } => Some(error),
        }
    }

    /// How long the endpoint wants nothing at all.
    pub(super) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Failed { pause, .. } => *pause,
            Self::Taken | Self::Rejected { .. } => None,
        }
    }
}

fn bounded(text: &str) -> Arc<str> {
    let end = text.floor_char_boundary(MAX_ERROR_BYTES);
    text.get(..end).unwrap_or_default().into()
}

/// The wait that a `Retry-After` asks for: seconds, or until a date (RFC 9110, section 10.2.3). At most [`MAX_RETRY_AFTER`]; `None` if
/// it asks for none or cannot be read, and then the queue's backoff holds.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let wait = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds is a long time.
        value.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(value).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Timestamp(i64::try_from(date.as_millis()).ok()?).since(now)
    };
    Some(wait.min(MAX_RETRY_AFTER)).filter(|wait| !wait.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT

    fn verdict(status: u16, after: Option<&str>) -> Verdict {
        let mut headers = HeaderMap::new();
        if let Some(after) = after {
            headers.insert(header::RETRY_AFTER, after.parse().expect("a header"));
        }
        Verdict::of_answer(StatusCode::from_u16(status).expect("a status"), &headers, NOW)
    }

    #[test]
    fn each_status_has_its_meaning() {
        for status in [200, 202, 204, 299] {
            assert_eq!(verdict(status, Some("5")), Verdict::Taken);
        }
        for status in [400, 401, 403, 404, 409, 410, 413, 422, 431, 499] {
            assert!(matches!(verdict(status, Some("5")), Verdict::Rejected { .. }), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 599, 600] {
            let Verdict::Failed { after, pause, .. } = verdict(status, Some("5")) else { panic!("{status}") };
            assert_eq!(after, Some(Duration::from_secs(5)), "{status}");
            assert_eq!(pause.is_some(), matches!(status, 429 | 503), "{status}");
        }
        assert_eq!(verdict(404, None).error(), Some("http 404: Not Found"));
        assert_eq!(
            verdict(302, None).error(),
            Some("http 302: Found; redirects are not followed, set the webhook's new URL")
        );
        assert_eq!(
            verdict(500, None).settle(),
            Settle::Nack { after: None, error: Some("http 500: Internal Server Error".into()), counts: true }
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let seconds = |value| retry_after(value, NOW).map(|wait| wait.as_secs());
        assert_eq!(seconds("7"), Some(7));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:07 GMT"), Some(30));
        assert_eq!(seconds("Sunday, 06-Nov-94 08:50:07 GMT"), Some(30));
        assert_eq!(seconds("Sun Nov  6 08:50:07 1994"), Some(30));
        assert_eq!(seconds("999999999999999999999999"), Some(3600));
        assert_eq!(seconds("Sun, 06 Nov 2044 08:49:37 GMT"), Some(3600));
        for nothing in ["0", "", "soon", "-1", "1.5", "Sun, 06 Nov 1994 08:49:36 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"]
        {
            assert_eq!(seconds(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn a_long_error_is_cut_between_characters() {
        assert_eq!(bounded(&"ü".repeat(600)).len(), MAX_ERROR_BYTES);
        assert_eq!(bounded(&format!("a{}", "ü".repeat(600))).len(), MAX_ERROR_BYTES - 1);
    }
}
