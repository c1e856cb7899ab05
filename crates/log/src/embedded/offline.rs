//! Looking at a data directory without running it: what `posthouse log verify` and `posthouse log dump` show.

use std::path::PathBuf;
use std::sync::Arc;

use types::disk::Disk;
use types::{LogId, Offset};

use super::checkpoint;
use super::core::Core;
use super::error::StartError;
use super::options::{EmbeddedOptions, SCAN_READ_BYTES};
use super::read::Unreadable;
use super::recovery::recover;
use super::segment;
use super::start::{assemble, check_format};
use crate::{Entry, Fault, LogConfig, LogState, ReadError, ReadLimit};

/// What a data directory holds, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct VerifyReport {
    /// The logs, by id.
    pub logs: Vec<LogReport>,
    /// The files, by path.
    pub files: Vec<FileReport>,
    /// Damage: data is missing or wrong. The directory is sound if there is none.
    pub faults: Vec<Fault>,
    /// What is odd but harms no data: a checkpoint that was left aside for an older one, an index that must be done without.
    pub notes: Vec<String>,
}

/// One log.
#[derive(Clone, Debug)]
pub struct LogReport {
    /// The log.
    pub id: LogId,
    /// How it is kept, its label included.
    pub config: LogConfig,
    /// How far it reaches.
    pub state: LogState,
    /// Segment files that hold batches of it.
    pub segments: Vec<PathBuf>,
    /// Its batches that are in the write-ahead log.
    pub wal_batches: u64,
    /// Why it is read-only, if it is.
    pub damage: Option<String>,
}

/// One file.
#[derive(Clone, Debug)]
pub struct FileReport {
    /// Relative to the data directory.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// What it is used for.
    pub purpose: FilePurpose,
}

/// What a file is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilePurpose {
    /// A part of the write-ahead log, with its place in it.
    WriteAhead {
        /// From 1.
        sequence: u64,
    },
    /// Space kept ready for the write-ahead log.
    Spare,
    /// Batches that left the write-ahead log.
    Segment,
    /// A file that nothing refers to, of a crash amid a move or the making of a write-ahead file; a start removes it.
    Orphan,
    /// A write-ahead file that was cut before the end of its header: damage.
    Cut,
    /// The logs' state.
    Checkpoint,
}

/// What [`dump`] comes across.
#[derive(Debug)]
pub enum DumpItem<'a> {
    /// A log; its batches follow.
    Log(&'a LogReport),
    /// A batch of the last log.
    Batch(&'a Entry),
    /// Something of the last log that cannot be read; what is behind it follows.
    Damage(&'a ReadError),
}

/// Reads all of a data directory, checks every checksum, and says what it holds. Changes nothing. Of a directory that a running engine has, the
/// newest may look torn.
///
/// # Errors
/// [`StartError`] if it is no data directory or the disk cannot be read. Damage is in the report.
pub fn verify(disk: Arc<dyn Disk>) -> Result<VerifyReport, StartError> {
    dump(disk, &mut |_| {})
}

/// As [`verify`], and shows all that is live to `visit` on the way.
///
/// # Errors
/// As [`verify`].
pub fn dump(disk: Arc<dyn Disk>, visit: &mut dyn FnMut(DumpItem<'_>)) -> Result<VerifyReport, StartError> {
    let mut report = VerifyReport::default();
    if !check_format(disk.as_ref())? {
        return Ok(report);
    }
    let recovered = match recover(disk.as_ref(), 0) {
        Ok(recovered) => recovered,
        Err(StartError::Damaged { place, what }) => {
            report.faults.push(Fault { place, what, logs: Vec::new() });
            return Ok(report);
        }
        Err(error) => return Err(error),
    };
    for bad in &recovered.bad_checkpoints {
        report.notes.push(format!("{}: {}; an older one was good", bad.place, bad.what));
    }
    report.notes.extend(recovered.oddities.iter().cloned());
    let others = recovered.orphans.iter().cloned().map(|path| (path, FilePurpose::Orphan));
    let cut = recovered.cut.iter().map(|file| (file.path(), FilePurpose::Cut));
    let others: Vec<_> = others.chain(cut).collect();
    let (core, odd) =
        assemble(disk.clone(), EmbeddedOptions { threads: false, ..EmbeddedOptions::default() }, recovered);
    let mut logs: Vec<LogReport> = {
        let published = core.published.read();
        published.logs.keys().filter_map(|log| report_of(&core, *log)).collect()
    };
    logs.sort_unstable_by_key(|log| log.id);
    for log in &logs {
        visit(DumpItem::Log(log));
        walk(&core, log.id, visit)?;
    }
    // Reading may have found more.
    report.logs = logs.iter().filter_map(|log| report_of(&core, log.id)).collect();
    report.faults = core.published.read().faults.clone();
    check_indexes(&core, &mut report);
    report.files = files_of(&core, others).map_err(|error| StartError::io("the data directory", &error))?;
    report.files.extend(odd.iter().map(|file| FileReport {
        path: file.path(),
        bytes: file.capacity,
        purpose: FilePurpose::Spare,
    }));
    report.files.sort_unstable_by(|one, two| one.path.cmp(&two.path));
    Ok(report)
}

fn report_of(core: &Core, log: LogId) -> Option<LogReport> {
    let published = core.published.read();
    let data = published.logs.get(&log)?;
    let mut segments: Vec<u64> = data.extents.iter().map(|extent| extent.segment).collect();
    segments.dedup();
    Some(LogReport {
        id: log,
        config: data.config.as_ref().clone(),
        state: data.state(),
        segments: segments.into_iter().map(segment::path_of).collect(),
        wal_batches: data.locations.after(data.start).count() as u64,
        damage: data.damage.clone(),
    })
}

/// Reads all live batches of a log, over damaged places to what is behind them.
fn walk(core: &Core, log: LogId, visit: &mut dyn FnMut(DumpItem<'_>)) -> Result<(), StartError> {
    let limit = ReadLimit { bytes: SCAN_READ_BYTES, records: usize::MAX, before: Offset(u64::MAX) };
    let mut cursor = Offset(0);
    let mut last_place = String::new();
    loop {
        match core.read_or_skip(log, cursor, limit) {
            Ok(entries) => {
                let Some(last) = entries.last() else { return Ok(()) };
                cursor = last.base.plus(u64::from(last.batch.last_offset_delta()) + 1);
                entries.iter().for_each(|entry| visit(DumpItem::Batch(entry)));
            }
            Err(Unreadable { error, next }) => {
                let ReadError::Damaged { place, .. } = &error else {
                    return Err(StartError::Io { place: format!("log {log}"), error: error.to_string() });
                };
                if *place != last_place {
                    visit(DumpItem::Damage(&error));
                    last_place.clone_from(place);
                }
                cursor = next.max(cursor.next());
            }
        }
    }
}

fn check_indexes(core: &Core, report: &mut VerifyReport) {
    let segments: Vec<_> = core.published.read().segments.values().cloned().collect();
    for segment in segments {
        let path = segment::path_of(segment.id);
        let Ok(file) = core.disk.open(&path, false) else { continue };
        if let Err(error) = segment.index(file.as_ref()) {
            report.notes.push(format!("{}: {error}; it is read without its index", path.display()));
        }
        let header = segment::read_exact(file.as_ref(), 0, segment::FILE_HEADER_BYTES);
        if !header.is_ok_and(|header| segment::is_segment_header(&header, segment.id)) {
            report.notes.push(format!("{}: the file's header is damaged; it is not needed", path.display()));
        }
    }
}

fn files_of(core: &Core, others: Vec<(PathBuf, FilePurpose)>) -> std::io::Result<Vec<FileReport>> {
    let mut files = Vec::new();
    {
        let wal = core.wal.lock();
        for file in wal.in_use.iter().chain(&wal.free) {
            let sequence = file.seq();
            let purpose = if sequence > 0 { FilePurpose::WriteAhead { sequence } } else { FilePurpose::Spare };
            files.push(FileReport { path: file.path(), bytes: file.capacity, purpose });
        }
    }
    for segment in core.published.read().segments.values() {
        let path = segment::path_of(segment.id);
        files.push(FileReport { path, bytes: segment.len_bytes, purpose: FilePurpose::Segment });
    }
    let checkpoints = checkpoint::list(core.disk.as_ref())?;
    let checkpoints = checkpoints.into_iter().map(|number| (checkpoint::path_of(number), FilePurpose::Checkpoint));
    for (path, purpose) in others.into_iter().chain(checkpoints) {
        let bytes = core.disk.open(&path, false)?.len_bytes()?;
        files.push(FileReport { path, bytes, purpose });
    }
    Ok(files)
}
