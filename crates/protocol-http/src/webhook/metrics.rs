//! What push consumers count.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of all push consumers since the start.
#[derive(Debug, Default)]
pub struct PushMetrics {
    sent: AtomicU64,
    ok: AtomicU64,
    failed: AtomicU64,
    paused: AtomicU64,
    in_flight: AtomicU64,
}

impl PushMetrics {
    /// Requests begun, or refused before they were (a target that may not be reached).
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Of those, requests answered with success.
    #[must_use]
    pub fn ok(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
    }

    /// Of those, requests that failed in whatever way.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// How often an endpoint asked for a pause of all requests to it. (Pauses by a queue's breaker are counted by the queue.)
    #[must_use]
    pub fn paused(&self) -> u64 {
        self.paused.load(Ordering::Relaxed)
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request that begins. Ended by dropping what this returns, however the request ends.
    pub(super) fn begin(&self) -> InFlight<'_> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    pub(super) fn count_ok(&self) {
        self.ok.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_pause(&self) {
        self.paused.fetch_add(1, Ordering::Relaxed);
    }
}

/// A request under way.
pub(super) struct InFlight<'a>(&'a PushMetrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
