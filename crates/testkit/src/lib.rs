//! What tests need and nothing else may use: a clock that is moved by hand, and a disk in memory that fails on demand and can
//! be looked at as a power cut would leave it.
//!
//! Architecture invariant: this crate depends on `types` only, so that every other crate can test with it.

mod disk;

pub use disk::{CrashStyle, DiskOperation, FaultDisk};
pub use types::clock::ManualClock;
