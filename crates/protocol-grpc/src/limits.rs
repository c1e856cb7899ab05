//! Every bound on what a gRPC client may ask for, by name.

use std::time::Duration;

pub use broker::bounds::{
    MAX_ANSWER_BYTES, MAX_ANSWER_MESSAGES, MAX_PAGE, MAX_SETTLEMENTS, MAX_WAIT, PAGE, REQUEST_WAIT, WRITE_TIMEOUT,
};

/// Largest frame (one protobuf message) from a client, in bytes.
pub const MAX_FRAME_BYTES: usize = 24 * 1024 * 1024;
/// Most messages of one frame of a publish stream.
pub const MAX_FRAME_MESSAGES: usize = types::limits::MAX_PUBLISH_MESSAGES;
/// Messages of a publish stream that wait for their confirmation; beyond, the stream is not read.
pub const MAX_PENDING_MESSAGES: usize = 65_536;
/// Bytes of messages of a publish stream that wait for their confirmation; beyond, the stream is not read.
pub const MAX_PENDING_BYTES: usize = 32 * 1024 * 1024;
/// Most messages of frames that wait together which are published in one call.
pub const RUN_MESSAGES: usize = 4096;
/// Most bytes of messages of frames that wait together which are published in one call. A frame that is larger is a call of its own.
pub const RUN_BYTES: usize = 4 * 1024 * 1024;
/// Most failures of one answer of a stream; what is left comes in the next.
pub const MAX_ANSWER_FAILURES: usize = 1000;
/// Bytes of messages in one unary answer, if the request says nothing; one message is given even if it weighs more. Stock clients take
/// answers of 4 MiB.
pub const ANSWER_BYTES: u64 = 2 * 1024 * 1024;
/// Most credit of a consumer, in messages.
pub const MAX_CREDIT: u64 = 262_144;
/// Deliveries of a stream that are not settled, those included whose lease ran out; beyond, nothing is delivered.
pub const MAX_UNSETTLED: usize = 262_144;
/// Calls to settle that are under way in one stream; beyond, the stream is not read.
pub const MAX_SETTLING: usize = 32;
/// Most deliveries of one frame.
pub const DELIVER_MESSAGES: usize = 4096;
/// Most bytes of messages of one frame of deliveries or records; one message is sent even if it weighs more.
pub const DELIVER_BYTES: u64 = 1024 * 1024;
/// Answers of a consumer that wait to be written.
pub const OUTBOUND_FRAMES: usize = 4;
/// Requests of a reply stream that were not answered; the oldest are forgotten beyond it.
pub const MAX_UNANSWERED: usize = 65_536;
/// Answers of a reply stream that are on their way; beyond, the stream is not read.
pub const MAX_ANSWERING: usize = 128;
/// How long one read of a replay waits for news; then it reads again.
pub const REPLAY_WAIT: Duration = Duration::from_secs(30);

/// Calls at a time on one connection.
pub const MAX_STREAMS: u32 = 256;
/// Calls that a client may open and reset before they were answered; more close its connection ("rapid reset").
pub const MAX_RESET_STREAMS: usize = 64;
/// All metadata of a call together, in bytes.
pub const MAX_METADATA_BYTES: u32 = 64 * 1024;
/// Most metadata entries of a call.
pub const MAX_METADATA: usize = 128;
/// Bytes that a client may send ahead on one stream.
pub const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes that a client may send ahead on all streams of a connection together.
pub const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Largest HTTP/2 frame that a client may send, in bytes.
pub const HTTP2_FRAME_BYTES: u32 = 256 * 1024;
/// Bytes that wait to be written on one stream.
pub const MAX_SEND_BYTES: usize = 1024 * 1024;
/// How long a client may take to begin, once it is connected.
pub const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the first frame of a stream may take.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a silent connection is asked for a sign of life.
pub const PING_INTERVAL: Duration = Duration::from_secs(30);
/// How long that sign of life may take.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);
