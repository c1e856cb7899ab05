//! Looking at a data directory without running it.

use std::sync::Arc;

use log::{DumpItem, EmbeddedLog, EmbeddedOptions, FilePurpose, Log, dump, verify};
use testkit::{CrashStyle, FaultDisk};
use types::{LogId, Offset};

use crate::crash::{commit, options};
use crate::suite::{append, config, create_as, delete, live_values};

/// A directory with segments and a write-ahead log, and how many records its first log has.
fn filled() -> (FaultDisk, usize) {
    let disk = FaultDisk::new();
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), EmbeddedOptions { wal_files: 3, ..options() }).unwrap();
    let labelled = |label: &str| log::LogConfig { label: label.to_owned(), ..config() };
    commit(&engine, [create_as(LogId(1), labelled("payments")), create_as(LogId(2), labelled("orders"))]);
    for at in 0..100u32 {
        commit(&engine, [append(LogId(1), &[&format!("{at} {}", "x".repeat(100))])]);
        commit(&engine, [append(LogId(2), &["a", "b"])]);
        if at % 4 == 0 {
            commit(&engine, [delete(LogId(1), &[u64::from(at)..u64::from(at) + 1])]);
        }
        engine.run_maintenance();
    }
    drop(engine);
    disk.settle();
    (disk, 75)
}

#[test]
fn verify_lists_logs_and_files_and_changes_nothing() {
    let (disk, records) = filled();
    let operations = disk.operations();
    let report = verify(Arc::new(disk.clone())).unwrap();
    assert_eq!(disk.operations(), operations, "nothing was changed");
    assert_eq!((&report.faults[..], &report.notes[..]), (&[][..], &[][..]));
    let labels: Vec<_> = report.logs.iter().map(|log| (log.id.0, log.config.label.as_str())).collect();
    assert_eq!(labels, [(1, "payments"), (2, "orders")]);
    let first = &report.logs[0];
    assert_eq!((first.state.records, first.state.end), (records as u64, Offset(100)));
    assert!(!first.segments.is_empty() && first.wal_batches > 0, "{first:?}");
    let count = |wanted: fn(&FilePurpose) -> bool| report.files.iter().filter(|file| wanted(&file.purpose)).count();
    assert!(count(|purpose| matches!(purpose, FilePurpose::WriteAhead { .. })) >= 2, "{:?}", report.files);
    assert!(count(|purpose| *purpose == FilePurpose::Segment) > 0);
    assert_eq!(count(|purpose| *purpose == FilePurpose::Checkpoint), 2);
}

#[test]
fn dump_shows_every_live_record_and_goes_on_behind_damage() {
    let (disk, records) = filled();
    let count = |disk: &FaultDisk| {
        let (mut seen, mut damage, mut log) = (0, Vec::new(), LogId(0));
        let report = dump(Arc::new(disk.clone()), &mut |item| match item {
            DumpItem::Log(report) => log = report.id,
            DumpItem::Batch(entry) if log == LogId(1) => seen += live_values(entry).len(),
            DumpItem::Batch(_) => {}
            DumpItem::Damage(error) => damage.push(error.to_string()),
        });
        (seen, damage, report.unwrap())
    };
    assert_eq!(count(&disk).0, records);
    let segment = count(&disk).2.logs[0].segments[0].clone();
    let bytes = disk.contents(&segment).unwrap();
    let at = bytes.windows(20).position(|window| window == [b'x'; 20]).unwrap();
    let image = disk.crash_image(CrashStyle::Kept, 0);
    image.corrupt(&segment, at as u64).unwrap();
    let (seen, damage, report) = count(&image);
    assert_eq!((seen, damage.len()), (records - 1, 1), "{damage:?}");
    assert_eq!(report.faults.len(), 1);
    assert_eq!(report.faults[0].logs, [LogId(1)]);
    assert!(report.faults[0].place.starts_with(&format!("{} at byte ", segment.display())), "{:?}", report.faults);
    assert!(report.logs[0].damage.is_some() && report.logs[1].damage.is_none());
}

#[test]
fn what_is_no_data_directory_is_told_apart_from_an_empty_one() {
    let disk = FaultDisk::new();
    assert!(verify(Arc::new(disk.clone())).unwrap().logs.is_empty());
    disk.put("wal/00000001.wal", b"something").unwrap();
    let text = verify(Arc::new(disk.clone())).unwrap_err().to_string();
    assert!(text.contains("wal/00000001.wal but no FORMAT file"), "{text}");
    disk.put("FORMAT", b"posthouse log 7\n").unwrap();
    let text = EmbeddedLog::open(Arc::new(disk), options()).err().unwrap().to_string();
    assert!(text.contains("posthouse log 7") && text.contains("posthouse log 1"), "{text}");
}

#[test]
fn a_damaged_checkpoint_is_left_aside_for_the_one_before() {
    let (disk, records) = filled();
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options()).unwrap();
    engine.close();
    drop(engine);
    let newest =
        verify(Arc::new(disk.clone())).unwrap().files.into_iter().rfind(|file| file.purpose == FilePurpose::Checkpoint);
    disk.corrupt(newest.unwrap().path, 100).unwrap();
    let report = verify(Arc::new(disk.clone())).unwrap();
    assert_eq!((report.notes.len(), report.faults.len()), (1, 0), "{:?}", report.notes);
    let engine = EmbeddedLog::open(Arc::new(disk), options()).unwrap();
    assert_eq!(engine.state(LogId(1)).unwrap().records, records as u64);
}
