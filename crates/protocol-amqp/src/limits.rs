//! Every bound on foreign input and on our own buffers, by name.

use std::time::Duration;

/// Largest frame that is offered to a client, and taken before a connection has agreed on less, in bytes. RabbitMQ's default.
pub(crate) const FRAME_MAX: u32 = 131_072;
/// Smallest frame size that a client may ask for (specification, `frame-min-size`), in bytes. RabbitMQ 4.1 asks for 8,192; clients of before do not know.
pub(crate) const FRAME_MIN: u32 = 4_096;
/// Most channels of a connection.
pub(crate) const CHANNEL_MAX: u16 = 2_047;
/// Heartbeat that is offered to a client, in seconds.
pub(crate) const HEARTBEAT_S: u16 = 60;
/// How long a client may take from its connect to `connection.open`.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a failed login is kept waiting, so that passwords cannot be tried quickly.
pub(crate) const REFUSED_LOGIN_PAUSE: Duration = Duration::from_secs(1);
/// How long is waited for `connection.close-ok` before the socket is closed.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that are read from a socket at a time.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// Bytes of messages whose bodies have not come in whole, a connection.
pub(crate) const MAX_PARTIAL_BYTES: usize = 64 * 1024 * 1024;
/// Messages that are published in one call at most.
pub(crate) const RUN_MESSAGES: usize = 512;
/// Bytes that are published in one call, about.
pub(crate) const RUN_BYTES: usize = 1024 * 1024;
/// Messages of a connection that are being published; beyond, nothing more is read from it.
pub(crate) const MAX_PUBLISHING: usize = 16_384;
/// Bytes of messages of a connection that are being published; beyond, nothing more is read from it.
pub(crate) const MAX_PUBLISHING_BYTES: usize = 32 * 1024 * 1024;
/// Calls of settlements of a connection that are under way; beyond, nothing more is read from it.
pub(crate) const MAX_SETTLING: usize = 256;
/// Bytes that wait to be written to a socket; beyond, no deliveries are taken for it.
pub(crate) const OUTBOX_BYTES: usize = 1024 * 1024;
/// Bytes that wait to be written to a socket, beyond which nothing more is read from it: more than deliveries alone come to, so that a slow
/// reader's acknowledgements are heard.
pub(crate) const MAX_OUTBOX_BYTES: usize = 32 * 1024 * 1024;
/// Messages that are taken from a queue at a time.
pub(crate) const DELIVER_MESSAGES: usize = 512;
/// Bytes that are taken from a queue at a time.
pub(crate) const DELIVER_BYTES: u64 = 512 * 1024;
/// Deliveries of a channel that are not settled, whatever its prefetch allows.
pub(crate) const MAX_UNSETTLED: usize = 1_000_000;
/// Consumers of a channel.
pub(crate) const MAX_CONSUMERS: usize = 10_000;
/// Messages and settlements of a transaction that was not committed yet, a channel.
pub(crate) const MAX_TRANSACTION: usize = 100_000;
/// Bytes of messages of a transaction that was not committed yet, a channel.
pub(crate) const MAX_TRANSACTION_BYTES: usize = 128 * 1024 * 1024;
/// How long a delivery may stay without an acknowledgement before its channel is closed, unless its queue says otherwise. RabbitMQ's default.
pub(crate) const CONSUMER_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// Frames that are handled before others on the same thread get their turn.
pub(crate) const FRAMES_A_TURN: usize = 4_096;
/// Bytes of a reply text on the wire (a short string).
pub(crate) const MAX_REPLY_TEXT: usize = 255;
