//! Services: handlers, and what they need.

mod builder;
mod describe;
mod prepare;
mod running;
mod stateful;
mod subscription;

pub use self::builder::{Service, ServiceError};
pub use self::running::{Running, Stopped};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use self::subscription::KeptIn;
pub use self::subscription::{Replay, Responder, Subscription};
