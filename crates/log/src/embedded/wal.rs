//! The files of the write-ahead log: made ahead of need, used in sequence, used again.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use types::disk::{Disk, DiskFile};

use super::codec::Decoder;
use super::options::ZERO_FILL_BYTES;

/// Where the files are.
pub(super) const WAL_DIR: &str = "wal";
/// Bytes of a file's header; the first frame follows it.
pub(super) const FILE_HEADER_BYTES: usize = 64;
/// What a file's name ends with, and while it is being made.
const EXTENSION: &str = "wal";
const UNFINISHED: &str = "new";
const FILE_MAGIC: &[u8; 8] = b"PHWALOG\n";
const FILE_VERSION: u32 = 1;

/// What a file says about itself. Written together with its first round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// The file's place in the log, from 1. A recycled file gets a new one.
    pub(super) seq: u64,
    /// Where the frames of the file before it end: all before that byte was synced when this file was begun.
    pub(super) previous_end: u64,
    /// The last round in the file before it.
    pub(super) previous_round: u64,
    /// The engine's start that began it.
    pub(super) boot: u32,
    /// Bytes that the whole file has. They are durable before the header can be, so a file with fewer was cut.
    pub(super) capacity: u64,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut out = Vec::with_capacity(FILE_HEADER_BYTES);
        out.extend_from_slice(FILE_MAGIC);
        out.extend_from_slice(&FILE_VERSION.to_le_bytes());
        out.extend_from_slice(&self.boot.to_le_bytes());
        for word in [self.seq, self.previous_end, self.previous_round, self.capacity] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.resize(FILE_HEADER_BYTES - 4, 0);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.try_into().unwrap_or([0; FILE_HEADER_BYTES])
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (body, crc) = bytes.get(..FILE_HEADER_BYTES)?.split_last_chunk::<4>()?;
        let mut from = Decoder::new(body);
        if from.take(8)? != FILE_MAGIC
            || from.u32()? != FILE_VERSION
            || u32::from_le_bytes(*crc) != crc32c::crc32c(body)
        {
            return None;
        }
        let boot = from.u32()?;
        let (seq, previous_end, previous_round, capacity) = (from.u64()?, from.u64()?, from.u64()?, from.u64()?);
        // Places in a file fit 32 bits.
        let is_possible = (FILE_HEADER_BYTES as u64..=u64::from(u32::MAX)).contains(&capacity);
        is_possible.then_some(Self { boot, seq, previous_end, previous_round, capacity })
    }
}

/// One file.
pub(super) struct WalFile {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) capacity: u64,
    /// What it is in use as; 0 while it is free. A reader looks again after it has read.
    seq: AtomicU64,
}

impl WalFile {
    pub(super) fn new(number: u64, file: Arc<dyn DiskFile>, capacity: u64, seq: u64) -> Self {
        Self { number, file, capacity, seq: AtomicU64::new(seq) }
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq.load(Ordering::Acquire)
    }

    pub(super) fn path(&self) -> PathBuf {
        path_of(self.number)
    }

    /// Makes a new file, written over with zeros: then a sync needs no metadata. That is faster, and IMPORTANT: where ext4 meets an error
    /// and gives up its journal during a sync, the sync of blocks that were only reserved may succeed though they read as zeros afterwards.
    pub(super) fn create(disk: &dyn Disk, number: u64, capacity: u64) -> io::Result<Self> {
        let unfinished = path_of(number).with_extension(UNFINISHED);
        let made = disk.open(&unfinished, true).and_then(|file| {
            file.allocate(capacity)?;
            fill(file.as_ref(), capacity)?;
            // IMPORTANT: its length must be durable before it gets its name, or a crash would leave what looks like a file that was cut.
            file.sync_data()?;
            disk.rename(&unfinished, &path_of(number))?;
            disk.sync_dir(Path::new(WAL_DIR))?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Self::new(number, file, capacity, 0)),
            Err(error) => {
                // It holds nothing; a next start removes it, or takes it for a free one, if it stays.
                let _ = disk.remove(&unfinished).or_else(|_| disk.remove(&path_of(number)));
                Err(error)
            }
        }
    }
}

fn fill(file: &dyn DiskFile, capacity: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_FILL_BYTES.min(usize::try_from(capacity).unwrap_or(ZERO_FILL_BYTES))];
    let mut at = 0;
    while at < capacity {
        let count = (capacity - at).min(zeros.len() as u64);
        let part = zeros.get(..usize::try_from(count).unwrap_or(0)).unwrap_or_default();
        file.write_at(&[IoSlice::new(part)], at)?;
        at += count;
        // In small pieces, so that the committer's syncs do not wait behind one large one.
        if at.is_multiple_of(4 * ZERO_FILL_BYTES as u64) {
            file.sync_data()?;
        }
    }
    Ok(())
}

pub(super) fn path_of(number: u64) -> PathBuf {
    Path::new(WAL_DIR).join(format!("{number:08}.{EXTENSION}"))
}

/// The number of a write-ahead file.
pub(super) fn number_of_file(path: &Path) -> Option<u64> {
    number_of(path, EXTENSION)
}

/// Whether this is a write-ahead file that a crash found in the making.
pub(super) fn is_unfinished(path: &Path) -> bool {
    number_of(path, UNFINISHED).is_some()
}

/// The number in a file's name, if it is one of ours.
pub(super) fn number_of(path: &Path, extension: &str) -> Option<u64> {
    if path.extension()?.to_str()? != extension {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}

/// All files.
#[derive(Default)]
pub(super) struct WalSet {
    /// In sequence; the last is the active one.
    pub(super) in_use: VecDeque<Arc<WalFile>>,
    pub(super) free: Vec<Arc<WalFile>>,
    pub(super) next_number: u64,
}

impl WalSet {
    /// The file in use as `seq`.
    pub(super) fn get(&self, seq: u64) -> Option<Arc<WalFile>> {
        let at = self.in_use.binary_search_by_key(&seq, |file| file.seq()).ok()?;
        self.in_use.get(at).cloned()
    }

    /// Takes the smallest free file that holds `bytes` into use.
    pub(super) fn begin(&mut self, seq: u64, bytes: u64) -> Option<Arc<WalFile>> {
        let fits = self.free.iter().enumerate().filter(|(_, file)| file.capacity >= bytes);
        let (at, _) = fits.min_by_key(|(_, file)| (file.capacity, file.number))?;
        let file = self.free.swap_remove(at);
        self.put_in_use(file.clone(), seq);
        Some(file)
    }

    pub(super) fn put_in_use(&mut self, file: Arc<WalFile>, seq: u64) {
        file.seq.store(seq, Ordering::Release);
        self.in_use.push_back(file);
    }

    /// The oldest file that is full, if it is not the active one.
    pub(super) fn oldest_sealed(&self) -> Option<Arc<WalFile>> {
        if self.in_use.len() > 1 { self.in_use.front().cloned() } else { None }
    }

    /// Takes the files below `seq` out of use. IMPORTANT: only once a checkpoint that does not need them is durable, or a
    /// crash would find their batches nowhere.
    pub(super) fn retire_below(&mut self, seq: u64) -> Vec<Arc<WalFile>> {
        let mut retired = Vec::new();
        while let Some(file) = self.in_use.pop_front_if(|file| file.seq() < seq) {
            file.seq.store(0, Ordering::Release);
            retired.push(file);
        }
        retired
    }

    pub(super) fn take_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}
