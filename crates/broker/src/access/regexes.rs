//! Regular expressions, as patterns over names and subjects may be.

use regex::{Regex, RegexBuilder, bytes};
use types::limits::{MAX_REGEX_BYTES, MAX_REGEX_COMPILED_BYTES, REGEX_CACHE_BYTES};

use super::glob::NamePatternError;

/// What a pattern begins with that is a regular expression.
pub const REGEX_PREFIX: &str = "regex:";

/// Nothing but the empty text. It is what an empty expression stands for: in the systems that permissions come from, "nothing" is
/// written so, where the expression itself would fit everything.
const ONLY_EMPTY: &str = "^$";

/// Compiles an expression over names.
pub(super) fn over_names(expression: &str) -> Result<Regex, NamePatternError> {
    let built = RegexBuilder::new(text(expression)?)
        .size_limit(MAX_REGEX_COMPILED_BYTES)
        .dfa_size_limit(REGEX_CACHE_BYTES)
        .build();
    built.map_err(|error| unreadable(&error))
}

/// Compiles an expression over subjects, which may be any bytes.
pub(super) fn over_bytes(expression: &str) -> Result<bytes::Regex, NamePatternError> {
    let built = bytes::RegexBuilder::new(text(expression)?)
        .size_limit(MAX_REGEX_COMPILED_BYTES)
        .dfa_size_limit(REGEX_CACHE_BYTES)
        .build();
    built.map_err(|error| unreadable(&error))
}

fn text(expression: &str) -> Result<&str, NamePatternError> {
    match expression.len() {
        0 => Ok(ONLY_EMPTY),
        len_bytes if len_bytes > MAX_REGEX_BYTES => Err(NamePatternError::RegexTooLong { len_bytes }),
        _ => Ok(expression),
    }
}

/// In one line: the compiler's own message draws the expression over several, the reason in the last.
fn unreadable(error: &regex::Error) -> NamePatternError {
    if let regex::Error::CompiledTooBig(_) = error {
        return NamePatternError::RegexTooBig;
    }
    let text = error.to_string();
    let last = text.lines().next_back().unwrap_or_default();
    NamePatternError::Regex { why: last.strip_prefix("error: ").unwrap_or(last).to_owned() }
}
