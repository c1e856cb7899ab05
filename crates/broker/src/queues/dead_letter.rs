//! Messages that a queue gave up: moved, with what happened to them, in one commit with their deletion.

use std::sync::Arc;
use std::time::Duration;

use types::{Message, Now, Text, Timestamp, Value};

use super::owner::{QueueGuard, QueueOwner};
use crate::deaths::{DEATHS_HEADER, Deaths};
use crate::defaults::{DEAD_LETTER_SUFFIX, dead_letter};
use crate::definitions::DeadLetterConfig;
use crate::errors::StorageError;
use crate::queue::{Departure, History, LeaveReason};
use crate::record::Payload;
use crate::routing::{DeadLetterPlan, Plan};
use crate::shared::Shared;
use crate::state_log::StateRecord;
use crate::transaction::{Transaction, Undo};

/// Headers that tell how a dead letter was given up at last, in the order in which they are added.
const DEAD_LETTER_HEADERS: [&str; 8] = [
    REASON_HEADER,
    "ph-dead-letter-queue",
    "ph-dead-letter-attempts",
    "ph-dead-letter-error",
    "ph-dead-letter-first-failed",
    "ph-dead-letter-last-failed",
    "ph-dead-letter-time",
    PATH_HEADER,
];
const REASON_HEADER: &str = "ph-dead-letter-reason";
/// The queues that a message left by itself (it expired, or there was no room) since a consumer last failed it, the oldest first.
const PATH_HEADER: &str = "ph-dead-letter-path";

/// Whether a header of this name tells a dead letter's story.
pub(super) fn is_story(name: &str) -> bool {
    DEAD_LETTER_HEADERS.contains(&name) || name == DEATHS_HEADER
}

/// Until a departure whose target had no room, or whose commit was refused, is tried again.
const STALLED_WAIT: Duration = Duration::from_millis(250);
/// Pages read in one tick, so that a long log does not keep consumers from the queue's lock.
const PAGES_A_TICK: usize = 4;

/// What becomes of a message whose move fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failed {
    /// It is in the queue again, and who wanted it moved hears of it.
    Restore,
    /// The move is tried again after a while: there is nobody to hear of it, and in the queue it would be given up again at once.
    Stall,
}

/// How a move ended that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The message has left the queue.
    Gone,
    /// It is still here: its target has no room or is missing. The move is tried again.
    Later,
}

/// What became of a departure.
enum Moving {
    /// This commit moves it.
    Commit { transaction: Transaction, kept: bool },
    /// Its target is missing (and perhaps being made) or full; try again.
    Later,
}

/// What a dead letter's target makes of it.
enum Way {
    /// It goes there.
    Moves(Box<Plan>),
    /// Nowhere, by explicit wish.
    Dropped,
    /// Its target is missing (and perhaps being made) or full; try again.
    Later,
}

/// A dead letter with its story, and the queues that it may not come back to.
type Story = (Message, Vec<String>);

/// No offset: stands in a queue's `reported` for its dead-letter target.
const TARGET: u64 = u64::MAX;
/// Why a message is in the queue of last resort: its dead-letter target leads back to where it was.
const CYCLE: &str = "cycle";

impl QueueOwner {
    /// Does what time has brought for this queue; `true` if there is more to be done at once.
    pub(crate) fn tick(self: &Arc<Self>, shared: &Arc<Shared>, now: Now) -> bool {
        let (mut retries, mut departures) = (Vec::new(), Vec::new());
        let goes_on = {
            let mut guard = self.lock(now);
            guard.begin_tick();
            departures.append(&mut guard.stalled);
            let more = guard.machine.tick(now, &mut retries, &mut departures);
            // After a restart the log is looked at by and by: what waits for a time is found, and expires, without a consumer too.
            let mut pages = 0;
            let unread = loop {
                match self.page(shared, &mut guard) {
                    Ok(true) if pages < PAGES_A_TICK => pages += 1,
                    Ok(more) => break more,
                    Err(error) => {
                        tracing::error!(queue = %self.name, %error, "a queue's messages cannot be read");
                        break false;
                    }
                }
            };
            // Leases that ran out may have been the last of a receive.
            guard.retire_pull();
            guard.recorded.extend(retries.iter().map(|retry| retry.offset.0));
            retries.iter().for_each(|retry| self.failing.begin(retry.offset));
            guard.meter.sample(now.mono);
            self.keep_state(shared, &mut guard);
            if more || unread {
                guard.tick_after(Duration::ZERO);
            }
            more || unread
        };
        if !retries.is_empty() {
            let (queue, failed) = (Arc::clone(self), retries.iter().map(|retry| retry.offset).collect::<Vec<_>>());
            self.record_retries(shared, retries, now, move |_| queue.failing.end(&failed));
        }
        let mut departures = departures.into_iter();
        while let Some(departure) = departures.next() {
            if !self.move_out(shared, departure, now, Failed::Stall, |_| {}) {
                // Where this one found no room the others find none either.
                let mut guard = self.lock(now);
                departures.by_ref().for_each(|departure| guard.stall(departure));
            }
        }
        self.continue_redrive(shared, now);
        goes_on
    }

    /// Moves a message out of the queue, in a commit of its own. `false` if its target has no room or is missing: it is tried again.
    pub(crate) fn move_out(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        departure: Departure<Payload>,
        now: Now,
        failed: Failed,
        done: impl FnOnce(Result<Moved, StorageError>) + Send + 'static,
    ) -> bool {
        let offset = departure.offset;
        match self.plan_move(shared, &departure, now) {
            Ok(Moving::Commit { mut transaction, kept }) => {
                let weight = u64::from(departure.weight);
                let undo = match failed {
                    Failed::Restore => Undo::Ready,
                    Failed::Stall => Undo::Stall(departure),
                };
                transaction.depart(self, vec![offset], weight, undo);
                let (queue, totals) = (Arc::clone(self), Arc::clone(shared));
                transaction.submit(shared, move |result| {
                    if result.is_ok() {
                        queue.count_departure(kept, now);
                        totals.count_departure(kept);
                    }
                    done(result.map(|_| Moved::Gone).map_err(StorageError::from));
                });
                true
            }
            Ok(Moving::Later) => {
                self.lock(now).stall(departure);
                done(Ok(Moved::Later));
                false
            }
            Err(error) => {
                let mut guard = self.lock(now);
                if guard.reported.insert(offset.0) {
                    tracing::error!(queue = %self.name, %offset, %error, "a dead letter cannot be moved and stays in its queue");
                }
                match failed {
                    Failed::Restore => guard.restore(offset),
                    Failed::Stall => guard.stall(departure),
                }
                drop(guard);
                done(Err(error));
                true
            }
        }
    }

    pub(crate) fn count_departure(&self, kept: bool, now: Now) {
        let mut guard = self.lock(now);
        match kept {
            true => guard.meter.counters.dead_lettered += 1,
            false => guard.meter.counters.dropped += 1,
        }
    }

    fn plan_move(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        departure: &Departure<Payload>,
        now: Now,
    ) -> Result<Moving, StorageError> {
        let mut transaction = Transaction::new();
        transaction.at_least(self.durability());
        let definition = self.definition();
        let plan = match &definition.resolved.dead_letter {
            DeadLetterConfig::None => None,
            target => match self.plan_dead_letter(shared, self.dead_letter(shared, departure, now)?, target, now)? {
                Way::Moves(plan) => Some(plan),
                Way::Dropped => None,
                Way::Later => return Ok(Moving::Later),
            },
        };
        if self.lock(now).recorded.contains(departure.offset.0) {
            self.state.record(&mut transaction, &[StateRecord::Forget(departure.offset)], now)?;
        }
        let kept = plan.is_some();
        if let Some(plan) = plan {
            plan.into_transaction(&mut transaction);
        }
        Ok(Moving::Commit { transaction, kept })
    }

    /// A new message that the queue has no room for goes where its dead letters go, with a transaction. Its publisher hears that it was
    /// refused, so that nothing follows if there is no room for it there either.
    pub(crate) fn turn_away(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        transaction: &mut Transaction,
        message: Message,
        now: Now,
    ) {
        let definition = self.definition();
        let target = &definition.resolved.dead_letter;
        if *target == DeadLetterConfig::None {
            return;
        }
        let story = self.with_story(message, now.wall, &LeaveReason::Overflow, &History::default(), now);
        match self.plan_dead_letter(shared, story, target, now) {
            Ok(Way::Moves(plan)) => {
                plan.into_transaction(transaction);
                transaction.at_least(self.durability());
                transaction.turned_away(self);
            }
            Ok(Way::Dropped | Way::Later) => {}
            Err(error) => tracing::error!(queue = %self.name, %error, "what was refused cannot be dead-lettered"),
        }
    }

    /// The way to the dead-letter target.
    ///
    /// A message that leaves by itself may not come back to a queue that it so left before, or it would go round for ever: it is kept in
    /// the queue of last resort instead, or dropped if the target says so. So is one that the target leads nowhere.
    fn plan_dead_letter(
        &self,
        shared: &Arc<Shared>,
        (mut message, path): Story,
        target: &DeadLetterConfig,
        now: Now,
    ) -> Result<Way, StorageError> {
        let looped = match Plan::dead_letter(shared, self, target, message.clone(), &path, now)? {
            DeadLetterPlan::Ready(plan) => return Ok(Way::Moves(plan)),
            DeadLetterPlan::Later => {
                shared.make_dead_letter_queue(self.namespace, target);
                return Ok(Way::Later);
            }
            DeadLetterPlan::Loops => true,
            DeadLetterPlan::Nowhere => false,
        };
        if target.drops() {
            if looped && self.lock(now).reported.insert(TARGET) {
                tracing::warn!(queue = %self.name, ?target, "a dead-letter target leads back to where messages were: they are dropped");
            }
            return Ok(Way::Dropped);
        }
        if looped && let Some((_, reason)) = message.headers.iter_mut().find(|(name, _)| *name == REASON_HEADER) {
            *reason = Value::from(CYCLE);
        }
        let mut name = match dead_letter(&self.name) {
            DeadLetterConfig::Queue(name) => name,
            _ => format!("{}{DEAD_LETTER_SUFFIX}", self.name),
        };
        while path.contains(&name) {
            name.push_str(DEAD_LETTER_SUFFIX);
        }
        if self.lock(now).reported.insert(TARGET) {
            let why = if looped { "leads back to where messages were" } else { "leads nowhere" };
            tracing::warn!(queue = %self.name, ?target, kept_in = name, "a dead-letter target {why}: they are kept");
        }
        let last_resort = DeadLetterConfig::Queue(name);
        match Plan::dead_letter(shared, self, &last_resort, message, &path, now)? {
            DeadLetterPlan::Ready(plan) => Ok(Way::Moves(plan)),
            DeadLetterPlan::Later | DeadLetterPlan::Loops | DeadLetterPlan::Nowhere => {
                shared.make_dead_letter_queue(self.namespace, &last_resort);
                Ok(Way::Later)
            }
        }
    }

    /// What leaves the queue, with its story.
    fn dead_letter(&self, shared: &Shared, departure: &Departure<Payload>, now: Now) -> Result<Story, StorageError> {
        let (message, arrived) = match &departure.payload {
            Some(payload) => payload.message().map_err(|error| self.unreadable(&error))?,
            None => self.message_at(shared, departure.offset)?,
        };
        Ok(self.with_story(message, arrived, &departure.reason, &departure.history, now))
    }

    fn with_story(
        &self,
        mut message: Message,
        arrived: Timestamp,
        reason: &LeaveReason,
        history: &History,
        now: Now,
    ) -> Story {
        let path = path_after(&message, &self.name, reason);
        let deaths = Deaths::with(&message, arrived, &self.name, reason, now.wall);
        message.headers.retain(|(name, _)| !is_story(name));
        message.not_before = None;
        message.expires_at = None;
        let time = |time: Option<Timestamp>| time.map(Value::Timestamp);
        let error = history.last_error.as_deref().map(Value::from);
        let values = [
            Some(Value::from(reason.name())),
            Some(Value::from(&*self.name)),
            Some(Value::int(i64::from(history.attempts))),
            error,
            time(history.first_failed),
            time(history.last_failed),
            Some(Value::Timestamp(now.wall)),
            (!path.is_empty()).then(|| Value::List(path.iter().map(|name| Value::from(name.as_str())).collect())),
        ];
        for (name, value) in DEAD_LETTER_HEADERS.into_iter().zip(values) {
            if let Some(value) = value {
                message.headers.push((Text::from_static(name), value));
            }
        }
        deaths.write(&mut message.headers);
        (message, path)
    }
}

/// The queues that a message left by itself, this one included. A consumer that failed it has touched it: nothing is left of its way then.
fn path_after(message: &Message, queue: &str, reason: &LeaveReason) -> Vec<String> {
    if !matches!(reason, LeaveReason::Expired | LeaveReason::Overflow) {
        return Vec::new();
    }
    let before = match message.header(PATH_HEADER) {
        Some(Value::List(names)) => names.iter().filter_map(Value::as_text).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let mut path: Vec<String> = before;
    path.push(queue.to_owned());
    path
}

impl QueueGuard<'_> {
    /// Tries a departure again after a while. Its message is read again then: many may be waiting.
    pub(crate) fn stall(&mut self, mut departure: Departure<Payload>) {
        departure.payload = None;
        self.stalled.push(departure);
        self.tick_after(STALLED_WAIT);
    }

    /// Where a dead letter came from: the queue that its headers name.
    pub(crate) fn source_of(message: &Message) -> Option<&str> {
        message.header("ph-dead-letter-queue").and_then(Value::as_text)
    }
}
