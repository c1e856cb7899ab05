//! From the files to the state: the newest checkpoint, then the write-ahead log from there. Changes nothing on the disk.

use std::io;
use std::path::Path;
use std::sync::Arc;

use types::LogId;
use types::disk::{Disk, DiskFile};

use super::checkpoint::{self, Loaded};
use super::error::StartError;
use super::frame::{AppendOp, FRAME_ALIGN, FrameHeader, Op};
use super::log_data::LogData;
use super::published::{Payload, Position, Published};
use super::read::place_of;
use super::scan::{FrameScan, Scanned};
use super::segment::{self, SEGMENT_DIR, Segment};
use super::wal::{self, FILE_HEADER_BYTES, FileHeader, WAL_DIR, WalFile};
use crate::Fault;

/// What a start finds.
pub(super) struct Recovered {
    pub(super) published: Published,
    /// In sequence; the last is to be written on.
    pub(super) in_use: Vec<WalFile>,
    /// Files that hold nothing that is needed.
    pub(super) free: Vec<WalFile>,
    /// The engine's last start.
    pub(super) boot: u32,
    /// The number of the newest checkpoint file, good or not.
    pub(super) checkpoint: u64,
    /// Checkpoints that could not be used; the state comes from an older one.
    pub(super) bad_checkpoints: Vec<Fault>,
    /// Segment files that nothing refers to.
    pub(super) orphans: Vec<u64>,
}

/// A write-ahead file as it lies there.
struct Found {
    number: u64,
    file: Arc<dyn DiskFile>,
    len: u64,
    header: Option<FileHeader>,
    /// Whether a damaged header is a possibility: a file that was prepared and not yet used begins with zeros. The header is written
    /// together with the first round, so a file without one holds nothing that was confirmed.
    may_be_damaged: bool,
}

impl Found {
    fn open(disk: &dyn Disk, path: &Path) -> io::Result<Option<Self>> {
        let Some(number) = wal::number_of(path, "wal") else { return Ok(None) };
        let file = disk.open(path, false)?;
        let mut bytes = [0; FILE_HEADER_BYTES];
        let got = file.read_at(&mut bytes, 0)?;
        let header = FileHeader::decode(bytes.get(..got).unwrap_or_default());
        let may_be_damaged = header.is_none() && bytes.iter().any(|byte| *byte != 0);
        Ok(Some(Self { number, len: file.len_bytes()?, file, header, may_be_damaged }))
    }

    fn into_file(self, seq: u64) -> WalFile {
        WalFile::new(self.number, self.file, self.len, seq)
    }

    fn scan(&self, seq: u64, pos: u64) -> FrameScan<'_> {
        FrameScan::new(self.file.as_ref(), self.len, seq, pos)
    }
}

/// How far the log is valid, while it is scanned.
struct Progress {
    /// Up to here the checkpoint knows everything but where the batches are.
    known: Position,
    round: u64,
    /// Whether the last frame ended its round.
    is_complete: bool,
    boot: u32,
    /// Logs whose batches may be missing although the checkpoint counts them.
    has_lost_places: bool,
}

impl Progress {
    /// Whether the checkpoint's place lies behind this one.
    fn knows(&self, seq: u64, pos: u64) -> bool {
        (seq, pos) < (self.known.seq, self.known.pos)
    }

    fn pass(&mut self, header: &FrameHeader) {
        self.round = header.round;
        self.boot = header.boot;
        self.is_complete = header.last_of_round;
    }

    /// The earliest round that can be in what comes next.
    fn next_round(&self) -> u64 {
        if self.is_complete { self.round + 1 } else { self.round }
    }
}

/// Reads a data directory.
///
/// # Errors
/// [`StartError`] when the state cannot be told even in part; damage in parts is in the state's faults.
pub(super) fn recover(disk: &dyn Disk, recent_bytes: u64) -> Result<Recovered, StartError> {
    let Loaded { mut published, boot, number, bad } = checkpoint::load(disk, recent_bytes)?;
    let orphans = open_segments(disk, &mut published)?;
    let mut files = Vec::new();
    for path in disk.list(Path::new(WAL_DIR)).map_err(|error| StartError::io(WAL_DIR, &error))? {
        let found = Found::open(disk, &path).map_err(|error| StartError::io(&path.display().to_string(), &error))?;
        files.extend(found);
    }
    let known = published.position;
    let mut progress = Progress { known, round: 0, is_complete: true, boot: 0, has_lost_places: false };
    let mut in_use: Vec<(u64, Found)> = Vec::new();
    let mut end = Position { seq: published.oldest_seq.saturating_sub(1), pos: 0, round: 0 };
    let mut seq = published.oldest_seq;
    while let Some((file, is_sound)) = take_file(&mut files, seq, &progress)? {
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
        in_use.push((seq, file));
        seq += 1;
    }
    if end.seq < known.seq || (end.seq == known.seq && end.pos < known.pos) {
        let what = format!(
            "the write-ahead log ends before byte {} of file {}, which the checkpoint counts on",
            known.pos, known.seq
        );
        return Err(StartError::Damaged { place: last_file(&in_use), what });
    }
    // A file is begun only when the one before it is full, so none can be missing between them.
    if let Some(beyond) = files.iter().find(|file| file.header.is_some_and(|header| header.seq > end.seq)) {
        let what = format!("file {} of the write-ahead log is missing", end.seq + 1);
        return Err(StartError::Damaged { place: wal::path_of(beyond.number).display().to_string(), what });
    }
    if progress.has_lost_places {
        mark_lost_places(&mut published);
    }
    published.spread_damage();
    published.position = Position { round: end.round.max(known.round), ..end };
    let boot = boot.max(progress.boot);
    let in_use = in_use.into_iter().map(|(seq, found)| found.into_file(seq)).collect();
    let free = files.into_iter().map(|found| found.into_file(0)).collect();
    Ok(Recovered { published, in_use, free, boot, checkpoint: number, bad_checkpoints: bad, orphans })
}

fn last_file(in_use: &[(u64, Found)]) -> String {
    in_use.last().map_or(WAL_DIR.to_owned(), |(_, file)| wal::path_of(file.number).display().to_string())
}

fn unknown_damage(place: String, what: &str) -> Fault {
    Fault { place, what: what.to_owned(), logs: Vec::new() }
}

fn find_file(files: &[Found], seq: u64) -> Option<&Found> {
    files.iter().find(|file| file.header.is_some_and(|header| header.seq == seq))
}

/// Takes the file that is in use as `seq`: by its header, or if that is damaged by frames in it that must have been confirmed.
fn take_file(files: &mut Vec<Found>, seq: u64, progress: &Progress) -> Result<Option<(Found, bool)>, StartError> {
    if let Some(at) = files.iter().position(|file| file.header.is_some_and(|header| header.seq == seq)) {
        return Ok(Some((files.swap_remove(at), true)));
    }
    for at in 0..files.len() {
        let Some(file) = files.get(at).filter(|file| file.may_be_damaged) else { continue };
        let evidence = file
            .scan(seq, FILE_HEADER_BYTES as u64)
            .find_evidence(progress.next_round(), progress.boot)
            .map_err(|error| StartError::io(&wal::path_of(file.number).display().to_string(), &error))?;
        let is_before_checkpoint = seq <= progress.known.seq && file.scan(seq, FILE_HEADER_BYTES as u64).starts_well();
        if evidence || is_before_checkpoint {
            return Ok(Some((files.swap_remove(at), false)));
        }
    }
    Ok(None)
}

/// One file while it is replayed.
struct Replay<'a> {
    file: &'a Found,
    seq: u64,
    /// Where the file's frames end, if the next file says so.
    known_end: Option<u64>,
    /// The files behind it.
    others: &'a [Found],
}

impl Replay<'_> {
    /// Applies the file's frames; gives where they end.
    fn run(&self, published: &mut Published, progress: &mut Progress) -> io::Result<u64> {
        let mut scan = self.file.scan(self.seq, FILE_HEADER_BYTES as u64);
        loop {
            let pos = scan.pos();
            if self.known_end == Some(pos) {
                return Ok(pos);
            }
            let is_known = progress.knows(self.seq, pos);
            let scanned = scan.next(progress.round, progress.is_complete, progress.boot)?;
            let is_beyond = self.known_end.is_some_and(|end| scan.pos() > end);
            let lost = match &scanned {
                Scanned::Frame(frame) if frame.is_sound && !is_beyond => None,
                Scanned::Frame(frame) => Some(frame.header.round),
                Scanned::Invalid => Some(progress.next_round()),
            };
            if let Some(lost) = lost
                && !self.is_damage(pos, lost, progress)?
            {
                return Ok(pos);
            }
            match scanned {
                Scanned::Frame(frame) if !is_beyond => {
                    progress.pass(&frame.header);
                    if lost.is_some() {
                        self.report_payload(pos, &frame.ops, is_known, published);
                    }
                    apply(published, frame.ops, &frame.payloads, is_known);
                }
                _ => match self.skip(pos, is_known, published, progress)? {
                    Ok(next) => scan = next,
                    Err(end) => return Ok(end),
                },
            }
        }
    }

    /// Whether anything shows that what should stand here was confirmed. Otherwise it is a torn tail.
    fn is_damage(&self, pos: u64, lost: u64, progress: &Progress) -> io::Result<bool> {
        let must_go_on = progress.knows(self.seq, pos) || self.known_end.is_some() || self.seq < progress.known.seq;
        Ok(must_go_on
            || self.file.scan(self.seq, pos + FRAME_ALIGN).find_evidence(lost, progress.boot)?
            || evidence_elsewhere(self.others, self.seq + 1, lost, progress.boot)?)
    }

    fn report_payload(&self, pos: u64, ops: &[Op], is_known: bool, published: &mut Published) {
        let logs = touched(published, ops, is_known);
        if !logs.is_empty() {
            let place = place_of(&wal::path_of(self.file.number), pos);
            published.add_fault(Fault { place, what: "a frame's payload is damaged".to_owned(), logs });
        }
    }

    /// Goes to the next good frame behind damage of which nobody can say whose it was; or, as an error, to the file's end.
    fn skip(
        &self,
        pos: u64,
        is_known: bool,
        published: &mut Published,
        progress: &mut Progress,
    ) -> io::Result<Result<FrameScan<'_>, u64>> {
        let behind = self.file.scan(self.seq, pos + FRAME_ALIGN);
        let next = behind.find_frame(progress.next_round(), progress.boot)?;
        let next = next.filter(|next| self.known_end.is_none_or(|end| *next < end));
        let until = next.or(self.known_end).unwrap_or(self.file.len).max(pos);
        let place = place_of(&wal::path_of(self.file.number), pos);
        let what = format!("{} bytes are damaged, and nobody can say whose they were", until - pos);
        tracing::error!(place, what, "damage in the write-ahead log");
        if is_known {
            progress.has_lost_places = true;
        } else {
            published.add_fault(unknown_damage(place, &what));
        }
        // The frame found may be of the same round or of any later one.
        progress.is_complete = true;
        progress.round = progress.round.saturating_sub(1);
        if next.is_none() {
            return Ok(Err(until));
        }
        let mut scan = self.file.scan(self.seq, until);
        scan.accept_any_index();
        Ok(Ok(scan))
    }
}

fn evidence_elsewhere(others: &[Found], seq: u64, lost: u64, boot: u32) -> io::Result<bool> {
    for file in others.iter().filter(|file| file.may_be_damaged) {
        if file.scan(seq, FILE_HEADER_BYTES as u64).find_evidence(lost, boot)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn apply(published: &mut Published, ops: Vec<Op>, payloads: &[Payload], is_known: bool) {
    for op in ops {
        if !is_known {
            published.apply(op, payloads);
        } else if let Op::Append(append) = op
            && let Some(payload) = payloads.get(append.payload as usize)
        {
            published.locate(&append, payload);
        }
    }
}

/// The logs that damage in a frame matters to.
fn touched(published: &Published, ops: &[Op], is_known: bool) -> Vec<LogId> {
    let is_live = |append: &AppendOp, data: &LogData| {
        let end = (append.base + u64::from(append.count)).min(data.end);
        data.dead.live_in(append.base.max(data.start).min(end)..end) > 0
    };
    let concerns = |op: &Op| match op {
        Op::Append(append) if is_known => {
            published.logs.get(&append.log).filter(|data| is_live(append, data)).map(|_| append.log)
        }
        _ if is_known => None,
        op => op.log(),
    };
    let mut logs: Vec<LogId> = ops.iter().filter_map(concerns).collect();
    logs.sort_unstable();
    logs.dedup();
    logs
}

/// Opens the segments that the state refers to. Gives those that it does not.
fn open_segments(disk: &dyn Disk, published: &mut Published) -> Result<Vec<u64>, StartError> {
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
        let what = match Segment::open(disk, *id) {
            Ok(segment) => {
                let len_bytes = segment.len_bytes;
                published.segments.insert(*id, Arc::new(segment));
                if len_bytes >= *needed {
                    continue;
                }
                format!("the file ends at byte {len_bytes}, {needed} are needed")
            }
            Err(error) => error.to_string(),
        };
        let uses = |data: &LogData| data.extents.iter().any(|extent| extent.segment == *id);
        let logs = published.logs.iter().filter(|(_, data)| uses(data)).map(|(log, _)| *log).collect();
        published.add_fault(Fault { place: path.display().to_string(), what, logs });
    }
    published.next_segment = ids.iter().copied().max().unwrap_or(0).max(published.next_segment - 1) + 1;
    Ok(ids.into_iter().filter(|id| wanted.binary_search_by(|(wanted, _)| id.cmp(wanted)).is_err()).collect())
}

/// After frames before the checkpoint were lost: a log is damaged if it has live records of which nobody knows the place.
fn mark_lost_places(published: &mut Published) {
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
        let what = "frames are damaged that hold live records of these logs".to_owned();
        published.add_fault(Fault { place: WAL_DIR.to_owned(), what, logs: lost });
    }
}
