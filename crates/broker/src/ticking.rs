//! What time brings, for all that the broker holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use types::{EntityId, Now};

use crate::broker::Broker;
use crate::definitions::DeadLetterConfig;
use crate::queues::QueueOwner;
use crate::session::{Change, dead_letter_config, make_queue, remove_queues, to_the_end};
use crate::shared::{Namespace, Shared};

/// Queues that one change deletes because their last consumers have left, so that no commit grows with their number.
const ABANDONED_A_CHANGE: usize = 256;

impl Broker {
    /// Does what is due, and says how long until something is due again (a quarter of a second at most). The server calls it in
    /// a loop: again after that time, or when [`tick_due`](Self::tick_due) is ready.
    pub async fn tick(&self) -> Duration {
        let shared = self.shared();
        let now = shared.clock.now();
        let mut queues: Vec<_> = shared.queues.read().values().filter(|queue| queue.tick_due(now)).cloned().collect();
        // In one order, whatever the map's: what runs the broker by seeds gets the same commits from the same seed.
        queues.sort_unstable_by_key(|queue| queue.id);
        for queue in queues {
            if !queue.is_deleted() && queue.tick(shared, now) {
                // There is more, perhaps for seconds: whoever waits for this thread comes first.
                tokio::task::yield_now().await;
            }
        }
        shared.flush();
        for (namespace, target) in shared.take_missing() {
            let broker = self.clone();
            to_the_end(async move { broker.make_missing(namespace, &target).await }).await;
        }
        self.let_abandoned_go(shared.take_abandoned()).await;
        let second = now.mono.0 / 1_000_000_000;
        if shared.last_second.swap(second, Ordering::Relaxed) != second {
            self.each_second(now).await;
        }
        let now = shared.clock.now();
        shared.alarm.sleep_until(now.mono.after(Shared::MAX_TICK_WAIT));
        let next = shared.queues.read().values().filter_map(|queue| queue.next_tick(now)).min();
        next.unwrap_or(Shared::MAX_TICK_WAIT).clamp(Duration::from_millis(1), Shared::MAX_TICK_WAIT)
    }

    /// Ready when something falls due earlier than the last [`tick`](Self::tick) said.
    pub async fn tick_due(&self) {
        self.shared().alarm.rung().await;
    }

    async fn each_second(&self, now: Now) {
        let shared = self.shared();
        shared.log.maintain(now.wall);
        let spaces: Vec<_> = shared.namespaces.read().values().cloned().collect();
        for space in spaces {
            let (queues, topics, groups) = {
                let entities = space.entities.read();
                let queues: Vec<_> = entities.queues.values().cloned().collect();
                let topics: Vec<_> = entities.topics.values().cloned().collect();
                let groups: Vec<_> = entities.groups.values().cloned().collect();
                (queues, topics, groups)
            };
            let mut stored = 0;
            for queue in &queues {
                let mut guard = queue.lock(now);
                guard.meter.sample(now.mono);
                let depth = guard.machine.depth();
                stored += depth.waiting_bytes + depth.in_flight_bytes;
                drop(guard);
                // Nothing will come any more for those who wait: they are to hear why.
                if queue.check_sound(shared).is_err() {
                    queue.wake_all(now);
                }
            }
            for topic in &topics {
                topic.keep_state(shared);
                let weight =
                    |owned: &crate::transaction::Owned| shared.log.state(owned.log).map_or(0, |state| state.weight);
                stored += topic.partitions().iter().map(weight).sum::<u64>();
            }
            groups.iter().for_each(|group| group.tick(now));
            space.stored_bytes.store(stored, Ordering::Relaxed);
            // Those that could not be deleted when their last consumer left.
            let abandoned = queues.iter().filter(|queue| queue.lock(now).is_abandoned()).cloned().collect();
            self.let_abandoned_go(abandoned).await;
            for queue in queues {
                let expires = queue.definition().resolved.expires;
                let unused = expires.is_some_and(|span| queue.lock(now).unused_for(span));
                if unused {
                    let (broker, space) = (self.clone(), Arc::clone(&space));
                    to_the_end(async move { broker.expire_queue(&space, &queue).await }).await;
                }
            }
        }
        shared.flush();
        if let Err(error) = crate::recovery::shorten_definitions(shared).await {
            tracing::error!(%error, "the log of definitions could not be shortened");
        }
    }

    /// Deletes those of these queues that go with their last consumer and have none. Those that the storage refuses are tried again each
    /// second.
    pub(crate) async fn let_abandoned_go(&self, queues: Vec<Arc<QueueOwner>>) {
        let (shared, now) = (self.shared(), self.shared().clock.now());
        if shared.is_closed() || shared.check_writable().is_err() {
            return;
        }
        let mut spaces: BTreeMap<EntityId, Vec<Arc<QueueOwner>>> = BTreeMap::new();
        for queue in queues.into_iter().filter(|queue| queue.lock(now).is_abandoned()) {
            spaces.entry(queue.namespace).or_default().push(queue);
        }
        for (namespace, queues) in spaces {
            let Some(space) = shared.namespace_by_id(namespace) else { continue };
            for some in queues.chunks(ABANDONED_A_CHANGE) {
                let (broker, space, some) = (self.clone(), Arc::clone(&space), some.to_vec());
                to_the_end(async move { broker.delete_abandoned(&space, some).await }).await;
            }
        }
    }

    async fn delete_abandoned(&self, space: &Arc<Namespace>, mut queues: Vec<Arc<QueueOwner>>) {
        let shared = self.shared();
        let change = Change::begin(shared).await;
        let now = shared.clock.now();
        // Whoever attaches before this keeps its queue; whoever comes later hears that it was deleted.
        queues.retain(|queue| !space.is_deleted() && queue.lock(now).begin_going());
        let Some(first) = queues.first().cloned() else { return };
        tracing::debug!(queues = queues.len(), first = %first.name, "queues are deleted: their last consumers have left");
        if let Err(error) = remove_queues(shared, space, change, queues.clone()).await {
            queues.iter().for_each(|queue| queue.lock(now).end_going());
            tracing::error!(
                queues = queues.len(), first = %first.name, %error,
                "queues whose last consumers have left could not be deleted"
            );
        }
    }

    async fn expire_queue(&self, space: &Arc<Namespace>, queue: &Arc<QueueOwner>) {
        let change = Change::begin(self.shared()).await;
        let unused = |span| queue.lock(self.shared().clock.now()).unused_for(span);
        let still = queue.definition().resolved.expires.is_some_and(unused);
        if !still || !space.dead_letter_sources(&queue.name).is_empty() || queue.is_deleted() {
            return;
        }
        tracing::info!(queue = %queue.name, "the queue was not used for its time and is deleted");
        if let Err(error) = remove_queues(self.shared(), space, change, vec![Arc::clone(queue)]).await {
            tracing::error!(queue = %queue.name, %error, "an unused queue could not be deleted");
        }
    }

    /// Makes a dead-letter queue that something names but that is missing.
    async fn make_missing(&self, namespace: EntityId, target: &DeadLetterConfig) {
        let DeadLetterConfig::Queue(name) = target else { return };
        let Some(space) = self.shared().namespace_by_id(namespace) else { return };
        let change = Change::begin(self.shared()).await;
        if space.queue(name).is_some() || space.is_deleted() {
            return;
        }
        if let Err(error) = make_queue(self.shared(), &space, change, (name, dead_letter_config()), None).await {
            tracing::error!(queue = %name, %error, "a dead-letter queue could not be made; its messages stay where they are");
        }
    }
}
