//! What tests of services use.

pub mod collector;
//! Faults on demand, for tests of services.
//!
//! What goes wrong between a service and its broker goes wrong rarely, and never when somebody looks. [`Faulty`] stands between them and lets it
//! go wrong as a [`Plan`] says: by chance, from a seed that it prints, or exactly at the n-th time.

mod consumer;
mod faulty;
mod plan;
mod settler;
#[cfg(test)]
mod tests;

pub use self::faulty::{Faulty, Injected};
pub use self::plan::{Fault, Plan};
