//! A simulation of the whole broker over the embedded engine: seeded, deterministic, on a disk that fails on demand and a clock moved by
//! hand. What was confirmed is held against what a restart finds.
//!
//! One thread does everything: the engine runs without its threads, a round is written when the simulation says so, and calls
//! under way go on when it lets them. So a seed gives the same run each time, and what failed once can be repeated, cut short and looked at.
//!
//! Architecture invariant: dev only. Nothing may depend on this crate.

mod calls;
mod check;
mod definitions;
mod deliveries;
mod engine;
mod faults;
mod fixtures;
mod life;
mod logs;
mod model;
mod operation;
mod publishing;
mod replies;
mod simulation;
mod standing;
mod stories;
mod trace;
mod turn;

pub use simulation::{Failure, Outcome, Plan, run};
