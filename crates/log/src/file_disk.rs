//! The real disk: a directory of files.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use types::disk::{BULK_ALIGN, Disk, DiskFile};

/// The file whose lock says that a process uses the directory.
const LOCK_FILE: &str = "LOCK";
/// The most parts that Linux takes in one vectored write.
const MAX_PARTS: usize = 1024;

/// A directory on a file system, used by one process at a time.
#[derive(Debug)]
pub struct FileDisk {
    root: PathBuf,
    /// The lock, held as long as the file is open. `None` if the disk is only read.
    lock: Option<File>,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileDiskError {
    /// Another process has it.
    #[error("the data directory {} is in use by {}; stop it first, or give this one another directory", root.display(), who(*pid))]
    InUse {
        /// The directory.
        root: PathBuf,
        /// The other process, if it could be told.
        pid: Option<u32>,
    },
    /// The operating system refused something.
    #[error("the data directory {}: {error}", root.display())]
    Io {
        /// The directory.
        root: PathBuf,
        /// The system's words.
        error: io::Error,
    },
}

fn who(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

impl FileDisk {
    /// Takes a directory for this process, and makes it if it is not there.
    ///
    /// # Errors
    /// [`FileDiskError::InUse`] while another process has it; the operating system's.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, FileDiskError> {
        let root = root.into();
        let lock = || {
            std::fs::create_dir_all(&root)?;
            let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
            options.open(root.join(LOCK_FILE))
        };
        let mut file = lock().map_err(|error| FileDiskError::Io { root: root.clone(), error })?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(FileDiskError::InUse { root, pid });
            }
            Err(TryLockError::Error(error)) => return Err(FileDiskError::Io { root, error }),
        }
        let note = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())
        };
        // The lock is what counts: on a disk that is full to the last byte its owner goes unnamed.
        let _ = note(&mut file);
        Ok(Self { root, lock: Some(file) })
    }

    /// Looks at a directory without taking it from the process that may have it. Every change is refused.
    #[must_use]
    pub fn read_only(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), lock: None }
    }

    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        if path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Ok(self.root.join(path));
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} leaves the data directory", path.display())))
    }

    fn resolve_to_change(&self, path: &Path) -> io::Result<PathBuf> {
        if self.lock.is_none() {
            return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the data directory is only looked at"));
        }
        self.resolve(path)
    }
}

impl Disk for FileDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let may_change = self.lock.is_some();
        let full = if create { self.resolve_to_change(path)? } else { self.resolve(path)? };
        let mut options = OpenOptions::new();
        options.read(true).write(may_change).create(create).truncate(false);
        match options.open(&full) {
            // The file system became read-only. What it holds is not damaged, and who reads must not hear that it is.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem && !create => {
                Ok(Arc::new(RealFile { file: File::open(full)?, may_change: false }))
            }
            file => Ok(Arc::new(RealFile { file: file?, may_change })),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match std::fs::read_dir(self.resolve(directory)?) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(directory.join(entry.file_name()));
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    fn create_dir(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(self.resolve_to_change(directory)?)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(self.resolve_to_change(from)?, self.resolve_to_change(to)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(self.resolve_to_change(path)?)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        File::open(self.resolve_to_change(directory)?)?.sync_all()
    }

    fn free_bytes(&self) -> Option<u64> {
        let state = rustix::fs::statvfs(&self.root).ok()?;
        state.f_bavail.checked_mul(state.f_frsize)
    }
}

struct RealFile {
    file: File,
    may_change: bool,
}

impl RealFile {
    fn to_change(&self) -> io::Result<&File> {
        if self.may_change { Ok(&self.file) } else { Err(rustix::io::Errno::ROFS.into()) }
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut got = 0;
        while let Some(rest) = buffer.get_mut(got..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, offset + got as u64) {
                Ok(0) => break,
                Ok(count) => got += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(got)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let file = self.to_change()?;
        let mut copies = parts.to_vec();
        let mut left = copies.as_mut_slice();
        let mut at = offset;
        // Empty parts would look like a write that gets nowhere.
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let now = left.get(..left.len().min(MAX_PARTS)).unwrap_or_default();
            match rustix::io::pwritev(file, now, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    at += count as u64;
                    IoSlice::advance_slices(&mut left, count);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_bulk(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let file = self.to_change()?;
        if !is_aligned(bytes, offset) || set_direct(file, true).is_err() {
            return self.write_at(&[IoSlice::new(bytes)], offset);
        }
        let (mut left, mut at) = (bytes, offset);
        let written = loop {
            match rustix::io::pwrite(file, left, at) {
                Ok(0) => break Err(rustix::io::Errno::NOSPC),
                Ok(count) => {
                    left = left.get(count..).unwrap_or_default();
                    at += count as u64;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => break Err(error),
            }
            if !is_aligned(left, at) || left.is_empty() {
                break Ok(());
            }
        };
        set_direct(file, false)?;
        match written {
            // Some file systems take the flag and refuse the write; and a rest may be no longer aligned.
            Ok(()) | Err(rustix::io::Errno::INVAL) if !left.is_empty() => self.write_at(&[IoSlice::new(left)], at),
            written => written.map_err(io::Error::from),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.to_change()?.set_len(len_bytes)
    }

    fn allocate(&self, len_bytes: u64) -> io::Result<()> {
        if len_bytes == 0 {
            return Ok(());
        }
        reserve(self.to_change()?, len_bytes)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.file.metadata().map(|data| data.len())
    }
}

fn is_aligned(bytes: &[u8], offset: u64) -> bool {
    (bytes.as_ptr() as usize | bytes.len()).is_multiple_of(BULK_ALIGN) && offset.is_multiple_of(BULK_ALIGN as u64)
}

/// Has the file written past the system's cache, or no longer.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_direct(file: &File, direct: bool) -> rustix::io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    let wanted = if direct { flags | rustix::fs::OFlags::DIRECT } else { flags - rustix::fs::OFlags::DIRECT };
    rustix::fs::fcntl_setfl(file, wanted)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_direct(_file: &File, _direct: bool) -> rustix::io::Result<()> {
    Err(rustix::io::Errno::NOTSUP)
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve(file: &File, len_bytes: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, len_bytes) {
        // Some network file systems cannot; zeros are written to all files anyway.
        Err(rustix::io::Errno::OPNOTSUPP) => lengthen(file, len_bytes),
        other => other.map_err(io::Error::from),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reserve(file: &File, len_bytes: u64) -> io::Result<()> {
    lengthen(file, len_bytes)
}

fn lengthen(file: &File, len_bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() < len_bytes { file.set_len(len_bytes) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, FileDisk) {
        let directory = tempfile::tempdir().unwrap();
        let disk = FileDisk::open(directory.path().join("data")).unwrap();
        (directory, disk)
    }

    #[test]
    fn what_is_written_in_many_parts_is_read_back() {
        let (_directory, disk) = disk();
        disk.create_dir(Path::new("a")).unwrap();
        let path = Path::new("a/file");
        assert_eq!(disk.open(path, false).err().map(|error| error.kind()), Some(io::ErrorKind::NotFound));
        let file = disk.open(path, true).unwrap();
        let parts: Vec<Vec<u8>> = (0..3000u32).map(|at| vec![at as u8; at as usize % 7]).collect();
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        file.write_at(&slices, 100).unwrap();
        file.sync_data().unwrap();
        let whole = parts.concat();
        let mut back = vec![1; whole.len() + 50];
        assert_eq!(file.read_at(&mut back, 100).unwrap(), whole.len());
        assert_eq!(back[..whole.len()], whole);
        file.allocate(100_000).unwrap();
        assert_eq!(file.len_bytes().unwrap(), 100_000);
        disk.rename(path, Path::new("a/other")).unwrap();
        disk.sync_dir(Path::new("a")).unwrap();
        assert_eq!(disk.list(Path::new("a")).unwrap(), [Path::new("a/other")]);
        assert!(disk.list(Path::new("b")).unwrap().is_empty());
        assert!(disk.free_bytes().is_some_and(|free| free > 0));
        disk.remove(Path::new("a/other")).unwrap();
        assert!(disk.open(Path::new("../x"), true).is_err() && disk.open(Path::new("/x"), true).is_err());
    }

    #[test]
    fn bulk_is_written_as_it_is_aligned_or_not() {
        let (_directory, disk) = disk();
        let file = disk.open(Path::new("file"), true).unwrap();
        let room: Vec<u8> = (0..16 * BULK_ALIGN).map(|at| (at / 7) as u8).collect();
        let start = room.as_ptr().align_offset(BULK_ALIGN);
        let whole = &room[start..start + 8 * BULK_ALIGN];
        file.write_bulk(&whole[..4 * BULK_ALIGN], 0).unwrap();
        file.write_bulk(&whole[4 * BULK_ALIGN..5 * BULK_ALIGN + 10], 4 * BULK_ALIGN as u64).unwrap();
        file.write_bulk(&whole[5 * BULK_ALIGN + 10..], 5 * BULK_ALIGN as u64 + 10).unwrap();
        file.sync_data().unwrap();
        let mut back = vec![0; whole.len() + 1];
        assert_eq!(file.read_at(&mut back, 0).unwrap(), whole.len());
        assert_eq!(&back[..whole.len()], whole);
        file.write_at(&[IoSlice::new(b"x")], 1).unwrap();
    }

    #[test]
    fn a_directory_is_used_by_one_process_and_the_error_names_it() {
        let (directory, disk) = disk();
        let root = directory.path().join("data");
        let text = FileDisk::open(&root).unwrap_err().to_string();
        assert!(text.contains(&format!("in use by process {}", std::process::id())), "{text}");
        let looker = FileDisk::read_only(&root);
        assert!(looker.list(Path::new("")).is_ok() && looker.open(Path::new("x"), true).is_err());
        drop(disk);
        FileDisk::open(&root).unwrap();
    }
}
