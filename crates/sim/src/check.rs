//! Looking at all that a broker holds, and holding it against the model.

use std::collections::{BTreeMap, BTreeSet};

use broker::definitions::OverflowConfig;
use broker::views::BrowsedState;
use types::{EntityId, Message, Offset};

use crate::definitions::{Definitions, bare, made_by_itself};
use crate::fixtures::CIRCLE;
use crate::life::Life;
use crate::model::{Copy, Leaves, Model, There};
use crate::operation::{CopyId, Num, OpId, Operation, Verdict};
use crate::replies::number_in;

/// What lies between the model's last word and what is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing: the broker runs, and nothing is under way.
    Calm,
    /// The process was killed.
    Kill,
    /// The power was cut.
    PowerCut,
}

/// A message found in a queue.
pub(crate) struct Found {
    pub(crate) num: Num,
    pub(crate) queue: EntityId,
    pub(crate) offset: Offset,
    pub(crate) state: BrowsedState,
    pub(crate) message: std::sync::Arc<Message>,
}

/// What a call that may have happened shows of itself: every effect must say the same.
#[derive(Default)]
pub(crate) struct Votes(BTreeMap<OpId, (Vec<String>, Vec<String>)>);

impl Votes {
    pub(crate) fn add(&mut self, op: OpId, happened: bool, what: String) {
        let (yes, no) = self.0.entry(op).or_default();
        if happened { yes.push(what) } else { no.push(what) }
    }

    /// Whether it happened; `None` if nothing tells.
    fn verdict(&self, op: OpId) -> Option<bool> {
        let (yes, no) = self.0.get(&op)?;
        assert!(yes.is_empty() || no.is_empty(), "#{} happened in part: {yes:?} is there, {no:?} is not", op.0);
        Some(!yes.is_empty())
    }
}

/// The messages of a queue, in log order.
pub(crate) fn look(life: &Life, name: &str, queue: EntityId) -> Vec<Found> {
    let session = life.session_of(name);
    let (mut found, mut from) = (Vec::new(), Offset::ZERO);
    loop {
        let (page, next) = session.browse(bare(name), from, 1_000).expect("a queue can be looked at");
        let done = next == from;
        found.extend(page.into_iter().map(|one| Found {
            num: number_in(&one.message),
            queue,
            offset: one.offset,
            state: one.state,
            message: one.message,
        }));
        if done {
            return found;
        }
        from = next;
    }
}

impl Model {
    /// Holds everything against the model, and takes what was open as it turned out.
    pub(crate) fn check(&mut self, life: &Life, after: After) {
        if after == After::Kill {
            self.be_durable();
        }
        self.check_definitions(life);
        let mut votes = Votes::default();
        self.check_queues(life, after, &mut votes);
        self.check_logs(life, &mut votes);
        self.check_groups(life);
        self.close_open(&votes, after);
        self.check_versions(life);
        self.check_order();
        self.check_dropped();
        if after != After::Calm {
            self.begin_anew(after);
        }
    }

    /// What was written survives a kill, synced or not.
    fn be_durable(&mut self) {
        self.soft.clear();
        for copy in self.copies.values_mut() {
            if let There::Soft(_) = copy.there {
                copy.there = There::Yes;
            }
        }
    }

    /// The definitions are those that were confirmed, with the change that was open or without it.
    pub(crate) fn check_definitions(&mut self, life: &Life) {
        let shown = Definitions::shown(&life.broker, &life.principal, &life.session);
        self.take_last_resorts(&shown);
        let changes = self.open.iter().filter_map(|(id, operation)| match operation {
            Operation::Define(change) => Some((*id, change.clone())),
            _ => None,
        });
        let changes: Vec<_> = changes.collect();
        for (id, change) in changes {
            self.open.remove(&id);
            let changed = self.definitions.after(&change, &shown);
            if changed == shown {
                self.take_definitions(shown.clone());
            }
        }
        let (new, lost) = (shown.beyond(&self.definitions), self.definitions.beyond(&shown));
        assert!(new.is_empty() && lost.is_empty(), "defined is {new:?}, where {lost:?} was confirmed");
    }

    /// A queue of last resort is made when a circle of dead letters needs it, without anybody asking.
    pub(crate) fn take_last_resorts(&mut self, shown: &Definitions) {
        for name in CIRCLE.map(|name| format!("{name}.dlq")) {
            if let Some((id, config)) = shown.queues.get(&name)
                && !self.definitions.queues.contains_key(&name)
            {
                assert_eq!(*config, made_by_itself(), "{name}");
                assert!(self.ids.insert(*id), "{id} names something new, and was used before");
                self.definitions.queues.insert(name, (*id, config.clone()));
            }
        }
    }

    /// These are the definitions now.
    pub(crate) fn take_definitions(&mut self, shown: Definitions) {
        let before = self.definitions.ids();
        for id in shown.ids().difference(&before) {
            assert!(self.ids.insert(*id), "{id} names something new, and was used before");
        }
        for (name, (id, config)) in &shown.queues {
            if let Some(dead) = crate::definitions::dead_letter_queue(name, config) {
                self.ways.insert((*id, dead));
            }
            if CIRCLE.contains(&name.as_str()) {
                self.ways.insert((*id, format!("{name}.dlq")));
            }
        }
        let gone: BTreeSet<EntityId> = before.difference(&shown.ids()).copied().collect();
        // What was in a queue went with it, unless it had left; so did what had got there by itself.
        let may_go = |copy: &Copy| gone.iter().any(|queue| copy.at == *queue || self.leads(copy.at, *queue));
        let going: Vec<CopyId> = self.copies.iter().filter(|(_, copy)| may_go(copy)).map(|(id, _)| *id).collect();
        for id in going {
            self.copies.entry(id).and_modify(|copy| copy.leaves = Leaves::Free);
        }
        // What had come through a queue that is gone may lie beyond it.
        for queue in &gone {
            let name = self.name_of(*queue);
            let from: Vec<EntityId> = self.ways.iter().filter(|(_, to)| *to == name).map(|(from, _)| *from).collect();
            let to: Vec<String> =
                self.ways.iter().filter(|(from, _)| from == queue).map(|(_, to)| to.clone()).collect();
            let through = from.iter().flat_map(|from| to.iter().map(|to| (*from, to.clone())));
            self.ways.extend(through);
        }
        self.logs.retain(|(topic, _), _| !gone.contains(topic));
        self.groups.retain(|group, _| !gone.contains(group));
        self.must_log.retain(|(topic, _)| !gone.contains(topic));
        self.maybe_logged.retain(|(_, topic, _)| !gone.contains(topic));
        self.held.retain(|held| !gone.contains(&held.queue));
        self.definitions = shown;
    }

    fn check_queues(&mut self, life: &Life, after: After, votes: &mut Votes) {
        let queues: Vec<(String, EntityId)> =
            self.definitions.queues.iter().map(|(name, (id, _))| (name.clone(), *id)).collect();
        let mut by_num: BTreeMap<Num, Vec<Found>> = BTreeMap::new();
        for (name, id) in queues {
            let found = look(life, &name, id);
            let depth = life.session_of(&name).queue(bare(&name)).expect("it is there").depth;
            let all = depth.ready + depth.delayed + depth.parked + depth.in_flight;
            assert_eq!(all, found.len() as u64, "{name} counts otherwise than it shows: {depth:?}");
            if after == After::Calm {
                self.check_bound(&name, &found);
            }
            for one in found {
                by_num.entry(one.num).or_default().push(one);
            }
        }
        let mut nums: BTreeSet<Num> = self.copies.keys().map(|(num, _)| *num).collect();
        nums.extend(by_num.keys());
        for num in nums {
            let found = by_num.remove(&num).unwrap_or_default();
            self.match_copies(num, &found, after, votes);
        }
    }

    /// What is too much for a queue that drops its oldest has left it, but for what waits for its time.
    fn check_bound(&self, name: &str, found: &[Found]) {
        let (_, config) = &self.definitions.queues[name];
        if config.overflow == Some(OverflowConfig::DropOldest) {
            let waiting = found.iter().filter(|one| one.state != BrowsedState::InFlight).count() as u64;
            let is_ready = |one: &Found| one.state == BrowsedState::Ready;
            let is_over = config.max_messages.is_some_and(|max| waiting > max);
            assert!(!is_over || !found.iter().any(is_ready), "{waiting} wait in {name}");
        }
    }

    /// Finds for each message that is there the copy that it is, so that each copy that must be there is.
    fn match_copies(&mut self, num: Num, found: &[Found], after: After, votes: &mut Votes) {
        let copies = self.copies_of(num);
        let mut taken = vec![None; copies.len()];
        if !self.assign(found, 0, &copies, &mut taken, after) {
            let found: Vec<_> = found.iter().map(|one| (self.name_of(one.queue), one.offset.0)).collect();
            let copies: Vec<_> = copies.iter().map(|id| (self.name_of(self.copies[id].at), &self.copies[id])).collect();
            panic!("message {num} is in {found:?}, but what was confirmed is {copies:?}");
        }
        if taken.contains(&None) {
            for (id, at) in copies.iter().zip(&taken) {
                let from = self.copies[id].at;
                if at.is_some_and(|at| found[at].queue != from) {
                    self.mix_up(*id, from);
                }
            }
        }
        for (id, taken) in copies.into_iter().zip(taken) {
            match taken {
                Some(at) => self.is_there(id, &found[at], votes),
                None => self.is_gone(id, after, votes),
            }
        }
    }

    fn assign(
        &self,
        found: &[Found],
        next: usize,
        copies: &[CopyId],
        taken: &mut [Option<usize>],
        after: After,
    ) -> bool {
        let Some(one) = found.get(next) else {
            let left = copies.iter().zip(taken.iter()).filter(|(_, taken)| taken.is_none());
            return left.into_iter().all(|(id, _)| self.may_lack(&self.copies[id], after));
        };
        // Those that were last seen just here come first.
        let mut order: Vec<usize> = (0..copies.len()).filter(|at| taken[*at].is_none()).collect();
        order.sort_by_key(|at| self.distance(&self.copies[&copies[*at]], one.queue, one.offset, &one.message));
        for at in order {
            if self.fits(&self.copies[&copies[at]], one.queue, one.offset) {
                taken[at] = Some(next);
                if self.assign(found, next + 1, copies, taken, after) {
                    return true;
                }
                taken[at] = None;
            }
        }
        false
    }

    /// Whether a copy may be missing.
    fn may_lack(&self, copy: &Copy, after: After) -> bool {
        let may = match copy.there {
            There::Yes => false,
            There::Maybe(_) => true,
            There::Soft(_) => after == After::PowerCut,
        };
        // Moves that were refused, or that wait for a queue of last resort, are tried again; until then the message is on its way out and
        // not shown.
        may || copy.leaves != Leaves::No || (after == After::Calm && (self.troubled || self.goes_round(copy)))
    }

    fn goes_round(&self, copy: &Copy) -> bool {
        CIRCLE.contains(&self.name_of(copy.at).as_str())
    }

    fn is_there(&mut self, id: CopyId, one: &Found, votes: &mut Votes) {
        let what = format!("{} in {}", id.0, self.name_of(one.queue));
        let copy = self.copies[&id].clone();
        match copy.there {
            There::Maybe(op) | There::Soft(op) => votes.add(op, true, what.clone()),
            There::Yes => {}
        }
        if let Leaves::Maybe(op) = copy.leaves
            && self.is_whole(op)
        {
            votes.add(op, false, format!("the end of {what}"));
        }
        if self.has_moved(&copy, one.queue, one.offset) {
            self.copies.get_mut(&id).expect("there").direct = false;
        }
        let before = copy;
        let copy = self.copies.get_mut(&id).expect("there");
        (copy.at, copy.offset) = (one.queue, Some(one.offset));
        self.note_story(id, &one.message, &before);
    }

    fn is_gone(&mut self, id: CopyId, after: After, votes: &mut Votes) {
        let copy = self.copies[&id].clone();
        let what = format!("{} in {}", id.0, self.name_of(copy.at));
        let queue_is_there = self.definitions.queue_name(copy.at).is_some();
        match (copy.there, copy.leaves) {
            _ if !queue_is_there => {}
            // Perhaps it waits for a queue of last resort.
            _ if after == After::Calm && self.goes_round(&copy) => return,
            (There::Maybe(op) | There::Soft(op), Leaves::No) => votes.add(op, false, what),
            (There::Yes, Leaves::Maybe(op)) if self.is_whole(op) => votes.add(op, true, format!("the end of {what}")),
            (There::Yes, Leaves::No) => return,
            _ => {}
        }
        self.copies.remove(&id);
    }

    /// Whether a call happens whole or not at all. Settlements stand each for itself.
    fn is_whole(&self, op: OpId) -> bool {
        !matches!(self.open.get(&op), Some(Operation::Settle(_)))
    }

    pub(crate) fn name_of(&self, queue: EntityId) -> String {
        self.definitions.queue_name(queue).map_or_else(|| format!("a deleted queue {queue}"), str::to_owned)
    }

    /// What was open has happened or not.
    fn close_open(&mut self, votes: &Votes, after: After) {
        let soft = if after == After::Calm { Default::default() } else { std::mem::take(&mut self.soft) };
        for op in soft.into_keys() {
            if votes.verdict(op) == Some(false) {
                self.copies.retain(|_, copy| copy.there != There::Soft(op));
            }
        }
        for (op, operation) in std::mem::take(&mut self.open) {
            if let Operation::Receive(receiving) = &operation {
                *self.unheard.entry(receiving.queue).or_default() += 1;
            }
            let happened = votes.verdict(op);
            if let (Operation::Publish(publishing) | Operation::PassOn(_, publishing), Some(happened)) =
                (&operation, happened)
            {
                assert!(happened || !publishing.seen, "#{} was delivered, and did not happen", op.0);
                if happened {
                    self.taken.extend(publishing.new_ids.clone());
                }
                if let (true, Some(topic), Some(stamp)) = (happened, publishing.topic, &publishing.producer)
                    && stamp.verdict == Verdict::New
                {
                    let producer = self.producers.entry((topic, stamp.name.clone())).or_default();
                    producer.next = stamp.first + publishing.messages.len() as u64;
                    producer.last = Some((stamp.first, publishing.messages.iter().map(|one| one.num).collect()));
                }
            }
        }
        self.maybe_logged.clear();
        let step = self.tick();
        for copy in self.copies.values_mut() {
            if after != After::Calm || !matches!(copy.there, There::Soft(_)) {
                copy.there = There::Yes;
            }
            copy.confirmed.get_or_insert(step);
            if let Leaves::Maybe(_) = copy.leaves {
                copy.leaves = Leaves::No;
            }
        }
    }

    /// What was published after something else was confirmed stands behind it.
    fn check_order(&self) {
        let mut queues: BTreeMap<EntityId, Vec<(Offset, CopyId)>> = BTreeMap::new();
        for (id, copy) in self.copies.iter().filter(|(_, copy)| copy.direct) {
            queues.entry(copy.at).or_default().extend(copy.offset.map(|offset| (offset, *id)));
        }
        for mut places in queues.into_values() {
            places.sort_unstable();
            let mut latest = (0, None);
            for (offset, id) in places {
                let submitted = self.messages[&id.0].submitted;
                let confirmed = self.copies[&id].confirmed.unwrap_or(u64::MAX);
                assert!(confirmed >= latest.0, "{id:?} at {offset} was confirmed before {:?} began", latest.1);
                latest = latest.max((submitted, Some(id)));
            }
        }
    }

    /// The oldest were dropped: nothing older than what was dropped waits still, unless it was out or waited for its time.
    fn check_dropped(&self) {
        let Some(ring) = self.definitions.queue_id("ring") else { return };
        let is_dropped = |copy: &&Copy| copy.story.as_ref().is_some_and(|story| story.reason == "overflow");
        let dropped = self.copies.iter().filter(|(_, copy)| is_dropped(copy)).map(|(id, _)| *id);
        let Some(youngest) = dropped.max_by_key(|id| self.messages[&id.0].submitted) else { return };
        let submitted = self.messages[&youngest.0].submitted;
        if self.unheard.contains_key(&ring) {
            return;
        }
        for (id, copy) in self.copies.iter().filter(|(_, copy)| copy.at == ring && copy.direct) {
            let Some(place) = copy.offset.map(|offset| self.places.get(&(ring, offset))) else { continue };
            let was_out = place.is_some_and(|place| place.deliveries > 0);
            let is_older = copy.confirmed.is_some_and(|confirmed| confirmed < submitted);
            assert!(
                was_out || self.messages[&id.0].waits || !is_older,
                "{youngest:?} was dropped, and {id:?} is older"
            );
        }
    }

    /// A new life begins: nothing is out any more.
    fn begin_anew(&mut self, after: After) {
        self.standing.clear();
        self.stale.extend(self.held.drain(..).map(|held| held.receipt));
        let keep = self.stale.len().saturating_sub(8);
        self.stale.drain(..keep);
        let synced_since = self.synced_since;
        for place in self.places.values_mut() {
            // A mark that this start has found is durable; one that was lost is lost for good.
            place.marked = place.marked.filter(|at| after == After::Kill || *at < synced_since).map(|_| 0);
            place.must_mark = place.marked.is_some();
        }
        self.copies.values_mut().for_each(|copy| (copy.leaves, copy.rejected) = (Leaves::No, false));
        self.redriving = false;
        self.told.clear();
        self.ways.clear();
        let shown = self.definitions.clone();
        self.take_definitions(shown);
        self.troubled = false;
    }
}
