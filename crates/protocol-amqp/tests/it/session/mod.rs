//! Sessions over real sockets, with clients that break the rules.

mod delivering;
mod frames;
mod handshake;
mod harness;
mod limits;
mod methods;
