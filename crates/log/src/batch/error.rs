//! What can be wrong with a batch that is read, and with one that is built.

use types::Offset;

use super::compression::{Codec, CodecError};
use super::limits::{MAX_BATCH_BYTES, MAX_HEADERS_PER_RECORD, MAX_RECORD_BYTES};

/// Why bytes are not a record batch that we can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end before the batch does; with more of them it may be a good one.
    #[error("the batch needs {needed_bytes} bytes, {have_bytes} are there")]
    Truncated {
        /// Bytes the header or the length field asks for.
        needed_bytes: usize,
        /// Bytes that are there.
        have_bytes: usize,
    },
    /// Not format version 2. Versions 0 and 1 are message sets, which we do not read.
    #[error("record batch format version {found} is not supported, only 2 is")]
    Magic {
        /// The version byte found.
        found: u8,
    },
    /// The length field is less than a header, or negative.
    #[error("batch length {found} is less than a batch header")]
    Length {
        /// The length field.
        found: i32,
    },
    /// Offsets are not negative, and the last one fits a signed 64-bit number.
    #[error("offsets {base_offset} + {last_offset_delta} are not within 0..2^63")]
    OffsetRange {
        /// The base offset as it is on the wire, or as it was asked for.
        base_offset: i128,
        /// The last offset delta as it is on the wire.
        last_offset_delta: i32,
    },
    /// The attributes name a codec that does not exist.
    #[error("compression codec {bits} is unknown")]
    UnknownCodec {
        /// The three codec bits.
        bits: u8,
    },
    /// The record count is negative, or more than the offsets or the block can hold.
    #[error("{found} records cannot be in this batch")]
    RecordCount {
        /// The count field.
        found: i32,
    },
    /// The stored CRC32C is not that of the bytes.
    #[error("checksum is {computed:#010x}, the batch says {stored:#010x}")]
    Checksum {
        /// The CRC field.
        stored: u32,
        /// The CRC of the bytes from the attributes to the end.
        computed: u32,
    },
    /// The records block does not decompress.
    #[error(transparent)]
    Decompress(#[from] CodecError),
    /// A record is malformed.
    #[error("record at byte {position} of the records block: {fault}")]
    Record {
        /// Where the record starts in the decompressed records block.
        position: u32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// Bytes are left after the last record that the count announces.
    #[error("{extra_bytes} bytes follow the last record")]
    TrailingBytes {
        /// How many bytes are left.
        extra_bytes: usize,
    },
    /// A control batch whose record is not one Kafka defines.
    #[error("the control record is malformed")]
    ControlRecord,
}

/// What is wrong with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// A field, or the record, ends after the bytes that are there.
    #[error("a field is cut short or its number is malformed")]
    Truncated,
    /// A length is negative where it must not be.
    #[error("a length is negative")]
    NegativeLength,
    /// The offset delta is negative, not above the one before, or past the batch's last.
    #[error("the offset delta is out of order or out of the batch")]
    OffsetDelta,
    /// Base timestamp and delta do not add up to a 64-bit number.
    #[error("the timestamp overflows")]
    Timestamp,
    /// More headers than [`MAX_HEADERS_PER_RECORD`], or a negative number of them.
    #[error("the header count is negative or over {MAX_HEADERS_PER_RECORD}")]
    HeaderCount,
    /// Bytes are left between the last header and the record's end.
    #[error("bytes follow the last header")]
    TrailingBytes,
}

/// Why a batch cannot be built. The builder is unchanged by a push that fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A batch has at least one record.
    #[error("a batch needs at least one record")]
    Empty,
    /// The record is over [`MAX_RECORD_BYTES`].
    #[error("a record is over the limit of {MAX_RECORD_BYTES} bytes")]
    RecordTooLarge,
    /// The record has more than [`MAX_HEADERS_PER_RECORD`] headers.
    #[error("a record has more than {MAX_HEADERS_PER_RECORD} headers")]
    TooManyHeaders,
    /// The batch would be over its limit: [`MAX_BATCH_BYTES`], and when it is to be compressed
    /// [`MAX_DECOMPRESSED_BYTES`](super::limits::MAX_DECOMPRESSED_BYTES) too.
    #[error("the batch would be over its limit of {limit_bytes} bytes (never over {MAX_BATCH_BYTES})")]
    BatchTooLarge {
        /// The limit that applies to this batch.
        limit_bytes: usize,
    },
    /// Offset deltas rise from record to record and fit a signed 32-bit number.
    #[error("offset delta {found} does not follow {previous:?} or is over 2^31-1")]
    OffsetDelta {
        /// The delta asked for.
        found: u32,
        /// The delta of the record before.
        previous: Option<u32>,
    },
    /// The base offset plus the last delta does not fit a signed 64-bit number.
    #[error("base offset {base_offset} is too large for this batch")]
    BaseOffset {
        /// The base offset asked for.
        base_offset: Offset,
    },
    /// The record's time is more than 64 bits from the base timestamp.
    #[error("timestamp {timestamp_ms} is too far from the batch's base timestamp")]
    Timestamp {
        /// The timestamp asked for.
        timestamp_ms: i64,
    },
    /// The codec failed.
    #[error("{codec:?} cannot compress the batch: {detail}")]
    Compress {
        /// Which codec.
        codec: Codec,
        /// What it said.
        detail: String,
    },
}

/// Why a batch cannot be filtered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// The batch cannot be read.
    #[error(transparent)]
    Read(#[from] BatchError),
    /// The smaller batch cannot be written.
    #[error(transparent)]
    Build(#[from] BuildError),
}
