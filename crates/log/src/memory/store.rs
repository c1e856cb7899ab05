//! All logs, and the one way to change them: a commit is checked whole, and then applied whole.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use types::{Epoch, LogId, Offset};

use super::one::{Inside, OneLog, look_into, needs_keys, span};
use crate::{Append, Commit, LogConfig, Operation, Refusal, Target, Written};

#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    pub(super) logs: BTreeMap<LogId, OneLog>,
    /// Ids of removed logs.
    retired: HashSet<LogId>,
}

/// What the operations of a commit so far leave of a log: as much as the checks of the next one need.
#[derive(Clone)]
enum Standing {
    Absent,
    Retired,
    There { epoch: Epoch, end: u64, keys: bool, volatile: bool },
}

impl Store {
    /// Does all of the commit or, if any part of it is refused, nothing.
    pub(super) fn commit(&mut self, commit: &Commit) -> Result<Vec<Written>, Refusal> {
        let inside = self.check(commit)?;
        Ok(commit.operations.iter().zip(inside).map(|(target, inside)| self.apply(target, inside)).collect())
    }

    /// What a restart leaves.
    pub(super) fn without_volatile(&self) -> Self {
        let mut store = self.clone();
        store.logs.retain(|_, log| !log.config.volatile);
        store
    }

    fn check(&self, commit: &Commit) -> Result<Vec<Inside>, Refusal> {
        let mut standings: BTreeMap<LogId, Standing> = BTreeMap::new();
        let mut check = |target: &Target| {
            let standing = standings.entry(target.log).or_insert_with(|| self.standing(target.log));
            let (next, inside) = check_target(target, standing)?;
            *standing = next;
            Ok(inside)
        };
        commit.operations.iter().map(&mut check).collect()
    }

    fn standing(&self, id: LogId) -> Standing {
        match self.logs.get(&id) {
            Some(log) => Standing::There {
                epoch: log.epoch,
                end: log.end,
                keys: needs_keys(&log.config),
                volatile: log.config.volatile,
            },
            None if self.retired.contains(&id) => Standing::Retired,
            None => Standing::Absent,
        }
    }

    /// Does one operation that was checked.
    fn apply(&mut self, target: &Target, inside: Inside) -> Written {
        if let Operation::Create(config) = &target.operation {
            self.logs.insert(target.log, OneLog::new(config.clone()));
        }
        let Some(log) = self.logs.get_mut(&target.log) else {
            debug_assert!(false, "a checked operation has its log");
            return Written { base: Offset::ZERO, end: Offset::ZERO };
        };
        let mut base = None;
        match &target.operation {
            Operation::Create(_) => {}
            Operation::Configure(config) => log.configure(config.clone()),
            Operation::Append(Append { batch, selection, weight }) => {
                base = Some(log.append(batch.clone(), inside, selection.as_deref(), *weight));
            }
            Operation::Delete { ranges, weight } => log.delete(ranges, *weight),
            Operation::Trim(start) => log.trim(start.0),
            Operation::Remove => {
                let end = Offset(log.end);
                self.logs.remove(&target.log);
                self.retired.insert(target.log);
                return Written { base: end, end };
            }
        }
        Written { base: Offset(base.unwrap_or(log.end)), end: Offset(log.end) }
    }
}

/// Checks one operation against how its log stands, and says how the log stands after it.
fn check_target(target: &Target, standing: &Standing) -> Result<(Standing, Inside), Refusal> {
    let id = target.log;
    if let Operation::Create(config) = &target.operation {
        return match standing {
            Standing::Absent => {
                check_end(target, 0)?;
                Ok((created(config), Inside::default()))
            }
            Standing::Retired | Standing::There { .. } => Err(Refusal::Exists(id)),
        };
    }
    let Standing::There { epoch, end, keys, volatile } = standing.clone() else { return Err(Refusal::NoSuchLog(id)) };
    if target.epoch != epoch {
        return Err(Refusal::WrongEpoch { log: id, used: target.epoch, current: epoch });
    }
    check_end(target, end)?;
    let mut next = standing.clone();
    let mut found = Inside::default();
    match &target.operation {
        Operation::Create(_) => {}
        Operation::Configure(config) if config.volatile != volatile => {
            return Err(Refusal::Malformed(format!("log {id} cannot change whether it is volatile")));
        }
        Operation::Configure(config) => next = Standing::There { epoch, end, keys: needs_keys(config), volatile },
        Operation::Append(append) => {
            found = check_append(append, keys)?;
            let end = end.checked_add(span(&append.batch));
            let end = end.ok_or_else(|| Refusal::Malformed(format!("log {id} has no offsets left")))?;
            next = Standing::There { epoch, end, keys, volatile };
        }
        Operation::Delete { ranges, .. } => check_ranges("delete", ranges.iter().map(offsets), end)?,
        Operation::Trim(start) if start.0 > end => {
            return Err(Refusal::Malformed(format!("log {id} ends at {end}, and cannot be trimmed to {start}")));
        }
        Operation::Trim(_) => {}
        Operation::Remove => next = Standing::Retired,
    }
    Ok((next, found))
}

fn created(config: &LogConfig) -> Standing {
    Standing::There { epoch: Epoch(1), end: 0, keys: needs_keys(config), volatile: config.volatile }
}

fn check_end(target: &Target, actual: u64) -> Result<(), Refusal> {
    match target.expected_end {
        Some(expected) if expected.0 != actual => {
            Err(Refusal::WrongEnd { log: target.log, expected, actual: Offset(actual) })
        }
        _ => Ok(()),
    }
}

fn check_append(append: &Append, keys: bool) -> Result<Inside, Refusal> {
    let selected = append.selection.iter().flatten();
    let selected = selected.map(|range| u64::from(range.start)..u64::from(range.end));
    check_ranges("selection", selected, span(&append.batch))?;
    look_into(&append.batch, keys).map_err(|error| Refusal::Malformed(format!("the batch cannot be decoded: {error}")))
}

fn offsets(range: &Range<Offset>) -> Range<u64> {
    range.start.0..range.end.0
}

/// Ranges are not empty, ascend, do not overlap, and end at or before `end`.
fn check_ranges(what: &str, ranges: impl Iterator<Item = Range<u64>>, end: u64) -> Result<(), Refusal> {
    let mut from = 0;
    for range in ranges {
        if range.is_empty() || range.start < from || range.end > end {
            let problem = format!("{what} range {}..{} is empty, out of order or beyond {end}", range.start, range.end);
            return Err(Refusal::Malformed(problem));
        }
        from = range.end;
    }
    Ok(())
}
