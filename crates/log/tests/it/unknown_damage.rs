//! Damage of which nobody can say whose it was: what a start makes of it, and the next one again.

use std::sync::Arc;

use fastrand::Rng;
use log::{EmbeddedLog, Fault, Log, verify};
use testkit::{CrashStyle, FaultDisk};
use types::LogId;

use crate::crash::{Model, check_damaged, commit, contents_of, files_of, options, settled};
use crate::suite::{append, create};

/// Bytes of a write-ahead file's header.
const HEADER_BYTES: usize = 64;

/// What a start says of a directory.
#[derive(Debug, PartialEq)]
struct Start {
    faults: Vec<Fault>,
    contents: Model,
    unreadable: Vec<LogId>,
    read_only: Vec<LogId>,
}

fn start(disk: &FaultDisk) -> Option<Start> {
    let report = verify(Arc::new(disk.clone())).expect("the disk is in memory");
    let read_only = report.logs.iter().filter(|log| log.damage.is_some()).map(|log| log.id).collect();
    // Nothing is written but the start's own frame: to take a log over would be a frame more.
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options()).ok()?;
    let (mut contents, mut unreadable) = (Model::new(), Vec::new());
    let mut logs = engine.logs();
    logs.sort_unstable();
    for log in &logs {
        match contents_of(&engine, *log) {
            Ok(found) => drop(contents.insert(*log, found)),
            Err(_) => unreadable.push(*log),
        }
    }
    Some(Start { faults: report.faults, contents, unreadable, read_only })
}

/// Damages headers and frames of write-ahead files here and there, and starts three times.
fn check(seed: u64, image: &FaultDisk, models: [&Model; 2]) -> bool {
    let mut rng = Rng::with_seed(seed);
    let wal: Vec<_> = files_of(image).into_iter().filter(|path| path.starts_with("wal")).collect();
    let in_use = |path: &&std::path::PathBuf| image.contents(path).unwrap().starts_with(b"PHWALOG\n");
    let used: Vec<_> = wal.iter().filter(in_use).collect();
    for _ in 0..rng.usize(1..3) {
        image.corrupt(rng.choice(&used).unwrap(), rng.u64(0..HEADER_BYTES as u64)).unwrap();
    }
    for _ in 0..rng.usize(1..6) {
        let path = rng.choice(&used).unwrap();
        let frames: Vec<usize> = frames_of(&image.contents(path).unwrap());
        // The frame's header or targets, or what follows.
        let Some(frame) = rng.choice(&frames) else { continue };
        image.corrupt(path, (frame + rng.usize(0..120)) as u64).unwrap();
    }
    check_damaged(&image.crash_image(CrashStyle::Kept, 0), models);
    let Some(first) = start(image) else { return false };
    for _ in 0..2 {
        assert_eq!(start(image).as_ref(), Some(&first), "seed {seed}");
    }
    !first.faults.is_empty()
}

fn frames_of(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len().saturating_sub(120)).step_by(8).filter(|at| bytes[*at..].starts_with(b"PHFP")).collect()
}

#[test]
fn a_start_keeps_what_the_one_before_it_told_of_damaged_headers_and_frames() {
    let (disk, without_last, whole) = settled();
    let damaged =
        (0..300).filter(|seed| check(*seed, &disk.crash_image(CrashStyle::Kept, 0), [&without_last, &whole])).count();
    assert!(damaged > 50, "{damaged} of 300 starts told of damage");
}

/// The frame that shows that those before it were synced is damaged itself, but for its header: it is a torn tail, and the start's own frame is
/// written over it.
#[test]
fn what_a_torn_frame_shows_is_not_forgotten_when_it_is_written_over() {
    let disk = FaultDisk::new();
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options()).unwrap();
    let log = LogId(1);
    for operation in [create(log), append(log, &["one"]), append(log, &["two"])] {
        commit(&engine, [operation]);
    }
    drop(engine);
    let path = "wal/00000001.wal";
    let frames = frames_of(&disk.contents(path).unwrap());
    let [.., second, third] = frames[..] else { panic!("{frames:?}") };
    disk.corrupt(path, (second + 20) as u64).unwrap();
    let bytes = disk.contents(path).unwrap();
    let last = bytes[third..].windows(3).position(|window| window == b"two").unwrap();
    disk.corrupt(path, (third + last) as u64).unwrap();
    let first = start(&disk).unwrap();
    assert_eq!(first.read_only, [log], "{first:?}");
    assert_eq!(start(&disk).unwrap(), first);
    assert_eq!(start(&disk).unwrap(), first);
}

/// Frames with good checksums that claim any number of offsets: what they claim is not walked offset by offset.
#[test]
fn billions_of_offsets_that_a_frame_claims_are_stepped_over() {
    const COUNT_OF_BILLIONS: [u8; 5] = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let disk = FaultDisk::new();
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options()).unwrap();
    let log = LogId(1);
    commit(&engine, [create(log)]);
    commit(&engine, [append(log, &["one"])]);
    drop(engine);
    let path = "wal/00000001.wal";
    let mut bytes = disk.contents(path).unwrap();
    let [.., last] = frames_of(&bytes)[..] else { panic!("no frame") };
    let word = |at: usize| u32::from_le_bytes(bytes[last + at..last + at + 4].try_into().unwrap()) as usize;
    let (frame_bytes, targets_bytes, payload_bytes) = (word(40), word(44), word(52));
    let payload = bytes[last + 64 + targets_bytes..][..payload_bytes].to_vec();
    let mut end = last + frame_bytes;
    let mut header: Vec<u8> = bytes[last..last + 64].to_vec();
    let round = u64::from_le_bytes(header[16..24].try_into().unwrap());
    // Two appends of 2^32 - 1 offsets with one record each, and one that skips 2^49 offsets.
    let far: &[u8] = &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
    let bases: [&[u8]; 3] = [&[1], &[0x80, 0x80, 0x80, 0x80, 0x10], far];
    for (number, base) in bases.into_iter().enumerate() {
        let mut targets = vec![1, u8::try_from(payload.len()).unwrap(), 1, 3, 1];
        targets.extend_from_slice(base);
        targets.extend_from_slice(&COUNT_OF_BILLIONS);
        targets.extend_from_slice(&[0, 0]);
        let whole = (64 + targets.len() + payload.len()).next_multiple_of(8);
        header[16..24].copy_from_slice(&(round + 1 + number as u64).to_le_bytes());
        header[40..44].copy_from_slice(&u32::try_from(whole).unwrap().to_le_bytes());
        header[44..48].copy_from_slice(&u32::try_from(targets.len()).unwrap().to_le_bytes());
        let mut frame = [&header[..], &targets].concat();
        let crc = crc32c::crc32c(&frame[8..]);
        frame[4..8].copy_from_slice(&crc.to_le_bytes());
        frame.extend_from_slice(&payload);
        bytes[end..end + frame.len()].copy_from_slice(&frame);
        end += whole;
    }
    disk.put(path, &bytes).unwrap();
    let report = verify(Arc::new(disk.clone())).unwrap();
    assert_eq!(report.logs[0].state.end.0, (1 << 32) + (u64::from(u32::MAX)), "{report:?}");
    let whats: Vec<&str> = report.faults.iter().map(|fault| fault.what.as_str()).collect();
    let skips =
        format!("an append skips {} offsets, more than can be lost", (1u64 << 49) - (1 << 32) - u64::from(u32::MAX));
    let spans = "the batch has other offsets than the 4294967295 that it was given";
    assert_eq!(whats, [skips.as_str(), spans, spans]);
    assert_eq!(start(&disk), start(&disk));
}
