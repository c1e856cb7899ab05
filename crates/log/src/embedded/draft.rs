//! A commit made ready outside the lock: checked as far as it can be without knowing the logs, its payloads told apart.

use std::hash::BuildHasherDefault;
use std::ops::Range;

use bytes::Bytes;
use types::{Epoch, LogId, Offset};

use super::number_map::NumberMap;
use crate::batch::RecordBatch;
use crate::{Append, Commit, Durability, LogConfig, Operation, Refusal};

/// Offsets end here: Kafka's are signed.
pub(super) const MAX_OFFSET: u64 = i64::MAX as u64;

/// A commit on its way to the queue.
pub(super) struct Draft {
    pub(super) durability: Durability,
    pub(super) payloads: Vec<DraftPayload>,
    pub(super) targets: Vec<DraftTarget>,
    /// Whether it adds records without making room elsewhere: refused when the disk is full.
    pub(super) grows: bool,
    /// It may use part of the reserve all the same.
    pub(super) uses_reserve: bool,
}

pub(super) struct DraftPayload {
    pub(super) batch: RecordBatch,
    pub(super) bytes: Bytes,
}

pub(super) struct DraftTarget {
    pub(super) log: LogId,
    /// `None`: the engine itself, on behalf of whoever owns the log.
    pub(super) epoch: Option<Epoch>,
    pub(super) expected_end: Option<Offset>,
    pub(super) action: Action,
}

pub(super) enum Action {
    Create(LogConfig),
    Configure(LogConfig),
    Append { payload: u32, count: u32, selection: Option<Vec<Range<u32>>>, weight: u64 },
    Delete { ranges: Vec<Range<u64>>, weight: Option<u64> },
    Trim(u64),
    Remove,
    Own,
    Boot,
}

impl Draft {
    /// # Errors
    /// [`Refusal::Malformed`].
    pub(super) fn new(commit: Commit) -> Result<Self, Refusal> {
        let makes_room_on = |operation: &Operation| {
            matches!(operation, Operation::Delete { .. } | Operation::Trim(_) | Operation::Remove)
        };
        let appends =
            commit.operations.iter().filter(|target| matches!(target.operation, Operation::Append(_))).count();
        let grows = appends > 0 && !commit.operations.iter().any(|target| makes_room_on(&target.operation));
        let mut payloads = Payloads::with_capacity(appends);
        let mut targets = Vec::with_capacity(commit.operations.len());
        for target in commit.operations {
            let action = match target.operation {
                Operation::Create(config) => Action::Create(config),
                Operation::Configure(config) => Action::Configure(config),
                Operation::Append(append) => append_action(append, &mut payloads)?,
                Operation::Delete { ranges, weight } => {
                    Action::Delete { ranges: check_ranges(&ranges)?, weight: Some(weight) }
                }
                Operation::Trim(to) => Action::Trim(to.0),
                Operation::Remove => Action::Remove,
            };
            let epoch = Some(target.epoch);
            targets.push(DraftTarget { log: target.log, epoch, expected_end: target.expected_end, action });
        }
        let (durability, uses_reserve) = (commit.durability, commit.uses_reserve);
        Ok(Self { durability, payloads: payloads.all, targets, grows, uses_reserve })
    }

    /// A commit of the engine's own.
    pub(super) fn internal(actions: impl IntoIterator<Item = (LogId, Action)>) -> Self {
        let target = |(log, action)| DraftTarget { log, epoch: None, expected_end: None, action };
        let targets = actions.into_iter().map(target).collect();
        Self { durability: Durability::Fsync, payloads: Vec::new(), targets, grows: false, uses_reserve: true }
    }
}

/// Tells shared batches by their memory, so that each is written once.
struct Payloads {
    all: Vec<DraftPayload>,
    known: NumberMap<(usize, usize), u32>,
}

impl Payloads {
    fn with_capacity(count: usize) -> Self {
        // One batch needs no table.
        let known = if count > 1 { count } else { 0 };
        Self {
            all: Vec::with_capacity(count),
            known: NumberMap::with_capacity_and_hasher(known, BuildHasherDefault::default()),
        }
    }

    fn add(&mut self, batch: RecordBatch) -> u32 {
        let bytes = batch.bytes();
        let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        let place = (bytes.as_ptr() as usize, bytes.len());
        // One batch needs no table, and most commits have one.
        match self.all.as_slice() {
            [] => {}
            [only] if self.known.is_empty() && (only.bytes.as_ptr() as usize, only.bytes.len()) == place => return 0,
            [only] if self.known.is_empty() => {
                self.known.insert((only.bytes.as_ptr() as usize, only.bytes.len()), 0);
            }
            _ => {}
        }
        if !self.all.is_empty() {
            if let Some(known) = self.known.get(&place) {
                return *known;
            }
            self.known.insert(place, next);
        }
        self.all.push(DraftPayload { batch, bytes });
        next
    }
}

fn append_action(append: Append, payloads: &mut Payloads) -> Result<Action, Refusal> {
    let Append { batch, selection, weight } = append;
    let count = batch
        .last_offset_delta()
        .checked_add(1)
        .ok_or_else(|| Refusal::Malformed("a batch spans more offsets than there are".to_owned()))?;
    if let Some(selection) = &selection {
        check_selection(selection, count)?;
    }
    // A batch with gaps takes the offsets of the missing records, which are dead from the start.
    let selection =
        if batch.record_count() == count { selection } else { Some(present(&batch, selection.as_deref())?) };
    Ok(Action::Append { payload: payloads.add(batch), count, selection, weight })
}

fn check_selection(selection: &[Range<u32>], count: u32) -> Result<(), Refusal> {
    let mut at = 0;
    for range in selection {
        if range.start < at || range.start >= range.end || range.end > count {
            let text = format!("selection {}..{} of a batch of {count} offsets", range.start, range.end);
            return Err(Refusal::Malformed(text));
        }
        at = range.end;
    }
    Ok(())
}

fn check_ranges(ranges: &[Range<Offset>]) -> Result<Vec<Range<u64>>, Refusal> {
    let mut at = 0;
    let mut checked: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if range.start.0 < at || range.start >= range.end {
            let text = format!("delete {}..{}: ranges ascend and do not overlap", range.start, range.end);
            return Err(Refusal::Malformed(text));
        }
        at = range.end.0;
        checked.push(range.start.0..at);
    }
    Ok(checked)
}

/// The deltas that the batch has records for, within the selection.
fn present(batch: &RecordBatch, selection: Option<&[Range<u32>]>) -> Result<Vec<Range<u32>>, Refusal> {
    let block = batch.block().map_err(|error| Refusal::Malformed(error.to_string()))?;
    let mut ranges: Vec<Range<u32>> = Vec::new();
    for record in block.refs() {
        let delta = record.map_err(|error| Refusal::Malformed(error.to_string()))?.offset_delta;
        if selection.is_some_and(|selection| !selection.iter().any(|range| range.contains(&delta))) {
            continue;
        }
        match ranges.last_mut() {
            Some(last) if last.end == delta => last.end += 1,
            _ => ranges.push(delta..delta + 1),
        }
    }
    Ok(ranges)
}
