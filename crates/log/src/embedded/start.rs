//! The start of the engine: recovery, and what it then writes before anybody may commit.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Weak};

use parking_lot::{Condvar, Mutex, RwLock};
use types::LogId;
use types::disk::Disk;

use super::checkpoint::{self, ROOT};
use super::committer::{Round, Writer};
use super::core::{Alarm, Core};
use super::draft::{Action, Draft};
use super::error::StartError;
use super::index_cache::IndexCache;
use super::intake::{Head, Intake, needs_keys};
use super::keys::KeyHasher;
use super::log_data::LogData;
use super::maintenance::Upkeep;
use super::options::EmbeddedOptions;
use super::published::Published;
use super::recovery::{Recovered, recover};
use super::rewrite::rewrite;
use super::segment::{self, SEGMENT_DIR};
use super::stats::Stats;
use super::wal::{WAL_DIR, WalFile, WalSet};
use crate::CommitOutcome;
use crate::backup::RESTORING_FILE;

/// The file that says that a directory is a whole data directory, and of which version.
pub(crate) const FORMAT_FILE: &str = "FORMAT";
const FORMAT_TEMPORARY: &str = "FORMAT.tmp";
/// What the format file of this version says.
pub(crate) const FORMAT: &str = "posthouse log 1\n";

/// Makes the directory what it should be, recovers, and writes down that a new start began.
pub(super) fn start(disk: Arc<dyn Disk>, options: EmbeddedOptions) -> Result<Core, StartError> {
    if !check_format(disk.as_ref())? {
        make_directory(disk.as_ref())?;
    }
    // IMPORTANT: what this start builds on must be durable before anything is removed or written because of it. After a kill, names
    // and frames are seen that are in the page cache only.
    let settle = || disk.sync_dir(Path::new(ROOT)).and_then(|()| disk.sync_dir(Path::new(WAL_DIR)));
    settle().map_err(|error| StartError::io("the data directory", &error))?;
    let mut recovered = recover(disk.as_ref(), options.recent_bytes)?;
    for bad in &recovered.bad_checkpoints {
        tracing::warn!(place = bad.place, what = bad.what, "a checkpoint is left aside; an older one was good");
    }
    for fault in &recovered.published.faults {
        tracing::error!(place = fault.place, what = fault.what, logs = ?fault.logs, "damage: these logs are read-only");
    }
    for oddity in &recovered.oddities {
        tracing::warn!("{oddity}");
    }
    let end = recovered.published.position.pos;
    if let Some(active) = recovered.in_use.last_mut() {
        settle_active(active, end, recovered.active_bytes)
            .map_err(|error| StartError::io(&active.path().display().to_string(), &error))?;
    }
    remove_orphans(disk.as_ref(), &recovered.orphans)?;
    let (core, odd) = assemble(disk, options, recovered);
    for file in odd {
        // It holds nothing; if it cannot be removed it is found again at the next start.
        let _ = core.disk.remove(&file.path());
    }
    core.look_at_space();
    first_round(&core)?;
    Ok(core)
}

/// Whether the directory is one of ours; `false` if it is empty.
///
/// # Errors
/// [`StartError::Format`], [`StartError::NotADataDirectory`], or the operating system's.
pub(super) fn check_format(disk: &dyn Disk) -> Result<bool, StartError> {
    let io = |error| StartError::io(FORMAT_FILE, &error);
    match disk.open(Path::new(FORMAT_FILE), false) {
        Ok(file) => {
            let len = usize::try_from(file.len_bytes().map_err(io)?.min(1024)).unwrap_or(1024);
            let found = segment::read_exact(file.as_ref(), 0, len).map_err(io)?;
            if found == FORMAT.as_bytes() {
                return Ok(true);
            }
            Err(StartError::Format { found: String::from_utf8_lossy(&found).into_owned(), expected: FORMAT })
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if disk.open(Path::new(RESTORING_FILE), false).is_ok() {
                return Err(StartError::Restoring);
            }
            // The format file is the first that becomes durable, so whatever else is there is not a half-made directory.
            let mut others =
                checkpoint::list(disk).map_err(io)?.into_iter().map(checkpoint::path_of).collect::<Vec<_>>();
            for directory in [WAL_DIR, SEGMENT_DIR] {
                others.extend(disk.list(Path::new(directory)).map_err(io)?);
            }
            match others.first() {
                Some(file) => Err(StartError::NotADataDirectory { file: file.display().to_string() }),
                None => Ok(false),
            }
        }
        Err(error) => Err(io(error)),
    }
}

fn make_directory(disk: &dyn Disk) -> Result<(), StartError> {
    let make = || {
        disk.create_dir(Path::new(WAL_DIR))?;
        disk.create_dir(Path::new(SEGMENT_DIR))?;
        let file = disk.open(Path::new(FORMAT_TEMPORARY), true)?;
        file.set_len(0)?;
        file.write_at(&[IoSlice::new(FORMAT.as_bytes())], 0)?;
        file.sync_data()?;
        disk.rename(Path::new(FORMAT_TEMPORARY), Path::new(FORMAT_FILE))?;
        disk.sync_dir(Path::new(ROOT))
    };
    make().map_err(|error| StartError::io("the data directory", &error))
}

/// Makes the file durable that is written on. One that was cut behind its frames gets its length back first: the next start must
/// not find frames near an end that is none.
fn settle_active(active: &mut WalFile, end: u64, bytes: u64) -> io::Result<()> {
    if active.capacity < bytes && end <= active.capacity {
        active.file.allocate(bytes)?;
        active.capacity = bytes;
    }
    // IMPORTANT: written again, not only synced. The last process may have met a sync that failed, and what it left in the page cache
    // would be built on here, and be gone with the next power cut.
    rewrite(active.file.as_ref(), end)?;
    active.file.sync_data()
}

/// Removes segments that no checkpoint came to mention, and write-ahead files that were not finished: the crash was between the two.
fn remove_orphans(disk: &dyn Disk, orphans: &[PathBuf]) -> Result<(), StartError> {
    for path in orphans {
        disk.remove(path).map_err(|error| StartError::io(&path.display().to_string(), &error))?;
    }
    Ok(())
}

/// The engine over what was recovered, and the free files that it has no use for. Writes nothing.
pub(super) fn assemble(disk: Arc<dyn Disk>, options: EmbeddedOptions, recovered: Recovered) -> (Core, Vec<WalFile>) {
    let Recovered { published, in_use, free, cut, boot, checkpoint, .. } = recovered;
    let boot = boot.saturating_add(1);
    let mut intake = Intake::new(options.max_waiting_bytes, options.max_frame_bytes);
    fill_heads(&mut intake, &published);
    let mut writer = Writer::new(published.position, boot);
    let mut wal = WalSet::default();
    let mut own_bytes: u64 = published.segments.values().map(|segment| segment.len_bytes).sum();
    for file in in_use.iter().chain(&free).chain(&cut) {
        wal.next_number = wal.next_number.max(file.number);
        own_bytes += file.capacity;
    }
    for file in in_use {
        let seq = file.seq();
        wal.put_in_use(Arc::new(file), seq);
    }
    writer.active = wal.in_use.back().cloned();
    let (usable, odd): (Vec<WalFile>, Vec<WalFile>) =
        free.into_iter().partition(|file| file.capacity == options.wal_file_bytes);
    wal.free.extend(usable.into_iter().map(Arc::new));
    let reserve_bytes = options.reserve(disk.free_bytes().unwrap_or(u64::MAX).saturating_add(own_bytes));
    let has_damage = published.damaged_logs() > 0;
    let has_keys = intake.heads.values().any(|head| head.needs_keys);
    let core = Core {
        disk,
        reserve_bytes,
        turn: Mutex::new(()),
        intake: Mutex::new(intake),
        under_way: AtomicUsize::new(0),
        has_keys: AtomicBool::new(has_keys),
        work: Condvar::new(),
        writer: Mutex::new(writer),
        published: RwLock::new(published),
        wal: Mutex::new(wal),
        upkeep: Mutex::new(Upkeep { checkpoint, boot, ..Upkeep::default() }),
        pin: Mutex::new(Weak::new()),
        alarm: Mutex::new(Alarm::default()),
        alarm_rang: Condvar::new(),
        indexes: IndexCache::default(),
        key_hasher: KeyHasher::default(),
        stats: Stats::default(),
        free_bytes: AtomicU64::new(u64::MAX),
        is_stalled: AtomicBool::new(false),
        has_damage: AtomicBool::new(has_damage),
        has_failed: AtomicBool::new(false),
        options,
    };
    (core, odd)
}

fn fill_heads(intake: &mut Intake, published: &Published) {
    intake.removed = published.removed.clone();
    intake.wholly_damaged = published.is_wholly_damaged();
    let head = |data: &LogData| Head {
        // IMPORTANT: above every epoch that was handed out before the start, so that no earlier owner can commit before the next
        // has opened the log.
        epoch: Published::epoch_after_boot(data),
        next: data.end,
        is_volatile: false,
        is_damaged: data.damage.is_some(),
        needs_keys: needs_keys(&data.config),
    };
    intake.heads = published.logs.iter().map(|(log, data)| (*log, head(data))).collect();
}

/// Writes the start's own frame. It overwrites a torn tail, and from then on nothing that an earlier start left behind it
/// can be taken for newer.
fn first_round(core: &Core) -> Result<(), StartError> {
    let (sender, receiver) = sync_channel(1);
    let boot = Draft::internal([(LogId(0), Action::Boot)]);
    core.submit(Ok(boot), Box::new(move |outcome| drop(sender.send(outcome))));
    if core.run_round() == Round::Stalled {
        // No file is free and there is no room for one: moving the oldest may make room.
        core.run_maintenance();
        if core.run_round() == Round::Stalled {
            return Err(StartError::FirstWrite("the disk has no room for a write-ahead file".to_owned()));
        }
    }
    match receiver.try_recv() {
        Ok(CommitOutcome::Committed(_)) => Ok(()),
        Ok(outcome) => Err(StartError::FirstWrite(format!("{outcome:?}"))),
        Err(error) => Err(StartError::FirstWrite(error.to_string())),
    }
}
