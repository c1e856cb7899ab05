//! What the caller may do, for a protocol that asks before it acts, and the checks that speak of subjects.

use std::sync::Arc;

use types::{Filter, Message, Word};

use super::Session;
use crate::access::Action;
use crate::definitions::RouterConfig;
use crate::errors::AccessError;
use crate::topics::Topic;

/// What a binding without a filter is checked as.
const EVERYTHING: &[u8] = b"#";

impl Session {
    /// This session for a client that has told its id, which the patterns of subjects may speak of as `{client_id}`.
    #[must_use]
    pub fn with_client_id(mut self, client_id: &str) -> Self {
        self.client_id = Some(client_id.into());
        self.grants = Arc::default();
        self
    }

    /// This session for a protocol in which a publish straight into a queue goes by way of something that has a name and permissions of
    /// its own: the permission to write to that name is asked for instead of the queue's.
    #[must_use]
    pub fn writing_to_queues_as(mut self, kind: &'static str, name: &str) -> Self {
        self.queues_written_as = Some((kind, name.into()));
        self
    }

    /// Whether the caller may do anything at all here.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub(crate) fn may_enter(&self) -> Result<(), AccessError> {
        self.grants().map(drop)
    }

    /// Checks that the caller may create, change and delete what has this name, whether or not it is there. `kind` is the word for it in
    /// the error, such as `queue`.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn may_configure(&self, kind: &str, name: &str) -> Result<(), AccessError> {
        self.may(Action::Configure, kind, name)
    }

    /// As [`may_configure`](Self::may_configure), for publishing and binding to it.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn may_write(&self, kind: &str, name: &str) -> Result<(), AccessError> {
        self.may(Action::Write, kind, name)
    }

    /// As [`may_configure`](Self::may_configure), for consuming, reading and binding from it.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn may_read(&self, kind: &str, name: &str) -> Result<(), AccessError> {
        self.may(Action::Read, kind, name)
    }

    /// Checks that no restriction on the topic's subjects keeps the caller from publishing this one. [`may_write`](Self::may_write) is
    /// asked besides.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn may_write_subject(&self, topic: &str, subject: &[u8]) -> Result<(), AccessError> {
        self.may_subject(Action::Write, topic, subject)
    }

    /// As [`may_write_subject`](Self::may_write_subject), for binding with this subject pattern, as it is written.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn may_read_subject(&self, topic: &str, pattern: &[u8]) -> Result<(), AccessError> {
        self.may_subject(Action::Read, topic, pattern)
    }

    fn may_subject(&self, action: Action, topic: &str, subject: &[u8]) -> Result<(), AccessError> {
        let grants = self.grants()?;
        match grants.subjects_of(topic) {
            Some(subjects) if self.space.topic(topic).is_some_and(|topic| by_subject(&topic)) => {
                subjects.require(action, subject)
            }
            _ => Ok(()),
        }
    }

    /// Checks that the caller may publish messages of these subjects through a topic.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub(super) fn may_write_subjects(&self, topic: &Topic, messages: &[Message]) -> Result<(), AccessError> {
        let grants = self.grants()?;
        let Some(subjects) = grants.subjects_of(&topic.name) else { return Ok(()) };
        if !by_subject(topic) {
            return Ok(());
        }
        messages.iter().flat_map(subjects_of).try_for_each(|subject| subjects.require(Action::Write, subject))
    }

    /// Checks that the caller may bind from a topic with this filter.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub(super) fn may_bind_with(&self, topic: &str, filter: &Filter) -> Result<(), AccessError> {
        // Bindings of a topic that routes by subject have no other filters than these.
        match filter {
            Filter::All => self.may_read_subject(topic, EVERYTHING),
            Filter::SubjectExact(subject) => self.may_read_subject(topic, subject),
            Filter::Subject(pattern) => self.may_read_subject(topic, &written(pattern.words())),
            _ => Ok(()),
        }
    }
}

/// All subjects under which a message is routed. IMPORTANT: whatever else comes to route a message belongs here too, or it would pass
/// where it is not permitted.
fn subjects_of(message: &Message) -> impl Iterator<Item = &[u8]> {
    std::iter::once(&*message.subject).chain(message.also.iter().map(|subject| &**subject))
}

/// Whether restrictions on subjects are about this topic: elsewhere a subject does not say who gets a message.
fn by_subject(topic: &Topic) -> bool {
    topic.definition().config.router == RouterConfig::Subject
}

/// A pattern as clients write it. A literal word that reads as a wildcard is not marked: the patterns of permissions speak of plain text.
fn written(words: &[Word]) -> Vec<u8> {
    let word = |word: &Word| match word {
        Word::Literal(bytes) => bytes.to_vec(),
        Word::One => b"*".to_vec(),
        Word::Any => b"#".to_vec(),
        Word::Rest => b">".to_vec(),
    };
    words.iter().map(word).collect::<Vec<_>>().join(&b'.')
}
