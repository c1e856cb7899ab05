//! What a protocol must be able to do to be measured. A new protocol is one file that implements [`Driver`], and a line in `mod.rs`.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use crate::failure::Failure;

/// Where a publisher's messages go.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// Straight into a queue.
    Queue(String),
    /// Through a topic.
    Topic(String),
}

/// Messages that are sent as one request or frame. They share their body.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Which of the publisher's targets.
    pub(super) to: usize,
    pub(super) body: Bytes,
    /// Messages, at least one.
    pub(super) count: u32,
    /// From when their latency counts.
    pub(super) since: Instant,
}

/// Messages of one frame, or a part of it, that have their answer.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    /// From when their latency counts.
    pub(super) since: Instant,
    /// Messages that were confirmed, answered or acknowledged.
    pub(super) done: u32,
    /// Messages that were refused.
    pub(super) failed: u32,
    /// Why, of the first that was refused.
    pub(super) why: Option<String>,
}

impl Answered {
    /// The frame's messages, all refused.
    pub(super) fn refused(since: Instant, count: u32, why: impl Into<String>) -> Self {
        Self { since, done: 0, failed: count, why: Some(why.into()) }
    }
}

/// One client connection that publishes, or that asks.
pub(super) trait Sender {
    /// Puts a frame on its way, and returns before it is answered.
    ///
    /// # Errors
    /// If the connection is gone.
    async fn send(&mut self, frame: Frame) -> Result<(), Failure>;

    /// Waits for the next answer. Only called while something is in flight; a call may be dropped before it is done, and loses nothing.
    ///
    /// # Errors
    /// If the connection is gone; a refusal is an [`Answered`].
    async fn answered(&mut self) -> Result<Answered, Failure>;
}

/// What happened to a consumer.
#[derive(Debug)]
pub(super) enum Event {
    /// So many messages came.
    Came(u32),
    /// Acknowledgements were confirmed.
    Acknowledged(Answered),
}

/// One client connection that takes messages from a queue.
pub(super) trait Receiver {
    /// Waits until something happens, and shows each body that came to `look`. A call may be dropped before it is done, and loses
    /// nothing.
    ///
    /// # Errors
    /// If the connection is gone.
    async fn next(&mut self, look: &mut impl FnMut(&[u8])) -> Result<Event, Failure>;

    /// Acknowledges all that came, and gives the credit back. Returns before the acknowledgements are confirmed.
    ///
    /// # Errors
    /// If the connection is gone.
    async fn acknowledge(&mut self, now: Instant) -> Result<(), Failure>;
}

/// A protocol: how connections come about.
pub(super) trait Driver {
    type Publisher: Sender;
    type Asker: Sender;
    type Consumer: Receiver;

    /// A connection that publishes.
    async fn publisher(&self, targets: &[Target]) -> Result<Self::Publisher, Failure>;

    /// A connection that asks on a subject.
    async fn asker(&self, subject: &str) -> Result<Self::Asker, Failure>;

    /// A connection that takes from a queue, with so much credit.
    async fn consumer(&self, queue: &str, credit: u32) -> Result<Self::Consumer, Failure>;

    /// Answers all that is asked on a subject, until dropped. `ready` is told when it listens.
    async fn answer(&self, subject: &str, ready: tokio::sync::oneshot::Sender<()>) -> Result<(), Failure>;
}

/// Frames in flight on a connection that answers in order.
#[derive(Debug, Default)]
pub(super) struct InFlight(VecDeque<(Instant, u32)>);

impl InFlight {
    pub(super) fn push(&mut self, since: Instant, count: u32) {
        self.0.push_back((since, count));
    }

    /// The oldest frame, whole.
    pub(super) fn pop(&mut self) -> Option<(Instant, u32)> {
        self.0.pop_front()
    }
}
