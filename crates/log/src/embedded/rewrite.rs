//! Writing a file's bytes over themselves.

use std::io::{self, IoSlice};

use types::disk::DiskFile;

/// Bytes read and written at once.
const PIECE_BYTES: usize = 1024 * 1024;

/// Reads a file up to `end` and writes the same bytes again, so that the next sync is about them.
///
/// After a failed sync the system may hold pages that were never written, and count them as clean: they are read as if nothing were wrong, and
/// no later sync writes them. Whoever goes on from what is read there must write it anew.
///
/// # Errors
/// The operating system's.
pub(super) fn rewrite(file: &dyn DiskFile, end: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(end).unwrap_or(PIECE_BYTES))];
    let mut at = 0;
    while at < end {
        let wanted = usize::try_from(end - at).unwrap_or(PIECE_BYTES).min(piece.len());
        let got = file.read_at(piece.get_mut(..wanted).unwrap_or_default(), at)?;
        if got == 0 {
            return Ok(());
        }
        file.write_at(&[IoSlice::new(piece.get(..got).unwrap_or_default())], at)?;
        at += got as u64;
    }
    Ok(())
}
