//! The embedded engine: a write-ahead log that all logs share, and segments for what stays.
//!
//! A commit is checked and gets its offsets when it is queued (`intake`); the committer writes all that waits as one round and
//! syncs it once (`committer`); then its effects are shown to readers (`published`) and its end is told. Upkeep moves what is alive of
//! full write-ahead files into segments, and writes checkpoints (`maintenance`, `mover`, `checkpoint`). A start loads the newest
//! checkpoint and replays the write-ahead log from there (`recovery`). The files are drawn in docs/formats/.
//!
//! Architecture invariant: the core is synchronous and does what it is told by [`EmbeddedLog::run_round`] and
//! [`EmbeddedLog::run_maintenance`] in the same way whether its threads or a test call them.

mod checkpoint;
mod codec;
mod committer;
mod committer_thread;
mod compaction;
mod copy;
mod core;
mod dead;
mod draft;
mod error;
mod found;
mod frame;
mod index_cache;
mod intake;
mod keys;
mod locations;
mod log_data;
mod maintenance;
mod mover;
mod number_map;
mod offline;
mod options;
mod pin;
mod published;
mod read;
mod recent;
mod recovery;
mod replay;
mod retention;
mod rewrite;
mod round;
mod scan;
mod segment;
mod segment_writer;
mod start;
mod stats;
mod stored;
mod wal;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use parking_lot::Mutex;
use types::disk::Disk;
use types::{LogId, Offset, Timestamp};

use self::core::Core;
use self::draft::{Action, Draft};
use self::intake::{Stage, granted_epoch};
use crate::{
    Backup, BackupError, Capabilities, Commit, CommitOutcome, Completion, EngineState, Entry, KeySummary, Log,
    LogState, OpenError, Opened, ReadError, ReadLimit, Refusal, Written,
};

pub use self::committer::Round;
pub use self::error::StartError;
pub use self::offline::{DumpItem, FilePurpose, FileReport, LogReport, VerifyReport, dump, verify};
pub use self::options::EmbeddedOptions;
pub(crate) use self::start::{FORMAT, FORMAT_FILE};

/// Where the files are, but for the few in the data directory itself.
pub(crate) const DIRECTORIES: [&str; 2] = [wal::WAL_DIR, segment::SEGMENT_DIR];

/// Whether this is a name that the engine gives to files with data.
pub(crate) fn is_data_file(path: &Path) -> bool {
    let numbered = |directory: &str, extension| {
        path.parent() == Some(Path::new(directory)) && wal::number_of(path, extension).is_some()
    };
    numbered(wal::WAL_DIR, "wal") || numbered(segment::SEGMENT_DIR, "seg") || checkpoint::number_of(path).is_some()
}

/// How often an engine without threads makes room for a commit of its own.
const MANUAL_TRIES: usize = 64;

/// The durable engine of one machine.
pub struct EmbeddedLog {
    core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl EmbeddedLog {
    /// Opens the data directory behind `disk`, or makes one if it is empty.
    ///
    /// # Errors
    /// [`StartError`]. Damage that leaves some logs readable is no error: they are open for reading, and
    /// [`EngineState::faults`] says what was found.
    pub fn open(disk: Arc<dyn Disk>, options: EmbeddedOptions) -> Result<Self, StartError> {
        let core = Arc::new(start::start(disk, options.checked())?);
        let mut threads = Vec::new();
        if core.options.threads {
            for (name, run) in
                [("log-committer", Core::run_committer as fn(&Core)), ("log-upkeep", Core::run_upkeep as fn(&Core))]
            {
                let core = core.clone();
                let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&core));
                threads.push(thread.map_err(|error| StartError::io(name, &error))?);
            }
        }
        Ok(Self { core, threads: Mutex::new(threads) })
    }

    /// Writes one round of the commits that wait, and ends them. For engines without threads.
    pub fn run_round(&self) -> Round {
        self.core.run_round()
    }

    /// Does the upkeep that is due. For engines without threads.
    pub fn run_maintenance(&self) {
        self.core.run_maintenance();
    }

    /// Writes a checkpoint now.
    ///
    /// # Errors
    /// The operating system's words.
    pub fn checkpoint(&self) -> Result<(), String> {
        let mut upkeep = self.core.upkeep.lock();
        if self.core.is_poisoned() {
            return Err("the storage takes no writes".to_owned());
        }
        let written = self.core.write_checkpoint(&mut upkeep);
        drop(upkeep);
        written.map_err(|error| {
            self.core.note_failure(&error);
            error.to_string()
        })
    }

    /// Commits the engine's own operations and waits for the end.
    fn commit_and_wait(&self, draft: Draft) -> CommitOutcome {
        let (sender, receiver) = sync_channel(1);
        self.core.submit(Ok(draft), Box::new(move |outcome| drop(sender.send(outcome))));
        if !self.core.options.threads {
            self.core.run_round_if_manual();
            // With threads the upkeep would make room meanwhile; here nobody else does.
            for _ in 0..MANUAL_TRIES {
                if !self.core.is_stalled.load(Ordering::Acquire) {
                    break;
                }
                self.core.run_maintenance();
                self.core.run_round_if_manual();
            }
        }
        receiver.recv().unwrap_or_else(|_| CommitOutcome::Unknown("the engine is gone".to_owned()))
    }

    /// The answer for one log whose new epoch the commit gave.
    fn opened(&self, log: LogId, granted: Option<Written>) -> Result<Opened, OpenError> {
        let granted = granted.ok_or(OpenError::NoSuchLog(log))?;
        let published = self.core.published.read();
        let data = published.logs.get(&log).ok_or(OpenError::NoSuchLog(log))?;
        Ok(Opened {
            epoch: granted_epoch(&granted),
            state: data.state(),
            config: data.config.as_ref().clone(),
            damage: data.damage.clone(),
        })
    }

    fn stop_threads(&self) {
        {
            let mut intake = self.core.intake.lock();
            if intake.stage == Stage::Open {
                intake.stage = Stage::Closing;
            }
            self.core.work.notify_all();
        }
        let mut alarm = self.core.alarm.lock();
        let threads = std::mem::take(&mut *self.threads.lock());
        let (upkeep, committers): (Vec<_>, Vec<_>) =
            threads.into_iter().partition(|thread| thread.thread().name() == Some("log-upkeep"));
        drop(alarm);
        // The committer first: it may still need the mover to give it a file.
        for thread in committers {
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
        alarm = self.core.alarm.lock();
        alarm.stop = true;
        drop(alarm);
        self.core.alarm_rang.notify_all();
        for thread in upkeep {
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Log for EmbeddedLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities { sparse_deletes: true, key_index: true, durable: true }
    }

    fn logs(&self) -> Vec<LogId> {
        self.core.published.read().logs.keys().copied().collect()
    }

    fn open(&self, logs: &[LogId]) -> Vec<Result<Opened, OpenError>> {
        loop {
            // A log that is not there must not keep the others, so only those that are known go into the commit.
            let known: Vec<bool> = {
                let intake = self.core.intake.lock();
                logs.iter().map(|log| intake.heads.contains_key(log)).collect()
            };
            let owned = logs.iter().zip(&known).filter(|(_, known)| **known).map(|(log, _)| (*log, Action::Own));
            let reason = match self.commit_and_wait(Draft::internal(owned)) {
                CommitOutcome::Committed(written) => {
                    let mut written = written.into_iter();
                    let mut next = |known: bool| if known { written.next() } else { None };
                    return logs.iter().zip(known).map(|(log, known)| self.opened(*log, next(known))).collect();
                }
                // It was removed in between.
                CommitOutcome::Refused(Refusal::NoSuchLog(_)) => continue,
                CommitOutcome::Refused(refusal) => refusal.to_string(),
                CommitOutcome::Unknown(reason) => reason,
            };
            return logs.iter().map(|_| Err(OpenError::Unavailable(reason.clone()))).collect();
        }
    }

    fn commit(&self, commit: Commit, done: Completion) {
        self.core.submit(Draft::new(commit), done);
    }

    fn read(&self, log: LogId, from: Offset, limit: ReadLimit) -> Result<Vec<Entry>, ReadError> {
        self.core.read(log, from, limit)
    }

    fn state(&self, log: LogId) -> Result<LogState, ReadError> {
        self.core.published.read().logs.get(&log).map(|data| data.state()).ok_or(ReadError::NoSuchLog(log))
    }

    fn damage(&self, log: LogId) -> Option<String> {
        self.core.damage(log)
    }

    fn offset_at(&self, log: LogId, time: Timestamp) -> Result<Option<Offset>, ReadError> {
        self.core.offset_at(log, time)
    }

    fn key(&self, log: LogId, key: &[u8]) -> Result<Option<KeySummary>, ReadError> {
        self.core.key_summary(log, key)
    }

    fn poisoned(&self) -> Option<String> {
        self.core.poisoned()
    }

    fn engine_state(&self) -> EngineState {
        self.core.state()
    }

    fn backup(&self, now: Timestamp) -> Result<Box<dyn Backup>, BackupError> {
        self.core.begin_copy(now)
    }

    fn maintain(&self, now: Timestamp) {
        self.core.maintain(now);
    }

    fn close(&self) {
        self.stop_threads();
        self.core.run_round_if_manual();
        self.core.close();
    }
}

impl Drop for EmbeddedLog {
    /// Stops the threads once what waits is written. No checkpoint is written: that is what `close` is for.
    fn drop(&mut self) {
        self.core.give_up_copy("the storage was closed");
        if self.core.options.threads {
            self.stop_threads();
        }
    }
}
