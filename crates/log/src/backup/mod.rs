//! Backups: a consistent copy of all logs as one archive, made while the engine runs, and the way back. Drawn in docs/formats/backup.md.
//!
//! An archive is a tar file: a manifest, then the files of a data directory as it was between two rounds, then their checksums. What
//! any `tar` unpacks from it is a data directory that a server starts on; [`restore`] checks it on the way.

mod archive;
mod check;
mod error;
mod manifest;
mod restore;

pub(crate) use archive::{Archive, Source};
pub use check::{Checked, check};
pub use error::{ArchiveError, BackupError, RestoreError};
pub use manifest::{Manifest, ManifestFile};
pub use restore::restore;

/// The file that says that a restore into this directory has not ended. A server does not start on it.
pub(crate) const RESTORING_FILE: &str = "RESTORING";
/// The archive's first entry.
const MANIFEST_FILE: &str = "manifest.json";
/// The archive's last entry.
const SUMS_FILE: &str = "SHA256SUMS";
/// What is copied at once, in bytes.
const COPY_BYTES: usize = 256 * 1024;

/// A consistent copy of an engine's logs that is being read out. Dropping it gives back what it holds, read to its end or not.
pub trait Backup: Send {
    /// What is in it.
    fn manifest(&self) -> &Manifest;

    /// The whole archive's size in bytes, known from the start.
    fn len_bytes(&self) -> u64;

    /// Reads on, as [`std::io::Read::read`] does: 0 at the end only.
    ///
    /// # Errors
    /// [`BackupError`]; what was read so far is of no use then.
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, BackupError>;
}
