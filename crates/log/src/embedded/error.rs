//! Why the engine does not start.

use std::io;

/// Why a data directory cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system refused something.
    #[error("{place}: {error}")]
    Io {
        /// The file or directory.
        place: String,
        /// The system's words.
        error: String,
    },
    /// The directory is of another program or version.
    #[error("the data directory's format is {found:?}; this version reads {expected:?}")]
    Format {
        /// What its `FORMAT` file says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// There are data files, but no `FORMAT` file.
    #[error("the directory holds {file} but no FORMAT file: it is no data directory, or a part of one is missing")]
    NotADataDirectory {
        /// A file that is there.
        file: String,
    },
    /// A restore of a backup into the directory has not ended.
    #[error("a restore into this directory has not ended; run `posthouse restore` again")]
    Restoring,
    /// So much is missing that the state of no log is known.
    #[error("the data directory is damaged: {place}: {what}; `posthouse log verify` says more")]
    Damaged {
        /// The file.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The first write failed: a disk full to the last byte, or broken.
    #[error("the first write to the write-ahead log failed: {0}")]
    FirstWrite(String),
}

impl StartError {
    pub(super) fn io(place: &str, error: &io::Error) -> Self {
        Self::Io { place: place.to_owned(), error: error.to_string() }
    }
}
