//! The disk and its open files, as the system under test sees them.

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use types::disk::{Disk, DiskFile};

use super::tree::{Node, failure, relative};
use super::{DiskOperation, FaultDisk, died};

struct Handle {
    disk: FaultDisk,
    id: u64,
    /// What it was opened as, for errors.
    path: PathBuf,
}

impl Disk for FaultDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let path = relative(path)?;
        let mut state = self.lock();
        state.alive()?;
        let id = match state.tree.file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound && create => {
                state.count()?;
                let id = state.add_file(&path)?;
                state.note(|| DiskOperation::Create(path.clone()));
                id
            }
            found => found?,
        };
        *state.open.entry(id).or_default() += 1;
        Ok(Arc::new(Handle { disk: self.clone(), id, path }))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.lock();
        state.alive()?;
        Ok(state.tree.files(&relative(directory)?))
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        let directory = relative(directory)?;
        let mut state = self.lock();
        state.alive()?;
        if state.tree.is_directory(&directory) {
            return Ok(());
        }
        state.count()?;
        for made in state.add_dirs(&directory)? {
            state.note(|| DiskOperation::CreateDir(made));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (relative(from)?, relative(to)?);
        let mut state = self.lock();
        state.count()?;
        let replaced = state.tree.get(&to);
        state.tree.rename(&from, &to)?;
        if let Some(Node::File(id)) = replaced {
            state.lost_name(id);
        }
        state.note(|| DiskOperation::Rename(from, to));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = relative(path)?;
        let mut state = self.lock();
        state.count()?;
        let id = state.tree.file(&path)?;
        state.tree.remove(&path)?;
        state.lost_name(id);
        state.note(|| DiskOperation::Remove(path));
        Ok(())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let directory = relative(directory)?;
        let mut state = self.lock();
        state.count()?;
        state.tree.sync(&directory)?;
        state.forget_unreachable();
        state.note(|| DiskOperation::SyncDir(directory));
        Ok(())
    }

    fn free_bytes(&self) -> Option<u64> {
        self.lock().faults.free_bytes
    }
}

impl DiskFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock();
        state.alive()?;
        let end = offset.saturating_add(buffer.len() as u64);
        let touches = |bytes: &std::ops::Range<u64>| bytes.start < end && offset < bytes.end;
        let fails =
            |(path, bytes): &(PathBuf, _)| touches(bytes) && state.tree.file(path).is_ok_and(|id| id == self.id);
        if state.faults.failing_reads.iter().any(fails) {
            return Err(failure(ErrorKind::Other, "the disk cannot read this place", &self.path));
        }
        Ok(state.inode(self.id)?.read(buffer, offset))
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let whole: Vec<u8>;
        let bytes = match parts {
            [one] => &one[..],
            parts => {
                whole = parts.iter().flat_map(|part| part.iter().copied()).collect();
                &whole[..]
            }
        };
        let mut state = self.disk.lock();
        state.alive()?;
        let dies = state.count().is_err();
        if state.faults.failing_writes {
            return Err(failure(ErrorKind::Other, "the disk cannot write", &self.path));
        }
        let written = state.with_budget(self.id, |inode, budget| inode.write(bytes, offset, budget))?;
        if dies {
            return Err(died());
        }
        state.counts.writes += 1;
        state.counts.written_bytes += written as u64;
        if written > 0 {
            let bytes = || Bytes::copy_from_slice(bytes.get(..written).unwrap_or_default());
            state.note_file(self.id, |path| DiskOperation::Write { path, offset, bytes: bytes() });
        }
        if written < bytes.len() {
            return Err(failure(ErrorKind::StorageFull, "no space is left on the disk", &self.path));
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let shared = &self.disk.shared;
        let mut state = shared
            .syncs_held
            .wait_while(self.disk.lock(), |state| state.faults.syncs_are_held && !state.faults.crashed)
            .unwrap_or_else(PoisonError::into_inner);
        state.count()?;
        state.counts.syncs += 1;
        if state.faults.failing_syncs {
            state.inode(self.id)?.fail_sync();
            return Err(failure(ErrorKind::Other, "the disk could not write back", &self.path));
        }
        state.inode(self.id)?.sync();
        state.note_file(self.id, DiskOperation::SyncData);
        Ok(())
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.count()?;
        let inode = state.inode(self.id)?;
        let before = inode.allocated_bytes();
        inode.set_len(len_bytes);
        let freed = before.saturating_sub(inode.allocated_bytes());
        state.give_back(freed);
        state.note_file(self.id, |path| DiskOperation::SetLen(path, len_bytes));
        Ok(())
    }

    fn allocate(&self, len_bytes: u64) -> io::Result<()> {
        let mut state = self.disk.lock();
        state.count()?;
        if !state.with_budget(self.id, |inode, budget| inode.allocate(len_bytes, budget))? {
            return Err(failure(ErrorKind::StorageFull, "no space is left on the disk", &self.path));
        }
        state.note_file(self.id, |path| DiskOperation::Allocate(path, len_bytes));
        Ok(())
    }

    fn len_bytes(&self) -> io::Result<u64> {
        let mut state = self.disk.lock();
        state.alive()?;
        Ok(state.inode(self.id)?.len_bytes())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.disk.lock();
        if let Some(count) = state.open.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                state.open.remove(&self.id);
            }
        }
    }
}

impl FaultDisk {
    /// Does a recorded operation on this disk; marks do nothing. Play a recording step by step on an empty disk, and take crash images between.
    ///
    /// What was done to a file after it had lost its name is not in a recording.
    ///
    /// # Errors
    /// As the operation itself.
    pub fn play(&self, operation: &DiskOperation) -> io::Result<()> {
        let file = |path: &PathBuf| self.open(path, false);
        match operation {
            DiskOperation::Create(path) => self.open(path, true).map(drop),
            DiskOperation::CreateDir(path) => self.create_dir(path),
            DiskOperation::Write { path, offset, bytes } => file(path)?.write_at(&[IoSlice::new(bytes)], *offset),
            DiskOperation::SetLen(path, len_bytes) => file(path)?.set_len(*len_bytes),
            DiskOperation::Allocate(path, len_bytes) => file(path)?.allocate(*len_bytes),
            DiskOperation::SyncData(path) => file(path)?.sync_data(),
            DiskOperation::SyncDir(path) => self.sync_dir(path),
            DiskOperation::Rename(from, to) => self.rename(from, to),
            DiskOperation::Remove(path) => self.remove(path),
            DiskOperation::Mark(_) => Ok(()),
        }
    }
}
