//! `bench disk`: what the disk gives a bare sequential writer that syncs after every so many bytes.

use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use log::FileDisk;
use serde::Serialize;
use types::disk::Disk;

use super::clock::now;
use super::lane;
use super::report::micros;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Rows};
use crate::values::{show_bytes, size, span};

/// The rhythms that are measured unless others are asked for: what a few dozen small publishes make, and large batches.
pub(super) const SYNC_BYTES: [u64; 2] = [64 * 1024, 1024 * 1024];
/// Size of the file, which is written from its beginning again when it is full, as the broker's write-ahead files are.
const FILE_BYTES: u64 = 64 * 1024 * 1024;
const FILE: &str = "bench";

/// Measure what a disk gives a bare sequential writer into a preallocated file that syncs (fdatasync) after every so many bytes. Needs
/// no server.
#[derive(Args, Debug)]
pub(crate) struct DiskArgs {
    /// A directory on the disk. What is written there is removed.
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Bytes between two syncs; 64KiB and 1MiB unless given. May be given several times.
    #[arg(long, value_name = "SIZE", value_parser = sync_size)]
    sync_bytes: Vec<u64>,
    /// How long each is measured.
    #[arg(long, value_name = "TIME", value_parser = span, default_value = "3s")]
    duration: Duration,
}

fn sync_size(given: &str) -> Result<u64, String> {
    match size(given)? {
        bytes @ 1..=FILE_BYTES => Ok(bytes),
        _ => Err(format!("give 1 B to {}", show_bytes(FILE_BYTES))),
    }
}

/// What a disk gave at one rhythm.
#[derive(Clone, Debug, Serialize)]
pub(super) struct DiskReport {
    /// Bytes between two syncs.
    pub(super) sync_bytes: u64,
    pub(super) syncs: u64,
    pub(super) seconds: f64,
    pub(super) mib_per_second: f64,
    pub(super) fdatasync_p50_us: u64,
    pub(super) fdatasync_p99_us: u64,
    pub(super) fdatasync_max_us: u64,
    /// The benchmark's bytes a second as a share of the disk's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio: Option<f64>,
}

/// One rhythm, measured in one or more parts.
#[derive(Debug)]
pub(super) struct DiskRun {
    sync_bytes: u64,
    took: Duration,
    syncs: Histogram<u64>,
}

impl DiskRun {
    /// Adds another part.
    pub(super) fn add(&mut self, other: &Self) {
        self.took += other.took;
        // Both count the same range, so that nothing can be out of it.
        let _ = self.syncs.add(&other.syncs);
    }

    #[allow(clippy::cast_precision_loss, reason = "a measurement, exact up to 2^53 bytes")]
    pub(super) fn report(&self) -> DiskReport {
        let bytes = self.sync_bytes * self.syncs.len();
        DiskReport {
            sync_bytes: self.sync_bytes,
            syncs: self.syncs.len(),
            seconds: self.took.as_secs_f64(),
            mib_per_second: bytes as f64 / (1 << 20) as f64 / self.took.as_secs_f64().max(f64::MIN_POSITIVE),
            fdatasync_p50_us: self.syncs.value_at_quantile(0.5),
            fdatasync_p99_us: self.syncs.value_at_quantile(0.99),
            fdatasync_max_us: self.syncs.max(),
            ratio: None,
        }
    }
}

pub(super) async fn run(format: Format, args: DiskArgs) -> Result<(), Failure> {
    let rhythms = if args.sync_bytes.is_empty() { SYNC_BYTES.to_vec() } else { args.sync_bytes };
    let reports: Vec<DiskReport> =
        measure(&args.dir, &rhythms, args.duration).await?.iter().map(DiskRun::report).collect();
    if format == Format::Json {
        return output::json(&serde_json::json!({ "bench": "disk", "disk": reports }));
    }
    output::line(table(&reports))
}

/// The table for people.
pub(super) fn table(reports: &[DiskReport]) -> String {
    let with_ratio = reports.iter().any(|report| report.ratio.is_some());
    let mut head = vec!["disk, bytes a sync", ">MiB/s", ">syncs/s", ">fdatasync p50", ">p99", ">max"];
    if with_ratio {
        head.push(">ratio");
    }
    let mut rows = Rows::new(&head);
    for report in reports {
        #[allow(clippy::cast_precision_loss, reason = "a measurement for people")]
        let rate = report.syncs as f64 / report.seconds.max(f64::MIN_POSITIVE);
        let mut row = vec![
            show_bytes(report.sync_bytes),
            format!("{:.1}", report.mib_per_second),
            format!("{rate:.0}"),
            micros(report.fdatasync_p50_us),
            micros(report.fdatasync_p99_us),
            micros(report.fdatasync_max_us),
        ];
        row.extend(report.ratio.map(|ratio| format!("{ratio:.2}")));
        rows.add(row);
    }
    rows.text()
}

/// Measures each rhythm for so long.
///
/// # Errors
/// The disk's, or that it was interrupted.
pub(super) async fn measure(dir: &Path, rhythms: &[u64], duration: Duration) -> Result<Vec<DiskRun>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    let (dir, rhythms, stopped) = (dir.to_owned(), rhythms.to_vec(), Arc::clone(&stop));
    let mut work = tokio::task::spawn_blocking(move || measure_now(&dir, &rhythms, duration, &stopped));
    let joined = tokio::select! {
        joined = &mut work => joined,
        _ = tokio::signal::ctrl_c() => {
            stop.store(true, Ordering::Relaxed);
            work.await
        }
    };
    joined.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?
}

/// Removes a directory when dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            output::remark(format!("{} could not be removed: {error}", self.0.display()));
        }
    }
}

fn measure_now(dir: &Path, rhythms: &[u64], duration: Duration, stop: &AtomicBool) -> Result<Vec<DiskRun>, Failure> {
    let root = dir.join(format!("posthouse-bench-{}", std::process::id()));
    let named = |error: std::io::Error| Failure::new(Exit::Failed, format!("{}: {error}", dir.display()));
    let disk = FileDisk::open(&root).map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let _scratch = Scratch(root);
    let file = disk.open(Path::new(FILE), true).map_err(named)?;
    file.allocate(FILE_BYTES).map_err(named)?;
    // Written once before: a block's first write costs the file system a note of its own, which the broker's recycled files do not pay.
    let zeros = vec![0; 1 << 20];
    for at in 0..FILE_BYTES >> 20 {
        file.write_at(&[IoSlice::new(&zeros)], at << 20).map_err(named)?;
    }
    file.sync_data().map_err(named)?;
    disk.sync_dir(Path::new("")).map_err(named)?;
    let mut runs = Vec::new();
    for &sync_bytes in rhythms {
        let block = lane::body(usize::try_from(sync_bytes).unwrap_or(usize::MAX));
        let mut syncs = Histogram::new_with_bounds(1, 60_000_000, 3)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        let (start, mut at) = (now(), 0);
        let took = loop {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure::new(Exit::Failed, "interrupted"));
            }
            if at + sync_bytes > FILE_BYTES {
                at = 0;
            }
            file.write_at(&[IoSlice::new(&block)], at).map_err(named)?;
            at += sync_bytes;
            let begin = now();
            file.sync_data().map_err(named)?;
            let end = now();
            syncs.saturating_record(u64::try_from((end - begin).as_micros()).unwrap_or(u64::MAX).max(1));
            if end - start >= duration {
                break end - start;
            }
        };
        runs.push(DiskRun { sync_bytes, took, syncs });
    }
    Ok(runs)
}
