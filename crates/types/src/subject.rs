//! Subjects and the patterns that select them.

use bytes::Bytes;

/// One word of a [`SubjectPattern`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Word {
    /// Exactly this word.
    Literal(Bytes),
    /// Any one word. Written `*`.
    One,
    /// Any number of words, none included. Written `#`.
    Any,
    /// The rest, at least one word; only as the last. Written `>`.
    Rest,
}

/// A pattern over dot-separated subjects, such as `orders.*.created`, `orders.#` or `orders.>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubjectPattern {
    words: Vec<Word>,
}

/// Why a text is no subject pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// `>` stands for the rest, so nothing can follow it.
    #[error("`>` must be the last word of a subject pattern")]
    RestNotLast,
    /// See [`crate::limits::MAX_SUBJECT_BYTES`].
    #[error("a subject pattern has at most {} bytes", crate::limits::MAX_SUBJECT_BYTES)]
    TooLong,
}

impl SubjectPattern {
    /// Reads the native notation: words separated by dots, where `*`, `#` and `>` alone are wildcards.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let word = |word: &str| match word {
            "*" => Word::One,
            "#" => Word::Any,
            ">" => Word::Rest,
            literal => Word::Literal(Bytes::copy_from_slice(literal.as_bytes())),
        };
        if text.len() > crate::limits::MAX_SUBJECT_BYTES {
            return Err(PatternError::TooLong);
        }
        Self::from_words(text.split('.').map(word).collect())
    }

    /// A pattern of these words: for protocols whose wildcards are written otherwise.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn from_words(words: Vec<Word>) -> Result<Self, PatternError> {
        match words.iter().position(|word| *word == Word::Rest) {
            Some(at) if at + 1 != words.len() => Err(PatternError::RestNotLast),
            _ => Ok(Self { words }),
        }
    }

    /// The words, in order.
    #[must_use]
    pub fn words(&self) -> &[Word] {
        &self.words
    }

    /// Whether the pattern has no wildcard, so that it selects one subject.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.words.iter().all(|word| matches!(word, Word::Literal(_)))
    }
}
