//! The owner of one queue: its state machine behind a short lock, and who waits for it.

mod guard;
mod stay;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use log::Durability;
use parking_lot::{Mutex, RwLock};
use roaring::RoaringTreemap;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;
use types::limits::DEFAULT_DEDUP_CAPACITY;
use types::{EntityId, Monotonic, Now, Offset};

pub(crate) use self::guard::QueueGuard;
use self::stay::Stay;
use super::counters::Meter;
use super::failing::Failing;
use super::redrive::RedriveJob;
use crate::alarm::Alarm;
use crate::dedup::DedupWindow;
use crate::definitions::QueueConfig;
use crate::errors::StorageError;
use crate::holder::Holder;
use crate::policy::ResolvedQueue;
use crate::queue::{ConsumerId, ConsumerRules, Departure, Queue, QueueEvent, QueueRules, Recovered};
use crate::record::Payload;
use crate::shared::Shared;
use crate::state_log::{StateLog, StateRecord, dedup_records};
use crate::transaction::{Owned, Transaction};

/// The consumer that stands for all receives without one.
pub(crate) const PULL_CONSUMER: ConsumerId = ConsumerId(0);
/// The same for receives that acknowledge at once.
pub(crate) const AUTO_ACK_CONSUMER: ConsumerId = ConsumerId(1);
/// The consumer that a redrive takes messages with.
pub(crate) const REDRIVE_CONSUMER: ConsumerId = ConsumerId(2);
const FIRST_CONSUMER: u64 = 16;
const PULL_RULES: ConsumerRules = ConsumerRules { exclusive: false, priority: 0, lease: None, auto_ack: false };
/// Messages marked as possibly handed out ahead of those that were, so that the mark is written rarely: at least so many, ...
const DELIVERED_AHEAD: u64 = 1_024;
/// ... at most so many, ...
const MOST_DELIVERED_AHEAD: u64 = 16_384;
/// ... and between them so many times what was handed out at once, or consumers that take much would wait for the mark each time.
const TAKES_AHEAD: u64 = 8;
const NEVER: u64 = u64::MAX;
/// A queue's definition, and what holds with policies applied.
#[derive(Clone, Debug)]
pub(crate) struct QueueDefinition {
    pub(crate) config: QueueConfig,
    pub(crate) resolved: ResolvedQueue,
}

/// The owner of a queue. Shared by sessions, consumers and commits under way.
pub(crate) struct QueueOwner {
    pub(crate) id: EntityId,
    pub(crate) namespace: EntityId,
    pub(crate) name: Arc<str>,
    owned: Owned,
    pub(crate) state: Arc<StateLog>,
    definition: RwLock<Arc<QueueDefinition>>,
    inner: Mutex<Inner>,
    /// When the machine wants a tick, in monotonic nanoseconds.
    next_tick: AtomicU64,
    /// The state log says of messages before this offset that they may have been handed out.
    marked: AtomicU64,
    mark_moved: Notify,
    pub(crate) failing: Failing,
    alarm: Arc<Alarm>,
    deleted: AtomicBool,
    /// The connection that holds it, if one does.
    pub(crate) holder: Option<Arc<Holder>>,
    /// One purge at a time.
    pub(crate) purging: Arc<tokio::sync::Mutex<()>>,
    /// What of its state could not be read at the start.
    unread: Option<String>,
}

/// What the lock protects.
pub(crate) struct Inner {
    pub(crate) machine: Queue<Payload>,
    pub(crate) dedup: Option<DedupWindow>,
    pub(crate) meter: Meter,
    pub(crate) redrive: Option<RedriveJob>,
    /// Departures whose move could not begin yet, or was refused: a later tick tries again.
    pub(crate) stalled: Vec<Departure<Payload>>,
    /// Messages that were reported as unreadable, so that each is reported once.
    pub(crate) reported: RoaringTreemap,
    /// Offsets that have a retry record in the state log.
    pub(crate) recorded: RoaringTreemap,
    pub(crate) consumers: u64,
    pub(super) stay: Stay,
    /// Which of the queue's own consumers are attached.
    internal: BTreeSet<ConsumerId>,
    /// Who waits, oldest first. Whoever is woken leaves.
    waiting: BTreeMap<u64, (Waiter, Arc<Notify>)>,
    next_wait: u64,
    /// When something besides the machine wants a tick: a redrive, or departures that are stalled. Cleared by the tick.
    retick: Option<Monotonic>,
    /// The latest time at which the queue was locked.
    now: Now,
    next_consumer: u64,
    pull_receives: u64,
    delivered_recorded: Offset,
    /// How far messages were handed out when the mark was last looked at.
    delivered_seen: Offset,
    last_used: Monotonic,
    events: Vec<QueueEvent>,
}

/// Who waits, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    /// For something that this consumer could be given.
    Delivery(ConsumerId),
    /// For the queue's end: it has no credit.
    End,
}

impl Inner {
    /// Wakes as many of those who wait as there is work for, oldest first.
    fn wake(&mut self, now: Now) {
        if self.waiting.is_empty() {
            return;
        }
        let mut budget = self.machine.depth().ready.max(1);
        let machine = &self.machine;
        self.waiting.retain(|_, (waiter, notify)| {
            let wake = match waiter {
                Waiter::Delivery(consumer) => budget > 0 && machine.has_ready(now, *consumer),
                Waiter::End => false,
            };
            if wake {
                budget -= 1;
                notify.notify_one();
            }
            !wake
        });
    }

    /// Wakes all who wait, work or not.
    fn wake_all(&mut self) {
        for (_, notify) in std::mem::take(&mut self.waiting).values() {
            notify.notify_one();
        }
    }
}

impl QueueOwner {
    /// The owner of a queue that is new and empty.
    pub(crate) fn new(
        id: EntityId,
        namespace: EntityId,
        name: &str,
        (owned, state): (Owned, Owned),
        definition: QueueDefinition,
        shared: &Shared,
        now: Now,
    ) -> Self {
        let mut machine = Queue::new(definition.resolved.rules.clone(), seed(id, now));
        machine.share_budget(Arc::clone(&shared.windows));
        let dedup = dedup_window(&definition, now);
        Self {
            id,
            namespace,
            name: name.into(),
            owned,
            state: Arc::new(StateLog::new(state)),
            definition: RwLock::new(Arc::new(definition)),
            inner: Mutex::new(Inner {
                machine,
                dedup,
                meter: Meter::default(),
                redrive: None,
                stalled: Vec::new(),
                reported: RoaringTreemap::new(),
                recorded: RoaringTreemap::new(),
                consumers: 0,
                stay: Stay::default(),
                internal: BTreeSet::new(),
                waiting: BTreeMap::new(),
                next_wait: 0,
                retick: None,
                now,
                next_consumer: FIRST_CONSUMER,
                pull_receives: 0,
                delivered_recorded: Offset::ZERO,
                delivered_seen: Offset::ZERO,
                last_used: now.mono,
                events: Vec::new(),
            }),
            next_tick: AtomicU64::new(NEVER),
            marked: AtomicU64::new(0),
            mark_moved: Notify::new(),
            failing: Failing::default(),
            alarm: Arc::clone(&shared.alarm),
            deleted: AtomicBool::new(false),
            holder: None,
            purging: Arc::default(),
            unread: None,
        }
    }

    /// The owner of a queue as its logs tell after a restart.
    ///
    /// # Errors
    /// If the state log cannot be read.
    pub(crate) fn recover(
        shared: &Shared,
        (id, namespace, name): (EntityId, EntityId, &str),
        logs: (Owned, Owned),
        definition: QueueDefinition,
        messages: &log::Opened,
    ) -> Result<Self, StorageError> {
        let now = shared.clock.now();
        let mut owner = Self::new(id, namespace, name, logs, definition, shared, now);
        let mut retries = BTreeMap::new();
        let mut delivered_to = Offset::ZERO;
        let mut dedup = owner.inner.get_mut().dedup.take();
        let replayed = owner.state.replay(shared, |record| match record {
            StateRecord::Reset { .. } => {
                retries.clear();
                delivered_to = Offset::ZERO;
                if let Some(dedup) = &mut dedup {
                    *dedup = DedupWindow::new(now, dedup.window(), DEFAULT_DEDUP_CAPACITY);
                }
            }
            // Records of one message are begun under no lock, so two may stand in either order: attempts only grow.
            StateRecord::Retry(retry) => {
                let known = retries.entry(retry.offset).or_insert_with(|| retry.clone());
                if known.history.attempts <= retry.history.attempts {
                    *known = retry;
                }
            }
            StateRecord::Forget(offset) => drop(retries.remove(&offset)),
            StateRecord::DeliveredTo(offset) => delivered_to = delivered_to.max(offset),
            StateRecord::Dedup(entries) => {
                if let Some(dedup) = &mut dedup {
                    entries.into_iter().for_each(|entry| dedup.observe(now, entry));
                }
            }
            StateRecord::Mark | StateRecord::Producer(_) | StateRecord::Producers(_) => {}
        });
        if let Err(error) = replayed {
            // Its neighbours need not suffer. What could be read is kept: an attempt too many beats a message too few.
            tracing::error!(queue = %owner.name, %error, "a queue's state could not be read in full");
            owner.unread = Some(error.to_string());
        }
        let state = &messages.state;
        retries.retain(|offset, _| (state.start..state.end).contains(offset));
        let rules = owner.rules();
        let inner = owner.inner.get_mut();
        inner.dedup = dedup;
        inner.recorded = retries.keys().map(|offset| offset.0).collect();
        inner.delivered_recorded = delivered_to;
        inner.delivered_seen = delivered_to;
        owner.marked.store(delivered_to.0, Ordering::Relaxed);
        inner.machine = Queue::recover(
            rules,
            seed(id, now),
            Recovered {
                start: state.start,
                end: state.end,
                records: state.records,
                weight: state.weight,
                retries: retries.into_values().collect(),
                delivered_to: delivered_to.min(state.end),
            },
        );
        inner.machine.share_budget(Arc::clone(&shared.windows));
        if state.records > 0 {
            // Kept beside the machine's own wish too: whoever locks the queue before the first tick would forget it otherwise, and what waits
            // for a time would not be found.
            inner.retick = Some(now.mono);
            owner.next_tick.store(0, Ordering::Relaxed);
        }
        Ok(owner)
    }

    pub(crate) fn owned(&self) -> Owned {
        self.owned
    }

    /// What is wrong with its data, if something is.
    pub(crate) fn damage(&self, shared: &Shared) -> Option<String> {
        shared.damage([self.owned, self.state.owned()]).or_else(|| self.unread.clone())
    }

    /// Whether messages may be handed out.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] if the messages' log is read-only, [`StorageError::Failed`] if nothing is written any more: no
    /// acknowledgement would be taken, and each would come again, perhaps unmarked.
    pub(crate) fn check_sound(&self, shared: &Shared) -> Result<(), StorageError> {
        shared.check_writable()?;
        match shared.damage([self.owned]) {
            None => Ok(()),
            Some(damage) => Err(StorageError::Damaged(format!(
                "queue {:?} can only be browsed: {damage}; `posthouse log verify` says more",
                self.name
            ))),
        }
    }

    pub(crate) fn definition(&self) -> Arc<QueueDefinition> {
        Arc::clone(&self.definition.read())
    }

    pub(crate) fn rules(&self) -> QueueRules {
        self.definition.read().resolved.rules.clone()
    }

    /// Whether messages may leave in another order than they came in.
    pub(crate) fn sorts(&self) -> bool {
        let definition = self.definition.read();
        let rules = &definition.resolved.rules;
        rules.priority_levels > 1 || rules.keyed || rules.delay.is_some()
    }

    pub(crate) fn durability(&self) -> Durability {
        self.definition.read().resolved.durability.into()
    }

    /// See [`ResolvedQueue::transient_durability`](crate::policy::ResolvedQueue::transient_durability).
    pub(crate) fn transient_durability(&self) -> Durability {
        self.definition.read().resolved.transient_durability.into()
    }

    /// Puts a new definition, or new policies, into force.
    pub(crate) fn redefine(&self, definition: QueueDefinition, now: Now) {
        let mut guard = self.lock(now);
        let window = definition.resolved.dedup_window;
        match (&mut guard.dedup, window) {
            (Some(dedup), Some(window)) => dedup.set_rules(now, window, DEFAULT_DEDUP_CAPACITY),
            (dedup, _) => *dedup = dedup_window(&definition, now),
        }
        guard.machine.set_rules(now, definition.resolved.rules.clone());
        *self.definition.write() = Arc::new(definition);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Marks the queue as deleted, and wakes all who wait for it.
    pub(crate) fn delete(&self, now: Now) {
        self.deleted.store(true, Ordering::Release);
        self.wake_all(now);
    }

    /// Wakes all who wait, to look for themselves.
    pub(crate) fn wake_all(&self, now: Now) {
        self.lock(now).inner.wake_all();
    }

    /// Locks the queue. What changed under the lock is followed up when the guard goes: counters, wake-ups, the next tick.
    pub(crate) fn lock(&self, now: Now) -> QueueGuard<'_> {
        let mut inner = self.inner.lock();
        inner.now.mono = inner.now.mono.max(now.mono);
        inner.now.wall = now.wall;
        QueueGuard { owner: self, inner, now }
    }

    /// Reserves room for messages about to be committed: whether there is some. `None` if each message must be looked at first. Nothing
    /// follows from it but the room, so the lock's follow-up is spared.
    pub(crate) fn reserve(&self, messages: u64, bytes: u64) -> Option<bool> {
        let mut inner = self.inner.lock();
        if inner.dedup.is_some() { None } else { Some(inner.machine.reserve(messages, bytes)) }
    }

    /// Whether a tick is due.
    pub(crate) fn tick_due(&self, now: Now) -> bool {
        self.next_tick.load(Ordering::Relaxed) <= now.mono.0
    }

    /// How long until a tick is due; `None` if none is.
    pub(crate) fn next_tick(&self, now: Now) -> Option<Duration> {
        match self.next_tick.load(Ordering::Relaxed) {
            NEVER => None,
            at => Some(Monotonic(at).since(now.mono)),
        }
    }

    /// Records in the background that messages were handed out, if the mark on disk is behind; and snapshots the state log when due.
    pub(crate) fn keep_state(self: &Arc<Self>, shared: &Arc<Shared>, guard: &mut QueueGuard<'_>) {
        let delivered_to = guard.machine.delivered_to();
        let taken = delivered_to.0.saturating_sub(guard.delivered_seen.0);
        guard.delivered_seen = delivered_to;
        let ahead = taken.saturating_mul(TAKES_AHEAD).clamp(DELIVERED_AHEAD, MOST_DELIVERED_AHEAD);
        // Moved on well before it is reached, so that a steady flow never waits for it.
        if delivered_to > Offset::ZERO && delivered_to.plus(ahead / 2) > guard.delivered_recorded {
            let ahead = delivered_to.plus(ahead);
            guard.delivered_recorded = ahead;
            let mut transaction = Transaction::new();
            transaction.at_least(Durability::Os);
            transaction.uses_reserve();
            match self.state.record(&mut transaction, &[StateRecord::DeliveredTo(ahead)], guard.now) {
                Ok(()) => shared.mark_later(transaction, self, ahead),
                Err(_) => self.mark(ahead),
            }
        }
        if self.state.wants_snapshot(shared) {
            let owner = Arc::clone(self);
            shared.snapshot_later(&self.state, Box::new(move |now| owner.state_records(now)));
        }
    }

    /// The mark stands at this offset, or cannot be moved: messages before it may be handed out, if the storage still works.
    pub(crate) fn mark(&self, ahead: Offset) {
        self.marked.fetch_max(ahead.0, Ordering::SeqCst);
        self.mark_moved.notify_waiters();
    }

    /// Ready when messages up to this one may be handed out: if the process is killed from then on, they come again marked as redelivered.
    ///
    /// # Errors
    /// See [`check_sound`](Self::check_sound): the mark, or an acknowledgement later, could not be written.
    pub(crate) async fn marked(&self, shared: &Shared, upto: Offset) -> Result<(), StorageError> {
        loop {
            let moved = self.mark_moved.notified();
            tokio::pin!(moved);
            moved.as_mut().enable();
            if self.marked.load(Ordering::SeqCst) > upto.0 {
                // IMPORTANT: looked at after the mark. A mark that failed moves too, and by then the storage says that it has failed.
                return self.check_sound(shared);
            }
            moved.await;
        }
    }

    /// As [`marked`](Self::marked), at once; `None` if the mark has not come so far.
    pub(crate) fn is_marked(&self, shared: &Shared, upto: Offset) -> Option<Result<(), StorageError>> {
        (self.marked.load(Ordering::SeqCst) > upto.0).then(|| self.check_sound(shared))
    }

    /// All that the state log must hold if it is begun anew.
    fn state_records(&self, now: Now) -> Vec<StateRecord> {
        let guard = self.lock(now);
        let mut records = vec![StateRecord::DeliveredTo(guard.delivered_recorded)];
        records.extend(guard.machine.retries().into_iter().map(StateRecord::Retry));
        if let Some(dedup) = &guard.dedup {
            records.extend(dedup_records(dedup, now));
        }
        records
    }
}

/// Differs from start to start, so that a lease of one is not taken for a lease of another.
fn seed(id: EntityId, now: Now) -> u64 {
    id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (now.wall.0 as u64).rotate_left(20) ^ now.mono.0
}

fn dedup_window(definition: &QueueDefinition, now: Now) -> Option<DedupWindow> {
    definition.resolved.dedup_window.map(|window| DedupWindow::new(now, window, DEFAULT_DEDUP_CAPACITY))
}

/// Waits for one thing to become deliverable. Gone with the drop.
pub(crate) struct WaitSlot {
    owner: Arc<QueueOwner>,
    slot: u64,
    pub(crate) notify: Arc<Notify>,
}

impl Drop for WaitSlot {
    fn drop(&mut self) {
        let mut inner = self.owner.inner.lock();
        if inner.waiting.remove(&self.slot).is_none() {
            // It was woken. Whether it takes what it was woken for is not known here: another one is woken if there still is something. Not
            // all of them, or two who find nothing would wake each other for ever.
            let now = inner.now;
            inner.wake(now);
        }
    }
}

/// The same for whoever looks at it by polling.
pub(crate) struct PolledWait {
    woken: Pin<Box<OwnedNotified>>,
    _slot: WaitSlot,
}

impl From<WaitSlot> for PolledWait {
    fn from(slot: WaitSlot) -> Self {
        Self { woken: Box::pin(Arc::clone(&slot.notify).notified_owned()), _slot: slot }
    }
}

impl PolledWait {
    /// Ready once it is woken.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.woken.as_mut().poll(context)
    }
}
