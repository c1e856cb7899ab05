//! What a request of any protocol may ask a [`Session`](crate::Session) for: the limits, and the checks that name them.
//!
//! A protocol may offer less; one that has no words of its own for a bound takes it from here.

use std::time::Duration;

/// Longest wait of a receive, a fetch or a request.
pub const MAX_WAIT: Duration = Duration::from_secs(60);
/// Wait of a request that says nothing.
pub const REQUEST_WAIT: Duration = Duration::from_secs(5);
/// Most messages or records of one answer.
pub const MAX_ANSWER_MESSAGES: usize = 1000;
/// Bytes of messages in one answer, whatever the request says.
pub const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// Most settlements of one request or frame.
pub const MAX_SETTLEMENTS: usize = 10_000;
/// Entities on a page, if the request says nothing.
pub const PAGE: usize = 1000;
/// Entities on a page, whatever the request says.
pub const MAX_PAGE: usize = 10_000;
/// How long a client may leave what was written to it unread.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A number of a request that is out of its bounds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct OutOfBounds {
    /// The field.
    pub field: String,
    /// What would be right.
    pub why: String,
    /// The limit that was passed, by name.
    pub limit: Option<&'static str>,
}

/// How long a request waits.
///
/// # Errors
/// Over [`MAX_WAIT`].
pub fn wait(ms: u64) -> Result<Duration, OutOfBounds> {
    let wait = Duration::from_millis(ms);
    if wait <= MAX_WAIT {
        return Ok(wait);
    }
    let why = format!("a request waits at most {} ms (MAX_WAIT)", MAX_WAIT.as_millis());
    Err(OutOfBounds { field: "wait_ms".to_owned(), why, limit: Some("MAX_WAIT") })
}

/// How many messages an answer holds.
///
/// # Errors
/// If it is none, or over [`MAX_ANSWER_MESSAGES`].
pub fn max_messages(max: Option<u32>, default: usize) -> Result<usize, OutOfBounds> {
    match max.map_or(default, |max| usize::try_from(max).unwrap_or(usize::MAX)) {
        max @ 1..=MAX_ANSWER_MESSAGES => Ok(max),
        _ => {
            let why = format!("`max` is 1 to {MAX_ANSWER_MESSAGES} (MAX_ANSWER_MESSAGES)");
            Err(OutOfBounds { field: "max".to_owned(), why, limit: Some("MAX_ANSWER_MESSAGES") })
        }
    }
}

/// How many bytes of messages an answer holds; never over [`MAX_ANSWER_BYTES`].
#[must_use]
pub fn max_bytes(max: Option<u64>, default: u64) -> u64 {
    max.unwrap_or(default).min(MAX_ANSWER_BYTES)
}

/// A span of at least a millisecond.
///
/// # Errors
/// If it is none.
pub fn positive(field: &str, ms: u64) -> Result<Duration, OutOfBounds> {
    if ms == 0 {
        return Err(OutOfBounds { field: field.to_owned(), why: format!("`{field}` is at least 1"), limit: None });
    }
    Ok(Duration::from_millis(ms))
}

/// A span in whole milliseconds, as answers tell it.
#[must_use]
pub fn whole_ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_bounds_names_the_limit() {
        assert_eq!(wait(60_000), Ok(MAX_WAIT));
        assert_eq!(wait(60_001).unwrap_err().limit, Some("MAX_WAIT"));
        assert_eq!((max_messages(None, 7), max_messages(Some(1000), 7)), (Ok(7), Ok(1000)));
        for max in [0, 1001, u32::MAX] {
            assert_eq!(max_messages(Some(max), 7).unwrap_err().limit, Some("MAX_ANSWER_MESSAGES"));
        }
        assert_eq!((max_bytes(None, 5), max_bytes(Some(u64::MAX), 5)), (5, MAX_ANSWER_BYTES));
        assert_eq!(positive("lease_ms", 0).unwrap_err().field, "lease_ms");
        assert_eq!(whole_ms(Duration::MAX), u64::MAX);
    }
}
