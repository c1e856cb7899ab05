//! How fast the embedded engine commits, beside a bare writer on the same disk: `cargo run --release -p log --example commit_rate DIR`.
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement for people")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use log::batch::{BatchBuilder, BatchOptions, NO_HEADERS};
use log::{
    Append, Cleanup, Commit, CommitOutcome, Durability, EmbeddedLog, EmbeddedOptions, EngineState, FileDisk, Log,
    LogConfig, Operation, Target,
};
use types::{Epoch, LogId, Offset};

const WINDOW: usize = 64;
/// Records that one acknowledgement takes.
const ACKS: u64 = 64;
const VALUE_BYTES: usize = 1024;
const RUN: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args().nth(1).ok_or("usage: commit_rate DIR")?;
    std::fs::create_dir_all(&root)?;
    for _ in 0..2 {
        let bare = bare_writer(&root)?;
        println!("bare writer, 64 KiB and fdatasync: {:.1} MB/s, {:.0} syncs/s", bare / 1e6, bare / 65536.0);
        let engine = engine(&root)?;
        println!(
            "engine, {WINDOW} commits of 1 KiB under way: {:.1} MB/s of values = {:.0} %",
            engine / 1e6,
            100.0 * engine / bare
        );
    }
    Ok(())
}

/// Writes over a prepared file, as the engine does.
fn bare_writer(root: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let path = format!("{root}/bare");
    let file = File::create(&path)?;
    let size = 64 << 20;
    let block = vec![7; 64 * 1024];
    for at in (0..size).step_by(block.len()) {
        file.write_all_at(&block, at)?;
    }
    file.sync_all()?;
    let (start, mut at, mut bytes) = (Instant::now(), 0, 0u64);
    while start.elapsed() < RUN {
        file.write_all_at(&block, at)?;
        file.sync_data()?;
        at = (at + block.len() as u64) % size;
        bytes += block.len() as u64;
    }
    let rate = bytes as f64 / start.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}

fn engine(root: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let path = format!("{root}/engine");
    let disk = Arc::new(FileDisk::open(&path)?);
    let opening = Instant::now();
    let engine = EmbeddedLog::open(disk, EmbeddedOptions::default())?;
    println!("opened in {:?}", opening.elapsed());
    let (sender, receiver) = sync_channel(WINDOW);
    let config = LogConfig {
        label: String::new(),
        cleanup: Cleanup::default(),
        key_index: false,
        volatile: false,
        apart: false,
    };
    let send = |operation| {
        let sender = sender.clone();
        let target = Target { log: LogId(1), epoch: Epoch(1), expected_end: None, operation };
        let commit = Commit { durability: Durability::Fsync, operations: vec![target], uses_reserve: false };
        engine.commit(commit, Box::new(move |outcome| drop(sender.send(outcome))));
    };
    send(Operation::Create(config));
    receiver.recv()?;
    let value = vec![42; VALUE_BYTES];
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.push(None, 0, None, Some(&value), NO_HEADERS)?;
    let batch = builder.finish()?;
    let append = || send(Operation::Append(Append { batch: batch.clone(), selection: None, weight: 0 }));
    let acknowledge = |start, end| send(Operation::Delete { ranges: std::iter::once(start..end).collect(), weight: 0 });
    let mut sent = 0u64;
    (0..WINDOW).for_each(|_| append());
    // The first files are made in this time.
    let warm_up = Instant::now() + RUN / 5;
    let (mut start, mut count, before) = (Instant::now(), 0u64, engine.engine_state());
    let mut is_warm = false;
    while start.elapsed() < RUN {
        if !matches!(receiver.recv()?, CommitOutcome::Committed(_)) {
            return Err("a commit failed".into());
        }
        append();
        count += 1;
        // As a queue that keeps up does: what came is acknowledged, so that nothing need be moved to segments.
        sent += 1;
        if sent.is_multiple_of(ACKS) {
            let (start, end) = (Offset(sent - ACKS), Offset(sent));
            acknowledge(start, end);
            receiver.recv()?;
        }
        if !is_warm && Instant::now() > warm_up {
            (start, count, is_warm) = (Instant::now(), 0, true);
        }
    }
    let rate = (count * VALUE_BYTES as u64) as f64 / start.elapsed().as_secs_f64();
    for _ in 0..WINDOW {
        receiver.recv()?;
    }
    report(&before, &engine.engine_state());
    engine.close();
    drop(engine);
    std::fs::remove_dir_all(path)?;
    Ok(rate)
}

fn report(before: &EngineState, after: &EngineState) {
    let rounds = after.rounds - before.rounds;
    let commits = after.commits - before.commits;
    println!(
        "{commits} commits in {rounds} rounds ({:.1} a round), a sync takes {} us, a commit {} us; {} files, {} segments",
        commits as f64 / rounds as f64,
        (after.sync_us_sum - before.sync_us_sum) / rounds.max(1),
        (after.commit_us_sum - before.commit_us_sum) / commits.max(1),
        after.wal_files,
        after.segments,
    );
}
