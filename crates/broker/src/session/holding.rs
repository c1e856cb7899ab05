//! Queues that a connection holds: it alone may use them, and they go when it ends.

use std::sync::Arc;

use super::Session;
use super::admin::{Change, to_the_end};
use super::removal::remove_queues;
use crate::definitions::QueueConfig;
use crate::errors::DeclareError;
use crate::holder::Holder;
use crate::queues::QueueOwner;
use crate::validate::invalid;
use crate::views::{Declared, QueueInfo};

impl Session {
    /// A session of the same caller that can hold queues of its own: see [`declare_owned_queue`](Self::declare_owned_queue). What it
    /// holds, its clones hold too, and nobody else: a connection has one, and ends it with [`delete_owned`](Self::delete_owned).
    #[must_use]
    pub fn with_owner(&self) -> Self {
        Self { holder: Some(Arc::new(Holder::default())), ..self.clone() }
    }

    /// This session on behalf of the other's connection: it may use the queues that that one holds, and holds what it declares with it. For a
    /// connection that has sessions of several callers, the broker's own among them.
    #[must_use]
    pub fn with_owner_of(&self, other: &Self) -> Self {
        Self { holder: other.holder.clone(), ..self.clone() }
    }

    /// Makes a queue that this session's connection holds: only sessions with the same owner may consume, look at, purge, bind, redeclare or
    /// delete it; publishing to it is open to all. It is volatile, and goes with [`delete_owned`](Self::delete_owned). Otherwise as
    /// [`declare_queue`](Self::declare_queue). Whether a queue is owned cannot change.
    ///
    /// # Errors
    /// See [`DeclareError`]; [`DeclareError::Held`] if another connection holds a queue of this name, or this one has ended.
    pub async fn declare_owned_queue(
        &self,
        name: &str,
        mut config: QueueConfig,
        update: bool,
    ) -> Result<(Declared, QueueInfo), DeclareError> {
        config.volatile = true;
        if config.webhook.is_some() {
            return Err(invalid("webhook", "a queue that a connection holds is pushed nowhere; leave it out"));
        }
        let Some(holder) = self.holder.clone() else {
            return Err(invalid("owned", "this session is no connection's that could hold a queue"));
        };
        self.declare(name, config, update, Some(holder)).await
    }

    /// Deletes all queues that this session's connection holds, and lets it hold no more: for a connection that ends. Needs no permission.
    /// Gives how many there were.
    ///
    /// # Errors
    /// If the storage refuses; they are still there then, and go with the process.
    pub async fn delete_owned(&self) -> Result<usize, DeclareError> {
        let Some(holder) = self.holder.clone() else { return Ok(0) };
        let session = self.clone();
        to_the_end(async move { session.delete_owned_now(&holder).await }).await
    }

    async fn delete_owned_now(&self, holder: &Holder) -> Result<usize, DeclareError> {
        // IMPORTANT: ended before the change begins. A declaration under way has claimed its queue, and ends before this change can begin; or it
        // is yet to claim it, and finds that nobody is there to hold it.
        if holder.end().is_empty() {
            return Ok(0);
        }
        let change = Change::begin(self.shared()).await;
        let held = holder.end();
        let queues: Vec<Arc<QueueOwner>> = {
            let entities = self.space.entities.read();
            held.iter().filter_map(|id| entities.queues_by_id.get(id)).cloned().collect()
        };
        let count = queues.len();
        if count > 0 {
            remove_queues(self.shared(), &self.space, change, queues).await?;
        }
        Ok(count)
    }

    /// One queue, for a caller that means to use it: as [`queue`](Self::queue), but refused if another connection holds it, and it counts as
    /// use, as a declaration does (see [`QueueConfig::expires_ms`]).
    ///
    /// # Errors
    /// See [`DeclareError`].
    pub fn use_queue(&self, name: &str) -> Result<QueueInfo, DeclareError> {
        let info = self.queue(name)?;
        if let Some(queue) = self.space.queue(name) {
            self.check_held(&queue)?;
            let mut guard = queue.lock(self.now());
            // Its time is over, though the tick that takes it away is still to come.
            if info.expires.is_some_and(|span| guard.unused_for(span)) {
                return Err(Self::not_found("queue", name));
            }
            guard.touch();
        }
        Ok(info)
    }

    /// Whether another connection holds the queue.
    pub(super) fn is_held(&self, queue: &QueueOwner) -> bool {
        let own = |holder: &Arc<Holder>| self.holder.as_ref().is_some_and(|have| Arc::ptr_eq(have, holder));
        queue.holder.as_ref().is_some_and(|holder| !own(holder))
    }

    /// Checks that no other connection holds the queue.
    ///
    /// # Errors
    /// [`DeclareError::Held`].
    pub(super) fn check_held(&self, queue: &QueueOwner) -> Result<(), DeclareError> {
        match self.is_held(queue) {
            true => Err(DeclareError::Held { entity: format!("queue {:?}", &*queue.name) }),
            false => Ok(()),
        }
    }
}
