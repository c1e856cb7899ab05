//! The broker through its public face, over the in-memory log.

mod harness;
mod queues;
