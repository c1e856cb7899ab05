//! Who holds queues of its own: a connection, as far as the broker knows of one.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use types::EntityId;

/// A connection that may hold queues. One is told from another by its place in memory.
#[derive(Debug, Default)]
pub(crate) struct Holder {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queues: BTreeSet<EntityId>,
    ended: bool,
}

impl Holder {
    /// It is to hold this queue, which is about to be made. `None` if it has ended: nobody would delete the queue any more.
    pub(crate) fn claim(&self, queue: EntityId) -> Option<Claim<'_>> {
        let mut inner = self.inner.lock();
        if inner.ended {
            return None;
        }
        inner.queues.insert(queue);
        Some(Claim { holder: self, queue, kept: false })
    }

    /// The queue is gone.
    pub(crate) fn let_go(&self, queue: EntityId) {
        self.inner.lock().queues.remove(&queue);
    }

    /// It ends; gives what it holds.
    pub(crate) fn end(&self) -> BTreeSet<EntityId> {
        let mut inner = self.inner.lock();
        inner.ended = true;
        inner.queues.clone()
    }
}

/// A queue that is about to be made for a connection to hold. Unless it is kept, the connection lets go of it.
pub(crate) struct Claim<'a> {
    holder: &'a Holder,
    queue: EntityId,
    kept: bool,
}

impl Claim<'_> {
    /// The queue is made.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.holder.let_go(self.queue);
        }
    }
}
