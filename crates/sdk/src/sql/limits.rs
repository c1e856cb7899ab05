//! The bounds of the patterns in a database.

use std::time::Duration;

/// Most rows of one page of a list or a reading.
pub const MAX_PAGE: u32 = 1000;
/// How long the inbox remembers a message unless it is told otherwise.
pub const DEFAULT_INBOX_WINDOW: Duration = Duration::from_secs(7 * 24 * 3600);
/// Rows that one statement of the inbox's cleanup deletes, so that it holds up nobody for long.
pub const CLEANUP_ROWS: i64 = 1000;
/// How often [`Store::maintain`](super::Store::maintain) cleans up.
pub const CLEANUP_EVERY: Duration = Duration::from_secs(60);
/// Most messages that the relay reads from the outbox at a time.
pub const MAX_RELAY_BATCH: u32 = 128;
/// Bodies and envelopes that the relay reads at a time, in bytes; one message may have more.
pub const MAX_RELAY_BATCH_BYTES: i64 = 8 * 1024 * 1024;
/// Most destinations that the relay passes over at a time because they take nothing. At the bound it waits for the first of them.
pub const MAX_HELD_DESTINATIONS: usize = 64;
/// Attempts at a destination that does not exist before its message counts as refused. It may be about to be made.
pub const MISSING_ATTEMPTS: i64 = 10;
/// Longest error text that is kept in a row, in bytes.
pub const MAX_ERROR_BYTES: usize = 1024;
/// How long SQLite waits for another writer before it gives up, in [`Store::open`](super::Store::open).
pub const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of a pool that the store opens itself.
pub const POOL_CONNECTIONS: u32 = 8;
