//! What the engine's threads and callers share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex, RwLock};
use types::disk::Disk;
use types::{LogId, Timestamp};

use super::committer::Writer;
use super::draft::{Action, Draft, DraftTarget};
use super::index_cache::IndexCache;
use super::intake::{Head, Intake, Pending, Stage, needs_keys};
use super::keys::KeyHasher;
use super::maintenance::Upkeep;
use super::options::EmbeddedOptions;
use super::pin::Pin;
use super::published::Published;
use super::stats::{Stats, instant};
use super::wal::WalSet;
use crate::{BackupState, CommitOutcome, Completion, EngineState, Fault, Refusal};

/// The engine without its threads.
///
/// Locks are taken in this order, and none but the first is held while a completion is called: `turn`, `upkeep`, `writer`, `intake`, `published`,
/// `wal`. `turn` is only ever waited for by the committer; a completion that commits finds it taken and goes on.
/// Nothing is locked under `pin`.
pub(super) struct Core {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: EmbeddedOptions,
    /// Bytes of free space under which appends are refused.
    pub(super) reserve_bytes: u64,
    /// Held by whoever takes commits from the queue, until they have heard of their end: so that they hear in their order.
    pub(super) turn: Mutex<()>,
    pub(super) intake: Mutex<Intake>,
    /// `Intake::under_way`, for who only looks.
    pub(super) under_way: AtomicUsize,
    /// Some log may need its keys: batches must be decoded when they come in. Never taken back before a restart.
    pub(super) has_keys: AtomicBool,
    /// Wakes the committer.
    pub(super) work: Condvar,
    pub(super) writer: Mutex<Writer>,
    pub(super) published: RwLock<Published>,
    pub(super) wal: Mutex<WalSet>,
    pub(super) upkeep: Mutex<Upkeep>,
    /// The copy that is under way, if any: whoever reads it owns the pin.
    pub(super) pin: Mutex<Weak<Pin>>,
    /// Set to wake the maintenance thread.
    pub(super) alarm: Mutex<Alarm>,
    pub(super) alarm_rang: Condvar,
    pub(super) indexes: IndexCache,
    /// One for all passes of compaction: a log's keys are shared out among passes by it.
    pub(super) key_hasher: KeyHasher,
    pub(super) stats: Stats,
    /// Free bytes as last seen; `u64::MAX` if the disk does not say.
    pub(super) free_bytes: AtomicU64,
    /// The committer waits for a write-ahead file.
    pub(super) is_stalled: AtomicBool,
    /// Some log is damaged.
    pub(super) has_damage: AtomicBool,
    /// A write or sync failed, for who only looks.
    pub(super) has_failed: AtomicBool,
}

/// Why the maintenance thread should look.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    pub(super) has_rung: bool,
    pub(super) stop: bool,
    /// The wall-clock time of the last call of `maintain`.
    pub(super) now: Option<Timestamp>,
}

impl Core {
    /// Queues a commit, or ends it with a refusal at once.
    pub(super) fn submit(&self, draft: Result<Draft, Refusal>, done: Completion) {
        let queued_at = instant();
        let draft = draft.and_then(|draft| self.check_keys(draft));
        let (refused, wakes, alone) = {
            let mut intake = self.intake.lock();
            let refused = intake.submit(draft, done, queued_at);
            self.under_way.store(intake.under_way, Ordering::Release);
            let wakes = refused.is_ok() && (intake.queue.len() == 1 || intake.under_way == intake.wake_at);
            let alone = intake.under_way == 1 && intake.queue.front().is_some_and(Pending::is_in_memory);
            (refused, wakes, alone)
        };
        if alone && self.options.threads && self.end_in_memory() {
            return;
        }
        // Without the lock: whoever is woken wants it at once.
        if wakes {
            self.work.notify_one();
        }
        if let Err((refusal, done)) = refused {
            done(CommitOutcome::Refused(refusal));
        }
    }

    /// Refuses batches that cannot be decoded where keys matter. Decoding is no work to do under the lock, so the lock is taken
    /// once more; a configuration that gets in between finds the batch skipped by the index.
    fn check_keys(&self, draft: Draft) -> Result<Draft, Refusal> {
        let brings_keys = |target: &DraftTarget| match &target.action {
            Action::Create(config) | Action::Configure(config) => needs_keys(config),
            _ => false,
        };
        if draft.targets.iter().any(brings_keys) {
            self.has_keys.store(true, Ordering::Release);
        } else if !self.has_keys.load(Ordering::Acquire) {
            return Ok(draft);
        }
        let concerned: Vec<u32> = {
            let intake = self.intake.lock();
            let needs = |log: LogId| {
                let earlier = draft.targets.iter().rev().find_map(|target| match &target.action {
                    Action::Create(config) | Action::Configure(config) if target.log == log => Some(needs_keys(config)),
                    _ => None,
                });
                earlier.unwrap_or_else(|| intake.heads.get(&log).is_some_and(|head| head.needs_keys))
            };
            let payload = |target: &DraftTarget| match target.action {
                Action::Append { payload, .. } if needs(target.log) => Some(payload),
                _ => None,
            };
            draft.targets.iter().filter_map(payload).collect()
        };
        for payload in concerned.into_iter().filter_map(|payload| draft.payloads.get(payload as usize)) {
            payload.batch.validate().map_err(|error| Refusal::Malformed(error.to_string()))?;
        }
        Ok(draft)
    }

    /// Stops all writing: what is under way ends as unknown, later commits are refused.
    ///
    /// IMPORTANT: nothing is tried again. After a failed sync the system may have dropped the pages it could not write, and a second
    /// sync that succeeds would say nothing about them.
    pub(super) fn poison(&self, reason: &str) {
        let drained = {
            let mut intake = self.intake.lock();
            if intake.poisoned.is_none() {
                tracing::error!(reason, "the log takes no writes until a restart");
                intake.poisoned = Some(reason.to_owned());
                self.has_failed.store(true, Ordering::Release);
            }
            self.work.notify_all();
            std::mem::take(&mut intake.queue)
        };
        let unknown = |pending: Pending| {
            let outcome = match &pending.refused {
                Some(refusal) => CommitOutcome::Refused(refusal.clone()),
                None => CommitOutcome::Unknown(reason.to_owned()),
            };
            (pending, outcome)
        };
        self.finish(drained.into_iter().map(unknown).collect());
    }

    /// Why nothing is written any more.
    pub(super) fn poisoned(&self) -> Option<String> {
        // Asked before each delivery, like `damage`.
        if !self.has_failed.load(Ordering::Acquire) {
            return None;
        }
        self.intake.lock().poisoned.clone()
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.intake.lock().poisoned.is_some()
    }

    /// Notes damage that was met while reading, and makes its logs read-only.
    pub(super) fn report_damage(&self, fault: Fault) {
        let logs: Vec<LogId> = fault.logs.clone();
        let text = format!("{}: {}", fault.place, fault.what);
        {
            let mut intake = self.intake.lock();
            for log in &logs {
                if let Some(Head { is_damaged, .. }) = intake.heads.get_mut(log) {
                    *is_damaged = true;
                }
            }
        }
        if self.published.write().add_fault(fault) {
            tracing::error!(?logs, "damage found: {text}");
        }
        self.has_damage.store(true, Ordering::Release);
    }

    /// Why a log is read-only.
    pub(super) fn damage(&self, log: LogId) -> Option<String> {
        // Asked before each delivery: a sound engine answers without the lock that commits are shown under.
        if !self.has_damage.load(Ordering::Acquire) {
            return None;
        }
        self.published.read().logs.get(&log)?.damage.clone()
    }

    /// Health and counters.
    pub(super) fn state(&self) -> EngineState {
        let (sync_us, sync_us_sum) = self.stats.syncs.read();
        let (commit_us, commit_us_sum) = self.stats.commit_times.read();
        let (poisoned, disk_full, waiting_bytes) = {
            let intake = self.intake.lock();
            (intake.poisoned.clone(), intake.full.is_some(), intake.waiting_bytes)
        };
        let (faults, damaged_logs, segments) = {
            let published = self.published.read();
            (published.faults.clone(), published.damaged_logs(), published.segments.len() as u64)
        };
        let free_bytes = self.free_bytes.load(Ordering::Relaxed);
        EngineState {
            poisoned,
            disk_full,
            free_bytes: (free_bytes != u64::MAX).then_some(free_bytes),
            faults,
            damaged_logs,
            commits: self.stats.commits.load(Ordering::Relaxed),
            rounds: self.stats.rounds.load(Ordering::Relaxed),
            written_bytes: self.stats.written_bytes.load(Ordering::Relaxed),
            waiting_bytes,
            wal_files: self.wal.lock().in_use.len() as u64,
            backup: self.copy_state().map(|(read_bytes, total_bytes, held_bytes)| BackupState {
                read_bytes,
                total_bytes,
                held_bytes,
            }),
            segments,
            sync_us,
            sync_us_sum,
            commit_us,
            commit_us_sum,
        }
    }

    /// Writes the last checkpoint. Nothing is queued any more when this is called.
    pub(super) fn close(&self) {
        let mut upkeep = self.upkeep.lock();
        self.give_up_copy("the storage was closed");
        let was_open = {
            let mut intake = self.intake.lock();
            let was_open = intake.stage != Stage::Closed;
            intake.stage = Stage::Closed;
            was_open && intake.poisoned.is_none()
        };
        if !was_open {
            return;
        }
        let written = self.write_checkpoint(&mut upkeep);
        drop(upkeep);
        if let Err(error) = written {
            tracing::warn!(%error, "no checkpoint could be written; the next start replays more of the write-ahead log");
            self.note_failure(&error);
        }
    }

    /// Wakes the maintenance thread.
    pub(super) fn ring(&self) {
        self.alarm.lock().has_rung = true;
        self.alarm_rang.notify_one();
    }
}
