//! Files that are shorter than they were, longer, empty or missing: each is told, with file and byte, or harms nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use log::{
    CommitOutcome, EmbeddedLog, EmbeddedOptions, FilePurpose, Log, LogConfig, Refusal, StartError, VerifyReport, verify,
};
use testkit::{CrashStyle, FaultDisk};
use types::disk::Disk;
use types::{LogId, Offset};

use crate::crash::{Model, check_damaged, commit, commit_refused, contents_of, files_of, options, settled};
use crate::suite::{append, config, create, create_as, delete, under};

const WAL: &str = "wal/00000001.wal";
const ONE: LogId = LogId(1);

fn report(disk: &FaultDisk) -> VerifyReport {
    verify(Arc::new(disk.clone())).unwrap()
}

fn image_of(disk: &FaultDisk) -> FaultDisk {
    disk.crash_image(CrashStyle::Kept, 0)
}

/// Either a start says what is wrong, and `log verify` and the start after it say so too; or everything is there.
fn check_told(image: &FaultDisk, whole: &Model) {
    let told = match verify(Arc::new(image.clone())) {
        Ok(report) => report.faults,
        Err(error) => {
            assert!(EmbeddedLog::open(Arc::new(image.clone()), options()).is_err(), "only verify says {error}");
            return;
        }
    };
    check_damaged(image, [whole, whole]);
    let again = EmbeddedLog::open(Arc::new(image.clone()), options()).map(|engine| engine.engine_state().faults);
    assert_eq!(again.is_ok_and(|faults| faults.is_empty()), told.is_empty(), "the start after it forgot {told:?}");
}

fn cut_everywhere(step: usize) {
    let (disk, _, whole) = settled();
    for path in files_of(&disk) {
        let len = disk.contents(&path).unwrap().len() as u64;
        let few = [0, 1, 63, 64, 65, 100, len.saturating_sub(1)];
        for cut in few.into_iter().chain((0..len).step_by(step)) {
            let image = image_of(&disk);
            image.truncate(&path, cut.min(len)).unwrap();
            if catch_unwind(AssertUnwindSafe(|| check_told(&image, &whole))).is_err() {
                panic!("{} cut to {cut} of {len} bytes", path.display());
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_anywhere_is_told_or_has_lost_nothing() {
    cut_everywhere(97);
}

#[test]
#[ignore = "the long run, for `cargo xtask proofs`"]
fn proof_a_file_that_is_cut_anywhere_is_told_or_has_lost_nothing() {
    cut_everywhere(1);
}

#[test]
fn a_file_that_is_missing_is_told_or_has_lost_nothing() {
    let (disk, _, whole) = settled();
    // What the checkpoint has not heard of has left no trace but its own file.
    EmbeddedLog::open(Arc::new(disk.clone()), options()).unwrap().checkpoint().unwrap();
    for path in files_of(&disk) {
        let image = image_of(&disk);
        image.remove(&path).unwrap();
        if catch_unwind(AssertUnwindSafe(|| check_told(&image, &whole))).is_err() {
            panic!("{} removed", path.display());
        }
    }
}

#[test]
fn a_write_ahead_file_that_is_missing_is_never_taken_for_an_empty_one() {
    let (disk, _, _) = settled();
    let report = report(&disk);
    let in_use = report.files.iter().filter(|file| matches!(file.purpose, FilePurpose::WriteAhead { .. }));
    let mut in_use: Vec<_> = in_use.collect();
    in_use.sort_by_key(|file| match file.purpose {
        FilePurpose::WriteAhead { sequence } => sequence,
        _ => 0,
    });
    assert!(in_use.len() > 1, "{in_use:?}");
    in_use.pop();
    for file in in_use {
        let image = image_of(&disk);
        image.remove(&file.path).unwrap();
        let FilePurpose::WriteAhead { sequence } = file.purpose else { panic!("{file:?}") };
        let error = EmbeddedLog::open(Arc::new(image.clone()), options()).err().expect("a file is missing");
        assert!(matches!(error, StartError::Damaged { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("part {sequence} of the write-ahead log is missing")), "{text}");
        assert!(verify(Arc::new(image)).unwrap().faults[0].what.contains("is missing"));
    }
    // Without its checkpoints the log does not begin where it should.
    let image = image_of(&disk);
    for file in report.files.iter().filter(|file| file.purpose == FilePurpose::Checkpoint) {
        image.remove(&file.path).unwrap();
    }
    let error = EmbeddedLog::open(Arc::new(image), options()).err().expect("the checkpoints are missing");
    assert!(matches!(error, StartError::Damaged { .. }), "{error}");
}

/// A log of three records in one write-ahead file, and where its last frame stands and ends.
fn three() -> (FaultDisk, EmbeddedOptions, u64, u64) {
    let (disk, options) = (FaultDisk::new(), EmbeddedOptions { wal_file_bytes: 64 * 1024, ..options() });
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options.clone()).unwrap();
    let operations =
        [vec![create(ONE)], vec![append(ONE, &["a"])], vec![append(ONE, &["b"])], vec![append(ONE, &["c"])]];
    for operations in operations {
        assert!(matches!(commit(&engine, operations), CommitOutcome::Committed(_)));
    }
    drop(engine);
    disk.settle();
    let frames = frames_of(&disk);
    let last = *frames.last().unwrap();
    let bytes = disk.contents(WAL).unwrap();
    let len = u32::from_le_bytes(bytes[last as usize + 40..last as usize + 44].try_into().unwrap());
    (disk, options, last, last + u64::from(len))
}

/// The bytes at which frames begin.
fn frames_of(disk: &FaultDisk) -> Vec<u64> {
    let bytes = disk.contents(WAL).unwrap();
    bytes.chunks(8).zip(0u64..).filter(|(word, _)| word.starts_with(b"PHFP")).map(|(_, at)| at * 8).collect()
}

fn values(engine: &EmbeddedLog) -> Vec<String> {
    contents_of(engine, ONE).unwrap().records.into_values().collect()
}

#[test]
fn a_write_ahead_file_cut_within_its_frames_is_damage_and_not_a_torn_tail() {
    let (disk, options, last, end) = three();
    for cut in [last, last + 1, last + 63, last + 64, end - 1, end] {
        let image = image_of(&disk);
        image.truncate(WAL, cut).unwrap();
        let kept = if cut == end { vec!["a", "b", "c"] } else { vec!["a", "b"] };
        // The start after it, and the one after that, do not forget.
        for round in 0..3 {
            let found = report(&image).faults;
            assert_eq!(found.len(), 1, "cut at {cut}, start {round}: {found:?}");
            assert_eq!(found[0].place, format!("{WAL} at byte {cut}"));
            assert!(found[0].what.contains("65536 bytes were expected"), "{found:?}");
            assert!(found[0].logs.is_empty(), "nobody knows whose it was: {found:?}");
            let engine = EmbeddedLog::open(Arc::new(image.clone()), options.clone()).unwrap();
            assert_eq!(engine.engine_state().faults, found);
            assert_eq!(values(&engine), kept, "cut at {cut}, start {round}");
            let epoch = engine.open(&[ONE])[0].as_ref().unwrap().epoch;
            assert!(matches!(commit_refused(&engine, [under(epoch, append(ONE, &["x"]))]), Refusal::Damaged(ONE)));
            engine.run_maintenance();
        }
    }
}

#[test]
fn a_write_ahead_file_cut_behind_its_frames_lost_nothing_and_gets_its_length_back() {
    let (disk, options, _, end) = three();
    disk.truncate(WAL, end + 100).unwrap();
    let found = report(&disk);
    assert_eq!(found.faults, []);
    let note = format!(
        "{WAL}: the file ends at byte {}, 65536 were expected; its frames end before, at byte {end}",
        end + 100
    );
    assert_eq!(found.notes, [note]);
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options.clone()).unwrap();
    assert_eq!((values(&engine), engine.engine_state().faults), (vec!["a".into(), "b".into(), "c".into()], vec![]));
    let epoch = engine.open(&[ONE])[0].as_ref().unwrap().epoch;
    assert!(matches!(commit(&engine, [under(epoch, append(ONE, &["d"]))]), CommitOutcome::Committed(_)));
    drop(engine);
    let image = disk.crash_image(CrashStyle::Lost, 0);
    assert_eq!(image.contents(WAL).unwrap().len(), 65536);
    assert_eq!(report(&image).notes, [] as [String; 0]);
    let engine = EmbeddedLog::open(Arc::new(image), options).unwrap();
    assert_eq!((values(&engine).len(), engine.engine_state().faults), (4, vec![]));
}

#[test]
fn an_empty_write_ahead_file_is_damage_and_stays_where_it_is() {
    let (disk, options, _, _) = three();
    for cut in [0, 10, 63] {
        let image = image_of(&disk);
        image.truncate(WAL, cut).unwrap();
        for _ in 0..2 {
            let found = report(&image);
            assert_eq!(found.faults.len(), 1, "{found:?}");
            assert_eq!(found.faults[0].place, format!("{WAL} at byte {cut}"));
            let cut_file = found.files.iter().find(|file| file.path == Path::new(WAL));
            assert_eq!(cut_file.map(|file| (file.bytes, file.purpose)), Some((cut, FilePurpose::Cut)));
            let engine = EmbeddedLog::open(Arc::new(image.clone()), options.clone()).unwrap();
            assert_eq!(engine.engine_state().faults, found.faults);
            assert!(matches!(commit_refused(&engine, [create(LogId(7))]), Refusal::Damaged(_)));
            engine.run_maintenance();
        }
        assert_eq!(image.contents(WAL).unwrap().len() as u64, cut);
        // Where a checkpoint counts on it, the start is refused, and the reason names it.
        let image = image_of(&disk);
        EmbeddedLog::open(Arc::new(image.clone()), options.clone()).unwrap().checkpoint().unwrap();
        image.truncate(WAL, cut).unwrap();
        let text = EmbeddedLog::open(Arc::new(image), options.clone()).err().unwrap().to_string();
        assert!(text.contains("part 1 of the write-ahead log is missing"), "{text}");
        assert!(text.contains(&format!("{WAL} at byte {cut}: the file was cut to {cut} bytes")), "{text}");
    }
}

#[test]
fn what_stands_behind_a_write_ahead_files_end_is_not_read() {
    let (disk, options, _, _) = three();
    let mut bytes = disk.contents(WAL).unwrap();
    bytes.extend_from_within(..4096);
    disk.put(WAL, &bytes).unwrap();
    let found = report(&disk);
    assert_eq!(found.faults, []);
    assert!(found.notes[0].starts_with(&format!("{WAL}: the file has 69632 bytes, 65536 were expected")), "{found:?}");
    let engine = EmbeddedLog::open(Arc::new(disk), options).unwrap();
    assert_eq!((values(&engine).len(), engine.engine_state().faults), (3, vec![]));
}

#[test]
fn a_file_that_a_kill_found_in_the_making_is_removed_and_is_no_damage() {
    let (disk, options, _, _) = three();
    disk.put("wal/00000002.new", &[0; 1000]).unwrap();
    let found = report(&disk);
    assert_eq!((&found.faults[..], &found.notes[..]), (&[][..], &[][..]));
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options).unwrap();
    assert_eq!(engine.engine_state().faults, []);
    assert!(disk.contents("wal/00000002.new").is_err());
}

#[test]
fn a_segment_that_is_cut_touches_the_logs_behind_the_cut_only() {
    let (disk, options) = (FaultDisk::new(), EmbeddedOptions { own_segment_bytes: 1 << 20, ..options() });
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options.clone()).unwrap();
    let two = LogId(2);
    commit(&engine, [create(ONE), create(two)]);
    for _ in 0..60 {
        commit(&engine, [append(ONE, &["first"]), append(two, &["second"])]);
        engine.run_maintenance();
    }
    engine.close();
    drop(engine);
    disk.settle();
    let segment = report(&disk).logs[0].segments[0].clone();
    assert!(report(&disk).logs[1].segments.contains(&segment), "the two share it");
    let bytes = disk.contents(&segment).unwrap();
    let of_two = bytes.windows(6).position(|window| window == b"second").unwrap() as u64;
    let image = image_of(&disk);
    image.truncate(&segment, of_two).unwrap();
    let found = report(&image).faults;
    assert_eq!(found[0].place, format!("{} at byte {of_two}", segment.display()));
    assert!(found.iter().all(|fault| fault.logs == [two]), "{found:?}");
    let engine = EmbeddedLog::open(Arc::new(image), options).unwrap();
    assert_eq!(contents_of(&engine, ONE).unwrap().records.len(), 60);
    // Missing as a whole it takes both.
    disk.remove(&segment).unwrap();
    let found = report(&disk).faults;
    assert_eq!(found[0].logs, [ONE, two]);
    assert!(found[0].what.starts_with("the file is missing"), "{found:?}");
}

#[test]
fn a_checkpoint_that_is_cut_is_named_with_its_byte() {
    let (disk, _, whole) = settled();
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options()).unwrap();
    engine.close();
    drop(engine);
    let newest = report(&disk).files.into_iter().rfind(|file| file.purpose == FilePurpose::Checkpoint).unwrap();
    for cut in [0, 10, newest.bytes - 1] {
        let image = image_of(&disk);
        image.truncate(&newest.path, cut).unwrap();
        let found = report(&image);
        let place = format!("{} at byte {cut}: the file ends here, ", newest.path.display());
        let said = found.notes.iter().map(String::as_str).chain(found.faults.iter().map(|fault| fault.what.as_str()));
        assert!(said.clone().any(|text| text.contains(&place)), "cut at {cut}: {found:?}");
        check_told(&image, &whole);
    }
}

#[test]
fn damage_that_reaches_over_the_checkpoints_place_is_told_on_both_sides() {
    let (disk, options) = (FaultDisk::new(), EmbeddedOptions { wal_file_bytes: 64 * 1024, ..options() });
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options.clone()).unwrap();
    commit(&engine, [create(ONE)]);
    commit(&engine, [append(ONE, &["before"])]);
    engine.checkpoint().unwrap();
    commit(&engine, [append(ONE, &["after"])]);
    commit(&engine, [append(ONE, &["last"])]);
    drop(engine);
    disk.settle();
    let frames = frames_of(&disk);
    for frame in frames.iter().rev().skip(1).take(2) {
        disk.corrupt(WAL, frame + 20).unwrap();
    }
    let found = report(&disk).faults;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.iter().any(|fault| fault.logs.is_empty()), "what stood behind the place may be anybody's: {found:?}");
    assert!(found.iter().any(|fault| fault.logs == [ONE]), "{found:?}");
    let engine = EmbeddedLog::open(Arc::new(disk), options).unwrap();
    assert_eq!(engine.state(ONE).unwrap().end, Offset(3));
}

#[test]
fn a_log_that_is_kept_apart_shares_no_segment_and_no_damage() {
    let (disk, options) = (FaultDisk::new(), EmbeddedOptions { own_segment_bytes: 1 << 20, ..options() });
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options.clone()).unwrap();
    let others = [LogId(2), LogId(3)];
    let apart = LogConfig { apart: true, ..config() };
    commit(&engine, [create_as(ONE, apart), create(others[0]), create(others[1])]);
    for at in 0..90u64 {
        commit(&engine, [append(ONE, &["apart"]), append(others[0], &["a"]), append(others[1], &["b"])]);
        if at % 3 > 0 {
            // Sparse segments are rewritten, and stay apart.
            commit(&engine, [delete(ONE, &[at..at + 1]), delete(others[0], &[at..at + 1])]);
        }
        engine.run_maintenance();
    }
    engine.close();
    drop(engine);
    disk.settle();
    let found = report(&disk);
    let [own, first, second] = [0, 1, 2].map(|log: usize| &found.logs[log].segments);
    assert!(!own.is_empty() && first.iter().any(|segment| second.contains(segment)), "{own:?} {first:?} {second:?}");
    for segment in first.iter().chain(second) {
        assert!(!own.contains(segment), "{}: {own:?}", segment.display());
        disk.remove(segment).unwrap_or_default();
    }
    let engine = EmbeddedLog::open(Arc::new(disk), options).unwrap();
    assert_eq!(contents_of(&engine, ONE).unwrap().records.len(), 30);
    let faults = engine.engine_state().faults;
    assert!(!faults.is_empty() && faults.iter().all(|fault| !fault.logs.contains(&ONE)), "{faults:?}");
    let epoch = engine.open(&[ONE])[0].as_ref().unwrap().epoch;
    assert!(matches!(commit(&engine, [under(epoch, append(ONE, &["x"]))]), CommitOutcome::Committed(_)));
}
