//! From the files to the state: the newest checkpoint, then the write-ahead log from there. Changes nothing on the disk.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::LogId;
use types::disk::Disk;

use super::checkpoint::{self, Loaded};
use super::error::StartError;
use super::found::{Found, find_file, take_file};
use super::log_data::Extent;
use super::published::{Position, Published};
use super::read::place_of;
use super::replay::{Progress, Replay, unknown_damage};
use super::segment::{self, SEGMENT_DIR, Segment};
use super::wal::{self, WAL_DIR, WalFile};
use crate::Fault;

/// What a start finds.
pub(super) struct Recovered {
    pub(super) published: Published,
    /// In sequence; the last is to be written on.
    pub(super) in_use: Vec<WalFile>,
    /// Bytes that the last of them should have. It is written on only if it has them.
    pub(super) active_bytes: u64,
    /// Files that hold nothing that is needed.
    pub(super) free: Vec<WalFile>,
    /// Files of which not even the header is left. They are damage, and left alone.
    pub(super) cut: Vec<WalFile>,
    /// The engine's last start.
    pub(super) boot: u32,
    /// The number of the newest checkpoint file, good or not.
    pub(super) checkpoint: u64,
    /// Checkpoints that could not be used; the state comes from an older one.
    pub(super) bad_checkpoints: Vec<Fault>,
    /// Files that nothing refers to: segments of a move, and write-ahead files in the making, that a crash cut off.
    pub(super) orphans: Vec<PathBuf>,
    /// What is odd about a file although nothing is lost.
    pub(super) oddities: Vec<String>,
}

/// Reads a data directory.
///
/// # Errors
/// [`StartError`] when the state cannot be told even in part; damage in parts is in the state's faults.
pub(super) fn recover(disk: &dyn Disk, recent_bytes: u64) -> Result<Recovered, StartError> {
    let Loaded { mut published, boot, number, bad } = checkpoint::load(disk, recent_bytes)?;
    let mut orphans = open_segments(disk, &mut published)?;
    let (mut files, cut) = find_files(disk, &mut orphans)?;
    let known = published.position;
    let mut progress = Progress::new(known);
    let mut in_use: Vec<(u64, Found)> = Vec::new();
    let mut oddities = Vec::new();
    let mut end = Position { seq: published.oldest_seq.saturating_sub(1), pos: 0, round: 0 };
    let mut seq = published.oldest_seq;
    while let Some((file, is_sound)) = take_file(&mut files, seq, &mut progress)? {
        let place = wal::path_of(file.number);
        if !is_sound {
            published.add_fault(unknown_damage(place_of(&place, 0), "the file's header is damaged"));
        }
        let known_end = find_file(&files, seq + 1).and_then(|next| next.header).map(|header| header.previous_end);
        let replay = Replay { file: &file, seq, known_end, others: &files };
        let pos = replay
            .run(&mut published, &mut progress)
            .map_err(|error| StartError::io(&place.display().to_string(), &error))?;
        end = Position { seq, pos, round: progress.round };
        oddities.extend(file.oddity(pos));
        in_use.push((seq, file));
        seq += 1;
    }
    // A file is begun only when the one before it is full, so none can be missing between them.
    let beyond = files.iter().find(|file| file.header.is_some_and(|header| header.seq > end.seq));
    if end.seq < known.seq || beyond.is_some() {
        return Err(missing_file(end.seq + 1, beyond.or(in_use.last().map(|(_, file)| file)), &cut, &bad));
    }
    for fault in cut.iter().filter_map(Found::without_header) {
        published.add_fault(fault);
    }
    if let Some((place, what)) = progress.lost_places.take() {
        mark_lost_places(&mut published, place, &what);
    }
    published.spread_damage();
    let shown = progress.shown;
    published.position = Position { round: end.round.max(known.round).max(shown.round), ..end };
    let boot = boot.max(progress.boot).max(shown.boot);
    let active_bytes = in_use.last().map_or(0, |(_, file)| file.whole_len());
    let in_use = in_use.into_iter().map(|(seq, found)| found.into_file(seq)).collect();
    let free = files.into_iter().map(|found| found.into_file(0)).collect();
    let cut = cut.into_iter().map(|found| found.into_file(0)).collect();
    Ok(Recovered {
        published,
        in_use,
        active_bytes,
        free,
        cut,
        boot,
        checkpoint: number,
        bad_checkpoints: bad,
        orphans,
        oddities,
    })
}

/// The write-ahead files, and apart from them those that are cut before the end of their header. What a crash found in the making joins the
/// orphans.
fn find_files(disk: &dyn Disk, orphans: &mut Vec<PathBuf>) -> Result<(Vec<Found>, Vec<Found>), StartError> {
    let mut files = Vec::new();
    for path in disk.list(Path::new(WAL_DIR)).map_err(|error| StartError::io(WAL_DIR, &error))? {
        if let Some(number) = wal::number_of_file(&path) {
            let found = Found::open(disk, &path, number);
            files.push(found.map_err(|error| StartError::io(&path.display().to_string(), &error))?);
        } else if wal::is_unfinished(&path) {
            orphans.push(path);
        }
    }
    Ok(files.into_iter().partition(|file| file.without_header().is_none()))
}

/// So much is missing that no log's state is known. What else is damaged is the likely reason, and is named with it.
fn missing_file(seq: u64, near: Option<&Found>, cut: &[Found], bad_checkpoints: &[Fault]) -> StartError {
    let mut what = format!("part {seq} of the write-ahead log is missing");
    for fault in cut.iter().filter_map(Found::without_header).chain(bad_checkpoints.iter().cloned()) {
        let _ = write!(what, "; {}: {}", fault.place, fault.what);
    }
    let place = near.map_or(PathBuf::from(WAL_DIR), |file| wal::path_of(file.number));
    StartError::Damaged { place: place.display().to_string(), what }
}

/// Opens the segments that the state refers to. Gives those that it does not.
fn open_segments(disk: &dyn Disk, published: &mut Published) -> Result<Vec<PathBuf>, StartError> {
    let listed = disk.list(Path::new(SEGMENT_DIR)).map_err(|error| StartError::io(SEGMENT_DIR, &error))?;
    let ids: Vec<u64> = listed.iter().filter_map(|path| wal::number_of(path, "seg")).collect();
    let mut wanted: Vec<(u64, u64)> = Vec::new();
    for extent in published.logs.values().flat_map(|data| &data.extents) {
        wanted.push((extent.segment, extent.pos + extent.len));
    }
    wanted.sort_unstable();
    wanted.reverse();
    wanted.dedup_by_key(|(id, _)| *id);
    for (id, needed) in &wanted {
        let path = segment::path_of(*id);
        let (place, what, there) = match Segment::open(disk, *id) {
            Ok(segment) => {
                let len_bytes = segment.len_bytes;
                published.segments.insert(*id, Arc::new(segment));
                if len_bytes >= *needed {
                    continue;
                }
                (place_of(&path, len_bytes), format!("the file ends here, {needed} bytes are needed"), len_bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                (path.display().to_string(), format!("the file is missing, {needed} bytes are needed"), 0)
            }
            Err(error) => (path.display().to_string(), error.to_string(), 0),
        };
        let lacks = |extent: &Extent| extent.segment == *id && extent.pos + extent.len > there;
        let touched = published.logs.iter().filter(|(_, data)| data.extents.iter().any(lacks));
        let mut logs: Vec<LogId> = touched.map(|(log, _)| *log).collect();
        logs.sort_unstable();
        published.add_fault(Fault { place, what, logs });
    }
    published.next_segment = ids.iter().copied().max().unwrap_or(0).max(published.next_segment - 1) + 1;
    let is_unwanted = |id: &u64| wanted.binary_search_by(|(wanted, _)| id.cmp(wanted)).is_err();
    Ok(ids.into_iter().filter(is_unwanted).map(segment::path_of).collect())
}

/// After frames before the checkpoint were lost: a log is damaged if it has live records of which nobody knows the place.
fn mark_lost_places(published: &mut Published, place: String, what: &str) {
    let mut lost = Vec::new();
    for (log, data) in &published.logs {
        let mut at = data.start;
        let mut is_lost = false;
        let extents = data.extents.iter().map(|extent| extent.base..extent.end);
        for place in extents.chain(data.locations.after(data.start).map(|at| at.base..at.end())) {
            is_lost |= place.start > at && data.dead.live_in(at..place.start) > 0;
            at = at.max(place.end);
        }
        if is_lost || (at < data.end && data.dead.live_in(at..data.end) > 0) {
            lost.push(*log);
        }
    }
    if !lost.is_empty() {
        let what = format!("{what}; these logs have live records there");
        published.add_fault(Fault { place, what, logs: lost });
    }
}
