//! The broker's core: namespaces, topics, queues, bindings, groups, and what becomes of a message in them.
//!
//! Architecture invariant: this crate opens no socket and knows no protocol; its state machines do no I/O and are handed the time.

pub mod codec;
pub mod dedup;
pub mod filter;
pub mod group;
pub mod idempotence;
pub mod live;
pub mod partition;
pub mod queue;
pub mod router;

#[cfg(test)]
mod seeds;
