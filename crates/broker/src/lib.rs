//! The broker's core: namespaces, topics, queues, bindings, groups, and what becomes of a message in them.
//!
//! Architecture invariant: this crate opens no socket and knows no protocol; its state machines do no I/O and are handed the time.

pub mod access;
mod alarm;
mod backup;
pub mod bounds;
mod broker;
pub mod codec;
mod connections;
mod consumer;
mod deaths;
pub mod dedup;
pub mod defaults;
pub mod definitions;
mod errors;
pub mod filter;
pub mod group;
mod groups;
mod holder;
pub mod idempotence;
mod ids;
pub mod live;
mod memory;
mod meta;
pub mod partition;
pub mod policy;
pub mod queue;
mod queues;
mod receipt;
mod record;
mod recovery;
pub mod router;
mod routing;
#[cfg(test)]
mod seeds;
mod session;
mod shared;
mod state_log;
mod ticking;
mod topics;
mod transaction;
mod users;
pub mod validate;
mod value_codec;
pub mod views;
pub mod webhook_target;

pub use access::{Credentials, Principal};
pub use backup::{Backup, BackupHistory};
pub use broker::{Broker, BrokerMetrics, BrokerOptions};
pub use connections::{ChannelGuard, ConnectionGuard};
pub use consumer::{Consumer, ConsumerOptions};
pub use deaths::{DEATHS_HEADER, Death, DeathMark, Deaths, MAX_DEATH_SUBJECTS_BYTES, MAX_DEATHS};
pub use errors::{
    AccessError, BackupError, ConsumeError, DeclareError, PublishError, QuotaError, ReplayError, RequestError,
    SettleError, StorageError,
};
pub use live::{Inbox, LiveSubscription};
pub use receipt::{BadReceipt, Receipt};
pub use session::{
    DeclareTopic, DeleteOptions, Expect, ExpectOf, ProducerStamp, PublishOptions, PublishTo, Publishes, Read,
    ReadAnswer, Receive, Redrive, Session, Started,
};
pub use users::{StoredPassword, UserChange, UserInfo};
