//! Backups of a running engine: what is in them, what they hold meanwhile, and what is refused.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fastrand::Rng;
use log::{
    ArchiveError, Backup, BackupError, Checked, Cleanup, CommitOutcome, EmbeddedLog, EmbeddedOptions, FilePurpose, Log,
    LogConfig, MemoryLog, ReadLimit, RestoreError, StartError, Target, check_backup, restore_backup, verify,
};
use testkit::{CrashStyle, FaultDisk};
use types::disk::Disk;
use types::{LogId, Offset, Timestamp};

use crate::crash::{Model, Script, Step, check_image, commit, contents_of, drive, model_of, options, start};
use crate::suite::{A, B, EVERYTHING, T0, append, config, create, create_as, delete, ended, for_seeds, live_values};

const NOW: Timestamp = Timestamp(T0);

/// Reads so much more of a backup; says whether it has ended.
fn read_on(backup: &mut dyn Backup, most: usize, into: &mut Vec<u8>) -> Result<bool, BackupError> {
    let mut buffer = vec![0; most];
    let got = backup.read(&mut buffer)?;
    into.extend_from_slice(&buffer[..got]);
    Ok(got == 0)
}

fn read_all(mut backup: Box<dyn Backup>) -> Vec<u8> {
    let mut archive = Vec::new();
    while !read_on(backup.as_mut(), 10_000, &mut archive).unwrap() {}
    assert_eq!(archive.len() as u64, backup.len_bytes(), "the size is known from the start");
    archive
}

fn restore(archive: &[u8], disk: &FaultDisk) -> Result<Checked, RestoreError> {
    restore_backup(archive, disk, &mut |_, _| {})
}

fn check(archive: &[u8]) -> Result<Checked, ArchiveError> {
    check_backup(archive, &mut |_, _| {})
}

/// What `tar x` makes of an archive.
fn unpack(archive: &[u8]) -> FaultDisk {
    let disk = FaultDisk::new();
    for directory in ["wal", "segments"] {
        disk.create_dir(directory.as_ref()).unwrap();
    }
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        disk.put(entry.path().unwrap(), &content).unwrap();
    }
    disk
}

/// A small engine with segments, a write-ahead log and what is dead.
fn filled(disk: &FaultDisk) -> EmbeddedLog {
    let options = EmbeddedOptions { reserve_bytes: Some(1000), ..options() };
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options).unwrap();
    commit(&engine, [create(A), create(B)]);
    for at in 0..60u64 {
        commit(&engine, [append(A, &[&format!("{at} {}", "x".repeat(100))]), append(B, &["b"])]);
        if at % 3 == 0 {
            commit(&engine, [delete(A, &[at..at + 1])]);
        }
        engine.run_maintenance();
    }
    engine
}

/// Once a copy has ended, upkeep leaves nothing on the disk that the engine has no use for.
#[track_caller]
fn nothing_is_held(engine: &EmbeddedLog, disk: &FaultDisk) {
    engine.run_maintenance();
    engine.run_maintenance();
    let state = engine.engine_state();
    assert_eq!(state.backup, None);
    let segments = disk.list("segments".as_ref()).unwrap();
    assert_eq!(segments.len() as u64, state.segments, "{segments:?}");
    let wal = disk.list("wal".as_ref()).unwrap();
    assert!(wal.len() as u64 <= state.wal_files + 2, "{wal:?}, {} in use", state.wal_files);
}

#[test]
fn a_backup_is_the_state_at_its_beginning_whatever_happens_while_it_is_read() {
    for_seeds(60, |seed| {
        let (script, mut rng) = (Script::new(seed, 120), Rng::with_seed(seed));
        let disk = FaultDisk::new();
        let engine = EmbeddedLog::open(Arc::new(disk.clone()), options()).unwrap();
        let (confirmed, begin_at) = (Arc::new(AtomicU64::new(0)), rng.usize(..script.steps.len()));
        // Some readers take their time: all that the copy is of falls out of use first.
        let speed = *rng.choice(&[1, 100, 3000]).unwrap();
        let mut copy = None;
        for (at, step) in script.steps.iter().enumerate() {
            match step {
                Step::Commit(commit) => {
                    let confirmed = confirmed.clone();
                    let done = move |outcome| {
                        assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
                        confirmed.fetch_add(1, Ordering::Relaxed);
                    };
                    engine.commit(commit.clone(), Box::new(done));
                }
                Step::Round => drive(&engine),
                Step::Maintain => engine.run_maintenance(),
            }
            if at == begin_at {
                let commits = confirmed.load(Ordering::Relaxed) as usize;
                copy = Some((engine.backup(NOW).unwrap(), Vec::new(), commits));
            }
            if let Some((backup, archive, _)) = &mut copy {
                read_on(backup.as_mut(), rng.usize(0..speed), archive).unwrap();
            }
        }
        let (mut backup, mut archive, commits) = copy.unwrap();
        while !read_on(backup.as_mut(), rng.usize(1..5000), &mut archive).unwrap() {}
        drop(backup);
        nothing_is_held(&engine, &disk);
        assert_eq!(model_of(&engine).unwrap(), *script.models.last().unwrap(), "the original goes on");

        let restored = FaultDisk::new();
        let checked = restore(&archive, &restored).unwrap();
        assert_eq!(checked, check(&archive).unwrap());
        assert_eq!(checked.manifest.created_ms, NOW.0);
        let live: usize = script.models[commits].values().map(|log| log.records.len()).sum();
        assert_eq!(
            (checked.manifest.logs, checked.manifest.records),
            (script.models[commits].len() as u64, live as u64)
        );
        for disk in [restored, unpack(&archive)] {
            let report = verify(Arc::new(disk.clone())).unwrap();
            assert_eq!((&report.faults[..], &report.notes[..]), (&[][..], &[][..]));
            check_image(&disk, &script, commits, commits);
        }
    });
}

#[test]
fn a_backup_of_a_busy_engine_has_all_that_was_confirmed_before_it_and_no_commit_in_part() {
    let disk = FaultDisk::new();
    let tiny = EmbeddedOptions { threads: true, ..options() };
    let engine = Arc::new(EmbeddedLog::open(Arc::new(disk.clone()), tiny).unwrap());
    let must = |operations: Vec<Target>| {
        let outcome = ended(&start(&engine, operations));
        assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
    };
    let short = LogConfig { cleanup: Cleanup { max_records: Some(20), ..Cleanup::default() }, ..config() };
    must(vec![create(A), create(B), create_as(LogId(3), short)]);
    let (confirmed, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        // Also if this thread fails: the other would write for ever.
        let _stop = OnDrop(&stop);
        let writer = scope.spawn(|| {
            let mut number = 0u64;
            while !stop.load(Ordering::Relaxed) {
                let text = format!("{number} {}", "x".repeat(300));
                let mut operations = vec![append(A, &[&text]), append(B, &["b"]), append(LogId(3), &["c"])];
                if number >= 50 {
                    operations.push(delete(A, &[number - 50..number - 49]));
                }
                must(operations);
                number += 1;
                confirmed.store(number, Ordering::Relaxed);
                engine.maintain(NOW);
            }
        });
        for _ in 0..20 {
            let from = confirmed.load(Ordering::Relaxed);
            while confirmed.load(Ordering::Relaxed) < from + 30 && !writer.is_finished() {
                std::thread::yield_now();
            }
            let least = confirmed.load(Ordering::Relaxed);
            let backup = engine.backup(NOW).unwrap();
            let (round, archive) = (backup.manifest().round, read_all(backup));
            let copy = FaultDisk::new();
            restore(&archive, &copy).unwrap();
            let copy = EmbeddedLog::open(Arc::new(copy), options()).unwrap();
            assert_eq!(copy.engine_state().faults, []);
            let (a, b) = (contents_of(&copy, A).unwrap(), contents_of(&copy, B).unwrap());
            assert!(a.end >= least, "round {round}: {least} were confirmed, {} are there", a.end);
            assert_eq!((a.end, copy.state(LogId(3)).unwrap().end), (b.end, Offset(a.end)), "whole commits");
            assert_eq!(
                a.records.keys().copied().collect::<Vec<_>>(),
                (a.end.saturating_sub(50)..a.end).collect::<Vec<_>>()
            );
            assert_eq!(b.records.len() as u64, b.end);
        }
    });
}

struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn there_is_one_backup_at_a_time_and_an_abandoned_one_gives_back_what_it_held() {
    let disk = FaultDisk::new();
    let engine = filled(&disk);
    let mut backup = engine.backup(NOW).unwrap();
    assert_eq!(engine.backup(NOW).err(), Some(BackupError::UnderWay));
    let mut archive = Vec::new();
    read_on(backup.as_mut(), 4000, &mut archive).unwrap();
    // All that the copy is of goes out of use.
    commit(&engine, [delete(A, &[0..60]), delete(B, &[0..60])]);
    for _ in 0..200 {
        commit(&engine, [append(A, &[&"y".repeat(200)])]);
        commit(&engine, [delete(A, &[0..contents_of(&engine, A).unwrap().end])]);
        engine.run_maintenance();
    }
    let state = engine.engine_state().backup.unwrap();
    assert!(state.held_bytes > 0 && state.held_bytes <= state.total_bytes + 8 * 4096, "{state:?}");
    assert!(state.read_bytes > 0 && state.read_bytes < 4000);
    let operations = disk.operations();
    engine.run_maintenance();
    assert_eq!(disk.operations(), operations, "what is held does not keep upkeep busy");
    drop(backup);
    nothing_is_held(&engine, &disk);
    let archive = read_all(engine.backup(NOW).unwrap());
    assert_eq!(check(&archive).unwrap().manifest.records, 0);
}

#[test]
fn a_full_disk_takes_back_what_a_backup_holds() {
    let disk = FaultDisk::new();
    let engine = filled(&disk);
    let mut backup = engine.backup(NOW).unwrap();
    // A copy that holds nothing of its own is not at fault.
    disk.set_free_bytes(Some(0));
    engine.run_maintenance();
    assert!(engine.engine_state().disk_full && engine.engine_state().backup.is_some());
    disk.set_free_bytes(None);
    engine.run_maintenance();
    commit(&engine, [delete(A, &[0..60]), delete(B, &[0..60])]);
    for _ in 0..60 {
        commit(&engine, [append(A, &[&"y".repeat(300)])]);
        engine.run_maintenance();
    }
    assert!(engine.engine_state().backup.unwrap().held_bytes > 0);
    disk.set_free_bytes(Some(0));
    engine.run_maintenance();
    let mut archive = Vec::new();
    let error = loop {
        match read_on(backup.as_mut(), 1000, &mut archive) {
            Ok(ended) => assert!(!ended, "it does not end as if it were whole"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("the disk is full"), "{error}");
    assert!(matches!(check(&archive), Err(ArchiveError::Truncated(_))));
    engine.run_maintenance();
    assert!(!engine.engine_state().disk_full, "the space is back, while the copy is still there");
}

#[test]
fn closing_the_engine_ends_a_backup() {
    let engine = filled(&FaultDisk::new());
    let mut backup = engine.backup(NOW).unwrap();
    engine.close();
    let error = read_on(backup.as_mut(), 100_000, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("closed"), "{error}");
    assert!(engine.backup(NOW).is_err());
    assert_eq!(MemoryLog::new().backup(NOW).err(), Some(BackupError::Unsupported));
}

#[test]
fn a_failed_sync_or_read_makes_no_backup() {
    let disk = FaultDisk::new();
    let engine = filled(&disk);
    let place = disk.list("segments".as_ref()).unwrap().pop().unwrap();
    disk.fail_reads(place.clone(), 0..10);
    let (mut backup, mut archive) = (engine.backup(NOW).unwrap(), Vec::new());
    let error = loop {
        match read_on(backup.as_mut(), 1000, &mut archive) {
            Ok(ended) => assert!(!ended),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains(&place.display().to_string()), "{error}");
    drop(backup);
    disk.heal_reads();
    disk.fail_syncs(true);
    let _ = commit(&engine, [append(A, &["lost"])]);
    assert!(matches!(engine.backup(NOW).err(), Some(BackupError::Poisoned(_))));
}

/// An archive, and what its logs hold.
fn archived() -> (Vec<u8>, Model) {
    let engine = filled(&FaultDisk::new());
    (read_all(engine.backup(NOW).unwrap()), model_of(&engine).unwrap())
}

#[test]
fn an_archive_that_was_cut_anywhere_is_refused() {
    let (archive, _) = archived();
    for len in (0..archive.len()).step_by(97).chain([archive.len() - 1]) {
        let error = check(&archive[..len]).unwrap_err();
        let is_right =
            matches!(error, ArchiveError::Truncated(_)) || len == 0 && matches!(error, ArchiveError::NotABackup(_));
        assert!(is_right, "{len}: {error}");
        let disk = FaultDisk::new();
        assert!(matches!(restore(&archive[..len], &disk), Err(RestoreError::Archive(_))), "{len}");
        assert_eq!(left(&disk), Vec::<String>::new(), "{len}");
    }
}

/// The files that are there.
fn left(disk: &FaultDisk) -> Vec<String> {
    let files = ["", "wal", "segments"].into_iter().flat_map(|directory| disk.list(directory.as_ref()).unwrap());
    files.map(|file| file.display().to_string()).collect()
}

#[test]
fn a_flipped_bit_anywhere_is_refused_or_of_no_account() {
    let (archive, model) = archived();
    let mut harmless = 0;
    for at in (0..archive.len()).step_by(61) {
        let mut flipped = archive.clone();
        flipped[at] ^= 1;
        let disk = FaultDisk::new();
        match restore(&flipped, &disk) {
            Err(RestoreError::Archive(_) | RestoreError::Format { .. }) => {
                assert_eq!(left(&disk), Vec::<String>::new())
            }
            Err(other) => panic!("byte {at}: {other}"),
            Ok(_) => {
                harmless += 1;
                assert_eq!(archive[at], 0, "byte {at} is no filling between files");
                assert_eq!(model_of(&EmbeddedLog::open(Arc::new(disk), options()).unwrap()).unwrap(), model);
            }
        }
    }
    assert!(harmless * 5 < archive.len() / 61, "most of an archive is checked");
}

/// The archive again, with its entries changed.
fn rebuilt(archive: &[u8], change: impl FnOnce(&mut Vec<(String, Vec<u8>)>)) -> Vec<u8> {
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        entries.push((entry.path().unwrap().display().to_string(), content));
    }
    change(&mut entries);
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        // The builder itself refuses what a hostile archive may well hold.
        let name = &mut header.as_old_mut().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, &content[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

#[track_caller]
fn refused(archive: &[u8], because: &str) {
    let disk = FaultDisk::new();
    let error = restore(archive, &disk).unwrap_err().to_string();
    assert!(error.contains(because), "{error}");
    assert_eq!(left(&disk), Vec::<String>::new());
}

#[test]
fn what_is_missing_added_or_foreign_in_an_archive_is_named() {
    let (archive, model) = archived();
    let disk = FaultDisk::new();
    restore(&rebuilt(&archive, |_| {}), &disk).unwrap();
    assert_eq!(model_of(&EmbeddedLog::open(Arc::new(disk), options()).unwrap()).unwrap(), model);

    refused(b"", "it is empty");
    refused(&[b'x'; 5000], "it is no tar archive");
    let is_wal = |path: &str| path.starts_with("wal/");
    let first_wal = check(&archive).unwrap().manifest.files.into_iter().find(|file| is_wal(&file.path)).unwrap().path;
    refused(&rebuilt(&archive, |all| all.retain(|(path, _)| *path != first_wal)), &format!("{first_wal} is missing"));
    refused(&rebuilt(&archive, |all| drop(all.pop())), "it ends within or before SHA256SUMS");
    refused(&rebuilt(&archive, |all| drop(all.remove(0))), "not with manifest.json");
    refused(&rebuilt(&archive, |all| all[1].1[30] ^= 1), "does not have the checksum that it was written with");
    let manifest = |from: &str, to: &str| {
        rebuilt(&archive, |all| {
            let text = String::from_utf8(all[0].1.clone()).unwrap();
            assert!(text.contains(from));
            all[0].1 = text.replacen(from, to, 1).into_bytes();
        })
    };
    refused(&manifest("\"version\": 1", "\"version\": 2"), "of version 2; this program reads version 1");
    refused(&manifest("posthouse backup", "someone's backup"), "its manifest is of a \"someone's backup\"");
    refused(&manifest("\"round\": ", "\"round\": 1"), "manifest.json does not have the checksum");
    for path in ["../evil", "/etc/passwd", "wal/../../evil", "LOCK", "segments/evil", "wal/1.wal/x"] {
        refused(&manifest(&first_wal, path), "the manifest names");
    }
}

#[test]
fn a_restore_writes_over_nothing() {
    let (archive, _) = archived();
    for there in ["FORMAT", "notes.txt", "wal/00000001.wal"] {
        let disk = FaultDisk::new();
        disk.create_dir("wal".as_ref()).unwrap();
        disk.put(there, b"mine").unwrap();
        assert_eq!(restore(&archive, &disk).unwrap_err(), RestoreError::NotEmpty(there.to_owned()));
        assert_eq!((left(&disk), disk.contents(there).unwrap()), (vec![there.to_owned()], b"mine".to_vec()));
    }
    let disk = FaultDisk::new();
    disk.set_free_bytes(Some(100));
    assert!(restore(&archive, &disk).unwrap_err().to_string().contains("are needed"));
}

#[test]
fn a_restore_that_dies_anywhere_leaves_nothing_that_a_server_starts_on() {
    let (archive, model) = archived();
    let whole = FaultDisk::new();
    restore(&archive, &whole).unwrap();
    let (mut refused, mut done) = (0, 0);
    for crash_at in 1..=whole.operations() {
        let disk = FaultDisk::new();
        disk.crash_after(crash_at);
        assert!(restore(&archive, &disk).is_err());
        for style in [CrashStyle::Lost, CrashStyle::Torn, CrashStyle::Kept] {
            let image = disk.crash_image(style, crash_at);
            match EmbeddedLog::open(Arc::new(image.crash_image(CrashStyle::Kept, 0)), options()) {
                Err(StartError::Restoring) => {
                    refused += 1;
                    restore(&archive, &image).unwrap();
                    let engine = EmbeddedLog::open(Arc::new(image), options()).unwrap();
                    assert_eq!(model_of(&engine).unwrap(), model, "at operation {crash_at}, {style:?}");
                }
                Err(other) => panic!("at operation {crash_at}, {style:?}: {other}"),
                Ok(engine) => {
                    done += 1;
                    let found = model_of(&engine).unwrap();
                    let is_untouched = found.is_empty() && crash_at < 4;
                    assert!(is_untouched || found == model, "at operation {crash_at}, {style:?}: {found:?}");
                }
            }
        }
    }
    assert!(refused > 20 && done > 0, "{refused} refused, {done} done");
}

/// Damages a directory and opens it again; what can still be read of it can be copied, and the copy is damaged in the same places.
#[track_caller]
fn damaged(hurt: impl FnOnce(&FaultDisk)) {
    let disk = FaultDisk::new();
    drop(filled(&disk));
    disk.settle();
    hurt(&disk);
    let readable = |engine: &EmbeddedLog, log: LogId| {
        let mut found = Vec::new();
        let mut from = Offset(0);
        while from.0 < 60 {
            match engine.read(log, from, ReadLimit { records: 1, ..EVERYTHING }) {
                Ok(entries) => {
                    let Some(last) = entries.last() else { break };
                    found.extend(entries.iter().flat_map(live_values));
                    from = last.end();
                }
                Err(_) => from = Offset(from.0 + 1),
            }
        }
        found
    };
    let engine = EmbeddedLog::open(Arc::new(disk), options()).unwrap();
    let before = [readable(&engine, A), readable(&engine, B)];
    assert!(!engine.engine_state().faults.is_empty());
    let archive = read_all(engine.backup(NOW).unwrap());
    let copy = FaultDisk::new();
    let faults = restore(&archive, &copy).unwrap().manifest.faults;
    assert!(!faults.is_empty());
    let copy = EmbeddedLog::open(Arc::new(copy), options()).unwrap();
    assert_eq!([readable(&copy, A), readable(&copy, B)], before, "{faults:?}");
    let hurt = |engine: &EmbeddedLog| [A, B].map(|log| engine.damage(log).is_some());
    assert_eq!(hurt(&copy), hurt(&engine), "{faults:?}");
}

#[test]
fn a_damaged_engine_is_copied_as_far_as_it_can_be_read() {
    let first = |disk: &FaultDisk, directory: &str| disk.list(directory.as_ref()).unwrap().remove(0);
    damaged(|disk| disk.corrupt(first(disk, "segments"), 200).unwrap());
    damaged(|disk| disk.truncate(first(disk, "segments"), 700).unwrap());
    damaged(|disk| disk.remove(&first(disk, "segments")).unwrap());
    // The last file is the one that is written on: its header, and a frame before the checkpoint's place.
    for at in [20, 200] {
        damaged(|disk| {
            let newest = verify(Arc::new(disk.clone())).unwrap().files;
            let newest = newest.into_iter().filter_map(|file| match file.purpose {
                FilePurpose::WriteAhead { sequence } => Some((sequence, file.path)),
                _ => None,
            });
            disk.corrupt(newest.max().unwrap().1, at).unwrap();
        });
    }
}
