//! A batch's records block, decompressed, and the walks over it.

use bytes::Bytes;
use types::Offset;

use super::error::{BatchError, RecordFault};
use super::header::{BatchHeader, TimestampType};
use super::limits::MIN_RECORD_BYTES;
use super::record::{HeadersRef, Record, RecordPosition, RecordRef, read_nullable};
use super::varint::Reader;

/// The decompressed records of one batch, with what is needed to decode each on its own.
/// Cheap to clone. Whoever decodes several records of a compressed batch keeps this, not the
/// batch, so that the block is decompressed once.
#[derive(Debug, Clone)]
pub struct RecordBlock {
    bytes: Bytes,
    base_offset: Offset,
    last_offset_delta: u32,
    base_timestamp_ms: i64,
    /// Stands for every record's time when the batch has append time.
    append_timestamp_ms: Option<i64>,
    record_count: u32,
}

/// What stands in front of a record's key, and where the record ends.
struct Prefix<'a> {
    body: Reader<'a>,
    timestamp_delta_ms: i64,
    offset_delta: u32,
    end: usize,
}

impl RecordBlock {
    pub(super) fn new(header: &BatchHeader, bytes: Bytes) -> Result<RecordBlock, BatchError> {
        if header.record_count as usize > bytes.len() / MIN_RECORD_BYTES {
            return Err(BatchError::RecordCount { found: header.record_count as i32 });
        }
        let append_time = header.attributes.timestamp_type() == TimestampType::LogAppend;
        Ok(RecordBlock {
            bytes,
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            base_timestamp_ms: header.base_timestamp_ms,
            append_timestamp_ms: append_time.then_some(header.max_timestamp_ms),
            record_count: header.record_count,
        })
    }

    /// The encoded records.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many records the batch says it has.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Decodes the record at `position`, in time that does not depend on the batch's size. The
    /// position must come from this batch: another one is either an error or a wrong record.
    ///
    /// # Errors
    /// [`BatchError::Record`] when no record is there.
    pub fn record_ref(&self, position: RecordPosition) -> Result<RecordRef<'_>, BatchError> {
        self.decode(position.0 as usize).map(|(record, _)| record)
    }

    /// Like [`record_ref`](Self::record_ref), but the record keeps the block alive.
    ///
    /// # Errors
    /// As [`record_ref`](Self::record_ref).
    pub fn record_from(&self, position: RecordPosition) -> Result<Record, BatchError> {
        self.record_ref(position).map(|record| record.share(&self.bytes))
    }

    /// A block of the record at `position` alone, at position 0, with the same offset and time. It has bytes of its own, so that
    /// keeping it does not keep all of this one.
    ///
    /// # Errors
    /// [`BatchError::Record`] when no record is there.
    pub fn alone(&self, position: RecordPosition) -> Result<RecordBlock, BatchError> {
        let start = position.0 as usize;
        let end = self.prefix(start).map_err(|fault| record_error(start, fault))?.end;
        let bytes = self.bytes.get(start..end).ok_or_else(|| record_error(start, RecordFault::Truncated))?;
        Ok(RecordBlock { bytes: Bytes::copy_from_slice(bytes), record_count: 1, ..self.clone() })
    }

    /// The records in order, borrowed: the cheapest way to look at all of them.
    pub fn refs(&self) -> RecordRefs<'_> {
        RecordRefs { block: self, walk: Walk::new(self) }
    }

    /// The records in order, each sharing the block.
    pub fn records(&self) -> Records {
        Records { walk: Walk::new(self), block: self.clone() }
    }

    /// Where each record is, without looking at keys, values and headers.
    pub fn positions(&self) -> Positions {
        Positions { walk: Walk::new(self), block: self.clone() }
    }

    /// Decodes every record and checks that they are exactly the announced ones, in offset order.
    ///
    /// # Errors
    /// The first [`BatchError`] of the walk.
    pub fn validate(&self) -> Result<(), BatchError> {
        self.refs().try_for_each(|record| record.map(|_| ()))
    }

    #[inline]
    fn prefix(&self, position: usize) -> Result<Prefix<'_>, RecordFault> {
        let tail = self.bytes.get(position..).ok_or(RecordFault::Truncated)?;
        let mut reader = Reader::new(tail);
        let len = reader.varint().ok_or(RecordFault::Truncated)?;
        let len = usize::try_from(len).map_err(|_| RecordFault::NegativeLength)?;
        let body = reader.take(len).ok_or(RecordFault::Truncated)?;
        let end = self.bytes.len() - reader.rest().len();
        let mut body = Reader::new(body);
        body.array::<1>().ok_or(RecordFault::Truncated)?; // Record attributes, all unused.
        let timestamp_delta_ms = body.varlong().ok_or(RecordFault::Truncated)?;
        let offset_delta = body.varint().ok_or(RecordFault::Truncated)?;
        let offset_delta = u32::try_from(offset_delta)
            .ok()
            .filter(|&delta| delta <= self.last_offset_delta)
            .ok_or(RecordFault::OffsetDelta)?;
        Ok(Prefix { body, timestamp_delta_ms, offset_delta, end })
    }

    /// The record at `position` and where the next one starts.
    #[inline]
    fn decode(&self, position: usize) -> Result<(RecordRef<'_>, usize), BatchError> {
        self.decode_fields(position).map_err(|fault| record_error(position, fault))
    }

    #[inline]
    fn decode_fields(&self, position: usize) -> Result<(RecordRef<'_>, usize), RecordFault> {
        let Prefix { mut body, timestamp_delta_ms, offset_delta, end } = self.prefix(position)?;
        let key = read_nullable(&mut body)?;
        let value = read_nullable(&mut body)?;
        let header_count = body.varint().ok_or(RecordFault::Truncated)?;
        let headers = HeadersRef::check(header_count, body.rest())?;
        let timestamp_ms = match self.append_timestamp_ms {
            Some(append_ms) => append_ms,
            None => self.base_timestamp_ms.checked_add(timestamp_delta_ms).ok_or(RecordFault::Timestamp)?,
        };
        let record = RecordRef {
            offset: self.base_offset.plus(u64::from(offset_delta)),
            offset_delta,
            timestamp_ms,
            key,
            value,
            headers,
            position: RecordPosition(position as u32),
            encoded_bytes: (end - position) as u32,
        };
        Ok((record, end))
    }
}

fn record_error(position: usize, fault: RecordFault) -> BatchError {
    BatchError::Record { position: position as u32, fault }
}

/// How far a walk over a block has come.
#[derive(Debug, Clone)]
struct Walk {
    position: usize,
    remaining: u32,
    /// The least offset delta that the next record may have.
    next_delta: u64,
    is_done: bool,
}

impl Walk {
    fn new(block: &RecordBlock) -> Walk {
        Walk { position: 0, remaining: block.record_count, next_delta: 0, is_done: false }
    }

    /// `Ok(true)`: a record is due. `Ok(false)`: the walk is over, and nothing is left behind.
    fn is_due(&mut self, block: &RecordBlock) -> Result<bool, BatchError> {
        if self.is_done || self.remaining > 0 {
            return Ok(!self.is_done);
        }
        self.is_done = true;
        match block.bytes.len() - self.position {
            0 => Ok(false),
            extra_bytes => Err(BatchError::TrailingBytes { extra_bytes }),
        }
    }

    fn advance(&mut self, offset_delta: u32, end: usize) -> Result<(), BatchError> {
        let delta = u64::from(offset_delta);
        if delta < self.next_delta {
            return Err(record_error(self.position, RecordFault::OffsetDelta));
        }
        self.next_delta = delta + 1;
        self.position = end;
        self.remaining -= 1;
        Ok(())
    }

    /// One step: `decode` gives the item, its offset delta and its end. An error ends the walk.
    #[inline]
    fn step<'a, T>(
        &mut self,
        block: &'a RecordBlock,
        decode: impl FnOnce(&'a RecordBlock, usize) -> Result<(T, u32, usize), BatchError>,
    ) -> Option<Result<T, BatchError>> {
        match self.is_due(block) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Err(error)),
        }
        let step = decode(block, self.position).and_then(|(item, delta, end)| self.advance(delta, end).map(|()| item));
        self.is_done = step.is_err();
        Some(step)
    }

    #[inline]
    fn record<'a>(&mut self, block: &'a RecordBlock) -> Option<Result<RecordRef<'a>, BatchError>> {
        self.step(block, |block, position| {
            let (record, end) = block.decode(position)?;
            Ok((record, record.offset_delta, end))
        })
    }
}

/// The records of a batch, borrowed. Ends after the first error.
#[derive(Debug, Clone)]
pub struct RecordRefs<'a> {
    block: &'a RecordBlock,
    walk: Walk,
}

impl<'a> Iterator for RecordRefs<'a> {
    type Item = Result<RecordRef<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.walk.record(self.block)
    }
}

/// The records of a batch, sharing its block. Ends after the first error.
#[derive(Debug, Clone)]
pub struct Records {
    block: RecordBlock,
    walk: Walk,
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let record = self.walk.record(&self.block)?;
        Some(record.map(|record| record.share(&self.block.bytes)))
    }
}

/// Where one record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    /// The record's offset in its log.
    pub offset: Offset,
    /// Where it starts in the decompressed records block.
    pub position: RecordPosition,
    /// Bytes of the encoded record, its length prefix included.
    pub encoded_bytes: u32,
}

/// The places of a batch's records. Ends after the first error; a record whose key, value or
/// headers are malformed is only found out when it is decoded.
#[derive(Debug, Clone)]
pub struct Positions {
    block: RecordBlock,
    walk: Walk,
}

impl Iterator for Positions {
    type Item = Result<RecordPlace, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.walk.step(&self.block, |block, position| {
            let prefix = block.prefix(position).map_err(|fault| record_error(position, fault))?;
            let place = RecordPlace {
                offset: block.base_offset.plus(u64::from(prefix.offset_delta)),
                position: RecordPosition(position as u32),
                encoded_bytes: (prefix.end - position) as u32,
            };
            Ok((place, prefix.offset_delta, prefix.end))
        })
    }
}
