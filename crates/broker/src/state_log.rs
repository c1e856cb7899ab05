//! Small records beside a log of messages: attempts, dedup ids, producers' sequences. docs/formats/state-records.md draws them.
//!
//! A state log is replayed from its last snapshot. When the records since then outnumber what a snapshot would hold, a new one is
//! written and everything before it is trimmed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use log::{Append, Durability, Operation};
use types::{Now, Offset, Text, Timestamp};

use crate::dedup::{DedupEntry, DedupWindow, decode_entries, encode_entries};
use crate::errors::StorageError;
use crate::idempotence::ProducerBatch;
use crate::meta::plain_batch;
use crate::queue::{History, RetryRecord};
use crate::shared::Shared;
use crate::transaction::{Owned, Transaction};

/// Records between snapshots, at least.
const MIN_SNAPSHOT_INTERVAL: u64 = 4_096;
/// Records of one batch of a snapshot.
const SNAPSHOT_BATCH_RECORDS: usize = 100_000;
/// Dedup ids of one record of a snapshot.
const DEDUP_RECORD_IDS: usize = 4_096;
/// Records of a snapshot that may be written on a full disk.
const SMALL_SNAPSHOT_RECORDS: usize = 10_000;

/// Gives the records of a snapshot, of the state at this time.
pub(crate) type Capture = Box<dyn FnOnce(Now) -> Vec<StateRecord> + Send>;

/// A small record of an entity's state.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StateRecord {
    /// A snapshot begins: the next so many records. They stand for everything before the last [`Mark`](Self::Mark); what came between
    /// that and here happened after them.
    Reset {
        /// Records of the snapshot.
        records: u64,
    },
    /// A snapshot of everything before this is about to be taken.
    Mark,
    /// A message failed and waits.
    Retry(RetryRecord),
    /// A message that failed is gone: its [`Retry`](Self::Retry) is void.
    Forget(Offset),
    /// Messages before this offset may have been handed out.
    DeliveredTo(Offset),
    /// Dedup ids were taken. (docs/formats/dedup-records.md)
    Dedup(Vec<DedupEntry>),
    /// A producer's batch.
    Producer(ProducerRecord),
    /// All producers. (docs/formats/producer-windows.md)
    Producers(Bytes),
}

impl StateRecord {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(48);
        match self {
            Self::Reset { records } => {
                out.put_u8(0);
                out.put_u64(*records);
            }
            Self::Mark => out.put_u8(7),
            Self::Retry(retry) => {
                out.put_u8(1);
                out.put_u64(retry.offset.0);
                out.put_i64(retry.due.0);
                out.put_u32(retry.history.attempts);
                put_optional(&mut out, retry.key);
                put_optional(&mut out, retry.history.first_failed.map(|time| time.0 as u64));
                put_optional(&mut out, retry.history.last_failed.map(|time| time.0 as u64));
                out.put_slice(retry.history.last_error.as_deref().unwrap_or_default().as_bytes());
            }
            Self::Forget(offset) => {
                out.put_u8(2);
                out.put_u64(offset.0);
            }
            Self::DeliveredTo(offset) => {
                out.put_u8(3);
                out.put_u64(offset.0);
            }
            Self::Dedup(entries) => {
                out.put_u8(4);
                out.put_slice(&encode_entries(entries));
            }
            Self::Producer(ProducerRecord { name, batch, at }) => {
                out.put_u8(5);
                out.put_i64(at.0);
                out.put_u32(batch.epoch);
                out.put_u32(batch.first_sequence);
                out.put_u32(batch.messages);
                out.put_slice(name.bytes());
            }
            Self::Producers(snapshot) => {
                out.put_u8(6);
                out.put_slice(snapshot);
            }
        }
        out.freeze()
    }

    /// Reads a record; `None` if it is not one.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        Some(match bytes.try_get_u8().ok()? {
            0 => Self::Reset { records: bytes.try_get_u64().ok()? },
            1 => {
                let offset = Offset(bytes.try_get_u64().ok()?);
                let due = Timestamp(bytes.try_get_i64().ok()?);
                let attempts = bytes.try_get_u32().ok()?;
                let key = take_optional(&mut bytes)?;
                let first_failed = take_optional(&mut bytes)?.map(|time| Timestamp(time as i64));
                let last_failed = take_optional(&mut bytes)?.map(|time| Timestamp(time as i64));
                let error = std::str::from_utf8(bytes).ok()?;
                let last_error = (!error.is_empty()).then(|| Arc::from(error));
                Self::Retry(RetryRecord {
                    offset,
                    key,
                    due,
                    history: History { attempts, first_failed, last_failed, last_error },
                })
            }
            2 => Self::Forget(Offset(bytes.try_get_u64().ok()?)),
            3 => Self::DeliveredTo(Offset(bytes.try_get_u64().ok()?)),
            4 => Self::Dedup(decode_entries(bytes).ok()?),
            5 => {
                let at = Timestamp(bytes.try_get_i64().ok()?);
                let batch = ProducerBatch {
                    epoch: bytes.try_get_u32().ok()?,
                    first_sequence: bytes.try_get_u32().ok()?,
                    messages: bytes.try_get_u32().ok()?,
                };
                let name = Text::from_utf8(Bytes::copy_from_slice(bytes)).ok()?;
                Self::Producer(ProducerRecord { name, batch, at })
            }
            6 => Self::Producers(Bytes::copy_from_slice(bytes)),
            7 => Self::Mark,
            _ => return None,
        })
    }
}

/// A batch of an idempotent producer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ProducerRecord {
    pub(crate) name: Text,
    pub(crate) batch: ProducerBatch,
    pub(crate) at: Timestamp,
}

/// All ids that a dedup window remembers.
pub(crate) fn dedup_records(window: &DedupWindow, now: Now) -> impl Iterator<Item = StateRecord> {
    let entries = window.snapshot(now, DEDUP_RECORD_IDS);
    entries.into_iter().filter_map(|bytes| decode_entries(&bytes).ok().map(StateRecord::Dedup))
}

fn put_optional(out: &mut BytesMut, value: Option<u64>) {
    out.put_u8(u8::from(value.is_some()));
    out.put_u64(value.unwrap_or(0));
}

fn take_optional(bytes: &mut &[u8]) -> Option<Option<u64>> {
    let there = bytes.try_get_u8().ok()?;
    let value = bytes.try_get_u64().ok()?;
    Some((there == 1).then_some(value))
}

/// The state log of one entity.
pub(crate) struct StateLog {
    owned: Owned,
    since_snapshot: AtomicU64,
    snapshot_size: AtomicU64,
    snapshotting: AtomicBool,
}

impl StateLog {
    pub(crate) fn new(owned: Owned) -> Self {
        Self {
            owned,
            since_snapshot: AtomicU64::new(0),
            snapshot_size: AtomicU64::new(0),
            snapshotting: AtomicBool::new(false),
        }
    }

    pub(crate) fn owned(&self) -> Owned {
        self.owned
    }

    /// Adds records to a transaction.
    ///
    /// # Errors
    /// If they are more than a batch holds.
    pub(crate) fn record(
        &self,
        transaction: &mut Transaction,
        records: &[StateRecord],
        now: Now,
    ) -> Result<(), StorageError> {
        if records.is_empty() {
            return Ok(());
        }
        let encoded: Vec<Bytes> = records.iter().map(StateRecord::encode).collect();
        let batch = plain_batch(&encoded, now.wall)?;
        transaction.operation(self.owned.target(Operation::Append(Append { batch, selection: None, weight: 0 })));
        self.since_snapshot.fetch_add(records.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a snapshot is due.
    pub(crate) fn wants_snapshot(&self, shared: &Shared) -> bool {
        let since = self.since_snapshot.load(Ordering::Relaxed);
        let least = shared.snapshot_records.unwrap_or(MIN_SNAPSHOT_INTERVAL);
        since > least.max(2 * self.snapshot_size.load(Ordering::Relaxed)) && !self.snapshotting.load(Ordering::Relaxed)
    }

    /// Writes a snapshot of what `capture` gives, then trims what it replaces. In the background: nothing waits for it.
    ///
    /// IMPORTANT: the snapshot is captured when everything before its mark has ended, since the machines know of a dedup id or of a
    /// message's leaving only then. Captured earlier, it would void what was under way.
    pub(crate) fn snapshot(self: &Arc<Self>, shared: &Arc<Shared>, capture: Capture, now: Now) {
        if self.snapshotting.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut transaction = Transaction::new();
        transaction.at_least(Durability::Os);
        transaction.uses_reserve();
        if self.record(&mut transaction, &[StateRecord::Mark], now).is_err() {
            self.snapshotting.store(false, Ordering::Release);
            return;
        }
        let (state, writer) = (Arc::clone(self), Arc::clone(shared));
        transaction.submit(shared, move |result| match result.ok().and_then(|written| written.first().copied()) {
            Some(mark) => state.write_snapshot(&writer, mark.base, capture(writer.clock.now()), now),
            None => state.snapshotting.store(false, Ordering::Release),
        });
    }

    fn write_snapshot(self: &Arc<Self>, shared: &Arc<Shared>, mark: Offset, records: Vec<StateRecord>, now: Now) {
        let size = records.len() as u64;
        let mut transaction = Transaction::new();
        transaction.at_least(Durability::Os);
        if is_small(&records) {
            // What consumers fail again and again while the disk is full is replaced, and does not eat up the reserve.
            transaction.uses_reserve();
        }
        let mut all = vec![StateRecord::Reset { records: size }];
        all.extend(records);
        for chunk in all.chunks(SNAPSHOT_BATCH_RECORDS) {
            if self.record(&mut transaction, chunk, now).is_err() {
                self.snapshotting.store(false, Ordering::Release);
                return;
            }
        }
        let (state, trimmer) = (Arc::clone(self), Arc::clone(shared));
        transaction.submit(shared, move |result| {
            if result.is_ok() {
                state.since_snapshot.store(0, Ordering::Relaxed);
                state.snapshot_size.store(size, Ordering::Relaxed);
                let mut trim = Transaction::new();
                trim.at_least(Durability::Os);
                trim.operation(state.owned.target(Operation::Trim(mark)));
                trim.submit(&trimmer, |_| {});
            }
            state.snapshotting.store(false, Ordering::Release);
        });
    }

    /// Calls `each` with every record since the last snapshot, in an order that gives the state. Records that a newer version wrote are
    /// an error: guessing would lose state.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub(crate) fn replay(&self, shared: &Shared, mut each: impl FnMut(StateRecord)) -> Result<(), StorageError> {
        let mut replay = Replay::default();
        shared.read_all(self.owned.log, |value| {
            let record = StateRecord::decode(value).ok_or_else(|| {
                StorageError::Damaged(format!("a state record of log {} cannot be read", self.owned.log))
            })?;
            replay.take(record, &mut each);
            Ok(())
        })?;
        self.since_snapshot.store(replay.since_snapshot, Ordering::Relaxed);
        self.snapshot_size.store(replay.snapshot_size, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether a snapshot may be written on a full disk. Ids and producers may be many, and grow by publishes only, which are refused there.
fn is_small(snapshot: &[StateRecord]) -> bool {
    let is_large = |record: &StateRecord| matches!(record, StateRecord::Dedup(_) | StateRecord::Producers(_));
    snapshot.len() <= SMALL_SNAPSHOT_RECORDS && !snapshot.iter().any(is_large)
}

/// Puts records into the order in which they happened.
#[derive(Default)]
struct Replay {
    since_snapshot: u64,
    snapshot_size: u64,
    /// Records of the present snapshot that are still to come.
    left: u64,
    /// What came since the last mark. If a snapshot follows, it is older than they are.
    marked: Vec<StateRecord>,
}

impl Replay {
    fn take(&mut self, record: StateRecord, each: &mut impl FnMut(StateRecord)) {
        self.since_snapshot += 1;
        match record {
            StateRecord::Mark => self.marked.clear(),
            StateRecord::Reset { records } => {
                (self.left, self.snapshot_size, self.since_snapshot) = (records, records, 0);
                each(record);
            }
            record if self.left > 0 => {
                self.left -= 1;
                each(record);
            }
            record => {
                self.marked.push(record.clone());
                each(record);
                return;
            }
        }
        if self.left == 0 {
            self.marked.drain(..).for_each(each);
        }
    }
}

#[cfg(test)]
mod tests;
