//! Bytes of messages in flight through the broker, and the watermark above which publishers are held back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts bytes held; publishers wait or are refused while there are too many.
#[derive(Debug)]
pub(crate) struct MemoryGauge {
    held: AtomicU64,
    high: u64,
    fell: Notify,
}

/// Bytes held until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    gauge: Arc<MemoryGauge>,
    bytes: u64,
}

impl MemoryGauge {
    pub(crate) fn new(high: u64) -> Self {
        Self { held: AtomicU64::new(0), high, fell: Notify::new() }
    }

    pub(crate) fn hold(self: &Arc<Self>, bytes: u64) -> Held {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Held { gauge: Arc::clone(self), bytes }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn is_high(&self) -> bool {
        self.bytes() >= self.high
    }

    /// Waits until it is not high.
    pub(crate) async fn wait(&self) {
        loop {
            let fell = self.fell.notified();
            tokio::pin!(fell);
            fell.as_mut().enable();
            if !self.is_high() {
                return;
            }
            fell.await;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let before = self.gauge.held.fetch_sub(self.bytes, Ordering::Relaxed);
        if before >= self.gauge.high && before - self.bytes < self.gauge.high {
            self.gauge.fell.notify_waiters();
        }
    }
}
