//! The log without a broker above it: many appenders that each wait until their record is on the disk.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use clap::Args;
use log::batch::{BatchBuilder, BatchOptions, NO_HEADERS};
use log::{
    Append, Cleanup, Commit, CommitOutcome, Durability, EmbeddedLog, EmbeddedOptions, FileDisk, Log, LogConfig,
    Operation, Target,
};
use types::{Epoch, LogId, Offset};

use crate::measure::{Meter, Report, WARMUP, body, now, seconds};

/// Records that are acknowledged together.
const ACKS: u64 = 64;
/// Completions that were not looked at yet, beyond those of the appenders.
const SPARE: usize = 1024;
const LOG: LogId = LogId(1);

#[derive(Args, Debug)]
pub(crate) struct Appenders {
    /// An empty directory on the disk that is measured.
    #[arg(long)]
    dir: PathBuf,
    /// Appenders.
    #[arg(long, default_value_t = 64)]
    appenders: u64,
    /// Size of a record, in bytes.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Measure for so many seconds.
    #[arg(long, value_parser = seconds, default_value = "5")]
    duration: Duration,
}

/// A commit that ended.
struct Ended {
    outcome: CommitOutcome,
    /// When it was queued, of an append.
    since: Option<Instant>,
}

fn commit(engine: &EmbeddedLog, operation: Operation, since: Option<Instant>, ended: &SyncSender<Ended>) {
    let ended = ended.clone();
    let target = Target { log: LOG, epoch: Epoch(1), expected_end: None, operation };
    let commit = Commit { durability: Durability::Fsync, uses_reserve: false, operations: vec![target] };
    engine.commit(commit, Box::new(move |outcome| drop(ended.send(Ended { outcome, since }))));
}

/// Each appender appends again as soon as its record is confirmed. Records are acknowledged behind them, as those of a queue that is
/// kept up with, so that none need move on.
pub(crate) fn run(appenders: Appenders) -> anyhow::Result<Report> {
    let path = appenders.dir.join(format!("appenders-{}", std::process::id()));
    let engine = EmbeddedLog::open(Arc::new(FileDisk::open(&path)?), EmbeddedOptions::default())?;
    let (sender, receiver) = sync_channel(usize::try_from(appenders.appenders)? + SPARE);
    let config = LogConfig {
        label: String::new(),
        cleanup: Cleanup::default(),
        key_index: false,
        volatile: false,
        apart: false,
    };
    commit(&engine, Operation::Create(config), None, &sender);
    receiver.recv()?;
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(None, 0, None, Some(&body(appenders.size)), NO_HEADERS)?;
    let batch = builder.finish()?;
    let append = || {
        let append = Append { batch: batch.clone(), selection: None, weight: 0 };
        commit(&engine, Operation::Append(append), Some(now()), &sender);
    };
    let mut meter = Meter::new(WARMUP, appenders.duration, None)?;
    (0..appenders.appenders).for_each(|_| append());
    let (mut waiting, mut confirmed) = (appenders.appenders, 0);
    while waiting > 0 {
        let ended = receiver.recv()?;
        anyhow::ensure!(matches!(ended.outcome, CommitOutcome::Committed(_)), "a commit ended so: {:?}", ended.outcome);
        let Some(since) = ended.since else { continue };
        let at = now();
        meter.note(since, at, 1);
        confirmed += 1;
        if meter.is_over(at) {
            waiting -= 1;
            continue;
        }
        append();
        if confirmed % ACKS == 0 {
            let range: Range<Offset> = Offset(confirmed - ACKS)..Offset(confirmed);
            commit(&engine, Operation::Delete { ranges: vec![range], weight: 0 }, None, &sender);
        }
    }
    let report = meter.finish("appenders")?;
    engine.close();
    drop(engine);
    std::fs::remove_dir_all(path)?;
    Ok(report)
}
