//! Data directories that earlier versions wrote are read by this one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use log::{DumpItem, EmbeddedLog, EmbeddedOptions, FileDisk, Log, LogConfig, Operation, dump};
use testkit::FaultDisk;
use types::{LogId, Offset};

use crate::crash::{commit, options};
use crate::suite::{
    EVERYTHING, T0, append, append_batch, append_selected, batch_at, config, create, create_as, delete,
    delete_weighing, keyed, live_values, remove, target, trim,
};

fn directory(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(version)
}

/// The fixture's files on a disk of their own, so that a start may write to it.
fn load(version: &str) -> FaultDisk {
    let disk = FaultDisk::new();
    let root = directory(version);
    for part in ["", "wal", "segments"] {
        for entry in std::fs::read_dir(root.join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                disk.put(path.strip_prefix(&root).unwrap(), &std::fs::read(&path).unwrap()).unwrap();
            }
        }
    }
    disk
}

#[test]
fn version_1_is_read() {
    let disk = load("v1");
    let mut shown = String::new();
    let report = dump(Arc::new(disk.clone()), &mut |item| match item {
        DumpItem::Log(log) => {
            let label = &log.config.label;
            shown +=
                &format!("{} {label}: {}..{}, {} live\n", log.id, log.state.start, log.state.end, log.state.records);
        }
        DumpItem::Batch(entry) => {
            for (offset, value) in live_values(entry) {
                shown += &format!("  {offset} {}\n", value.get(..12).unwrap_or(&value));
            }
        }
        DumpItem::Damage(error) => shown += &format!("  {error}\n"),
    });
    let report = report.unwrap();
    assert_eq!((report.faults, report.notes), (vec![], vec![]));
    assert_eq!(shown, std::fs::read_to_string(directory("v1").join("expected.txt")).unwrap());
    // And it goes on from there.
    let engine = EmbeddedLog::open(Arc::new(disk), options()).unwrap();
    assert_eq!(engine.key(LogId(3), b"a").unwrap().map(|key| (key.first, key.count)), Some((Offset(5), 1)));
    assert!(engine.open(&[LogId(2)])[0].is_err(), "removed");
    let epoch = engine.open(&[LogId(1)])[0].as_ref().unwrap().epoch;
    assert!(epoch.0 >= 3, "taken over once before: {epoch}");
    assert_eq!(engine.read(LogId(1), Offset(0), EVERYTHING).unwrap().len(), 41);
}

/// Writes the fixture anew: `POSTHOUSE_FIXTURE=DIR cargo test -p log --test it write_fixture -- --ignored`.
#[test]
#[ignore = "makes a fixture; versions that were released are never written again"]
fn write_fixture() {
    let Ok(root) = std::env::var("POSTHOUSE_FIXTURE") else { return };
    let disk = Arc::new(FileDisk::open(root).unwrap());
    let open = || EmbeddedLog::open(disk.clone(), EmbeddedOptions { wal_file_bytes: 8192, ..options() }).unwrap();
    let engine = open();
    let (one, two, three) = (LogId(1), LogId(2), LogId(3));
    let label = |label: &str| LogConfig { label: label.to_owned(), ..config() };
    commit(&engine, [create_as(one, label("payments")), create_as(two, label("gone"))]);
    commit(&engine, [create_as(three, LogConfig { key_index: true, ..label("keys") })]);
    for at in 0..60u32 {
        let text = format!("{at:04} {}", "x".repeat(300));
        commit(&engine, [append_batch(one, batch_at(T0 + i64::from(at), &[&text])), append(two, &["elsewhere"])]);
        if at % 3 == 0 {
            commit(&engine, [delete_weighing(one, &[u64::from(at)..u64::from(at) + 1], 0)]);
        }
        engine.run_maintenance();
    }
    commit(&engine, [remove(two)]);
    commit(&engine, [append_batch(three, keyed(T0, &["a=1", "b=1", "c=1"]))]);
    commit(&engine, [append_selected(three, keyed(T0, &["x=1", "b=2", "a=2"]), &[1..3]), create(LogId(9))]);
    commit(&engine, [delete(three, &[0..1]), trim(one, 1), target(LogId(9), Operation::Remove)]);
    engine.run_maintenance();
    drop(engine);
    let engine = open();
    let epoch = engine.open(&[one])[0].as_ref().unwrap().epoch;
    commit(&engine, [crate::suite::under(epoch, append(one, &["after a start"]))]);
}
