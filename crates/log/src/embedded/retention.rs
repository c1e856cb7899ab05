//! Retention by age, bytes and records: whole batches go from the front.

use types::{LogId, Offset, Timestamp};

use super::core::Core;
use super::draft::{Action, Draft};
use super::locations::Location;
use super::log_data::{Extent, LogData};
use super::options::RETENTION_BATCHES;
use super::segment::SegmentCursor;
use crate::Cleanup;
use crate::batch::BatchHeader;

/// What is left of a log while its oldest batches are taken away one by one.
struct Remaining {
    bytes: u64,
    records: u64,
    now: Timestamp,
    cleanup: Cleanup,
}

/// The next batch or stretch of batches in a log.
struct Unit {
    end: u64,
    bytes: u64,
    records: u64,
    max_ts: i64,
}

impl Remaining {
    fn must_go(&self, unit: &Unit) -> bool {
        let is_old = |age| self.now.since(Timestamp(unit.max_ts)) > age;
        self.cleanup.max_age.is_some_and(is_old)
            || self.cleanup.max_bytes.is_some_and(|max| self.bytes > max)
            || self.cleanup.max_records.is_some_and(|max| self.records > max)
    }

    /// Whether even the last of these must go, however they are cut into batches.
    fn must_go_whole(&self, unit: &Unit) -> bool {
        let is_old = |age| self.now.since(Timestamp(unit.max_ts)) > age;
        self.cleanup.max_age.is_some_and(is_old)
            || self.cleanup.max_bytes.is_some_and(|max| self.bytes.saturating_sub(unit.bytes) >= max)
            || self.cleanup.max_records.is_some_and(|max| self.records.saturating_sub(unit.records) >= max)
    }

    fn take(&mut self, unit: &Unit) {
        self.bytes = self.bytes.saturating_sub(unit.bytes);
        self.records = self.records.saturating_sub(unit.records);
    }
}

impl Core {
    /// Trims what the logs' bounds let go at this time.
    pub(super) fn apply_retention(&self, now: Timestamp) {
        let bounded: Vec<LogId> = {
            let published = self.published.read();
            let is_bounded = |data: &LogData| {
                let cleanup = &data.config.cleanup;
                let over = |max: Option<u64>, is: u64| max.is_some_and(|max| is > max);
                data.records > 0
                    && data.damage.is_none()
                    && (cleanup.max_age.is_some()
                        || over(cleanup.max_bytes, data.bytes)
                        || over(cleanup.max_records, data.records))
            };
            published.logs.iter().filter(|(_, data)| is_bounded(data)).map(|(log, _)| *log).collect()
        };
        let mut trims = Vec::new();
        for log in bounded {
            if let Some(to) = self.retain(log, now) {
                trims.push((log, Action::Trim(to)));
            }
        }
        // One commit a log: a log that was removed meanwhile must not keep the others.
        for trim in trims {
            self.submit(Ok(Draft::internal([trim])), Box::new(|_| {}));
        }
        self.run_round_if_manual();
    }

    /// Up to where the log's oldest batches must go.
    fn retain(&self, log: LogId, now: Timestamp) -> Option<u64> {
        let (mut left, start) = {
            let published = self.published.read();
            let data = published.logs.get(&log)?;
            let cleanup = data.config.cleanup.clone();
            (Remaining { bytes: live_bytes(data), records: data.records, now, cleanup }, data.start)
        };
        let mut to = start;
        let mut batches = 0;
        while batches < RETENTION_BATCHES {
            let (unit, extent) = self.next_unit(log, to)?;
            let Some(unit) = unit else { break };
            if let Some(extent) = extent {
                if left.must_go_whole(&unit) {
                    left.take(&unit);
                    to = unit.end;
                    continue;
                }
                let (reached, is_done) = self.retain_in_extent(log, &extent, to, &mut left, &mut batches);
                to = reached;
                if is_done {
                    break;
                }
                continue;
            }
            if !left.must_go(&unit) {
                break;
            }
            left.take(&unit);
            to = unit.end;
            batches += 1;
        }
        (to > start).then_some(to)
    }

    /// The extent or the batch at `from`, or the first after it.
    #[allow(clippy::type_complexity, reason = "the outer level is a log that is gone")]
    fn next_unit(&self, log: LogId, from: u64) -> Option<(Option<Unit>, Option<Extent>)> {
        let published = self.published.read();
        let data = published.logs.get(&log)?;
        if let Some(extent) = data.extents.iter().find(|extent| extent.end > from) {
            let records = data.dead.live_in(extent.base.max(from)..extent.end);
            let unit = Unit { end: extent.end, bytes: extent_bytes(extent, records), records, max_ts: extent.max_ts };
            return Some((Some(unit), Some(*extent)));
        }
        let of = |end: u64, base: u64, bytes: u64, max_ts: i64| {
            let records = data.dead.live_in(base.max(from)..end);
            Unit { end, bytes: if records > 0 { bytes } else { 0 }, records, max_ts }
        };
        let unit = if data.config.volatile {
            let next = data.volatile.iter().find(|(base, batch)| *base + u64::from(batch.count) > from);
            next.map(|(base, batch)| {
                let batch_ts = batch.batch.max_timestamp_ms();
                of(base + u64::from(batch.count), *base, batch.batch.size_bytes() as u64, batch_ts)
            })
        } else {
            let next: Option<Location> = data.locations.after(from).next();
            next.map(|at| of(at.end(), at.base, u64::from(at.len), at.max_ts))
        };
        Some((unit, None))
    }

    /// Goes on batch by batch within an extent. Says where it got, and whether what follows stays.
    fn retain_in_extent(
        &self,
        log: LogId,
        extent: &Extent,
        from: u64,
        left: &mut Remaining,
        batches: &mut usize,
    ) -> (u64, bool) {
        let segment = self.published.read().segments.get(&extent.segment).cloned();
        let Some(segment) = segment else { return (from, true) };
        let Ok(open) = self.indexes.get(self.disk.as_ref(), &segment) else { return (from, true) };
        let mut entries = SegmentCursor::new(open.file.clone(), log, open.index.seek(extent, from), extent);
        let mut to = from;
        while *batches < RETENTION_BATCHES {
            let entry = match entries.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => return (extent.end.max(to), false),
                Err(_) => return (to, true),
            };
            let end = entry.base + u64::from(entry.count);
            if end <= to {
                continue;
            }
            let records = {
                let published = self.published.read();
                let Some(data) = published.logs.get(&log) else { return (to, true) };
                data.dead.live_in(entry.base.max(to)..end)
            };
            let Ok(header) = BatchHeader::decode(&entry.batch) else { return (to, true) };
            let bytes = if records > 0 { entry.batch.len() as u64 } else { 0 };
            let unit = Unit { end, bytes, records, max_ts: header.max_timestamp_ms };
            if records > 0 && !left.must_go(&unit) {
                return (to, true);
            }
            left.take(&unit);
            to = end;
            *batches += 1;
        }
        (to, true)
    }

    /// Without threads nobody else would write the engine's own commits.
    pub(super) fn run_round_if_manual(&self) {
        if !self.options.threads {
            while self.run_round() == super::committer::Round::Done {}
        }
    }

    /// Catches up with what is new in the log, so that a key's summary can be told.
    ///
    /// # Errors
    /// As a read.
    pub(super) fn key_summary(&self, log: LogId, key: &[u8]) -> Result<Option<crate::KeySummary>, crate::ReadError> {
        let keys = {
            let published = self.published.read();
            let data = published.logs.get(&log).ok_or(crate::ReadError::NoSuchLog(log))?;
            data.keys.clone().ok_or(crate::ReadError::NoKeyIndex(log))?
        };
        let mut index = keys.lock();
        loop {
            let limit = crate::ReadLimit {
                bytes: super::options::SCAN_READ_BYTES,
                records: usize::MAX,
                before: Offset(u64::MAX),
            };
            let entries = self.read(log, Offset(index.upto), limit)?;
            let Some(last) = entries.last() else { break };
            let upto = last.base.0 + u64::from(last.batch.last_offset_delta()) + 1;
            for entry in &entries {
                let Ok(block) = entry.batch.block() else { continue };
                for record in block.refs().map_while(Result::ok) {
                    if let Some(key) = record.key.filter(|_| entry.live.contains(record.offset_delta)) {
                        index.add(key, entry.base.0 + u64::from(record.offset_delta));
                    }
                }
            }
            index.upto = upto;
        }
        let published = self.published.read();
        let data = published.logs.get(&log).ok_or(crate::ReadError::NoSuchLog(log))?;
        Ok(index.summary(key, |offset| data.is_live(offset)))
    }

    /// Gives the memory of dead records in key indexes back, once they are more than the live ones.
    pub(super) fn sweep_keys(&self) {
        let keyed: Vec<_> = {
            let published = self.published.read();
            let keys = published.logs.iter().filter_map(|(log, data)| Some((*log, data.keys.clone()?)));
            keys.collect()
        };
        for (log, keys) in keyed {
            let Some(mut index) = keys.try_lock() else { continue };
            let published = self.published.read();
            let Some(data) = published.logs.get(&log) else { continue };
            if index.entries > 2 * data.records + 1024 {
                index.sweep(|offset| data.is_live(offset));
            }
        }
    }
}

/// Bytes of an extent's live records: exact if all or none are.
fn extent_bytes(extent: &Extent, records: u64) -> u64 {
    let share = u128::from(extent.len) * u128::from(records) / u128::from(extent.records.max(1));
    u64::try_from(share).unwrap_or(extent.len).min(extent.len)
}

/// Bytes of the batches with live records.
fn live_bytes(data: &LogData) -> u64 {
    if data.config.cleanup.max_bytes.is_none() {
        return data.bytes;
    }
    let live = |base: u64, end: u64| data.dead.live_in(base.max(data.start)..end.max(data.start));
    let extents = data.extents.iter().map(|extent| extent_bytes(extent, live(extent.base, extent.end)));
    let located = data.locations.after(data.start).filter(|at| live(at.base, at.end()) > 0);
    let in_memory = data.volatile.values().map(|batch| batch.batch.size_bytes() as u64);
    extents.sum::<u64>() + located.map(|at| u64::from(at.len)).sum::<u64>() + in_memory.sum::<u64>()
}
