//! The broker's core: namespaces, topics, queues, bindings, groups, and what becomes of a message in them.
//!
//! Architecture invariant: this crate opens no socket and knows no protocol; its state machines do no I/O and are handed the time.
#![allow(unused, missing_docs)]

pub mod access;
mod broker;
pub mod codec;
mod consumer;
pub mod dedup;
pub mod definitions;
mod errors;
pub mod filter;
pub mod group;
pub mod idempotence;
pub mod live;
pub mod partition;
pub mod queue;
mod receipt;
mod record;
pub mod router;
mod session;
mod value_codec;
pub mod views;

pub use access::{Credentials, Principal};
pub use broker::{Broker, BrokerMetrics, BrokerOptions, UserChange, UserInfo};
pub use consumer::{Consumer, ConsumerOptions};
pub use errors::*;
pub use live::LiveSubscription;
pub use receipt::{BadReceipt, Receipt};
pub use session::{
    Expect, ExpectOf, ProducerStamp, PublishOptions, PublishTo, Read, ReadAnswer, Receive, Redrive, Session,
};

#[cfg(test)]
mod seeds;
