//! Writing an archive, piece by piece as it is asked for.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::{Backup, BackupError, MANIFEST_FILE, Manifest, SUMS_FILE};

/// What tar counts in.
const BLOCK_BYTES: u64 = 512;
/// Two empty blocks end an archive.
pub(super) const END_BYTES: u64 = 2 * BLOCK_BYTES;
/// A line of the checksums but for the path: 64 digits, two spaces, the line's end.
const SUM_LINE_BYTES: u64 = 64 + 2 + 1;

/// Where the files of a backup come from.
pub(crate) trait Source: Send {
    /// Reads all of `buffer` from the file that stands at this place in the manifest.
    ///
    /// # Errors
    /// [`BackupError`]; also if the file ends before.
    fn read(&mut self, file: usize, offset: u64, buffer: &mut [u8]) -> Result<(), BackupError>;
}

/// What is being written.
enum Part {
    /// Bytes that are at hand, how many of them are out, and what follows.
    Ready { bytes: Vec<u8>, out: usize, then: Step },
    /// The content of a file from this byte on.
    Content { file: usize, at: u64 },
}

/// What comes next. Files are named by their place in the manifest; the one behind the last stands for the checksums.
#[derive(Clone, Copy)]
enum Step {
    Head(usize),
    Content(usize),
    End,
}

/// An archive under way.
pub(crate) struct Archive<S> {
    manifest: Manifest,
    source: S,
    part: Part,
    hash: Sha256,
    sums: String,
    len_bytes: u64,
}

impl<S: Source> Archive<S> {
    pub(crate) fn new(manifest: Manifest, source: S) -> Self {
        let content = manifest.encode();
        let mut sums = String::new();
        add_sum(&mut sums, &Sha256::digest(&content), MANIFEST_FILE);
        let sums_bytes =
            sums.len() as u64 + manifest.files.iter().map(|file| SUM_LINE_BYTES + file.path.len() as u64).sum::<u64>();
        let files_bytes = manifest.files.iter().fold(0u64, |sum, file| sum.saturating_add(entry_bytes(file.bytes)));
        let len_bytes =
            files_bytes.saturating_add(entry_bytes(content.len() as u64) + entry_bytes(sums_bytes) + END_BYTES);
        let first = entry(MANIFEST_FILE, &content, manifest.created_ms);
        let part = Part::Ready { bytes: first, out: 0, then: Step::Head(0) };
        Self { manifest, source, part, hash: Sha256::new(), sums, len_bytes }
    }

    /// What follows a part that is out.
    fn begin(&mut self, step: Step) -> Part {
        let created_ms = self.manifest.created_ms;
        let (bytes, then) = match step {
            Step::Content(file) => return Part::Content { file, at: 0 },
            Step::Head(index) => match self.manifest.files.get(index) {
                Some(file) => (head(&file.path, file.bytes, created_ms), Step::Content(index)),
                None => {
                    let mut last = entry(SUMS_FILE, std::mem::take(&mut self.sums).as_bytes(), created_ms);
                    last.extend_from_slice(&[0; END_BYTES as usize]);
                    (last, Step::End)
                }
            },
            Step::End => (Vec::new(), Step::End),
        };
        Part::Ready { bytes, out: 0, then }
    }

    /// Ends a file's content: its checksum is known, and its last block is filled.
    fn end_file(&mut self, index: usize, bytes: u64) -> Part {
        let path = self.manifest.files.get(index).map_or("", |file| file.path.as_str());
        add_sum(&mut self.sums, &std::mem::take(&mut self.hash).finalize(), path);
        Part::Ready { bytes: padding(bytes), out: 0, then: Step::Head(index + 1) }
    }
}

impl<S: Source> Backup for Archive<S> {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, BackupError> {
        let mut filled = 0;
        while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            match &mut self.part {
                Part::Ready { bytes, out, then } => {
                    let left = bytes.get(*out..).unwrap_or_default();
                    let count = left.len().min(room.len());
                    if count == 0 {
                        let then = *then;
                        if matches!(then, Step::End) {
                            break;
                        }
                        self.part = self.begin(then);
                        continue;
                    }
                    for (to, from) in room.iter_mut().zip(left) {
                        *to = *from;
                    }
                    *out += count;
                    filled += count;
                }
                Part::Content { file, at } => {
                    let (file, from) = (*file, *at);
                    let whole = self.manifest.files.get(file).map_or(0, |file| file.bytes);
                    let count = usize::try_from(whole - from).unwrap_or(usize::MAX).min(room.len());
                    if count == 0 {
                        self.part = self.end_file(file, whole);
                        continue;
                    }
                    let Some(room) = room.get_mut(..count) else { break };
                    self.source.read(file, from, room)?;
                    self.hash.update(&*room);
                    *at += count as u64;
                    filled += count;
                }
            }
        }
        Ok(filled)
    }
}

/// A file's head, content and padding.
fn entry(path: &str, content: &[u8], created_ms: i64) -> Vec<u8> {
    let mut out = head(path, content.len() as u64, created_ms);
    out.extend_from_slice(content);
    out.extend_from_slice(&padding(content.len() as u64));
    out
}

fn head(path: &str, bytes: u64, created_ms: i64) -> Vec<u8> {
    let mut header = Header::new_gnu();
    // Our names are far shorter than what a head holds, and have no odd parts.
    let _ = header.set_path(path);
    header.set_entry_type(EntryType::Regular);
    header.set_size(bytes);
    // Whoever unpacks it may read it, and nobody else: there are verifiers of passwords in it.
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(created_ms / 1000).unwrap_or(0));
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn padding(bytes: u64) -> Vec<u8> {
    let over = bytes % BLOCK_BYTES;
    vec![0; if over == 0 { 0 } else { usize::try_from(BLOCK_BYTES - over).unwrap_or(0) }]
}

/// What a file takes in an archive.
pub(super) fn entry_bytes(bytes: u64) -> u64 {
    BLOCK_BYTES.saturating_add(bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES))
}

/// A line as `sha256sum` writes and checks it.
fn add_sum(sums: &mut String, digest: &[u8], path: &str) {
    let _ = writeln!(sums, "{}  {path}", hexadecimal(digest));
}

pub(super) fn hexadecimal(digest: &[u8]) -> String {
    let mut text = String::with_capacity(2 * digest.len());
    for byte in digest {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
