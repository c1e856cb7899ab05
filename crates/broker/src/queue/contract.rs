//! The words between a queue's state machine and its owner.
//!
//! The machine holds no message: it decides by what an [`Arrival`] says of one. `P` is a handle of the message that the machine
//! carries along while memory allows (`None` once it does not: the owner then reads the message from the log again).

use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringTreemap;
use types::{Now, Offset, Timestamp};

/// How a queue behaves: its definition with policies applied. May change at any time.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueRules {
    /// How long a delivery may stay unsettled; `None` until its consumer goes.
    pub lease: Option<Duration>,
    /// What follows a failed attempt.
    pub retry: RetryRules,
    /// Whether messages that are given up have a place to go. Without one they are dropped, which only a protocol's own queues do.
    pub has_dead_letter: bool,
    /// Whether messages of one key are handed out one at a time, in order; a failed one holds back its key, not the queue.
    pub keyed: bool,
    /// Number of priority levels: 1 is none; a message's priority is clamped to `levels - 1`. Highest first.
    pub priority_levels: u16,
    /// Messages live at most so long in this queue (from arrival), whatever their own expiry.
    pub ttl: Option<Duration>,
    /// Every message waits so long after arrival, unless its own not-before is set.
    pub delay: Option<Duration>,
    /// Only one consumer at a time is served; the next one takes over when it goes.
    pub single_active: bool,
    /// Most waiting messages (in flight not counted).
    pub max_messages: Option<u64>,
    /// Most waiting bytes (in flight not counted).
    pub max_bytes: Option<u64>,
    /// What happens when a bound is passed.
    pub overflow: Overflow,
    /// Pause a consumer that fails too often.
    pub breaker: Option<BreakerRules>,
    /// Most deliveries that are out at a time; nothing more is handed out until one of them ends. (Deliveries that are acknowledged at
    /// once don't count.)
    pub max_in_flight: usize,
    /// Entries held in memory; the rest waits in the log.
    pub window: usize,
    /// Bytes of payload handles held in memory.
    pub window_bytes: u64,
}

/// What follows a failed attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryRules {
    /// Deliveries in all; after that many failed ones the message is given up. `None` tries for ever.
    pub max_attempts: Option<u32>,
    /// Wait before the second attempt; zero retries at once.
    pub initial: Duration,
    /// Each further wait is so many times longer.
    pub factor: f64,
    /// No wait is longer.
    pub cap: Duration,
    /// Whether the wait is a random part of itself ("full jitter"), so that failed messages don't come back as a herd.
    pub jitter: bool,
    /// Reasons that are not retried: a nack with one of them gives the message up at once.
    pub non_retryable: Vec<Arc<str>>,
}

/// What happens to a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// New messages are refused.
    Reject,
    /// The oldest ready ones leave (dead-lettered if there is a place to go).
    DropOldest,
    /// New messages are refused, and dead-lettered by the owner.
    RejectDeadLetter,
}

impl Overflow {
    /// Whether new messages are refused.
    #[must_use]
    pub const fn rejects(self) -> bool {
        matches!(self, Self::Reject | Self::RejectDeadLetter)
    }
}

/// When a failing consumer is paused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerRules {
    /// Share of failures (nacks, rejects, lease expiries) among the last `window` settlements that opens the breaker, 0 to 1.
    pub failure_ratio: f64,
    /// Settlements looked at; it cannot open before so many.
    pub window: u32,
    /// How long it stays open before one message is handed out as a probe. Doubles with each failed probe, up to 32 times.
    pub pause: Duration,
}

/// What the machine must know of a message that came in or was read from the log.
#[derive(Clone, Debug)]
pub struct Arrival<P> {
    /// Its place in the queue's log.
    pub offset: Offset,
    /// 64-bit hash of its key, if it has one.
    pub key: Option<u64>,
    /// Its priority as sent.
    pub priority: u8,
    /// When it came into this queue.
    pub arrived: Timestamp,
    /// Its own not-before.
    pub not_before: Option<Timestamp>,
    /// Its own expiry.
    pub expires_at: Option<Timestamp>,
    /// What it weighs, in bytes.
    pub weight: u32,
    /// The message itself, or where it is in memory.
    pub payload: Option<P>,
}

/// A consumer of one queue; numbers are the owner's choice and not reused within a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConsumerId(pub u64);

/// What a consumer asks of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerRules {
    /// No other consumer may be there.
    pub exclusive: bool,
    /// Consumers of higher priority are served first while they have credit. (RabbitMQ's `x-priority`.)
    pub priority: i32,
    /// Overrides the queue's lease.
    pub lease: Option<Duration>,
    /// Deliveries count as acknowledged at once.
    pub auto_ack: bool,
}

/// Names one delivery: its message and which of its deliveries this was. An old lease of the same message is not this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// The message.
    pub offset: Offset,
    /// Grows with every delivery of the queue.
    pub serial: u64,
}

/// A delivery that is out: enough to put it there again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Out {
    /// Which.
    pub lease: Lease,
    /// Who has it.
    pub consumer: ConsumerId,
    /// When the lease runs out.
    pub until: Option<types::Monotonic>,
}

/// A message handed to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery<P> {
    /// To settle it with.
    pub lease: Lease,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// It may have been seen before: a second attempt, a released one, or one that was out when the broker stopped.
    pub redelivered: bool,
    /// When the lease runs out.
    pub until: Option<types::Monotonic>,
    /// The message's weight.
    pub weight: u32,
    /// The message, if still in memory.
    pub payload: Option<P>,
}

/// Why a message leaves the queue without being acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaveReason {
    /// A consumer rejected it.
    Rejected,
    /// All attempts failed.
    MaxAttempts,
    /// A consumer failed it with a reason that is not retried.
    NonRetryable,
    /// Its time to live ended.
    Expired,
    /// The queue was full and it was the oldest, or refused for that.
    Overflow,
}

impl LeaveReason {
    /// The word for it in a dead letter's headers.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::MaxAttempts => "max-attempts",
            Self::NonRetryable => "non-retryable",
            Self::Expired => "expired",
            Self::Overflow => "overflow",
        }
    }

    /// The reason that a word stands for.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Rejected, Self::MaxAttempts, Self::NonRetryable, Self::Expired, Self::Overflow]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}

/// A message that the machine has given up. The owner moves it to the dead-letter target (or deletes it if there is none) in one
/// commit, then says [`departed`](super::Queue::departed) or, if the commit was refused, [`restore`](super::Queue::restore).
#[derive(Clone, Debug)]
pub struct Departure<P> {
    /// The message.
    pub offset: Offset,
    /// Why it goes.
    pub reason: LeaveReason,
    /// What happened to it.
    pub history: History,
    /// Its weight.
    pub weight: u32,
    /// The message, if still in memory.
    pub payload: Option<P>,
}

/// The failures of one message so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Failed deliveries.
    pub attempts: u32,
    /// Wall time of the first failure.
    pub first_failed: Option<Timestamp>,
    /// Wall time of the last one.
    pub last_failed: Option<Timestamp>,
    /// What the consumer said last.
    pub last_error: Option<Arc<str>>,
}

/// A message that failed and will be tried again: what the owner records, lazily, so that attempts survive a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryRecord {
    /// The message.
    pub offset: Offset,
    /// Its key's hash, so that a restart knows which key is held back.
    pub key: Option<u64>,
    /// When it is due again.
    pub due: Timestamp,
    /// Its failures.
    pub history: History,
}

/// What became of a settlement.
#[derive(Clone, Debug)]
pub enum Settled<P> {
    /// Acknowledged: the owner deletes the offset, and says [`departed`](super::Queue::departed) once that is durable.
    Acked {
        /// The message's weight.
        weight: u32,
    },
    /// It will be tried again.
    Retry(RetryRecord),
    /// It is ready again with nothing to record (release).
    Released,
    /// It is given up.
    Leaves(Departure<P>),
}

/// How a consumer ends a delivery.
#[derive(Clone, Debug, PartialEq)]
pub enum Settle {
    /// Done.
    Ack,
    /// Failed; tried again as the retry rules say, or after the given time if one is given.
    Nack {
        /// Overrides the backoff; zero is at once.
        after: Option<Duration>,
        /// For the history and for the non-retryable reasons.
        error: Option<Arc<str>>,
        /// Whether this delivery counts as a failed attempt (AMQP's plain requeue does too).
        counts: bool,
    },
    /// Failed for good: given up at once.
    Reject {
        /// For the history.
        error: Option<Arc<str>>,
    },
    /// Not tried: back to its place, at once, no attempt counted.
    Release,
}

/// Why a settlement or extension was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The lease ran out, or another consumer has the message now; it will be (or was) delivered again.
    #[error("the lease has run out; the message is delivered again")]
    Expired,
    /// There is no such delivery: settled already, purged, or never made.
    #[error("no such delivery: it was settled already, purged, or never made")]
    Unknown,
}

/// Why a consumer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Another consumer has the queue for itself.
    #[error("another consumer has this queue exclusively")]
    HeldExclusively,
    /// Exclusive use was asked for, and there are consumers.
    #[error("the queue has consumers, so it cannot be used exclusively")]
    InUse,
}

/// What the machine wants read from the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageRequest {
    /// Live records from an offset on (below `before`): read some, at most `records`, and say where the reading ended.
    From {
        /// First offset.
        from: Offset,
        /// Not from here on.
        before: Offset,
        /// At most so many.
        records: usize,
    },
    /// Exactly these, ascending.
    Exactly(Vec<Offset>),
}

/// How much a consumer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    /// Messages.
    pub messages: usize,
    /// Bytes; one message is given even if it weighs more.
    pub bytes: u64,
}

/// Counters, all O(1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Deliverable now, or waiting in the log and not looked at yet.
    pub ready: u64,
    /// How many of the ready ones were not looked at since a restart: of those it is not known yet whether they are delayed or parked.
    pub unread: u64,
    /// Waiting for a time: delays and retries.
    pub delayed: u64,
    /// Held back by an earlier message of their key.
    pub parked: u64,
    /// With consumers.
    pub in_flight: u64,
    /// Bytes of all but those in flight.
    pub waiting_bytes: u64,
    /// Bytes with consumers.
    pub in_flight_bytes: u64,
    /// When the oldest message of the queue came in, as far as it is known without reading.
    pub oldest: Option<Timestamp>,
}

/// What happened, for metrics, traces, journeys and advisories. Readers of events are never code inside the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueEvent {
    /// A message came in.
    Enqueued {
        /// Which.
        offset: Offset,
    },
    /// Messages that follow each other came in.
    EnqueuedRun {
        /// The first of them.
        first: Offset,
        /// How many.
        count: u64,
    },
    /// A message went to a consumer.
    Delivered {
        /// Which.
        offset: Offset,
        /// To whom.
        consumer: ConsumerId,
        /// Which attempt.
        attempt: u32,
    },
    /// A consumer is done with it.
    Acked {
        /// Which.
        offset: Offset,
    },
    /// An attempt failed, or its lease ran out.
    Failed {
        /// Which.
        offset: Offset,
        /// How many failed so far.
        attempts: u32,
        /// Whether the lease ran out.
        lease_expired: bool,
    },
    /// It went back untried.
    Released {
        /// Which.
        offset: Offset,
    },
    /// It was given up.
    Left {
        /// Which.
        offset: Offset,
        /// Why.
        reason: LeaveReason,
    },
    /// A consumer failed too often and is paused until the given time.
    BreakerOpened {
        /// Whose.
        consumer: ConsumerId,
    },
    /// A probe succeeded: the consumer is served again.
    BreakerClosed {
        /// Whose.
        consumer: ConsumerId,
    },
    /// Another consumer is served now. (Single active consumer.)
    ActiveChanged {
        /// Who, if anyone.
        consumer: Option<ConsumerId>,
    },
    /// All waiting messages were removed.
    Purged {
        /// How many.
        messages: u64,
    },
}

/// A queue as the log gives it back after a restart.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// The log's start.
    pub start: Offset,
    /// The log's end.
    pub end: Offset,
    /// Live records.
    pub records: u64,
    /// Their weight.
    pub weight: u64,
    /// Failed messages that wait to be tried again.
    pub retries: Vec<RetryRecord>,
    /// Messages before this offset may have been out when the broker stopped: they come marked redelivered.
    pub delivered_to: Offset,
}

/// The methods of the machine, in one place. (Implemented by [`Queue`](super::Queue).)
///
/// A trait only so that the contract can be read and the model in the tests can be held against it.
pub trait QueueMachine<P: Clone>: Sized {
    /// An empty queue. `seed` feeds the jitter, and the first serial: it must differ from one start of the broker to the next, so that no
    /// lease from before a restart names a delivery after it.
    fn new(rules: QueueRules, seed: u64) -> Self;
    /// A queue after a restart. What lies in the log is looked at by and by, through page requests.
    fn recover(rules: QueueRules, seed: u64, recovered: Recovered) -> Self;
    /// Changes the rules; leases out and delays running stay as they are.
    fn set_rules(&mut self, now: Now, rules: QueueRules);

    /// Reserves room for messages about to be committed; `false` if the queue is full and rejects. Reserved room counts until
    /// [`enqueue`](Self::enqueue) or [`unreserve`](Self::unreserve) gives it back.
    fn reserve(&mut self, messages: u64, bytes: u64) -> bool;
    /// Gives room back after a refused commit.
    fn unreserve(&mut self, messages: u64, bytes: u64);
    /// Takes a durable message whose room was reserved. Offsets ascend from call to call.
    fn enqueue(&mut self, now: Now, arrival: Arrival<P>);

    /// Adds a consumer. # Errors: see [`AttachError`].
    fn attach(&mut self, consumer: ConsumerId, rules: ConsumerRules) -> Result<(), AttachError>;
    /// Removes a consumer; its deliveries go back to their places in the order, marked redelivered, and no attempt is counted.
    fn detach(&mut self, now: Now, consumer: ConsumerId);
    /// Says whether the consumer has credit, for those of higher consumer priority and for single-active take-over.
    fn set_ready(&mut self, consumer: ConsumerId, ready: bool);

    /// Hands out what is due, up to the credit, in order. Fewer than the credit if nothing more is ready, if the consumer is paused or not
    /// the active one, or if a page is wanted first (see [`page_request`](Self::page_request)).
    fn deliver(&mut self, now: Now, consumer: ConsumerId, credit: Credit, out: &mut Vec<Delivery<P>>);
    /// What must be read before more can be delivered (or classified); `None` if nothing.
    fn page_request(&mut self, now: Now) -> Option<PageRequest>;
    /// The answer: the live records read, and the offset up to which the log was looked at. Offsets wanted below `read_to` (of
    /// [`PageRequest::Exactly`] too) that are not among the records count as gone; those from there on are asked for again. A request
    /// changes nothing, so a failed read needs no answer. After ticks and deliveries, ask and answer until nothing is wanted.
    fn page_in(&mut self, now: Now, request: PageRequest, records: Vec<Arrival<P>>, read_to: Offset);

    /// Ends a delivery. # Errors: see [`LeaseError`]; nothing changed then.
    fn settle(&mut self, now: Now, lease: Lease, how: Settle) -> Result<Settled<P>, LeaseError>;
    /// Moves the end of a lease to `now + by`. # Errors: see [`LeaseError`].
    fn extend(&mut self, now: Now, lease: Lease, by: Duration) -> Result<(), LeaseError>;
    /// All deliveries of a consumer that are out, ascending by serial (AMQP's "multiple", and clean-up).
    fn leases_of(&self, consumer: ConsumerId) -> Vec<Lease>;
    /// The deletion or move of an acked or departed message is durable.
    fn departed(&mut self, offset: Offset);
    /// The deletion or move of an acked or departed message was refused: it is ready again (departures) or stays to be delivered again (acks).
    fn restore(&mut self, now: Now, offset: Offset);

    /// What time brings: leases that ran out, delays that ended, messages that expired, breakers that may be probed. Bounded work a call;
    /// call again while it returns `true`. Retries to be recorded and departures to be moved are put out.
    fn tick(&mut self, now: Now, retries: &mut Vec<RetryRecord>, departures: &mut Vec<Departure<P>>) -> bool;
    /// When [`tick`](Self::tick) has something to do next, on either clock; `None` if never.
    fn next_tick(&self, now: Now) -> Option<Duration>;
    /// Whether a consumer could be given something now (or a page might bring something): what wakes waiting consumers.
    fn has_ready(&self, now: Now, consumer: ConsumerId) -> bool;

    /// Removes all messages that wait (not those in flight) and gives the log's ranges to delete.
    fn purge(&mut self, now: Now) -> Purge;
    /// Counters.
    fn depth(&self) -> QueueDepth;
    /// Everything that must be in the state log if it were begun anew: all messages here that failed, waiting for their retry or ready again.
    fn retries(&self) -> Vec<RetryRecord>;
    /// Messages before this offset may have been handed out.
    fn delivered_to(&self) -> Offset;
    /// Takes the events since the last call.
    fn take_events(&mut self, out: &mut Vec<QueueEvent>);
}

/// What a purge removes from the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purge {
    /// How many messages.
    pub messages: u64,
    /// Their weight.
    pub weight: u64,
    /// Everything from the start to here, but for `keep`.
    pub before: Offset,
    /// In flight, or leaving: these stay. Ascending.
    pub keep: Vec<Offset>,
    /// Those among the removed that were handed out before: should they stay after all, they come marked redelivered.
    pub seen: RoaringTreemap,
}
