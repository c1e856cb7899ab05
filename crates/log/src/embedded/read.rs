//! Reading: from memory, from write-ahead files, from segments.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use types::{LogId, Offset, Timestamp};

use super::core::Core;
use super::locations::Location;
use super::log_data::{Extent, LogData};
use super::segment::{self, EntryFault, Segment, SegmentCursor, SegmentEntry};
use super::stored::{BatchFault, parse, read_located, spanning};
use super::wal::WalFile;
use crate::batch::RecordBatch;
use crate::{Entry, Fault, Live, ReadError, ReadLimit};

/// What is to be read next.
enum Step {
    /// Nothing more.
    End,
    /// Batches that are known one by one.
    Batches(Vec<Planned>),
    /// A stretch of a segment.
    Extent(Arc<Segment>, Extent),
}

struct Planned {
    base: u64,
    end: u64,
    live: Live,
    records: u64,
    source: Source,
}

enum Source {
    Memory(RecordBatch),
    Wal(Arc<WalFile>, Location),
    /// The file is no longer in use: the batch has moved since.
    Moved,
}

/// A place that cannot be read.
pub(super) struct Unreadable {
    pub(super) error: ReadError,
    /// Where what is behind it may begin; beyond the place itself.
    pub(super) next: Offset,
}

impl Unreadable {
    fn new(error: ReadError, next: u64) -> Self {
        Self { error, next: Offset(next) }
    }

    /// Not a place, but the whole log.
    fn whole(error: ReadError) -> Self {
        Self::new(error, u64::MAX)
    }
}

/// What was found in a segment.
enum Found {
    At(Offset),
    Nothing,
    /// The segment was rewritten or dropped since it was looked up.
    Moved,
}

/// A batch in the making of an answer.
pub(super) struct Answer {
    limit: ReadLimit,
    bytes: usize,
    records: usize,
    entries: Vec<Entry>,
}

impl Answer {
    fn is_full(&self) -> bool {
        !self.entries.is_empty() && (self.bytes >= self.limit.bytes || self.records >= self.limit.records)
    }

    fn push(&mut self, base: u64, batch: RecordBatch, live: Live, records: u64) {
        self.bytes += batch.size_bytes();
        self.records += usize::try_from(records).unwrap_or(usize::MAX);
        self.entries.push(Entry { base: Offset(base), batch, live });
    }
}

impl Core {
    pub(super) fn read(&self, log: LogId, from: Offset, limit: ReadLimit) -> Result<Vec<Entry>, ReadError> {
        self.read_or_skip(log, from, limit).map_err(|unreadable| unreadable.error)
    }

    /// As [`Core::read`], and says where to go on behind what cannot be read: damage may claim any number of offsets, so nobody should try
    /// each of them.
    pub(super) fn read_or_skip(&self, log: LogId, from: Offset, limit: ReadLimit) -> Result<Vec<Entry>, Unreadable> {
        let mut answer = Answer { limit, bytes: 0, records: 0, entries: Vec::new() };
        let mut cursor = from.0;
        while !answer.is_full() {
            let read = match self.plan(log, cursor, &answer)? {
                Step::End => break,
                Step::Batches(batches) => self.read_batches(log, batches, &mut answer),
                Step::Extent(segment, extent) => self.read_extent(log, &segment, &extent, cursor, &mut answer),
            };
            match read {
                Ok(next) => cursor = next.unwrap_or(cursor),
                // What was read before the damage is given first; the next read meets it again.
                Err(_) if !answer.entries.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(answer.entries)
    }

    /// Finds out, under the lock, where the next batches are. Reads nothing.
    fn plan(&self, log: LogId, cursor: u64, answer: &Answer) -> Result<Step, Unreadable> {
        let published = self.published.read();
        let data = published.logs.get(&log).ok_or_else(|| Unreadable::whole(ReadError::NoSuchLog(log)))?;
        let window = data.start.max(cursor)..data.end.min(answer.limit.before.0);
        if window.is_empty() {
            return Ok(Step::End);
        }
        if let Some(extent) = next_extent(data, window.start) {
            if extent.base >= window.end {
                return Ok(Step::End);
            }
            if let Some(segment) = published.segments.get(&extent.segment) {
                return Ok(Step::Extent(segment.clone(), *extent));
            }
            let damage = data.damage.clone().unwrap_or_default();
            let place = segment::path_of(extent.segment).display().to_string();
            let error = ReadError::Damaged { log, offset: Offset(extent.base.max(cursor)), place, what: damage };
            return Err(Unreadable::new(error, extent.end));
        }
        let (mut bytes, mut records) = (answer.bytes, answer.records);
        let mut batches = Vec::new();
        let mut add = |base: u64, count: u32, len: usize, source: &mut dyn FnMut() -> Source| {
            let (live, count_live) = data.dead.live_of(base, count, &window);
            if count_live > 0 {
                bytes += len;
                records += usize::try_from(count_live).unwrap_or(usize::MAX);
                let end = base + u64::from(count);
                batches.push(Planned { base, end, live, records: count_live, source: source() });
            }
            let is_first = answer.entries.is_empty() && batches.is_empty();
            is_first || (bytes < answer.limit.bytes && records < answer.limit.records)
        };
        if data.config.volatile {
            let first = data.volatile.range(..=window.start).next_back().map_or(window.start, |(base, _)| *base);
            for (base, batch) in data.volatile.range(first..window.end.max(first)) {
                let source = &mut || Source::Memory(batch.batch.clone());
                if !add(*base, batch.count, batch.batch.size_bytes(), source) {
                    break;
                }
            }
        } else {
            let wal = self.wal.lock();
            for at in data.locations.after(window.start).take_while(|at| at.base < window.end) {
                let source = &mut || match published.recent.get(at.seq, at.pos) {
                    Some(batch) => Source::Memory(batch),
                    None => wal.get(at.seq).map_or(Source::Moved, |file| Source::Wal(file, at)),
                };
                if !add(at.base, at.count, at.len as usize, source) {
                    break;
                }
            }
        }
        Ok(if batches.is_empty() { Step::End } else { Step::Batches(batches) })
    }

    /// Reads planned batches. Gives the offset to go on from; `None` if a batch has moved meanwhile.
    fn read_batches(&self, log: LogId, batches: Vec<Planned>, answer: &mut Answer) -> Result<Option<u64>, Unreadable> {
        let mut next = None;
        for planned in batches {
            let batch = match planned.source {
                Source::Memory(batch) => batch,
                Source::Moved => return Ok(next),
                Source::Wal(file, at) => {
                    let read = read_located(&file, &at);
                    // IMPORTANT: the check stands after the read. A file that was taken out of use meanwhile may have been
                    // written over, and what was read be another batch with a good checksum of its own.
                    if file.seq() != at.seq {
                        return Ok(next);
                    }
                    let read = read.and_then(|batch| spanning(batch, at.count, &planned.live));
                    read.map_err(|fault| {
                        let error = self.refuse_damaged(log, Offset(at.base), &file.path(), u64::from(at.pos), fault);
                        Unreadable::new(error, at.end())
                    })?
                }
            };
            answer.push(planned.base, batch, planned.live, planned.records);
            next = Some(planned.end);
        }
        Ok(next)
    }

    /// Reads on in an extent until the answer is full. Gives the offset to go on from.
    fn read_extent(
        &self,
        log: LogId,
        segment: &Arc<Segment>,
        extent: &Extent,
        cursor: u64,
        answer: &mut Answer,
    ) -> Result<Option<u64>, Unreadable> {
        let path = segment::path_of(segment.id);
        let open = match self.indexes.get(self.disk.as_ref(), segment) {
            Ok(open) => open,
            // It was rewritten or dropped since it was looked up.
            Err(_) if !self.published.read().segments.contains_key(&segment.id) => return Ok(None),
            Err(error) => return Err(Unreadable::whole(ReadError::Io { log, error: error.to_string() })),
        };
        let mut entries = SegmentCursor::new(open.file.clone(), log, open.index.seek(extent, cursor), extent);
        let mut next = cursor;
        while !answer.is_full() {
            let entry = match entries.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(Some(extent.end.max(cursor))),
                Err(fault) => {
                    let error = self.refuse_entry(log, Offset(next), &path, fault);
                    return Err(Unreadable::new(error, open.index.step_after(extent, next)));
                }
            };
            let end = entry.base + u64::from(entry.count);
            if end <= cursor {
                continue;
            }
            let found = self.live_now(log, &entry, cursor, answer.limit.before.0).map_err(Unreadable::whole)?;
            if let Some((live, records)) = found {
                let batch =
                    parse(entry.batch).and_then(|batch| spanning(batch, entry.count, &live)).map_err(|fault| {
                        Unreadable::new(self.refuse_damaged(log, Offset(entry.base), &path, entry.pos, fault), end)
                    })?;
                answer.push(entry.base, batch, live, records);
            } else if entry.base >= answer.limit.before.0 {
                return Ok(Some(entry.base));
            }
            next = end;
        }
        Ok(Some(next))
    }

    fn live_now(
        &self,
        log: LogId,
        entry: &SegmentEntry,
        cursor: u64,
        before: u64,
    ) -> Result<Option<(Live, u64)>, ReadError> {
        let published = self.published.read();
        let data = published.logs.get(&log).ok_or(ReadError::NoSuchLog(log))?;
        let window = data.start.max(cursor)..data.end.min(before);
        let (live, records) = data.dead.live_of(entry.base, entry.count, &window);
        Ok((records > 0).then_some((live, records)))
    }

    pub(super) fn offset_at(&self, log: LogId, time: Timestamp) -> Result<Option<Offset>, ReadError> {
        let mut cursor = 0;
        loop {
            let (segment, extent) = {
                let published = self.published.read();
                let data = published.logs.get(&log).ok_or(ReadError::NoSuchLog(log))?;
                let window = data.start.max(cursor)..data.end;
                match next_extent(data, window.start) {
                    None => return Ok(first_located(data, &window, time)),
                    Some(extent) if extent.max_ts < time.0 => {
                        cursor = extent.end;
                        continue;
                    }
                    Some(extent) => (published.segments.get(&extent.segment).cloned(), *extent),
                }
            };
            cursor = cursor.max(extent.base);
            let Some(segment) = segment else {
                cursor = extent.end;
                continue;
            };
            match self.offset_in_extent(log, &segment, &extent, cursor, time)? {
                Found::At(offset) => return Ok(Some(offset)),
                Found::Nothing => cursor = extent.end,
                Found::Moved => {}
            }
        }
    }

    fn offset_in_extent(
        &self,
        log: LogId,
        segment: &Arc<Segment>,
        extent: &Extent,
        cursor: u64,
        time: Timestamp,
    ) -> Result<Found, ReadError> {
        let path = segment::path_of(segment.id);
        let open = match self.indexes.get(self.disk.as_ref(), segment) {
            Ok(open) => open,
            Err(_) if !self.published.read().segments.contains_key(&segment.id) => return Ok(Found::Moved),
            Err(error) => return Err(ReadError::Io { log, error: error.to_string() }),
        };
        let index = &open.index;
        let steps = index.steps(extent);
        let first = steps.iter().find(|step| step.max_ts >= time.0).map_or(extent.pos, |step| step.pos);
        let start = first.max(index.seek(extent, cursor));
        let mut entries = SegmentCursor::new(open.file.clone(), log, start, extent);
        loop {
            let entry = match entries.next() {
                Ok(Some(entry)) => entry,
                Ok(None) => return Ok(Found::Nothing),
                Err(fault) => return Err(self.refuse_entry(log, Offset(cursor), &path, fault)),
            };
            let Some((live, _)) = self.live_now(log, &entry, cursor, u64::MAX)? else { continue };
            let base = entry.base;
            let batch =
                parse(entry.batch).map_err(|fault| self.refuse_damaged(log, Offset(base), &path, entry.pos, fault))?;
            if batch.max_timestamp_ms() >= time.0 {
                return Ok(Found::At(Offset(base + u64::from(first_delta(&live)))));
            }
        }
    }

    fn refuse_entry(&self, log: LogId, offset: Offset, path: &Path, fault: EntryFault) -> ReadError {
        match fault {
            EntryFault::Io(error) => ReadError::Io { log, error: error.to_string() },
            EntryFault::Damaged { pos, what } => {
                self.refuse_damaged(log, offset, path, pos, BatchFault::Damaged(what.to_owned()))
            }
        }
    }

    fn refuse_damaged(&self, log: LogId, offset: Offset, path: &Path, pos: u64, fault: BatchFault) -> ReadError {
        match fault {
            BatchFault::Io(error) => ReadError::Io { log, error },
            BatchFault::Damaged(what) => {
                let place = place_of(path, pos);
                self.report_damage(Fault { place: place.clone(), what: what.clone(), logs: vec![log] });
                ReadError::Damaged { log, offset, place, what }
            }
        }
    }
}

/// File and byte, for people.
pub(super) fn place_of(path: &Path, pos: u64) -> String {
    format!("{} at byte {pos}", path.display())
}

/// The extent that holds this offset, or the first after it.
fn next_extent(data: &LogData, offset: u64) -> Option<&Extent> {
    let at = data.extents.partition_point(|extent| extent.end <= offset);
    data.extents.get(at)
}

fn first_delta(live: &Live) -> u32 {
    match live {
        Live::All => 0,
        Live::Ranges(ranges) => ranges.first().map_or(0, |range| range.start),
    }
}

fn first_located(data: &LogData, window: &Range<u64>, time: Timestamp) -> Option<Offset> {
    let first = |base: u64, count: u32| {
        let (live, records) = data.dead.live_of(base, count, window);
        (records > 0).then(|| Offset(base + u64::from(first_delta(&live))))
    };
    if data.config.volatile {
        let late = data.volatile.iter().filter(|(_, batch)| batch.batch.max_timestamp_ms() >= time.0);
        return late.filter_map(|(base, batch)| first(*base, batch.count)).next();
    }
    let late = data.locations.after(window.start).filter(|at| at.max_ts >= time.0);
    late.filter_map(|at| first(at.base, at.count)).next()
}
