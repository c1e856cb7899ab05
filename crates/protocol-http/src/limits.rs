//! Every bound on what an HTTP or WebSocket client may ask for, by name. The head of a request is bounded in `serve`.

use std::time::Duration;

pub use broker::bounds::{
    MAX_ANSWER_BYTES, MAX_ANSWER_MESSAGES, MAX_PAGE, MAX_SETTLEMENTS, MAX_WAIT, PAGE, REQUEST_WAIT, WRITE_TIMEOUT,
};

/// Largest JSON body of an administrative request, in bytes.
pub const MAX_JSON_BYTES: usize = 1024 * 1024;
/// Longest pause between two pieces of a request's body.
pub const BODY_IDLE: Duration = Duration::from_secs(15);
/// Longest time for a whole request body.
pub const BODY_TOTAL: Duration = Duration::from_secs(300);
/// Bytes of messages in one answer, if the request says nothing; one message is given even if it weighs more.
pub const ANSWER_BYTES: u64 = 8 * 1024 * 1024;
/// Pieces of a backup, of 256 KiB each, that wait to be written.
pub const BACKUP_PIECES: usize = 4;
/// How long the client of a backup may take nothing before the backup is given up: until then it holds disk.
pub const BACKUP_STALL: Duration = Duration::from_secs(60);
/// How long a backup may take in all.
pub const BACKUP_TOTAL: Duration = Duration::from_secs(24 * 3600);
/// How often a stream without news sends a comment, so that proxies keep it and a dead client is noticed.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Largest WebSocket frame from a client, in bytes.
pub const MAX_FRAME_BYTES: usize = 24 * 1024 * 1024;
/// Most publishes and settlements of a WebSocket that are under way; beyond, the socket is not read.
pub const MAX_PIPELINED: usize = 128;
/// Most consumers, subscriptions and tails of a WebSocket.
pub const MAX_STREAMS: usize = 256;
/// Most requests of a WebSocket that wait for an answer.
pub const MAX_REQUESTS: usize = 256;
/// Most credit of a consumer or tail.
pub const MAX_CREDIT: usize = 100_000;
/// Most messages that a WebSocket's consumer takes at a time.
pub const CONSUME_MESSAGES: usize = 64;
/// Most bytes that a WebSocket's consumer takes at a time.
pub const CONSUME_BYTES: u64 = 1024 * 1024;
/// Frames that wait to be written to a WebSocket.
pub const OUTBOUND_FRAMES: usize = 64;
/// How often a silent WebSocket is pinged.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// A WebSocket that sends nothing, not even a pong, for so long is closed.
pub const SILENCE: Duration = Duration::from_secs(95);
/// Longest name of a consumer, subscription or tail of a WebSocket, in bytes.
pub const MAX_STREAM_ID_BYTES: usize = 255;
