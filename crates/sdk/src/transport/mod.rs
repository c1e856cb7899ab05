//! What carries messages: one trait, with capabilities that each transport declares.
//!
//! A [`Transport`] is a broker as a service sees it. It says what it can do in its [`Capabilities`]; what it lacks, the SDK supplies on
//! top of the rest (retries by publishing again with a delay, dead letters by publishing to `<queue>.dlq`), or refuses when the
//! service starts, by name. It never pretends.
//!
//! The trait has room for a log with offsets and no acknowledgement of single messages ([`Settlement::Cumulative`]), and for a queue
//! without replay ([`Support::No`]).

#[cfg(feature = "amqp")]
pub mod amqp;
mod capabilities;
pub(crate) mod nowhere;
#[cfg(all(test, any(feature = "conformance", feature = "testkit")))]
pub(crate) mod paper;
#[cfg(feature = "posthouse")]
pub mod posthouse;
mod topology;

use std::fmt;
use std::time::Duration;

use futures_util::future::BoxFuture;
use types::Timestamp;

pub use self::capabilities::{Capabilities, Settlement, Support};
pub use self::topology::{
    BindingSpec, ConflictPolicy, QueueSpec, RetentionSpec, RetrySpec, TopicSpec, Topology, dead_letter_queue,
};
use crate::Envelope;

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Destination {
    /// Through this topic, by its bindings.
    Topic(String),
    /// Straight into this queue.
    Queue(String),
    /// To whoever listens to the message's subject in this moment ([`Transport::listen`]). Nothing keeps it; but where a broker's topics capture
    /// subjects (Posthouse: by default a topic's own name and all below it), the topic that captures this one gets it too. Subjects of requests
    /// are therefore not below the name of a topic.
    Live,
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Where to.
    pub to: Destination,
    /// What. Its id is set; a delay is its `not_before`.
    pub message: Envelope,
}

/// What became of a published message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Published {
    /// Whether anything has it: a queue, a log or a listener. `None` if the transport does not tell.
    pub routed: Option<bool>,
    /// It was published before, and was not stored again.
    pub duplicate: bool,
    /// Where it is in the topic's log, if there is one and the transport tells.
    pub position: Option<Position>,
}

/// A place in a topic's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Which of the topic's partitions.
    pub partition: u32,
    /// The record in it.
    pub offset: u64,
}

/// Which version of a series a conditional publish expects. The series is that of the messages' key, which all of them share; its version
/// is the offset of its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// There is no record of this key yet.
    Nothing,
    /// The last record of this key is at this offset.
    Version(u64),
}

/// Where a reading of a topic's log begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartAt {
    /// At the oldest record.
    Earliest,
    /// Behind the newest.
    Latest,
    /// At the first record of this time or later.
    Time(Timestamp),
    /// At the next offset of each partition; a partition that is not in the list begins at its oldest record.
    Positions(Vec<Position>),
}

/// A record of a topic's log.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Where it is.
    pub position: Position,
    /// The message.
    pub message: Envelope,
}

/// A message handed to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What the consumer settles it by.
    pub tag: u64,
    /// The message.
    pub message: Envelope,
    /// 1 for the first attempt, as far as the transport counts.
    pub attempt: u32,
    /// It may have been seen before.
    pub redelivered: bool,
}

/// How a delivery ends.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Settle {
    /// Done.
    Ack,
    /// Failed: comes again as the queue's retry policy says, or after this time. Only where [`Capabilities::retry`] is of the broker.
    Retry {
        /// Instead of the policy's wait.
        after: Option<Duration>,
        /// What went wrong.
        error: String,
    },
    /// Failed for good: goes to the dead-letter queue. Only where [`Capabilities::dead_letter`] is of the broker.
    DeadLetter {
        /// What went wrong.
        reason: String,
    },
    /// Not tried: back to the queue, and no attempt counted where the transport counts.
    Release,
}

/// A standing consumer of a queue.
#[derive(Clone, Debug)]
pub struct Consume {
    /// The queue.
    pub queue: String,
    /// Shown to people who look at the queue.
    pub name: String,
    /// Deliveries that may be unsettled at a time.
    pub credit: u32,
    /// How long a delivery may stay unsettled; the queue's own setting if `None`.
    pub lease: Option<Duration>,
}

/// Takes deliveries of a queue. It reconnects by itself: an error that it gives is one that waiting does not heal. When it is dropped, what it
/// was handed and has not settled goes back to the queue, whoever has its settler still; to settle to the end, [`stop`](Self::stop) it first.
pub trait Consumer: Send {
    /// The next deliveries, at least one; `None` once it was stopped and all was handed out.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<Delivery>>, TransportError>>;

    /// What settles its deliveries, from wherever.
    fn settler(&self) -> std::sync::Arc<dyn Settler>;

    /// Takes no more deliveries. What is out can still be settled; what waits to be handed out goes back to the queue.
    fn stop(&mut self);
}

/// Settles the deliveries of one consumer.
///
/// Tags of deliveries that are no longer this consumer's (the connection was lost, the lease ran out) are passed over and counted by the
/// transport's log line: the message comes again, and nothing that a handler could do would change that.
pub trait Settler: Send + Sync {
    /// Ends deliveries. Returns at once; the transport sends it in the background, in order. [`flush`](Self::flush) waits.
    fn settle(&self, settlements: Vec<(u64, Settle)>);

    /// Publishes messages and acknowledges the delivery, all or none, where [`Capabilities::ack_and_publish`] is of the broker. Ready when
    /// that is durable.
    fn ack_and_publish(&self, tag: u64, messages: Vec<Outgoing>) -> BoxFuture<'_, Result<(), PublishError>>;

    /// More time for a delivery whose lease would run out, where the transport has leases; nothing otherwise.
    fn extend(&self, tag: u64, by: Duration);

    /// Ready once everything given to [`settle`](Self::settle) so far has reached the broker, or never will.
    fn flush(&self) -> BoxFuture<'_, ()>;
}

/// Hears what is published live.
pub trait Listener: Send {
    /// The next message; `None` after the transport was closed. It subscribes again by itself after a lost connection; what was published
    /// in between is not heard.
    fn next(&mut self) -> BoxFuture<'_, Option<Envelope>>;
}

/// A place for answers, of this process alone.
pub trait Inbox: Send {
    /// What goes into a request's `reply_to`: the same for as long as the inbox lives, also after a lost connection.
    fn address(&self) -> String;
    /// The next answer; `None` after the transport was closed.
    fn next(&mut self) -> BoxFuture<'_, Option<Envelope>>;
}

/// Reads a topic's log.
pub trait Reader: Send {
    /// The next records, in order within each partition; `None` at the end of what was there when the reading began, unless it follows.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<Record>>, TransportError>>;
}

/// Whether a transport has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// It has.
    Up,
    /// It has not, and tries again by itself.
    Down,
    /// It was closed by its user.
    Closed,
}

/// A broker, as a service sees it. See the [module](self).
///
/// Every future, those of [`Consumer::next`], [`Listener::next`], [`Inbox::next`] and [`Reader::next`] among them, may be dropped at any time without
/// losing anything; what a dropped publish was about is then not known.
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Its name, as in the capabilities table and in errors: `posthouse`, `amqp`, ...
    fn name(&self) -> &'static str;

    /// The `messaging.system` of OpenTelemetry's conventions: `posthouse`, `rabbitmq`, ...
    fn system(&self) -> &'static str;

    /// What it can do.
    fn capabilities(&self) -> &Capabilities;

    /// The time of this transport: the machine's, but for a test's broker with a clock that is moved by hand.
    fn now(&self) -> Timestamp;

    /// Waits until this transport's clock is so much further; as [`now`](Self::now), real time but in tests.
    fn sleep(&self, time: Duration) -> BoxFuture<'static, ()>;

    /// Whether it is connected, and a way to wait for a change.
    fn connection(&self) -> tokio::sync::watch::Receiver<Connection>;

    /// Makes what is missing of this topology, and brings what is there up to it where [`ConflictPolicy`] says so.
    fn declare<'a>(&'a self, topology: &'a Topology) -> BoxFuture<'a, Result<(), TransportError>>;

    /// Publishes messages; each stands for itself. One answer for each, in order, once it is as durable as the broker promises. It waits
    /// out a lost connection, up to the configured time, and publishes again with the same ids.
    fn publish(&self, messages: Vec<Outgoing>) -> BoxFuture<'_, Vec<Result<Published, PublishError>>>;

    /// Publishes messages of one key to one topic, all or none, if the key's version is as expected. Needs
    /// [`Capabilities::expected_version`].
    fn publish_expecting(
        &self,
        topic: &str,
        messages: Vec<Envelope>,
        expected: Expected,
    ) -> BoxFuture<'_, Result<Vec<Published>, PublishError>>;

    /// Starts a standing consumer. Ready when the broker knows it.
    fn consume(&self, consume: Consume) -> BoxFuture<'_, Result<Box<dyn Consumer>, TransportError>>;

    /// Hears what is published to a subject pattern (`*` is one word, `#` any number) from now on. Of the listeners of one group each
    /// message reaches one. Ready when the broker knows it. Needs [`Capabilities::live`].
    fn listen(&self, pattern: &str, group: Option<&str>) -> BoxFuture<'_, Result<Box<dyn Listener>, TransportError>>;

    /// A new place for answers. Needs [`Capabilities::live`].
    fn open_inbox(&self) -> BoxFuture<'_, Result<Box<dyn Inbox>, TransportError>>;

    /// Sends an answer to a request's `reply_to`. Nobody may wait for it any more, which is no error.
    fn answer(&self, reply_to: &str, answer: Envelope) -> BoxFuture<'_, Result<(), PublishError>>;

    /// Reads a topic's log; with `follow` on and on. Needs [`Capabilities::replay`].
    fn read(&self, topic: &str, from: StartAt, follow: bool) -> BoxFuture<'_, Result<Box<dyn Reader>, TransportError>>;

    /// Records of one key, oldest first, from this offset on; at most `max`. Fewer than `max` are all there are. Needs
    /// [`Capabilities::key_index`].
    fn read_key(
        &self,
        topic: &str,
        key: &[u8],
        from: u64,
        max: u32,
    ) -> BoxFuture<'_, Result<Vec<Record>, TransportError>>;

    /// The last record of a key. Needs [`Capabilities::key_index`].
    fn last_of_key(&self, topic: &str, key: &[u8]) -> BoxFuture<'_, Result<Option<Record>, TransportError>>;

    /// The offsets that were committed under this name: where reading goes on. Needs [`Capabilities::replay`].
    fn committed(&self, topic: &str, name: &str) -> BoxFuture<'_, Result<Vec<Position>, TransportError>>;

    /// Commits offsets under this name. Needs [`Capabilities::replay`].
    fn commit(&self, topic: &str, name: &str, next: Vec<Position>) -> BoxFuture<'_, Result<(), TransportError>>;

    /// How many messages wait in a queue, those that are out with consumers and those that wait for their time among them; without
    /// [`Capabilities::browse`] only those that are ready, since such a broker does not tell.
    fn queue_len(&self, queue: &str) -> BoxFuture<'_, Result<u64, TransportError>>;

    /// Looks at the messages of a queue without taking them, at most `max`; those that consumers have are not among them.
    fn browse(&self, queue: &str, max: u32) -> BoxFuture<'_, Result<Vec<Envelope>, TransportError>>;

    /// Moves dead letters of this queue back to where they came from; how many were moved.
    fn redrive(&self, dead_letter_queue: &str) -> BoxFuture<'_, Result<u64, TransportError>>;

    /// Ends it: flushes what is confirmed or settled, and disconnects. Everything else answers [`TransportError::Closed`] from then on.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Why something other than a publish failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// This transport cannot do that.
    #[error("the {transport} transport has no {what}; {instead}")]
    Unsupported {
        /// The transport.
        transport: &'static str,
        /// The capability, by its name in [`Capabilities`].
        what: &'static str,
        /// What to do instead.
        instead: String,
    },
    /// There is no such queue or topic.
    #[error("there is no {0}")]
    NotFound(String),
    /// It exists, and is another than was asked for.
    #[error("{what} exists already and is another than this service declares: {why}")]
    Conflict {
        /// Which one.
        what: String,
        /// The difference.
        why: String,
    },
    /// Not allowed.
    #[error("the broker refuses: {0}; ask whoever runs it for the permission")]
    Denied(String),
    /// What was asked makes no sense to the broker.
    #[error("the broker refuses: {0}")]
    Invalid(String),
    /// The broker cannot be reached, or cannot serve; trying again may help.
    #[error("the broker at {address} cannot be reached: {why}")]
    Unavailable {
        /// Where it was looked for, without credentials.
        address: String,
        /// What happened.
        why: String,
    },
    /// This transport was closed.
    #[error("the transport was closed")]
    Closed,
}

/// Why a message was not published, or is not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The broker refused it: it is not stored, and the same message will be refused again.
    #[error("the broker refused the message: {0}")]
    Refused(String),
    /// The broker cannot take it now (a full queue, a full disk): it is not stored, and may be taken later.
    #[error("the broker cannot take the message now: {0}; it is not stored, try again later")]
    Busy(String),
    /// There is no such queue or topic. It is not stored.
    #[error("there is no {0}; the message is not stored")]
    NotFound(String),
    /// Of a conditional publish: another version. It is not stored.
    #[error("the version is {actual:?}, not as expected; nothing is stored")]
    WrongVersion {
        /// The version in force; `None` if there is none.
        actual: Option<u64>,
    },
    /// No confirmation came in the configured time, in which it was sent as often as there was a connection. Whether it is stored is not known;
    /// publishing the same message (with its id) again is safe wherever its receivers take a message id once.
    #[error("no confirmation came within {waited:?}; whether the message is stored is not known")]
    Unconfirmed {
        /// How long was waited.
        waited: Duration,
    },
    /// The delivery that was to be acknowledged with it is no longer this consumer's: nothing is stored, and the message comes again.
    #[error("the delivery is no longer this consumer's: nothing is stored, and its message comes again")]
    LeaseLost,
    /// As many publishes wait for their confirmation as are allowed. It was not sent.
    #[error("{waiting} publishes wait for their confirmation, the most that are allowed ({limit}); it was not sent")]
    TooManyPending {
        /// How many.
        waiting: usize,
        /// The setting.
        limit: &'static str,
    },
    /// This transport cannot do that.
    #[error("the {transport} transport has no {what}")]
    Unsupported {
        /// The transport.
        transport: &'static str,
        /// The capability.
        what: &'static str,
    },
    /// This transport was closed. It was not sent.
    #[error("the transport was closed; the message was not sent")]
    Closed,
}

impl PublishError {
    /// Whether the same publish may succeed later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unconfirmed { .. } | Self::LeaseLost | Self::TooManyPending { .. })
    }
}
