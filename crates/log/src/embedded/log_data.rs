//! What the engine knows of one log, without its batches.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;
use types::{Epoch, Offset, Timestamp};

use super::dead::DeadSet;
use super::frame::AppendOp;
use super::keys::KeyIndex;
use super::locations::{Location, Locations};
use crate::batch::RecordBatch;
use crate::{LogConfig, LogState};

/// A stretch of a log in a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) segment: u64,
    /// The first batch's base offset.
    pub(super) base: u64,
    /// The offset after the last batch.
    pub(super) end: u64,
    /// The first entry's byte in the file.
    pub(super) pos: u64,
    /// Bytes of its entries.
    pub(super) len: u64,
    /// Live records when it was written.
    pub(super) records: u64,
    pub(super) min_ts: i64,
    pub(super) max_ts: i64,
}

/// How far compaction by key got. Not stored: after a start it looks at everything once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Compaction {
    /// Records below it have been looked at.
    pub(super) upto: u64,
    /// Which part of the keys the next pass takes.
    pub(super) part: u64,
    /// When the first tombstone that is left may go, as wall-clock milliseconds.
    pub(super) tombstone_due: Option<i64>,
    /// The time of the last pass.
    pub(super) last_pass: i64,
}

/// A batch of a volatile log.
#[derive(Clone, Debug)]
pub(super) struct Volatile {
    pub(super) count: u32,
    pub(super) batch: RecordBatch,
}

/// One log. Its batches stand, in offset order, first in `extents`, then in `locations`; those of a volatile log in `volatile`.
#[derive(Debug)]
pub(super) struct LogData {
    pub(super) config: Arc<LogConfig>,
    pub(super) epoch: Epoch,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) records: u64,
    pub(super) weight: u64,
    pub(super) dead: DeadSet,
    pub(super) extents: VecDeque<Extent>,
    pub(super) locations: Locations,
    /// By base offset.
    pub(super) volatile: BTreeMap<u64, Volatile>,
    /// Bytes of the batches that are not wholly before the start.
    pub(super) bytes: u64,
    pub(super) last_ts: Option<i64>,
    pub(super) damage: Option<String>,
    /// Built when it is first asked for.
    pub(super) keys: Option<Arc<Mutex<KeyIndex>>>,
    pub(super) compaction: Compaction,
    /// Set when records died since the space was last looked at.
    pub(super) has_new_dead: bool,
}

impl LogData {
    pub(super) fn new(config: LogConfig) -> Self {
        let keys = config.key_index.then(Arc::default);
        Self {
            config: Arc::new(config),
            epoch: Epoch(1),
            start: 0,
            end: 0,
            records: 0,
            weight: 0,
            dead: DeadSet::default(),
            extents: VecDeque::new(),
            locations: Locations::default(),
            volatile: BTreeMap::new(),
            bytes: 0,
            last_ts: None,
            damage: None,
            keys,
            compaction: Compaction::default(),
            has_new_dead: false,
        }
    }

    pub(super) fn state(&self) -> LogState {
        LogState {
            start: Offset(self.start),
            end: Offset(self.end),
            records: self.records,
            weight: self.weight,
            disk_bytes: self.bytes,
            last_timestamp: self.last_ts.map(Timestamp),
        }
    }

    /// The offsets that can hold live records.
    pub(super) fn window(&self) -> Range<u64> {
        self.start..self.end
    }

    pub(super) fn is_live(&self, offset: u64) -> bool {
        self.window().contains(&offset) && !self.dead.contains(offset)
    }

    pub(super) fn configure(&mut self, config: LogConfig) {
        if config.key_index != self.config.key_index {
            self.keys = config.key_index.then(Arc::default);
        }
        if config.cleanup.compact != self.config.cleanup.compact {
            self.compaction = Compaction::default();
        }
        let volatile = self.config.volatile;
        self.config = Arc::new(LogConfig { volatile, ..config });
    }

    /// Takes offsets at the end. A base beyond the end can only come from a damaged log: what is between is dead.
    pub(super) fn append(&mut self, op: &AppendOp, max_ts: i64) {
        if op.base > self.end {
            self.dead.insert(self.end..op.base);
        }
        let end = op.base + u64::from(op.count);
        let mut live = u64::from(op.count);
        if let Some(selection) = &op.selection {
            let mut at = op.base;
            for range in selection {
                live -= self.dead.insert(at..op.base + u64::from(range.start));
                at = op.base + u64::from(range.end);
            }
            live -= self.dead.insert(at..end);
        }
        self.end = self.end.max(end);
        self.records += live;
        self.weight = self.weight.saturating_add(op.weight);
        self.last_ts = Some(max_ts);
    }

    pub(super) fn locate(&mut self, location: &Location) {
        if location.end() > self.start {
            self.locations.push(location);
            self.bytes += u64::from(location.len);
        }
    }

    pub(super) fn keep_in_memory(&mut self, base: u64, count: u32, batch: RecordBatch) {
        self.bytes += batch.size_bytes() as u64;
        self.volatile.insert(base, Volatile { count, batch });
    }

    /// Kills these offsets. Without a weight the share of the records is taken.
    pub(super) fn delete(&mut self, ranges: &[Range<u64>], weight: Option<u64>) {
        let mut died = 0;
        for range in ranges {
            died += self.dead.insert(range.start.max(self.start)..range.end.min(self.end));
        }
        if died == 0 {
            return;
        }
        self.weight -= weight.unwrap_or_else(|| self.share(died)).min(self.weight);
        self.records -= died.min(self.records);
        self.advance();
        if !self.volatile.is_empty() {
            ranges.iter().for_each(|range| self.forget_dead_volatile(range));
        }
    }

    /// Kills everything before `to`.
    pub(super) fn trim(&mut self, to: u64) {
        let to = to.min(self.end);
        if to <= self.start {
            return;
        }
        let died = self.dead.live_in(self.start..to);
        self.weight -= self.share(died).min(self.weight);
        self.records -= died.min(self.records);
        self.start = to;
        self.advance();
    }

    fn share(&self, died: u64) -> u64 {
        let share = u128::from(self.weight) * u128::from(died) / u128::from(self.records.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// Moves the start over what is dead, and forgets the batches that are behind it.
    fn advance(&mut self) {
        self.has_new_dead = true;
        self.start = self.dead.next_live(self.start).min(self.end);
        self.dead.forget_before(self.start);
        while let Some(extent) = self.extents.pop_front_if(|extent| extent.end <= self.start) {
            self.bytes -= extent.len.min(self.bytes);
        }
        self.bytes -= self.locations.forget_before(self.start).min(self.bytes);
        while let Some(first) = self.volatile.first_entry() {
            if first.key() + u64::from(first.get().count) > self.start {
                break;
            }
            self.bytes -= (first.remove().batch.size_bytes() as u64).min(self.bytes);
        }
        if self.records == 0 {
            self.weight = 0;
        }
    }

    /// Gives back the memory of a volatile log's batches in this range that have no live record left, wherever they stand.
    fn forget_dead_volatile(&mut self, range: &Range<u64>) {
        let first = self.volatile.range(..=range.start).next_back().map_or(range.start, |(base, _)| *base);
        let is_dead = |(base, batch): (&u64, &Volatile)| {
            (self.dead.live_in((*base).max(self.start)..base + u64::from(batch.count)) == 0).then_some(*base)
        };
        let gone: Vec<u64> = self.volatile.range(first..range.end.max(first)).filter_map(is_dead).collect();
        for base in gone {
            let batch = self.volatile.remove(&base);
            self.bytes -= batch.map_or(0, |gone| gone.batch.size_bytes() as u64).min(self.bytes);
        }
    }

    /// The offsets after which batches are in write-ahead files.
    pub(super) fn extents_end(&self) -> u64 {
        self.extents.back().map_or(0, |extent| extent.end)
    }
}
