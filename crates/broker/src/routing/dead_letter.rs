//! Plans for dead letters, which must not go round in a circle.

use std::sync::Arc;

use types::{Message, Now};

use super::Plan;
use crate::definitions::DeadLetterConfig;
use crate::errors::{PublishError, StorageError};
use crate::queues::QueueOwner;
use crate::shared::Shared;

/// What becomes of a dead letter.
pub(crate) enum DeadLetterPlan {
    /// It goes there.
    Ready(Box<Plan>),
    /// Its target is missing, or has no room now.
    Later,
    /// Its target leads only to where it may not go.
    Loops,
    /// Its target is a topic that leads to nothing that keeps it.
    Nowhere,
}

impl Plan {
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
            DeadLetterConfig::Topic { topic, subject } => match namespace.topic(topic) {
                Some(topic) => {
                    if let Some(subject) = subject {
                        message.subject = bytes::Bytes::copy_from_slice(subject.as_bytes());
                    }
                    plan.for_topic(&namespace, &topic, &[message], None)
                }
                None => return Ok(DeadLetterPlan::Later),
            },
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
