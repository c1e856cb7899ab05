//! What can be set about the engine, and its named limits.

use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// Smallest size of a write-ahead file that is accepted, in bytes.
pub(super) const MIN_WAL_FILE_BYTES: u64 = 4096;
/// Largest frame that can be configured, in bytes: positions within a write-ahead file fit 32 bits with room to spare.
pub(super) const MAX_FRAME_BYTES: u64 = 1024 * MIB;
/// Write-ahead files in use may grow to this many times the budget while the mover is behind; then commits wait.
pub(super) const WAL_OVERRUN: usize = 2;
/// Payloads up to this size are copied into the round's buffer; larger ones are written from where they are.
pub(super) const COPY_PAYLOAD_BYTES: usize = 16 * 1024;
/// A segment's sparse index has an entry each so many bytes.
pub(super) const INDEX_STEP_BYTES: u64 = 64 * 1024;
/// What a read takes from a segment at once, in bytes.
pub(super) const SEGMENT_READ_BYTES: usize = 128 * 1024;
/// Zeros are written to a new write-ahead file in pieces of this size.
pub(super) const ZERO_FILL_BYTES: usize = 1024 * 1024;
/// Segments kept open, with their sparse indexes in memory.
pub(super) const OPEN_SEGMENTS: usize = 64;
/// Batches that one retention pass may trim of one log; the next pass goes on.
pub(super) const RETENTION_BATCHES: usize = 10_000;
/// Keys that one compaction pass keeps in memory; the next pass goes on after them.
pub(super) const COMPACTION_KEYS: usize = 256 * 1024;
/// Faults that are remembered one by one.
pub(super) const MAX_FAULTS: usize = 1000;
/// The widest gap that damage can leave before an append: what lies in it is noted as dead.
pub(super) const MAX_GAP: u64 = 1 << 32;
/// Entries of one log that a pass reads at once, in bytes.
pub(super) const SCAN_READ_BYTES: usize = 1024 * 1024;

/// How the embedded engine works. The defaults are for a server; tests make files small and drive the engine by hand.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Start the committer's and the maintenance thread. Without them the owner calls `run_round` and `run_maintenance`.
    pub threads: bool,
    /// Size of a write-ahead file, in bytes. A frame that is larger gets a file of its own.
    pub wal_file_bytes: u64,
    /// Write-ahead files in use, the active one included, above which the oldest is moved to segments.
    pub wal_files: usize,
    /// Largest commit, in bytes of its frame.
    pub max_frame_bytes: u64,
    /// Bytes of commits under way above which more are refused. One commit is always taken.
    pub max_waiting_bytes: u64,
    /// A round ends with the commit that passes this many bytes.
    pub round_bytes: u64,
    /// Most commits of one round.
    pub round_commits: usize,
    /// Bytes of the newest batches kept in memory for readers at the tail, bookkeeping included.
    pub recent_bytes: u64,
    /// Within which time a commit of `Durability::Interval` is synced.
    pub interval: Duration,
    /// Free space below which appends are refused. `None`: 64 MiB, or 1 % of the disk's space for this engine if that is less.
    pub reserve_bytes: Option<u64>,
    /// A log with at least so many live bytes in a write-ahead file gets a segment file of its own when the file is moved.
    pub own_segment_bytes: u64,
    /// How often the maintenance thread looks for work that nobody announced.
    pub maintenance_interval: Duration,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            threads: true,
            wal_file_bytes: 64 * MIB,
            wal_files: 4,
            max_frame_bytes: 192 * MIB,
            max_waiting_bytes: 256 * MIB,
            round_bytes: 4 * MIB,
            round_commits: 4096,
            recent_bytes: 8 * MIB,
            interval: Duration::from_millis(10),
            reserve_bytes: None,
            own_segment_bytes: MIB,
            maintenance_interval: Duration::from_millis(250),
        }
    }
}

impl EmbeddedOptions {
    /// The same with values that the engine can work with.
    pub(super) fn checked(mut self) -> Self {
        self.wal_file_bytes = self.wal_file_bytes.clamp(MIN_WAL_FILE_BYTES, MAX_FRAME_BYTES) & !7;
        self.wal_files = self.wal_files.max(2);
        self.max_frame_bytes = self.max_frame_bytes.min(MAX_FRAME_BYTES);
        self.round_commits = self.round_commits.max(1);
        self
    }

    /// The default reserve for a disk on which the engine has `space_bytes`, its own files included.
    pub(super) fn reserve(&self, space_bytes: u64) -> u64 {
        self.reserve_bytes.unwrap_or((64 * MIB).min(space_bytes / 100))
    }
}
