//! Segment files: batches that left the write-ahead log, grouped by log. Drawn in docs/formats/segment.md.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use types::LogId;
use types::disk::{Disk, DiskFile};

use super::codec::Decoder;
use super::log_data::Extent;
use super::options::{INDEX_STEP_BYTES, SEGMENT_READ_BYTES};
use crate::batch::RecordBatch;

/// Where the files are.
pub(super) const SEGMENT_DIR: &str = "segments";
/// Bytes before each batch.
pub(super) const ENTRY_HEADER_BYTES: usize = 32;
pub(super) const FILE_HEADER_BYTES: usize = 32;
const TRAILER_BYTES: usize = 32;
const FILE_MAGIC: &[u8; 8] = b"PHSEGMT\n";
const TRAILER_MAGIC: &[u8; 8] = b"PHSEGEND";
const FILE_VERSION: u32 = 1;
/// Written at once.
const WRITE_BYTES: usize = 1024 * 1024;
/// Batches up to this size are copied out of a read, so that one of them does not keep the whole read in memory.
const COPY_BATCH_BYTES: usize = 16 * 1024;

/// A segment file. There may be more of them than a process may have files open, so it is opened when it is read; see `IndexCache`.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) id: u64,
    pub(super) len_bytes: u64,
    /// Where the entries end and the footer begins; the file's end if the trailer cannot be read.
    pub(super) entries_end: u64,
}

pub(super) fn path_of(id: u64) -> PathBuf {
    Path::new(SEGMENT_DIR).join(format!("{id:08}.seg"))
}

/// A step of an extent's sparse index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexStep {
    /// The first batch's base offset.
    pub(super) base: u64,
    /// Its entry's byte in the file.
    pub(super) pos: u64,
    /// The greatest timestamp from here to the next step.
    pub(super) max_ts: i64,
}

/// A segment's footer.
#[derive(Debug, Default)]
pub(super) struct SegmentIndex {
    pub(super) extents: Vec<(LogId, Extent, Vec<IndexStep>)>,
}

impl SegmentIndex {
    /// Where to begin to read for a batch that ends after `offset`.
    pub(super) fn seek(&self, extent: &Extent, offset: u64) -> u64 {
        let steps = self.steps(extent);
        let after = steps.partition_point(|step| step.base <= offset);
        after.checked_sub(1).and_then(|at| steps.get(at)).map_or(extent.pos, |step| step.pos)
    }

    pub(super) fn steps(&self, extent: &Extent) -> &[IndexStep] {
        let found = self.extents.binary_search_by_key(&extent.pos, |(_, extent, _)| extent.pos).ok();
        found.and_then(|at| self.extents.get(at)).map_or(&[], |(_, _, steps)| steps)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(self.extents.len() as u32).to_le_bytes());
        for (log, extent, steps) in &self.extents {
            for word in [log.0, extent.base, extent.end, extent.pos, extent.len, extent.records] {
                out.extend_from_slice(&word.to_le_bytes());
            }
            out.extend_from_slice(&extent.min_ts.to_le_bytes());
            out.extend_from_slice(&extent.max_ts.to_le_bytes());
            out.extend_from_slice(&(steps.len() as u32).to_le_bytes());
            for step in steps {
                out.extend_from_slice(&step.base.to_le_bytes());
                out.extend_from_slice(&step.pos.to_le_bytes());
                out.extend_from_slice(&step.max_ts.to_le_bytes());
            }
        }
        out
    }

    fn decode(bytes: &[u8], segment: u64) -> Option<Self> {
        let mut from = Decoder::new(bytes);
        let count = from.u32()?;
        let mut extents = Vec::new();
        for _ in 0..count {
            let log = LogId(from.u64()?);
            let extent = Extent {
                segment,
                base: from.u64()?,
                end: from.u64()?,
                pos: from.u64()?,
                len: from.u64()?,
                records: from.u64()?,
                min_ts: from.i64()?,
                max_ts: from.i64()?,
            };
            let steps = from.u32()?;
            let step =
                |from: &mut Decoder<'_>| Some(IndexStep { base: from.u64()?, pos: from.u64()?, max_ts: from.i64()? });
            let steps = (0..steps).map(|_| step(&mut from)).collect::<Option<Vec<_>>>()?;
            extents.push((log, extent, steps));
        }
        (from.remaining() == 0).then_some(Self { extents })
    }
}

impl Segment {
    /// Opens a segment file.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn open(disk: &dyn Disk, id: u64) -> io::Result<Self> {
        let file = disk.open(&path_of(id), false)?;
        let len_bytes = file.len_bytes()?;
        let mut segment = Self { id, len_bytes, entries_end: len_bytes };
        if let Ok((pos, _, _)) = segment.trailer(file.as_ref()) {
            segment.entries_end = pos;
        }
        Ok(segment)
    }

    /// Bytes of the entries.
    pub(super) fn entries_bytes(&self) -> u64 {
        self.entries_end.saturating_sub(FILE_HEADER_BYTES as u64)
    }

    /// The footer's place, length and checksum.
    fn trailer(&self, file: &dyn DiskFile) -> io::Result<(u64, u32, u32)> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "the segment's trailer is damaged");
        let at = self.len_bytes.checked_sub(TRAILER_BYTES as u64).ok_or_else(bad)?;
        let trailer = read_exact(file, at, TRAILER_BYTES)?;
        let mut from = Decoder::new(&trailer);
        let mut parse = || {
            let (magic, id) = (from.take(8)?, from.u64()?);
            let (pos, len, crc) = (from.u64()?, from.u32()?, from.u32()?);
            (magic == TRAILER_MAGIC && id == self.id && pos.checked_add(u64::from(len))? == at)
                .then_some((pos, len, crc))
        };
        parse().ok_or_else(bad)
    }

    /// Reads the footer.
    ///
    /// # Errors
    /// `InvalidData` if it is damaged; the operating system's.
    pub(super) fn index(&self, file: &dyn DiskFile) -> io::Result<SegmentIndex> {
        let bad = || io::Error::new(io::ErrorKind::InvalidData, "the segment's footer is damaged");
        let (pos, len, crc) = self.trailer(file)?;
        let footer = read_exact(file, pos, len as usize)?;
        if crc32c::crc32c(&footer) != crc {
            return Err(bad());
        }
        SegmentIndex::decode(&footer, self.id).ok_or_else(bad)
    }
}

/// Reads exactly so many bytes.
///
/// # Errors
/// `UnexpectedEof` if the file ends before; the operating system's.
pub(super) fn read_exact(file: &dyn DiskFile, at: u64, count: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; count];
    let got = file.read_at(&mut buffer, at)?;
    if got < count {
        let text = format!("the file ends at byte {}, {count} bytes are asked for at {at}", at + got as u64);
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
    }
    Ok(buffer)
}

/// One batch in a segment, not yet looked into.
#[derive(Debug)]
pub(super) struct SegmentEntry {
    pub(super) base: u64,
    pub(super) count: u32,
    /// The entry's first byte in the file.
    pub(super) pos: u64,
    pub(super) batch: Bytes,
}

/// Why an entry cannot be read.
#[derive(Debug)]
pub(super) enum EntryFault {
    /// The bytes at this place are not an entry.
    Damaged {
        pos: u64,
        what: &'static str,
    },
    Io(io::Error),
}

/// Reads a stretch of a segment, entry by entry.
pub(super) struct SegmentCursor {
    file: Arc<dyn DiskFile>,
    log: LogId,
    pos: u64,
    end: u64,
    chunk: Bytes,
}

impl SegmentCursor {
    /// Reads entries of this log from `pos` to the end of the extent.
    pub(super) fn new(file: Arc<dyn DiskFile>, log: LogId, pos: u64, extent: &Extent) -> Self {
        Self { file, log, pos, end: extent.pos + extent.len, chunk: Bytes::new() }
    }

    /// Makes sure that `count` bytes are at hand.
    fn fill(&mut self, count: usize) -> Result<(), EntryFault> {
        if self.chunk.len() >= count {
            return Ok(());
        }
        let left = usize::try_from(self.end - self.pos).unwrap_or(usize::MAX);
        if count > left {
            return Err(EntryFault::Damaged { pos: self.pos, what: "an entry goes beyond its extent" });
        }
        let wanted = count.max(SEGMENT_READ_BYTES).min(left);
        match read_exact(self.file.as_ref(), self.pos, wanted) {
            Ok(bytes) => self.chunk = Bytes::from(bytes),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(EntryFault::Damaged { pos: self.pos, what: "the file is cut short" });
            }
            Err(error) => return Err(EntryFault::Io(error)),
        }
        Ok(())
    }

    pub(super) fn next(&mut self) -> Result<Option<SegmentEntry>, EntryFault> {
        if self.pos >= self.end {
            return Ok(None);
        }
        self.fill(ENTRY_HEADER_BYTES)?;
        let pos = self.pos;
        let header = self.chunk.get(..ENTRY_HEADER_BYTES).unwrap_or_default();
        let (log, base, count, len) =
            decode_entry(header).ok_or(EntryFault::Damaged { pos, what: "an entry's header is damaged" })?;
        if log != self.log {
            return Err(EntryFault::Damaged { pos, what: "the entry is another log's" });
        }
        self.fill(ENTRY_HEADER_BYTES + len)?;
        let mut taken = self.chunk.split_to(ENTRY_HEADER_BYTES + len);
        self.pos += taken.len() as u64;
        let batch = taken.split_off(ENTRY_HEADER_BYTES);
        let batch = if len <= COPY_BATCH_BYTES { Bytes::copy_from_slice(&batch) } else { batch };
        Ok(Some(SegmentEntry { base, count, pos, batch }))
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

fn decode_entry(header: &[u8]) -> Option<(LogId, u64, u32, usize)> {
    let mut from = Decoder::new(header);
    let crc = from.u32()?;
    if crc != crc32c::crc32c(header.get(4..)?) {
        return None;
    }
    let (len, base, log, count) = (from.u32()?, from.u64()?, from.u64()?, from.u32()?);
    Some((LogId(log), base, count, len as usize))
}

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
    buffer: Vec<u8>,
    written: u64,
    index: SegmentIndex,
}

impl SegmentWriter {
    /// # Errors
    /// The operating system's.
    pub(super) fn create(disk: &dyn Disk, id: u64) -> io::Result<Self> {
        let file = disk.open(&path_of(id), true)?;
        let mut buffer = Vec::with_capacity(WRITE_BYTES / 4);
        buffer.extend_from_slice(FILE_MAGIC);
        buffer.extend_from_slice(&FILE_VERSION.to_le_bytes());
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&id.to_le_bytes());
        let crc = crc32c::crc32c(&buffer);
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&crc.to_le_bytes());
        Ok(Self { id, file, buffer, written: 0, index: SegmentIndex::default() })
    }

    fn pos(&self) -> u64 {
        self.written + self.buffer.len() as u64
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
        self.buffer.extend_from_slice(&encode_entry(log, moved.base, moved.count, batch_len));
        self.buffer.extend_from_slice(&moved.bytes);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(&[IoSlice::new(&self.buffer)], self.written)?;
            self.written += self.buffer.len() as u64;
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
        self.buffer.extend_from_slice(&footer);
        self.buffer.extend_from_slice(TRAILER_MAGIC);
        self.buffer.extend_from_slice(&self.id.to_le_bytes());
        self.buffer.extend_from_slice(&pos.to_le_bytes());
        self.buffer.extend_from_slice(&(footer.len() as u32).to_le_bytes());
        self.buffer.extend_from_slice(&crc32c::crc32c(&footer).to_le_bytes());
        self.flush()?;
        self.file.sync_data()?;
        disk.sync_dir(Path::new(SEGMENT_DIR))?;
        let segment = Segment { id: self.id, len_bytes: self.written, entries_end: pos };
        Ok((Arc::new(segment), self.index))
    }
}

/// The file's header, checked.
pub(super) fn is_segment_header(bytes: &[u8], id: u64) -> bool {
    let mut from = Decoder::new(bytes);
    let mut check = || {
        let (magic, version) = (from.take(8)?, from.u32()?);
        from.u32()?;
        let found = from.u64()?;
        from.u32()?;
        let crc = from.u32()?;
        let covered = bytes.get(..24)?;
        Some(magic == FILE_MAGIC && version == FILE_VERSION && found == id && crc == crc32c::crc32c(covered))
    };
    check().unwrap_or(false)
}
