//! What all sessions of a broker share.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use log::{Entry, Log, ReadLimit};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use types::{Clock, EntityId, Epoch, LogId, Monotonic, Now, Offset};

use crate::access::Users;
use crate::alarm::Alarm;
use crate::backup::BackupHistory;
use crate::broker::BrokerOptions;
use crate::connections::Connections;
use crate::definitions::{BindingConfig, DeadLetterConfig, NamespaceConfig};
use crate::errors::StorageError;
use crate::groups::GroupOwner;
use crate::ids::IdMaker;
use crate::live::LiveTable;
use crate::memory::MemoryGauge;
use crate::queue::WindowBudget;
use crate::queues::QueueOwner;
use crate::router::{Captures, Router};
use crate::state_log::{Capture, StateLog};
use crate::topics::Topic;
use crate::transaction::{Owned, Transaction};
use crate::views::{NamespaceInfo, PolicyInfo, QueueCounters};

/// The log of definitions.
pub(crate) const META_LOG: LogId = LogId(0);
/// Logs of one entity: partitions from 0, or a queue's messages at 0; then its state.
const LOGS_PER_ENTITY: u64 = 2_048;
const STATE_LOG: u64 = LOGS_PER_ENTITY - 1;
/// Bytes of batches that a start reads at a time.
const REPLAY_BYTES: usize = 4 * 1024 * 1024;

/// The id of an entity's `n`th log.
pub(crate) fn log_of(entity: EntityId, n: u32) -> LogId {
    LogId(entity.0 * LOGS_PER_ENTITY + u64::from(n))
}

/// The id of an entity's state log.
pub(crate) fn state_log_of(entity: EntityId) -> LogId {
    LogId(entity.0 * LOGS_PER_ENTITY + STATE_LOG)
}

/// What all sessions share.
pub(crate) struct Shared {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) clock: Arc<dyn Clock>,
    /// The epoch of the definitions: moves with every start, so it names this one.
    pub(crate) boot: Epoch,
    /// Held while definitions change: one change at a time.
    pub(crate) meta: Arc<tokio::sync::Mutex<MetaState>>,
    pub(crate) namespaces: RwLock<BTreeMap<Arc<str>, Arc<Namespace>>>,
    /// Queues of all namespaces, for receipts.
    pub(crate) queues: RwLock<HashMap<EntityId, Arc<QueueOwner>>>,
    pub(crate) users: Users,
    pub(crate) connections: Connections,
    pub(crate) memory: Arc<MemoryGauge>,
    /// Bounds what all queues hold in memory.
    pub(crate) windows: Arc<WindowBudget>,
    pub(crate) alarm: Arc<Alarm>,
    pub(crate) totals: Totals,
    pub(crate) backups: Mutex<BackupHistory>,
    pub(crate) ids: IdMaker,
    pub(crate) changes: watch::Sender<u64>,
    /// The same number, for those who look often.
    pub(crate) change_number: AtomicU64,
    pub(crate) closed: AtomicBool,
    deferred: Mutex<Vec<Deferred>>,
    missing: Mutex<Vec<(EntityId, DeadLetterConfig)>>,
    /// Queues that go because their last consumer has left.
    abandoned: Mutex<BTreeMap<EntityId, Arc<QueueOwner>>>,
    pub(crate) last_second: AtomicU64,
    /// See [`BrokerOptions::snapshot_records`].
    pub(crate) snapshot_records: Option<u64>,
    /// See [`BrokerOptions::webhook_allow_private`].
    pub(crate) webhook_allow_private: bool,
}

/// Ids that are recorded as given out ahead of use, so that what is never recorded itself (a volatile queue) takes none twice either.
const ID_BLOCK: u64 = 1_024;

/// What changing definitions needs.
pub(crate) struct MetaState {
    pub(crate) owned: Owned,
    pub(crate) next_id: u64,
    /// Ids below this one are recorded as given out.
    pub(crate) recorded_ids: u64,
    /// Records of the log.
    pub(crate) records: u64,
    /// Records that a snapshot had when it was last counted.
    pub(crate) needed: u64,
}

impl MetaState {
    /// A new id, never given before.
    pub(crate) fn new_id(&mut self) -> EntityId {
        let id = EntityId(self.next_id);
        self.next_id += 1;
        id
    }

    /// The bound to record with the next change, if ids were given out beyond the one recorded.
    pub(crate) fn ids_to_record(&self) -> Option<u64> {
        (self.next_id > self.recorded_ids).then(|| self.next_id + ID_BLOCK)
    }
}

/// A commit that could not begin where it was found necessary, under a machine's lock.
enum Deferred {
    Mark(Transaction, Arc<QueueOwner>, Offset),
    Snapshot(Arc<StateLog>, Capture),
}

/// Broker-wide counters.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) published: AtomicU64,
    pub(crate) published_bytes: AtomicU64,
    pub(crate) publish_errors: AtomicU64,
    pub(crate) live_delivered: AtomicU64,
    pub(crate) live_lost: AtomicU64,
    pub(crate) no_responders: AtomicU64,
    pub(crate) dead_lettered: AtomicU64,
    pub(crate) dropped: AtomicU64,
    /// Of queues that were deleted since.
    pub(crate) delivered: AtomicU64,
    pub(crate) acked: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Totals {
    /// Keeps the counters of a queue that goes, so that the broker's never fall.
    pub(crate) fn keep(&self, counters: &QueueCounters) {
        self.delivered.fetch_add(counters.delivered, Ordering::Relaxed);
        self.acked.fetch_add(counters.acked, Ordering::Relaxed);
        self.failed.fetch_add(counters.failed, Ordering::Relaxed);
    }
}

/// A namespace at work.
pub(crate) struct Namespace {
    pub(crate) id: EntityId,
    pub(crate) name: Arc<str>,
    pub(crate) config: RwLock<Arc<NamespaceConfig>>,
    pub(crate) entities: RwLock<Entities>,
    pub(crate) live: LiveTable,
    pub(crate) stored_bytes: AtomicU64,
    rate: Mutex<Option<(f64, Monotonic)>>,
    deleted: AtomicBool,
}

/// What a namespace holds, by name and id.
#[derive(Default)]
pub(crate) struct Entities {
    pub(crate) topics: BTreeMap<Arc<str>, Arc<Topic>>,
    pub(crate) topics_by_id: HashMap<EntityId, Arc<Topic>>,
    pub(crate) queues: BTreeMap<Arc<str>, Arc<QueueOwner>>,
    pub(crate) queues_by_id: HashMap<EntityId, Arc<QueueOwner>>,
    pub(crate) bindings: BTreeMap<EntityId, BindingConfig>,
    pub(crate) groups: BTreeMap<Arc<str>, Arc<GroupOwner>>,
    /// Oldest first.
    pub(crate) policies: BTreeMap<EntityId, PolicyInfo>,
    pub(crate) router: Router,
    pub(crate) captures: Captures,
}

impl Namespace {
    pub(crate) fn new(id: EntityId, name: &str, config: NamespaceConfig) -> Self {
        Self {
            id,
            name: name.into(),
            config: RwLock::new(Arc::new(config)),
            entities: RwLock::new(Entities::default()),
            live: LiveTable::default(),
            stored_bytes: AtomicU64::new(0),
            rate: Mutex::new(None),
            deleted: AtomicBool::new(false),
        }
    }

    /// Marks the namespace as deleted: sessions in it may do nothing any more.
    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
        self.live.close();
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    pub(crate) fn config(&self) -> Arc<NamespaceConfig> {
        Arc::clone(&self.config.read())
    }

    pub(crate) fn info(&self, shared: &Shared) -> NamespaceInfo {
        let entities = self.entities.read();
        NamespaceInfo {
            id: self.id,
            name: self.name.to_string(),
            config: (*self.config()).clone(),
            topics: entities.topics.len() as u64,
            queues: entities.queues.len() as u64,
            stored_bytes: self.stored_bytes.load(Ordering::Relaxed),
            connections: shared.connections.of_namespace(self.id),
        }
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.entities.read().topics.get(name).cloned()
    }

    pub(crate) fn queue(&self, name: &str) -> Option<Arc<QueueOwner>> {
        self.entities.read().queues.get(name).cloned()
    }

    pub(crate) fn group(&self, name: &str) -> Option<Arc<GroupOwner>> {
        self.entities.read().groups.get(name).cloned()
    }

    /// Takes `messages` from the publish rate's bucket (a second's worth deep). `false` if it is empty.
    pub(crate) fn take_rate(&self, messages: u64, limit: u64, now: Monotonic) -> bool {
        let mut rate = self.rate.lock();
        let (limit, wanted) = (limit as f64, messages as f64);
        let (left, at) = rate.unwrap_or((limit, now));
        let refilled = (left + now.since(at).as_secs_f64() * limit).min(limit.max(wanted));
        let enough = refilled >= wanted && limit > 0.0;
        *rate = Some((if enough { refilled - wanted } else { refilled }, now));
        enough
    }
}

impl Shared {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        clock: Arc<dyn Clock>,
        options: BrokerOptions,
        meta: MetaState,
        users: Users,
    ) -> Self {
        Self {
            log,
            clock,
            boot: meta.owned.epoch,
            meta: Arc::new(tokio::sync::Mutex::new(meta)),
            namespaces: RwLock::default(),
            queues: RwLock::default(),
            users,
            connections: Connections::default(),
            memory: Arc::new(MemoryGauge::new(options.memory_high_bytes)),
            windows: Arc::new(WindowBudget::new(options.windows_bytes)),
            alarm: Arc::default(),
            totals: Totals::default(),
            backups: Mutex::default(),
            ids: IdMaker::new(),
            changes: watch::Sender::new(0),
            change_number: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            deferred: Mutex::default(),
            missing: Mutex::default(),
            abandoned: Mutex::default(),
            last_second: AtomicU64::new(u64::MAX),
            snapshot_records: options.snapshot_records,
            webhook_allow_private: options.webhook_allow_private,
        }
    }

    /// Whether the broker is stopping.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Reads from a log.
    ///
    /// # Errors
    /// If it is damaged, gone or the disk does not answer.
    pub(crate) fn read(&self, log: LogId, from: Offset, limit: ReadLimit) -> Result<Vec<Entry>, StorageError> {
        self.log.read(log, from, limit).map_err(read_failure)
    }

    /// Whether anything can be written.
    ///
    /// # Errors
    /// [`StorageError::Failed`] once a write or sync has failed.
    pub(crate) fn check_writable(&self) -> Result<(), StorageError> {
        match self.log.poisoned() {
            None => Ok(()),
            Some(why) => Err(StorageError::Failed(log::Refusal::Poisoned(why).to_string())),
        }
    }

    /// Why the first of these logs that is read-only is so.
    pub(crate) fn damage(&self, logs: impl IntoIterator<Item = Owned>) -> Option<String> {
        logs.into_iter().find_map(|owned| self.log.damage(owned.log))
    }

    /// Calls `each` with the value of every live record of a log, in order.
    ///
    /// # Errors
    /// Those of reading, and those of `each`.
    pub(crate) fn read_all(
        &self,
        log: LogId,
        mut each: impl FnMut(&[u8]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        read_all(&*self.log, log, &mut each)
    }

    /// Notes a commit that moves the mark of what was handed out. It cannot begin here because a machine is locked;
    /// [`flush`](Self::flush) begins it.
    pub(crate) fn mark_later(&self, transaction: Transaction, queue: &Arc<QueueOwner>, ahead: Offset) {
        self.deferred.lock().push(Deferred::Mark(transaction, Arc::clone(queue), ahead));
    }

    /// Notes a snapshot of a state log, likewise.
    pub(crate) fn snapshot_later(&self, state: &Arc<StateLog>, capture: Capture) {
        self.deferred.lock().push(Deferred::Snapshot(Arc::clone(state), capture));
    }

    /// Begins what was put off. Call it without any lock held.
    pub(crate) fn flush(self: &Arc<Self>) {
        let deferred = std::mem::take(&mut *self.deferred.lock());
        for work in deferred {
            match work {
                // Refused or not, deliveries go on: a full disk must be drained. One that failed is seen by who waits for the mark.
                Deferred::Mark(transaction, queue, ahead) => transaction.submit(self, move |_| queue.mark(ahead)),
                Deferred::Snapshot(state, capture) => state.snapshot(self, capture, self.clock.now()),
            }
        }
    }

    /// Asks for a dead-letter queue that is missing; the next tick makes it.
    pub(crate) fn make_dead_letter_queue(&self, namespace: EntityId, target: &DeadLetterConfig) {
        let mut missing = self.missing.lock();
        if !missing.iter().any(|(have, config)| *have == namespace && config == target) {
            missing.push((namespace, target.clone()));
        }
    }

    pub(crate) fn take_missing(&self) -> Vec<(EntityId, DeadLetterConfig)> {
        std::mem::take(&mut *self.missing.lock())
    }

    /// Asks for a queue to go because its last consumer has left; the next tick, which is due now, sees to it.
    pub(crate) fn abandoned(&self, queue: &Arc<QueueOwner>, now: Now) {
        if !self.is_closed() {
            self.abandoned.lock().insert(queue.id, Arc::clone(queue));
            self.alarm.due_at(now.mono);
        }
    }

    pub(crate) fn take_abandoned(&self) -> Vec<Arc<QueueOwner>> {
        std::mem::take(&mut *self.abandoned.lock()).into_values().collect()
    }

    pub(crate) fn namespace_by_id(&self, id: EntityId) -> Option<Arc<Namespace>> {
        self.namespaces.read().values().find(|namespace| namespace.id == id).cloned()
    }

    pub(crate) fn queue_by_id(&self, id: EntityId) -> Option<Arc<QueueOwner>> {
        self.queues.read().get(&id).cloned()
    }

    pub(crate) fn count_departure(&self, kept: bool) {
        let counter = if kept { &self.totals.dead_lettered } else { &self.totals.dropped };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_live(&self, lost: u64) {
        self.totals.live_delivered.fetch_add(1, Ordering::Relaxed);
        self.totals.live_lost.fetch_add(lost, Ordering::Relaxed);
    }

    /// Tells those who follow definitions.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|number| {
            *number += 1;
            self.change_number.store(*number, Ordering::Release);
        });
    }

    /// How long [`Broker::tick`](crate::Broker::tick) may be left alone, at most.
    pub(crate) const MAX_TICK_WAIT: Duration = Duration::from_millis(250);
}

/// Calls `each` with the value of every live record of a log, in order.
///
/// # Errors
/// Those of reading, and those of `each`.
pub(crate) fn read_all(
    engine: &dyn Log,
    log: LogId,
    each: &mut dyn FnMut(&[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut from = Offset::ZERO;
    loop {
        let limit = ReadLimit { bytes: REPLAY_BYTES, records: usize::MAX, before: Offset(u64::MAX) };
        let entries = engine.read(log, from, limit).map_err(read_failure)?;
        let Some(last) = entries.last() else { return Ok(()) };
        from = last.end();
        crate::meta::for_each_record(&entries, &mut *each)?;
    }
}

fn read_failure(error: log::ReadError) -> StorageError {
    match error {
        log::ReadError::NoSuchLog(_) => StorageError::Unavailable(error.to_string()),
        error => StorageError::Damaged(error.to_string()),
    }
}
