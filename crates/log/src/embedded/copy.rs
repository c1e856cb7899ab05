//! A consistent copy of the engine's files while it runs.
//!
//! The state between two rounds is a checkpoint's content, and the files that it refers to: segments never change, and of the
//! write-ahead log only what is before its place is copied. Nothing is stopped for it; the files are only kept ([`Pin`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use types::Timestamp;
use types::disk::{Disk, DiskFile};

use super::checkpoint::{self, Snapshot};
use super::core::Core;
use super::intake::Stage;
use super::maintenance::Upkeep;
use super::pin::Pin;
use super::segment;
use super::start::{FORMAT, FORMAT_FILE};
use super::wal::{FILE_HEADER_BYTES, FileHeader, WalFile};
use crate::backup::{Archive, Source};
use crate::{Backup, BackupError, Manifest, ManifestFile};

/// Faults that a manifest names.
const MOST_FAULTS: usize = 20;

/// The files of a copy, in the manifest's order.
pub(super) struct Copy {
    disk: Arc<dyn Disk>,
    pin: Arc<Pin>,
    files: Vec<Origin>,
    /// The segment that is being read.
    open: Option<(u64, Arc<dyn DiskFile>)>,
}

/// Where a file comes from.
enum Origin {
    Memory(Vec<u8>),
    /// A write-ahead file, and what its copy's header says if it has one of its own.
    Wal(Arc<WalFile>, Option<[u8; FILE_HEADER_BYTES]>),
    Segment(u64),
}

/// What will be in the archive.
#[derive(Default)]
struct Listing {
    files: Vec<(ManifestFile, Origin)>,
    wal: Vec<u64>,
    segments: Vec<(u64, u64)>,
}

impl Listing {
    fn add(&mut self, path: &std::path::Path, bytes: u64, origin: Origin) {
        self.files.push((ManifestFile { path: path.display().to_string(), bytes }, origin));
    }
}

impl Core {
    /// Begins a copy of everything that was confirmed before this call.
    pub(super) fn begin_copy(&self, created: Timestamp) -> Result<Box<dyn Backup>, BackupError> {
        // Nothing is moved, removed or used again before the pin is in force.
        let upkeep = self.upkeep.lock();
        let copy = self.pin_copy(&upkeep, created);
        drop(upkeep);
        // IMPORTANT: without the lock, or the completions of what waits would be called under it.
        if let Err(BackupError::Poisoned(reason)) = &copy {
            self.poison(reason);
        }
        copy
    }

    fn pin_copy(&self, upkeep: &Upkeep, created: Timestamp) -> Result<Box<dyn Backup>, BackupError> {
        if let Some(reason) = self.poisoned() {
            return Err(BackupError::Poisoned(reason));
        }
        if self.intake.lock().stage != Stage::Open {
            return Err(BackupError::GivenUp("the storage is closed".to_owned()));
        }
        if self.pinned().is_some() {
            return Err(BackupError::UnderWay);
        }
        let (snapshot, sizes) = {
            let published = self.published.read();
            let sizes: BTreeMap<u64, u64> =
                published.segments.iter().map(|(id, segment)| (*id, segment.len_bytes)).collect();
            (Snapshot::take(&published, upkeep.boot), sizes)
        };
        // A copy outlives the machine that it is of, so nothing is in it that a power cut could still take from the original.
        self.sync_written().map_err(|error| BackupError::Poisoned(error.to_string()))?;
        let mut manifest = Manifest::new(created, upkeep.boot, snapshot.position().round);
        (manifest.logs, manifest.records) = snapshot.counts();
        manifest.faults = snapshot.faults().take(MOST_FAULTS).collect();
        let listing = self.list_copy(snapshot, &sizes)?;
        let (files, origins): (Vec<_>, Vec<_>) = listing.files.into_iter().unzip();
        manifest.files = files;
        let pin = Arc::new(Pin::new(listing.wal, listing.segments, manifest.data_bytes()));
        *self.pin.lock() = Arc::downgrade(&pin);
        let copy = Copy { disk: self.disk.clone(), pin, files: origins, open: None };
        Ok(Box::new(Archive::new(manifest, copy)))
    }

    fn list_copy(&self, snapshot: Snapshot, sizes: &BTreeMap<u64, u64>) -> Result<Listing, BackupError> {
        let mut listing = Listing::default();
        let (position, oldest) = (snapshot.position(), snapshot.oldest_seq());
        let mut used: Vec<u64> = snapshot.segments().collect();
        used.sort_unstable();
        used.dedup();
        let checkpoint = snapshot.encode();
        listing.add(&checkpoint::path_of(1), checkpoint.len() as u64, Origin::Memory(checkpoint));
        let in_use: Vec<Arc<WalFile>> = self.wal.lock().in_use.iter().cloned().collect();
        let is_in = |file: &&Arc<WalFile>| (oldest..=position.seq).contains(&file.seq());
        let parts: Vec<&Arc<WalFile>> = in_use.iter().filter(is_in).collect();
        let headers: Vec<Option<FileHeader>> =
            parts.iter().map(|file| header_of(file)).collect::<Result<_, BackupError>>()?;
        for (at, file) in parts.iter().enumerate() {
            let next = headers.get(at + 1).copied().flatten();
            let end = if file.seq() == position.seq { Some(position.pos) } else { next.map(|next| next.previous_end) };
            let end =
                end.filter(|end| (FILE_HEADER_BYTES as u64..=file.capacity).contains(end)).unwrap_or(file.capacity);
            // The copy ends where its frames end, and says so: then it is whole, and not one that was cut.
            let header = headers.get(at).copied().flatten();
            let header = header.map(|header| FileHeader { capacity: end, ..header }.encode());
            listing.wal.push(file.number);
            listing.add(&file.path(), end, Origin::Wal((*file).clone(), header));
        }
        for (id, bytes) in used.iter().filter_map(|id| sizes.get(id).map(|bytes| (*id, *bytes))) {
            listing.segments.push((id, bytes));
            listing.add(&segment::path_of(id), bytes, Origin::Segment(id));
        }
        // Last, so that what `tar` was stopped from unpacking is no data directory.
        let format = FORMAT.as_bytes().to_vec();
        listing.add(std::path::Path::new(FORMAT_FILE), format.len() as u64, Origin::Memory(format));
        Ok(listing)
    }
}

/// A file's header; `None` if it is damaged.
fn header_of(file: &WalFile) -> Result<Option<FileHeader>, BackupError> {
    let mut bytes = [0; FILE_HEADER_BYTES];
    match file.file.read_at(&mut bytes, 0) {
        Ok(_) => Ok(FileHeader::decode(&bytes).filter(|header| header.seq == file.seq())),
        Err(error) => Err(BackupError::Read { place: file.path().display().to_string(), error: error.to_string() }),
    }
}

impl Copy {
    fn segment(&mut self, id: u64) -> std::io::Result<Arc<dyn DiskFile>> {
        if let Some((open, file)) = &self.open
            && *open == id
        {
            return Ok(file.clone());
        }
        let file = self.disk.open(&segment::path_of(id), false)?;
        self.open = Some((id, file.clone()));
        Ok(file)
    }
}

impl Source for Copy {
    fn read(&mut self, file: usize, offset: u64, buffer: &mut [u8]) -> Result<(), BackupError> {
        let (place, got) = match self.files.get(file) {
            None => return Err(BackupError::GivenUp("the manifest names a file that is not there".to_owned())),
            Some(Origin::Memory(bytes)) => {
                let from = usize::try_from(offset).ok().and_then(|from| bytes.get(from..)).unwrap_or_default();
                for (to, from) in buffer.iter_mut().zip(from) {
                    *to = *from;
                }
                (None, Ok(from.len().min(buffer.len())))
            }
            Some(Origin::Wal(file, header)) => {
                let got = file.file.read_at(buffer, offset);
                if let (Some(header), Ok(from)) = (header, usize::try_from(offset)) {
                    for (to, from) in buffer.iter_mut().zip(header.iter().skip(from)) {
                        *to = *from;
                    }
                }
                (Some(file.path()), got)
            }
            Some(Origin::Segment(id)) => {
                let id = *id;
                let got = self.segment(id).and_then(|file| file.read_at(buffer, offset));
                (Some(segment::path_of(id)), got)
            }
        };
        // IMPORTANT: after the read. From the moment that the copy was given up the files may be written over or gone.
        self.pin.check()?;
        let place = place.unwrap_or_default().display().to_string();
        match got {
            Ok(got) if got == buffer.len() => {
                self.pin.read_bytes.fetch_add(got as u64, Ordering::Relaxed);
                Ok(())
            }
            Ok(got) => Err(BackupError::Read { place, error: format!("it ends at byte {}", offset + got as u64) }),
            Err(error) => Err(BackupError::Read { place, error: error.to_string() }),
        }
    }
}
