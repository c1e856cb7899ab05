//! For tests of services: faults on demand, and a collector of traces.
//!
//! What goes wrong between a service and its broker goes wrong rarely, and never when somebody looks. [`Faulty`] stands between them and lets it
//! go wrong as a [`Plan`] says: by chance, from a seed that it prints, or exactly at the n-th time. [`collector`] is where a service's traces go that a
//! test looks at.

mod chaos;
pub mod collector;
mod consumer;
mod fail_nth;
mod faulty;
mod plan;
mod settler;
#[cfg(test)]
mod tests;

pub use self::chaos::{Chaos, chaos};
pub use self::fail_nth::{FailNth, FailingNth};
pub use self::faulty::{Faulty, Injected};
pub use self::plan::{Fault, Plan};
