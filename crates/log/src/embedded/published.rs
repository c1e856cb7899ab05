//! What readers see: the logs as of the last round that ended.

use std::collections::BTreeMap;
use std::sync::Arc;

use roaring::RoaringTreemap;
use types::{Epoch, LogId};

use super::frame::{AppendOp, Op};
use super::locations::Location;
use super::log_data::LogData;
use super::number_map::NumberMap;
use super::options::{MAX_FAULTS, MAX_GAP};
use super::recent::Recent;
use super::segment::Segment;
use crate::Fault;
use crate::batch::RecordBatch;

/// A place between two frames of the write-ahead log, and what was written before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) seq: u64,
    pub(super) pos: u64,
    /// The last round before it.
    pub(super) round: u64,
}

/// A payload of a commit: where it was written, and itself if it is at hand.
#[derive(Clone, Debug)]
pub(super) struct Payload {
    /// File's sequence number, first byte, length. `None` if only volatile logs have it.
    pub(super) place: Option<(u64, u32, u32)>,
    pub(super) max_ts: i64,
    pub(super) batch: Option<RecordBatch>,
}

/// The state that replay gives. Behind one lock; nothing under it touches the disk.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) logs: NumberMap<LogId, Box<LogData>>,
    /// Ids that are not used again.
    pub(super) removed: RoaringTreemap,
    /// How far the write-ahead log is applied.
    pub(super) position: Position,
    /// The oldest write-ahead file that batches are still read from.
    pub(super) oldest_seq: u64,
    pub(super) segments: BTreeMap<u64, Arc<Segment>>,
    pub(super) next_segment: u64,
    pub(super) recent: Recent,
    pub(super) faults: Vec<Fault>,
}

impl Published {
    pub(super) fn new(recent_bytes: u64) -> Self {
        Self {
            logs: NumberMap::default(),
            removed: RoaringTreemap::new(),
            position: Position::default(),
            oldest_seq: 1,
            segments: BTreeMap::new(),
            next_segment: 1,
            recent: Recent::new(recent_bytes),
            faults: Vec::new(),
        }
    }

    /// Applies one operation of a commit. What was checked when the commit was queued is not checked again; in a replay over damage an
    /// operation may meet a log that is not there, and has no effect then.
    pub(super) fn apply(&mut self, op: Op, payloads: &[Payload]) {
        match op {
            Op::Create { log, config } => {
                self.logs.entry(log).or_insert_with(|| Box::new(LogData::new(config)));
            }
            Op::Remove { log } => {
                self.logs.remove(&log);
                self.removed.insert(log.0);
            }
            Op::Append(append) => {
                if let Some(payload) = payloads.get(append.payload as usize) {
                    self.append(&append, payload);
                }
            }
            Op::Own { log, epoch } => self.with(log, |data| data.epoch = data.epoch.max(epoch)),
            Op::Configure { log, config } => self.with(log, |data| data.configure(config)),
            Op::Delete { log, ranges, weight } => self.with(log, |data| data.delete(&ranges, weight)),
            Op::Trim { log, to } => self.with(log, |data| data.trim(to)),
            Op::Boot => {}
        }
    }

    fn with(&mut self, log: LogId, change: impl FnOnce(&mut LogData)) {
        if let Some(data) = self.logs.get_mut(&log) {
            change(data);
        }
    }

    fn append(&mut self, op: &AppendOp, payload: &Payload) {
        let Some(data) = self.logs.get_mut(&op.log) else { return };
        let gap = op.base.saturating_sub(data.end);
        if gap > MAX_GAP {
            let place = format!("log {} at offset {}", op.log, data.end);
            let what = format!("an append skips {gap} offsets, more than can be lost");
            self.add_fault(Fault { place, what, logs: vec![op.log] });
            return;
        }
        data.append(op, payload.max_ts);
        if data.config.volatile {
            if let Some(batch) = payload.batch.clone() {
                data.keep_in_memory(op.base, op.count, batch);
            }
        } else if let Some(location) = location_of(op, payload) {
            data.locate(&location);
        }
    }

    /// Takes note of where a batch is whose records a checkpoint already knows.
    pub(super) fn locate(&mut self, op: &AppendOp, payload: &Payload) {
        if let (Some(data), Some(location)) = (self.logs.get_mut(&op.log), location_of(op, payload))
            && location.base >= data.extents_end()
            && location.end() <= data.end
        {
            data.locate(&location);
        }
    }

    /// Notes damage, and makes the logs it touches read-only. Says whether it is news.
    pub(super) fn add_fault(&mut self, fault: Fault) -> bool {
        let text = format!("{}: {}", fault.place, fault.what);
        let mark = |data: &mut Box<LogData>| {
            data.damage.get_or_insert_with(|| text.clone());
        };
        if fault.logs.is_empty() {
            self.logs.values_mut().for_each(mark);
        } else {
            fault.logs.iter().for_each(|log| {
                self.logs.get_mut(log).map(mark);
            });
        }
        let is_new = !self.faults.contains(&fault) && self.faults.len() < MAX_FAULTS;
        if is_new {
            self.faults.push(fault);
        }
        is_new
    }

    /// After a replay over damage that touches all logs: marks those too that were created behind it.
    pub(super) fn spread_damage(&mut self) {
        if let Some(fault) = self.faults.iter().find(|fault| fault.logs.is_empty()) {
            let text = format!("{}: {}", fault.place, fault.what);
            for data in self.logs.values_mut() {
                data.damage.get_or_insert_with(|| text.clone());
            }
        }
    }

    /// How many logs are read-only.
    pub(super) fn damaged_logs(&self) -> u64 {
        self.logs.values().filter(|data| data.damage.is_some()).count() as u64
    }

    /// Whether damage was found of which nobody can say what it touches.
    pub(super) fn is_wholly_damaged(&self) -> bool {
        self.faults.iter().any(|fault| fault.logs.is_empty())
    }

    /// The epoch in force of each log after a start: above all that were handed out before it.
    pub(super) fn epoch_after_boot(data: &LogData) -> Epoch {
        Epoch(data.epoch.0.saturating_add(1))
    }
}

fn location_of(op: &AppendOp, payload: &Payload) -> Option<Location> {
    let (seq, pos, len) = payload.place?;
    Some(Location { seq, pos, len, base: op.base, count: op.count, max_ts: payload.max_ts })
}
