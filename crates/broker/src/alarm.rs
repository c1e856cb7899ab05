//! Wakes whoever ticks the broker when something falls due earlier than was thought.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;
use types::Monotonic;

/// One sleeper, and many who may have reason to wake it.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    asleep_until: AtomicU64,
    wake: Notify,
}

impl Alarm {
    /// The sleeper looks for what is due, and will sleep until `at` at most. IMPORTANT: it says so before it looks, or what falls due
    /// between the look and the sleep would wake nobody.
    pub(crate) fn sleep_until(&self, at: Monotonic) {
        self.asleep_until.store(at.0, Ordering::SeqCst);
    }

    /// Something falls due at `at`.
    pub(crate) fn due_at(&self, at: Monotonic) {
        if at.0 < self.asleep_until.load(Ordering::SeqCst) {
            self.wake.notify_one();
        }
    }

    /// Ready when the sleeper should look again.
    pub(crate) async fn rung(&self) {
        self.wake.notified().await;
    }
}
