//! The broker through its public face, over the in-memory log.

mod access;
mod admin;
mod attempts;
mod consumers;
mod dead_letters;
mod each;
mod faults;
mod groups;
mod harness;
mod leases;
mod live;
mod lives;
mod once;
mod queues;
mod random;
mod restart;
mod routes;
mod rules;
mod scale;
mod support;
mod topics;
mod windows;
