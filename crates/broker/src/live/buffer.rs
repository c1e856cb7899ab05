//! What a live subscriber has not taken yet: bounded, the oldest goes first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;
use types::Message;

/// Most messages that wait for one live subscriber.
pub(crate) const MAX_LIVE_MESSAGES: usize = 8_192;
/// Most bytes that wait for one live subscriber.
pub(crate) const MAX_LIVE_BYTES: usize = 16 * 1024 * 1024;

/// A live subscriber's buffer.
#[derive(Default)]
pub(crate) struct LiveBuffer {
    waiting: Mutex<Waiting>,
    wake: Notify,
    lost: AtomicU64,
    closed: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
}

impl LiveBuffer {
    /// Adds a message; gives how many older ones had to go.
    pub(crate) fn push(&self, message: &Arc<Message>) -> u64 {
        let mut lost = 0;
        {
            let mut waiting = self.waiting.lock();
            waiting.bytes += message.weight_bytes();
            waiting.messages.push_back(Arc::clone(message));
            while waiting.messages.len() > 1
                && (waiting.messages.len() > MAX_LIVE_MESSAGES || waiting.bytes > MAX_LIVE_BYTES)
            {
                if let Some(gone) = waiting.messages.pop_front() {
                    waiting.bytes -= gone.weight_bytes();
                    lost += 1;
                }
            }
        }
        self.lost.fetch_add(lost, Ordering::Relaxed);
        self.wake.notify_one();
        lost
    }

    /// The next message; `None` once closed and empty.
    pub(crate) async fn next(&self) -> Option<Arc<Message>> {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if let Some(message) = waiting.messages.pop_front() {
                    waiting.bytes -= message.weight_bytes();
                    return Some(message);
                }
            }
            if self.closed.load(Ordering::Acquire) {
                return None;
            }
            // A permit is kept if a push came in between.
            self.wake.notified().await;
        }
    }

    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}
