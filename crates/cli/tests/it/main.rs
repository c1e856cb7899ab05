//! The real binary: started, driven from its own command line, stopped.
#![allow(clippy::disallowed_methods, reason = "real processes are waited for in real time")]

mod bad_input;
mod harness;
mod http;
mod kill;
mod operate;
mod quickstart;
mod scale;
mod serve;
mod work;
