//! The disk, as little of it as the log needs. The test kit's twin injects faults.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What [`DiskFile::write_bulk`] wants aligned, in bytes.
pub const BULK_ALIGN: usize = 4096;

/// A directory tree on a disk. Paths are relative to its root and never leave it.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// The operating system's; `NotFound` if it is missing and `create` is false. A file just created may vanish in a power cut
    /// until its directory has been synced.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>>;

    /// Names the files of a directory (relative to the root), sorted. A missing directory is empty.
    ///
    /// # Errors
    /// The operating system's.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Makes a directory and its parents; one that is there is fine.
    ///
    /// # Errors
    /// The operating system's.
    fn create_dir(&self, directory: &Path) -> io::Result<()>;

    /// Renames a file, replacing what has the new name. Durable once the directory is synced.
    ///
    /// # Errors
    /// The operating system's.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable once the directory is synced.
    ///
    /// # Errors
    /// The operating system's.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the directory's entries durable.
    ///
    /// # Errors
    /// The operating system's.
    fn sync_dir(&self, directory: &Path) -> io::Result<()>;

    /// Bytes that may still be written, if the system says.
    fn free_bytes(&self) -> Option<u64>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Reads into all of `buffer` from `offset` on; fewer bytes only at the end of the file.
    ///
    /// # Errors
    /// The operating system's.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `parts`, one after the other, from `offset` on, as one vectored write where the system can.
    ///
    /// # Errors
    /// The operating system's; anything may have been written then.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Writes what nobody reads soon: past the system's cache where that goes, which then keeps what is of use, and at a fraction of the
    /// processor time. That takes `bytes` at an address, of a length and at an offset that are multiples of [`BULK_ALIGN`]; others are
    /// written as [`write_at`](Self::write_at) does.
    ///
    /// # Errors
    /// As of [`write_at`](Self::write_at).
    fn write_bulk(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(&[IoSlice::new(bytes)], offset)
    }

    /// Makes the file's data durable, and of its metadata what is needed to read it back (fdatasync).
    ///
    /// # Errors
    /// The operating system's; what was not durable before may be lost then, whatever a later call says.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// The operating system's.
    fn set_len(&self, len_bytes: u64) -> io::Result<()>;

    /// Reserves space up to `len_bytes`, so that writes below it cannot find the disk full.
    ///
    /// # Errors
    /// The operating system's.
    fn allocate(&self, len_bytes: u64) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    /// The operating system's.
    fn len_bytes(&self) -> io::Result<u64>;
}
