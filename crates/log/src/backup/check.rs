//! Reading an archive from its front to its end, once, with every checksum.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

use sha2::{Digest, Sha256};
use tar::EntryType;

use super::archive::{END_BYTES, entry_bytes, hexadecimal};
use super::manifest::MAX_MANIFEST_BYTES;
use super::{ArchiveError, COPY_BYTES, MANIFEST_FILE, Manifest, ManifestFile, SUMS_FILE};

/// Bytes behind the archive's end that are read and ignored: `tar` fills up to a record of 10 KiB.
const TAIL_BYTES: u64 = 1024 * 1024;

/// An archive that was read to its end and found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What is in it.
    pub manifest: Manifest,
}

/// What becomes of an archive's files while they are read.
pub(super) trait Sink {
    /// What can go wrong with it.
    type Error: From<ArchiveError>;

    /// All that is known before the first file.
    fn manifest(&mut self, manifest: &Manifest) -> Result<(), Self::Error>;

    /// The next bytes of a file.
    fn bytes(&mut self, file: &ManifestFile, at: u64, bytes: &[u8]) -> Result<(), Self::Error>;

    /// A file is whole; whether it is good is not known yet.
    fn end(&mut self, file: &ManifestFile) -> Result<(), Self::Error>;
}

/// Reads an archive and checks that all of it is there and is what was written. `progress` is told now and then how many bytes of files were read,
/// and of how many.
///
/// # Errors
/// [`ArchiveError`].
pub fn check(archive: impl Read, progress: &mut dyn FnMut(u64, u64)) -> Result<Checked, ArchiveError> {
    struct Look<'a> {
        progress: &'a mut dyn FnMut(u64, u64),
        read: u64,
        whole: u64,
    }
    impl Sink for Look<'_> {
        type Error = ArchiveError;

        fn manifest(&mut self, manifest: &Manifest) -> Result<(), ArchiveError> {
            self.whole = manifest.data_bytes();
            Ok(())
        }

        fn bytes(&mut self, _: &ManifestFile, _: u64, bytes: &[u8]) -> Result<(), ArchiveError> {
            self.read += bytes.len() as u64;
            (self.progress)(self.read, self.whole);
            Ok(())
        }

        fn end(&mut self, _: &ManifestFile) -> Result<(), ArchiveError> {
            Ok(())
        }
    }
    walk(archive, &mut Look { progress, read: 0, whole: 0 })
}

/// Reads an archive into a sink. IMPORTANT: only when this has succeeded is anything known of what the sink was given.
pub(super) fn walk<S: Sink>(archive: impl Read, sink: &mut S) -> Result<Checked, S::Error> {
    let seen = Seen::default();
    let mut archive = tar::Archive::new(Watched { inner: archive, seen: seen.clone() });
    let mut entries = archive.entries().map_err(|error| seen.explain(&error, "its start"))?;
    let mut next = |wanted: &str| match entries.next() {
        Some(Ok(entry)) => Ok(entry),
        Some(Err(error)) => Err(match seen.explain(&error, wanted) {
            ArchiveError::Unexpected(_) if wanted == MANIFEST_FILE => {
                ArchiveError::NotABackup(format!("it is no tar archive: {error}"))
            }
            other => other,
        }),
        None if wanted == MANIFEST_FILE => Err(ArchiveError::NotABackup("it is empty".to_owned())),
        None => Err(ArchiveError::Truncated(wanted.to_owned())),
    };

    let mut first = next(MANIFEST_FILE)?;
    if name_of(&first) != MANIFEST_FILE {
        let what = format!("it begins with {:?}, not with {MANIFEST_FILE}", name_of(&first));
        return Err(ArchiveError::NotABackup(what).into());
    }
    let content = read_small(&mut first, MANIFEST_FILE, MAX_MANIFEST_BYTES)?;
    let manifest = Manifest::decode(&content)?;
    let mut sums = vec![(MANIFEST_FILE.to_owned(), hexadecimal(&Sha256::digest(&content)))];
    sink.manifest(&manifest)?;

    let mut buffer = vec![0; COPY_BYTES];
    for file in &manifest.files {
        let mut entry = next(&file.path)?;
        expect(&entry, &file.path, Some(file.bytes))?;
        let (mut hash, mut at) = (Sha256::new(), 0);
        loop {
            let got = entry.read(&mut buffer).map_err(|error| seen.explain(&error, &file.path))?;
            let bytes = buffer.get(..got).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            hash.update(bytes);
            sink.bytes(file, at, bytes)?;
            at += got as u64;
        }
        if at != file.bytes {
            return Err(ArchiveError::Truncated(file.path.clone()).into());
        }
        sums.push((file.path.clone(), hexadecimal(&hash.finalize())));
        sink.end(file)?;
    }

    let mut last = next(SUMS_FILE)?;
    expect(&last, SUMS_FILE, None)?;
    let written = read_small(&mut last, SUMS_FILE, 2 * MAX_MANIFEST_BYTES)?;
    compare(&sums, &written)?;
    let heads =
        [content.len() as u64, written.len() as u64].into_iter().chain(manifest.files.iter().map(|file| file.bytes));
    let least = heads.map(entry_bytes).fold(END_BYTES, u64::saturating_add);
    let drained = io::copy(&mut archive.into_inner().take(TAIL_BYTES), &mut io::sink());
    drained.map_err(|error| seen.explain(&error, "its end"))?;
    if seen.bytes.get() < least {
        return Err(ArchiveError::Truncated("its end".to_owned()).into());
    }
    Ok(Checked { manifest })
}

/// How far an archive was read.
#[derive(Clone, Default)]
struct Seen {
    bytes: Rc<Cell<u64>>,
    has_ended: Rc<Cell<bool>>,
}

impl Seen {
    /// What an error means near this entry: behind the end of what there is, only that.
    fn explain(&self, error: &io::Error, near: &str) -> ArchiveError {
        if self.has_ended.get() { ArchiveError::Truncated(near.to_owned()) } else { ArchiveError::read(error, near) }
    }
}

/// A reader that is watched.
struct Watched<R> {
    inner: R,
    seen: Seen,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.seen.bytes.set(self.seen.bytes.get() + got as u64);
        self.seen.has_ended.set(self.seen.has_ended.get() || (got == 0 && !buffer.is_empty()));
        Ok(got)
    }
}

fn name_of<R: Read>(entry: &tar::Entry<'_, R>) -> String {
    String::from_utf8_lossy(&entry.path_bytes()).into_owned()
}

/// Refuses an entry that is not the plain file that should stand here.
fn expect<R: Read>(entry: &tar::Entry<'_, R>, path: &str, bytes: Option<u64>) -> Result<(), ArchiveError> {
    let found = name_of(entry);
    if found != path {
        return Err(ArchiveError::Missing { missing: path.to_owned(), found });
    }
    if entry.header().entry_type() != EntryType::Regular {
        return Err(ArchiveError::Unexpected(format!("{path} is no plain file")));
    }
    match bytes {
        Some(bytes) if bytes != entry.size() => {
            Err(ArchiveError::Unexpected(format!("{path} has {} bytes, the manifest says {bytes}", entry.size())))
        }
        _ => Ok(()),
    }
}

fn read_small<R: Read>(entry: &mut tar::Entry<'_, R>, path: &str, limit: u64) -> Result<Vec<u8>, ArchiveError> {
    if entry.size() > limit {
        return Err(ArchiveError::Unexpected(format!("{path} has {} bytes; at most {limit} are read", entry.size())));
    }
    let mut content = Vec::new();
    let whole = entry.size();
    entry.take(limit).read_to_end(&mut content).map_err(|error| ArchiveError::read(&error, path))?;
    if content.len() as u64 != whole {
        return Err(ArchiveError::Truncated(path.to_owned()));
    }
    Ok(content)
}

/// Holds what was computed against what was written.
fn compare(sums: &[(String, String)], written: &[u8]) -> Result<(), ArchiveError> {
    let broken = || ArchiveError::Unexpected(format!("{SUMS_FILE} cannot be read"));
    let text = std::str::from_utf8(written).map_err(|_| broken())?;
    let mut lines = text.lines();
    for (path, sum) in sums {
        let (want, name) = lines.next().and_then(|line| line.split_once("  ")).ok_or_else(broken)?;
        if name != path {
            return Err(ArchiveError::Unexpected(format!("{SUMS_FILE} names {name:?} where {path} should stand")));
        }
        if want != sum {
            return Err(ArchiveError::Checksum { file: path.clone() });
        }
    }
    if lines.next().is_some() {
        return Err(broken());
    }
    Ok(())
}
