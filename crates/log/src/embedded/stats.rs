//! Counters and latency histograms, without locks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::EngineState;

/// The monotonic clock of the engine's own latencies and of the interval; nothing that is stored depends on it.
#[allow(clippy::disallowed_methods, reason = "latency is measured where it arises")]
pub(super) fn instant() -> Instant {
    Instant::now()
}

#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [AtomicU64; 16],
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn add(&self, since: Instant) {
        self.add_at(since, instant());
    }

    /// Adds the time from `since` to `now`.
    pub(super) fn add_at(&self, since: Instant, now: Instant) {
        let us = u64::try_from(now.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX);
        let bucket = EngineState::LATENCY_BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(us, Relaxed);
    }

    pub(super) fn read(&self) -> ([u64; 16], u64) {
        (std::array::from_fn(|at| self.counts.get(at).map_or(0, |count| count.load(Relaxed))), self.sum.load(Relaxed))
    }
}

#[derive(Debug, Default)]
pub(super) struct Stats {
    pub(super) commits: AtomicU64,
    pub(super) rounds: AtomicU64,
    pub(super) written_bytes: AtomicU64,
    pub(super) syncs: Histogram,
    pub(super) commit_times: Histogram,
}
