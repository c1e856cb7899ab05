//! Why a backup is not made, or not taken.

use std::io;

/// Why a running engine gives no backup, or ends one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The engine keeps its logs elsewhere.
    #[error("this engine keeps nothing on a disk of its own, so there is nothing to copy")]
    Unsupported,
    /// There is one at a time, since each may hold as much disk as there is data.
    #[error("another backup is under way; try again when it has ended")]
    UnderWay,
    /// An earlier write or sync failed: what is on the disk is known only after a restart.
    #[error("the storage failed earlier and has to be restarted before it can be copied: {0}")]
    Poisoned(String),
    /// The engine ended it.
    #[error("the backup was given up: {0}")]
    GivenUp(String),
    /// The disk does not answer, or a file is not what it was.
    #[error("the backup was given up, because {place} cannot be read: {error}")]
    Read {
        /// The file.
        place: String,
        /// What is wrong.
        error: String,
    },
}

/// Why an archive is not taken for a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Reading failed.
    #[error("the backup cannot be read: {0}")]
    Io(String),
    /// It is something else.
    #[error("this is no backup: {0}")]
    NotABackup(String),
    /// Another version wrote it.
    #[error("the backup is of version {found}; this program reads version {expected}")]
    Version {
        /// Of the archive.
        found: u32,
        /// Of this program.
        expected: u32,
    },
    /// It ends too early.
    #[error("the backup is cut off: it ends within or before {0}")]
    Truncated(String),
    /// Something is in it that should not be, or in another order.
    #[error("the backup is damaged: {0}")]
    Unexpected(String),
    /// A file is missing.
    #[error("the backup is damaged: {missing} is missing, {found} stands in its place")]
    Missing {
        /// What should be there.
        missing: String,
        /// What is.
        found: String,
    },
    /// A file is not what was written.
    #[error("the backup is damaged: {file} does not have the checksum that it was written with")]
    Checksum {
        /// The file.
        file: String,
    },
}

/// Why a backup was not restored. The directory is as it was before, unless removing what was written failed too; a server does
/// not start on it then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Nothing is written over.
    #[error("the directory is not empty: it holds {0}; give an empty one, or one that is not there yet")]
    NotEmpty(String),
    /// The archive is at fault.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The backup's data directory is of another version.
    #[error("the backup's data directory has the format {found:?}; this program reads {expected:?}")]
    Format {
        /// What the backup says.
        found: String,
        /// What this program reads.
        expected: &'static str,
    },
    /// The operating system refused something.
    #[error("{place} cannot be written: {error}")]
    Write {
        /// The file or directory.
        place: String,
        /// The system's words.
        error: String,
    },
}

impl ArchiveError {
    /// What reading failed with, near this entry.
    pub(super) fn read(error: &io::Error, near: &str) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated(near.to_owned()),
            // The tar crate's own errors: a header whose checksum is wrong, a number that is none.
            io::ErrorKind::Other | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Self::Unexpected(format!("at {near}: {error}"))
            }
            _ => Self::Io(error.to_string()),
        }
    }
}
