//! Router kinds: what the bindings of a topic may filter on.

use types::limits::MAX_BINDING_WEIGHT;
use types::{Filter, Text};

/// What the bindings of a topic may filter on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouterKind {
    /// Anything.
    #[default]
    Any,
    /// One subject a binding. (AMQP's direct exchange.)
    Exact,
    /// Nothing: every binding takes every message. (AMQP's fanout exchange.)
    Fanout,
    /// The subject, by patterns. (AMQP's topic exchange.)
    Subject,
    /// Headers, any or all. (AMQP's headers exchange.)
    Headers,
    /// Attribute tests. (SNS topics, event buses.)
    Attribute,
    /// Nothing: each message goes to one binding, chosen by a hash, so that equal ones go the same way, and few change their way
    /// when a binding comes or goes. (RabbitMQ's consistent hash exchange.)
    ConsistentHash(HashOn),
}

/// What the hash is taken of. A message that does not have it goes where the empty text goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The subject.
    Subject,
    /// The key, or the subject of a message without one.
    Key,
    /// The first value of this header.
    Header(Text),
    /// The message's id.
    MessageId,
    /// The correlation id.
    CorrelationId,
    /// The producer's timestamp.
    Timestamp,
}

/// Why a binding does not fit its topic's router.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KindError {
    /// The kind restricts filters.
    #[error("bindings of this topic {allowed}")]
    NotAllowed {
        /// What they may do, in words.
        allowed: &'static str,
    },
    /// See [`MAX_BINDING_WEIGHT`].
    #[error("a binding weighs at most {MAX_BINDING_WEIGHT}")]
    TooHeavy,
}

/// Whether a binding with this filter (validated before) and weight may stand on a topic of this kind.
///
/// # Errors
/// See [`KindError`].
pub fn check(kind: &RouterKind, filter: &Filter, weight: u32) -> Result<(), KindError> {
    let subject = |filter: &Filter| matches!(filter, Filter::All | Filter::SubjectExact(_) | Filter::Subject(_));
    let (fits, allowed) = match kind {
        RouterKind::Any => (true, ""),
        RouterKind::Exact => {
            let exact = match filter {
                Filter::SubjectExact(_) => true,
                Filter::Subject(pattern) => pattern.is_literal(),
                _ => false,
            };
            (exact, "name one subject")
        }
        RouterKind::Fanout => (*filter == Filter::All, "have no filter: each takes every message"),
        RouterKind::Subject => (subject(filter), "filter on the subject"),
        RouterKind::Headers => (matches!(filter, Filter::All | Filter::Headers { .. }), "filter on headers"),
        RouterKind::Attribute => (only_attributes(filter), "filter by attribute tests"),
        RouterKind::ConsistentHash(_) if weight > MAX_BINDING_WEIGHT => return Err(KindError::TooHeavy),
        RouterKind::ConsistentHash(_) => (*filter == Filter::All, "have no filter: a hash chooses one of them"),
    };
    if fits { Ok(()) } else { Err(KindError::NotAllowed { allowed }) }
}

fn only_attributes(filter: &Filter) -> bool {
    match filter {
        Filter::All | Filter::Attribute { .. } => true,
        Filter::And(filters) | Filter::Or(filters) => filters.iter().all(only_attributes),
        Filter::Not(filter) => only_attributes(filter),
        Filter::SubjectExact(_) | Filter::Subject(_) | Filter::Headers { .. } => false,
    }
}
