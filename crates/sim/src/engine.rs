//! The embedded engine without its threads: rounds are written when the simulation says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{
    Capabilities, Commit, Completion, EmbeddedLog, EmbeddedOptions, EngineState, Entry, KeySummary, Log, LogState,
    OpenError, Opened, ReadError, ReadLimit, Round, StartError,
};
use testkit::FaultDisk;
use types::{LogId, Offset, Timestamp};

/// Free space that is kept for acknowledgements, in bytes.
pub(crate) const RESERVE_BYTES: u64 = 96 * 1024;
/// Rounds and passes of upkeep that one call tries before it gives up.
const TRIES: usize = 64;

/// Files so small that a short run fills, moves and recycles them many times.
fn options() -> EmbeddedOptions {
    EmbeddedOptions {
        threads: false,
        wal_file_bytes: 8 * 1024,
        wal_files: 2,
        recent_bytes: 2 * 1024,
        own_segment_bytes: 1024,
        reserve_bytes: Some(RESERVE_BYTES),
        ..EmbeddedOptions::default()
    }
}

/// The engine, and whether commits are written as they come or when a round is run.
pub(crate) struct SteppedLog {
    engine: EmbeddedLog,
    eager: AtomicBool,
}

impl SteppedLog {
    /// Opens what the disk holds. Commits are written at once until [`set_eager`](Self::set_eager) says otherwise: a starting broker waits for its own.
    pub(crate) fn open(disk: &FaultDisk) -> Result<Self, StartError> {
        let engine = EmbeddedLog::open(Arc::new(disk.clone()), options())?;
        Ok(Self { engine, eager: AtomicBool::new(true) })
    }

    /// Whether commits are written as they come.
    pub(crate) fn set_eager(&self, eager: bool) {
        self.eager.store(eager, Ordering::Relaxed);
    }

    /// Writes one round of what waits, making room for it first if need be.
    pub(crate) fn round(&self) -> Round {
        match self.engine.run_round() {
            Round::Stalled => {
                self.engine.run_maintenance();
                self.engine.run_round()
            }
            round => round,
        }
    }

    /// Moves, recycles, drops and rewrites what is due.
    pub(crate) fn upkeep(&self) {
        self.engine.run_maintenance();
    }

    /// Writes a checkpoint, if the disk lets it.
    pub(crate) fn checkpoint(&self) -> Result<(), String> {
        self.engine.checkpoint()
    }
}

impl Log for SteppedLog {
    fn capabilities(&self) -> Capabilities {
        self.engine.capabilities()
    }

    fn logs(&self) -> Vec<LogId> {
        self.engine.logs()
    }

    fn open(&self, logs: &[LogId]) -> Vec<Result<Opened, OpenError>> {
        Log::open(&self.engine, logs)
    }

    fn commit(&self, commit: Commit, done: Completion) {
        self.engine.commit(commit, done);
        if self.eager.load(Ordering::Relaxed) {
            for _ in 0..TRIES {
                if self.round() == Round::Idle {
                    break;
                }
            }
        }
    }

    fn read(&self, log: LogId, from: Offset, limit: ReadLimit) -> Result<Vec<Entry>, ReadError> {
        self.engine.read(log, from, limit)
    }

    fn state(&self, log: LogId) -> Result<LogState, ReadError> {
        self.engine.state(log)
    }

    fn damage(&self, log: LogId) -> Option<String> {
        self.engine.damage(log)
    }

    fn offset_at(&self, log: LogId, time: Timestamp) -> Result<Option<Offset>, ReadError> {
        self.engine.offset_at(log, time)
    }

    fn key(&self, log: LogId, key: &[u8]) -> Result<Option<KeySummary>, ReadError> {
        self.engine.key(log, key)
    }

    fn poisoned(&self) -> Option<String> {
        self.engine.poisoned()
    }

    fn engine_state(&self) -> EngineState {
        self.engine.engine_state()
    }

    fn maintain(&self, now: Timestamp) {
        self.engine.maintain(now);
    }

    fn close(&self) {
        self.engine.close();
    }
}
