//! The committer's thread: when it writes a round, and when it waits.

use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::MutexGuard;

use super::committer::Round;
use super::core::Core;
use super::intake::Stage;
use super::stats::instant;

/// How often the committer looks for a free file while the engine is being closed, before it gives up.
const STALLS_OF_CLOSE: u32 = 40;

/// Syncs that take less are not worth waiting for company.
const GATHER_ABOVE: Duration = Duration::from_micros(40);
/// The part of a sync's time that is waited at most.
const GATHER_PART: u32 = 4;
/// A sleep takes about so long whatever was asked for; shorter waits only let others run.
const SLEEP_ABOVE: Duration = Duration::from_micros(100);
/// What is waited at most, however slow the disk.
const GATHER_MOST: Duration = Duration::from_millis(1);
/// Rounds without waiting after one in which it did not pay.
const GATHER_PAUSE: u32 = 16;

/// Whether it pays to wait for the callers that were just answered.
///
/// Callers that each wait for an end before they commit again fall into two halves otherwise: one is synced while the other queues, and
/// each round is half as large, and each commit waits for twice as many syncs, as need be.
#[derive(Default)]
struct Gather {
    /// Rounds for which nobody is waited for, because those expected did not come the last time.
    pause: u32,
}

impl Core {
    /// Waits, for a small part of a sync's time, until as many commits are under way as were when the last round ended.
    fn gather(&self, gather: &mut Gather) {
        let last_sync = self.writer.lock().last_sync;
        let mut intake = self.intake.lock();
        let expected = std::mem::take(&mut intake.last_under_way);
        if expected < 2 || last_sync < GATHER_ABOVE {
            return;
        }
        if gather.pause > 0 {
            gather.pause -= 1;
            return;
        }
        let deadline = instant() + (last_sync / GATHER_PART).min(GATHER_MOST);
        intake.wake_at = expected;
        while intake.under_way < expected && intake.stage == Stage::Open {
            let left = deadline.saturating_duration_since(instant());
            if left.is_zero() {
                break;
            }
            if left > SLEEP_ABOVE {
                self.work.wait_until(&mut intake, deadline);
            } else {
                // Those waited for need the lock.
                MutexGuard::unlocked(&mut intake, || {
                    while self.under_way.load(Ordering::Acquire) < expected && instant() < deadline {
                        std::thread::yield_now();
                    }
                });
            }
        }
        intake.wake_at = usize::MAX;
        // Nine of ten are enough to go on hoping.
        if intake.under_way * 10 < expected * 9 {
            gather.pause = GATHER_PAUSE;
        }
    }

    /// The committer's thread.
    pub(super) fn run_committer(&self) {
        let mut stalls_of_close = 0;
        let mut gather = Gather::default();
        loop {
            self.gather(&mut gather);
            let round = self.run_round();
            // IMPORTANT: before the next round, or commits that never stop coming would put the sync off for ever.
            let since = self.writer.lock().interval_since;
            let rest = since.map(|since| self.options.interval.saturating_sub(since.elapsed()));
            if rest == Some(Duration::ZERO)
                && let Err(error) = self.sync_written()
            {
                self.poison(&error.to_string());
            }
            if round == Round::Done {
                continue;
            }
            if round == Round::Stalled && self.intake.lock().stage != Stage::Open {
                stalls_of_close += 1;
                if stalls_of_close > STALLS_OF_CLOSE {
                    self.poison("the engine was closed while commits waited for space");
                    continue;
                }
            }
            let mut intake = self.intake.lock();
            let must_wait = intake.queue.is_empty() || round == Round::Stalled;
            if intake.queue.is_empty() && intake.stage != Stage::Open {
                return;
            }
            if must_wait {
                let rest = rest.filter(|rest| !rest.is_zero());
                let wait = rest.unwrap_or(self.options.maintenance_interval);
                self.work.wait_for(&mut intake, wait);
            }
        }
    }
}
