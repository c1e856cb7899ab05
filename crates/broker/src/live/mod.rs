//! Live subscriptions.

mod subscriptions;
mod trie;

use std::sync::Arc;

use types::Message;

pub use subscriptions::{LiveSubscriptions, SubscriberId};
pub use trie::SubjectTrie;

/// A live subscription: in memory, no ack, no retention. Dropping it ends it.
pub struct LiveSubscription {}

impl LiveSubscription {
    /// The next message; `None` once the broker stops. A subscriber that is too slow loses the oldest messages, and is told how many
    /// by [`lost`](Self::lost).
    pub async fn next(&mut self) -> Option<Arc<Message>> {
        todo!()
    }
    /// Messages lost so far because the buffer was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        todo!()
    }
}

#[cfg(test)]
mod tests;
