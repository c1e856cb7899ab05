//! Name patterns, as permissions and policies use them: `*` stands for any run of characters, the empty one included.

use std::fmt;

use memchr::memmem::Finder;
use types::limits::MAX_NAME_PATTERN_BYTES;

/// A pattern over names, such as `orders.*` or `*`. Everything but `*` stands for itself, and there is no escape: a `*` in a
/// name is matched by the `*` of a pattern.
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
}

impl NamePattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// See [`NamePatternError`].
    pub fn new(text: &str) -> Result<Self, NamePatternError> {
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

    /// Whether the pattern covers the whole of `name`.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        match &self.pieces {
            Pieces::Any => true,
            Pieces::Exact => *self.text == *name,
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
