//! A whole batch: header and records block.

use std::fmt;

use bytes::Bytes;
use types::Offset;

use super::block::{Positions, RecordBlock, Records};
use super::compression::{Codec, decompress};
use super::error::BatchError;
use super::header::{BatchHeader, CRC_START, NO_PRODUCER_ID, Producer, TimestampType};
use super::limits::{HEADER_BYTES, MAX_DECOMPRESSED_BYTES};
use super::record::{Record, RecordPosition};

/// A record batch of Kafka's format version 2, checked, as it is stored and sent. Cheap to clone.
///
/// The base offset and the leader epoch are outside the CRC, so a batch moves to another place of
/// a log without its body being touched: see [`with_base_offset`](Self::with_base_offset).
#[derive(Clone)]
pub struct RecordBatch {
    header: BatchHeader,
    /// The batch as it was parsed or built. Its header is stale once `is_rebased`.
    frame: Bytes,
    is_rebased: bool,
}

impl RecordBatch {
    /// Takes one batch off the front of `input`; returns it and what follows. Nothing is copied.
    /// The records block is not looked into: see [`validate`](Self::validate).
    ///
    /// # Errors
    /// [`BatchError::Truncated`] when `input` ends within the batch; other variants for a header
    /// that cannot be right or a wrong checksum.
    pub fn parse(input: Bytes) -> Result<(RecordBatch, Bytes), BatchError> {
        let (batch, rest) = Self::parse_unchecked_crc(input)?;
        let computed = crc_of(&batch.frame);
        if computed != batch.header.crc {
            return Err(BatchError::Checksum { stored: batch.header.crc, computed });
        }
        Ok((batch, rest))
    }

    /// Like [`parse`](Self::parse), but trusts the checksum: for bytes that we wrote ourselves,
    /// read back under another checksum that was verified.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), without [`BatchError::Checksum`].
    pub fn parse_unchecked_crc(mut input: Bytes) -> Result<(RecordBatch, Bytes), BatchError> {
        let header = BatchHeader::decode(&input)?;
        let needed_bytes = header.size_bytes();
        if input.len() < needed_bytes {
            return Err(BatchError::Truncated { needed_bytes, have_bytes: input.len() });
        }
        let rest = input.split_off(needed_bytes);
        Ok((RecordBatch { header, frame: input, is_rebased: false }, rest))
    }

    /// A batch from parts that belong together: `frame` starts with `header`, encoded.
    pub(super) fn from_parts(header: BatchHeader, frame: Bytes) -> RecordBatch {
        RecordBatch { header, frame, is_rebased: false }
    }

    /// The decoded header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The offset of the first record slot.
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    /// The offset of the last record slot.
    pub fn last_offset(&self) -> Offset {
        self.header.last_offset()
    }

    /// The last offset minus the base offset.
    pub fn last_offset_delta(&self) -> u32 {
        self.header.last_offset_delta
    }

    /// How many records the batch holds; fewer than its offsets span once it was compacted.
    pub fn record_count(&self) -> u32 {
        self.header.record_count
    }

    /// What timestamp deltas count from, in milliseconds since 1970.
    pub fn base_timestamp_ms(&self) -> i64 {
        self.header.base_timestamp_ms
    }

    /// The greatest timestamp, or the append time, in milliseconds since 1970.
    pub fn max_timestamp_ms(&self) -> i64 {
        self.header.max_timestamp_ms
    }

    /// How the records block is compressed.
    pub fn codec(&self) -> Codec {
        self.header.attributes.codec()
    }

    /// What the timestamps mean.
    pub fn timestamp_type(&self) -> TimestampType {
        self.header.attributes.timestamp_type()
    }

    /// The producer's id, or [`NO_PRODUCER_ID`].
    pub fn producer_id(&self) -> i64 {
        self.header.producer_id
    }

    /// The producer's epoch, or [`NO_PRODUCER_EPOCH`](super::NO_PRODUCER_EPOCH).
    pub fn producer_epoch(&self) -> i16 {
        self.header.producer_epoch
    }

    /// The first record's sequence number, or [`NO_SEQUENCE`](super::NO_SEQUENCE).
    pub fn base_sequence(&self) -> i32 {
        self.header.base_sequence
    }

    /// Id, epoch and sequence together, if the batch has a producer id.
    pub fn producer(&self) -> Option<Producer> {
        (self.header.producer_id != NO_PRODUCER_ID).then_some(Producer {
            id: self.header.producer_id,
            epoch: self.header.producer_epoch,
            base_sequence: self.header.base_sequence,
        })
    }

    /// Whether the records belong to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.header.attributes.is_transactional()
    }

    /// Whether the batch holds a marker for readers instead of messages.
    pub fn is_control(&self) -> bool {
        self.header.attributes.is_control()
    }

    /// The time after which a compactor may drop tombstones, in milliseconds since 1970, if set.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.header.attributes.has_delete_horizon().then_some(self.header.base_timestamp_ms)
    }

    /// Bytes of the whole batch.
    pub fn size_bytes(&self) -> usize {
        self.header.size_bytes()
    }

    /// The whole batch as one buffer. Copies it if the base offset or leader epoch was changed;
    /// a writer that can write vectors takes [`header_bytes`](Self::header_bytes) and
    /// [`body`](Self::body) instead.
    pub fn bytes(&self) -> Bytes {
        if !self.is_rebased {
            return self.frame.clone();
        }
        let mut copy = Vec::with_capacity(self.frame.len());
        copy.extend_from_slice(&self.header.encode());
        copy.extend_from_slice(self.body_slice());
        Bytes::from(copy)
    }

    /// The header as it is to be written, with the current base offset and leader epoch.
    pub fn header_bytes(&self) -> [u8; HEADER_BYTES] {
        self.header.encode()
    }

    /// The records block as it is stored, compressed or not. Never copied.
    pub fn body(&self) -> Bytes {
        self.frame.slice(HEADER_BYTES.min(self.frame.len())..)
    }

    /// Whether both batches hold the very same body in memory, wherever in a log each is: a writer of
    /// both needs to write it once. A body that is merely equal does not count.
    pub fn shares_body_with(&self, other: &RecordBatch) -> bool {
        let (ours, theirs) = (self.body_slice(), other.body_slice());
        ours.as_ptr() == theirs.as_ptr() && ours.len() == theirs.len()
    }

    fn body_slice(&self) -> &[u8] {
        self.frame.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// The same batch at another place of the log. The body is shared, nothing is copied.
    ///
    /// # Errors
    /// [`BatchError::OffsetRange`] when the last offset would not fit the wire's 63 bits.
    pub fn with_base_offset(&self, base_offset: Offset, leader_epoch: i32) -> Result<RecordBatch, BatchError> {
        let header = self.header.rebased(base_offset, leader_epoch)?;
        let is_rebased = self.is_rebased || header != self.header;
        Ok(RecordBatch { header, frame: self.frame.clone(), is_rebased })
    }

    /// The header this batch would have at another place of the log, encoded.
    ///
    /// # Errors
    /// As [`with_base_offset`](Self::with_base_offset).
    pub fn header_with_base_offset(
        &self,
        base_offset: Offset,
        leader_epoch: i32,
    ) -> Result<[u8; HEADER_BYTES], BatchError> {
        Ok(self.header.rebased(base_offset, leader_epoch)?.encode())
    }

    /// The records block, decompressed within [`MAX_DECOMPRESSED_BYTES`]; not copied if it is not
    /// compressed.
    ///
    /// # Errors
    /// [`BatchError::Decompress`], or [`BatchError::RecordCount`] when the block is too small for
    /// the announced records.
    pub fn block(&self) -> Result<RecordBlock, BatchError> {
        self.block_within(MAX_DECOMPRESSED_BYTES)
    }

    /// Like [`block`](Self::block), with another limit for a compressed block, in bytes.
    ///
    /// # Errors
    /// As [`block`](Self::block).
    pub fn block_within(&self, limit_bytes: usize) -> Result<RecordBlock, BatchError> {
        let body = self.body();
        // A batch that compaction emptied has no block, not even a compressed one.
        let block = if body.is_empty() && self.header.record_count == 0 {
            body
        } else {
            decompress(self.codec(), &body, limit_bytes)?
        };
        RecordBlock::new(&self.header, block)
    }

    /// The records in order, each sharing the records block.
    ///
    /// # Errors
    /// As [`block`](Self::block); a malformed record is an error of the iterator, and its last item.
    pub fn records(&self) -> Result<Records, BatchError> {
        self.block().map(|block| block.records())
    }

    /// Where each record is, without decoding keys, values and headers.
    ///
    /// # Errors
    /// As [`records`](Self::records).
    pub fn positions(&self) -> Result<Positions, BatchError> {
        self.block().map(|block| block.positions())
    }

    /// The record at a position that came from this batch. Decompresses the whole block if it is
    /// compressed, so for more than one record use [`block`](Self::block).
    ///
    /// # Errors
    /// As [`block`](Self::block), and [`BatchError::Record`] when no record is there.
    pub fn record_from(&self, position: RecordPosition) -> Result<Record, BatchError> {
        self.block()?.record_from(position)
    }

    /// Decompresses and decodes everything once. A batch that passed gives no errors later, so a
    /// broker does this where foreign batches come in.
    ///
    /// # Errors
    /// The first fault found.
    pub fn validate(&self) -> Result<(), BatchError> {
        self.block()?.validate()
    }
}

/// Shows the header only: the body is other people's data, and long.
impl fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordBatch").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Two batches are equal when the same bytes would be written for them.
impl PartialEq for RecordBatch {
    fn eq(&self, other: &Self) -> bool {
        self.header == other.header && self.body_slice() == other.body_slice()
    }
}

impl Eq for RecordBatch {}

/// The CRC32C of what the checksum covers, in an encoded batch.
pub(super) fn crc_of(frame: &[u8]) -> u32 {
    crc32c::crc32c(frame.get(CRC_START..).unwrap_or_default())
}
