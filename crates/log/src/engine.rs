//! The contract between the broker and whatever keeps its logs.
//!
//! One suite of tests runs over every engine. What is said here is meant to hold for a distributed engine too: offsets
//! are known only when a commit has ended, an end may be unknown, and opening a log moves its epoch.

use std::ops::Range;
use std::time::Duration;

use types::{Epoch, LogId, Offset, Timestamp};

use crate::batch::RecordBatch;
use crate::{Backup, BackupError};

/// An engine that keeps logs. Handles are shared by reference; every call may come from any thread.
pub trait Log: Send + Sync + 'static {
    /// What this engine can do beyond the contract's core.
    fn capabilities(&self) -> Capabilities;

    /// The ids of all logs, in no particular order.
    fn logs(&self) -> Vec<LogId>;

    /// Takes ownership of these logs: moves each one's epoch, so that commits under an older one are refused from now on, and
    /// says how far each reaches. The answers stand in the order asked.
    fn open(&self, logs: &[LogId]) -> Vec<Result<Opened, OpenError>>;

    /// Queues a commit and returns at once. `done` is called exactly once, from any thread (or from within this call), never with a
    /// lock of the engine held.
    ///
    /// IMPORTANT: completions are called in the order in which the commits were queued, whatever their durability; consumers
    /// see records in offset order only because of that. `done` must be short and must not block.
    ///
    /// What the engine holds for commits under way is bounded: over the bound a commit ends in [`Refusal::Overloaded`].
    fn commit(&self, commit: Commit, done: Completion);

    /// Reads what is live from `from` on, in offset order, up to the durable end. An empty answer means that nothing live is
    /// there yet. At least one entry is given if there is one, whatever the limit. `from` below the start reads from the start.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn read(&self, log: LogId, from: Offset, limit: ReadLimit) -> Result<Vec<Entry>, ReadError>;

    /// How far the log reaches, in O(1).
    ///
    /// # Errors
    /// [`ReadError::NoSuchLog`].
    fn state(&self, log: LogId) -> Result<LogState, ReadError>;

    /// Why the log is read-only, if it is: file and byte, and what is wrong there. Damage that was met since the start counts from when it
    /// was met. Costs next to nothing while no log is damaged.
    fn damage(&self, log: LogId) -> Option<String>;

    /// The first live offset whose batch's greatest timestamp is at or after `time`; `None` if there is none yet.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn offset_at(&self, log: LogId, time: Timestamp) -> Result<Option<Offset>, ReadError>;

    /// What the key index knows of a record key; `None` if no live record has it.
    ///
    /// # Errors
    /// [`ReadError::NoKeyIndex`] if the log was not configured with one, and the rest of [`ReadError`].
    fn key(&self, log: LogId, key: &[u8]) -> Result<Option<KeySummary>, ReadError>;

    /// The engine's health and counters.
    fn engine_state(&self) -> EngineState;

    /// Why nothing is written any more, if a write or sync failed. Asked before each delivery: it costs next to nothing while all is well.
    fn poisoned(&self) -> Option<String> {
        self.engine_state().poisoned
    }

    /// Begins a consistent copy of all logs: everything that was confirmed before this call is in it, every commit whole or not at all, at one place
    /// of the order in which they ended. Nothing waits for it, and what changes meanwhile is not in it. `now` is noted in it.
    ///
    /// # Errors
    /// See [`BackupError`]; there is one backup at a time.
    fn backup(&self, now: Timestamp) -> Result<Box<dyn Backup>, BackupError> {
        let _ = now;
        Err(BackupError::Unsupported)
    }

    /// Applies retention and compaction, moves what is due, at this wall-clock time. The owner calls it every second or so; it returns soon
    /// and may leave the rest to the engine's own thread.
    fn maintain(&self, now: Timestamp);

    /// Ends all commits under way, writes a checkpoint so that the next start is quick, and refuses what comes later.
    fn close(&self);
}

/// What an engine can do beyond the contract's core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Space of deleted ranges in the middle of a log is given back.
    pub sparse_deletes: bool,
    /// Key indexes are available.
    pub key_index: bool,
    /// Survives a restart of the process.
    pub durable: bool,
}

/// How a log is kept. Changed by [`Operation::Configure`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A name for people: shown by `log dump` and in errors.
    pub label: String,
    /// What goes away by itself.
    pub cleanup: Cleanup,
    /// Keep first, last and count of each record key.
    pub key_index: bool,
    /// In memory only: gone with the process, never written.
    pub volatile: bool,
    /// Kept in files that hold nothing else once it leaves the write-ahead log, however little it is: what is damaged there is of no other
    /// log, and damage to others is none of its. Holds for what moves from then on. An engine without such files ignores it.
    pub apart: bool,
}

/// What of a log goes away by itself. All bounds that are set hold; `Cleanup::default()` keeps everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleanup {
    /// Records older than this go, by their batch's greatest timestamp.
    pub max_age: Option<Duration>,
    /// The oldest batches go while the log's live bytes are above this.
    pub max_bytes: Option<u64>,
    /// The oldest batches go while the log's live records are above this.
    pub max_records: Option<u64>,
    /// Of records with the same key only the last is kept; a record with a null body removes its key, and is itself kept for
    /// the given time so that readers see it.
    pub compact: Option<Duration>,
}

/// Operations that happen together or not at all.
#[derive(Clone, Debug)]
pub struct Commit {
    /// When `Committed` may be said.
    pub durability: Durability,
    /// In this order.
    pub operations: Vec<Target>,
    /// Its appends are small, and draining needs them: they pass on a full disk too, until half of the reserve is gone.
    pub uses_reserve: bool,
}

/// One operation of a commit on one log.
#[derive(Clone, Debug)]
pub struct Target {
    /// The log.
    pub log: LogId,
    /// The caller's ownership of it, from [`Log::open`] or from the creation. Ignored by [`Operation::Create`].
    pub epoch: Epoch,
    /// If set, the commit is refused unless the log's next offset (with earlier commits under way counted) is this.
    pub expected_end: Option<Offset>,
    /// What to do.
    pub operation: Operation,
}

/// What a commit can do to a log.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Makes the log, with offsets from 0 and the epoch `Epoch(1)`, owned by the caller. Refused if it exists or ever existed.
    Create(LogConfig),
    /// Replaces the log's configuration (`volatile` cannot change).
    Configure(LogConfig),
    /// Adds records at the end.
    Append(Append),
    /// Removes these offset ranges (of any number of records, live or not). Idempotent.
    Delete {
        /// Half-open, ascending, not overlapping, none empty, and none beyond the log's end.
        ranges: Vec<Range<Offset>>,
        /// The records' weight in the caller's own measure; see [`LogState::weight`]. Ignored if none of the records was live any more.
        weight: u64,
    },
    /// Removes everything before this offset, which is at most the log's end. One below the start changes nothing.
    Trim(Offset),
    /// Removes the log for good.
    Remove,
}

/// Records to add.
#[derive(Clone, Debug)]
pub struct Append {
    /// The batch. Its base offset is ignored: record `i` gets the log's next offset plus its offset delta.
    ///
    /// Targets of one commit may share a batch (the same `Bytes`): an engine writes it once.
    pub batch: RecordBatch,
    /// Which records are meant; the others take their offsets and are born deleted. Offset deltas, half-open, ascending, not overlapping, none
    /// empty, and none beyond the batch. `None` is all of them, an empty list none. Offsets for which the batch has no record
    /// (it was compacted elsewhere) are never live.
    pub selection: Option<Vec<Range<u32>>>,
    /// The selected records' weight in the caller's own measure; see [`LogState::weight`].
    pub weight: u64,
}

/// When a commit may be confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Durability {
    /// As soon as the engine has it in memory.
    Memory,
    /// When the operating system has it: survives a kill, not a power cut.
    Os,
    /// As `Os`, and synced within the engine's interval (10 ms by default).
    Interval,
    /// When it is on the disk.
    #[default]
    Fsync,
}

/// Called with the end of a commit.
pub type Completion = Box<dyn FnOnce(CommitOutcome) + Send>;

/// How a commit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Done, at the asked durability. What was written where, one for each target in order.
    Committed(Vec<Written>),
    /// Nothing of it happened, nor will.
    Refused(Refusal),
    /// It may or may not be there after a restart, as a whole: a write or sync failed under it. The text is for people.
    Unknown(String),
}

/// Where an operation took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// An append's first offset; for other operations the log's end.
    pub base: Offset,
    /// The log's next offset after the operation.
    pub end: Offset,
}

/// Why a commit did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Somebody else took the log over.
    #[error("log {log} is owned under epoch {current}, not {used}")]
    WrongEpoch {
        /// The log.
        log: LogId,
        /// The epoch that the commit came with.
        used: Epoch,
        /// The epoch in force.
        current: Epoch,
    },
    /// The log does not end where the caller expects.
    #[error("log {log} ends at {actual}, not at the expected {expected}")]
    WrongEnd {
        /// The log.
        log: LogId,
        /// What the caller expected.
        expected: Offset,
        /// The next offset in fact.
        actual: Offset,
    },
    /// No such log, or removed.
    #[error("log {0} does not exist")]
    NoSuchLog(LogId),
    /// A log of this id exists or existed.
    #[error("log {0} exists or existed; ids are not used twice")]
    Exists(LogId),
    /// The log's data is damaged, and it is open for reading only.
    #[error("log {0} is damaged and read-only; `posthouse log verify` says where")]
    Damaged(LogId),
    /// The disk is full down to the reserve. Deletes, trims and removals still pass, with what is appended in the same commit, and so does
    /// what may use the reserve.
    #[error(
        "the disk is full: {free_bytes} bytes are free, and {reserve_bytes} are kept in reserve so that what is stored can be drained"
    )]
    DiskFull {
        /// Free space now.
        free_bytes: u64,
        /// What is kept back.
        reserve_bytes: u64,
    },
    /// An earlier write or sync failed; nothing is written any more until a restart.
    #[error("the storage failed earlier and takes no writes until a restart: {0}")]
    Poisoned(String),
    /// More bytes are waiting to be written than the engine holds.
    #[error("the storage is behind: {waiting_bytes} bytes wait to be written")]
    Overloaded {
        /// What waits.
        waiting_bytes: u64,
    },
    /// The commit cannot fit the engine's largest frame.
    #[error("the commit has {bytes} bytes; at most {limit} are allowed")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// A range, selection or batch of the commit is malformed.
    #[error("the commit is malformed: {0}")]
    Malformed(String),
    /// The engine is closed.
    #[error("the storage is closed")]
    Closed,
}

/// A log just taken over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// To be sent with commits.
    pub epoch: Epoch,
    /// How far it reaches.
    pub state: LogState,
    /// How it is kept.
    pub config: LogConfig,
    /// Set if the log's data is damaged and the log is read-only.
    pub damage: Option<String>,
}

/// Why a log could not be taken over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No such log, or removed.
    #[error("log {0} does not exist")]
    NoSuchLog(LogId),
    /// The engine failed or is closed.
    #[error("the storage takes no writes: {0}")]
    Unavailable(String),
}

/// How far a log reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Everything before it is gone. The first live record is at or after it.
    pub start: Offset,
    /// The next offset, of what is durable and readable.
    pub end: Offset,
    /// Live records.
    pub records: u64,
    /// The caller's own measure: the weights of appends, less those of deletes. Trims, retention and compaction take the share of
    /// the records they remove; it is exact for a log that is only appended to and deleted from.
    pub weight: u64,
    /// Bytes on the disk, dead records that still take space included. For people and for quotas.
    pub disk_bytes: u64,
    /// The timestamp of the last batch; `None` of an empty log.
    pub last_timestamp: Option<Timestamp>,
}

/// A bound on a read: it ends with the entry that reaches or passes either number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimit {
    /// Bytes of batches.
    pub bytes: usize,
    /// Live records.
    pub records: usize,
    /// Read only below this offset; of a batch that reaches over it, the records from it on count as not live.
    pub before: Offset,
}

/// A batch as it stands in a log, with at least one live record.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The offset of the batch's delta 0 in this log. (The base offset within `batch` means nothing.)
    pub base: Offset,
    /// The batch, shared with whoever else holds it.
    pub batch: RecordBatch,
    /// Which of its records are live; records before the `from` of the read count as not live.
    pub live: Live,
}

impl Entry {
    /// The offset after the batch's last one: where a reader goes on.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.base.plus(u64::from(self.batch.last_offset_delta()) + 1)
    }
}

/// Which records of a batch are live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Live {
    /// All of them.
    All,
    /// Those with these offset deltas: half-open, ascending.
    Ranges(Vec<Range<u32>>),
}

impl Live {
    /// Whether the record with this offset delta is live.
    #[must_use]
    pub fn contains(&self, delta: u32) -> bool {
        match self {
            Self::All => true,
            Self::Ranges(ranges) => {
                let after = ranges.partition_point(|range| range.start <= delta);
                after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| range.contains(&delta))
            }
        }
    }
}

/// Why a read failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No such log, or removed.
    #[error("log {0} does not exist")]
    NoSuchLog(LogId),
    /// The log has no key index.
    #[error("log {0} keeps no key index")]
    NoKeyIndex(LogId),
    /// The bytes on disk are not what was written.
    #[error("log {log} is damaged at offset {offset} ({place}): {what}")]
    Damaged {
        /// The log.
        log: LogId,
        /// Where in the log.
        offset: Offset,
        /// File and byte.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The disk does not answer.
    #[error("reading log {log} failed: {error}")]
    Io {
        /// The log.
        log: LogId,
        /// The operating system's words.
        error: String,
    },
}

/// What a key index knows of a key's live records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySummary {
    /// The oldest.
    pub first: Offset,
    /// The newest.
    pub last: Offset,
    /// How many.
    pub count: u64,
}

/// An engine's health and counters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EngineState {
    /// Set once a write or sync failed: nothing is written any more.
    pub poisoned: Option<String>,
    /// Set while the disk is full down to the reserve.
    pub disk_full: bool,
    /// Free bytes of the file system, if known.
    pub free_bytes: Option<u64>,
    /// Damage found, each with the logs it touches.
    pub faults: Vec<Fault>,
    /// Logs that are read-only because of it.
    pub damaged_logs: u64,
    /// Commits that ended, since the start.
    pub commits: u64,
    /// Rounds written (one write and one sync each), since the start.
    pub rounds: u64,
    /// Bytes written to the write-ahead log, since the start.
    pub written_bytes: u64,
    /// Bytes of commits that wait.
    pub waiting_bytes: u64,
    /// Write-ahead log files in use.
    pub wal_files: u64,
    /// Segment files.
    pub segments: u64,
    /// The backup that is being read, if there is one.
    pub backup: Option<BackupState>,
    /// Histogram of the time of one sync: counts by [`EngineState::LATENCY_BOUNDS_US`], the last for all above.
    pub sync_us: [u64; 16],
    /// Sum of all syncs' times, in microseconds.
    pub sync_us_sum: u64,
    /// Histogram of the time from a commit's queueing to its end, likewise.
    pub commit_us: [u64; 16],
    /// Sum of all commits' times, in microseconds.
    pub commit_us_sum: u64,
}

impl EngineState {
    /// Upper bounds of the latency histograms' buckets, in microseconds; one more bucket takes what is above.
    pub const LATENCY_BOUNDS_US: [u64; 15] =
        [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 409_600, 1_638_400, 6_553_600];
}

/// How far a backup is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupState {
    /// Bytes of its files that were read.
    pub read_bytes: u64,
    /// Bytes of all its files.
    pub total_bytes: u64,
    /// Bytes on the disk that are kept only for it; at most what it has.
    pub held_bytes: u64,
}

/// Damage in the engine's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// File and byte.
    pub place: String,
    /// What is wrong.
    pub what: String,
    /// The logs that it touches, which are read-only; all of them if empty.
    pub logs: Vec<LogId>,
}
