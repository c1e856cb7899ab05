//! Upkeep: write-ahead files are prepared and moved, segments dropped and rewritten, checkpoints written, retention applied.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use types::Timestamp;

use super::checkpoint::{self, Snapshot};
use super::core::Core;
use super::intake::Full;
use super::segment::{self, SEGMENT_DIR};
use super::wal::{WAL_DIR, WalFile};

/// Free write-ahead files that are kept for the next turns.
const MOST_FREE_FILES: usize = 2;
/// Passes of the mover in one call, so that a call ends however fast commits come.
const MOST_MOVES: usize = 16;

/// What only upkeep knows. Its lock is held during the work.
#[derive(Default)]
pub(super) struct Upkeep {
    /// The newest checkpoint's number.
    pub(super) checkpoint: u64,
    /// The engine's start.
    pub(super) boot: u32,
    /// Segments that nothing refers to any more, but perhaps the last checkpoint.
    pub(super) doomed: Vec<u64>,
    /// Segments that are damaged and cannot be rewritten.
    pub(super) stuck: Vec<u64>,
    /// Write-ahead files that are out of use, but that a copy under way still reads.
    pub(super) held: Vec<Arc<WalFile>>,
    /// The last checkpoint failed for want of space.
    pub(super) owes_checkpoint: bool,
}

impl Core {
    /// Does all upkeep that is due. A full disk is no failure: what needs space is tried again the next time.
    pub(super) fn run_maintenance(&self) {
        let mut upkeep = self.upkeep.lock();
        if self.is_poisoned() {
            return;
        }
        self.look_at_space();
        self.relieve_full_disk();
        let done = self.maintain_files(&mut upkeep);
        // IMPORTANT: before the engine is poisoned, or the completions of what waits would be called under the lock.
        drop(upkeep);
        if let Err(error) = done {
            self.note_failure(&error);
        }
        self.look_at_space();
        let now = self.alarm.lock().now.take();
        if let Some(now) = now {
            self.apply_retention(now);
            self.apply_compaction(now);
        }
        self.sweep_keys();
    }

    /// A full disk is tried again later; any other failure of a write or sync is final.
    pub(super) fn note_failure(&self, error: &io::Error) {
        if is_full(error) {
            tracing::warn!(%error, "no space for upkeep of the log; it is tried again");
        } else {
            self.poison(&format!("upkeep of the log failed: {error}"));
        }
    }

    fn maintain_files(&self, upkeep: &mut Upkeep) -> io::Result<()> {
        self.settle_held(upkeep)?;
        let prepared = self.prepare_file();
        let lacks_file = match &prepared {
            Ok(()) => false,
            Err(error) if is_full(error) => true,
            Err(_) => return prepared,
        };
        for _ in 0..MOST_MOVES {
            let in_use = self.wal.lock().in_use.len();
            let is_short = lacks_file && self.wal.lock().free.is_empty();
            let is_stalled = self.is_stalled.load(Ordering::Acquire);
            if in_use <= self.options.wal_files && !((is_short || is_stalled) && in_use > 1) {
                break;
            }
            self.move_oldest(upkeep)?;
            self.write_checkpoint(upkeep)?;
        }
        let is_changed = self.drop_dead_segments(upkeep);
        let is_changed = self.rewrite_segment(upkeep)? || is_changed;
        if is_changed || upkeep.owes_checkpoint || self.has_doomed(upkeep) {
            self.write_checkpoint(upkeep)?;
        }
        Ok(())
    }

    /// Keeps a file ready, so that the committer need not wait for one.
    fn prepare_file(&self) -> io::Result<()> {
        let number = {
            let mut wal = self.wal.lock();
            if !wal.free.is_empty() || wal.in_use.is_empty() {
                return Ok(());
            }
            self.check_room(self.options.wal_file_bytes, wal.in_use.len())?;
            wal.take_number()
        };
        let file = WalFile::create(self.disk.as_ref(), number, self.options.wal_file_bytes)?;
        self.add_free(Arc::new(file));
        Ok(())
    }

    /// Whether a new write-ahead file leaves the reserve alone. The first two are made whatever they leave: with one, nothing could ever be
    /// moved.
    ///
    /// # Errors
    /// `StorageFull`.
    pub(super) fn check_room(&self, capacity: u64, in_use: usize) -> io::Result<()> {
        let room = self.disk.free_bytes().unwrap_or(u64::MAX).saturating_sub(capacity);
        if in_use < 2 || room >= self.reserve_bytes { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn add_free(&self, file: Arc<WalFile>) {
        self.wal.lock().free.push(file);
        self.is_stalled.store(false, Ordering::Release);
        let _intake = self.intake.lock();
        self.work.notify_one();
    }

    /// Writes the state down, and gives free what the checkpoint before needed.
    pub(super) fn write_checkpoint(&self, upkeep: &mut Upkeep) -> io::Result<()> {
        upkeep.owes_checkpoint = true;
        let snapshot = Snapshot::take(&self.published.read(), upkeep.boot);
        // IMPORTANT: rounds that wanted no sync are in the snapshot. They must be durable before a checkpoint says that the log
        // reaches behind them.
        self.sync_written()?;
        let oldest_seq = snapshot.oldest_seq();
        let mut used: Vec<u64> = snapshot.segments().collect();
        used.sort_unstable();
        let number = upkeep.checkpoint + 1;
        snapshot.write(self.disk.as_ref(), number)?;
        upkeep.checkpoint = number;
        upkeep.owes_checkpoint = false;
        for old in checkpoint::list(self.disk.as_ref())?.into_iter().filter(|old| old + 1 < number) {
            self.disk.remove(&checkpoint::path_of(old))?;
        }
        self.drop_doomed(upkeep, &used)?;
        let retired = self.wal.lock().retire_below(oldest_seq);
        for file in retired {
            if let Some(file) = self.hold(upkeep, file) {
                self.recycle(file)?;
            }
        }
        self.settle_held(upkeep)
    }

    fn drop_doomed(&self, upkeep: &mut Upkeep, used: &[u64]) -> io::Result<()> {
        let pin = self.pinned();
        let is_held = |id: &u64| pin.as_ref().is_some_and(|pin| pin.segment(*id).is_some());
        let is_unused = |id: &u64| used.binary_search(id).is_err() && !is_held(id);
        let gone: Vec<u64> = upkeep.doomed.iter().copied().filter(is_unused).collect();
        for id in &gone {
            self.disk.remove(&segment::path_of(*id))?;
            self.indexes.forget(*id);
            upkeep.doomed.retain(|doomed| doomed != id);
        }
        if gone.is_empty() { Ok(()) } else { self.disk.sync_dir(Path::new(SEGMENT_DIR)) }
    }

    /// Makes a file that is no longer needed free, or removes it if there are enough or it has another size.
    pub(super) fn recycle(&self, file: Arc<WalFile>) -> io::Result<()> {
        let is_wanted = file.capacity == self.options.wal_file_bytes && self.wal.lock().free.len() < MOST_FREE_FILES;
        if is_wanted {
            self.add_free(file);
            return Ok(());
        }
        self.disk.remove(&file.path())?;
        self.disk.sync_dir(Path::new(WAL_DIR))
    }

    /// Asks the disk how much is left.
    pub(super) fn look_at_space(&self) {
        let free_bytes = self.disk.free_bytes();
        self.free_bytes.store(free_bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
        let full = free_bytes
            .filter(|free_bytes| *free_bytes < self.reserve_bytes)
            .map(|free_bytes| Full { free_bytes, reserve_bytes: self.reserve_bytes });
        let was_full = std::mem::replace(&mut self.intake.lock().full, full).is_some();
        match full {
            Some(full) if !was_full => tracing::warn!(?full, "the disk is full: appends are refused"),
            None if was_full => tracing::info!("the disk has space again: appends are taken"),
            _ => {}
        }
    }

    /// Retention and compaction at this time, by the maintenance thread if there is one.
    pub(super) fn maintain(&self, now: Timestamp) {
        self.alarm.lock().now = Some(now);
        if self.options.threads {
            self.ring();
        } else {
            self.run_maintenance();
        }
    }

    /// The maintenance thread.
    pub(super) fn run_upkeep(&self) {
        loop {
            {
                let mut alarm = self.alarm.lock();
                if !alarm.has_rung && !alarm.stop {
                    self.alarm_rang
                        .wait_for(&mut alarm, self.options.maintenance_interval.max(Duration::from_millis(1)));
                }
                alarm.has_rung = false;
                if alarm.stop {
                    return;
                }
            }
            self.run_maintenance();
        }
    }
}

/// Whether space is what is missing.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
