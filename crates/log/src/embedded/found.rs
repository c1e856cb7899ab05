//! Write-ahead files as a start finds them: what each says about itself, and whether it is whole.

use std::io;
use std::path::Path;
use std::sync::Arc;

use types::disk::{Disk, DiskFile};

use super::error::StartError;
use super::read::place_of;
use super::replay::Progress;
use super::scan::FrameScan;
use super::wal::{self, FILE_HEADER_BYTES, FileHeader, WalFile};
use crate::Fault;

/// A write-ahead file as it lies there.
pub(super) struct Found {
    pub(super) number: u64,
    pub(super) header: Option<FileHeader>,
    /// Bytes that it has. What stands behind the end that its header names is none of it.
    pub(super) len: u64,
    file: Arc<dyn DiskFile>,
    len_on_disk: u64,
    /// Whether a damaged header is a possibility: a file that was prepared and not yet used begins with zeros. The header is written
    /// together with the first round, so a file without one holds nothing that was confirmed.
    may_be_damaged: bool,
}

impl Found {
    /// Opens a write-ahead file.
    ///
    /// # Errors
    /// The operating system's.
    pub(super) fn open(disk: &dyn Disk, path: &Path, number: u64) -> io::Result<Self> {
        let file = disk.open(path, false)?;
        let mut bytes = [0; FILE_HEADER_BYTES];
        let got = file.read_at(&mut bytes, 0)?;
        let header = FileHeader::decode(bytes.get(..got).unwrap_or_default());
        let may_be_damaged = header.is_none() && bytes.iter().any(|byte| *byte != 0);
        let len_on_disk = file.len_bytes()?;
        let len = len_on_disk.min(header.map_or(u64::MAX, |header| header.capacity));
        Ok(Self { number, header, len, file, len_on_disk, may_be_damaged })
    }

    /// Bytes that it should have, as far as it can tell.
    pub(super) fn whole_len(&self) -> u64 {
        self.header.map_or(self.len, |header| header.capacity)
    }

    /// Whether it has fewer bytes than it had when it was begun.
    pub(super) fn is_cut(&self) -> bool {
        self.len < self.whole_len()
    }

    /// What to say of a file of which not even the header is left. It got its name when it had its length, so no crash leaves it so.
    pub(super) fn without_header(&self) -> Option<Fault> {
        let len = self.len_on_disk;
        let what = format!(
            "the file was cut to {len} bytes, so nobody can say whether it held the newest of the write-ahead log, nor whose"
        );
        let place = place_of(&wal::path_of(self.number), len);
        (len < FILE_HEADER_BYTES as u64).then_some(Fault { place, what, logs: Vec::new() })
    }

    /// What is odd about it although nothing is lost: `end` is where its frames end.
    pub(super) fn oddity(&self, end: u64) -> Option<String> {
        let (len, whole) = (self.len_on_disk, self.whole_len());
        let path = wal::path_of(self.number);
        let path = path.display();
        if len > whole {
            return Some(format!(
                "{path}: the file has {len} bytes, {whole} were expected; what is behind is not read"
            ));
        }
        (self.is_cut() && end <= len).then(|| {
            format!("{path}: the file ends at byte {len}, {whole} were expected; its frames end before, at byte {end}")
        })
    }

    pub(super) fn into_file(self, seq: u64) -> WalFile {
        WalFile::new(self.number, self.file, self.len, seq)
    }

    pub(super) fn scan(&self, seq: u64, pos: u64) -> FrameScan<'_> {
        FrameScan::new(self.file.as_ref(), self.len, seq, pos)
    }
}

/// The file whose header says that it is in use as `seq`.
pub(super) fn find_file(files: &[Found], seq: u64) -> Option<&Found> {
    files.iter().find(|file| file.header.is_some_and(|header| header.seq == seq))
}

/// Takes the file that is in use as `seq`: by its header, or if that is damaged by frames in it that must have been confirmed.
pub(super) fn take_file(
    files: &mut Vec<Found>,
    seq: u64,
    progress: &mut Progress,
) -> Result<Option<(Found, bool)>, StartError> {
    if let Some(at) = files.iter().position(|file| file.header.is_some_and(|header| header.seq == seq)) {
        return Ok(Some((files.swap_remove(at), true)));
    }
    for at in 0..files.len() {
        let Some(file) = files.get(at).filter(|file| file.may_be_damaged) else { continue };
        let evidence = file
            .scan(seq, FILE_HEADER_BYTES as u64)
            .find_evidence(progress.next_round(), progress.boot, &mut progress.shown)
            .map_err(|error| StartError::io(&wal::path_of(file.number).display().to_string(), &error))?;
        let is_before_checkpoint = seq <= progress.known.seq && file.scan(seq, FILE_HEADER_BYTES as u64).starts_well();
        if evidence || is_before_checkpoint {
            return Ok(Some((files.swap_remove(at), false)));
        }
    }
    Ok(None)
}

/// Whether a file with a damaged header shows that the round `lost` was confirmed.
pub(super) fn evidence_elsewhere(others: &[Found], seq: u64, lost: u64, progress: &mut Progress) -> io::Result<bool> {
    for file in others.iter().filter(|file| file.may_be_damaged) {
        if file.scan(seq, FILE_HEADER_BYTES as u64).find_evidence(lost, progress.boot, &mut progress.shown)? {
            return Ok(true);
        }
    }
    Ok(false)
}
