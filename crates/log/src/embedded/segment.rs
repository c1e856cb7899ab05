//! Segment files: batches that left the write-ahead log, grouped by log. Drawn in docs/formats/segment.md.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use types::LogId;
use types::disk::{Disk, DiskFile};

use super::codec::Decoder;
use super::log_data::Extent;
use super::options::SEGMENT_READ_BYTES;

/// Where the files are.
pub(super) const SEGMENT_DIR: &str = "segments";
/// Bytes before each batch.
pub(super) const ENTRY_HEADER_BYTES: usize = 32;
pub(super) const FILE_HEADER_BYTES: usize = 32;
pub(super) const TRAILER_BYTES: usize = 32;
pub(super) const FILE_MAGIC: &[u8; 8] = b"PHSEGMT\n";
pub(super) const TRAILER_MAGIC: &[u8; 8] = b"PHSEGEND";
pub(super) const FILE_VERSION: u32 = 1;
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

    /// The first offset behind this one where an entry is known to begin, or the extent's end.
    pub(super) fn step_after(&self, extent: &Extent, offset: u64) -> u64 {
        let steps = self.steps(extent);
        let after = steps.partition_point(|step| step.base <= offset);
        steps.get(after).map_or(extent.end, |step| step.base)
    }

    pub(super) fn steps(&self, extent: &Extent) -> &[IndexStep] {
        let found = self.extents.binary_search_by_key(&extent.pos, |(_, extent, _)| extent.pos).ok();
        found.and_then(|at| self.extents.get(at)).map_or(&[], |(_, _, steps)| steps)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
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

fn decode_entry(header: &[u8]) -> Option<(LogId, u64, u32, usize)> {
    let mut from = Decoder::new(header);
    let crc = from.u32()?;
    if crc != crc32c::crc32c(header.get(4..)?) {
        return None;
    }
    let (len, base, log, count) = (from.u32()?, from.u64()?, from.u64()?, from.u32()?);
    Some((LogId(log), base, count, len as usize))
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
