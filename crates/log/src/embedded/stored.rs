//! A batch as it is stored: read, and checked before anybody sees it.

use bytes::Bytes;

use super::locations::Location;
use super::segment;
use super::wal::WalFile;
use crate::Live;
use crate::batch::RecordBatch;

/// Why a batch cannot be had.
#[derive(Debug)]
pub(super) enum BatchFault {
    Damaged(String),
    Io(String),
}

/// A whole batch from its bytes, its checksum verified.
pub(super) fn parse(bytes: Bytes) -> Result<RecordBatch, BatchFault> {
    match RecordBatch::parse(bytes) {
        Ok((batch, rest)) if rest.is_empty() => Ok(batch),
        Ok(_) => Err(BatchFault::Damaged("the batch is shorter than its entry".to_owned())),
        Err(error) => Err(BatchFault::Damaged(error.to_string())),
    }
}

/// The batch, if its records are where its place in the log says that live ones are. What was written with another number of offsets than it
/// has would be read again and again, or hide what is behind it.
pub(super) fn spanning(batch: RecordBatch, count: u32, live: &Live) -> Result<RecordBatch, BatchFault> {
    let last_live = match live {
        Live::All => count.checked_sub(1),
        Live::Ranges(ranges) => ranges.last().map(|range| range.end.saturating_sub(1)),
    };
    let last = batch.last_offset_delta();
    if last >= count || last_live.is_some_and(|live| live > last) {
        return Err(BatchFault::Damaged(format!("the batch has other offsets than the {count} that it was given")));
    }
    Ok(batch)
}

/// Reads a batch from a write-ahead file.
pub(super) fn read_located(file: &WalFile, at: &Location) -> Result<RecordBatch, BatchFault> {
    match segment::read_exact(file.file.as_ref(), u64::from(at.pos), at.len as usize) {
        Ok(bytes) => parse(Bytes::from(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(BatchFault::Damaged(error.to_string())),
        Err(error) => Err(BatchFault::Io(error.to_string())),
    }
}
