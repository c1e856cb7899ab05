//! Writing a segment file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use types::LogId;
use types::disk::{BULK_ALIGN, Disk, DiskFile};

use super::log_data::Extent;
use super::options::INDEX_STEP_BYTES;
use super::segment::{
    ENTRY_HEADER_BYTES, FILE_HEADER_BYTES, FILE_MAGIC, FILE_VERSION, IndexStep, SEGMENT_DIR, Segment, SegmentIndex,
    TRAILER_MAGIC, path_of,
};
use crate::batch::RecordBatch;

/// Written at once; a multiple of [`BULK_ALIGN`], so that all but the last piece can go past the system's cache.
const WRITE_BYTES: usize = 1024 * 1024;

/// A batch on its way into a segment.
pub(super) struct Moved {
    pub(super) base: u64,
    pub(super) count: u32,
    pub(super) live: u64,
    pub(super) max_ts: i64,
    pub(super) bytes: Bytes,
}

impl Moved {
    pub(super) fn new(base: u64, count: u32, live: u64, batch: &RecordBatch) -> Self {
        Self { base, count, live, max_ts: batch.max_timestamp_ms(), bytes: batch.bytes() }
    }
}

/// Writes a segment file.
pub(super) struct SegmentWriter {
    id: u64,
    file: Arc<dyn DiskFile>,
    buffer: Buffer,
    written: u64,
    index: SegmentIndex,
}

impl SegmentWriter {
    /// # Errors
    /// The operating system's.
    pub(super) fn create(disk: &dyn Disk, id: u64) -> io::Result<Self> {
        let file = disk.open(&path_of(id), true)?;
        let mut header = Vec::with_capacity(FILE_HEADER_BYTES);
        header.extend_from_slice(FILE_MAGIC);
        header.extend_from_slice(&FILE_VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&id.to_le_bytes());
        let crc = crc32c::crc32c(&header);
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&crc.to_le_bytes());
        let mut writer = Self { id, file, buffer: Buffer::new(), written: 0, index: SegmentIndex::default() };
        writer.put(&header)?;
        Ok(writer)
    }

    fn pos(&self) -> u64 {
        self.written + self.buffer.filled().len() as u64
    }

    /// Adds bytes, and writes what fills the buffer.
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            bytes = self.buffer.take_from(bytes);
            if self.buffer.filled().len() == WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Adds a batch; those of a log come together and in order.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn push(&mut self, log: LogId, moved: &Moved) -> io::Result<()> {
        let pos = self.pos();
        let len = (ENTRY_HEADER_BYTES + moved.bytes.len()) as u64;
        if self.index.extents.last().is_none_or(|(last, _, _)| *last != log) {
            let extent = Extent {
                segment: self.id,
                base: moved.base,
                end: moved.base,
                pos,
                len: 0,
                records: 0,
                min_ts: i64::MAX,
                max_ts: i64::MIN,
            };
            self.index.extents.push((log, extent, Vec::new()));
        }
        if let Some((_, extent, steps)) = self.index.extents.last_mut() {
            extent.end = moved.base + u64::from(moved.count);
            extent.len += len;
            extent.records += moved.live;
            extent.min_ts = extent.min_ts.min(moved.max_ts);
            extent.max_ts = extent.max_ts.max(moved.max_ts);
            match steps.last_mut() {
                Some(step) if pos - step.pos < INDEX_STEP_BYTES => step.max_ts = step.max_ts.max(moved.max_ts),
                _ => steps.push(IndexStep { base: moved.base, pos, max_ts: moved.max_ts }),
            }
        }
        let batch_len = u32::try_from(moved.bytes.len()).unwrap_or(u32::MAX);
        self.put(&encode_entry(log, moved.base, moved.count, batch_len))?;
        self.put(&moved.bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        let filled = self.buffer.filled();
        if !filled.is_empty() {
            self.file.write_bulk(filled, self.written)?;
            self.written += filled.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Writes the footer and makes file and name durable.
    ///
    /// # Errors
    /// The operating system's; the file is of no use then.
    pub(super) fn finish(mut self, disk: &dyn Disk) -> io::Result<(Arc<Segment>, SegmentIndex)> {
        let pos = self.pos();
        let footer = self.index.encode();
        self.put(&footer)?;
        self.put(TRAILER_MAGIC)?;
        self.put(&self.id.to_le_bytes())?;
        self.put(&pos.to_le_bytes())?;
        self.put(&(footer.len() as u32).to_le_bytes())?;
        self.put(&crc32c::crc32c(&footer).to_le_bytes())?;
        self.flush()?;
        self.file.sync_data()?;
        disk.sync_dir(Path::new(SEGMENT_DIR))?;
        let segment = Segment { id: self.id, len_bytes: self.written, entries_end: pos };
        Ok((Arc::new(segment), self.index))
    }
}

/// Up to [`WRITE_BYTES`], at an address that a write past the system's cache takes.
struct Buffer {
    room: Vec<u8>,
    /// Where they begin. The room is never moved, since it never grows.
    start: usize,
}

impl Buffer {
    fn new() -> Self {
        let mut room: Vec<u8> = Vec::with_capacity(WRITE_BYTES + BULK_ALIGN);
        let start = room.as_ptr().align_offset(BULK_ALIGN).min(BULK_ALIGN);
        room.resize(start, 0);
        Self { room, start }
    }

    fn filled(&self) -> &[u8] {
        self.room.get(self.start..).unwrap_or_default()
    }

    /// Takes what fits; gives the rest.
    fn take_from<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let (now, later) = bytes.split_at(bytes.len().min(WRITE_BYTES - self.filled().len()));
        self.room.extend_from_slice(now);
        later
    }

    fn clear(&mut self) {
        self.room.truncate(self.start);
    }
}

fn encode_entry(log: LogId, base: u64, count: u32, len: u32) -> [u8; ENTRY_HEADER_BYTES] {
    let mut out = Vec::with_capacity(ENTRY_HEADER_BYTES);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&base.to_le_bytes());
    out.extend_from_slice(&log.0.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    let crc = crc32c::crc32c(out.get(4..).unwrap_or_default());
    let mut header = [0; ENTRY_HEADER_BYTES];
    header.copy_from_slice(&out);
    if let Some(place) = header.first_chunk_mut::<4>() {
        *place = crc.to_le_bytes();
    }
    header
}
