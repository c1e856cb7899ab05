//! What is in an archive.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};
use types::Timestamp;

use super::error::ArchiveError;
use crate::embedded::{FORMAT_FILE, is_data_file};

/// What the manifest's first field says.
const FORMAT: &str = "posthouse backup";
/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
/// Largest manifest that is read, in bytes: some hundred thousand files.
pub(super) const MAX_MANIFEST_BYTES: u64 = 64 * 1024 * 1024;

/// What a backup holds, and of when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u32,
    /// The program's version that made it.
    pub made_by: String,
    /// When it was begun, in milliseconds since 1970: it holds all that was confirmed before.
    pub created_ms: i64,
    /// The engine's start that it is of, from 1.
    pub boot: u32,
    /// The last round of commits that is in it.
    pub round: u64,
    /// Logs in it.
    pub logs: u64,
    /// Live records of all logs together.
    pub records: u64,
    /// Damage that the engine knew of, in words. The copy has it too.
    #[serde(default)]
    pub faults: Vec<String>,
    /// The files, in the archive's order. The checksums stand at the archive's end.
    pub files: Vec<ManifestFile>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Relative to the data directory.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

impl Manifest {
    /// A manifest without files.
    pub(crate) fn new(created: Timestamp, boot: u32, round: u64) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            made_by: concat!("posthouse ", env!("CARGO_PKG_VERSION")).to_owned(),
            created_ms: created.0,
            boot,
            round,
            logs: 0,
            records: 0,
            faults: Vec::new(),
            files: Vec::new(),
        }
    }

    /// Bytes of all files together.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }

    /// Reads a manifest, and refuses one whose files would not stay within a data directory.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, ArchiveError> {
        /// What every version has.
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let broken =
            |error: serde_json::Error| ArchiveError::NotABackup(format!("its manifest cannot be read: {error}"));
        let head: Head = serde_json::from_slice(bytes).map_err(broken)?;
        if head.format != FORMAT {
            return Err(ArchiveError::NotABackup(format!("its manifest is of a {:?}", head.format)));
        }
        if head.version != VERSION {
            return Err(ArchiveError::Version { found: head.version, expected: VERSION });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(broken)?;
        let mut seen = std::collections::HashSet::new();
        for file in &manifest.files {
            if !is_expected(Path::new(&file.path)) || !seen.insert(file.path.as_str()) {
                return Err(ArchiveError::Unexpected(format!("the manifest names {:?}", file.path)));
            }
        }
        if manifest.files.last().is_none_or(|file| file.path != FORMAT_FILE) {
            return Err(ArchiveError::Unexpected(format!("the manifest does not end with {FORMAT_FILE}")));
        }
        Ok(manifest)
    }
}

/// Whether a data directory has files of this name.
fn is_expected(path: &Path) -> bool {
    let stays = path.components().all(|part| matches!(part, Component::Normal(_)));
    stays && (path == Path::new(FORMAT_FILE) || is_data_file(path))
}
