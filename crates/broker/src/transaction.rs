//! One commit, and what it means for the state machines once it has ended.
//!
//! Every change of durable state goes through here: a publish, an acknowledgement, a dead-letter move, an acknowledgement with
//! what it led to. Machines are told in the order of the commits, because the log calls completions in that order.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use log::batch::{RecordBatch, RecordBlock};
use log::{Append, Commit, CommitOutcome, Durability, Operation, Refusal, Target, Written};
use tokio::sync::OwnedMutexGuard;
use types::{Epoch, LogId, Message, Now, Offset};

use crate::dedup::DedupHash;
use crate::errors::StorageError;
use crate::live::LiveBuffer;
use crate::queue::{Departure, Out, Purge, RetryRecord, Run};
use crate::queues::QueueOwner;
use crate::record::{Meta, Payload};
use crate::shared::Shared;
use crate::topics::Topic;
use crate::views::Position;

/// Operations that happen together, and their consequences.
#[derive(Default)]
pub(crate) struct Transaction {
    operations: Vec<Target>,
    after: Vec<After>,
    durability: Option<Durability>,
    bytes: u64,
    barrier: bool,
    uses_reserve: bool,
}

/// What follows an operation. If the commit fails, each is undone instead.
enum After {
    /// Records reached a queue.
    Enqueue {
        queue: Arc<QueueOwner>,
        operation: usize,
        batch: Arc<Encoded>,
        selected: Option<Vec<u32>>,
        dedup: Vec<DedupHash>,
    },
    /// Messages left a queue.
    Departed { queue: Arc<QueueOwner>, offsets: Vec<Offset>, undo: Undo },
    /// All messages that waited in a queue were removed. Holds the queue's turn to purge.
    Purged { queue: Arc<QueueOwner>, purge: Purge, retries: Vec<RetryRecord>, _turn: OwnedMutexGuard<()> },
    /// Records reached a topic's log.
    Appended { topic: Arc<Topic> },
    /// A topic's dedup ids are taken.
    TopicDedup { topic: Arc<Topic>, ids: Vec<(DedupHash, Option<Spot>)> },
    /// Messages passed through a topic.
    Counted { topic: Arc<Topic>, published: u64, unrouted: u64 },
    /// A message that a full queue refused went where its dead letters go.
    TurnedAway { queue: Arc<QueueOwner> },
    /// Messages for live subscribers.
    Live { message: Arc<Message>, to: Vec<Arc<LiveBuffer>> },
}

/// What becomes of messages whose leaving was refused.
pub(crate) enum Undo {
    /// They are ready again.
    Ready,
    /// These deliveries are out again.
    Out(Vec<Out>),
    /// Leaving is tried again later.
    Stall(Departure<Payload>),
}

/// A batch with what machines must know of its records.
pub(crate) struct Encoded {
    pub(crate) batch: RecordBatch,
    pub(crate) block: Arc<RecordBlock>,
    pub(crate) metas: Vec<Meta>,
    /// Of all records.
    weight: u64,
    /// No record has a time of its own: without rules of the queue's, they are ready as they come.
    is_plain: bool,
}

/// Why a commit did not end well.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CommitFailure {
    /// It did not happen.
    Refused(Refusal),
    /// It may have happened.
    Unknown(String),
}

impl From<CommitFailure> for StorageError {
    fn from(failure: CommitFailure) -> Self {
        match failure {
            CommitFailure::Unknown(why) => Self::Unknown(why),
            CommitFailure::Refused(refusal) => {
                let text = refusal.to_string();
                match refusal {
                    Refusal::DiskFull { .. } => Self::Full(text),
                    Refusal::Poisoned(_) => Self::Failed(text),
                    Refusal::Overloaded { .. } => Self::Overloaded(text),
                    Refusal::Damaged(_) => Self::Damaged(text),
                    _ => Self::Unavailable(text),
                }
            }
        }
    }
}

/// A log and the epoch under which this broker owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) log: LogId,
    pub(crate) epoch: Epoch,
}

impl Owned {
    pub(crate) fn target(self, operation: Operation) -> Target {
        Target { log: self.log, epoch: self.epoch, expected_end: None, operation }
    }
}

/// How a batch's records are chosen for one target: those with these indexes, ascending; all of them if `None`.
pub(crate) type Selected = Option<Vec<u32>>;

impl Encoded {
    /// Encodes messages, published through this topic if one is given, and says what machines must know.
    ///
    /// # Errors
    /// Says in words what cannot be encoded.
    pub(crate) fn new(
        messages: &[Message],
        now: Now,
        index_subject: bool,
        topic: Option<&str>,
    ) -> Result<Self, String> {
        let encoded = crate::record::encode(messages, now.wall, index_subject, topic);
        let (batch, metas) = encoded.map_err(|error| error.to_string())?;
        let block = Arc::new(batch.block().map_err(|error| error.to_string())?);
        let weight = metas.iter().map(|meta| u64::from(meta.weight)).sum();
        let is_plain = metas.iter().all(|meta| meta.not_before.is_none());
        Ok(Self { batch, block, metas, weight, is_plain })
    }

    fn chosen<'a>(&'a self, selected: &'a Selected) -> Box<dyn Iterator<Item = &'a Meta> + 'a> {
        match selected {
            None => Box::new(self.metas.iter()),
            Some(indexes) => Box::new(indexes.iter().filter_map(|at| self.metas.get(*at as usize))),
        }
    }

    /// Number and weight of the chosen records.
    pub(crate) fn load(&self, selected: &Selected) -> (u64, u64) {
        if selected.is_none() {
            return (self.metas.len() as u64, self.weight);
        }
        self.chosen(selected).fold((0, 0), |(count, bytes), meta| (count + 1, bytes + u64::from(meta.weight)))
    }

    fn append(&self, selected: &Selected) -> Append {
        let selection = selected.as_ref().map(|_| {
            let mut ranges: Vec<std::ops::Range<u32>> = Vec::new();
            for meta in self.chosen(selected) {
                match ranges.last_mut() {
                    Some(last) if last.end == meta.delta => last.end += 1,
                    _ => ranges.push(meta.delta..meta.delta + 1),
                }
            }
            ranges
        });
        Append { batch: self.batch.clone(), selection, weight: self.load(selected).1 }
    }
}

impl Transaction {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// At least this durability.
    pub(crate) fn at_least(&mut self, durability: Durability) {
        self.durability = self.durability.max(Some(durability));
    }

    /// Adds an operation as it is; gives its index among what was written.
    pub(crate) fn operation(&mut self, target: Target) -> usize {
        self.operations.push(target);
        self.operations.len() - 1
    }

    /// Records for a queue, whose room is reserved; they are given back to it if the commit fails.
    pub(crate) fn enqueue(
        &mut self,
        queue: &Arc<QueueOwner>,
        batch: &Arc<Encoded>,
        selected: Selected,
        dedup: Vec<DedupHash>,
    ) {
        let operation = self.operation(queue.owned().target(Operation::Append(batch.append(&selected))));
        self.after.push(After::Enqueue {
            queue: Arc::clone(queue),
            operation,
            batch: Arc::clone(batch),
            selected,
            dedup,
        });
    }

    /// Records for a topic's partition; gives the operation's index.
    pub(crate) fn append(
        &mut self,
        topic: &Arc<Topic>,
        partition: Owned,
        batch: &Arc<Encoded>,
        selected: &Selected,
        expected_end: Option<Offset>,
    ) -> usize {
        let mut target = partition.target(Operation::Append(batch.append(selected)));
        target.expected_end = expected_end;
        self.after.push(After::Appended { topic: Arc::clone(topic) });
        self.operation(target)
    }

    /// Messages that leave a queue.
    pub(crate) fn depart(&mut self, queue: &Arc<QueueOwner>, mut offsets: Vec<Offset>, weight: u64, undo: Undo) {
        offsets.sort_unstable();
        let mut ranges: Vec<std::ops::Range<Offset>> = Vec::new();
        for offset in &offsets {
            match ranges.last_mut() {
                Some(last) if last.end == *offset => last.end = offset.next(),
                _ => ranges.push(*offset..offset.next()),
            }
        }
        self.operation(queue.owned().target(Operation::Delete { ranges, weight }));
        self.after.push(After::Departed { queue: Arc::clone(queue), offsets, undo });
    }

    /// All messages that waited in a queue go. `retries` are the failed ones among them, to be known again should the commit be refused.
    pub(crate) fn purge(
        &mut self,
        queue: &Arc<QueueOwner>,
        purge: Purge,
        retries: Vec<RetryRecord>,
        turn: OwnedMutexGuard<()>,
    ) {
        let mut ranges = Vec::with_capacity(purge.keep.len() + 1);
        let mut from = Offset::ZERO;
        for keep in purge.keep.iter().chain([&purge.before]) {
            if from < *keep {
                ranges.push(from..*keep);
            }
            from = keep.next();
        }
        self.operation(queue.owned().target(Operation::Delete { ranges, weight: purge.weight }));
        self.after.push(After::Purged { queue: Arc::clone(queue), purge, retries, _turn: turn });
    }

    /// Dedup ids reserved in a topic's window.
    pub(crate) fn topic_dedup(&mut self, topic: &Arc<Topic>, ids: Vec<(DedupHash, Option<Spot>)>) {
        self.after.push(After::TopicDedup { topic: Arc::clone(topic), ids });
    }

    /// Messages that a topic counts once they are durable, and how many of them went nowhere.
    pub(crate) fn counted(&mut self, topic: &Arc<Topic>, published: u64, unrouted: u64) {
        if published + unrouted > 0 {
            self.after.push(After::Counted { topic: Arc::clone(topic), published, unrouted });
        }
    }

    /// A message that a full queue refused goes where its dead letters go.
    pub(crate) fn turned_away(&mut self, queue: &Arc<QueueOwner>) {
        self.after.push(After::TurnedAway { queue: Arc::clone(queue) });
    }

    /// A message for live subscribers, once everything is durable.
    pub(crate) fn live(&mut self, message: Arc<Message>, to: Vec<Arc<LiveBuffer>>) {
        self.after.push(After::Live { message, to });
    }

    /// Counts bytes that stay in memory until the end.
    pub(crate) fn holds(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Ends only once everything submitted before it is durable, even if it has nothing to write itself.
    pub(crate) fn barrier(&mut self) {
        self.barrier = true;
        self.at_least(Durability::Fsync);
    }

    /// Lets it pass on a full disk, since a full disk cannot be drained without it. What it appends must be small.
    pub(crate) fn uses_reserve(&mut self) {
        self.uses_reserve = true;
    }

    /// Commits. `done` is called after the machines have been told.
    pub(crate) fn submit(
        self,
        shared: &Arc<Shared>,
        done: impl FnOnce(Result<Vec<Written>, CommitFailure>) + Send + 'static,
    ) {
        let Self { operations, after, durability, bytes, barrier, uses_reserve } = self;
        if operations.is_empty() && !barrier {
            finish(shared, after, &[]);
            done(Ok(Vec::new()));
            return;
        }
        let held = shared.memory.hold(bytes);
        let completion = {
            let shared = Arc::clone(shared);
            move |outcome| {
                let result = match outcome {
                    CommitOutcome::Committed(written) => Ok(written),
                    CommitOutcome::Refused(refusal) => Err(CommitFailure::Refused(refusal)),
                    CommitOutcome::Unknown(why) => Err(CommitFailure::Unknown(why)),
                };
                match &result {
                    Ok(written) => finish(&shared, after, written),
                    Err(_) => undo(&shared, after),
                }
                drop(held);
                done(result);
            }
        };
        let durability = durability.unwrap_or_default();
        shared.log.commit(Commit { durability, operations, uses_reserve }, Box::new(completion));
    }

    /// Commits and waits for the end. Once begun it ends even if nobody waits.
    pub(crate) async fn commit(self, shared: &Arc<Shared>) -> Result<Vec<Written>, CommitFailure> {
        let (send, receive) = tokio::sync::oneshot::channel();
        self.submit(shared, move |result| drop(send.send(result)));
        receive.await.unwrap_or_else(|_| Err(CommitFailure::Unknown("the storage stopped".to_owned())))
    }

    /// Undoes what was reserved, without committing.
    pub(crate) fn cancel(self, shared: &Arc<Shared>) {
        undo(shared, self.after);
    }
}

/// Where a record will be once its commit has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot {
    /// The operation that writes it.
    pub(crate) operation: usize,
    pub(crate) partition: u32,
    /// Its offset in the batch.
    pub(crate) delta: u32,
}

impl Spot {
    pub(crate) fn position(self, written: &[Written]) -> Option<Position> {
        let base = written.get(self.operation)?.base;
        Some(Position { partition: self.partition, offset: base.plus(u64::from(self.delta)) })
    }
}

fn finish(shared: &Arc<Shared>, after: Vec<After>, written: &[Written]) {
    let now = shared.clock.now();
    for step in after {
        match step {
            After::Enqueue { queue, operation, batch, selected, dedup } => {
                let Some(written) = written.get(operation) else { continue };
                let mut guard = queue.lock(now);
                guard.confirm_dedup(&dedup);
                let sorts = queue.sorts();
                let arrival = |meta: &Meta| meta.arrival(written.base, &batch.block, sorts);
                match batch.metas.first() {
                    Some(first) if selected.is_none() && !sorts && batch.is_plain => {
                        let (count, weight) = batch.load(&selected);
                        let run = Run { first: written.base, count, weight, arrived: first.arrived };
                        guard.enqueue_run(run, batch.metas.iter().map(arrival));
                    }
                    _ => batch.chosen(&selected).for_each(|meta| guard.enqueue(arrival(meta))),
                }
            }
            After::Departed { queue, offsets, .. } => {
                let mut guard = queue.lock(now);
                for offset in offsets {
                    guard.departed(offset);
                }
            }
            After::Purged { queue, purge, retries, .. } => {
                let mut guard = queue.lock(now);
                let kept = |offset: &Offset| purge.keep.binary_search(offset).is_ok();
                for retry in retries.into_iter().filter(|retry| !kept(&retry.offset)) {
                    guard.recorded.remove(retry.offset.0);
                }
            }
            After::Appended { topic } => topic.appended(),
            After::TopicDedup { topic, ids } => {
                topic.confirm_dedup(
                    ids.into_iter().map(|(id, spot)| (id, spot.and_then(|spot| spot.position(written)))),
                );
            }
            After::Counted { topic, published, unrouted } => {
                topic.published.fetch_add(published, Ordering::Relaxed);
                topic.unrouted.fetch_add(unrouted, Ordering::Relaxed);
            }
            After::TurnedAway { queue } => {
                queue.count_departure(true, now);
                shared.count_departure(true);
            }
            After::Live { message, to } => {
                for buffer in to {
                    shared.count_live(buffer.push(&message));
                }
            }
        }
    }
}

fn undo(shared: &Arc<Shared>, after: Vec<After>) {
    let now = shared.clock.now();
    for step in after {
        match step {
            After::Enqueue { queue, batch, selected, dedup, .. } => {
                let (messages, bytes) = batch.load(&selected);
                let mut guard = queue.lock(now);
                guard.cancel_dedup(&dedup);
                guard.unreserve(messages, bytes);
            }
            After::Departed { queue, offsets, undo } => {
                let mut guard = queue.lock(now);
                match undo {
                    Undo::Ready => offsets.into_iter().for_each(|offset| guard.restore(offset)),
                    Undo::Out(out) => out.into_iter().for_each(|out| guard.restore_out(out)),
                    Undo::Stall(departure) => guard.stall(departure),
                }
            }
            After::Purged { queue, purge, retries, .. } => queue.lock(now).machine.unpurge(&purge, retries),
            After::TopicDedup { topic, ids } => topic.cancel_dedup(ids.into_iter().map(|(id, _)| id)),
            After::Appended { .. } | After::Counted { .. } | After::TurnedAway { .. } | After::Live { .. } => {}
        }
    }
}
