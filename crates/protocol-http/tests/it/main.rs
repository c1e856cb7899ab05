//! The router over a broker on a log in memory.

mod harness;

mod admin;
mod backup;
mod cloudevents;
mod consume;
mod errors;
mod replay;
mod ws;
