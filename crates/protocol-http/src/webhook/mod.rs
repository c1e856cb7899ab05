//! Push consumers: a queue whose definition names a webhook is sent to that endpoint, message by message. docs/webhooks.md is the
//! page for users.
//!
//! [`Pusher`] keeps one worker for each such queue and follows the definitions. A worker takes as many messages as it may send at a
//! time (`worker`), each becomes a request (`request`, `sign`) to the endpoint (`endpoint`), and what comes back decides how the
//! delivery ends (`verdict`). Retries, dead letters and the circuit breaker are the queue's own.
//!
//! Architecture invariant: the URL is a user's wish, so no address is connected to that `address` has not passed, and neither secrets
//! nor more of a URL than its origin are logged.

mod address;
mod endpoint;
pub mod limits;
mod metrics;
mod pusher;
mod request;
mod sign;
mod verdict;
mod worker;

pub use metrics::PushMetrics;
pub use pusher::{PushOptions, Pusher};

#[cfg(test)]
mod tests;
