//! Services: handlers, and what they need.

mod builder;
mod describe;
mod running;
mod subscription;

pub use self::builder::{Service, ServiceError};
pub use self::running::{Running, Stopped};
pub use self::subscription::{Replay, Responder, Subscription};
