//! What a live subscriber has not taken yet: bounded, the oldest goes first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
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
    /// Whoever polls instead of waiting.
    poller: AtomicWaker,
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
        self.wake();
        lost
    }

    fn wake(&self) {
        self.wake.notify_one();
        self.poller.wake();
    }

    /// As [`next`](Self::next), for the one who polls it.
    pub(crate) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Arc<Message>>> {
        if let Some(message) = self.take() {
            return Poll::Ready(Some(message));
        }
        // IMPORTANT: looked at again once the waker is there. What comes in between would wake nobody otherwise.
        self.poller.register(context.waker());
        match self.take() {
            Some(message) => Poll::Ready(Some(message)),
            None if self.closed.load(Ordering::Acquire) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn take(&self) -> Option<Arc<Message>> {
        let mut waiting = self.waiting.lock();
        let message = waiting.messages.pop_front()?;
        waiting.bytes -= message.weight_bytes();
        Some(message)
    }

    /// The next message; `None` once closed and empty.
    pub(crate) async fn next(&self) -> Option<Arc<Message>> {
        loop {
            if let Some(message) = self.take() {
                return Some(message);
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
        self.wake();
    }
}
