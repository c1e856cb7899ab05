//! What can go wrong, an enum for each kind of operation. Protocol crates map these to their wire codes.

use types::{NameError, Offset};

use crate::queue::{AttachError, LeaseError};

/// The storage did not take or give something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The disk is full down to the reserve. Acknowledgements and deletes still pass.
    #[error("the disk is full; consume or delete messages, or add space: {0}")]
    Full(String),
    /// A write failed earlier; nothing is written until a restart.
    #[error("the storage has failed and takes no writes until the broker is restarted: {0}")]
    Failed(String),
    /// Too much is waiting to be written.
    #[error("the storage is behind; try again shortly: {0}")]
    Overloaded(String),
    /// The data is damaged and can only be read.
    #[error("the stored data is damaged: {0}")]
    Damaged(String),
    /// It may or may not have happened.
    #[error("a write failed under way; whether it holds is known after a restart: {0}")]
    Unknown(String),
    /// The entity moved to another owner, or the broker is stopping.
    #[error("the broker is stopping or no longer owns this: {0}")]
    Unavailable(String),
}

/// Who is asking is not known, or may not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// No credentials, or wrong ones. Which, is not said.
    #[error("the credentials are missing or wrong")]
    Unauthenticated,
    /// Too many logins wait to be checked. These may be right: try again.
    #[error("too many logins are being checked; try again shortly")]
    Busy,
    /// Known, but not allowed.
    #[error("user {user:?} may not {action} {entity} in namespace {namespace:?}")]
    Forbidden {
        /// Who.
        user: String,
        /// `configure`, `write`, `read` or `administer`.
        action: &'static str,
        /// What, such as `queue "orders"`.
        entity: String,
        /// Where.
        namespace: String,
    },
    /// No such namespace (or not visible to the user).
    #[error("there is no namespace {0:?}")]
    NoSuchNamespace(String),
}

/// A backup was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// See [`AccessError`].
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The engine makes none now, or ended one.
    #[error(transparent)]
    Engine(#[from] log::BackupError),
}

impl BackupError {
    /// Whether it is worth trying again when the backup that is under way has ended.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        matches!(self, Self::Engine(log::BackupError::UnderWay))
    }

    /// Whether the engine can make none at all.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Engine(log::BackupError::Unsupported))
    }
}

/// Declaring, changing or deleting something failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DeclareError {
    /// See [`AccessError`].
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The name breaks the rule for names.
    #[error("{0}")]
    Name(#[from] NameError),
    /// It exists and is defined otherwise.
    #[error("{entity} exists with another definition: {difference}")]
    Conflict {
        /// Such as `queue "orders"`.
        entity: String,
        /// The first difference.
        difference: String,
    },
    /// It, or something that it names, does not exist.
    #[error("there is no {entity}")]
    NotFound {
        /// Such as `queue "orders"`.
        entity: String,
    },
    /// A setting's value makes no sense.
    #[error("{field}: {why}")]
    Invalid {
        /// The field's path.
        field: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A quota or limit of the namespace is reached.
    #[error("{limit} is reached: {value} allowed")]
    Quota {
        /// The limit's name.
        limit: &'static str,
        /// Its value.
        value: u64,
    },
    /// It is used, and the call asked to respect that.
    #[error("{entity} is in use: {by}")]
    InUse {
        /// Such as `queue "orders"`.
        entity: String,
        /// By what.
        by: String,
    },
    /// It is a queue that another connection holds.
    #[error(
        "{entity} is held by another connection: it alone may use it, and it goes when that ends; others may only publish to it"
    )]
    Held {
        /// Such as `queue "orders"`.
        entity: String,
    },
    /// See [`StorageError`].
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A publish failed. Nothing of it was stored, but for [`StorageError::Unknown`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// See [`AccessError`].
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No such topic or queue.
    #[error("there is no {entity}")]
    NotFound {
        /// Such as `topic "orders"`.
        entity: String,
    },
    /// A limit is passed.
    #[error("{what} is too large: {size} bytes, at most {limit} ({limit_name})")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
        /// The limit's name.
        limit_name: &'static str,
    },
    /// Something in the message makes no sense.
    #[error("{field}: {why}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong.
        why: String,
    },
    /// A queue is full and rejects.
    #[error("queue {queue:?} is full ({limit}) and rejects new messages")]
    QueueFull {
        /// The queue.
        queue: String,
        /// Which bound.
        limit: String,
    },
    /// A dedup window is full: it refuses rather than forget.
    #[error("the dedup window of {entity} holds {limit} ids and is full; publish slower or shorten the window")]
    DedupFull {
        /// Such as `queue "orders"`.
        entity: String,
        /// How many it holds.
        limit: u64,
    },
    /// The broker is short of memory; publishers are held back.
    #[error("the broker is short of memory; try again shortly")]
    Backpressure,
    /// The namespace's publish rate or stored bytes are used up.
    #[error("{limit} of the namespace is reached: {value} allowed")]
    Quota {
        /// The quota's name.
        limit: &'static str,
        /// Its value.
        value: u64,
    },
    /// The expected version is not the current one.
    #[error("the current version is {}, not the expected one", .actual.map_or("none".to_owned(), |offset| offset.to_string()))]
    WrongVersion {
        /// The offset of the last record of that key or subject; `None` if there is none.
        actual: Option<Offset>,
    },
    /// An idempotent producer skipped or repeated out of the window.
    #[error("sequence {got} is out of order; {expected} is next")]
    OutOfSequence {
        /// What came.
        got: u64,
        /// What is next.
        expected: u64,
    },
    /// A newer instance of the producer took over.
    #[error("a newer instance of this producer (epoch {current}) has taken over")]
    Fenced {
        /// The epoch in force.
        current: u32,
    },
    /// See [`StorageError`].
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Consuming failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// See [`AccessError`].
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No such queue.
    #[error("there is no {entity}")]
    NotFound {
        /// Such as `queue "orders"`.
        entity: String,
    },
    /// Another connection holds the queue.
    #[error(
        "{entity} is held by another connection: it alone may use it, and it goes when that ends; others may only publish to it"
    )]
    Held {
        /// Such as `queue "orders"`.
        entity: String,
    },
    /// See [`AttachError`].
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The queue was deleted.
    #[error("queue {0:?} was deleted")]
    Deleted(String),
    /// A parameter makes no sense.
    #[error("{field}: {why}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong.
        why: String,
    },
    /// See [`StorageError`].
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Settling a delivery failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// See [`AccessError`].
    #[error(transparent)]
    Access(#[from] AccessError),
    /// Not a receipt that this broker gave.
    #[error("this is not a receipt")]
    BadReceipt,
    /// See [`LeaseError`].
    #[error(transparent)]
    Lease(#[from] LeaseError),
    /// The publish that was to happen together with the acknowledgement failed; the delivery is still out.
    #[error(transparent)]
    Publish(#[from] Box<PublishError>),
    /// See [`StorageError`].
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Reading a topic's log, or a group's offsets, failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// See [`AccessError`].
    #[error(transparent)]
    Access(#[from] AccessError),
    /// No such topic, partition or group.
    #[error("there is no {entity}")]
    NotFound {
        /// Such as `topic "orders"`.
        entity: String,
    },
    /// The topic keeps no log.
    #[error("topic {0:?} keeps no log; give it a retention")]
    NoLog(String),
    /// The topic keeps no key index.
    #[error("topic {0:?} keeps no key index; create it with one")]
    NoKeyIndex(String),
    /// Older records are gone.
    #[error("offset {asked} is not there: the log holds {start} to {end}")]
    OutOfRange {
        /// What was asked for.
        asked: Offset,
        /// Oldest.
        start: Offset,
        /// Next.
        end: Offset,
    },
    /// The group's member is not (or no longer) in the group, or holds an old generation or a partition that is not its own.
    #[error("{0}")]
    Membership(String),
    /// A parameter makes no sense.
    #[error("{field}: {why}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong.
        why: String,
    },
    /// See [`StorageError`].
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A request got no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Nobody is there to answer: no live subscription matches and no topic captures the subject.
    #[error("nobody answers requests on {0:?}")]
    NoResponders(String),
    /// No answer came in time.
    #[error("no answer came within {0} ms")]
    Timeout(u64),
    /// The request could not be published.
    #[error(transparent)]
    Publish(#[from] PublishError),
}
