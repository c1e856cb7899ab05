//! Plans for dead letters, which must not go round in a circle.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use types::{Message, Now};

use super::Plan;
use crate::definitions::DeadLetterConfig;
use crate::errors::{PublishError, StorageError};
use crate::queues::QueueOwner;
use crate::shared::{Namespace, Shared};

/// What becomes of a dead letter.
pub(crate) enum DeadLetterPlan {
    /// It goes there.
    Ready(Box<Plan>),
    /// Its target is missing, or has no room now.
    Later,
    /// Its target leads only to where it may not go.
    Loops,
    /// Its target leads to nothing that keeps it.
    Nowhere,
}

impl Plan {
    /// Adds a message for the queues that its subjects name, each once.
    fn for_named(&mut self, namespace: &Namespace, message: Message) -> Result<(), PublishError> {
        let subjects = std::iter::once(&message.subject).chain(&message.also);
        let names: BTreeSet<&str> = subjects.filter_map(|subject| std::str::from_utf8(subject).ok()).collect();
        for name in names {
            let Some(queue) = namespace.queue(name) else { continue };
            if self.avoid.iter().any(|avoid| avoid == name) {
                self.avoided = true;
            } else {
                self.for_queue(&queue, std::slice::from_ref(&message))?;
            }
        }
        Ok(())
    }

    /// A plan for a dead letter, which may not go to a queue of these names.
    ///
    /// # Errors
    /// If the message cannot be encoded.
    pub(crate) fn dead_letter(
        shared: &Arc<Shared>,
        source: &QueueOwner,
        target: &DeadLetterConfig,
        mut message: Message,
        avoid: &[String],
        now: Now,
    ) -> Result<DeadLetterPlan, StorageError> {
        let Some(namespace) = shared.namespace_by_id(source.namespace) else { return Ok(DeadLetterPlan::Later) };
        let mut plan = Self::new(shared, now);
        plan.avoid = avoid.to_vec();
        message.dedup_id = None;
        let result = match target {
            DeadLetterConfig::None => return Ok(DeadLetterPlan::Later),
            DeadLetterConfig::Queue(name) if avoid.contains(name) => return Ok(DeadLetterPlan::Loops),
            DeadLetterConfig::Queue(name) => match namespace.queue(name) {
                Some(queue) => plan.for_queue(&queue, &[message]),
                None => return Ok(DeadLetterPlan::Later),
            },
            DeadLetterConfig::Topic { topic, subject, or_drop } => match namespace.topic(topic) {
                Some(topic) => {
                    readdress(&mut message, subject.as_deref());
                    plan.for_topic(&namespace, &topic, &[message], None)
                }
                None if *or_drop => return Ok(DeadLetterPlan::Nowhere),
                None => return Ok(DeadLetterPlan::Later),
            },
            DeadLetterConfig::Named { subject, .. } => {
                message.topic = None;
                readdress(&mut message, subject.as_deref());
                plan.for_named(&namespace, message)
            }
        };
        match result {
            Ok(()) if plan.queues.is_empty() && plan.topics.is_empty() => {
                Ok(if plan.avoided { DeadLetterPlan::Loops } else { DeadLetterPlan::Nowhere })
            }
            Ok(()) => Ok(DeadLetterPlan::Ready(Box::new(plan))),
            Err(PublishError::QueueFull { .. } | PublishError::DedupFull { .. }) => Ok(DeadLetterPlan::Later),
            Err(PublishError::Storage(error)) => Err(error),
            Err(error) => Err(StorageError::Unavailable(error.to_string())),
        }
    }
}

/// Under a subject of the target's own it takes that way alone.
fn readdress(message: &mut Message, subject: Option<&str>) {
    if let Some(subject) = subject {
        message.subject = Bytes::copy_from_slice(subject.as_bytes());
        message.also.clear();
    }
}
