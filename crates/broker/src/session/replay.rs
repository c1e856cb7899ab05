//! Reading topics' logs.

use std::sync::Arc;

use log::{Entry, ReadLimit};
use types::limits::{MAX_RECEIVE_MESSAGES, MAX_RECEIVE_WAIT};
use types::{Offset, Timestamp};

use super::{Read, ReadAnswer, Session};
use crate::access::Action;
use crate::errors::{ReplayError, StorageError};
use crate::record::{Payload, metas};
use crate::topics::Topic;
use crate::transaction::Owned;
use crate::views::{Position, ReadFrom, Record};

/// Bytes of batches read at a time.
pub(super) const READ_BYTES: usize = 4 * 1024 * 1024;

impl Session {
    /// Reads a topic's log. Ready with the first records, or when the wait is over.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub async fn read(&self, topic: &str, read: Read) -> Result<ReadAnswer, ReplayError> {
        let topic = self.readable_topic(topic)?;
        let max = read.max.clamp(1, MAX_RECEIVE_MESSAGES);
        let wait = Wait::new(read.wait.min(MAX_RECEIVE_WAIT));
        let mut from = self.resolve(&topic, read.partition, read.from)?;
        loop {
            let appended = topic.wait();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let answer = self.read_partition(&topic, read.partition, from, max, read.max_bytes.min(READ_BYTES))?;
            let left = wait.left();
            if !answer.records.is_empty() || left.is_zero() || self.shared().is_closed() {
                return Ok(answer);
            }
            from = answer.next;
            let _ = tokio::time::timeout(left, appended).await;
            if topic.is_deleted() {
                return Err(ReplayError::NotFound { entity: format!("topic {:?}", &*topic.name) });
            }
            self.may(Action::Read, "topic", &topic.name)?;
        }
    }

    /// The records of a key from an offset on, oldest first, at most `max`. A key has one partition, unless partitions were added since: then
    /// the offset counts in each of them.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn read_key(&self, topic: &str, key: &[u8], start: Offset, max: usize) -> Result<Vec<Record>, ReplayError> {
        let topic = self.readable_topic(topic)?;
        let max = max.clamp(1, MAX_RECEIVE_MESSAGES);
        let mut records = Vec::new();
        for (partition, owned) in (0u32..).zip(topic.partitions().iter()) {
            let Some(summary) = self.key_of(&topic, *owned, key)? else { continue };
            let mut from = summary.first.max(start);
            while from <= summary.last && records.len() < max {
                let limit = ReadLimit { bytes: READ_BYTES, records: usize::MAX, before: summary.last.next() };
                let entries = self.shared().read(owned.log, from, limit)?;
                let Some(last) = entries.last() else { break };
                from = last.end();
                let mut taken = Taken::new(&mut records, max, usize::MAX);
                for entry in &entries {
                    decode(entry, partition, start, &mut taken, |record| record == Some(key))?;
                }
            }
        }
        Ok(records)
    }

    /// The last record of a key.
    ///
    /// # Errors
    /// See [`ReplayError`].
    pub fn last_value(&self, topic: &str, key: &[u8]) -> Result<Option<Record>, ReplayError> {
        let topic = self.readable_topic(topic)?;
        let mut newest: Option<Record> = None;
        for (partition, owned) in (0u32..).zip(topic.partitions().iter()) {
            let Some(summary) = self.key_of(&topic, *owned, key)? else { continue };
            let limit = ReadLimit { bytes: 1, records: 1, before: summary.last.next() };
            let mut records = Vec::new();
            let mut taken = Taken::new(&mut records, 1, READ_BYTES);
            for entry in self.shared().read(owned.log, summary.last, limit)? {
                decode(&entry, partition, summary.last, &mut taken, |_| true)?;
            }
            // A key has one partition, unless partitions were added since: then the newest record counts.
            newest = newest.into_iter().chain(records).max_by_key(|record| record.appended);
        }
        Ok(newest)
    }

    pub(super) fn readable_topic(&self, name: &str) -> Result<Arc<Topic>, ReplayError> {
        self.may(Action::Read, "topic", name)?;
        let topic =
            self.space.topic(name).ok_or_else(|| ReplayError::NotFound { entity: format!("topic {name:?}") })?;
        if topic.partitions().is_empty() {
            return Err(ReplayError::NoLog(name.to_owned()));
        }
        Ok(topic)
    }

    fn key_of(&self, topic: &Topic, owned: Owned, key: &[u8]) -> Result<Option<log::KeySummary>, ReplayError> {
        self.shared().log.key(owned.log, key).map_err(|error| match error {
            log::ReadError::NoKeyIndex(_) => ReplayError::NoKeyIndex(topic.name.to_string()),
            error => StorageError::Damaged(error.to_string()).into(),
        })
    }

    fn partition_log(topic: &Topic, partition: u32) -> Result<Owned, ReplayError> {
        let entity = || format!("partition {partition} of topic {:?}", &*topic.name);
        topic.partitions().get(partition as usize).copied().ok_or_else(|| ReplayError::NotFound { entity: entity() })
    }

    /// The offset that a place means now.
    pub(super) fn resolve(&self, topic: &Topic, partition: u32, from: ReadFrom) -> Result<Offset, ReplayError> {
        let owned = Self::partition_log(topic, partition)?;
        let damaged = |error: log::ReadError| StorageError::Damaged(error.to_string());
        let state = self.shared().log.state(owned.log).map_err(damaged)?;
        match from {
            ReadFrom::Earliest => Ok(state.start),
            ReadFrom::Latest => Ok(state.end),
            ReadFrom::Time(time) => {
                Ok(self.shared().log.offset_at(owned.log, time).map_err(damaged)?.unwrap_or(state.end))
            }
            // What a compacted log has no more was replaced by what is further on: nobody who reads on from there misses a thing.
            ReadFrom::Offset(asked) if asked > state.end || (asked < state.start && !is_compacted(topic)) => {
                Err(ReplayError::OutOfRange { asked, start: state.start, end: state.end })
            }
            ReadFrom::Offset(asked) => Ok(asked),
        }
    }

    /// Reads what is there of a partition.
    pub(super) fn read_partition(
        &self,
        topic: &Topic,
        partition: u32,
        from: Offset,
        max: usize,
        max_bytes: usize,
    ) -> Result<ReadAnswer, ReplayError> {
        let owned = Self::partition_log(topic, partition)?;
        let limit = ReadLimit { bytes: max_bytes.max(1), records: max, before: Offset(u64::MAX) };
        let entries = self.shared().read(owned.log, from, limit)?;
        let end = self.shared().log.state(owned.log).map_or(from, |state| state.end);
        let (mut records, mut next) = (Vec::new(), from);
        let mut taken = Taken::new(&mut records, max, max_bytes);
        for entry in &entries {
            if !decode(entry, partition, from, &mut taken, |_| true)? {
                next = taken.records.last().map_or(next, |last| last.position.offset.next());
                break;
            }
            next = entry.end();
        }
        if entries.is_empty() {
            // Nothing live is left before the end.
            next = end.max(from);
        }
        Ok(ReadAnswer { records, next, end })
    }
}

fn is_compacted(topic: &Topic) -> bool {
    topic.definition().resolved.retention.as_ref().is_some_and(|retention| retention.compact)
}

/// A wait that the runtime's clock bounds, as it does the waits within it.
pub(super) struct Wait(tokio::time::Instant);

impl Wait {
    pub(super) fn new(wait: std::time::Duration) -> Self {
        Self(tokio::time::Instant::now() + wait)
    }

    pub(super) fn left(&self) -> std::time::Duration {
        self.0.saturating_duration_since(tokio::time::Instant::now())
    }
}

/// Records read so far, and how many more there may be.
struct Taken<'a> {
    records: &'a mut Vec<Record>,
    max: usize,
    bytes_left: usize,
}

impl<'a> Taken<'a> {
    fn new(records: &'a mut Vec<Record>, max: usize, bytes: usize) -> Self {
        Self { records, max, bytes_left: bytes }
    }

    /// Whether there is room for one of this weight; the first is taken whatever it weighs.
    fn has_room(&self, weight: usize) -> bool {
        self.records.len() < self.max && (self.records.is_empty() || weight <= self.bytes_left)
    }
}

/// Decodes an entry's live records from an offset on, those whose record key is wanted, while there is room. `false` if some were left.
fn decode(
    entry: &Entry,
    partition: u32,
    from: Offset,
    taken: &mut Taken<'_>,
    wanted: impl Fn(Option<&[u8]>) -> bool,
) -> Result<bool, ReplayError> {
    let damaged = |error: log::batch::BatchError| StorageError::Damaged(error.to_string());
    if entry.batch.is_control() {
        return Ok(true);
    }
    let block = Arc::new(entry.batch.block().map_err(damaged)?);
    for meta in metas(&block).map_err(damaged)? {
        let offset = entry.base.plus(u64::from(meta.delta));
        if offset < from || !entry.live.contains(meta.delta) {
            continue;
        }
        if !wanted(block.record_ref(meta.position).map_err(damaged)?.key) {
            continue;
        }
        let weight = meta.weight as usize;
        if !taken.has_room(weight) {
            return Ok(false);
        }
        taken.bytes_left = taken.bytes_left.saturating_sub(weight);
        let payload = Payload { block: Arc::clone(&block), position: meta.position };
        let (message, appended): (_, Timestamp) = payload.message().map_err(damaged)?;
        taken.records.push(Record { position: Position { partition, offset }, appended, message: Arc::new(message) });
    }
    Ok(true)
}
