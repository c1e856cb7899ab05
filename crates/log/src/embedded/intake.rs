//! The queue of commits: where they are checked, get their offsets, and wait for the committer.

use std::collections::VecDeque;
use std::time::Instant;

use roaring::RoaringTreemap;
use types::{Epoch, LogId, Offset};

use super::draft::{Action, Draft, DraftPayload, DraftTarget, MAX_OFFSET};
use super::frame::{AppendOp, Op, encode_targets, frame_bytes_for};
use super::number_map::NumberMap;
use crate::{Completion, Durability, LogConfig, Refusal, Written};

/// A log as the next commit finds it: with everything under way counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) epoch: Epoch,
    pub(super) next: u64,
    pub(super) is_volatile: bool,
    pub(super) is_damaged: bool,
    /// Keys of what is appended matter: a batch that cannot be decoded is refused.
    pub(super) needs_keys: bool,
}

/// Whether batches of such a log must be decoded when they come in.
pub(super) fn needs_keys(config: &LogConfig) -> bool {
    config.key_index || config.cleanup.compact.is_some()
}

/// A commit that waits.
pub(super) struct Pending {
    pub(super) ops: Vec<Op>,
    pub(super) payloads: Vec<DraftPayload>,
    /// Which of the payloads are written, in this order; `None` is all in theirs.
    on_disk: Option<Vec<u32>>,
    pub(super) targets: Vec<u8>,
    /// Of the frame; 0 if nothing is written.
    pub(super) frame_bytes: u64,
    /// What it counts for in the bound on waiting bytes.
    pub(super) cost_bytes: u64,
    pub(super) durability: Durability,
    pub(super) written: Vec<Written>,
    /// It was refused when it came, and waits only for its turn to hear so.
    pub(super) refused: Option<Refusal>,
    pub(super) queued_at: Instant,
    pub(super) done: Completion,
}

impl Pending {
    fn empty(queued_at: Instant) -> Self {
        Self {
            ops: Vec::new(),
            payloads: Vec::new(),
            on_disk: None,
            targets: Vec::new(),
            frame_bytes: 0,
            cost_bytes: 0,
            durability: Durability::Memory,
            written: Vec::new(),
            refused: None,
            queued_at,
            done: Box::new(|_| {}),
        }
    }

    /// Whether nothing of it is written, nor waited for.
    pub(super) fn is_in_memory(&self) -> bool {
        self.frame_bytes == 0 && self.durability == Durability::Memory
    }

    /// The numbers of the payloads that are written, in their order.
    pub(super) fn on_disk(&self) -> impl Iterator<Item = usize> + '_ {
        let listed = self.on_disk.as_deref();
        let count = listed.map_or(self.payloads.len(), <[u32]>::len);
        (0..count)
            .map(move |at| listed.map_or(at, |listed| listed.get(at).map_or(usize::MAX, |number| *number as usize)))
    }
}

fn is_at_once(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Overloaded { .. } | Refusal::Poisoned(_) | Refusal::Closed)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    Closing,
    Closed,
}

/// The disk is full down to the reserve.
#[derive(Clone, Copy, Debug)]
pub(super) struct Full {
    pub(super) free_bytes: u64,
    pub(super) reserve_bytes: u64,
}

impl Full {
    /// Whether small records that draining needs still pass. The rest of the reserve is for moves, without which no file comes free.
    fn takes_small(self) -> bool {
        self.free_bytes >= self.reserve_bytes / 2
    }
}

pub(super) struct Intake {
    pub(super) heads: NumberMap<LogId, Head>,
    pub(super) removed: RoaringTreemap,
    pub(super) queue: VecDeque<Pending>,
    /// Of commits queued or being written.
    pub(super) waiting_bytes: u64,
    /// Commits whose completion is still to be called.
    pub(super) under_way: usize,
    /// What `under_way` was when the last round ended, before its completions were called.
    pub(super) last_under_way: usize,
    /// The committer wants to be woken when so many are under way.
    pub(super) wake_at: usize,
    pub(super) stage: Stage,
    pub(super) poisoned: Option<String>,
    pub(super) full: Option<Full>,
    /// Damage was found of which nobody knows what it touches.
    pub(super) wholly_damaged: bool,
    pub(super) max_waiting_bytes: u64,
    pub(super) max_frame_bytes: u64,
    scratch: Scratch,
}

/// Operations of a commit for which memory is kept.
const SCRATCH_OPERATIONS: usize = 4096;

/// What is needed of a commit only while it is taken: kept, so that no commit asks the allocator for it.
#[derive(Default)]
struct Scratch {
    undo: Undo,
    /// The payload's number on the disk of each operation that is logged; `None` of those that are not.
    logged: Vec<Option<u32>>,
    /// Which of the payloads are written, in this order.
    on_disk: Vec<u32>,
}

impl Scratch {
    fn clear(&mut self) {
        if self.logged.capacity() > SCRATCH_OPERATIONS {
            *self = Self::default();
        }
        self.undo.heads.clear();
        self.undo.removed.clear();
        self.logged.clear();
        self.on_disk.clear();
    }
}

/// What a commit changed, to be put back if one of its targets is refused.
#[derive(Default)]
struct Undo {
    heads: Vec<(LogId, Option<Head>)>,
    removed: Vec<LogId>,
}

impl Intake {
    pub(super) fn new(max_waiting_bytes: u64, max_frame_bytes: u64) -> Self {
        Self {
            heads: NumberMap::default(),
            removed: RoaringTreemap::new(),
            queue: VecDeque::new(),
            waiting_bytes: 0,
            under_way: 0,
            last_under_way: 0,
            wake_at: usize::MAX,
            stage: Stage::Open,
            poisoned: None,
            full: None,
            wholly_damaged: false,
            max_waiting_bytes,
            max_frame_bytes,
            scratch: Scratch::default(),
        }
    }

    /// Queues a commit with its offsets assigned, or gives the completion back with the reason.
    pub(super) fn submit(
        &mut self,
        draft: Result<Draft, Refusal>,
        done: Completion,
        queued_at: Instant,
    ) -> Result<(), (Refusal, Completion)> {
        let empty = Pending::empty(queued_at);
        let pending = match draft.and_then(|draft| self.take(draft, empty)) {
            Ok(pending) => Pending { done, ..pending },
            // Refused commits end in their turn too; but when the engine is behind, closed or broken, a queue of them would
            // have no bound.
            Err(refusal) if self.under_way == 0 || is_at_once(&refusal) => return Err((refusal, done)),
            Err(refusal) => Pending { done, refused: Some(refusal), ..Pending::empty(queued_at) },
        };
        self.waiting_bytes += pending.cost_bytes;
        self.under_way += 1;
        self.queue.push_back(pending);
        Ok(())
    }

    fn take(&mut self, draft: Draft, empty: Pending) -> Result<Pending, Refusal> {
        self.check_health(&draft)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let pending = self.assign(draft, empty, &mut scratch);
        if pending.is_err() {
            for (log, head) in scratch.undo.heads.drain(..).rev() {
                match head {
                    Some(head) => self.heads.insert(log, head),
                    None => self.heads.remove(&log),
                };
            }
            for log in scratch.undo.removed.drain(..) {
                self.removed.remove(log.0);
            }
        }
        scratch.clear();
        self.scratch = scratch;
        pending
    }

    fn check_health(&self, draft: &Draft) -> Result<(), Refusal> {
        if let Some(reason) = &self.poisoned {
            return Err(Refusal::Poisoned(reason.clone()));
        }
        if self.stage != Stage::Open {
            return Err(Refusal::Closed);
        }
        if let (true, Some(full)) = (draft.grows, self.full)
            && !(draft.uses_reserve && full.takes_small())
            && draft.targets.iter().any(|target| self.is_durable_append(target))
        {
            return Err(Refusal::DiskFull { free_bytes: full.free_bytes, reserve_bytes: full.reserve_bytes });
        }
        Ok(())
    }

    fn is_durable_append(&self, target: &DraftTarget) -> bool {
        let is_volatile = || self.heads.get(&target.log).is_some_and(|head| head.is_volatile);
        matches!(target.action, Action::Append { .. }) && !is_volatile()
    }

    fn assign(&mut self, draft: Draft, empty: Pending, scratch: &mut Scratch) -> Result<Pending, Refusal> {
        let Draft { durability, payloads, targets, .. } = draft;
        let Scratch { undo, logged, on_disk } = scratch;
        let mut ops = Vec::with_capacity(targets.len());
        let mut written = Vec::with_capacity(targets.len());
        for target in targets {
            let (op, place, is_volatile) = self.assign_target(target, undo)?;
            let number = match &op {
                Op::Append(append) if !is_volatile => Some(place_on_disk(on_disk, append.payload)),
                _ if is_volatile => None,
                _ => Some(0),
            };
            logged.push(number);
            ops.push(op);
            written.push(place);
        }
        let of = |index: &u32| payloads.get(*index as usize).map_or(0, |payload| payload.bytes.len());
        let lens = on_disk.iter().map(|index| u32::try_from(of(index)).unwrap_or(u32::MAX));
        let payload_bytes: u64 = lens.clone().map(u64::from).sum();
        let count = logged.iter().filter(|number| number.is_some()).count();
        let (targets, frame_bytes) = if count == 0 {
            (Vec::new(), 0)
        } else {
            let logged_ops = ops.iter().zip(logged.iter()).filter_map(|(op, number)| number.map(|number| (op, number)));
            let targets = encode_targets(lens, count, logged_ops);
            let frame_bytes = frame_bytes_for(targets.len(), payload_bytes);
            (targets, frame_bytes)
        };
        let all_bytes: usize = payloads.iter().map(|payload| payload.bytes.len()).sum();
        let cost_bytes = frame_bytes.max(all_bytes as u64);
        self.check_size(cost_bytes)?;
        let is_all = on_disk.len() == payloads.len() && on_disk.iter().zip(0..).all(|(number, at)| *number == at);
        let on_disk = (!is_all).then(|| on_disk.clone());
        Ok(Pending { ops, payloads, on_disk, targets, frame_bytes, cost_bytes, durability, written, ..empty })
    }

    fn check_size(&self, bytes: u64) -> Result<(), Refusal> {
        if bytes > self.max_frame_bytes {
            return Err(Refusal::TooLarge { bytes, limit: self.max_frame_bytes });
        }
        if self.waiting_bytes > 0 && self.waiting_bytes + bytes > self.max_waiting_bytes {
            return Err(Refusal::Overloaded { waiting_bytes: self.waiting_bytes });
        }
        Ok(())
    }

    /// Checks one target, and moves its log's head as if it had happened.
    fn assign_target(&mut self, target: DraftTarget, undo: &mut Undo) -> Result<(Op, Written, bool), Refusal> {
        let log = target.log;
        if let Action::Boot = target.action {
            return Ok((Op::Boot, Written { base: Offset(0), end: Offset(0) }, false));
        }
        let before = self.heads.get(&log).copied();
        let mut head = match (&target.action, before) {
            (Action::Create(config), None) if !self.removed.contains(log.0) => {
                if self.wholly_damaged {
                    return Err(Refusal::Damaged(log));
                }
                Head {
                    epoch: Epoch(1),
                    next: 0,
                    is_volatile: config.volatile,
                    is_damaged: false,
                    needs_keys: needs_keys(config),
                }
            }
            (Action::Create(_), _) => return Err(Refusal::Exists(log)),
            (_, None) => return Err(Refusal::NoSuchLog(log)),
            (_, Some(head)) => head,
        };
        check_target(&target, &head)?;
        let base = head.next;
        let mut is_gone = false;
        let op = match target.action {
            Action::Create(config) => Op::Create { log, config },
            Action::Configure(config) if config.volatile != head.is_volatile => {
                return Err(Refusal::Malformed("whether a log is volatile cannot be changed".to_owned()));
            }
            Action::Configure(config) => {
                head.needs_keys = needs_keys(&config);
                Op::Configure { log, config }
            }
            Action::Append { payload, count, selection, weight } => {
                head.next = end_after(base, count)?;
                Op::Append(AppendOp { log, base, count, payload, selection, weight })
            }
            Action::Delete { ranges, weight } => {
                check_end(ranges.last().map_or(0, |range| range.end), base)?;
                Op::Delete { log, ranges, weight }
            }
            Action::Trim(to) => {
                check_end(to, base)?;
                Op::Trim { log, to }
            }
            Action::Remove => {
                is_gone = true;
                Op::Remove { log }
            }
            Action::Own => {
                head.epoch = Epoch(head.epoch.0.saturating_add(1));
                Op::Own { log, epoch: head.epoch }
            }
            Action::Boot => Op::Boot,
        };
        undo.heads.push((log, before));
        if is_gone {
            self.heads.remove(&log);
            self.removed.insert(log.0);
            undo.removed.push(log);
        } else {
            self.heads.insert(log, head);
        }
        // Only the engine itself takes ownership by a commit, and reads the new epoch from here.
        let base = if let Op::Own { epoch, .. } = &op { Offset(u64::from(epoch.0)) } else { Offset(base) };
        Ok((op, Written { base, end: Offset(head.next) }, head.is_volatile))
    }
}

/// The epoch that an [`Action::Own`] gave.
pub(super) fn granted_epoch(written: &Written) -> Epoch {
    Epoch(u32::try_from(written.base.0).unwrap_or(u32::MAX))
}

/// The payload's number among those that are written. (One that a volatile log of the same commit had first may be written twice.)
fn place_on_disk(on_disk: &mut Vec<u32>, payload: u32) -> u32 {
    // Payloads are numbered in the order of their first use, so a used one is at its number or before.
    let upto = on_disk.len().min(payload as usize + 1);
    let known = on_disk.get(..upto).unwrap_or_default().binary_search(&payload);
    let at = known.unwrap_or_else(|_| {
        on_disk.push(payload);
        on_disk.len() - 1
    });
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn end_after(base: u64, count: u32) -> Result<u64, Refusal> {
    let end = base.checked_add(u64::from(count)).filter(|end| *end <= MAX_OFFSET);
    end.ok_or_else(|| Refusal::Malformed("the log's offsets are used up".to_owned()))
}

fn check_end(offset: u64, end: u64) -> Result<(), Refusal> {
    if offset <= end {
        return Ok(());
    }
    Err(Refusal::Malformed(format!("offset {offset} is beyond the log's end, {end}")))
}

fn check_target(target: &DraftTarget, head: &Head) -> Result<(), Refusal> {
    let log = target.log;
    if let (Some(used), false) = (target.epoch, matches!(target.action, Action::Create(_)))
        && used != head.epoch
    {
        return Err(Refusal::WrongEpoch { log, used, current: head.epoch });
    }
    if head.is_damaged && !matches!(target.action, Action::Own) {
        return Err(Refusal::Damaged(log));
    }
    match target.expected_end {
        Some(expected) if expected.0 != head.next => {
            Err(Refusal::WrongEnd { log, expected, actual: Offset(head.next) })
        }
        _ => Ok(()),
    }
}
