//! The broker through its public face, over the in-memory log.

mod consumers;
mod dead_letters;
mod faults;
mod harness;
mod leases;
mod queues;
mod random;
mod rules;
