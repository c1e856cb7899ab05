//! Live subscriptions: who is told of a message at once, without ack and without keeping it.

mod buffer;
mod subscriptions;
mod table;
mod trie;

pub(crate) use buffer::LiveBuffer;
pub use subscriptions::{LiveSubscriptions, SubscriberId};
pub use table::{INBOX_PREFIX, Inbox, LiveSubscription};
pub(crate) use table::{LiveTable, is_inbox};
pub use trie::SubjectTrie;

#[cfg(test)]
mod tests;
