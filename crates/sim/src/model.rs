//! What was confirmed, what may have happened, and nothing else: the model that a broker is held against.

use std::collections::{BTreeMap, BTreeSet};

use broker::Receipt;
use types::{EntityId, Message, Offset, Value};

use crate::definitions::{Definitions, bare};
use crate::operation::{CopyId, Num, OpId, Operation};
use crate::stories::story_of;

/// Everything that is known of a run's messages and definitions.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) definitions: Definitions,
    /// Every id that was ever seen: none may come again for something else.
    pub(crate) ids: BTreeSet<EntityId>,
    pub(crate) next: Num,
    pub(crate) messages: BTreeMap<Num, Facts>,
    pub(crate) copies: BTreeMap<CopyId, Copy>,
    /// Copies that were found in their places a moment ago, where it matters.
    pub(crate) in_place: BTreeSet<CopyId>,
    pub(crate) places: BTreeMap<(EntityId, Offset), Place>,
    pub(crate) held: Vec<Held>,
    /// Standing consumers that are there.
    pub(crate) standing: BTreeSet<u32>,
    pub(crate) next_standing: u32,
    /// Receives without deliveries to show, by queue: what they took may have run out of its lease meanwhile, which counts as an attempt.
    pub(crate) unheard: BTreeMap<EntityId, u32>,
    /// Receipts of earlier lives.
    pub(crate) stale: Vec<Receipt>,
    /// Dedup ids that are taken, by window.
    pub(crate) taken: BTreeMap<(EntityId, String), Num>,
    /// Messages whose place in a topic's log was told in this life: who repeats one of them is told the same.
    pub(crate) told: BTreeSet<Num>,
    pub(crate) producers: BTreeMap<(EntityId, String), Producer>,
    /// Records of topics' logs: by topic and partition, then by offset.
    pub(crate) logs: BTreeMap<(EntityId, u32), BTreeMap<Offset, Num>>,
    /// Records that may be in a topic's log: their publish has not ended, or ended unknown.
    pub(crate) maybe_logged: Vec<(OpId, EntityId, Num)>,
    /// Records that were confirmed without their place being told.
    pub(crate) must_log: BTreeSet<(EntityId, Num)>,
    /// Where groups stand, as far as it was confirmed.
    pub(crate) groups: BTreeMap<EntityId, BTreeMap<u32, Offset>>,
    /// Calls without an answer, or with the answer that it is not known.
    pub(crate) open: BTreeMap<OpId, Operation>,
    /// Publishes that were confirmed before a sync: when.
    pub(crate) soft: BTreeMap<OpId, u64>,
    /// Ways that messages may take by themselves: dead letters, redrives. From a queue to a name.
    pub(crate) ways: BTreeSet<(EntityId, String)>,
    /// A redrive was begun in this life: what was a dead letter may be none any more.
    pub(crate) redriving: bool,
    /// Grows with everything that begins or ends.
    pub(crate) step: u64,
    /// When the youngest call began that was confirmed after a sync.
    pub(crate) synced_since: u64,
    /// The latest wall-clock time of the run, in milliseconds.
    pub(crate) latest_wall: i64,
    /// The present, in monotonic nanoseconds of this life.
    pub(crate) now: u64,
    /// A fault was met in this life: what is done in the background may have been refused.
    pub(crate) troubled: bool,
}

/// What a message was published with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) key: Option<u8>,
    pub(crate) priority: u8,
    pub(crate) expires_at: Option<i64>,
    /// It has a time before which it is not handed out.
    pub(crate) waits: bool,
    pub(crate) submitted: u64,
    /// When it was published, by the wall clock in milliseconds.
    pub(crate) wall: i64,
    /// It got into one queue only, so that none of its kind can be taken for it.
    pub(crate) is_single: bool,
    /// It has no body: it removes its key.
    pub(crate) removes: bool,
}

/// A message in a queue.
#[derive(Clone, Debug)]
pub(crate) struct Copy {
    /// The queue where it was last.
    pub(crate) at: EntityId,
    /// Its place there, once it was seen.
    pub(crate) offset: Option<Offset>,
    pub(crate) there: There,
    pub(crate) leaves: Leaves,
    pub(crate) story: Option<Story>,
    /// A reject of it was confirmed: it must be among the dead letters.
    pub(crate) rejected: bool,
    /// It has never moved, so that its place is in the order of publishes.
    pub(crate) direct: bool,
    pub(crate) confirmed: Option<u64>,
}

/// Whether a copy was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum There {
    Yes,
    /// If this call happened.
    Maybe(OpId),
    /// Confirmed, but not synced: a kill leaves it, a power cut may not.
    Soft(OpId),
}

/// Whether a copy may be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaves {
    No,
    /// If this call happened.
    Maybe(OpId),
    /// Nobody said.
    Free,
}

/// What the headers of a dead letter say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Story {
    pub(crate) reason: String,
    pub(crate) queue: String,
    pub(crate) attempts: i64,
    pub(crate) error: Option<String>,
    pub(crate) failed_times: bool,
}

/// What happened to the message at one place of a queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// Failures that were confirmed, or told of by a later delivery.
    pub(crate) least: u32,
    /// Deliveries: each may have failed.
    pub(crate) deliveries: u32,
    /// When it was handed out with its mark written.
    pub(crate) marked: Option<u64>,
    /// It must come marked, whatever was cut.
    pub(crate) must_mark: bool,
}

/// A delivery that we hold.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) receipt: Receipt,
    pub(crate) copy: CopyId,
    pub(crate) queue: EntityId,
    pub(crate) until: u64,
    /// Which attempt it is.
    pub(crate) attempt: u32,
    /// The standing consumer that holds it.
    pub(crate) standing: Option<u32>,
}

/// A producer of one topic.
#[derive(Clone, Debug, Default)]
pub(crate) struct Producer {
    pub(crate) next: u64,
    /// The first sequence number of its last batch, and the messages that were stored then.
    pub(crate) last: Option<(u64, Vec<Num>)>,
}

impl Model {
    pub(crate) fn tick(&mut self) -> u64 {
        self.step += 1;
        self.step
    }

    pub(crate) fn copies_of(&self, num: Num) -> Vec<CopyId> {
        self.copies.range((num, 0)..=(num, u32::MAX)).map(|(id, _)| *id).collect()
    }

    /// Whether a message may have got from one queue to another by itself.
    pub(crate) fn leads(&self, from: EntityId, to: EntityId) -> bool {
        self.hops(from, to).is_some()
    }

    /// In how few moves a message may have got from one queue to another by itself; at least one.
    fn hops(&self, from: EntityId, to: EntityId) -> Option<u8> {
        let (mut border, mut seen) = (BTreeSet::from([from]), BTreeSet::new());
        for hops in 1..=u8::MAX {
            let next = self.ways.iter().filter(|(source, _)| border.contains(source));
            let next: BTreeSet<EntityId> = next.filter_map(|(_, name)| self.definitions.queue_id(name)).collect();
            if next.contains(&to) {
                return Some(hops);
            }
            border = next.difference(&seen).copied().collect();
            seen.extend(next);
            if border.is_empty() {
                return None;
            }
        }
        None
    }

    /// Whether a copy may be what was found at a place.
    pub(crate) fn fits(&self, copy: &Copy, queue: EntityId, offset: Offset) -> bool {
        (copy.at == queue && copy.offset.is_none_or(|at| at == offset)) || self.leads(copy.at, queue)
    }

    /// How likely a copy is what was found: the lower the likelier. A dead letter says where it came from.
    pub(crate) fn distance(&self, copy: &Copy, queue: EntityId, offset: Offset, message: &Message) -> u8 {
        let source = message.header("ph-dead-letter-queue").and_then(Value::as_text);
        let hops = self.hops(copy.at, queue).unwrap_or(u8::MAX);
        match (copy.at == queue, copy.offset) {
            (true, Some(at)) if at == offset => 0,
            // A dead letter is not one that was published here.
            (true, None) if source.is_none() => 1,
            (false, _) if source.is_some() && self.definitions.queue_name(copy.at).map(bare) == source => {
                2 + self.misfit(copy, message)
            }
            _ => hops.saturating_add(5),
        }
    }

    /// A call begins that ends a copy if it happens.
    pub(crate) fn may_leave(&mut self, copy: CopyId, op: OpId) {
        if let Some(copy) = self.copies.get_mut(&copy) {
            // Ended by one of two calls, it tells of neither whether it happened.
            copy.leaves = if copy.leaves == Leaves::No { Leaves::Maybe(op) } else { Leaves::Free };
        }
    }

    /// How badly a dead letter's story suits what is known of a copy that was in the queue which it names.
    fn misfit(&self, copy: &Copy, message: &Message) -> u8 {
        let Some(story) = story_of(message) else { return 0 };
        let place = copy.offset.and_then(|offset| self.places.get(&(copy.at, offset))).cloned().unwrap_or_default();
        let most = place.deliveries + self.unheard.get(&copy.at).copied().unwrap_or_default();
        let is_possible = (i64::from(place.least)..=i64::from(most)).contains(&story.attempts);
        u8::from(copy.rejected != (story.reason == "rejected")) + 2 * u8::from(!is_possible)
    }

    /// The copy that a message at a place is.
    pub(crate) fn copy_at(&self, num: Num, queue: EntityId, offset: Offset, message: &Message) -> Option<CopyId> {
        let all = self.copies_of(num);
        let rank = |id: &&CopyId| {
            let copy = &self.copies[*id];
            let is_elsewhere = self.in_place.contains(*id) && (copy.at, copy.offset) != (queue, Some(offset));
            (is_elsewhere, self.distance(copy, queue, offset, message))
        };
        all.iter().filter(|id| self.fits(&self.copies[*id], queue, offset)).min_by_key(rank).copied()
    }

    /// Whether a copy that is found here may have been elsewhere in between: a redrive brings back what had left.
    pub(crate) fn has_moved(&self, copy: &Copy, queue: EntityId, offset: Offset) -> bool {
        copy.at != queue || copy.offset.map_or(self.redriving, |at| at != offset)
    }

    /// A copy was seen at a place.
    pub(crate) fn see(&mut self, id: CopyId, queue: EntityId, offset: Offset) {
        let has_moved = self.has_moved(&self.copies[&id], queue, offset);
        let from = self.copies[&id].at;
        if from != queue {
            self.mix_up(id, from);
        }
        if let Some(copy) = self.copies.get_mut(&id) {
            copy.direct &= !has_moved;
            (copy.at, copy.offset) = (queue, Some(offset));
        }
        // It is durable, and so is all that its publish wrote.
        if let There::Maybe(op) = self.copies[&id].there {
            self.promote(op);
        }
    }

    /// A copy left this queue. If others of the same message are there, it may have been one of them just as well: which of their places
    /// is free now is not known until they are seen again.
    pub(crate) fn mix_up(&mut self, left: CopyId, from: EntityId) {
        let others = self.copies.range_mut((left.0, 0)..=(left.0, u32::MAX));
        for (_, other) in others.filter(|(id, other)| **id != left && other.at == from) {
            (other.offset, other.direct) = (None, false);
        }
    }

    /// A publish is known to have happened.
    pub(crate) fn promote(&mut self, op: OpId) {
        let soft = match self.open.get_mut(&op) {
            Some(Operation::Publish(publishing) | Operation::PassOn(_, publishing)) => {
                publishing.seen = true;
                publishing.soft
            }
            _ => false,
        };
        self.enter(op, soft);
    }

    /// Its copies are there, for good or until the power is cut.
    pub(crate) fn enter(&mut self, op: OpId, soft: bool) {
        let step = self.tick();
        for copy in self.copies.values_mut().filter(|copy| copy.there == There::Maybe(op)) {
            copy.there = if soft { There::Soft(op) } else { There::Yes };
            copy.confirmed.get_or_insert(step);
        }
    }

    /// A call that began at `since` was confirmed after a sync: what was confirmed before it began is durable too.
    pub(crate) fn synced(&mut self, since: u64) {
        self.synced_since = self.synced_since.max(since);
        let durable: Vec<OpId> = self.soft.iter().filter(|(_, at)| **at < since).map(|(op, _)| *op).collect();
        for op in durable {
            self.soft.remove(&op);
            for copy in self.copies.values_mut().filter(|copy| copy.there == There::Soft(op)) {
                copy.there = There::Yes;
            }
        }
    }

    /// Whether a call under way keeps others from using this dedup id, producer or log.
    pub(crate) fn publishing(&self) -> impl Iterator<Item = &crate::operation::Publishing> {
        self.open.values().filter_map(|operation| match operation {
            Operation::Publish(publishing) | Operation::PassOn(_, publishing) => Some(publishing),
            _ => None,
        })
    }
}
