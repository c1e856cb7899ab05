//! Counters and rates of one queue, fed by its machine's events.

use types::Monotonic;

use crate::queue::{LeaveReason, QueueEvent};
use crate::views::{QueueCounters, QueueRates};

/// How much of a rate's past counts after a second.
const DECAY: f64 = 0.8;

/// Counters since the start, and rates averaged over the last seconds.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) counters: QueueCounters,
    rates: QueueRates,
    sampled: QueueCounters,
    sampled_at: Option<Monotonic>,
}

impl Meter {
    pub(crate) fn count(&mut self, event: &QueueEvent) {
        match event {
            QueueEvent::Enqueued { .. } => self.counters.enqueued += 1,
            QueueEvent::EnqueuedRun { count, .. } => self.counters.enqueued += count,
            QueueEvent::Delivered { .. } => self.counters.delivered += 1,
            QueueEvent::Acked { .. } => self.counters.acked += 1,
            QueueEvent::Failed { .. } => self.counters.failed += 1,
            QueueEvent::Left { reason: LeaveReason::Expired, .. } => self.counters.expired += 1,
            _ => {}
        }
    }

    /// Brings the rates up to date; called about once a second, and on reading.
    pub(crate) fn sample(&mut self, now: Monotonic) {
        let Some(before) = self.sampled_at else {
            self.sampled_at = Some(now);
            self.sampled = self.counters;
            return;
        };
        let seconds = now.since(before).as_secs_f64();
        if seconds < 0.9 {
            return;
        }
        let keep = DECAY.powf(seconds);
        let mix = |rate: &mut f64, new: u64, old: u64| {
            *rate = *rate * keep + (new - old) as f64 / seconds * (1.0 - keep);
            if *rate < 0.005 {
                *rate = 0.0;
            }
        };
        mix(&mut self.rates.enqueued, self.counters.enqueued, self.sampled.enqueued);
        mix(&mut self.rates.delivered, self.counters.delivered, self.sampled.delivered);
        mix(&mut self.rates.acked, self.counters.acked, self.sampled.acked);
        mix(&mut self.rates.failed, self.counters.failed, self.sampled.failed);
        self.sampled = self.counters;
        self.sampled_at = Some(now);
    }

    pub(crate) fn rates(&self) -> QueueRates {
        self.rates
    }
}
