//! Reading a write-ahead file frame by frame, and searching it for frames behind a damaged place.

use std::io;

use types::disk::DiskFile;

use super::frame::{FRAME_ALIGN, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, Op, Targets};
use super::published::Payload;
use crate::batch::BatchHeader;

/// Read at once.
const READ_BYTES: usize = 1024 * 1024;

/// What readable headers show of rounds and starts whose frames cannot be read any more.
///
/// IMPORTANT: a start goes on behind all of it. Its own frame is written over some of these headers, and must then show as much, or
/// the next start would take for a torn tail what this one told as damage, or the other way round.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shown {
    /// The last round that must have been synced though it is lost.
    pub(super) round: u64,
    /// The newest start that wrote any of it.
    pub(super) boot: u32,
}

/// What stands at a place of a file.
pub(super) enum Scanned {
    Frame(Box<Frame>),
    /// No frame of this file that can follow the one before.
    Invalid,
}

/// A frame whose header and targets are good.
pub(super) struct Frame {
    pub(super) header: FrameHeader,
    pub(super) ops: Vec<Op>,
    pub(super) payloads: Vec<Payload>,
    /// Whether the payload's checksum is right.
    pub(super) is_sound: bool,
}

pub(super) struct FrameScan<'a> {
    file: &'a dyn DiskFile,
    len: u64,
    seq: u64,
    pos: u64,
    window: Vec<u8>,
    window_pos: u64,
    accepts_any_index: bool,
}

impl<'a> FrameScan<'a> {
    pub(super) fn new(file: &'a dyn DiskFile, len: u64, seq: u64, pos: u64) -> Self {
        Self { file, len, seq, pos, window: Vec::new(), window_pos: 0, accepts_any_index: false }
    }

    /// The next frame's first byte.
    pub(super) fn pos(&self) -> u64 {
        self.pos
    }

    /// Takes the next frame whatever its place in its round: the frames before it are lost.
    pub(super) fn accept_any_index(&mut self) {
        self.accepts_any_index = true;
    }

    /// Bytes of the file, as many of them as there are.
    fn bytes(&mut self, at: u64, count: usize) -> io::Result<&[u8]> {
        let covers = |window: &Vec<u8>, pos: u64| at >= pos && at + count as u64 <= pos + window.len() as u64;
        if !covers(&self.window, self.window_pos) {
            let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
            self.window.resize(count.max(READ_BYTES).min(left), 0);
            self.window_pos = at;
            let got = self.file.read_at(&mut self.window, at)?;
            self.window.truncate(got);
        }
        let from = usize::try_from(at - self.window_pos).unwrap_or(usize::MAX);
        let until = from.saturating_add(count).min(self.window.len());
        Ok(self.window.get(from..until).unwrap_or_default())
    }

    /// The header at this place, if header and targets are good and of this file.
    fn header_at(&mut self, at: u64) -> io::Result<Option<FrameHeader>> {
        let Some((header, crc)) = FrameHeader::decode(self.bytes(at, FRAME_HEADER_BYTES)?) else { return Ok(None) };
        if header.seq != self.seq || at + u64::from(header.frame_bytes) > self.len.max(at) {
            return Ok(None);
        }
        let covered = self.bytes(at, FRAME_HEADER_BYTES + header.targets_bytes as usize)?;
        let is_whole = covered.len() == FRAME_HEADER_BYTES + header.targets_bytes as usize;
        Ok((is_whole && crc32c::crc32c(covered.get(8..).unwrap_or_default()) == crc).then_some(header))
    }

    /// The frame at the current place, if it can follow a frame of `round`; moves behind it.
    pub(super) fn next(&mut self, round: u64, is_complete: bool, boot: u32) -> io::Result<Scanned> {
        let at = self.pos;
        let Some(header) = self.header_at(at)? else { return Ok(Scanned::Invalid) };
        let follows = if header.round == round { !is_complete } else { header.round > round };
        let begins = header.index == 0 && (is_complete || header.boot > boot);
        let in_place = self.accepts_any_index || if header.round == round { header.index > 0 } else { begins };
        if !follows || !in_place || header.boot < boot {
            return Ok(Scanned::Invalid);
        }
        self.accepts_any_index = false;
        let seq = self.seq;
        let targets_at = at + FRAME_HEADER_BYTES as u64;
        let targets = self.bytes(targets_at, header.targets_bytes as usize)?;
        let Some(Targets { payloads: lens, ops }) = Targets::decode(targets) else { return Ok(Scanned::Invalid) };
        let payload_at = targets_at + u64::from(header.targets_bytes);
        let payload = self.bytes(payload_at, header.payload_bytes as usize)?;
        let is_sound = payload.len() == header.payload_bytes as usize
            && crc32c::crc32c(payload) == header.payload_crc
            && lens.iter().copied().map(u64::from).sum::<u64>() == u64::from(header.payload_bytes);
        let mut from = 0usize;
        let mut payloads = Vec::with_capacity(lens.len());
        for len in lens {
            let pos = u32::try_from(payload_at + from as u64).unwrap_or(u32::MAX);
            let bytes = payload.get(from..).unwrap_or_default();
            let max_ts = BatchHeader::decode(bytes).map_or(0, |header| header.max_timestamp_ms);
            payloads.push(Payload { place: Some((seq, pos, len)), max_ts, batch: None });
            from = from.saturating_add(len as usize);
        }
        self.pos = at + u64::from(header.frame_bytes);
        Ok(Scanned::Frame(Box::new(Frame { header, ops, payloads, is_sound })))
    }

    /// Whether a good frame stands at the current place.
    pub(super) fn starts_well(mut self) -> bool {
        matches!(self.header_at(self.pos), Ok(Some(_)))
    }

    /// Whether a frame of this round or a later one may have begun at the current place: there is too little to say, or it is such a frame's
    /// header whose checksum does not hold over what follows.
    pub(super) fn may_begin(mut self, round: u64, boot: u32) -> io::Result<bool> {
        let bytes = self.bytes(self.pos, FRAME_HEADER_BYTES)?;
        if bytes.len() < FRAME_HEADER_BYTES {
            return Ok(true);
        }
        let header = FrameHeader::decode(bytes).map(|(header, _)| header);
        Ok(header.is_some_and(|header| header.seq == self.seq && header.boot >= boot && header.round >= round))
    }

    /// Searches from the current place on for a frame that was written when the round `lost` was already synced.
    pub(super) fn find_evidence(self, lost: u64, boot: u32, shown: &mut Shown) -> io::Result<bool> {
        let is_wanted = |header: &FrameHeader| {
            shown.boot = shown.boot.max(header.boot);
            header.boot >= boot && header.synced >= lost
        };
        let is_there = self.find(is_wanted)?.is_some();
        if is_there {
            shown.round = shown.round.max(lost);
        }
        Ok(is_there)
    }

    /// Searches from the current place on for a frame of this round or a later one.
    pub(super) fn find_frame(self, round: u64, boot: u32) -> io::Result<Option<u64>> {
        self.find(|header| header.boot >= boot && header.round >= round)
    }

    fn find(mut self, mut is_wanted: impl FnMut(&FrameHeader) -> bool) -> io::Result<Option<u64>> {
        let mut at = self.pos;
        while at + FRAME_HEADER_BYTES as u64 <= self.len {
            // What is at hand is searched first: a file of many old frames would be read once for each of them otherwise.
            self.bytes(at, FRAME_HEADER_BYTES)?;
            let chunk = usize::try_from(at - self.window_pos).ok().and_then(|from| self.window.get(from..));
            let Some(chunk) = chunk.filter(|chunk| chunk.len() >= FRAME_HEADER_BYTES) else { return Ok(None) };
            let magic = FRAME_MAGIC.to_le_bytes();
            let hit = chunk.chunks_exact(FRAME_ALIGN as usize).position(|word| word.starts_with(&magic));
            let Some(hit) = hit else {
                at += chunk.len() as u64 / FRAME_ALIGN * FRAME_ALIGN;
                continue;
            };
            at += hit as u64 * FRAME_ALIGN;
            if self.header_at(at)?.is_some_and(|header| is_wanted(&header)) {
                return Ok(Some(at));
            }
            at += FRAME_ALIGN;
        }
        Ok(None)
    }
}
