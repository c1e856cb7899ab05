//! A data directory: write-ahead files, segments and checkpoints, as a start and `log verify` find them.
//!
//! The input is files: a byte of kind (the two lowest bits) and number, two bytes of length (little-endian), and the bytes themselves.
//! Checksums are not put right after a change: what carries a good one is believed, within what `log/tests/it/unknown_damage.rs` shows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use log::{DumpItem, EmbeddedLog, EmbeddedOptions, Live, Log, ReadLimit, dump};
use testkit::FaultDisk;
use types::{LogId, Offset};

use crate::memory::bounded;
use crate::record_batch::stored_crc;

/// What reading a directory may hold whatever is in it: read buffers and tables.
const BASE_BYTES: usize = 16 * 1024 * 1024;
/// And for each byte that is in it.
const TIMES: usize = 256;

/// A file's kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    WriteAhead,
    Segment,
    Checkpoint,
}

/// A damaged directory is told, never a panic; what is read has the checksum that it was written with; reading takes memory in
/// proportion to what is there; and an engine that starts on it has what was shown before, also after the next start.
///
/// # Panics
/// If one of that does not hold.
pub fn check(input: &[u8]) {
    let mut rest = input;
    let mut files = Vec::new();
    while let [kind, low, high, tail @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (file, after) = tail.split_at(len);
        rest = after;
        let number = u64::from(kind >> 2);
        let kind = match kind & 3 {
            0 => Kind::WriteAhead,
            1 => Kind::Segment,
            2 => Kind::Checkpoint,
            _ => continue,
        };
        files.push((kind, number, file.to_vec()));
    }
    check_files(files);
}

/// A directory's file in the form that [`check`] reads.
#[cfg(test)]
pub(crate) fn file(kind: Kind, number: u8, bytes: &[u8]) -> Vec<u8> {
    let kind = match kind {
        Kind::WriteAhead => 0,
        Kind::Segment => 1,
        Kind::Checkpoint => 2,
    };
    let len = u16::try_from(bytes.len()).expect("a seed's file is small").to_le_bytes();
    [&[number << 2 | kind], &len[..], bytes].concat()
}

pub(crate) fn path(kind: Kind, number: u64) -> String {
    match kind {
        Kind::WriteAhead => format!("wal/{number:08}.wal"),
        Kind::Segment => format!("segments/{number:08}.seg"),
        Kind::Checkpoint => format!("checkpoint-{number:08}"),
    }
}

pub(crate) fn options() -> EmbeddedOptions {
    EmbeddedOptions {
        threads: false,
        wal_file_bytes: 4096,
        wal_files: 2,
        recent_bytes: 0,
        own_segment_bytes: 1024,
        ..EmbeddedOptions::default()
    }
}

pub(crate) fn check_files(files: Vec<(Kind, u64, Vec<u8>)>) {
    let disk = FaultDisk::new();
    disk.put("FORMAT", format()).expect("the disk is in memory");
    let mut bytes = 0;
    for (kind, number, file) in files {
        bytes += file.len();
        disk.put(path(kind, number), &file).expect("the disk is in memory");
    }
    let Some(first) = bounded(bytes, BASE_BYTES, TIMES, || show(&disk)) else { return };
    let Ok(engine) = EmbeddedLog::open(Arc::new(disk.clone()), options()) else { return };
    let logs = first.iter().map(|(id, shown)| (*id, shown.batches.clone())).collect();
    assert_eq!(read_all(&engine), logs, "a start finds what was shown");
    drop(engine);
    let again = show(&disk).expect("what started once is shown again");
    assert_eq!(again, first, "a start keeps what it found");
}

/// What `FORMAT` holds in every directory of this version.
fn format() -> &'static [u8] {
    static FORMAT: OnceLock<Vec<u8>> = OnceLock::new();
    FORMAT.get_or_init(|| {
        let disk = FaultDisk::new();
        drop(EmbeddedLog::open(Arc::new(disk.clone()), options()).expect("an empty disk"));
        disk.contents("FORMAT").expect("every directory has it")
    })
}

/// What is live in a log: batches by their base offset, with their live records; `None` if some of it cannot be read.
type Batches = Option<Vec<(Offset, Vec<u8>, String)>>;

/// A log as a directory shows it.
#[derive(Debug, PartialEq)]
struct Shown {
    batches: Batches,
    is_read_only: bool,
}

/// All that can be read of the directory; `None` if it cannot be opened.
fn show(disk: &FaultDisk) -> Option<BTreeMap<LogId, Shown>> {
    let mut logs: BTreeMap<LogId, Batches> = BTreeMap::new();
    let mut last = None;
    let shown = dump(Arc::new(disk.clone()), &mut |item| match item {
        DumpItem::Log(log) => {
            last = Some(log.id);
            logs.insert(log.id, Some(Vec::new()));
        }
        DumpItem::Batch(entry) => {
            let batch = sound(entry.base, &entry.batch.bytes(), &entry.live);
            let batches = last.and_then(|log| logs.get_mut(&log)).expect("a log comes before its batches");
            if let Some(batches) = batches {
                batches.push(batch);
            }
        }
        DumpItem::Damage(_) => logs.extend(last.map(|log| (log, None))),
    });
    let report = shown.ok()?;
    let read_only: BTreeSet<LogId> = report.logs.iter().filter(|log| log.damage.is_some()).map(|log| log.id).collect();
    let shown = |(id, batches)| (id, Shown { batches, is_read_only: read_only.contains(&id) });
    Some(logs.into_iter().map(shown).collect())
}

/// A batch with its checksum looked at.
fn sound(base: Offset, batch: &[u8], live: &Live) -> (Offset, Vec<u8>, String) {
    let crc = batch.get(21..).map(crc32c::crc32c);
    assert_eq!(stored_crc(batch), crc, "a batch with a wrong checksum at {base}");
    (base, batch.to_vec(), format!("{live:?}"))
}

fn read_all(engine: &EmbeddedLog) -> BTreeMap<LogId, Batches> {
    let limit = ReadLimit { bytes: usize::MAX, records: usize::MAX, before: Offset(u64::MAX) };
    let read = |log| {
        let mut batches = Vec::new();
        let mut from = Offset(0);
        loop {
            let entries = engine.read(log, from, limit).ok()?;
            let Some(end) = entries.last().map(log::Entry::end) else { return Some(batches) };
            from = end;
            batches.extend(entries.iter().map(|entry| sound(entry.base, &entry.batch.bytes(), &entry.live)));
        }
    };
    engine.logs().into_iter().map(|log| (log, read(log))).collect()
}
