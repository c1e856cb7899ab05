//! What a crash, a broken disk or a damaged file leaves of the embedded engine.
//!
//! A seeded script of commits runs over a disk that dies at its Nth operation, for every N. After each crash the engine opens again, and
//! holds what the script had made after some whole number of commits: all that were confirmed, and of the others none in part.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use log::{Commit, CommitOutcome, Durability, EmbeddedLog, EmbeddedOptions, Log, ReadError, Refusal, Round, Target};
use testkit::{CrashStyle, FaultDisk};
use types::{LogId, Offset};

use crate::suite::{
    EVERYTHING, append, append_selected, batch, create, delete, ends, live_values, remove, trim, under,
};

/// Live records of one log by offset, and its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) end: u64,
    pub(crate) records: BTreeMap<u64, String>,
}

pub(crate) type Model = BTreeMap<LogId, Contents>;

pub(crate) enum Step {
    Commit(Commit),
    Round,
    Maintain,
}

/// Steps, and what the logs hold after each commit of them (the first is before any).
pub(crate) struct Script {
    pub(crate) steps: Vec<Step>,
    pub(crate) models: Vec<Model>,
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

impl Script {
    pub(crate) fn new(seed: u64, commits: usize) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut script = Self { steps: Vec::new(), models: vec![Model::new()] };
        let mut next_log = 1;
        for number in 0..commits {
            let mut model = script.models.last().unwrap().clone();
            let mut operations = Vec::new();
            for _ in 0..rng.usize(1..4) {
                if let Some(target) = operation(&mut rng, &mut model, &mut next_log, number) {
                    operations.push(target);
                }
            }
            if operations.is_empty() {
                // It would be confirmed without a sync of those before it, whatever it asks for.
                continue;
            }
            let durability = *rng.choice(&[Durability::Fsync, Durability::Fsync, Durability::Os]).unwrap();
            script.steps.push(Step::Commit(Commit { durability, operations, uses_reserve: false }));
            script.models.push(model);
            if rng.u8(0..3) > 0 {
                script.steps.push(Step::Round);
            }
            if rng.u8(0..4) == 0 {
                script.steps.push(Step::Maintain);
            }
        }
        script.steps.extend([Step::Round, Step::Maintain, Step::Round]);
        script
    }
}

fn operation(rng: &mut Rng, model: &mut Model, next_log: &mut u64, number: usize) -> Option<Target> {
    let logs: Vec<LogId> = model.keys().copied().collect();
    if logs.len() < 2 || (rng.u8(0..20) == 0 && logs.len() < 5) {
        let log = LogId(*next_log);
        *next_log += 1;
        model.insert(log, Contents::default());
        return Some(create(log));
    }
    let log = *rng.choice(&logs).unwrap();
    let contents = model.get_mut(&log).unwrap();
    match rng.u8(0..20) {
        0..12 => {
            let values: Vec<String> =
                (0..rng.usize(1..5)).map(|at| format!("{number}.{at}.{}", "x".repeat(rng.usize(0..200)))).collect();
            let texts: Vec<&str> = values.iter().map(String::as_str).collect();
            let selected: Range<usize> = if rng.bool() { 0..values.len() } else { 0..rng.usize(0..values.len()) };
            let base = contents.end;
            contents.end += values.len() as u64;
            contents.records.extend(
                values.iter().enumerate().take(selected.end).map(|(at, value)| (base + at as u64, value.clone())),
            );
            if selected.len() == values.len() {
                return Some(append(log, &texts));
            }
            let selection = if selected.is_empty() { vec![] } else { vec![0..selected.end as u32] };
            Some(append_selected(log, batch(&texts), &selection))
        }
        12..17 if contents.end > 0 => {
            // Mostly acknowledgements from the front, as queues do.
            let start = if rng.bool() {
                contents.records.keys().next().copied().unwrap_or(0)
            } else {
                rng.u64(0..contents.end)
            };
            let end = (start + rng.u64(1..8)).min(contents.end);
            let range = start..end;
            contents.records.retain(|offset, _| !range.contains(offset));
            (!range.is_empty()).then(|| delete(log, &[range]))
        }
        17..19 => {
            let to = rng.u64(0..=contents.end);
            contents.records = contents.records.split_off(&to);
            Some(trim(log, to))
        }
        19 if rng.u8(0..3) == 0 => {
            model.remove(&log);
            Some(remove(log))
        }
        _ => None,
    }
}

/// How far a run of a script got.
#[derive(Default)]
struct Reached {
    submitted: usize,
    /// Commits that were confirmed at any durability, and at `Fsync`.
    confirmed: usize,
    synced: usize,
}

fn run(script: &Script, disk: &FaultDisk) -> Reached {
    let reached = Arc::new(Mutex::new(Reached::default()));
    let Ok(engine) = EmbeddedLog::open(Arc::new(disk.clone()), options()) else { return Reached::default() };
    for step in &script.steps {
        if disk.crashed() {
            break;
        }
        match step {
            Step::Commit(commit) => {
                let number = {
                    let mut reached = reached.lock().unwrap();
                    reached.submitted += 1;
                    reached.submitted
                };
                let (durability, told) = (commit.durability, reached.clone());
                let done = move |outcome| {
                    if let CommitOutcome::Committed(_) = outcome {
                        let mut reached = told.lock().unwrap();
                        assert_eq!(reached.confirmed + 1, number, "in order");
                        reached.confirmed = number;
                        if durability == Durability::Fsync {
                            reached.synced = number;
                        }
                    } else {
                        assert!(!matches!(outcome, CommitOutcome::Refused(Refusal::Malformed(_))), "{outcome:?}");
                    }
                };
                engine.commit(commit.clone(), Box::new(done));
            }
            Step::Round => drive(&engine),
            Step::Maintain => engine.run_maintenance(),
        }
    }
    drop(engine);
    Arc::into_inner(reached).unwrap().into_inner().unwrap()
}

pub(crate) fn contents_of(engine: &EmbeddedLog, log: LogId) -> Result<Contents, ReadError> {
    let mut contents = Contents { end: engine.state(log)?.end.0, records: BTreeMap::new() };
    let mut from = Offset(0);
    loop {
        let entries = engine.read(log, from, EVERYTHING)?;
        let Some(last) = entries.last() else { break };
        from = last.base.plus(u64::from(last.batch.last_offset_delta()) + 1);
        for (offset, value) in entries.iter().flat_map(live_values) {
            assert!(contents.records.insert(offset, value).is_none(), "offset {offset} came twice");
        }
    }
    let is_damaged = |log| engine.engine_state().faults.iter().any(|f| f.logs.is_empty() || f.logs.contains(&log));
    if !is_damaged(log) {
        assert_eq!(engine.state(log)?.records, contents.records.len() as u64, "the count is of what is there");
    }
    Ok(contents)
}

pub(crate) fn model_of(engine: &EmbeddedLog) -> Result<Model, ReadError> {
    engine.logs().into_iter().map(|log| Ok((log, contents_of(engine, log)?))).collect()
}

/// Opens what a crash left; says after how many commits the logs looked so.
pub(crate) fn check_image(image: &FaultDisk, script: &Script, least: usize, most: usize) {
    let engine = EmbeddedLog::open(Arc::new(image.clone()), options()).expect("a crash is no damage");
    assert_eq!(engine.engine_state().faults, [], "a crash is no damage");
    let mut model = model_of(&engine).unwrap();
    let found = (least..=most).find(|at| script.models[*at] == model);
    let summary = |model: &Model| -> Vec<_> {
        let one = |(log, contents): (&LogId, &Contents)| {
            (log.0, contents.end, contents.records.keys().copied().collect::<Vec<_>>())
        };
        model.iter().map(one).collect()
    };
    let expected = || script.models[least..=most].iter().map(summary).collect::<Vec<_>>();
    assert!(found.is_some(), "found {:?}, but expected one of {:?}", summary(&model), expected());
    // Life goes on, and a second crash finds both what was there and what came.
    let logs: Vec<LogId> = model.keys().copied().collect();
    for (log, opened) in logs.iter().zip(engine.open(&logs)) {
        let outcome = commit(&engine, [under(opened.unwrap().epoch, append(*log, &["after"]))]);
        assert!(matches!(outcome, CommitOutcome::Committed(_)), "{outcome:?}");
        let contents = model.get_mut(log).unwrap();
        contents.records.insert(contents.end, "after".to_owned());
        contents.end += 1;
    }
    engine.run_maintenance();
    drop(engine);
    for style in [CrashStyle::Lost, CrashStyle::Kept] {
        let engine = EmbeddedLog::open(Arc::new(image.crash_image(style, 0)), options()).unwrap();
        assert_eq!(engine.engine_state().faults, []);
        assert_eq!(model_of(&engine).unwrap(), model, "after a second crash, {style:?}");
    }
}

pub(crate) fn start(engine: &EmbeddedLog, operations: impl IntoIterator<Item = Target>) -> Receiver<CommitOutcome> {
    let (sender, receiver) = ends();
    let commit =
        Commit { durability: Durability::Fsync, operations: operations.into_iter().collect(), uses_reserve: false };
    engine.commit(commit, Box::new(move |outcome| sender.send(outcome).unwrap_or_default()));
    receiver
}

pub(crate) fn commit(engine: &EmbeddedLog, operations: impl IntoIterator<Item = Target>) -> CommitOutcome {
    let receiver = start(engine, operations);
    drive(engine);
    receiver.try_recv().expect("the commit ended in its round")
}

/// Writes what waits, as the engine's threads would.
pub(crate) fn drive(engine: &EmbeddedLog) {
    loop {
        match engine.run_round() {
            Round::Done => {}
            Round::Idle => return,
            Round::Stalled => engine.run_maintenance(),
        }
    }
}

fn crash_everywhere(seed: u64, commits: usize, step: usize) {
    let script = Script::new(seed, commits);
    let commits = script.models.len() - 1;
    let whole = FaultDisk::new();
    let reached = run(&script, &whole);
    assert_eq!((reached.submitted, reached.confirmed), (commits, commits), "without a crash all are confirmed");
    let operations = whole.operations();
    let first = 1 + seed % step as u64;
    for crash_at in (first..=operations).step_by(step) {
        let disk = FaultDisk::new();
        disk.crash_after(crash_at);
        let reached = run(&script, &disk);
        for style in [CrashStyle::Lost, CrashStyle::Torn, CrashStyle::Kept] {
            let least = if style == CrashStyle::Kept { reached.confirmed } else { reached.synced };
            let check = || check_image(&disk.crash_image(style, crash_at), &script, least, reached.submitted);
            if catch_unwind(AssertUnwindSafe(check)).is_err() {
                panic!("seed {seed}: crash at operation {crash_at} of {operations}, {style:?}");
            }
        }
    }
}

/// How many times more than in every build the long run tries, from `POSTHOUSE_PROOF_SEEDS`.
fn proof_seeds() -> u64 {
    std::env::var("POSTHOUSE_PROOF_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(100)
}

#[test]
fn every_confirmed_commit_survives_a_crash_at_any_operation_whole_and_in_order() {
    (0..4).for_each(|seed| crash_everywhere(seed, 60, 1));
    (4..12).for_each(|seed| crash_everywhere(seed, 120, 9));
}

#[test]
#[ignore = "the long run, for `cargo xtask proofs`"]
fn proof_every_confirmed_commit_survives_a_crash_at_any_operation() {
    (1000..1000 + proof_seeds()).for_each(|seed| crash_everywhere(seed, 150, 1));
}

#[test]
fn a_failed_sync_ends_what_is_under_way_as_unknown_and_later_commits_are_refused() {
    for fail_writes in [false, true] {
        let disk = FaultDisk::new();
        let engine = EmbeddedLog::open(Arc::new(disk.clone()), options()).unwrap();
        let one = LogId(1);
        assert!(matches!(commit(&engine, [create(one), append(one, &["kept"])]), CommitOutcome::Committed(_)));
        if fail_writes {
            disk.fail_writes(true)
        } else {
            disk.fail_syncs(true)
        }
        let under_way = [start(&engine, [append(one, &["a"])]), start(&engine, [append(one, &["b"])])];
        engine.run_round();
        for receiver in under_way {
            assert!(matches!(receiver.try_recv().unwrap(), CommitOutcome::Unknown(_)));
        }
        disk.fail_writes(false);
        disk.fail_syncs(false);
        assert!(matches!(commit_refused(&engine, [append(one, &["c"])]), Refusal::Poisoned(_)));
        assert!(matches!(commit_refused(&engine, [delete(one, &[0..1])]), Refusal::Poisoned(_)));
        assert!(engine.engine_state().poisoned.is_some());
        assert!(engine.open(&[one])[0].is_err());
        // Readers see what was confirmed, and nothing else.
        assert_eq!(contents_of(&engine, one).unwrap().records.into_values().collect::<Vec<_>>(), ["kept"]);
        engine.run_maintenance();
        engine.close();
        drop(engine);
        let engine = EmbeddedLog::open(Arc::new(disk.crash_image(CrashStyle::Lost, 1)), options()).unwrap();
        assert_eq!(contents_of(&engine, one).unwrap().records.into_values().collect::<Vec<_>>(), ["kept"]);
    }
}

#[test]
fn what_a_start_finds_after_a_failed_sync_survives_a_power_cut() {
    let disk = FaultDisk::new();
    let options = EmbeddedOptions { wal_file_bytes: 16 * 1024, ..options() };
    let open = |disk: &FaultDisk| EmbeddedLog::open(Arc::new(disk.clone()), options.clone()).unwrap();
    let engine = open(&disk);
    // More than a page, so that no later write touches all of it by chance.
    let large = "x".repeat(9_000);
    let one = LogId(1);
    assert!(matches!(commit(&engine, [create(one), append(one, &["kept"])]), CommitOutcome::Committed(_)));
    disk.fail_syncs(true);
    let under_way = start(&engine, [append(one, &[&large])]);
    engine.run_round();
    assert!(matches!(under_way.try_recv().unwrap(), CommitOutcome::Unknown(_)));
    drop(engine);
    // The process starts anew on the same page cache, whose pages count as clean though the disk never got them.
    let disk = disk.crash_image(CrashStyle::Kept, 1);
    let engine = open(&disk);
    let found = contents_of(&engine, one).unwrap();
    assert_eq!(found.records.values().collect::<Vec<_>>(), ["kept", &large]);
    drop(engine);
    let engine = open(&disk.crash_image(CrashStyle::Lost, 1));
    assert_eq!(engine.engine_state().faults, []);
    assert_eq!(contents_of(&engine, one).unwrap(), found);
}

pub(crate) fn commit_refused(engine: &EmbeddedLog, operations: impl IntoIterator<Item = Target>) -> Refusal {
    let receiver = start(engine, operations);
    drive(engine);
    match receiver.try_recv().unwrap() {
        CommitOutcome::Refused(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn a_full_disk_refuses_appends_takes_deletes_and_recovers_by_itself() {
    let disk = FaultDisk::new();
    disk.set_free_bytes(Some(400 * 1024));
    let options = EmbeddedOptions { wal_file_bytes: 16 * 1024, reserve_bytes: Some(64 * 1024), ..options() };
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options).unwrap();
    let (one, two) = (LogId(1), LogId(2));
    assert!(matches!(commit(&engine, [create(one), create(two)]), CommitOutcome::Committed(_)));
    let text = "x".repeat(2000);
    let mut written = 0u64;
    let refusal = loop {
        match commit(&engine, [append(one, &[&text])]) {
            CommitOutcome::Committed(_) => written += 1,
            CommitOutcome::Refused(refusal) => break refusal,
            CommitOutcome::Unknown(reason) => panic!("a full disk is no failure: {reason}"),
        }
        engine.run_maintenance();
        assert!(written < 1000, "the disk never fills");
    };
    assert!(matches!(refusal, Refusal::DiskFull { reserve_bytes: 65_536, .. }), "{refusal:?}");
    assert!(engine.engine_state().disk_full && engine.engine_state().poisoned.is_none());
    assert!(written > 50, "{written} were written");
    // Somebody else takes the rest of the disk. Acknowledgements and moves still pass, and make room.
    for offset in 0..written {
        let operations = if offset % 10 == 0 {
            vec![append(two, &["moved"]), delete(one, &[offset..offset + 1])]
        } else {
            vec![delete(one, &[offset..offset + 1])]
        };
        let outcome = commit(&engine, operations);
        assert!(matches!(outcome, CommitOutcome::Committed(_)), "at {offset} of {written}: {outcome:?}");
        engine.run_maintenance();
    }
    assert!(matches!(commit(&engine, [append(one, &[&text])]), CommitOutcome::Committed(_)), "space came back");
    assert!(!engine.engine_state().disk_full);
    assert_eq!(engine.state(two).unwrap().records, written.div_ceil(10));
    drop(engine);
    let engine = EmbeddedLog::open(Arc::new(disk), crate::crash::options()).unwrap();
    assert_eq!((engine.state(one).unwrap().records, engine.engine_state().faults), (1, vec![]));
}

/// A directory with segments, checkpoints and several write-ahead files, ended by a round that nobody minds to lose.
pub(crate) fn settled() -> (FaultDisk, Model, Model) {
    let script = Script::new(7, 150);
    let disk = FaultDisk::new();
    let reached = run(&script, &disk);
    assert_eq!(reached.confirmed, script.models.len() - 1);
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options()).unwrap();
    let before = model_of(&engine).unwrap();
    assert_eq!(&before, script.models.last().unwrap());
    let bystander = LogId(99);
    assert!(matches!(commit(&engine, [create(bystander)]), CommitOutcome::Committed(_)));
    assert!(matches!(commit(&engine, [append(bystander, &["last"])]), CommitOutcome::Committed(_)));
    let after = model_of(&engine).unwrap();
    drop(engine);
    disk.settle();
    let mut without_last = after.clone();
    without_last.insert(bystander, Contents::default());
    (disk, without_last, after)
}

pub(crate) fn files_of(disk: &FaultDisk) -> Vec<std::path::PathBuf> {
    use types::disk::Disk;
    let directories = ["", "wal", "segments"];
    directories.into_iter().flat_map(|directory| disk.list(directory.as_ref()).unwrap()).collect()
}

/// Either the engine says that something is wrong, or it holds what it should. Never does it panic, and never is a record
/// other than it was.
pub(crate) fn check_damaged(image: &FaultDisk, models: [&Model; 2]) {
    let Ok(engine) = EmbeddedLog::open(Arc::new(image.clone()), options()) else { return };
    let whole = models[1];
    let mut found = Model::new();
    let mut damaged = Vec::new();
    for log in engine.logs() {
        match contents_of(&engine, log) {
            Ok(contents) => drop(found.insert(log, contents)),
            Err(ReadError::Damaged { .. }) => damaged.push(log),
            Err(other) => panic!("{other}"),
        }
    }
    let faults = engine.engine_state().faults;
    assert!(damaged.iter().all(|log| faults.iter().any(|fault| fault.logs.contains(log))), "{faults:?}");
    if faults.is_empty() {
        assert!(models.contains(&&found), "nothing is reported, but the logs are not what they were");
    }
    let everywhere = faults.iter().any(|fault| fault.logs.is_empty());
    let touched = |log: &LogId| everywhere || faults.iter().any(|fault| fault.logs.contains(log));
    for (log, contents) in whole.iter().filter(|(log, _)| !touched(log) && **log != LogId(99)) {
        assert_eq!(found.get(log), Some(contents), "log {log} is touched by no fault: {faults:?}");
    }
    for (log, contents) in &found {
        for (offset, value) in &contents.records {
            let was = whole.get(log).and_then(|was| was.records.get(offset));
            assert!(was.is_none_or(|was| was == value), "a record is another than it was");
        }
    }
    // A damaged log takes no writes, its neighbours do.
    let logs: Vec<LogId> = engine.logs();
    for (log, opened) in logs.iter().zip(engine.open(&logs)) {
        let outcome = commit(&engine, [under(opened.unwrap().epoch, append(*log, &["more"]))]);
        let expected = touched(log);
        assert_eq!(matches!(outcome, CommitOutcome::Refused(Refusal::Damaged(_))), expected, "{log}: {outcome:?}");
        assert_eq!(matches!(outcome, CommitOutcome::Committed(_)), !expected, "{log}: {outcome:?}");
    }
    engine.run_maintenance();
}

fn flip_bits(step: usize) {
    let (disk, without_last, whole) = settled();
    let (mut tried, mut path_count) = (0, 0);
    for path in files_of(&disk) {
        path_count += 1;
        let len = disk.contents(&path).unwrap().len();
        for at in (0..len).step_by(step) {
            let image = disk.crash_image(CrashStyle::Kept, 0);
            image.corrupt(&path, at as u64).unwrap();
            if catch_unwind(AssertUnwindSafe(|| check_damaged(&image, [&without_last, &whole]))).is_err() {
                panic!("a bit flipped in {} at byte {at}", path.display());
            }
            tried += 1;
        }
    }
    assert!(tried > 100 && path_count > 6, "{tried} bytes in {path_count} files");
}

#[test]
fn a_flipped_bit_is_reported_and_harms_no_neighbour() {
    flip_bits(61);
}

#[test]
#[ignore = "the long run, for `cargo xtask proofs`"]
fn proof_a_flipped_bit_is_reported_and_harms_no_neighbour() {
    flip_bits(1);
}

#[test]
fn damage_that_is_met_while_reading_is_scoped_to_its_log_and_its_batch() {
    let disk = FaultDisk::new();
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options()).unwrap();
    let (one, two) = (LogId(1), LogId(2));
    assert!(matches!(commit(&engine, [create(one), create(two)]), CommitOutcome::Committed(_)));
    for value in ["first", "damaged", "third"] {
        assert!(matches!(
            commit(&engine, [append(one, &[value]), append(two, &["fine"])]),
            CommitOutcome::Committed(_)
        ));
    }
    let wal = disk.contents("wal/00000001.wal").unwrap();
    let at = wal.windows(7).position(|window| window == b"damaged").unwrap();
    disk.corrupt("wal/00000001.wal", at as u64).unwrap();
    let read = |log, from| engine.read(log, Offset(from), EVERYTHING);
    assert_eq!(read(one, 0).unwrap().len(), 1, "what is before the damage comes first");
    let Err(ReadError::Damaged { log, offset, place, .. }) = read(one, 1) else { panic!("not reported") };
    assert_eq!((log, offset), (one, Offset(1)));
    assert!(place.starts_with("wal/00000001.wal at byte "), "{place}");
    assert_eq!(read(one, 2).unwrap().len(), 1, "what is behind it can be read");
    assert_eq!(read(two, 0).unwrap().len(), 3);
    assert_eq!(engine.engine_state().faults.len(), 1);
    assert!(matches!(commit_refused(&engine, [append(one, &["x"])]), Refusal::Damaged(log) if log == one));
    assert!(matches!(commit(&engine, [append(two, &["x"])]), CommitOutcome::Committed(_)));
}

#[test]
fn a_frame_larger_than_a_file_gets_a_file_of_its_own() {
    let disk = FaultDisk::new();
    let options = EmbeddedOptions { max_frame_bytes: 64 * 1024, ..options() };
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options.clone()).unwrap();
    let one = LogId(1);
    assert!(matches!(commit(&engine, [create(one)]), CommitOutcome::Committed(_)));
    let text = "y".repeat(50_000);
    for _ in 0..3 {
        assert!(matches!(commit(&engine, [append(one, &[&text, "small"])]), CommitOutcome::Committed(_)));
        engine.run_maintenance();
    }
    let refusal = commit_refused(&engine, [append(one, &[&"z".repeat(70_000)])]);
    assert!(matches!(refusal, Refusal::TooLarge { limit: 65_536, .. }), "{refusal:?}");
    drop(engine);
    let engine = EmbeddedLog::open(Arc::new(disk), options).unwrap();
    assert_eq!(contents_of(&engine, one).unwrap().records.len(), 6);
}

#[test]
fn a_stuck_record_does_not_hold_the_space_of_those_around_it() {
    let disk = FaultDisk::new();
    let engine = EmbeddedLog::open(Arc::new(disk.clone()), options()).unwrap();
    let one = LogId(1);
    assert!(matches!(commit(&engine, [create(one)]), CommitOutcome::Committed(_)));
    let text = "x".repeat(500);
    for offset in 0..400u64 {
        assert!(matches!(commit(&engine, [append(one, &[&text])]), CommitOutcome::Committed(_)));
        if offset > 0 {
            let late = offset.saturating_sub(20);
            if late > 0 {
                assert!(matches!(commit(&engine, [delete(one, &[late..late + 1])]), CommitOutcome::Committed(_)));
            }
        }
        engine.run_maintenance();
    }
    let used: usize = files_of(&disk).iter().map(|path| disk.contents(path).unwrap().len()).sum();
    assert!(used < 100 * 1024, "{used} bytes are used for {} records", engine.state(one).unwrap().records);
    assert_eq!(contents_of(&engine, one).unwrap().records.keys().next(), Some(&0));
    assert!(engine.engine_state().segments <= 12, "{}", engine.engine_state().segments);
}
