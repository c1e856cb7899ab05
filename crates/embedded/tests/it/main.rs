//! The transport of Posthouse, over the broker in this process and over a socket to it.

mod kit;
mod lost_answers;
mod queues;
mod reconnects;
mod requests;
mod topics;
