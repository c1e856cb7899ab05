//! Publishing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use log::{Durability, Refusal};
use types::limits::{DEFAULT_MAX_BODY_BYTES, MAX_PUBLISH_BYTES, MAX_PUBLISH_MESSAGES};
use types::{Message, MessageId, Now, Offset, Text};

use super::limits::{check, check_body, within};
use super::{Expect, ExpectOf, PublishOptions, PublishTo, Session};
use crate::access::Action;
use crate::errors::{PublishError, SettleError};
use crate::idempotence::{ProducerBatch, ProducerId, Sequence, SequenceError};
use crate::partition::key_partition;
use crate::queue::Settle;
use crate::queues::{QueueOwner, Settling};
use crate::receipt::Receipt;
use crate::routing::{Placed, Plan, place};
use crate::state_log::{ProducerRecord, StateRecord};
use crate::topics::Topic;
use crate::transaction::{CommitFailure, Transaction};
use crate::views::Published;

/// How often a conditional publish looks again when others append between its look and its commit.
const EXPECT_TRIES: usize = 64;
/// How often a publish begins anew because it repeats one that is being written, or because a queue on its way was deleted.
const PUBLISH_TRIES: usize = 64;

/// A destination that was found, and may be written to.
enum Destination {
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
        let result = self.try_publish(to, messages, options).await;
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
        mut messages: Vec<Message>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, PublishError> {
        let now = self.now();
        self.prepare(&mut messages, now)?;
        if let Some(expect) = &options.expect {
            return self.publish_expecting(to, messages, &options, expect).await;
        }
        for _ in 0..PUBLISH_TRIES {
            let (transaction, placed, mut results, stamp) = match self.prepare_commit(to, &messages, &options)? {
                Prepared::Commit(transaction, placed, results, stamp) => (transaction, placed, results, stamp),
                Prepared::Wait => {
                    self.others_ended().await?;
                    continue;
                }
            };
            match self.commit_stamped(transaction, stamp).await {
                Ok(written) => {
                    place(&placed, &written, &mut results);
                    return Ok(results);
                }
                // A queue or topic on the way was deleted meanwhile: without it, perhaps.
                Err(CommitFailure::Refused(Refusal::NoSuchLog(_))) => {}
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
    ) -> Result<Prepared, PublishError> {
        let now = self.now();
        let mut transaction = Transaction::new();
        let mut plan = Plan::new(self.shared(), now);
        let stamp = match self.stamp(to, messages, options, now)? {
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
        if let Some(durability) = options.durability {
            plan.set_durability(durability.into());
        } else if messages.iter().all(|message| !message.durable) {
            plan.set_durability(Durability::Memory);
        }
        let (placed, results) = plan.into_transaction(&mut transaction);
        if results.iter().any(|result| result.duplicate) {
            transaction.barrier();
        }
        if let Some(stamp) = &stamp {
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
    async fn others_ended(&self) -> Result<(), PublishError> {
        let mut barrier = Transaction::new();
        barrier.barrier();
        barrier.commit(self.shared()).await.map_err(storage)?;
        // The other one may be about to begin.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Acknowledges a delivery and publishes what it led to, all or none.
    ///
    /// # Errors
    /// See [`SettleError`]; the delivery is still out then, unless its lease was the reason.
    pub async fn ack_and_publish(
        &self,
        receipt: Receipt,
        mut publishes: Vec<(PublishTo, Vec<Message>)>,
    ) -> Result<Vec<Published>, SettleError> {
        let failed = |error: PublishError| SettleError::Publish(Box::new(error));
        let queue = self.queue_of(receipt)?;
        self.check_boot(receipt)?;
        for (_, messages) in &mut publishes {
            self.prepare(messages, self.now()).map_err(failed)?;
        }
        for _ in 0..PUBLISH_TRIES {
            let now = self.now();
            let mut plan = Plan::new(self.shared(), now);
            for (to, messages) in &publishes {
                self.plan(&mut plan, to, messages, &PublishOptions::default()).map_err(failed)?;
            }
            if plan.must_wait() {
                drop(plan);
                self.others_ended().await.map_err(failed)?;
                continue;
            }
            let mut transaction = Transaction::new();
            let mut settling = Settling::keeping_deliveries();
            QueueOwner::settle_one(&mut queue.lock(now), 0, receipt.lease, Settle::Ack, &mut settling)?;
            if let Err(error) = queue.settle_into(&mut transaction, settling, now) {
                transaction.cancel(self.shared());
                return Err(error.into());
            }
            let (placed, mut results) = plan.into_transaction(&mut transaction);
            let written = transaction.commit(self.shared()).await;
            queue.lock(self.now()).retire_pull();
            match written {
                Ok(written) => {
                    place(&placed, &written, &mut results);
                    self.shared().totals.published.fetch_add(results.len() as u64, Ordering::Relaxed);
                    return Ok(results);
                }
                Err(CommitFailure::Refused(Refusal::NoSuchLog(_))) if !queue.is_deleted() => {}
                Err(failure) => return Err(SettleError::Storage(failure.into())),
            }
        }
        Err(failed(PublishError::Backpressure))
    }

    /// Waits while publishers are held back for want of memory.
    pub async fn memory_ready(&self) {
        self.shared().memory.wait().await;
    }

    /// Checks limits and quotas, and gives ids to messages that have none.
    fn prepare(&self, messages: &mut [Message], now: Now) -> Result<(), PublishError> {
        if self.shared().memory.is_high() {
            return Err(PublishError::Backpressure);
        }
        let (mut bytes, count) = (0, messages.len());
        let config = self.space.config();
        let max_body = config.quota.max_body_bytes.unwrap_or(DEFAULT_MAX_BODY_BYTES as u64);
        for message in &*messages {
            check(message, max_body)?;
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
        self.shared().totals.published_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        give_ids(messages);
        Ok(())
    }

    /// Adds messages to a plan.
    fn plan(
        &self,
        plan: &mut Plan,
        to: &PublishTo,
        messages: &[Message],
        options: &PublishOptions,
    ) -> Result<(), PublishError> {
        if *to != PublishTo::Subject {
            return self.plan_for(plan, self.destination(to, &Bytes::new())?, messages, options.partition);
        }
        // Runs of messages with the same destination stay together, so that their order does.
        let mut rest = messages;
        while let Some(first) = rest.first() {
            let capture = |message: &Message| self.space.entities.read().captures.capture(&message.subject);
            let topic = capture(first);
            let run = rest.iter().take_while(|message| capture(message) == topic).count();
            let (now, later) = rest.split_at(run);
            self.plan_for(plan, self.destination(to, &first.subject)?, now, options.partition)?;
            rest = later;
        }
        Ok(())
    }

    fn plan_for(
        &self,
        plan: &mut Plan,
        destination: Destination,
        messages: &[Message],
        partition: Option<u32>,
    ) -> Result<(), PublishError> {
        match destination {
            Destination::Queue(queue) => plan.for_queue(&queue, messages),
            Destination::Topic(topic) => {
                let definition = topic.definition();
                for message in messages {
                    check_body(message, definition.resolved.max_body_bytes, "max_body_bytes of the topic")?;
                }
                plan.for_topic(&self.space, &topic, messages, partition)
            }
            Destination::Live => {
                plan.for_live(&self.space, messages);
                Ok(())
            }
        }
    }

    fn destination(&self, to: &PublishTo, subject: &Bytes) -> Result<Destination, PublishError> {
        match to {
            PublishTo::Topic(name) => {
                self.may(Action::Write, "topic", name)?;
                let topic = self.space.topic(name).ok_or_else(|| missing("topic", name))?;
                if topic.definition().config.internal {
                    let why = "the topic is internal: only other topics feed it".to_owned();
                    return Err(PublishError::Invalid { field: "topic".to_owned(), why });
                }
                Ok(Destination::Topic(topic))
            }
            PublishTo::Queue(name) => {
                self.may(Action::Write, "queue", name)?;
                self.space.queue(name).map(Destination::Queue).ok_or_else(|| missing("queue", name))
            }
            PublishTo::Subject => {
                let entities = self.space.entities.read();
                let topic = entities.captures.capture(subject).and_then(|id| entities.topics_by_id.get(&id)).cloned();
                drop(entities);
                match topic {
                    Some(topic) => {
                        self.may(Action::Write, "topic", &topic.name)?;
                        Ok(Destination::Topic(topic))
                    }
                    None => {
                        self.may(Action::Write, "subject", &String::from_utf8_lossy(subject))?;
                        Ok(Destination::Live)
                    }
                }
            }
        }
    }

    async fn publish_expecting(
        &self,
        to: &PublishTo,
        messages: Vec<Message>,
        options: &PublishOptions,
        expect: &Expect,
    ) -> Result<Vec<Published>, PublishError> {
        let invalid = |why: &str| PublishError::Invalid { field: "expect".to_owned(), why: why.to_owned() };
        let [message] = messages.as_slice() else {
            return Err(invalid("a conditional publish has exactly one message"));
        };
        let Destination::Topic(topic) = self.destination(to, &message.subject)? else {
            return Err(invalid("only a topic with a log and a key index has versions"));
        };
        if !topic.definition().config.key_index {
            return Err(invalid("the topic keeps no key index; create it with `key_index`"));
        }
        let series = match (expect.of, &message.key) {
            (ExpectOf::Key, Some(key)) => key,
            (ExpectOf::Subject, None) if !message.subject.is_empty() => &message.subject,
            (ExpectOf::Key, None) => return Err(invalid("the message has no key")),
            (ExpectOf::Subject, None) => return Err(invalid("the message has no subject")),
            (ExpectOf::Subject, Some(_)) => {
                return Err(invalid("a message with a key is versioned by its key, not by its subject"));
            }
        };
        let partitions = topic.partitions();
        let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        let by_key = || std::num::NonZeroU32::new(count).map_or(0, |count| key_partition(series, count));
        let number = options.partition.unwrap_or_else(by_key);
        let Some(owned) = partitions.get(number as usize) else {
            return Err(missing("partition", &number.to_string()));
        };
        for _ in 0..EXPECT_TRIES {
            let appended = topic.wait();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let state = self.shared().log.state(owned.log).map_err(read_failure)?;
            let actual = self.shared().log.key(owned.log, series).map_err(read_failure)?.map(|key| key.last);
            if actual != expect.version {
                return Err(PublishError::WrongVersion { actual });
            }
            let mut plan = Plan::new(self.shared(), self.now());
            self.plan_for(&mut plan, Destination::Topic(Arc::clone(&topic)), &messages, Some(number))?;
            plan.expect_end(state.end);
            let mut transaction = Transaction::new();
            let (placed, mut results) = plan.into_transaction(&mut transaction);
            match transaction.commit(self.shared()).await {
                Ok(written) => {
                    place(&placed, &written, &mut results);
                    return Ok(results);
                }
                // Somebody appended, or is about to: look again once that is there.
                Err(CommitFailure::Refused(Refusal::WrongEnd { .. })) => {
                    let _ = tokio::time::timeout(std::time::Duration::from_millis(100), appended).await;
                }
                Err(failure) => return Err(storage(failure)),
            }
        }
        Err(PublishError::Backpressure)
    }

    /// Looks at a producer's stamp.
    fn stamp(
        &self,
        to: &PublishTo,
        messages: &[Message],
        options: &PublishOptions,
        now: Now,
    ) -> Result<Option<Stamped>, PublishError> {
        let Some(stamp) = &options.producer else { return Ok(None) };
        let invalid = |why: &str| PublishError::Invalid { field: "producer".to_owned(), why: why.to_owned() };
        let Destination::Topic(topic) = self.destination(to, messages.first().map_or(&Bytes::new(), |m| &m.subject))?
        else {
            return Err(invalid("idempotent producers publish to a topic; use a dedup id for a queue"));
        };
        types::check_name(&stamp.id).map_err(|error| invalid(&error.to_string()))?;
        let batch = ProducerBatch {
            epoch: stamp.epoch,
            first_sequence: u32::try_from(stamp.sequence).map_err(|_| invalid("sequence numbers are below 2^31"))?,
            messages: u32::try_from(messages.len()).unwrap_or(u32::MAX),
        };
        let name = Text::from(stamp.id.as_str());
        let verdict = topic.producers.lock().begin(now, &ProducerId::Name(name.clone()), batch);
        Ok(Some(match verdict.map_err(sequence)? {
            Sequence::Duplicate { .. } => Stamped::Duplicate(duplicates(messages)),
            Sequence::Pending => Stamped::Pending,
            Sequence::New => Stamped::New(Stamp { topic, name, batch, done: false }),
        }))
    }

    async fn commit_stamped(
        &self,
        transaction: Transaction,
        stamp: Option<Stamp>,
    ) -> Result<Vec<log::Written>, CommitFailure> {
        let Some(mut stamp) = stamp else { return transaction.commit(self.shared()).await };
        let now = self.now();
        let (send, receive) = tokio::sync::oneshot::channel();
        // The end is taken up even if nobody waits, or the producer could never go on.
        transaction.submit(self.shared(), move |result| {
            if result.is_ok() {
                stamp.confirm(now);
            }
            drop(stamp);
            drop(send.send(result));
        });
        receive.await.unwrap_or_else(|_| Err(CommitFailure::Unknown("the storage stopped".to_owned())))
    }
}

/// What a publish comes to before its commit.
enum Prepared {
    /// To be committed.
    Commit(Transaction, Vec<Placed>, Vec<Published>, Option<Stamp>),
    /// It repeats one that is being written.
    Wait,
}

/// What a producer's stamp says.
enum Stamped {
    New(Stamp),
    /// The first one is being written.
    Pending,
    Duplicate(Vec<Published>),
}

/// A stamp that is being written. Dropped without a confirmation, it is taken back.
struct Stamp {
    topic: Arc<Topic>,
    name: Text,
    batch: ProducerBatch,
    done: bool,
}

impl Stamp {
    fn confirm(&mut self, now: Now) {
        let producer = ProducerId::Name(self.name.clone());
        self.topic.producers.lock().confirm(now, &producer, self.batch, Offset::ZERO);
        self.done = true;
    }
}

impl Drop for Stamp {
    fn drop(&mut self) {
        if !self.done {
            self.topic.producers.lock().cancel(&ProducerId::Name(self.name.clone()), self.batch);
        }
    }
}

fn sequence(error: SequenceError) -> PublishError {
    match error {
        SequenceError::OutOfSequence { expected, found } => {
            PublishError::OutOfSequence { got: u64::from(found), expected: u64::from(expected) }
        }
        SequenceError::Fenced { present, .. } => PublishError::Fenced { current: present },
        SequenceError::TooManyProducers | SequenceError::TooManyPending => PublishError::Backpressure,
        error => PublishError::Invalid { field: "producer".to_owned(), why: error.to_string() },
    }
}

fn duplicates(messages: &[Message]) -> Vec<Published> {
    let id = |message: &Message| message.id.clone().unwrap_or(MessageId::Uuid([0; 16]));
    messages
        .iter()
        .map(|message| Published { id: id(message), queues: 0, position: None, duplicate: true, live: 0 })
        .collect()
}

/// Gives ids to messages that have none: UUIDs of version 7 that follow each other.
fn give_ids(messages: &mut [Message]) {
    let mut next = None;
    for message in messages.iter_mut().filter(|message| message.id.is_none()) {
        let number = next.unwrap_or_else(|| uuid::Uuid::now_v7().as_u128());
        message.id = Some(MessageId::Uuid(number.to_be_bytes()));
        // The low 62 bits are random; a run of a publish's length hardly ever carries out of them.
        next = Some((number & !0x3fff_ffff_ffff_ffff) | (number.wrapping_add(1) & 0x3fff_ffff_ffff_ffff));
    }
}

fn missing(kind: &str, name: &str) -> PublishError {
    PublishError::NotFound { entity: format!("{kind} {name:?}") }
}

fn storage(failure: CommitFailure) -> PublishError {
    PublishError::Storage(failure.into())
}

fn read_failure(error: log::ReadError) -> PublishError {
    PublishError::Storage(crate::errors::StorageError::Damaged(error.to_string()))
}
