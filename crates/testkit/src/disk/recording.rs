//! What was asked of a disk, so that a test can play it again and cut the power at every step.

use std::path::PathBuf;

use bytes::Bytes;

/// One change that was asked of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// A file was made.
    Create(PathBuf),
    /// A directory was made; its parents have operations of their own.
    CreateDir(PathBuf),
    /// Bytes were written.
    Write {
        /// The file, by the name that it had then.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What.
        bytes: Bytes,
    },
    /// A file was cut or extended.
    SetLen(PathBuf, u64),
    /// Space was reserved up to this length in bytes.
    Allocate(PathBuf, u64),
    /// A file's data was synced.
    SyncData(PathBuf),
    /// A directory's entries were synced.
    SyncDir(PathBuf),
    /// A file got another name.
    Rename(PathBuf, PathBuf),
    /// A file was removed.
    Remove(PathBuf),
    /// Not the disk's: something that the test noted with [`super::FaultDisk::mark`], such as "this was confirmed".
    Mark(u64),
}
