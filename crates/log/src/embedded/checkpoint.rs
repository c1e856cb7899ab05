//! The state of all logs at a place of the write-ahead log, in one file. Drawn in docs/formats/checkpoint.md.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use roaring::RoaringTreemap;
use types::disk::Disk;
use types::{Epoch, LogId};

use super::codec::{Decoder, put_bytes, put_varint};
use super::dead::DeadSet;
use super::error::StartError;
use super::frame::{decode_config, encode_config};
use super::log_data::{Extent, LogData};
use super::published::{Position, Published};
use super::read::place_of;
use super::segment::read_exact;
use crate::{Fault, LogConfig};

const MAGIC: &[u8; 8] = b"PHCHECK\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
const NAME: &str = "checkpoint-";
const TEMPORARY: &str = "checkpoint.tmp";
/// The data directory itself.
pub(super) const ROOT: &str = "";

/// What a checkpoint is made from: shares what is large with the running engine.
pub(super) struct Snapshot {
    boot: u32,
    position: Position,
    oldest_seq: u64,
    next_segment: u64,
    removed: RoaringTreemap,
    faults: Vec<Fault>,
    logs: Vec<LogSnapshot>,
}

struct LogSnapshot {
    id: LogId,
    config: Arc<LogConfig>,
    epoch: Epoch,
    start: u64,
    end: u64,
    records: u64,
    weight: u64,
    last_ts: Option<i64>,
    damage: Option<String>,
    dead: DeadSet,
    extents: Vec<Extent>,
}

impl Snapshot {
    /// Takes the state as it is. The position's file must be synced up to there before the checkpoint is written.
    pub(super) fn take(published: &Published, boot: u32) -> Self {
        let log = |id: LogId, data: &LogData| LogSnapshot {
            id,
            config: data.config.clone(),
            epoch: data.epoch,
            start: data.start,
            end: data.end,
            records: data.records,
            weight: data.weight,
            last_ts: data.last_ts,
            damage: data.damage.clone(),
            dead: data.dead.clone(),
            extents: data.extents.iter().copied().collect(),
        };
        Self {
            boot,
            position: published.position,
            oldest_seq: published.oldest_seq,
            next_segment: published.next_segment,
            removed: published.removed.clone(),
            faults: published.faults.clone(),
            logs: published
                .logs
                .iter()
                .filter(|(_, data)| !data.config.volatile)
                .map(|(id, data)| log(*id, data))
                .collect(),
        }
    }

    /// The write-ahead file that must be kept, and all after it.
    pub(super) fn oldest_seq(&self) -> u64 {
        self.oldest_seq
    }

    /// Whether an extent of this segment is in it.
    pub(super) fn segments(&self) -> impl Iterator<Item = u64> + '_ {
        self.logs.iter().flat_map(|log| log.extents.iter().map(|extent| extent.segment))
    }

    /// How far the write-ahead log is in it.
    pub(super) fn position(&self) -> Position {
        self.position
    }

    /// Logs, and live records of all of them.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.logs.len() as u64, self.logs.iter().fold(0, |sum, log| sum.saturating_add(log.records)))
    }

    /// What is damaged, in words.
    pub(super) fn faults(&self) -> impl Iterator<Item = String> + '_ {
        self.faults.iter().map(|fault| format!("{}: {}", fault.place, fault.what))
    }

    /// The checkpoint's bytes.
    pub(super) fn encode(mut self) -> Vec<u8> {
        let mut body = Vec::new();
        put_varint(&mut body, u64::from(self.boot));
        for word in [self.position.seq, self.position.pos, self.position.round, self.oldest_seq, self.next_segment] {
            put_varint(&mut body, word);
        }
        self.removed.optimize();
        put_set(&mut body, &self.removed);
        put_varint(&mut body, self.faults.len() as u64);
        for fault in &self.faults {
            put_bytes(&mut body, fault.place.as_bytes());
            put_bytes(&mut body, fault.what.as_bytes());
            put_varint(&mut body, fault.logs.len() as u64);
            fault.logs.iter().for_each(|log| put_varint(&mut body, log.0));
        }
        self.logs.sort_unstable_by_key(|log| log.id);
        put_varint(&mut body, self.logs.len() as u64);
        for log in &self.logs {
            log.encode(&mut body);
        }
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        out.extend_from_slice(&(body.len() as u64).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    /// Writes the checkpoint under this number and makes it durable.
    ///
    /// # Errors
    /// The operating system's; the checkpoints before it are as they were.
    pub(super) fn write(self, disk: &dyn Disk, number: u64) -> io::Result<()> {
        let bytes = self.encode();
        let temporary = Path::new(TEMPORARY);
        let file = disk.open(temporary, true)?;
        file.set_len(0)?;
        file.write_at(&[IoSlice::new(&bytes)], 0)?;
        file.sync_data()?;
        drop(file);
        disk.rename(temporary, &path_of(number))?;
        disk.sync_dir(Path::new(ROOT))
    }
}

impl LogSnapshot {
    fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.id.0);
        encode_config(&self.config, out);
        for word in [u64::from(self.epoch.0), self.start, self.end, self.records, self.weight] {
            put_varint(out, word);
        }
        let flags = u8::from(self.last_ts.is_some())
            | u8::from(self.damage.is_some()) << 1
            | u8::from(!self.dead.set().is_empty()) << 2;
        out.push(flags);
        if let Some(ts) = self.last_ts {
            out.extend_from_slice(&ts.to_le_bytes());
        }
        if let Some(damage) = &self.damage {
            put_bytes(out, damage.as_bytes());
        }
        if !self.dead.set().is_empty() {
            let mut dead = self.dead.set().clone();
            dead.optimize();
            put_set(out, &dead);
        }
        put_varint(out, self.extents.len() as u64);
        for extent in &self.extents {
            for word in [extent.segment, extent.base, extent.end, extent.pos, extent.len, extent.records] {
                put_varint(out, word);
            }
            out.extend_from_slice(&extent.min_ts.to_le_bytes());
            out.extend_from_slice(&extent.max_ts.to_le_bytes());
        }
    }

    fn decode(from: &mut Decoder<'_>) -> Option<(LogId, LogData)> {
        let id = LogId(from.varint()?);
        let mut data = LogData::new(decode_config(from)?);
        data.epoch = Epoch(from.varint_u32()?);
        (data.start, data.end) = (from.varint()?, from.varint()?);
        (data.records, data.weight) = (from.varint()?, from.varint()?);
        let flags = from.u8()?;
        data.last_ts = if flags & 1 != 0 { Some(from.i64()?) } else { None };
        data.damage = if flags & 2 != 0 { Some(from.text()?) } else { None };
        if flags & 4 != 0 {
            data.dead = DeadSet::new(take_set(from)?);
        }
        let extents = from.count(22)?;
        for _ in 0..extents {
            let extent = Extent {
                segment: from.varint()?,
                base: from.varint()?,
                end: from.varint()?,
                pos: from.varint()?,
                len: from.varint()?,
                records: from.varint()?,
                min_ts: from.i64()?,
                max_ts: from.i64()?,
            };
            extent.pos.checked_add(extent.len)?;
            data.bytes = data.bytes.checked_add(extent.len)?;
            data.extents.push_back(extent);
        }
        (data.start <= data.end).then_some((id, data))
    }
}

fn put_set(out: &mut Vec<u8>, set: &RoaringTreemap) {
    put_varint(out, set.serialized_size() as u64);
    // Writing to memory cannot fail.
    let _ = set.serialize_into(&mut *out);
}

fn take_set(from: &mut Decoder<'_>) -> Option<RoaringTreemap> {
    RoaringTreemap::deserialize_from(from.bytes()?).ok()
}

pub(super) fn path_of(number: u64) -> PathBuf {
    PathBuf::from(format!("{NAME}{number:08}"))
}

/// The number in a checkpoint's name.
pub(super) fn number_of(path: &Path) -> Option<u64> {
    path.to_str()?.strip_prefix(NAME)?.parse().ok()
}

/// The numbers of the checkpoints that are there, the newest first.
///
/// # Errors
/// The operating system's.
pub(super) fn list(disk: &dyn Disk) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = disk.list(Path::new(ROOT))?.iter().filter_map(|path| number_of(path)).collect();
    numbers.sort_unstable();
    numbers.reverse();
    Ok(numbers)
}

/// The newest checkpoint that is good.
pub(super) struct Loaded {
    pub(super) published: Published,
    pub(super) boot: u32,
    /// The newest number, whether good or not.
    pub(super) number: u64,
    /// Checkpoints that are not good. They harm nobody if an older one and the write-ahead log from there are still here.
    pub(super) bad: Vec<Fault>,
}

/// Loads the newest good checkpoint; without any, the state is empty and the write-ahead log begins with file 1.
///
/// # Errors
/// The operating system's.
pub(super) fn load(disk: &dyn Disk, recent_bytes: u64) -> Result<Loaded, StartError> {
    let numbers = list(disk).map_err(|error| StartError::io("the data directory", &error))?;
    let newest = numbers.first().copied().unwrap_or(0);
    let mut bad = Vec::new();
    for number in numbers {
        let path = path_of(number);
        let bytes = read_whole(disk, &path).map_err(|error| StartError::io(&path.display().to_string(), &error))?;
        match decode(&bytes, recent_bytes) {
            Some((published, boot)) => return Ok(Loaded { published, boot, number: newest, bad }),
            None => {
                let (place, what) = match missing_end(&bytes) {
                    Some(len) => {
                        (place_of(&path, bytes.len() as u64), format!("the file ends here, {len} bytes were expected"))
                    }
                    None => (path.display().to_string(), "the checkpoint is damaged".to_owned()),
                };
                bad.push(Fault { place, what, logs: Vec::new() });
            }
        }
    }
    Ok(Loaded { published: Published::new(recent_bytes), boot: 0, number: newest, bad })
}

fn read_whole(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let file = disk.open(path, false)?;
    let len = usize::try_from(file.len_bytes()?).map_err(io::Error::other)?;
    read_exact(file.as_ref(), 0, len)
}

/// The length that a checkpoint should have, if it is shorter.
fn missing_end(bytes: &[u8]) -> Option<u64> {
    let len = bytes.get(16..HEADER_BYTES).and_then(|len| Decoder::new(len).u64()).unwrap_or(0);
    let whole = (HEADER_BYTES as u64).checked_add(len)?;
    ((bytes.len() as u64) < whole).then_some(whole)
}

fn decode(bytes: &[u8], recent_bytes: u64) -> Option<(Published, u32)> {
    let mut from = Decoder::new(bytes);
    if from.take(8)? != MAGIC || from.u32()? != VERSION {
        return None;
    }
    let (crc, len) = (from.u32()?, from.u64()?);
    let body = from.take(usize::try_from(len).ok()?)?;
    if from.remaining() != 0 || crc32c::crc32c(body) != crc {
        return None;
    }
    let mut from = Decoder::new(body);
    let mut published = Published::new(recent_bytes);
    let boot = from.varint_u32()?;
    published.position = Position { seq: from.varint()?, pos: from.varint()?, round: from.varint()? };
    (published.oldest_seq, published.next_segment) = (from.varint()?, from.varint()?);
    published.removed = take_set(&mut from)?;
    for _ in 0..from.count(3)? {
        let (place, what) = (from.text()?, from.text()?);
        let count = from.count(1)?;
        let logs = (0..count).map(|_| from.varint().map(LogId)).collect::<Option<_>>()?;
        published.faults.push(Fault { place, what, logs });
    }
    for _ in 0..from.count(10)? {
        let (id, data) = LogSnapshot::decode(&mut from)?;
        published.logs.insert(id, Box::new(data));
    }
    (from.remaining() == 0).then_some((published, boot))
}
