//! The replay of one write-ahead file: good frames are applied, a torn tail ends it, damage is told and stepped over.

use std::io;

use types::LogId;

use super::found::{Found, evidence_elsewhere};
use super::frame::{AppendOp, FRAME_ALIGN, FrameHeader, Op};
use super::log_data::LogData;
use super::published::{Payload, Position, Published};
use super::read::place_of;
use super::scan::{FrameScan, Scanned, Shown};
use super::wal::{self, FILE_HEADER_BYTES};
use crate::Fault;

/// How far the log is valid, while it is scanned.
pub(super) struct Progress {
    /// Up to here the checkpoint knows everything but where the batches are.
    pub(super) known: Position,
    pub(super) round: u64,
    /// Whether the last frame ended its round.
    pub(super) is_complete: bool,
    pub(super) boot: u32,
    pub(super) shown: Shown,
    /// Where frames are damaged before the checkpoint's place: batches may be missing that it counts.
    pub(super) lost_places: Option<(String, String)>,
}

impl Progress {
    pub(super) fn new(known: Position) -> Self {
        Self { known, round: 0, is_complete: true, boot: 0, shown: Shown::default(), lost_places: None }
    }

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
    pub(super) fn next_round(&self) -> u64 {
        if self.is_complete { self.round + 1 } else { self.round }
    }
}

/// One file while it is replayed.
pub(super) struct Replay<'a> {
    pub(super) file: &'a Found,
    pub(super) seq: u64,
    /// Where the file's frames end, if the next file says so.
    pub(super) known_end: Option<u64>,
    /// The files behind it.
    pub(super) others: &'a [Found],
}

impl<'a> Replay<'a> {
    /// Applies the file's frames; gives where they end.
    pub(super) fn run(&self, published: &mut Published, progress: &mut Progress) -> io::Result<u64> {
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
                Scanned::Frame(frame) => {
                    progress.shown.boot = progress.shown.boot.max(frame.header.boot);
                    Some(frame.header.round)
                }
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

    /// Whether anything shows that what should stand here was confirmed, or might have been in a file that was cut. Otherwise it is a torn
    /// tail.
    fn is_damage(&self, pos: u64, lost: u64, progress: &mut Progress) -> io::Result<bool> {
        let must_go_on = progress.knows(self.seq, pos) || self.known_end.is_some() || self.seq < progress.known.seq;
        Ok(must_go_on
            || (self.file.is_cut() && self.file.scan(self.seq, pos).may_begin(lost, progress.boot)?)
            || self.file.scan(self.seq, pos + FRAME_ALIGN).find_evidence(lost, progress.boot, &mut progress.shown)?
            || evidence_elsewhere(self.others, self.seq + 1, lost, progress)?)
    }

    fn report_payload(&self, pos: u64, ops: &[Op], is_known: bool, published: &mut Published) {
        let logs = touched(published, ops, is_known);
        if !logs.is_empty() {
            let place = place_of(&wal::path_of(self.file.number), pos);
            published.add_fault(Fault { place, what: "a frame's payload is damaged".to_owned(), logs });
        }
    }

    /// Goes to the next good frame behind damage of which nobody can say whose it was, or to the checkpoint's place if that comes first; or, as an
    /// error, to the file's end.
    fn skip(
        &self,
        pos: u64,
        is_known: bool,
        published: &mut Published,
        progress: &mut Progress,
    ) -> io::Result<Result<FrameScan<'a>, u64>> {
        // A frame begins, or the log ends, where the checkpoint was made. What is damaged before it and behind it is told apart there.
        let known_place = (is_known && self.seq == progress.known.seq).then_some(progress.known.pos);
        let bound = known_place.or(self.known_end);
        let behind = self.file.scan(self.seq, pos + FRAME_ALIGN);
        let first = progress.next_round();
        let next = behind.find_frame(first, progress.boot)?;
        let next = next.filter(|next| bound.is_none_or(|end| *next < end));
        let until = next.or(bound).unwrap_or(self.file.whole_len()).max(pos);
        let (place, what) = self.describe(pos, until);
        tracing::error!(place, what, "damage in the write-ahead log");
        if is_known {
            progress.lost_places.get_or_insert((place, what));
        } else {
            published.add_fault(unknown_damage(place, &what));
        }
        progress.is_complete = true;
        if next.is_none() && known_place.is_some() {
            progress.round = progress.round.max(progress.known.round);
            return Ok(Ok(self.file.scan(self.seq, until)));
        }
        // The frame found may be of the round that was lost or of any later one.
        progress.round = first.saturating_sub(1);
        if next.is_none() {
            return Ok(Err(until));
        }
        let mut scan = self.file.scan(self.seq, until);
        scan.accept_any_index();
        Ok(Ok(scan))
    }

    fn describe(&self, pos: u64, until: u64) -> (String, String) {
        let path = wal::path_of(self.file.number);
        let (len, whole) = (self.file.len, self.file.whole_len());
        if until > len {
            let what = format!(
                "the file ends here, {whole} bytes were expected; what stood from byte {pos} on is lost, and nobody can say whose it was"
            );
            return (place_of(&path, len), what);
        }
        (place_of(&path, pos), format!("{} bytes are damaged, and nobody can say whose they were", until - pos))
    }
}

/// Damage that touches all logs.
pub(super) fn unknown_damage(place: String, what: &str) -> Fault {
    Fault { place, what: what.to_owned(), logs: Vec::new() }
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
