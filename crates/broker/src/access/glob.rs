//! Name patterns, as permissions and policies use them: `*` stands for any run of characters, the empty one included; or a regular
//! expression.

use std::fmt;

use memchr::memmem::Finder;
use regex::Regex;
use types::limits::{MAX_NAME_PATTERN_BYTES, MAX_REGEX_BYTES, MAX_REGEX_COMPILED_BYTES};

use super::regexes::{REGEX_PREFIX, over_names};

/// A pattern over names, such as `orders.*` or `*`. Everything but `*` stands for itself, and there is no escape: a `*` in a
/// name is matched by the `*` of a pattern.
///
/// A pattern that begins with [`regex:`](REGEX_PREFIX) is a regular expression instead, in the syntax of the `regex` crate: that of
/// Perl without look-around and back-references, which cannot be bounded in time. It fits a name if it fits any part of it; `^` and
/// `$` tie it to the ends. An empty expression fits the empty name only. What it stands for is kept and shown as it was written.
///
/// Matching takes time linear in the lengths of pattern and name, whatever they hold: each literal piece is looked for once,
/// leftmost first, and never given back. That is right because the leftmost place leaves the most for the pieces after it.
#[derive(Clone)]
pub struct NamePattern {
    text: Box<str>,
    pieces: Pieces,
}

#[derive(Clone)]
enum Pieces {
    /// `*`.
    Any,
    /// No wildcard.
    Exact,
    /// At least one wildcard. The searches between first and last are prepared once, for that takes longer than they do.
    Wild { prefix: Box<str>, middle: Box<[Finder<'static>]>, suffix: Box<str> },
    /// A regular expression.
    Regex(Regex),
}

/// Why a text is no name pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamePatternError {
    /// It would match nothing, for no name is empty.
    #[error("the pattern is empty; `*` stands for every name")]
    Empty,
    /// See [`MAX_NAME_PATTERN_BYTES`].
    #[error("the pattern has {len_bytes} bytes; at most {MAX_NAME_PATTERN_BYTES} are allowed")]
    TooLong {
        /// The length found.
        len_bytes: usize,
    },
    /// No name holds one.
    #[error("the pattern holds a control character at byte {at}; no name does")]
    Control {
        /// The place found.
        at: usize,
    },
    /// See [`MAX_REGEX_BYTES`].
    #[error("the regular expression has {len_bytes} bytes; at most {MAX_REGEX_BYTES} are allowed")]
    RegexTooLong {
        /// The length found.
        len_bytes: usize,
    },
    /// See [`MAX_REGEX_COMPILED_BYTES`].
    #[error("the regular expression takes more than {MAX_REGEX_COMPILED_BYTES} bytes of memory; repeat less in it")]
    RegexTooBig,
    /// It is none, or uses what is not supported.
    #[error("the regular expression cannot be read: {why}")]
    Regex {
        /// What is wrong.
        why: String,
    },
}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// See [`NamePatternError`].
    pub fn new(text: &str) -> Result<Self, NamePatternError> {
        if let Some(expression) = text.strip_prefix(REGEX_PREFIX) {
            return Ok(Self { text: text.into(), pieces: Pieces::Regex(over_names(expression)?) });
        }
        if text.is_empty() {
            return Err(NamePatternError::Empty);
        }
        if text.len() > MAX_NAME_PATTERN_BYTES {
            return Err(NamePatternError::TooLong { len_bytes: text.len() });
        }
        if let Some((at, _)) = text.char_indices().find(|(_, c)| c.is_control()) {
            return Err(NamePatternError::Control { at });
        }
        Ok(Self { text: text.into(), pieces: Pieces::of(text) })
    }

    /// Whether the pattern fits `name`: covers the whole of it, or is a regular expression that finds something in it.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.pieces {
            Pieces::Any => true,
            Pieces::Exact => *self.text == *name,
            Pieces::Regex(regex) => regex.is_match(name),
            Pieces::Wild { prefix, middle, suffix } => {
                let between = name.strip_prefix(&**prefix).and_then(|rest| rest.strip_suffix(&**suffix));
                let Some(between) = between else {
                    return false;
                };
                let mut rest = between.as_bytes();
                for piece in middle {
                    let after = piece.find(rest).and_then(|at| rest.get(at + piece.needle().len()..));
                    match after {
                        Some(after) => rest = after,
                        None => return false,
                    }
                }
                true
            }
        }
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Pieces {
    fn of(text: &str) -> Self {
        let (Some((prefix, _)), Some((_, suffix))) = (text.split_once('*'), text.rsplit_once('*')) else {
            return Self::Exact;
        };
        let inner = text.get(prefix.len()..text.len().saturating_sub(suffix.len())).unwrap_or_default();
        let pieces = inner.split('*').filter(|piece| !piece.is_empty());
        let middle: Box<[Finder<'static>]> = pieces.map(|piece| Finder::new(piece).into_owned()).collect();
        if prefix.is_empty() && suffix.is_empty() && middle.is_empty() {
            return Self::Any;
        }
        Self::Wild { prefix: prefix.into(), middle, suffix: suffix.into() }
    }
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for NamePattern {}

impl fmt::Debug for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamePattern").field(&self.text).finish()
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
