//! The 61 bytes in front of a batch's records block.

use types::Offset;

use super::compression::Codec;
use super::error::BatchError;
use super::limits::{HEADER_BYTES, LENGTH_PREFIX_BYTES, MIN_RECORD_BYTES};
use super::varint::Reader;

/// The only format version we read and write.
pub const MAGIC: u8 = 2;

/// Where the version byte stands; it is at the same place in versions 0 and 1.
const MAGIC_POSITION: usize = 16;

/// Where the bytes that the CRC covers begin: at the attributes.
pub(super) const CRC_START: usize = 21;

/// The producer id of a batch whose producer did not ask for idempotence.
pub const NO_PRODUCER_ID: i64 = -1;
/// The producer epoch that goes with [`NO_PRODUCER_ID`].
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// The base sequence of a batch that has none.
pub const NO_SEQUENCE: i32 = -1;
/// The partition leader epoch of a batch that no leader has stamped.
pub const NO_LEADER_EPOCH: i32 = -1;

/// What the timestamps of a batch mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// Each record carries the time its producer gave it.
    #[default]
    Create,
    /// All records have the time at which the broker appended them: the batch's max timestamp.
    LogAppend,
}

/// The client's producer identity, for idempotence and transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    /// The id that the broker gave to the producer.
    pub id: i64,
    /// Fences older instances of the same producer.
    pub epoch: i16,
    /// The sequence number of the batch's first record, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
}

/// The attribute bits of a batch. Bits we do not know are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes(i16);

const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_BIT: i16 = 1 << 3;
const TRANSACTIONAL_BIT: i16 = 1 << 4;
const CONTROL_BIT: i16 = 1 << 5;
const DELETE_HORIZON_BIT: i16 = 1 << 6;

impl Attributes {
    /// Attributes with these bits set and no others.
    pub fn new(codec: Codec, timestamps: TimestampType, transactional: bool, control: bool) -> Self {
        let mut bits = i16::from(codec.wire_id());
        if timestamps == TimestampType::LogAppend {
            bits |= LOG_APPEND_BIT;
        }
        if transactional {
            bits |= TRANSACTIONAL_BIT;
        }
        if control {
            bits |= CONTROL_BIT;
        }
        Attributes(bits)
    }

    /// The same attributes with the delete-horizon bit set.
    pub fn with_delete_horizon(self) -> Self {
        Attributes(self.0 | DELETE_HORIZON_BIT)
    }

    fn from_wire(bits: i16) -> Result<Self, BatchError> {
        let codec_bits = (bits & CODEC_MASK) as u8;
        match Codec::from_wire_id(codec_bits) {
            Some(_) => Ok(Attributes(bits)),
            None => Err(BatchError::UnknownCodec { bits: codec_bits }),
        }
    }

    /// The attributes as the wire has them.
    pub fn bits(self) -> i16 {
        self.0
    }

    /// How the records block is compressed.
    pub fn codec(self) -> Codec {
        // Both constructors only let known codecs in, so the fallback is never taken.
        Codec::from_wire_id((self.0 & CODEC_MASK) as u8).unwrap_or(Codec::None)
    }

    /// What the timestamps mean.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & LOG_APPEND_BIT == 0 { TimestampType::Create } else { TimestampType::LogAppend }
    }

    /// Whether the records belong to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL_BIT != 0
    }

    /// Whether the records are markers for readers, never messages.
    pub fn is_control(self) -> bool {
        self.0 & CONTROL_BIT != 0
    }

    /// Whether the base timestamp is the time after which a compactor may drop the tombstones.
    pub fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON_BIT != 0
    }
}

/// A batch's header, decoded. See docs/formats/record-batch.md for the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record slot. Outside the CRC.
    pub base_offset: Offset,
    /// Bytes after the length field: the rest of the header and the records block.
    pub length_bytes: u32,
    /// The epoch of the leader that appended the batch, or [`NO_LEADER_EPOCH`]. Outside the CRC.
    pub leader_epoch: i32,
    /// The CRC32C of everything from the attributes to the end of the batch.
    pub crc: u32,
    /// Codec and flags.
    pub attributes: Attributes,
    /// The last offset is the base offset plus this; compaction does not lower it.
    pub last_offset_delta: u32,
    /// What the records' timestamp deltas count from, in milliseconds since 1970, or the delete
    /// horizon when that bit is set.
    pub base_timestamp_ms: i64,
    /// The greatest timestamp of the records, or the append time, in milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// The producer's id, or [`NO_PRODUCER_ID`].
    pub producer_id: i64,
    /// The producer's epoch, or [`NO_PRODUCER_EPOCH`].
    pub producer_epoch: i16,
    /// The first record's sequence number, or [`NO_SEQUENCE`].
    pub base_sequence: i32,
    /// How many records the block holds. Zero in a batch that compaction emptied.
    pub record_count: u32,
}

impl BatchHeader {
    /// Decodes and checks a header at the front of `bytes`, which may but need not hold the rest
    /// of the batch: a scan can read headers only and skip [`size_bytes`](Self::size_bytes).
    ///
    /// # Errors
    /// [`BatchError`] for a short, foreign or impossible header. The CRC is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        // A message set of version 0 or 1 can be shorter than our header, so look at this first.
        if let Some(&magic) = bytes.get(MAGIC_POSITION)
            && magic != MAGIC
        {
            return Err(BatchError::Magic { found: magic });
        }
        let short = BatchError::Truncated { needed_bytes: HEADER_BYTES, have_bytes: bytes.len() };
        let wire = WireHeader::read(bytes).ok_or(short)?;
        wire.check()
    }

    /// The header as bytes, the inverse of [`decode`](Self::decode).
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut at = 0;
        put(&mut out, &mut at, self.base_offset.0.to_be_bytes());
        put(&mut out, &mut at, self.length_bytes.to_be_bytes());
        put(&mut out, &mut at, self.leader_epoch.to_be_bytes());
        put(&mut out, &mut at, [MAGIC]);
        put(&mut out, &mut at, self.crc.to_be_bytes());
        put(&mut out, &mut at, self.attributes.bits().to_be_bytes());
        put(&mut out, &mut at, self.last_offset_delta.to_be_bytes());
        put(&mut out, &mut at, self.base_timestamp_ms.to_be_bytes());
        put(&mut out, &mut at, self.max_timestamp_ms.to_be_bytes());
        put(&mut out, &mut at, self.producer_id.to_be_bytes());
        put(&mut out, &mut at, self.producer_epoch.to_be_bytes());
        put(&mut out, &mut at, self.base_sequence.to_be_bytes());
        put(&mut out, &mut at, self.record_count.to_be_bytes());
        debug_assert_eq!(at, HEADER_BYTES);
        out
    }

    /// Bytes of the whole batch, header included.
    pub fn size_bytes(&self) -> usize {
        LENGTH_PREFIX_BYTES + self.length_bytes as usize
    }

    /// Bytes of the records block as it is stored, compressed or not.
    pub fn body_bytes(&self) -> usize {
        self.size_bytes() - HEADER_BYTES
    }

    /// The offset of the last record slot.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.last_offset_delta))
    }

    /// The same header at another place of the log.
    ///
    /// # Errors
    /// [`BatchError::OffsetRange`] when the last offset would not fit the wire's 63 bits.
    pub fn rebased(&self, base_offset: Offset, leader_epoch: i32) -> Result<BatchHeader, BatchError> {
        check_offsets(i128::from(base_offset.0), self.last_offset_delta as i32)?;
        Ok(BatchHeader { base_offset, leader_epoch, ..*self })
    }
}

/// Writes a field, and moves behind it. As an array, since a slice of so few bytes would be a call of its own; every batch has a header.
#[inline(always)]
fn put<const N: usize>(out: &mut [u8; HEADER_BYTES], at: &mut usize, field: [u8; N]) {
    if let Some(room) = out.get_mut(*at..).and_then(|rest| rest.first_chunk_mut::<N>()) {
        *room = field;
    }
    *at += N;
}

fn check_offsets(base_offset: i128, last_offset_delta: i32) -> Result<(), BatchError> {
    let last = base_offset + i128::from(last_offset_delta);
    if base_offset < 0 || last_offset_delta < 0 || last > i128::from(i64::MAX) {
        return Err(BatchError::OffsetRange { base_offset, last_offset_delta });
    }
    Ok(())
}

/// The fields as they stand on the wire, before anything is checked.
struct WireHeader {
    base_offset: i64,
    length_bytes: i32,
    leader_epoch: i32,
    crc: u32,
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    record_count: i32,
}

impl WireHeader {
    fn read(bytes: &[u8]) -> Option<WireHeader> {
        let mut reader = Reader::new(bytes.get(..HEADER_BYTES)?);
        let base_offset = i64::from_be_bytes(reader.array()?);
        let length_bytes = i32::from_be_bytes(reader.array()?);
        let leader_epoch = i32::from_be_bytes(reader.array()?);
        reader.array::<1>()?; // The version byte, already looked at.
        Some(WireHeader {
            base_offset,
            length_bytes,
            leader_epoch,
            crc: u32::from_be_bytes(reader.array()?),
            attributes: i16::from_be_bytes(reader.array()?),
            last_offset_delta: i32::from_be_bytes(reader.array()?),
            base_timestamp_ms: i64::from_be_bytes(reader.array()?),
            max_timestamp_ms: i64::from_be_bytes(reader.array()?),
            producer_id: i64::from_be_bytes(reader.array()?),
            producer_epoch: i16::from_be_bytes(reader.array()?),
            base_sequence: i32::from_be_bytes(reader.array()?),
            record_count: i32::from_be_bytes(reader.array()?),
        })
    }

    fn check(self) -> Result<BatchHeader, BatchError> {
        let length_bytes = u32::try_from(self.length_bytes)
            .ok()
            .filter(|&length| length as usize + LENGTH_PREFIX_BYTES >= HEADER_BYTES)
            .ok_or(BatchError::Length { found: self.length_bytes })?;
        check_offsets(i128::from(self.base_offset), self.last_offset_delta)?;
        let attributes = Attributes::from_wire(self.attributes)?;
        let header = BatchHeader {
            base_offset: Offset(self.base_offset as u64),
            length_bytes,
            leader_epoch: self.leader_epoch,
            crc: self.crc,
            attributes,
            last_offset_delta: self.last_offset_delta as u32,
            base_timestamp_ms: self.base_timestamp_ms,
            max_timestamp_ms: self.max_timestamp_ms,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.record_count as u32,
        };
        let fits_offsets = i64::from(self.record_count) <= i64::from(self.last_offset_delta) + 1;
        let fits_block =
            attributes.codec() != Codec::None || header.record_count as usize <= header.body_bytes() / MIN_RECORD_BYTES;
        if self.record_count < 0 || !fits_offsets || !fits_block {
            return Err(BatchError::RecordCount { found: self.record_count });
        }
        Ok(header)
    }
}
