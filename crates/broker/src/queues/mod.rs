//! Queues at work: the owner of each queue's state machine, and what it does for its consumers.

mod browse;
mod counters;
mod dead_letter;
mod failing;
mod owner;
mod pages;
mod redrive;
mod settle;

pub(crate) use owner::{PolledWait, QueueDefinition, QueueOwner, WaitSlot, Waiter};
pub(crate) use settle::Settling;
