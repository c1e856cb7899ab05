//! Compaction by key: all but the last record of a key are deleted, and tombstones after their time.

use std::collections::HashMap;
use std::ops::Range;

use types::{LogId, Offset, Timestamp};

use super::core::Core;
use super::draft::{Action, Draft};
use super::keys::KeyHasher;
use super::log_data::LogData;
use super::options::{COMPACTION_KEYS, SCAN_READ_BYTES};
use crate::{Entry, ReadLimit};

/// Logs of up to so many records are compacted whenever something came; in larger ones a quarter must be new.
const SMALL_LOG_RECORDS: u64 = 10_000;
/// After this time even a little that is new is looked at, in milliseconds.
const PATIENCE_MS: i64 = 60_000;
/// Ranges of one delete.
const DELETE_RANGES: usize = 16 * 1024;

/// A pass over one log. Large logs take several, each for a part of the keys, so that memory is bounded.
struct Pass {
    now: Timestamp,
    keep_ms: i64,
    parts: u64,
    part: u64,
    last: HashMap<u128, u64>,
    gone: Vec<u64>,
    tombstone_due: Option<i64>,
}

impl Pass {
    fn look_at(&mut self, entry: &Entry, hasher: &KeyHasher) {
        let Ok(block) = entry.batch.block() else { return };
        let due = entry.batch.max_timestamp_ms().saturating_add(self.keep_ms);
        for record in block.refs().map_while(Result::ok).filter(|record| entry.live.contains(record.offset_delta)) {
            let Some(key) = record.key else { continue };
            let hash = hasher.hash(key);
            if hash as u64 % self.parts != self.part {
                continue;
            }
            let offset = entry.base.0 + u64::from(record.offset_delta);
            self.gone.extend(self.last.insert(hash, offset));
            if record.value.is_some() {
                continue;
            }
            if due <= self.now.0 {
                self.last.remove(&hash);
                self.gone.push(offset);
            } else {
                self.tombstone_due = Some(self.tombstone_due.map_or(due, |other| other.min(due)));
            }
        }
    }
}

impl Core {
    /// Compacts the logs that ask for it and have something new.
    pub(super) fn apply_compaction(&self, now: Timestamp) {
        let due: Vec<LogId> = {
            let published = self.published.read();
            let is_due = |data: &LogData| {
                let Some(_) = data.config.cleanup.compact else { return false };
                let new = data.end.saturating_sub(data.compaction.upto);
                let is_much = data.records <= SMALL_LOG_RECORDS || new * 4 >= data.records;
                let is_late = now.0.saturating_sub(data.compaction.last_pass).abs() >= PATIENCE_MS;
                data.damage.is_none()
                    && ((new > 0 && (is_much || is_late))
                        || data.compaction.tombstone_due.is_some_and(|due| due <= now.0))
            };
            published.logs.iter().filter(|(_, data)| is_due(data)).map(|(log, _)| *log).collect()
        };
        for log in due {
            self.compact(log, now);
        }
        self.run_round_if_manual();
    }

    fn compact(&self, log: LogId, now: Timestamp) {
        let Some((mut pass, end)) = self.begin_pass(log, now) else { return };
        let mut cursor = 0;
        let limit = ReadLimit { bytes: SCAN_READ_BYTES, records: usize::MAX, before: Offset(end) };
        loop {
            // Damage makes the log read-only; there is nothing to compact then.
            let Ok(entries) = self.read(log, Offset(cursor), limit) else { return };
            let Some(last) = entries.last() else { break };
            cursor = last.base.0 + u64::from(last.batch.last_offset_delta()) + 1;
            entries.iter().for_each(|entry| pass.look_at(entry, &self.key_hasher));
        }
        pass.gone.sort_unstable();
        for ranges in ranges_of(&pass.gone).chunks(DELETE_RANGES) {
            let delete = Action::Delete { ranges: ranges.to_vec(), weight: None };
            self.submit(Ok(Draft::internal([(log, delete)])), Box::new(|_| {}));
        }
        let mut published = self.published.write();
        if let Some(data) = published.logs.get_mut(&log) {
            let compaction = &mut data.compaction;
            let due = match pass.part {
                0 => pass.tombstone_due,
                _ => [compaction.tombstone_due, pass.tombstone_due].into_iter().flatten().min(),
            };
            compaction.tombstone_due = due;
            compaction.part = pass.part + 1;
            compaction.last_pass = now.0;
            if compaction.part >= pass.parts {
                compaction.part = 0;
                compaction.upto = end;
            }
        }
    }

    fn begin_pass(&self, log: LogId, now: Timestamp) -> Option<(Pass, u64)> {
        let published = self.published.read();
        let data = published.logs.get(&log)?;
        let keep = data.config.cleanup.compact?;
        let parts = data.records / COMPACTION_KEYS as u64 + 1;
        let pass = Pass {
            now,
            keep_ms: i64::try_from(keep.as_millis()).unwrap_or(i64::MAX),
            parts,
            part: data.compaction.part % parts,
            last: HashMap::new(),
            gone: Vec::new(),
            tombstone_due: None,
        };
        Some((pass, data.end))
    }
}

/// Ascending offsets as ranges.
fn ranges_of(offsets: &[u64]) -> Vec<Range<u64>> {
    let mut ranges: Vec<Range<u64>> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some(last) if last.end == *offset => last.end += 1,
            Some(last) if last.contains(offset) => {}
            _ => ranges.push(*offset..offset + 1),
        }
    }
    ranges
}
