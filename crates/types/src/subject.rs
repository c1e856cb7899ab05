//! Subjects and the patterns that select them.
//!
//! A subject is split at its dots into words. As on AMQP's topic exchanges, the empty subject has no word at all, so `#`
//! selects it and `*` and `>` do not; everywhere else an empty word is a word: `a..b` has three.

use std::fmt;

use bytes::Bytes;

use crate::limits::{MAX_PATTERN_WORDS, MAX_SUBJECT_BYTES};

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
///
/// In the native notation a literal word that would read as a wildcard is written with a backslash before it: `\*`, `\#`, `\>`
/// (and the literal `\*` as `\\*`, and so on). Other backslashes stand for themselves.
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
    /// See [`MAX_SUBJECT_BYTES`].
    #[error("a subject pattern has at most {MAX_SUBJECT_BYTES} bytes")]
    TooLong,
    /// See [`MAX_PATTERN_WORDS`].
    #[error("a subject pattern has at most {MAX_PATTERN_WORDS} words")]
    TooManyWords,
}

/// The words of a subject; none if it is empty.
pub fn subject_words(subject: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    let count = if subject.is_empty() { 0 } else { usize::MAX };
    subject.split(|byte| *byte == b'.').take(count)
}

impl SubjectPattern {
    /// Reads the native notation: words separated by dots, where `*`, `#` and `>` alone are wildcards. The empty text is the
    /// pattern of the empty subject.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let word = |word: &str| match word {
            "*" => Word::One,
            "#" => Word::Any,
            ">" => Word::Rest,
            escaped if reads_as_wildcard(escaped.as_bytes()) => literal(escaped.get(1..).unwrap_or_default()),
            plain => literal(plain),
        };
        if text.len() > MAX_SUBJECT_BYTES {
            return Err(PatternError::TooLong);
        }
        Self::from_words(text.split('.').map(word).collect())
    }

    /// A pattern of these words: for protocols whose wildcards are written otherwise. A literal with dots in it stands for the
    /// words between them; a single empty literal is the empty subject.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn from_words(words: Vec<Word>) -> Result<Self, PatternError> {
        if words.iter().position(|word| *word == Word::Rest).is_some_and(|at| at + 1 != words.len()) {
            return Err(PatternError::RestNotLast);
        }
        let dotted = |word: &Word| matches!(word, Word::Literal(bytes) if bytes.contains(&b'.'));
        let words = if words.iter().any(dotted) { words.into_iter().flat_map(split_literal).collect() } else { words };
        let len_bytes: usize = words.iter().map(|word| 1 + word_len(word)).sum();
        if len_bytes > MAX_SUBJECT_BYTES + 1 {
            return Err(PatternError::TooLong);
        }
        if words.len() > MAX_PATTERN_WORDS {
            return Err(PatternError::TooManyWords);
        }
        match words.as_slice() {
            [Word::Literal(empty)] if empty.is_empty() => Ok(Self { words: Vec::new() }),
            _ => Ok(Self { words }),
        }
    }

    /// The pattern of exactly this subject, whatever bytes it is made of.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn literal(subject: &Bytes) -> Result<Self, PatternError> {
        Self::from_words(vec![Word::Literal(subject.clone())])
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

    /// The one subject that a pattern without wildcards selects.
    #[must_use]
    pub fn as_literal(&self) -> Option<Bytes> {
        let mut subject = Vec::new();
        for (at, word) in self.words.iter().enumerate() {
            let Word::Literal(word) = word else { return None };
            if at > 0 {
                subject.push(b'.');
            }
            subject.extend_from_slice(word);
        }
        Some(Bytes::from(subject))
    }

    /// Whether the pattern selects every subject there is.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        !self.words.is_empty() && self.words.iter().all(|word| *word == Word::Any)
    }

    /// Whether the subject fits the pattern. At worst words of the subject × words of the pattern comparisons: after a
    /// mismatch only the last `#` takes one word more, as earlier ones could only take words away from it.
    #[must_use]
    pub fn matches(&self, subject: &[u8]) -> bool {
        let mut subject = subject_words(subject);
        let mut pattern = self.words.iter();
        // Where to go on after a mismatch: the pattern after the last `#`, and the subject one word further on.
        let mut retry = None;
        loop {
            let fits = match pattern.next() {
                Some(Word::Any) => {
                    retry = Some((pattern.clone(), subject.clone()));
                    continue;
                }
                Some(Word::Rest) if subject.next().is_some() => return true,
                Some(Word::Rest) => false,
                Some(Word::One) => subject.next().is_some(),
                Some(Word::Literal(word)) => subject.next().is_some_and(|have| have == word),
                None if subject.next().is_none() => return true,
                None => false,
            };
            if !fits {
                let Some((after_any, mut from)) = retry.take() else { return false };
                if from.next().is_none() {
                    return false;
                }
                pattern = after_any.clone();
                subject = from.clone();
                retry = Some((after_any, from));
            }
        }
    }

    /// Whether there is a subject that both patterns select. (A single empty word counts as a subject here, though none can be
    /// written so: `#.` and `*` are said to overlap.)
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (left, right) = (self.plain_words(), other.plain_words());
        // `row[j]`: whether left[i..] and right[j..] have a subject in common, for i counted down from the end.
        let mut row = vec![false; right.len() + 1];
        for i in (0..=left.len()).rev() {
            let mut below_right = false;
            for j in (0..=right.len()).rev() {
                let below = row.get(j).copied().unwrap_or(false);
                let next = row.get(j + 1).copied().unwrap_or(false);
                let common = match (left.get(i), right.get(j)) {
                    (None, None) => true,
                    (Some(Word::Any), right) => below || (right.is_some() && next),
                    (left, Some(Word::Any)) => next || (left.is_some() && below),
                    (None, _) | (_, None) => false,
                    (Some(Word::Literal(left)), Some(Word::Literal(right))) => left == right && below_right,
                    (Some(_), Some(_)) => below_right,
                };
                if let Some(cell) = row.get_mut(j) {
                    *cell = common;
                }
                below_right = below;
            }
        }
        row.first().copied().unwrap_or(false)
    }

    /// The words with `>` spelled out as `*.#`, which selects the same, and with runs of `#` as one.
    #[must_use]
    pub fn plain_words(&self) -> Vec<Word> {
        let mut words: Vec<Word> = Vec::with_capacity(self.words.len() + 1);
        for word in &self.words {
            match word {
                Word::Rest => words.extend([Word::One, Word::Any]),
                Word::Any if words.last() == Some(&Word::Any) => {}
                word => words.push(word.clone()),
            }
        }
        words
    }
}

/// The native notation; bytes that are not UTF-8 are shown as `�`.
impl fmt::Display for SubjectPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, word) in self.words.iter().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            match word {
                Word::One => f.write_str("*")?,
                Word::Any => f.write_str("#")?,
                Word::Rest => f.write_str(">")?,
                Word::Literal(word) => {
                    if reads_as_wildcard(word) {
                        f.write_str("\\")?;
                    }
                    f.write_str(&String::from_utf8_lossy(word))?;
                }
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for SubjectPattern {
    type Err = PatternError;
    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::parse(text)
    }
}

fn literal(word: &str) -> Word {
    Word::Literal(Bytes::copy_from_slice(word.as_bytes()))
}

/// Whether a word is a wildcard, or backslashes followed by one.
fn reads_as_wildcard(word: &[u8]) -> bool {
    match word.split_last() {
        Some((b'*' | b'#' | b'>', before)) => before.iter().all(|byte| *byte == b'\\'),
        _ => false,
    }
}

fn word_len(word: &Word) -> usize {
    if let Word::Literal(word) = word { word.len() } else { 1 }
}

fn split_literal(word: Word) -> Vec<Word> {
    match word {
        Word::Literal(word) => {
            word.split(|byte| *byte == b'.').map(|part| Word::Literal(word.slice_ref(part))).collect()
        }
        wildcard => vec![wildcard],
    }
}

#[cfg(test)]
mod tests;
