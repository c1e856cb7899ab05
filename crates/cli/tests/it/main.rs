//! The real binary: started, driven from its own command line, stopped.
#![allow(clippy::disallowed_methods, reason = "real processes are waited for in real time")]

mod harness;
mod operate;
mod quickstart;
mod serve;
mod work;
