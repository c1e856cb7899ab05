//! The live subscriptions of a namespace, with their buffers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use types::{Message, SubjectPattern, Text};

use super::buffer::LiveBuffer;
use super::{LiveSubscriptions, SubscriberId};
use crate::shared::Namespace;

/// Who gets what is published from now on.
pub(crate) struct LiveTable {
    count: AtomicUsize,
    inner: Mutex<Inner>,
}

struct Inner {
    subscriptions: LiveSubscriptions,
    buffers: HashMap<SubscriberId, Arc<LiveBuffer>>,
    next: u64,
    draw: fastrand::Rng,
}

impl Default for LiveTable {
    fn default() -> Self {
        let inner = Inner {
            subscriptions: LiveSubscriptions::new(),
            buffers: HashMap::new(),
            next: 0,
            draw: fastrand::Rng::with_seed(0x706f_7374),
        };
        Self { count: AtomicUsize::new(0), inner: Mutex::new(inner) }
    }
}

impl LiveTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether anybody would get a message of this subject.
    pub(crate) fn has_interest(&self, subject: &[u8]) -> bool {
        !self.is_empty() && self.inner.lock().subscriptions.has_interest(subject)
    }

    /// The buffers of those who get a message of this subject; of each group one.
    pub(crate) fn matches(&self, subject: &[u8]) -> Vec<Arc<LiveBuffer>> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let mut ids = Vec::new();
        inner.subscriptions.matches(subject, &mut inner.draw, &mut ids);
        ids.iter().filter_map(|id| inner.buffers.get(id).cloned()).collect()
    }

    fn subscribe(&self, pattern: SubjectPattern, group: Option<Text>) -> (SubscriberId, Arc<LiveBuffer>) {
        let mut inner = self.inner.lock();
        let id = SubscriberId(inner.next);
        inner.next += 1;
        let buffer = Arc::new(LiveBuffer::default());
        inner.subscriptions.subscribe(id, pattern, group);
        inner.buffers.insert(id, Arc::clone(&buffer));
        self.count.store(inner.buffers.len(), Ordering::Relaxed);
        (id, buffer)
    }

    fn unsubscribe(&self, id: SubscriberId) {
        let mut inner = self.inner.lock();
        inner.subscriptions.unsubscribe(id);
        inner.buffers.remove(&id);
        self.count.store(inner.buffers.len(), Ordering::Relaxed);
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        for buffer in self.inner.lock().buffers.values() {
            buffer.close();
        }
    }
}

/// A live subscription: in memory, no ack, no retention. Dropping it ends it.
pub struct LiveSubscription {
    space: Arc<Namespace>,
    id: SubscriberId,
    buffer: Arc<LiveBuffer>,
}

impl LiveSubscription {
    pub(crate) fn new(space: &Arc<Namespace>, pattern: SubjectPattern, group: Option<Text>) -> Self {
        let (id, buffer) = space.live.subscribe(pattern, group);
        Self { space: Arc::clone(space), id, buffer }
    }

    /// The next message; `None` once the broker stops. A subscriber that is too slow loses the oldest messages, and is told how many
    /// by [`lost`](Self::lost). Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<Message>> {
        self.buffer.next().await
    }

    /// Messages lost so far because the buffer was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.buffer.lost()
    }
}

impl Drop for LiveSubscription {
    fn drop(&mut self) {
        self.space.live.unsubscribe(self.id);
    }
}
