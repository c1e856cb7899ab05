//! A frame: one commit in the write-ahead log. Drawn in docs/formats/write-ahead-log.md.

use std::ops::Range;
use std::time::Duration;

use types::{Epoch, LogId};

use super::codec::{Decoder, put_bytes, put_ranges, put_varint};
use crate::{Cleanup, LogConfig};

/// Bytes of a frame's header.
pub(super) const FRAME_HEADER_BYTES: usize = 64;
/// Frames start at multiples of this.
pub(super) const FRAME_ALIGN: u64 = 8;
/// The first four bytes of each frame, little-endian.
pub(super) const FRAME_MAGIC: u32 = 0x5046_4850; // "PHFP"
const LAST_OF_ROUND: u32 = 1;

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// The file's sequence number, so that what a recycled file held before is never taken for its content.
    pub(super) seq: u64,
    /// The round that the frame was written in.
    pub(super) round: u64,
    /// The last round that was known to be synced when this one was written: everything up to it must be readable.
    pub(super) synced: u64,
    /// The number of the engine's start that wrote it. What an earlier start left behind a cut is never taken for newer.
    pub(super) boot: u32,
    /// The frame's place in its round, from 0.
    pub(super) index: u32,
    /// The whole frame with its padding.
    pub(super) frame_bytes: u32,
    pub(super) targets_bytes: u32,
    pub(super) payload_crc: u32,
    pub(super) payload_bytes: u32,
    pub(super) last_of_round: bool,
}

impl FrameHeader {
    /// Appends header and targets to `out`.
    pub(super) fn encode(&self, targets: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&FRAME_MAGIC.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for word in [self.seq, self.round, self.synced] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let flags = if self.last_of_round { LAST_OF_ROUND } else { 0 };
        let words = [
            self.boot,
            self.index,
            self.frame_bytes,
            self.targets_bytes,
            self.payload_crc,
            self.payload_bytes,
            flags,
            0,
        ];
        for word in words {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(targets);
        let crc = crc32c::crc32c(out.get(start + 8..).unwrap_or_default());
        if let Some(place) = out.get_mut(start + 4..start + 8) {
            place.copy_from_slice(&crc.to_le_bytes());
        }
    }

    /// Reads the header only; gives its checksum, which also covers the targets that follow.
    pub(super) fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let mut from = Decoder::new(bytes.get(..FRAME_HEADER_BYTES)?);
        if from.u32()? != FRAME_MAGIC {
            return None;
        }
        let crc = from.u32()?;
        let (seq, round, synced) = (from.u64()?, from.u64()?, from.u64()?);
        let (boot, index, frame_bytes, targets_bytes) = (from.u32()?, from.u32()?, from.u32()?, from.u32()?);
        let (payload_crc, payload_bytes, flags) = (from.u32()?, from.u32()?, from.u32()?);
        let last_of_round = flags & LAST_OF_ROUND != 0;
        let header = Self {
            seq,
            round,
            synced,
            boot,
            index,
            frame_bytes,
            targets_bytes,
            payload_crc,
            payload_bytes,
            last_of_round,
        };
        let whole = frame_bytes_for(targets_bytes as usize, u64::from(payload_bytes));
        (u64::from(frame_bytes) == whole).then_some((header, crc))
    }
}

/// The size of a whole frame.
pub(super) fn frame_bytes_for(targets_bytes: usize, payload_bytes: u64) -> u64 {
    (FRAME_HEADER_BYTES as u64 + targets_bytes as u64 + payload_bytes).next_multiple_of(FRAME_ALIGN)
}

/// One operation as it is logged: with everything decided, so that replay decides nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Create {
        log: LogId,
        config: LogConfig,
    },
    Configure {
        log: LogId,
        config: LogConfig,
    },
    Append(AppendOp),
    /// `weight` is `None` if the engine deleted by itself: then the weight shrinks in proportion.
    Delete {
        log: LogId,
        ranges: Vec<Range<u64>>,
        weight: Option<u64>,
    },
    Trim {
        log: LogId,
        to: u64,
    },
    Remove {
        log: LogId,
    },
    Own {
        log: LogId,
        epoch: Epoch,
    },
    /// A start of the engine. It has no effect but to be there.
    Boot,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AppendOp {
    pub(super) log: LogId,
    pub(super) base: u64,
    /// Offsets taken.
    pub(super) count: u32,
    /// Which of the commit's payloads.
    pub(super) payload: u32,
    /// Live offset deltas; `None` is all.
    pub(super) selection: Option<Vec<Range<u32>>>,
    pub(super) weight: u64,
}

impl Op {
    pub(super) fn log(&self) -> Option<LogId> {
        match self {
            Self::Create { log, .. }
            | Self::Configure { log, .. }
            | Self::Append(AppendOp { log, .. })
            | Self::Delete { log, .. }
            | Self::Trim { log, .. }
            | Self::Remove { log }
            | Self::Own { log, .. } => Some(*log),
            Self::Boot => None,
        }
    }

    fn encode(&self, payload: u32, out: &mut Vec<u8>) {
        let mut head = |kind: u8, log: LogId| {
            out.push(kind);
            put_varint(out, log.0);
        };
        match self {
            Self::Create { log, config } => {
                head(1, *log);
                encode_config(config, out);
            }
            Self::Configure { log, config } => {
                head(2, *log);
                encode_config(config, out);
            }
            Self::Append(append) => {
                head(if append.selection.is_some() { 4 } else { 3 }, append.log);
                put_varint(out, append.base);
                put_varint(out, u64::from(append.count));
                put_varint(out, u64::from(payload));
                put_varint(out, append.weight);
                if let Some(selection) = &append.selection {
                    put_ranges(out, selection.iter().map(|range| u64::from(range.start)..u64::from(range.end)));
                }
            }
            Self::Delete { log, ranges, weight } => {
                head(if weight.is_some() { 5 } else { 6 }, *log);
                put_ranges(out, ranges.iter().cloned());
                if let Some(weight) = weight {
                    put_varint(out, *weight);
                }
            }
            Self::Trim { log, to } => {
                head(7, *log);
                put_varint(out, *to);
            }
            Self::Remove { log } => head(8, *log),
            Self::Own { log, epoch } => {
                head(9, *log);
                put_varint(out, u64::from(epoch.0));
            }
            Self::Boot => out.push(10),
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Option<Self> {
        let kind = from.u8()?;
        if kind == 10 {
            return Some(Self::Boot);
        }
        let log = LogId(from.varint()?);
        Some(match kind {
            1 => Self::Create { log, config: decode_config(from)? },
            2 => Self::Configure { log, config: decode_config(from)? },
            3 | 4 => {
                let (base, count, payload) = (from.varint()?, from.varint_u32()?, from.varint_u32()?);
                base.checked_add(u64::from(count))?;
                let weight = from.varint()?;
                let selection = if kind == 4 { Some(decode_selection(from, count)?) } else { None };
                Self::Append(AppendOp { log, base, count, payload, selection, weight })
            }
            5 | 6 => {
                let ranges = from.ranges()?;
                let weight = if kind == 5 { Some(from.varint()?) } else { None };
                Self::Delete { log, ranges, weight }
            }
            7 => Self::Trim { log, to: from.varint()? },
            8 => Self::Remove { log },
            9 => Self::Own { log, epoch: Epoch(from.varint_u32()?) },
            _ => return None,
        })
    }
}

fn decode_selection(from: &mut Decoder<'_>, count: u32) -> Option<Vec<Range<u32>>> {
    let narrow = |range: Range<u64>| {
        let range = u32::try_from(range.start).ok()?..u32::try_from(range.end).ok()?;
        (range.end <= count).then_some(range)
    };
    from.ranges()?.into_iter().map(narrow).collect()
}

const CONFIG_KEY_INDEX: u8 = 1;
const CONFIG_VOLATILE: u8 = 2;
const CONFIG_MAX_AGE: u8 = 4;
const CONFIG_MAX_BYTES: u8 = 8;
const CONFIG_MAX_RECORDS: u8 = 16;
const CONFIG_COMPACT: u8 = 32;
const CONFIG_APART: u8 = 64;

/// Flags, label, then the numbers that the flags announce; durations in milliseconds.
pub(super) fn encode_config(config: &LogConfig, out: &mut Vec<u8>) {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let cleanup = &config.cleanup;
    let parts = [
        (CONFIG_MAX_AGE, cleanup.max_age.map(millis)),
        (CONFIG_MAX_BYTES, cleanup.max_bytes),
        (CONFIG_MAX_RECORDS, cleanup.max_records),
        (CONFIG_COMPACT, cleanup.compact.map(millis)),
    ];
    let mut flags = 0;
    flags |= if config.key_index { CONFIG_KEY_INDEX } else { 0 };
    flags |= if config.volatile { CONFIG_VOLATILE } else { 0 };
    flags |= if config.apart { CONFIG_APART } else { 0 };
    flags |= parts.iter().filter(|(_, value)| value.is_some()).fold(0, |all, (flag, _)| all | flag);
    out.push(flags);
    put_bytes(out, config.label.as_bytes());
    for value in parts.iter().filter_map(|(_, value)| *value) {
        put_varint(out, value);
    }
}

pub(super) fn decode_config(from: &mut Decoder<'_>) -> Option<LogConfig> {
    let flags = from.u8()?;
    let label = from.text()?;
    let mut number = |flag: u8| {
        if flags & flag == 0 { Some(None) } else { from.varint().map(Some) }
    };
    let cleanup = Cleanup {
        max_age: number(CONFIG_MAX_AGE)?.map(Duration::from_millis),
        max_bytes: number(CONFIG_MAX_BYTES)?,
        max_records: number(CONFIG_MAX_RECORDS)?,
        compact: number(CONFIG_COMPACT)?.map(Duration::from_millis),
    };
    let volatile = flags & CONFIG_VOLATILE != 0;
    let (key_index, apart) = (flags & CONFIG_KEY_INDEX != 0, flags & CONFIG_APART != 0);
    Some(LogConfig { label, cleanup, key_index, volatile, apart })
}

/// Encodes a commit's targets: the payloads' lengths, then `count` operations, each with the payload number that it has on the disk.
pub(super) fn encode_targets<'a>(
    payloads: impl ExactSizeIterator<Item = u32>,
    count: usize,
    ops: impl Iterator<Item = (&'a Op, u32)>,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + 8 * payloads.len() + 16 * count);
    put_varint(&mut out, payloads.len() as u64);
    for len in payloads {
        put_varint(&mut out, u64::from(len));
    }
    put_varint(&mut out, count as u64);
    for (op, payload) in ops {
        op.encode(payload, &mut out);
    }
    out
}

/// What a frame's targets say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Targets {
    /// Length of each payload, in bytes.
    pub(super) payloads: Vec<u32>,
    pub(super) ops: Vec<Op>,
}

impl Targets {
    /// `None` if the bytes are not targets, or name payloads that are not there.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Decoder::new(bytes);
        let count = from.count(1)?;
        let payloads = (0..count).map(|_| from.varint_u32()).collect::<Option<Vec<_>>>()?;
        let count = from.count(1)?;
        let ops = (0..count).map(|_| Op::decode(&mut from)).collect::<Option<Vec<_>>>()?;
        let is_there = |op: &Op| match op {
            Op::Append(append) => (append.payload as usize) < payloads.len(),
            _ => true,
        };
        (from.remaining() == 0 && ops.iter().all(is_there)).then_some(Self { payloads, ops })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_back() {
        let cleanup = Cleanup {
            max_age: Some(Duration::from_secs(5)),
            max_bytes: None,
            max_records: Some(7),
            compact: Some(Duration::ZERO),
        };
        let config =
            LogConfig { label: "päyments".to_owned(), cleanup, key_index: true, volatile: false, apart: true };
        let log = LogId(300);
        let append = AppendOp { log, base: 1 << 40, count: 10, payload: 1, selection: None, weight: 77 };
        let ops = vec![
            Op::Create { log, config: config.clone() },
            Op::Configure { log, config },
            Op::Append(append.clone()),
            Op::Append(AppendOp { payload: 0, selection: Some(vec![0..1, 4..10]), ..append }),
            Op::Delete { log, ranges: vec![1..2, 9..1 << 50], weight: Some(3) },
            Op::Delete { log, ranges: vec![], weight: None },
            Op::Trim { log, to: 12 },
            Op::Remove { log },
            Op::Own { log, epoch: Epoch(9) },
            Op::Boot,
        ];
        let payload = |op: &Op| if let Op::Append(append) = op { append.payload } else { 0 };
        let bytes = encode_targets([100, 2000].into_iter(), ops.len(), ops.iter().map(|op| (op, payload(op))));
        assert_eq!(Targets::decode(&bytes), Some(Targets { payloads: vec![100, 2000], ops }));
        for cut in 0..bytes.len() {
            assert_eq!(Targets::decode(bytes.get(..cut).unwrap()), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_header_comes_back_and_its_checksum_covers_every_bit_of_it() {
        let targets = [1, 2, 3];
        let header = FrameHeader {
            seq: 5,
            round: 9,
            synced: 8,
            boot: 2,
            index: 1,
            frame_bytes: 72,
            targets_bytes: 3,
            payload_crc: 0xdead_beef,
            payload_bytes: 4,
            last_of_round: true,
        };
        let mut out = Vec::new();
        header.encode(&targets, &mut out);
        let good = |bytes: &[u8]| {
            FrameHeader::decode(bytes).is_some_and(|(_, crc)| crc == crc32c::crc32c(bytes.get(8..).unwrap_or_default()))
        };
        assert_eq!(FrameHeader::decode(&out).map(|(header, _)| header), Some(header));
        assert!(good(&out));
        for bit in 0..out.len() * 8 {
            let mut damaged = out.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!good(&damaged), "bit {bit}");
        }
    }
}
