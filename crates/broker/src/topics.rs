//! Topics at work: their logs, dedup windows and producers, and who waits for records.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use types::limits::{DEFAULT_DEDUP_CAPACITY, MAX_PARTITIONS};
use types::{EntityId, Message, Now, Offset};

use crate::dedup::{Dedup, DedupFull, DedupHash, DedupWindow};
use crate::definitions::TopicConfig;
use crate::errors::StorageError;
use crate::idempotence::{ProducerId, ProducerWindows};
use crate::partition::partition;
use crate::policy::ResolvedTopic;
use crate::shared::Shared;
use crate::state_log::{ProducerRecord, StateLog, StateRecord, dedup_records};
use crate::transaction::Owned;
use crate::views::Position;

/// A topic's definition, and what holds with policies applied.
#[derive(Clone, Debug)]
pub(crate) struct TopicDefinition {
    pub(crate) config: TopicConfig,
    pub(crate) resolved: ResolvedTopic,
}

/// A topic. Shared by sessions and commits under way.
pub(crate) struct Topic {
    pub(crate) id: EntityId,
    pub(crate) name: Arc<str>,
    /// Its partitions' logs; none if it keeps no log.
    partitions: RwLock<Arc<[Owned]>>,
    pub(crate) state: Arc<StateLog>,
    definition: RwLock<Arc<TopicDefinition>>,
    dedup: Mutex<Option<DedupWindow>>,
    pub(crate) producers: Mutex<ProducerWindows>,
    appended: Notify,
    /// Held by a conditional publish from its look to its commit.
    pub(crate) expecting: tokio::sync::Mutex<()>,
    keyless: Mutex<u64>,
    pub(crate) published: AtomicU64,
    pub(crate) unrouted: AtomicU64,
    deleted: AtomicBool,
    /// What of its state could not be read at the start.
    unread: OnceLock<String>,
}

impl Topic {
    pub(crate) fn new(
        id: EntityId,
        name: &str,
        partitions: Vec<Owned>,
        state: Owned,
        definition: TopicDefinition,
        now: Now,
    ) -> Self {
        let dedup = dedup_window(&definition, now);
        Self {
            id,
            name: name.into(),
            partitions: RwLock::new(partitions.into()),
            state: Arc::new(StateLog::new(state)),
            definition: RwLock::new(Arc::new(definition)),
            dedup: Mutex::new(dedup),
            producers: Mutex::new(ProducerWindows::new(now)),
            appended: Notify::new(),
            expecting: tokio::sync::Mutex::default(),
            keyless: Mutex::new(0),
            published: AtomicU64::new(0),
            unrouted: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
            unread: OnceLock::new(),
        }
    }

    /// What is wrong with its data, if something is.
    pub(crate) fn damage(&self, shared: &Shared) -> Option<String> {
        let logs = self.partitions();
        shared.damage(logs.iter().copied().chain([self.state.owned()])).or_else(|| self.unread.get().cloned())
    }

    /// Takes up what the state log holds. What cannot be read is logged and shown: its neighbours need not suffer. The engine takes
    /// nothing for a damaged log, so what needs the state is refused.
    pub(crate) fn recover(&self, shared: &Shared, now: Now) {
        if let Err(error) = self.replay(shared, now) {
            tracing::error!(topic = %self.name, %error, "a topic's state could not be read in full");
            let _ = self.unread.set(error.to_string());
        }
    }

    fn replay(&self, shared: &Shared, now: Now) -> Result<(), StorageError> {
        let mut dedup = self.dedup.lock();
        let mut producers = self.producers.lock();
        let mut damage = None;
        self.state.replay(shared, |record| match record {
            StateRecord::Reset { .. } => *producers = ProducerWindows::new(now),
            StateRecord::Dedup(entries) => {
                if let Some(dedup) = &mut *dedup {
                    entries.into_iter().for_each(|entry| dedup.observe(now, entry));
                }
            }
            StateRecord::Producer(ProducerRecord { name, batch, at }) => {
                producers.observe(at, &ProducerId::Name(name), batch, Offset::ZERO);
            }
            StateRecord::Producers(snapshot) => match ProducerWindows::decode(now, &snapshot) {
                Ok(decoded) => *producers = decoded,
                Err(error) => damage = Some(error),
            },
            StateRecord::Mark | StateRecord::Retry(_) | StateRecord::Forget(_) | StateRecord::DeliveredTo(_) => {}
        })?;
        match damage {
            Some(error) => Err(StorageError::Damaged(format!("topic {:?}: {error}", &*self.name))),
            None => Ok(()),
        }
    }

    pub(crate) fn definition(&self) -> Arc<TopicDefinition> {
        Arc::clone(&self.definition.read())
    }

    pub(crate) fn redefine(&self, definition: TopicDefinition, partitions: Vec<Owned>, now: Now) {
        let mut dedup = self.dedup.lock();
        match (&mut *dedup, definition.resolved.dedup_window) {
            (Some(dedup), Some(window)) => dedup.set_rules(now, window, DEFAULT_DEDUP_CAPACITY),
            (dedup, _) => *dedup = dedup_window(&definition, now),
        }
        *self.partitions.write() = partitions.into();
        *self.definition.write() = Arc::new(definition);
    }

    /// The partitions' logs.
    pub(crate) fn partitions(&self) -> Arc<[Owned]> {
        Arc::clone(&self.partitions.read())
    }

    /// Where a message goes, of `count` partitions. With a key index a message without a key is indexed under its subject, and goes
    /// where that leads: all of a series is in one partition.
    pub(crate) fn partition_for(&self, message: &Message, count: u32) -> u32 {
        let Some(count) = NonZeroU32::new(count) else { return 0 };
        let by_subject = || self.indexes_subjects() && !message.subject.is_empty();
        let key = message.key.as_deref().or_else(|| by_subject().then_some(&*message.subject));
        partition(key, count, &mut self.keyless.lock())
    }

    /// Whether messages without a key are indexed under their subject.
    pub(crate) fn indexes_subjects(&self) -> bool {
        self.definition.read().config.key_index
    }

    /// Reserves a dedup id.
    ///
    /// # Errors
    /// See [`DedupFull`].
    pub(crate) fn reserve_dedup(&self, id: DedupHash, now: Now) -> Result<Dedup, DedupFull> {
        match &mut *self.dedup.lock() {
            None => Ok(Dedup::New),
            Some(dedup) => dedup.reserve(now, id),
        }
    }

    /// What is to be recorded of reserved ids.
    pub(crate) fn dedup_record(&self, ids: &[DedupHash]) -> Vec<StateRecord> {
        self.dedup.lock().as_ref().map_or_else(Vec::new, |window| dedup_record(window, ids))
    }

    pub(crate) fn has_dedup(&self) -> bool {
        self.dedup.lock().is_some()
    }

    pub(crate) fn confirm_dedup(&self, ids: impl IntoIterator<Item = (DedupHash, Option<Position>)>) {
        if let Some(dedup) = &mut *self.dedup.lock() {
            ids.into_iter().for_each(|(id, position)| dedup.confirm(id, to_place(position)));
        }
    }

    pub(crate) fn cancel_dedup(&self, ids: impl IntoIterator<Item = DedupHash>) {
        if let Some(dedup) = &mut *self.dedup.lock() {
            ids.into_iter().for_each(|id| dedup.cancel(id));
        }
    }

    /// Records reached a partition.
    pub(crate) fn appended(&self) {
        self.appended.notify_waiters();
    }

    /// Is woken when records reach a partition, or the topic is deleted. Enable it before looking.
    pub(crate) fn wait(&self) -> tokio::sync::futures::Notified<'_> {
        self.appended.notified()
    }

    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.appended.notify_waiters();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Snapshots the state log when due.
    pub(crate) fn keep_state(self: &Arc<Self>, shared: &Arc<Shared>) {
        if self.state.wants_snapshot(shared) {
            let topic = Arc::clone(self);
            shared.snapshot_later(&self.state, Box::new(move |now| topic.state_records(now)));
        }
    }

    /// All that the state log must hold if it is begun anew.
    fn state_records(&self, now: Now) -> Vec<StateRecord> {
        let mut records = Vec::new();
        if let Some(dedup) = &*self.dedup.lock() {
            records.extend(dedup_records(dedup, now));
        }
        records.push(StateRecord::Producers(self.producers.lock().encode().into()));
        records
    }
}

/// Bits of a place that hold the partition: see [`MAX_PARTITIONS`].
const PARTITION_BITS: u32 = MAX_PARTITIONS.ilog2();
const _: () = assert!(MAX_PARTITIONS.is_power_of_two(), "a place has whole bits for the partition");

/// Where a message is, as a topic's dedup window and its producers' windows keep it: a log has many partitions, and what was written
/// in one commit with the message cannot know its offset. Zero is not known.
pub(crate) fn to_place(position: Option<Position>) -> Offset {
    let place = |at: Position| (at.offset.0 << PARTITION_BITS | u64::from(at.partition)) + 1;
    Offset(position.map_or(0, place))
}

/// See [`to_place`].
pub(crate) fn from_place(place: Offset) -> Option<Position> {
    let packed = place.0.checked_sub(1)?;
    let partition = u32::try_from(packed & u64::from(MAX_PARTITIONS - 1)).ok()?;
    Some(Position { partition, offset: Offset(packed >> PARTITION_BITS) })
}

fn dedup_window(definition: &TopicDefinition, now: Now) -> Option<DedupWindow> {
    definition.resolved.dedup_window.map(|window| DedupWindow::new(now, window, DEFAULT_DEDUP_CAPACITY))
}

/// The state record of ids that are being written.
pub(crate) fn dedup_record(window: &DedupWindow, ids: &[DedupHash]) -> Vec<StateRecord> {
    let entries: Vec<_> = ids.iter().filter_map(|id| window.entry(*id, Offset::ZERO)).collect();
    if entries.is_empty() { Vec::new() } else { vec![StateRecord::Dedup(entries)] }
}
