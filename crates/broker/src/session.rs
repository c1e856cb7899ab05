//! What one authenticated caller does in one namespace: every operation of the broker, checked and named.

use std::sync::Arc;
use std::time::Duration;

use types::{EntityId, Message, Offset, SubjectPattern};

use crate::broker::Broker;
use crate::consumer::{Consumer, ConsumerOptions};
use crate::definitions::*;
use crate::errors::*;
use crate::live::LiveSubscription;
use crate::queue::{ConsumerRules, Settle};
use crate::receipt::Receipt;
use crate::views::*;

/// One caller in one namespace. Cheap to clone; a protocol's connection holds one.
#[derive(Clone)]
pub struct Session {
    broker: Broker,
}

/// Where a publish goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublishTo {
    /// Through a topic, by its bindings.
    Topic(String),
    /// Straight into a queue.
    Queue(String),
    /// To whatever the message's subject reaches: the topic that captures it, and live subscriptions.
    Subject,
}

/// What a publish asks for besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// Stored only if the version is as expected; for a single message to a topic with a key index and one partition per key.
    pub expect: Option<Expect>,
    /// Idempotent publish.
    pub producer: Option<ProducerStamp>,
    /// This partition of the topic's log rather than the key's.
    pub partition: Option<u32>,
    /// Overrides the durability of the topic or queue.
    pub durability: Option<DurabilityConfig>,
}

/// The version that a conditional publish expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Whether the message's key or its subject names the series.
    pub of: ExpectOf,
    /// The offset of the series' last record; `None` expects that there is none.
    pub version: Option<Offset>,
}

/// What names the series of a conditional publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectOf {
    /// The message's key.
    Key,
    /// The message's subject.
    Subject,
}

/// An idempotent producer's stamp: the same stamp is stored once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer's id, chosen by it.
    pub id: String,
    /// Grows with each instance of the producer; an older one is fenced.
    pub epoch: u32,
    /// Sequence of the first message; the messages of one call are numbered on from it.
    pub sequence: u64,
}

/// How a queue's messages go back to where they came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Redrive {
    /// To this queue; `None` is each message's own source queue.
    pub to: Option<String>,
    /// Messages a second; `None` is as fast as it goes.
    pub rate: Option<f64>,
    /// At most so many; `None` is all that are there now.
    pub max: Option<u64>,
}

/// A receive without a standing consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receive {
    /// At most so many messages.
    pub max: usize,
    /// At most so many bytes; one message is given even if it weighs more.
    pub max_bytes: u64,
    /// How long to wait for the first.
    pub wait: Duration,
    /// Overrides the queue's lease.
    pub lease: Option<Duration>,
    /// Acknowledged as it is handed out.
    pub auto_ack: bool,
}

/// A read of a topic's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which partition.
    pub partition: u32,
    /// From where.
    pub from: ReadFrom,
    /// At most so many records.
    pub max: usize,
    /// At most so many bytes; one record is given even if it weighs more.
    pub max_bytes: usize,
    /// How long to wait for the first.
    pub wait: Duration,
}

/// What a read gave.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadAnswer {
    /// The records.
    pub records: Vec<Record>,
    /// Where to go on.
    pub next: Offset,
    /// The log's next offset.
    pub end: Offset,
}

impl Session {
    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }
    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        todo!()
    }
    /// The user's name; `None` of an anonymous session.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        todo!()
    }

    // Topics -----------------------------------------------------------------------------------------------------
    /// Makes a topic. One that exists with the same definition is fine. (`update`: one with another definition is changed.)
    pub async fn declare_topic(
        &self,
        name: &str,
        config: TopicConfig,
        update: bool,
    ) -> Result<(Declared, TopicInfo), DeclareError> {
        todo!()
    }
    /// Deletes a topic with its log and bindings. (`if_unused`: refused while it has bindings.)
    pub async fn delete_topic(&self, name: &str, if_unused: bool) -> Result<(), DeclareError> {
        todo!()
    }
    /// One topic.
    pub fn topic(&self, name: &str) -> Result<TopicInfo, DeclareError> {
        todo!()
    }
    /// All topics that the user may see, by name.
    pub fn topics(&self) -> Result<Vec<TopicInfo>, DeclareError> {
        todo!()
    }

    // Queues -----------------------------------------------------------------------------------------------------
    /// Makes a queue, and its dead-letter queue if that is missing. As [`declare_topic`](Self::declare_topic).
    pub async fn declare_queue(
        &self,
        name: &str,
        config: QueueConfig,
        update: bool,
    ) -> Result<(Declared, QueueInfo), DeclareError> {
        todo!()
    }
    /// Deletes a queue with its messages and bindings. Gives the number of messages that went with it.
    pub async fn delete_queue(&self, name: &str, if_unused: bool, if_empty: bool) -> Result<u64, DeclareError> {
        todo!()
    }
    /// One queue.
    pub fn queue(&self, name: &str) -> Result<QueueInfo, DeclareError> {
        todo!()
    }
    /// All queues that the user may see, by name.
    pub fn queues(&self) -> Result<Vec<QueueInfo>, DeclareError> {
        todo!()
    }
    /// Removes all messages that wait; gives their number.
    pub async fn purge(&self, queue: &str) -> Result<u64, DeclareError> {
        todo!()
    }

    // Bindings ---------------------------------------------------------------------------------------------------
    /// Makes a binding; the same one again is fine.
    pub async fn bind(&self, config: BindingConfig) -> Result<(Declared, BindingInfo), DeclareError> {
        todo!()
    }
    /// Deletes a binding.
    pub async fn unbind(&self, id: EntityId) -> Result<(), DeclareError> {
        todo!()
    }
    /// Bindings: of a topic, to a target, or all.
    pub fn bindings(
        &self,
        topic: Option<&str>,
        target: Option<&BindingTarget>,
    ) -> Result<Vec<BindingInfo>, DeclareError> {
        todo!()
    }

    // Groups -----------------------------------------------------------------------------------------------------
    /// Makes a group. As [`declare_topic`](Self::declare_topic).
    pub async fn declare_group(
        &self,
        name: &str,
        config: GroupConfig,
        update: bool,
    ) -> Result<(Declared, GroupInfo), DeclareError> {
        todo!()
    }
    /// Deletes a group and its offsets.
    pub async fn delete_group(&self, name: &str) -> Result<(), DeclareError> {
        todo!()
    }
    /// One group.
    pub fn group(&self, name: &str) -> Result<GroupInfo, ReplayError> {
        todo!()
    }
    /// All groups that the user may see, by name.
    pub fn groups(&self) -> Result<Vec<GroupInfo>, ReplayError> {
        todo!()
    }
    /// Joins as a member, or gives a sign of life; gives the group's generation and the member's partitions.
    pub fn join_group(&self, group: &str, member: &str) -> Result<(u64, Vec<u32>), ReplayError> {
        todo!()
    }
    /// Leaves.
    pub fn leave_group(&self, group: &str, member: &str) -> Result<(), ReplayError> {
        todo!()
    }
    /// Reads on from where the group stands on the member's partitions, without moving it. Waits for the first record.
    pub async fn fetch_group(
        &self,
        group: &str,
        member: &str,
        generation: u64,
        max: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, ReplayError> {
        todo!()
    }
    /// Commits the next offsets to read. `member` with its generation, or `None` for a group without members.
    pub async fn commit_group(
        &self,
        group: &str,
        member: Option<(&str, u64)>,
        offsets: &[(u32, Offset)],
    ) -> Result<(), ReplayError> {
        todo!()
    }
    /// Moves a group: one partition or all of them.
    pub async fn seek_group(
        &self,
        group: &str,
        partition: Option<u32>,
        to: ReadFrom,
    ) -> Result<Vec<GroupPartition>, ReplayError> {
        todo!()
    }

    // Policies ---------------------------------------------------------------------------------------------------
    /// Sets a policy.
    pub async fn put_policy(&self, name: &str, config: PolicyConfig) -> Result<Declared, DeclareError> {
        todo!()
    }
    /// Deletes a policy.
    pub async fn delete_policy(&self, name: &str) -> Result<(), DeclareError> {
        todo!()
    }
    /// All policies, by name.
    pub fn policies(&self) -> Result<Vec<PolicyInfo>, DeclareError> {
        todo!()
    }

    // Publishing -------------------------------------------------------------------------------------------------
    /// Publishes messages, all or none. Ready when they are durable.
    pub async fn publish(
        &self,
        to: &PublishTo,
        messages: Vec<Message>,
        options: PublishOptions,
    ) -> Result<Vec<Published>, PublishError> {
        todo!()
    }
    /// Acknowledges a delivery and publishes what it led to, all or none.
    pub async fn ack_and_publish(
        &self,
        receipt: Receipt,
        publishes: Vec<(PublishTo, Vec<Message>)>,
    ) -> Result<Vec<Published>, SettleError> {
        todo!()
    }

    // Consuming --------------------------------------------------------------------------------------------------
    /// Attaches a standing consumer.
    pub fn consume(&self, queue: &str, options: ConsumerOptions) -> Result<Consumer, ConsumeError> {
        todo!()
    }
    /// Takes messages without a standing consumer; leases last on after the call.
    pub async fn receive(&self, queue: &str, receive: Receive) -> Result<Vec<Delivered>, ConsumeError> {
        todo!()
    }
    /// Ends deliveries; ready when that is durable. One answer each, in order.
    pub async fn settle(&self, settlements: Vec<(Receipt, Settle)>) -> Vec<Result<(), SettleError>> {
        todo!()
    }
    /// Makes a lease last `by` from now.
    pub fn extend(&self, receipt: Receipt, by: Duration) -> Result<(), SettleError> {
        todo!()
    }
    /// Looks at a queue's messages from an offset on without taking them; gives where to go on.
    pub fn browse(&self, queue: &str, from: Offset, max: usize) -> Result<(Vec<Browsed>, Offset), ConsumeError> {
        todo!()
    }
    /// Starts moving a dead-letter queue's messages back; one redrive a queue at a time.
    pub fn redrive(&self, queue: &str, redrive: Redrive) -> Result<RedriveInfo, ConsumeError> {
        todo!()
    }
    /// Stops a redrive.
    pub fn stop_redrive(&self, queue: &str) -> Result<RedriveInfo, ConsumeError> {
        todo!()
    }

    // Replay -----------------------------------------------------------------------------------------------------
    /// Reads a topic's log.
    pub async fn read(&self, topic: &str, read: Read) -> Result<ReadAnswer, ReplayError> {
        todo!()
    }
    /// The records of a key, oldest first, at most `max`.
    pub fn read_key(&self, topic: &str, key: &[u8], max: usize) -> Result<Vec<Record>, ReplayError> {
        todo!()
    }
    /// The last record of a key.
    pub fn last_value(&self, topic: &str, key: &[u8]) -> Result<Option<Record>, ReplayError> {
        todo!()
    }

    // Live -------------------------------------------------------------------------------------------------------
    /// Subscribes to what is published from now on; of a group each message reaches one member.
    pub fn subscribe(&self, pattern: SubjectPattern, group: Option<String>) -> Result<LiveSubscription, ConsumeError> {
        todo!()
    }
    /// Asks and waits for one answer.
    pub async fn request(&self, message: Message, deadline: Duration) -> Result<Arc<Message>, RequestError> {
        todo!()
    }
    /// Answers a request: publishes to its reply-to, live.
    pub fn reply(&self, request: &Message, answer: Message) -> Result<(), RequestError> {
        todo!()
    }
}

#[allow(unused)]
fn unused(_: ConsumerRules) {}
