//! Builds batches, straight into the one buffer that is written.

use bytes::Bytes;
use types::Offset;

use super::compression::{Codec, compress};
use super::error::BuildError;
use super::header::{
    Attributes, BatchHeader, CRC_START, NO_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Producer,
    TimestampType,
};
use super::limits::{
    HEADER_BYTES, LENGTH_PREFIX_BYTES, MAX_BATCH_BYTES, MAX_DECOMPRESSED_BYTES, MAX_HEADERS_PER_RECORD,
    MAX_RECORD_BYTES,
};
use super::record_batch::{RecordBatch, crc_of};
use super::varint::{put_varint, put_varlong, varint_len, varlong_len};

/// For [`BatchBuilder::push`], when a record has no headers.
pub const NO_HEADERS: [(&[u8], Option<&[u8]>); 0] = [];

/// What a batch says of all its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// How to compress the records block.
    pub codec: Codec,
    /// The producer, when it has an identity.
    pub producer: Option<Producer>,
    /// Whether the records belong to a transaction.
    pub transactional: bool,
    /// Whether the batch holds a marker for readers instead of messages.
    pub control: bool,
    /// What the timestamps mean.
    pub timestamp_type: TimestampType,
    /// What timestamp deltas count from, in milliseconds since 1970; the first record's time if
    /// `None`.
    pub base_timestamp_ms: Option<i64>,
    /// Sets the delete-horizon bit: the base timestamp is then that horizon.
    pub delete_horizon: bool,
    /// The base offset. Whoever appends the batch usually sets it later.
    pub base_offset: Offset,
    /// The leader epoch, or [`NO_LEADER_EPOCH`].
    pub leader_epoch: i32,
}

impl Default for BatchOptions {
    fn default() -> Self {
        BatchOptions {
            codec: Codec::None,
            producer: None,
            transactional: false,
            control: false,
            timestamp_type: TimestampType::Create,
            base_timestamp_ms: None,
            delete_horizon: false,
            base_offset: Offset::ZERO,
            leader_epoch: NO_LEADER_EPOCH,
        }
    }
}

/// Collects records into a batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    options: BatchOptions,
    /// Room for the header, then the encoded records.
    frame: Vec<u8>,
    record_count: u32,
    last_offset_delta: Option<u32>,
    base_timestamp_ms: Option<i64>,
    max_timestamp_ms: i64,
}

impl BatchBuilder {
    /// An empty builder.
    pub fn new(options: BatchOptions) -> BatchBuilder {
        Self::with_capacity(options, 0)
    }

    /// An empty builder with room for records of `block_bytes` encoded bytes.
    pub fn with_capacity(options: BatchOptions, block_bytes: usize) -> BatchBuilder {
        let mut frame = Vec::with_capacity(HEADER_BYTES + block_bytes);
        frame.extend_from_slice(&[0; HEADER_BYTES]);
        BatchBuilder {
            options,
            frame,
            record_count: 0,
            last_offset_delta: None,
            base_timestamp_ms: options.base_timestamp_ms,
            max_timestamp_ms: i64::MIN,
        }
    }

    /// Adds a record. Its offset is the base offset plus `offset_delta`, or the one after the
    /// record before it if `None`; gaps are allowed. Returns the bytes that the record took.
    ///
    /// # Errors
    /// [`BuildError`] for a record over a limit, an offset delta out of order, or a timestamp too
    /// far from the base. The builder is then as it was.
    pub fn push<'h, N, H>(
        &mut self,
        offset_delta: Option<u32>,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) -> Result<usize, BuildError>
    where
        N: AsRef<[u8]>,
        H: IntoIterator<Item = (N, Option<&'h [u8]>)>,
        H::IntoIter: Clone,
    {
        let headers = headers.into_iter();
        let offset_delta = self.check_offset_delta(offset_delta)?;
        let base_timestamp_ms = self.base_timestamp_ms.unwrap_or(timestamp_ms);
        let timestamp_delta_ms =
            timestamp_ms.checked_sub(base_timestamp_ms).ok_or(BuildError::Timestamp { timestamp_ms })?;
        let (header_count, header_bytes) = measure_headers(headers.clone())?;
        let body_bytes = 1
            + varlong_len(timestamp_delta_ms)
            + varint_len(offset_delta as i32)
            + nullable_len(key)?
            + nullable_len(value)?
            + varint_len(header_count)
            + header_bytes;
        if body_bytes > MAX_RECORD_BYTES {
            return Err(BuildError::RecordTooLarge);
        }
        let record_bytes = varint_len(body_bytes as i32) + body_bytes;
        self.check_room(record_bytes)?;

        self.frame.reserve(record_bytes);
        let out = &mut self.frame;
        put_varint(out, body_bytes as i32);
        out.push(0); // Record attributes, all unused.
        put_varlong(out, timestamp_delta_ms);
        put_varint(out, offset_delta as i32);
        put_nullable(out, key);
        put_nullable(out, value);
        put_varint(out, header_count);
        for (name, value) in headers {
            put_nullable(out, Some(name.as_ref()));
            put_nullable(out, value);
        }
        self.record_count += 1;
        self.last_offset_delta = Some(offset_delta);
        self.base_timestamp_ms = Some(base_timestamp_ms);
        self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp_ms);
        Ok(record_bytes)
    }

    fn check_offset_delta(&self, wanted: Option<u32>) -> Result<u32, BuildError> {
        let previous = self.last_offset_delta;
        let least = previous.map_or(0, |delta| delta.saturating_add(1));
        let found = wanted.unwrap_or(least);
        if found < least || found > i32::MAX as u32 {
            return Err(BuildError::OffsetDelta { found, previous });
        }
        Ok(found)
    }

    fn check_room(&self, record_bytes: usize) -> Result<(), BuildError> {
        let limit_bytes = match self.options.codec {
            Codec::None => MAX_BATCH_BYTES,
            _ => HEADER_BYTES + MAX_DECOMPRESSED_BYTES,
        };
        if self.frame.len() + record_bytes > limit_bytes {
            return Err(BuildError::BatchTooLarge { limit_bytes });
        }
        Ok(())
    }

    /// Bytes of the batch so far, header included, before compression.
    pub fn len_bytes(&self) -> usize {
        self.frame.len()
    }

    /// Records so far.
    pub fn record_count(&self) -> u32 {
        self.record_count
    }

    /// Whether no record was pushed yet.
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Compresses, fills the header in and signs it with the CRC.
    ///
    /// # Errors
    /// [`BuildError::Empty`] without records; [`BuildError::BaseOffset`] when the base offset is
    /// too large; [`BuildError::Compress`] or [`BuildError::BatchTooLarge`] from the codec's output.
    pub fn finish(self) -> Result<RecordBatch, BuildError> {
        let options = self.options;
        let last_offset_delta = self.last_offset_delta.ok_or(BuildError::Empty)?;
        let last_offset = options.base_offset.0.checked_add(u64::from(last_offset_delta));
        if last_offset.is_none_or(|last| last > i64::MAX as u64) {
            return Err(BuildError::BaseOffset { base_offset: options.base_offset });
        }
        let attributes = Attributes::new(options.codec, options.timestamp_type, options.transactional, options.control);
        let no_producer = Producer { id: NO_PRODUCER_ID, epoch: NO_PRODUCER_EPOCH, base_sequence: NO_SEQUENCE };
        let producer = options.producer.unwrap_or(no_producer);
        let header = BatchHeader {
            base_offset: options.base_offset,
            length_bytes: 0,
            leader_epoch: options.leader_epoch,
            crc: 0,
            attributes: if options.delete_horizon { attributes.with_delete_horizon() } else { attributes },
            last_offset_delta,
            base_timestamp_ms: self.base_timestamp_ms.unwrap_or(self.max_timestamp_ms),
            max_timestamp_ms: self.max_timestamp_ms,
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            base_sequence: producer.base_sequence,
            record_count: self.record_count,
        };
        seal(header, self.frame)
    }
}

/// Makes a batch of `header` and `frame`, which is room for a header and then the records, not
/// compressed. Length and CRC of `header` are computed here.
pub(super) fn seal(mut header: BatchHeader, frame: Vec<u8>) -> Result<RecordBatch, BuildError> {
    let codec = header.attributes.codec();
    let mut frame = match codec {
        Codec::None => frame,
        _ => {
            let block = frame.get(HEADER_BYTES..).unwrap_or_default();
            let mut compressed = Vec::with_capacity(HEADER_BYTES + block.len() / 2);
            compressed.resize(HEADER_BYTES, 0);
            compress(codec, block, &mut compressed)
                .map_err(|error| BuildError::Compress { codec, detail: error.to_string() })?;
            compressed
        }
    };
    if frame.len() > MAX_BATCH_BYTES {
        return Err(BuildError::BatchTooLarge { limit_bytes: MAX_BATCH_BYTES });
    }
    header.length_bytes = (frame.len() - LENGTH_PREFIX_BYTES) as u32;
    // The CRC covers the attributes and all after them, and stands in front of what it covers.
    if let Some(room) = frame.first_chunk_mut::<HEADER_BYTES>() {
        *room = header.encode();
    }
    header.crc = crc_of(&frame);
    if let Some(room) = frame.get_mut(CRC_START - 4..CRC_START) {
        room.copy_from_slice(&header.crc.to_be_bytes());
    }
    Ok(RecordBatch::from_parts(header, Bytes::from(frame)))
}

/// How many headers there are, and the bytes they take.
#[inline]
fn measure_headers<'h, N: AsRef<[u8]>>(
    headers: impl Iterator<Item = (N, Option<&'h [u8]>)>,
) -> Result<(i32, usize), BuildError> {
    let mut count = 0;
    let mut bytes = 0usize;
    for (name, value) in headers {
        count += 1;
        if count > MAX_HEADERS_PER_RECORD {
            return Err(BuildError::TooManyHeaders);
        }
        bytes += nullable_len(Some(name.as_ref()))? + nullable_len(value)?;
    }
    Ok((count as i32, bytes))
}

/// Bytes of a field with its length in front. Each is held under the record's limit on its own,
/// so that no cast to the wire's 32 bits and no sum can overflow.
#[inline]
fn nullable_len(field: Option<&[u8]>) -> Result<usize, BuildError> {
    match field {
        None => Ok(1),
        Some(bytes) if bytes.len() > MAX_RECORD_BYTES => Err(BuildError::RecordTooLarge),
        Some(bytes) => Ok(varint_len(bytes.len() as i32) + bytes.len()),
    }
}

#[inline]
fn put_nullable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}
