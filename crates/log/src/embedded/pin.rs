//! What a copy under way holds: files that upkeep neither removes nor uses again until the copy ends.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::core::Core;
use super::maintenance::Upkeep;
use super::wal::WalFile;
use crate::BackupError;

/// The files of one copy. The copy owns it; the engine only knows of it as long as the copy lives.
#[derive(Debug, Default)]
pub(super) struct Pin {
    /// Numbers of write-ahead files, ascending.
    wal: Vec<u64>,
    /// Ids of segments, ascending, each with its size in bytes.
    segments: Vec<(u64, u64)>,
    /// Why the engine took the files back.
    given_up: OnceLock<String>,
    pub(super) total_bytes: u64,
    pub(super) read_bytes: AtomicU64,
    /// Bytes that would be free without the copy, as upkeep saw it last.
    held_bytes: AtomicU64,
}

impl Pin {
    pub(super) fn new(mut wal: Vec<u64>, mut segments: Vec<(u64, u64)>, total_bytes: u64) -> Self {
        wal.sort_unstable();
        segments.sort_unstable();
        Self { wal, segments, total_bytes, ..Self::default() }
    }

    /// Whether the files are still held. IMPORTANT: asked after a read, or what was read may be what the engine wrote over it.
    pub(super) fn check(&self) -> Result<(), BackupError> {
        self.given_up.get().map_or(Ok(()), |why| Err(BackupError::GivenUp(why.clone())))
    }

    fn holds_wal(&self, number: u64) -> bool {
        self.wal.binary_search(&number).is_ok()
    }

    /// The size of a segment that is held.
    pub(super) fn segment(&self, id: u64) -> Option<u64> {
        let at = self.segments.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.segments.get(at).map(|(_, bytes)| *bytes)
    }
}

impl Core {
    /// The copy under way, if its files are still held.
    pub(super) fn pinned(&self) -> Option<Arc<Pin>> {
        self.pin.lock().upgrade().filter(|pin| pin.given_up.get().is_none())
    }

    /// Bytes of the copy under way that were read, all of it, and what it holds beyond what the engine needs itself.
    pub(super) fn copy_state(&self) -> Option<(u64, u64, u64)> {
        let pin = self.pinned()?;
        let [read, held] = [&pin.read_bytes, &pin.held_bytes].map(|bytes| bytes.load(Ordering::Relaxed));
        Some((read, pin.total_bytes, held))
    }

    /// Whether some segment can be removed once a checkpoint says so.
    pub(super) fn has_doomed(&self, upkeep: &Upkeep) -> bool {
        let pin = self.pinned();
        upkeep.doomed.iter().any(|id| pin.as_ref().is_none_or(|pin| pin.segment(*id).is_none()))
    }

    /// Keeps a write-ahead file that is out of use if the copy under way reads it, and gives it back if not.
    pub(super) fn hold(&self, upkeep: &mut Upkeep, file: Arc<WalFile>) -> Option<Arc<WalFile>> {
        if self.pinned().is_some_and(|pin| pin.holds_wal(file.number)) {
            upkeep.held.push(file);
            return None;
        }
        Some(file)
    }

    /// Uses the files again that a copy held which has ended, and counts what one holds that has not.
    pub(super) fn settle_held(&self, upkeep: &mut Upkeep) -> io::Result<()> {
        let Some(pin) = self.pinned() else {
            for file in std::mem::take(&mut upkeep.held) {
                self.recycle(file)?;
            }
            return Ok(());
        };
        let wal: u64 = upkeep.held.iter().map(|file| file.capacity).sum();
        let segments: u64 = upkeep.doomed.iter().filter_map(|id| pin.segment(*id)).sum();
        pin.held_bytes.store(wal + segments, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the files back from the copy under way, which ends with these words.
    pub(super) fn give_up_copy(&self, why: &str) {
        if let Some(pin) = self.pinned()
            && pin.given_up.set(why.to_owned()).is_ok()
        {
            tracing::warn!(why, "a backup was given up");
        }
    }

    /// A copy that holds what a full disk needs is given up: publishing goes on, and the backup can be made again.
    pub(super) fn relieve_full_disk(&self) {
        if self.intake.lock().full.is_some() && self.copy_state().is_some_and(|(_, _, held)| held > 0) {
            self.give_up_copy("the disk is full, and the files that it held are needed");
        }
    }
}
