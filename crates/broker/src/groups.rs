//! Groups at work: the owner of each group's state machine, and its log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use log::{Append, Durability, Operation};
use parking_lot::{Mutex, RwLock};
use types::{EntityId, Now, Offset};

use crate::definitions::GroupConfig;
use crate::errors::StorageError;
use crate::group::{Group, GroupRecord};
use crate::meta::plain_batch;
use crate::shared::Shared;
use crate::transaction::{Owned, Transaction};

/// Commits of offsets between snapshots.
const SNAPSHOT_INTERVAL: u64 = 4_096;
/// How long a member lives without a sign of life unless the group says otherwise.
pub(crate) const DEFAULT_SESSION: Duration = Duration::from_secs(15);

/// The owner of a group.
pub(crate) struct GroupOwner {
    pub(crate) id: EntityId,
    pub(crate) name: Arc<str>,
    owned: Owned,
    config: RwLock<Arc<GroupConfig>>,
    pub(crate) machine: Mutex<Group>,
    /// Held over a commit of offsets, so that records are applied in the order in which they are written.
    committing: Arc<tokio::sync::Mutex<()>>,
    since_snapshot: AtomicU64,
    deleted: AtomicBool,
    fetches: AtomicU64,
    /// What of its offsets could not be read at the start.
    unread: OnceLock<String>,
}

impl GroupOwner {
    pub(crate) fn new(id: EntityId, name: &str, owned: Owned, config: GroupConfig, partitions: u32) -> Self {
        Self {
            id,
            name: name.into(),
            owned,
            config: RwLock::new(Arc::new(config)),
            machine: Mutex::new(Group::new(owned.epoch, partitions)),
            committing: Arc::default(),
            since_snapshot: AtomicU64::new(0),
            deleted: AtomicBool::new(false),
            fetches: AtomicU64::new(0),
            unread: OnceLock::new(),
        }
    }

    /// What is wrong with its data, if something is.
    pub(crate) fn damage(&self, shared: &Shared) -> Option<String> {
        shared.damage([self.owned]).or_else(|| self.unread.get().cloned())
    }

    /// Takes up what the log holds. What cannot be read is logged and shown: its neighbours need not suffer.
    pub(crate) fn recover(&self, shared: &Shared) {
        if let Err(error) = self.replay(shared) {
            tracing::error!(group = %self.name, %error, "a group's offsets could not be read in full");
            let _ = self.unread.set(error.to_string());
        }
    }

    fn replay(&self, shared: &Shared) -> Result<(), StorageError> {
        let mut machine = self.machine.lock();
        let mut count = 0;
        shared.read_all(self.owned.log, |value| {
            count += 1;
            machine.replay(value).map_err(|error| StorageError::Damaged(format!("group {:?}: {error}", &*self.name)))
        })?;
        self.since_snapshot.store(count, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn owned(&self) -> Owned {
        self.owned
    }

    pub(crate) fn config(&self) -> Arc<GroupConfig> {
        Arc::clone(&self.config.read())
    }

    pub(crate) fn redefine(&self, config: GroupConfig) {
        *self.config.write() = Arc::new(config);
    }

    /// Puts a member's partitions in the order to look at them: each fetch begins with another one, so that a busy one starves none.
    pub(crate) fn turn(&self, partitions: &mut [u32]) {
        let turn = self.fetches.fetch_add(1, Ordering::Relaxed).checked_rem(partitions.len() as u64);
        partitions.rotate_left(turn.and_then(|turn| usize::try_from(turn).ok()).unwrap_or(0));
    }

    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::Release);
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// How long a member lives without a sign of life.
    pub(crate) fn session(&self) -> Duration {
        self.config.read().session_ms.map_or(DEFAULT_SESSION, Duration::from_millis)
    }

    /// Drops members whose time is over.
    pub(crate) fn tick(&self, now: Now) {
        let mut machine = self.machine.lock();
        machine.tick(now.mono);
        machine.take_events(&mut Vec::new());
    }

    /// Makes changes of offsets durable, then puts them into force, even if nobody waits for it any more. `make` checks them, with the
    /// order of changes settled.
    ///
    /// # Errors
    /// Those of `make`, and the storage's.
    pub(crate) async fn change<E: From<StorageError>>(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        make: impl FnOnce(&mut Group) -> Result<Vec<GroupRecord>, E>,
    ) -> Result<(), E> {
        let order = Arc::clone(&self.committing).lock_owned().await;
        let now = shared.clock.now();
        let mut records = make(&mut self.machine.lock())?;
        if records.is_empty() {
            return Ok(());
        }
        let most = shared.snapshot_records.unwrap_or(SNAPSHOT_INTERVAL);
        let snapshot = self.since_snapshot.load(Ordering::Relaxed) > most;
        if snapshot {
            records = self.with_snapshot(records);
        }
        let encoded: Vec<Bytes> = records.iter().map(|record| record.encode().into()).collect();
        let batch = plain_batch(&encoded, now.wall)?;
        let mut transaction = Transaction::new();
        transaction.at_least(Durability::Fsync);
        transaction.uses_reserve();
        transaction.operation(self.owned.target(Operation::Append(Append { batch, selection: None, weight: 0 })));
        let (send, receive) = tokio::sync::oneshot::channel();
        let (group, shared) = (Arc::clone(self), Arc::clone(shared));
        transaction.submit(&Arc::clone(&shared), move |result| {
            let result = result.map(|written| {
                let snapshot_at = written.first().map(|written| written.base).filter(|_| snapshot);
                group.take_up(&shared, records, snapshot_at);
            });
            drop(order);
            drop(send.send(result));
        });
        let stopped = || StorageError::Unknown("the storage stopped".to_owned());
        receive.await.map_err(|_| stopped())?.map_err(StorageError::from)?;
        Ok(())
    }

    /// Puts into force what is durable; what a snapshot replaces goes.
    fn take_up(&self, shared: &Arc<Shared>, records: Vec<GroupRecord>, snapshot_at: Option<Offset>) {
        self.since_snapshot.fetch_add(records.len() as u64, Ordering::Relaxed);
        {
            let mut machine = self.machine.lock();
            records.into_iter().for_each(|record| machine.apply(record));
        }
        if let Some(base) = snapshot_at {
            self.since_snapshot.store(0, Ordering::Relaxed);
            let mut trim = Transaction::new();
            trim.at_least(Durability::Os);
            trim.operation(self.owned.target(Operation::Trim(base)));
            trim.submit(shared, |_| {});
        }
    }

    /// A snapshot of what holds, in front of the changes.
    fn with_snapshot(&self, records: Vec<GroupRecord>) -> Vec<GroupRecord> {
        let mut all = vec![self.machine.lock().snapshot()];
        all.extend(records);
        all
    }

    /// The committed offset of a partition.
    pub(crate) fn committed(&self, partition: u32) -> Option<Offset> {
        self.machine.lock().committed(partition).map(|committed| committed.offset)
    }
}
