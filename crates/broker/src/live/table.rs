//! The live subscriptions of a namespace, with their buffers.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use types::{Message, SubjectPattern, Text};

use super::buffer::LiveBuffer;
use super::{LiveSubscriptions, SubscriberId};
use crate::access::Action;
use crate::session::Session;
use crate::shared::Namespace;

/// Subjects that begin so are inboxes: each belongs to one request, which alone gets what is published there. No subscription sees
/// it, whatever its pattern, and no topic captures it. Who asked and who answers know the rest of the subject; nobody guesses it.
pub const INBOX_PREFIX: &str = "_inbox.";

/// Whether a subject is an inbox.
pub(crate) fn is_inbox(subject: &[u8]) -> bool {
    subject.starts_with(INBOX_PREFIX.as_bytes())
}

/// Who gets what is published from now on.
pub(crate) struct LiveTable {
    subscriptions: AtomicUsize,
    all: AtomicUsize,
    inner: Mutex<Inner>,
}

struct Inner {
    inboxes: HashMap<Bytes, Arc<LiveBuffer>>,
    subscriptions: LiveSubscriptions,
    buffers: HashMap<SubscriberId, Arc<LiveBuffer>>,
    next: u64,
    draw: fastrand::Rng,
}

impl Default for LiveTable {
    fn default() -> Self {
        let inner = Inner {
            inboxes: HashMap::new(),
            subscriptions: LiveSubscriptions::new(),
            buffers: HashMap::new(),
            next: 0,
            draw: fastrand::Rng::with_seed(0x706f_7374),
        };
        Self { subscriptions: AtomicUsize::new(0), all: AtomicUsize::new(0), inner: Mutex::new(inner) }
    }
}

impl LiveTable {
    /// Whether there is nobody to tell anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.load(Ordering::Relaxed) == 0
    }

    /// How many subscriptions there are, inboxes not counted.
    pub(crate) fn len(&self) -> usize {
        self.subscriptions.load(Ordering::Relaxed)
    }

    /// Whether anybody would get a message of this subject.
    pub(crate) fn has_interest(&self, subject: &[u8]) -> bool {
        if self.is_empty() {
            return false;
        }
        let inner = self.inner.lock();
        if is_inbox(subject) { inner.inboxes.contains_key(subject) } else { inner.subscriptions.has_interest(subject) }
    }

    /// The buffers of those who get a message of this subject, and of these further ones, each once; of each group one.
    pub(crate) fn matches(&self, subject: &[u8], also: &[Bytes]) -> Vec<Arc<LiveBuffer>> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if is_inbox(subject) && also.is_empty() {
            return inner.inboxes.get(subject).cloned().into_iter().collect();
        }
        let subjects = || [subject].into_iter().chain(also.iter().map(|subject| &subject[..]));
        let mut ids = Vec::new();
        inner.subscriptions.matches(subjects().filter(|subject| !is_inbox(subject)), &mut inner.draw, &mut ids);
        let mut buffers: Vec<_> = ids.iter().filter_map(|id| inner.buffers.get(id).cloned()).collect();
        if !also.is_empty() {
            let inboxes: BTreeSet<&[u8]> = subjects().filter(|subject| is_inbox(subject)).collect();
            buffers.extend(inboxes.into_iter().filter_map(|inbox| inner.inboxes.get(inbox).cloned()));
        }
        buffers
    }

    fn subscribe(&self, pattern: SubjectPattern, group: Option<Text>) -> (SubscriberId, Arc<LiveBuffer>) {
        let mut inner = self.inner.lock();
        let id = SubscriberId(inner.next);
        inner.next += 1;
        let buffer = Arc::new(LiveBuffer::default());
        inner.subscriptions.subscribe(id, pattern, group);
        inner.buffers.insert(id, Arc::clone(&buffer));
        self.counted(&inner);
        (id, buffer)
    }

    fn unsubscribe(&self, id: SubscriberId) {
        let mut inner = self.inner.lock();
        inner.subscriptions.unsubscribe(id);
        inner.buffers.remove(&id);
        self.counted(&inner);
    }

    fn counted(&self, inner: &Inner) {
        self.subscriptions.store(inner.buffers.len(), Ordering::Relaxed);
        self.all.store(inner.buffers.len() + inner.inboxes.len(), Ordering::Relaxed);
    }

    /// Ends all subscriptions.
    pub(crate) fn close(&self) {
        let inner = self.inner.lock();
        for buffer in inner.buffers.values().chain(inner.inboxes.values()) {
            buffer.close();
        }
    }
}

/// A live subscription: in memory, no ack, no retention. Dropping it ends it.
pub struct LiveSubscription {
    space: Arc<Namespace>,
    id: SubscriberId,
    buffer: Arc<LiveBuffer>,
    session: Session,
    pattern: String,
}

impl LiveSubscription {
    pub(crate) fn new(session: &Session, pattern: SubjectPattern, group: Option<Text>) -> Self {
        let (space, text) = (Arc::clone(&session.space), pattern.to_string());
        let (id, buffer) = space.live.subscribe(pattern, group);
        Self { space, id, buffer, session: session.clone(), pattern: text }
    }

    /// The next message; `None` once the broker stops, the namespace is deleted or the subscriber may not read it any more. A
    /// subscriber that is too slow loses the oldest messages, and is told how many by [`lost`](Self::lost). Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<Message>> {
        let message = self.buffer.next().await?;
        self.session.may(Action::Read, "subject", &self.pattern).is_ok().then_some(message)
    }

    /// Messages lost so far because the buffer was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.buffer.lost()
    }
}

/// Where answers come in that are for one asker alone. Dropping it ends it.
pub struct Inbox {
    space: Arc<Namespace>,
    subject: Bytes,
    buffer: Arc<LiveBuffer>,
}

impl Inbox {
    pub(crate) fn new(space: &Arc<Namespace>) -> Self {
        Self::at(space, Bytes::from(format!("{INBOX_PREFIX}{}", uuid::Uuid::new_v4().simple())))
    }

    /// The inbox of a key, which ends the one that was there before it. The subject tells nobody the key.
    pub(crate) fn of_key(space: &Arc<Namespace>, key: &[u8]) -> Self {
        let digest = Sha256::digest(key);
        let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self::at(space, Bytes::from(format!("{INBOX_PREFIX}{name}")))
    }

    fn at(space: &Arc<Namespace>, subject: Bytes) -> Self {
        let buffer = Arc::new(LiveBuffer::default());
        let mut inner = space.live.inner.lock();
        if let Some(before) = inner.inboxes.insert(subject.clone(), Arc::clone(&buffer)) {
            before.close();
        }
        space.live.counted(&inner);
        drop(inner);
        Self { space: Arc::clone(space), subject, buffer }
    }

    /// The subject that answers are published to: nobody guesses it.
    #[must_use]
    pub fn subject(&self) -> &Bytes {
        &self.subject
    }

    pub(crate) async fn next(&self) -> Option<Arc<Message>> {
        self.buffer.next().await
    }

    /// Answers lost so far because the buffer was full.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.buffer.lost()
    }

    /// The next answer; `None` once the broker stops or the namespace is deleted. An asker that is too slow loses the oldest. One task polls it.
    pub fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<Arc<Message>>> {
        self.buffer.poll_next(context)
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut inner = self.space.live.inner.lock();
        // Another one may have its place.
        if inner.inboxes.get(&self.subject).is_some_and(|buffer| Arc::ptr_eq(buffer, &self.buffer)) {
            inner.inboxes.remove(&self.subject);
        }
        self.space.live.counted(&inner);
    }
}

impl Drop for LiveSubscription {
    fn drop(&mut self) {
        self.space.live.unsubscribe(self.id);
    }
}
