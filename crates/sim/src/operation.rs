//! Calls under way: what each asks for, and what came back.

use std::collections::BTreeMap;
use std::time::Duration;

use broker::queue::Settle;
use broker::views::{Delivered, Published};
use broker::{ConsumeError, DeclareError, PublishError, Receipt, ReplayError, SettleError};
use types::{EntityId, Offset};

use crate::definitions::Change;

/// Numbers calls in the order in which they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct OpId(pub(crate) u64);

/// Numbers messages: it is their body.
pub(crate) type Num = u32;
/// A copy of a message: one publish may put several into queues.
pub(crate) type CopyId = (Num, u32);

/// What a call asks for.
#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Publish(Publishing),
    Settle(Vec<Settling>),
    /// Acknowledge one, publish others.
    PassOn(Settling, Publishing),
    Receive(Receiving),
    /// Removes these copies.
    Purge(Vec<CopyId>),
    Define(Change),
    /// Moves a group: the offset that each partition has then.
    Commit(String, Vec<(u32, Offset)>),
    Tick,
}

/// A publish and what it should lead to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Publishing {
    /// For the trace: where to.
    pub(crate) to: String,
    pub(crate) messages: Vec<PublishedMessage>,
    /// Written, but not synced before it is confirmed.
    pub(crate) soft: bool,
    pub(crate) producer: Option<Stamped>,
    pub(crate) expect: Option<Expected>,
    /// The topic whose log gets the messages first; its positions are in the answer.
    pub(crate) topic: Option<EntityId>,
    /// Dedup ids that are taken by this publish, by window, each with the message that takes it.
    pub(crate) new_ids: BTreeMap<(EntityId, String), Num>,
    /// A delivery showed that it is durable, before the answer came.
    pub(crate) seen: bool,
}

/// One message of a publish.
#[derive(Clone, Debug)]
pub(crate) struct PublishedMessage {
    pub(crate) num: Num,
    pub(crate) copies: Vec<CopyId>,
    /// Whether it repeats one that was confirmed, in its topic or in a queue.
    pub(crate) duplicate: bool,
    /// The one that it repeats in its topic: the answer tells where that is.
    pub(crate) repeats: Option<Num>,
}

/// A producer's stamp, and whether the broker knows it already.
#[derive(Clone, Debug)]
pub(crate) struct Stamped {
    pub(crate) name: String,
    pub(crate) first: u64,
    pub(crate) verdict: Verdict,
}

/// What should become of a stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Duplicate,
    OutOfOrder,
}

/// A conditional publish.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    pub(crate) right: bool,
    pub(crate) actual: Option<Offset>,
}

/// How one delivery is ended.
#[derive(Clone, Debug)]
pub(crate) struct Settling {
    pub(crate) receipt: Receipt,
    pub(crate) copy: CopyId,
    pub(crate) how: Settle,
    /// The message is gone then: it is acknowledged, or rejected where there is no place for dead letters.
    pub(crate) ends: bool,
    /// When the lease ends, in monotonic nanoseconds.
    pub(crate) until: u64,
    /// Which attempt it is.
    pub(crate) attempt: u32,
    /// The standing consumer that holds it.
    pub(crate) standing: Option<u32>,
}

/// A receive.
#[derive(Clone, Debug)]
pub(crate) struct Receiving {
    pub(crate) queue: EntityId,
    pub(crate) name: String,
    pub(crate) max: usize,
    pub(crate) auto_ack: bool,
    /// Monotonic nanoseconds when it took what it gives.
    pub(crate) taken_at: u64,
    /// The same by the wall clock, in milliseconds.
    pub(crate) wall: i64,
    /// Nothing had failed then, so what is handed out is marked.
    pub(crate) marks: bool,
    /// The engine wrote nothing any more: nothing may be handed out.
    pub(crate) has_failed: bool,
    /// The standing consumer that asks.
    pub(crate) standing: Option<u32>,
}

/// What came back.
#[derive(Debug)]
pub(crate) enum Reply {
    Published(Result<Vec<Published>, PublishError>),
    Settled(Vec<Result<(), SettleError>>),
    PassedOn(Result<Vec<Published>, SettleError>),
    Received(Result<Vec<Delivered>, ConsumeError>),
    Purged(Result<u64, DeclareError>),
    Defined(Result<(), DeclareError>),
    Moved(Result<(), ReplayError>),
    Ticked(Duration),
}
