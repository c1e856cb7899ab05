//! One log in memory: batches by base offset, the dead offsets among theirs, and the key index.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringTreemap;
use types::{Epoch, Offset, Timestamp};

use crate::batch::{BatchError, RecordBatch};
use crate::{Entry, KeySummary, Live, LogConfig, LogState, ReadLimit};

/// A record that has a key, as key index and compaction see it.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub(super) delta: u32,
    pub(super) key: Bytes,
    /// It has a null body: it removes its key.
    pub(super) tombstone: bool,
}

/// What was found by looking into a batch. Known before anything is changed, since a batch may turn out to be malformed.
#[derive(Clone, Debug, Default)]
pub(super) struct Inside {
    /// The offset deltas that have a record; `None` is all of them.
    pub(super) filled: Option<Vec<Range<u32>>>,
    pub(super) keyed: Option<Arc<[Keyed]>>,
}

/// A batch in the log, at least one record of which is live.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) batch: RecordBatch,
    /// Offsets that it takes.
    pub(super) span: u64,
    /// Records of it that are live.
    pub(super) live: u64,
    /// There if the log has a key index or is compacted, and the batch could be decoded.
    pub(super) keyed: Option<Arc<[Keyed]>>,
}

#[derive(Clone, Debug)]
pub(super) struct OneLog {
    pub(super) config: LogConfig,
    pub(super) epoch: Epoch,
    pub(super) start: u64,
    pub(super) end: u64,
    records: u64,
    weight: u64,
    /// Bytes of the stored batches.
    pub(super) bytes: u64,
    last_timestamp: Option<Timestamp>,
    /// By base offset. A batch without a live record is not kept.
    pub(super) stored: BTreeMap<u64, Stored>,
    /// Dead offsets within the spans of stored batches.
    pub(super) dead: RoaringTreemap,
    /// Live offsets by key; there if the log is configured so.
    index: Option<HashMap<Bytes, BTreeSet<u64>>>,
    /// Whether records came since the last compaction.
    pub(super) uncompacted: bool,
}

/// Whether batches of such a log must be decoded when they come in.
pub(super) fn needs_keys(config: &LogConfig) -> bool {
    config.key_index || config.cleanup.compact.is_some()
}

/// Offsets that a batch takes.
pub(super) fn span(batch: &RecordBatch) -> u64 {
    u64::from(batch.last_offset_delta()) + 1
}

/// Looks into a batch as far as a log needs it.
pub(super) fn look_into(batch: &RecordBatch, keys: bool) -> Result<Inside, BatchError> {
    let gaps = u64::from(batch.record_count()) != span(batch);
    if !keys && !gaps {
        return Ok(Inside::default());
    }
    let (mut filled, mut keyed) = (Vec::<Range<u32>>::new(), Vec::new());
    for record in batch.records()? {
        let record = record?;
        let delta = record.offset_delta;
        match filled.last_mut() {
            Some(last) if last.end == delta => last.end += 1,
            _ => filled.push(delta..delta + 1),
        }
        // Keys are copied: a slice would keep the whole block alive for as long as the index has the key.
        let key = record.key.as_deref().map(Bytes::copy_from_slice);
        keyed.extend(key.map(|key| Keyed { delta, key, tombstone: record.value.is_none() }));
    }
    Ok(Inside { filled: gaps.then_some(filled), keyed: keys.then(|| keyed.into()) })
}

impl OneLog {
    pub(super) fn new(config: LogConfig) -> Self {
        let index = config.key_index.then(HashMap::new);
        Self {
            config,
            epoch: Epoch(1),
            start: 0,
            end: 0,
            records: 0,
            weight: 0,
            bytes: 0,
            last_timestamp: None,
            stored: BTreeMap::new(),
            dead: RoaringTreemap::new(),
            index,
            uncompacted: false,
        }
    }

    pub(super) fn configure(&mut self, config: LogConfig) {
        let had_keys = needs_keys(&self.config);
        if needs_keys(&config) && !had_keys {
            for stored in self.stored.values_mut() {
                // A batch that cannot be decoded has no keys that anyone could ask for.
                stored.keyed = look_into(&stored.batch, true).ok().and_then(|inside| inside.keyed);
            }
        }
        self.uncompacted = true;
        if config.key_index != self.config.key_index {
            self.index = config.key_index.then(HashMap::new);
            let bases: Vec<u64> = self.stored.keys().copied().collect();
            bases.into_iter().for_each(|base| self.index_batch(base));
        }
        self.config = config;
    }

    /// Adds a batch, and gives its first offset.
    pub(super) fn append(
        &mut self,
        batch: RecordBatch,
        inside: Inside,
        selection: Option<&[Range<u32>]>,
        weight: u64,
    ) -> u64 {
        let (base, span) = (self.end, span(&batch));
        self.end += span;
        self.last_timestamp = Some(Timestamp(batch.max_timestamp_ms()));
        self.bytes += batch.size_bytes() as u64;
        self.records += span;
        self.weight = self.weight.saturating_add(weight);
        self.uncompacted = true;
        self.stored.insert(base, Stored { batch, span, live: span, keyed: inside.keyed });
        for wanted in [selection, inside.filled.as_deref()].into_iter().flatten() {
            for (from, to) in gaps(wanted, span) {
                self.kill(base + from..base + to);
            }
        }
        self.index_batch(base);
        base
    }

    /// Deletes ranges at the caller's word for their weight. A range that holds nothing live any more weighs nothing.
    pub(super) fn delete(&mut self, ranges: &[Range<Offset>], weight: u64) {
        let killed: u64 = ranges.iter().map(|range| self.kill(range.start.0..range.end.0)).sum();
        if killed > 0 {
            self.weight = if self.records == 0 { 0 } else { self.weight.saturating_sub(weight) };
        }
    }

    /// Removes everything before `start`.
    pub(super) fn trim(&mut self, start: u64) {
        if start > self.start {
            self.take(self.start..start);
            self.start = start;
        }
    }

    /// Removes a range, and with it its records' share of the weight.
    pub(super) fn take(&mut self, range: Range<u64>) {
        let before = self.records;
        let killed = self.kill(range);
        if killed > 0 {
            let share = u128::from(self.weight) * u128::from(killed) / u128::from(before);
            self.weight -= u64::try_from(share).unwrap_or(self.weight);
        }
    }

    /// Marks the live records of a range dead, and says how many there were.
    fn kill(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let first = self.stored.range(..=range.start).next_back().map_or(range.start, |(base, _)| *base);
        let bases: Vec<u64> = self.stored.range(first..range.end).map(|(base, _)| *base).collect();
        bases.into_iter().map(|base| self.kill_within(base, &range)).sum()
    }

    fn kill_within(&mut self, base: u64, range: &Range<u64>) -> u64 {
        let Some(stored) = self.stored.get_mut(&base) else { return 0 };
        let hit = range.start.max(base)..range.end.min(base + stored.span);
        if hit.is_empty() {
            return 0;
        }
        if let (Some(index), Some(keyed)) = (&mut self.index, &stored.keyed) {
            for record in keyed.iter() {
                let offset = base + u64::from(record.delta);
                if let Some(offsets) = index.get_mut(&record.key).filter(|_| hit.contains(&offset)) {
                    offsets.remove(&offset);
                    if offsets.is_empty() {
                        index.remove(&record.key);
                    }
                }
            }
        }
        let killed = self.dead.insert_range(hit);
        stored.live -= killed;
        self.records -= killed;
        if stored.live == 0 {
            self.dead.remove_range(base..base + stored.span);
            self.bytes -= stored.batch.size_bytes() as u64;
            self.stored.remove(&base);
        }
        killed
    }

    /// Puts the live records of a batch into the key index, if there is one.
    fn index_batch(&mut self, base: u64) {
        let (Some(index), Some(stored)) = (&mut self.index, self.stored.get(&base)) else { return };
        for record in stored.keyed.iter().flat_map(|keyed| keyed.iter()) {
            let offset = base + u64::from(record.delta);
            if !self.dead.contains(offset) {
                index.entry(record.key.clone()).or_default().insert(offset);
            }
        }
    }

    pub(super) fn state(&self) -> LogState {
        LogState {
            start: Offset(self.start),
            end: Offset(self.end),
            records: self.records,
            weight: self.weight,
            disk_bytes: self.bytes,
            last_timestamp: self.last_timestamp.filter(|_| self.records > 0),
        }
    }

    pub(super) fn read(&self, from: Offset, limit: ReadLimit) -> Vec<Entry> {
        let mut entries = Vec::new();
        let (mut bytes, mut records) = (0usize, 0usize);
        let window = from.0..limit.before.0;
        let first = self.stored.range(..=window.start).next_back().map_or(window.start, |(base, _)| *base);
        for (base, stored) in self.stored.range(first..) {
            if *base >= window.end {
                break;
            }
            let (live, count) = self.live(*base, stored, &window);
            if count == 0 {
                continue;
            }
            entries.push(Entry { base: Offset(*base), batch: stored.batch.clone(), live });
            bytes = bytes.saturating_add(stored.batch.size_bytes());
            records = records.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
            if bytes >= limit.bytes || records >= limit.records {
                break;
            }
        }
        entries
    }

    /// Which records of a batch are live within a window of offsets, and how many they are.
    fn live(&self, base: u64, stored: &Stored, window: &Range<u64>) -> (Live, u64) {
        let whole = base..base + stored.span;
        let part = whole.start.max(window.start)..whole.end.min(window.end);
        if stored.live == stored.span && part == whole {
            return (Live::All, stored.span);
        }
        let mut ranges = Vec::new();
        let mut count = 0;
        let mut push = |from: u64, to: u64| {
            if from < to {
                let delta = |offset: u64| u32::try_from(offset - base).unwrap_or(u32::MAX);
                ranges.push(delta(from)..delta(to));
                count += to - from;
            }
        };
        let mut from = part.start;
        let mut dead = self.dead.iter();
        dead.advance_to(part.start);
        for offset in dead.take_while(|offset| *offset < part.end) {
            push(from, offset);
            from = offset + 1;
        }
        push(from, part.end);
        (Live::Ranges(ranges), count)
    }

    pub(super) fn offset_at(&self, time: Timestamp) -> Option<Offset> {
        let (base, stored) = self.stored.iter().find(|(_, stored)| stored.batch.max_timestamp_ms() >= time.0)?;
        let mut offsets = *base..*base + stored.span;
        offsets.find(|offset| !self.dead.contains(*offset)).map(Offset)
    }

    /// What the index knows of a key; the outer `None` if there is no index.
    #[allow(clippy::option_option, reason = "no index and no such key are different answers")]
    pub(super) fn key(&self, key: &[u8]) -> Option<Option<KeySummary>> {
        let offsets = self.index.as_ref()?.get(key);
        Some(offsets.and_then(|offsets| {
            let (first, last) = (offsets.first()?, offsets.last()?);
            Some(KeySummary { first: Offset(*first), last: Offset(*last), count: offsets.len() as u64 })
        }))
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }
}

/// What lies between ascending ranges, up to `end`.
fn gaps(ranges: &[Range<u32>], end: u64) -> Vec<(u64, u64)> {
    let mut gaps = Vec::new();
    let mut from = 0;
    for range in ranges {
        gaps.push((from, u64::from(range.start)));
        from = u64::from(range.end);
    }
    gaps.push((from, end));
    gaps.retain(|(from, to)| from < to);
    gaps
}
