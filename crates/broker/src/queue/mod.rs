//! The queue's state machine: ready order, leases, retries, delays, keys, priorities.

mod contract;

pub use contract::*;
