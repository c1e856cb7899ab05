//! Which topic a subject of the namespace belongs to, for protocols that publish to a subject and name no topic.

use std::collections::HashMap;

use bytes::Bytes;
use types::limits::{MAX_NAME_BYTES, MAX_TOPIC_CAPTURES};
use types::{EntityId, SubjectPattern, Text};

use crate::live::SubjectTrie;

/// What a topic captures of the namespace's subjects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureRule {
    /// The default: the subject that is its name, and those below it (`name` and `name.>`), as far as no other topic captures them by
    /// a pattern or has a longer name that fits. So `orders` and `orders.eu` may both be topics.
    Name(Text),
    /// What these patterns select. Of none: nothing.
    Patterns(Vec<SubjectPattern>),
}

/// Why a topic cannot capture what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// A subject would belong to two topics.
    #[error("`{pattern}` overlaps with `{other_pattern}`, which topic {other} captures")]
    Overlap {
        /// The pattern asked for.
        pattern: SubjectPattern,
        /// Who has the other.
        other: EntityId,
        /// The other.
        other_pattern: SubjectPattern,
    },
    /// Two topics of one name.
    #[error("topic {other} has the name `{name}`")]
    NameTaken {
        /// The name.
        name: Text,
        /// Who has it.
        other: EntityId,
    },
    /// See [`MAX_TOPIC_CAPTURES`].
    #[error("a topic captures at most {MAX_TOPIC_CAPTURES} patterns")]
    TooMany,
}

/// The captures of a namespace.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    rules: HashMap<EntityId, CaptureRule>,
    names: HashMap<Bytes, EntityId>,
    patterns: SubjectTrie<EntityId>,
}

impl Captures {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the topic may capture this. Its own present rule does not stand in its way. Looks at every pattern of the
    /// namespace: for declarations, not for publishes.
    ///
    /// # Errors
    /// See [`CaptureError`].
    pub fn check(&self, topic: EntityId, rule: &CaptureRule) -> Result<(), CaptureError> {
        let patterns = match rule {
            CaptureRule::Name(name) => {
                return match self.names.get(name.bytes()) {
                    Some(other) if *other != topic => {
                        Err(CaptureError::NameTaken { name: name.clone(), other: *other })
                    }
                    _ => Ok(()),
                };
            }
            CaptureRule::Patterns(patterns) if patterns.len() > MAX_TOPIC_CAPTURES => {
                return Err(CaptureError::TooMany);
            }
            CaptureRule::Patterns(patterns) => patterns,
        };
        for (other, rule) in self.rules.iter().filter(|(other, _)| **other != topic) {
            let CaptureRule::Patterns(others) = rule else { continue };
            for (pattern, other_pattern) in patterns.iter().flat_map(|one| others.iter().map(move |other| (one, other)))
            {
                if pattern.overlaps(other_pattern) {
                    let (pattern, other_pattern) = (pattern.clone(), other_pattern.clone());
                    return Err(CaptureError::Overlap { pattern, other: *other, other_pattern });
                }
            }
        }
        Ok(())
    }

    /// Sets what a topic captures, in place of what it did.
    ///
    /// # Errors
    /// As [`check`](Self::check); nothing changed then.
    pub fn declare(&mut self, topic: EntityId, rule: CaptureRule) -> Result<(), CaptureError> {
        self.check(topic, &rule)?;
        self.remove(topic);
        match &rule {
            CaptureRule::Name(name) => drop(self.names.insert(name.bytes().clone(), topic)),
            CaptureRule::Patterns(patterns) => patterns.iter().for_each(|pattern| self.patterns.insert(pattern, topic)),
        }
        self.rules.insert(topic, rule);
        Ok(())
    }

    /// The topic captures nothing any more.
    pub fn remove(&mut self, topic: EntityId) {
        match self.rules.remove(&topic) {
            Some(CaptureRule::Name(name)) => drop(self.names.remove(name.bytes())),
            Some(CaptureRule::Patterns(patterns)) => {
                for pattern in &patterns {
                    self.patterns.remove(pattern, |have| *have == topic);
                }
            }
            None => {}
        }
    }

    /// The topic that captures the subject.
    #[must_use]
    pub fn capture(&self, subject: &[u8]) -> Option<EntityId> {
        let mut found = None;
        self.patterns.find(subject, |topic| {
            found = Some(*topic);
            true
        });
        found.or_else(|| self.by_name(subject))
    }

    /// The topic with the longest name that is the subject or ends before one of its dots.
    fn by_name(&self, subject: &[u8]) -> Option<EntityId> {
        let longest = subject.len().min(MAX_NAME_BYTES);
        (1..=longest)
            .rev()
            .filter(|end| matches!(subject.get(*end), None | Some(b'.')))
            .find_map(|end| self.names.get(subject.get(..end)?).copied())
    }
}
