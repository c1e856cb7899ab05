//! Publishing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use log::{Durability, Refusal};
use types::limits::{DEFAULT_MAX_BODY_BYTES, MAX_BODY_BYTES, MAX_PUBLISH_BYTES, MAX_PUBLISH_MESSAGES};
use types::{EntityId, Message, Now};

use super::limits::{check, check_body, within};
use super::stamps::{Stamp, Stamped};
use super::{PublishOptions, PublishTo, Session};
use crate::access::Action;
use crate::errors::{PublishError, StorageError};
use crate::live::is_inbox;
use crate::queues::QueueOwner;
use crate::routing::{Placed, Plan, place};
use crate::state_log::{ProducerRecord, StateRecord};
use crate::topics::Topic;
use crate::transaction::{CommitFailure, Transaction};
use crate::views::Published;

/// How often a publish begins anew because it repeats one that is being written, or because a queue on its way was deleted.
pub(super) const PUBLISH_TRIES: usize = 64;

/// A destination that was found, and may be written to.
pub(super) enum Destination {
    Topic(Arc<Topic>),
    Queue(Arc<QueueOwner>),
    Live,
}

impl Session {
    /// Publishes messages, all or none. Ready when they are durable. Once begun it ends even if nobody waits for it.
    ///
    /// # Errors
    /// See [`PublishError`]; nothing was stored then, but for an unknown end.
    pub async fn publish(
        &self,
        to: &PublishTo,
        messages: Vec<Message>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, PublishError> {
        if self.is_held_back() {
            self.shared().totals.publish_errors.fetch_add(1, Ordering::Relaxed);
            return Err(PublishError::Backpressure);
        }
        self.publish_admitted(to, messages, options).await
    }

    /// As [`publish`](Self::publish), also when the broker is short of memory.
    pub(super) async fn publish_admitted(
        &self,
        to: &PublishTo,
        mut messages: Vec<Message>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, PublishError> {
        let result = self.try_publish(to, &mut messages, options).await;
        let totals = &self.shared().totals;
        match &result {
            Ok(published) => totals.published.fetch_add(published.len() as u64, Ordering::Relaxed),
            Err(_) => totals.publish_errors.fetch_add(1, Ordering::Relaxed),
        };
        result
    }

    async fn try_publish(
        &self,
        to: &PublishTo,
        messages: &mut [Message],
        options: PublishOptions,
    ) -> Result<Vec<Published>, PublishError> {
        let now = self.now();
        self.admit(messages, now)?;
        let end = match &options.expect {
            Some(expect) => self.publish_expecting(to, messages, &options, expect).await,
            None => self.publish_prepared(to, messages, &options, now).await,
        };
        if let Err(PublishError::QueueFull { .. }) = end {
            self.turn_away(std::iter::once((to, &*messages)), &options).await;
        }
        end
    }

    /// Dead-letters what full queues refused for good, where their definitions say so. Whatever becomes of that, the publisher hears that it
    /// was refused.
    pub(super) async fn turn_away(
        &self,
        publishes: impl Iterator<Item = (&PublishTo, &[Message])>,
        options: &PublishOptions,
    ) {
        let (now, options) = (self.now(), PublishOptions { partial: true, ..options.clone() });
        let mut transaction = Transaction::new();
        {
            // Only what has no room by itself. What has some is let go of with the plan.
            let mut plan = Plan::new(self.shared(), now);
            for (to, messages) in publishes {
                if self.plan(&mut plan, to, messages, &options).is_err() {
                    return;
                }
            }
            let turned_away = plan.take_turned_away();
            drop(plan);
            for (queue, message) in turned_away {
                queue.turn_away(self.shared(), &mut transaction, message, now);
            }
        }
        if let Err(failure) = transaction.commit(self.shared()).await {
            tracing::warn!(error = %StorageError::from(failure), "what full queues refused was not dead-lettered");
        }
    }

    /// Publishes messages that were checked and have ids, all or none.
    pub(super) async fn publish_prepared(
        &self,
        to: &PublishTo,
        messages: &[Message],
        options: &PublishOptions,
        mut now: Now,
    ) -> Result<Vec<Published>, PublishError> {
        for _ in 0..PUBLISH_TRIES {
            let (transaction, placed, mut results, stamp) = match self.prepare_commit(to, messages, options, now)? {
                Prepared::Commit(transaction, placed, results, stamp) => (transaction, placed, results, stamp),
                Prepared::Wait => {
                    self.others_ended().await?;
                    now = self.now();
                    continue;
                }
            };
            match self.commit_stamped(transaction, stamp).await {
                Ok(written) => {
                    place(&placed, &written, &mut results);
                    return Ok(results);
                }
                // A queue or topic on the way was deleted meanwhile: without it, perhaps.
                Err(CommitFailure::Refused(Refusal::NoSuchLog(_))) => now = self.now(),
                Err(failure) => return Err(storage(failure)),
            }
        }
        Err(PublishError::Backpressure)
    }

    /// Reserves and encodes all that a publish needs.
    fn prepare_commit(
        &self,
        to: &PublishTo,
        messages: &[Message],
        options: &PublishOptions,
        now: Now,
    ) -> Result<Prepared, PublishError> {
        let mut transaction = Transaction::new();
        let mut plan = Plan::new(self.shared(), now);
        let mut stamp = match self.stamp(to, messages, options, now)? {
            None => None,
            Some(Stamped::New(stamp)) => Some(stamp),
            Some(Stamped::Pending) => return Ok(Prepared::Wait),
            Some(Stamped::Duplicate(published)) => {
                // Confirmed as durably as this one asks for.
                transaction.barrier();
                return Ok(Prepared::Commit(transaction, Vec::new(), published, None));
            }
        };
        self.plan(&mut plan, to, messages, options)?;
        if plan.must_wait() {
            return Ok(Prepared::Wait);
        }
        set_durability(&mut plan, messages, options);
        let (placed, results) = plan.into_transaction(&mut transaction);
        if results.iter().any(|result| result.duplicate) {
            transaction.barrier();
        }
        if let Some(stamp) = &mut stamp {
            stamp.spot = Placed::in_a_row(&placed, messages.len());
            let record = ProducerRecord { name: stamp.name.clone(), batch: stamp.batch, at: now.wall };
            if let Err(error) = stamp.topic.state.record(&mut transaction, &[StateRecord::Producer(record)], now) {
                transaction.cancel(self.shared());
                return Err(error.into());
            }
        }
        Ok(Prepared::Commit(transaction, placed, results, stamp))
    }

    /// Ready when every commit that is under way has ended. What is a duplicate of one of them is not confirmed before it is known
    /// whether that was stored.
    pub(super) async fn others_ended(&self) -> Result<(), PublishError> {
        let mut barrier = Transaction::new();
        barrier.barrier();
        barrier.commit(self.shared()).await.map_err(storage)?;
        // The other one may be about to begin.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Whether publishers are held back for want of memory.
    #[must_use]
    pub fn is_held_back(&self) -> bool {
        self.shared().memory.is_high()
    }

    /// Waits while publishers are held back for want of memory.
    pub async fn memory_ready(&self) {
        self.shared().memory.wait().await;
    }

    /// Checks limits and quotas, and gives ids to messages that have none. Which topic they go through is not for them to say.
    pub(super) fn admit(&self, messages: &mut [Message], now: Now) -> Result<(), PublishError> {
        let (mut bytes, count) = (0, messages.len());
        let config = self.space.config();
        // A topic may allow more than the default; see `plan_for`.
        let max_body = config.quota.max_body_bytes.unwrap_or(MAX_BODY_BYTES as u64);
        for message in &mut *messages {
            check(message, max_body)?;
            message.topic = None;
            bytes += message.weight_bytes();
        }
        within("publish", count, MAX_PUBLISH_MESSAGES, "MAX_PUBLISH_MESSAGES")?;
        within("publish", bytes, MAX_PUBLISH_BYTES, "MAX_PUBLISH_BYTES")?;
        if let Some(value) = config.quota.max_stored_bytes
            && self.space.stored_bytes.load(Ordering::Relaxed) + bytes as u64 > value
        {
            return Err(PublishError::Quota { limit: "max_stored_bytes", value });
        }
        if let Some(value) = config.quota.max_publish_rate
            && !self.space.take_rate(count as u64, value, now.mono)
        {
            return Err(PublishError::Quota { limit: "max_publish_rate", value });
        }
        // What is stored is counted once a second; until then each publish counts as it comes.
        self.space.stored_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.shared().totals.published_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.shared().ids.give(messages, now.wall);
        Ok(())
    }

    /// Adds messages to a plan.
    pub(super) fn plan(
        &self,
        plan: &mut Plan,
        to: &PublishTo,
        messages: &[Message],
        options: &PublishOptions,
    ) -> Result<(), PublishError> {
        plan.partial = options.partial;
        if *to != PublishTo::Subject {
            return self.plan_for(plan, self.destination(to, &Bytes::new())?, messages, options.partition);
        }
        // Runs of messages with the same destination stay together, so that their order does.
        let mut rest = messages;
        while let Some(first) = rest.first() {
            let topic = self.capture(&first.subject);
            let run = rest.iter().take_while(|message| self.capture(&message.subject) == topic).count();
            let (now, later) = rest.split_at(run);
            if topic.is_none() {
                // Each subject is its own place to write to.
                now.iter().try_for_each(|message| {
                    self.may_publish(to, &message.subject)?;
                    message.also.iter().try_for_each(|subject| self.may_publish_live(subject))
                })?;
            }
            self.plan_for(plan, self.destination(to, &first.subject)?, now, options.partition)?;
            rest = later;
        }
        Ok(())
    }

    /// The topic that a subject belongs to. Inboxes belong to none: answers are for who asked.
    pub(super) fn capture(&self, subject: &[u8]) -> Option<EntityId> {
        if is_inbox(subject) {
            return None;
        }
        self.space.entities.read().captures.capture(subject)
    }

    /// Checks that the caller may publish to live subscriptions of a subject.
    fn may_publish_live(&self, subject: &[u8]) -> Result<(), PublishError> {
        match is_inbox(subject) {
            true => self.grants().map(drop)?,
            false => self.may(Action::Write, "subject", &String::from_utf8_lossy(subject))?,
        }
        Ok(())
    }

    /// Checks that the caller may publish there.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub(super) fn may_publish(&self, to: &PublishTo, subject: &Bytes) -> Result<(), PublishError> {
        self.destination(to, subject).map(drop)
    }

    pub(super) fn plan_for(
        &self,
        plan: &mut Plan,
        destination: Destination,
        messages: &[Message],
        partition: Option<u32>,
    ) -> Result<(), PublishError> {
        match destination {
            Destination::Queue(queue) => {
                self.check_bodies(messages)?;
                plan.for_queue(&queue, messages)
            }
            Destination::Topic(topic) => {
                self.may_write_subjects(&topic, messages)?;
                let definition = topic.definition();
                for message in messages {
                    check_body(message, definition.resolved.max_body_bytes, "max_body_bytes of the topic")?;
                }
                plan.for_topic(&self.space, &topic, messages, partition)
            }
            Destination::Live => {
                self.check_bodies(messages)?;
                plan.for_live(&self.space, messages);
                Ok(())
            }
        }
    }

    /// Checks bodies against the namespace's bound.
    pub(super) fn check_bodies(&self, messages: &[Message]) -> Result<(), PublishError> {
        let default = DEFAULT_MAX_BODY_BYTES as u64;
        let bound = self.space.config().quota.max_body_bytes.unwrap_or(default);
        messages.iter().try_for_each(|message| check_body(message, bound, "max_body_bytes"))
    }

    pub(super) fn destination(&self, to: &PublishTo, subject: &Bytes) -> Result<Destination, PublishError> {
        match to {
            PublishTo::Topic(name) => {
                self.may(Action::Write, "topic", name)?;
                public(self.space.topic(name).ok_or_else(|| missing("topic", name))?)
            }
            PublishTo::Queue(name) => {
                match &self.queues_written_as {
                    None => self.may(Action::Write, "queue", name)?,
                    Some((kind, other)) => self.may(Action::Write, kind, other)?,
                }
                self.space.queue(name).map(Destination::Queue).ok_or_else(|| missing("queue", name))
            }
            PublishTo::Subject => {
                let topic = self.capture(subject).and_then(|id| {
                    let entities = self.space.entities.read();
                    entities.topics_by_id.get(&id).cloned()
                });
                match topic {
                    Some(topic) => {
                        self.may(Action::Write, "topic", &topic.name)?;
                        public(topic)
                    }
                    None => {
                        self.may_publish_live(subject)?;
                        Ok(Destination::Live)
                    }
                }
            }
        }
    }
}

/// What a publish comes to before its commit.
enum Prepared {
    /// To be committed.
    Commit(Transaction, Vec<Placed>, Vec<Published>, Option<Stamp>),
    /// It repeats one that is being written.
    Wait,
}

/// A topic that publishers may use.
fn public(topic: Arc<Topic>) -> Result<Destination, PublishError> {
    if topic.definition().config.internal {
        let why = "the topic is internal: only other topics feed it".to_owned();
        return Err(PublishError::Invalid { field: "topic".to_owned(), why });
    }
    Ok(Destination::Topic(topic))
}

pub(super) fn set_durability(plan: &mut Plan, messages: &[Message], options: &PublishOptions) {
    match options.durability {
        Some(durability) => plan.set_durability(durability.into()),
        None if are_transient(messages) => plan.is_transient(),
        None => {}
    }
}

/// What a queue asks for of these messages, unless the publisher does.
pub(super) fn durability_of(messages: &[Message], options: &PublishOptions, queue: &QueueOwner) -> Durability {
    match options.durability {
        Some(durability) => durability.into(),
        None if are_transient(messages) => queue.transient_durability(),
        None => queue.durability(),
    }
}

/// Whether no message need outlive the process. What is written in one commit is as durable as the message that must.
fn are_transient(messages: &[Message]) -> bool {
    messages.iter().all(|message| !message.durable)
}

pub(super) fn missing(kind: &str, name: &str) -> PublishError {
    PublishError::NotFound { entity: format!("{kind} {name:?}") }
}

pub(super) fn storage(failure: CommitFailure) -> PublishError {
    PublishError::Storage(failure.into())
}
