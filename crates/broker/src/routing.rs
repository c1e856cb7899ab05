//! From messages and a destination to a plan: which batch goes to which log and queue. The plan reserves what it needs; it is then
//! committed as one, or dropped as one.

mod dead_letter;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use log::Durability;
use types::{EntityId, Message, MessageId, Now, Offset, Text};

use crate::dedup::{Dedup, DedupFull, DedupHash};
use crate::errors::PublishError;
use crate::filter::MessageFields;
use crate::live::LiveBuffer;
use crate::queue::Overflow;
use crate::queues::QueueOwner;
use crate::router::{RouteError, Routes};
use crate::shared::{Namespace, Shared};
use crate::topics::{Topic, dedup_record, from_place};
use crate::transaction::{Encoded, Owned, Selected, Spot, Transaction};
use crate::views::{Position, Published};

pub(crate) use dead_letter::DeadLetterPlan;

/// What a publish leads to. Dropped without [`into_transaction`](Self::into_transaction), it gives back what it reserved.
pub(crate) struct Plan {
    shared: Arc<Shared>,
    now: Now,
    durability: Option<Durability>,
    /// The same, if no message need outlive the process.
    transient_durability: Durability,
    queues: Vec<QueueShare>,
    topics: Vec<TopicShare>,
    live: Vec<(Arc<Message>, Vec<Arc<LiveBuffer>>)>,
    /// Reserved ids, and the results that they belong to.
    topic_dedup: Vec<(Arc<Topic>, Vec<ReservedId>)>,
    /// Messages through a topic, and how many of them went nowhere.
    counts: Vec<(Arc<Topic>, u64, u64)>,
    bytes: u64,
    /// Dedup ids that this plan has reserved: another message with one of them is its duplicate.
    own_ids: HashSet<(EntityId, DedupHash)>,
    /// A message repeats one that another publish is writing.
    must_wait: bool,
    /// Queues that a topic may not lead a dead letter to, by name.
    avoid: Vec<String>,
    /// Whether it led to one of them.
    avoided: bool,
    /// Whether full queues are passed over.
    pub(crate) partial: bool,
    /// The topic that messages are being planned for.
    through: Option<Arc<str>>,
    /// What full queues refused that dead-letter it.
    turned_away: Vec<TurnedAway>,
    pub(crate) results: Vec<Published>,
}

/// A message, and the full queue that refused it.
pub(crate) type TurnedAway = (Arc<QueueOwner>, Message);

/// A dedup id that is reserved in a topic's window, and the result of the message that has it.
type ReservedId = (DedupHash, usize);

/// A queue's share of a batch; room is reserved for it.
struct QueueShare {
    queue: Arc<QueueOwner>,
    batch: Arc<Encoded>,
    selected: Selected,
    dedup: Vec<DedupHash>,
}

/// A partition's share of a batch.
struct TopicShare {
    topic: Arc<Topic>,
    partition: u32,
    owned: Owned,
    batch: Arc<Encoded>,
    selected: Selected,
    /// The publish's result that each record of the batch belongs to, if this is the topic that was published to.
    results: Vec<usize>,
    expected_end: Option<Offset>,
}

/// Where the router leads a batch: the messages' indexes, by queue and by log.
struct Reached {
    queues: Vec<(Arc<QueueOwner>, Vec<u32>)>,
    logs: Vec<(Arc<Topic>, Vec<u32>)>,
}

/// Messages by where they go. Those of a batch mostly take the same way, so a target is looked for in its turn first.
#[derive(Default)]
struct ByTarget {
    all: Vec<(EntityId, Vec<u32>)>,
    places: HashMap<EntityId, usize>,
}

impl ByTarget {
    /// Message `at` has this target, as the `turn`th of its targets.
    fn push(&mut self, turn: usize, target: EntityId, at: u32) {
        if let Some((_, indexes)) = self.all.get_mut(turn).filter(|(known, _)| *known == target) {
            indexes.push(at);
            return;
        }
        let next = self.all.len();
        let place = *self.places.entry(target).or_insert(next);
        match self.all.get_mut(place) {
            Some((_, indexes)) => indexes.push(at),
            None => self.all.push((target, vec![at])),
        }
    }

    fn sorted(mut self) -> Vec<(EntityId, Vec<u32>)> {
        self.all.sort_unstable_by_key(|(target, _)| *target);
        self.all
    }
}

/// Which of a publish's results the records of a batch belong to.
#[derive(Clone, Copy)]
enum Places<'a> {
    /// They follow each other from this one on.
    From(usize),
    /// One for each record.
    Listed(&'a [usize]),
}

impl Places<'_> {
    fn get(self, at: u32) -> Option<usize> {
        match self {
            Self::From(first) => Some(first + at as usize),
            Self::Listed(all) => all.get(at as usize).copied(),
        }
    }
}

/// Where to find the positions of what was written.
pub(crate) struct Placed {
    operation: usize,
    partition: u32,
    /// Result and offset delta.
    results: Vec<(usize, u32)>,
}

impl Placed {
    fn spots(&self) -> impl Iterator<Item = (usize, Spot)> {
        let spot = |delta| Spot { operation: self.operation, partition: self.partition, delta };
        self.results.iter().map(move |(result, delta)| (*result, spot(*delta)))
    }

    /// Where the first of so many messages is, if they all went to one partition one after another.
    pub(crate) fn in_a_row(placed: &[Self], messages: usize) -> Option<Spot> {
        let mut with_results = placed.iter().filter(|placed| !placed.results.is_empty());
        let (only, None) = (with_results.next()?, with_results.next()) else { return None };
        let in_order = (0..messages).zip(0u32..).eq(only.results.iter().copied());
        (in_order && messages > 0).then_some(Spot { operation: only.operation, partition: only.partition, delta: 0 })
    }
}

impl Plan {
    pub(crate) fn new(shared: &Arc<Shared>, now: Now) -> Self {
        Self {
            shared: Arc::clone(shared),
            now,
            durability: None,
            transient_durability: Durability::Memory,
            queues: Vec::new(),
            topics: Vec::new(),
            live: Vec::new(),
            topic_dedup: Vec::new(),
            counts: Vec::new(),
            bytes: 0,
            own_ids: HashSet::new(),
            must_wait: false,
            avoid: Vec::new(),
            avoided: false,
            partial: false,
            through: None,
            turned_away: Vec::new(),
            results: Vec::new(),
        }
    }

    /// Weakest durability that satisfies all that the plan touches, unless one was set.
    fn at_least(&mut self, durability: Durability, transient: Durability) {
        self.durability = self.durability.max(Some(durability));
        self.transient_durability = self.transient_durability.max(transient);
    }

    /// Adds messages for one queue. Messages have their ids.
    ///
    /// # Errors
    /// If the queue is full, or a message cannot be encoded.
    pub(crate) fn for_queue(&mut self, queue: &Arc<QueueOwner>, messages: &[Message]) -> Result<(), PublishError> {
        let first = self.begin_results(messages);
        self.through = None;
        let batch = self.encode(messages, false, None)?;
        self.share(queue, &batch, messages, None, Places::From(first))
    }

    /// Adds messages published through a topic.
    ///
    /// # Errors
    /// If a queue is full, a message cannot be encoded, or routing fails.
    pub(crate) fn for_topic(
        &mut self,
        namespace: &Namespace,
        topic: &Arc<Topic>,
        messages: &[Message],
        partition: Option<u32>,
    ) -> Result<(), PublishError> {
        let first = self.begin_results(messages);
        self.through = Some(Arc::clone(&topic.name));
        let fresh = self.topic_duplicates(topic, messages, first)?;
        let definition = topic.definition();
        self.counts.push((Arc::clone(topic), fresh.len() as u64, 0));
        let partitions = topic.partitions();
        for (partition, group) in group_by_partition(topic, messages, &fresh, partition, partitions.len())? {
            let subset: Vec<Message>;
            let chosen = if group.len() == messages.len() {
                messages
            } else {
                subset = group.iter().filter_map(|at| messages.get(*at).cloned()).collect();
                &subset
            };
            let results: Vec<usize> = group.iter().map(|at| first + at).collect();
            let reached = self.reach(namespace, topic, chosen)?;
            let index_subject = topic.indexes_subjects() || reached.logs.iter().any(|(log, _)| log.indexes_subjects());
            let batch = self.encode(chosen, index_subject, Some(&topic.name))?;
            if let Some(owned) = partition.and_then(|number| partitions.get(number as usize)) {
                let resolved = &definition.resolved;
                self.at_least(resolved.durability.into(), resolved.transient_durability.into());
                self.topics.push(TopicShare {
                    topic: Arc::clone(topic),
                    partition: partition.unwrap_or(0),
                    owned: *owned,
                    batch: Arc::clone(&batch),
                    selected: None,
                    results: results.clone(),
                    expected_end: None,
                });
            }
            for (other, indexes) in reached.logs {
                for at in indexes.iter().filter_map(|at| results.get(*at as usize)) {
                    if let Some(result) = self.results.get_mut(*at) {
                        result.logs += 1;
                    }
                }
                self.share_with_log(&other, &batch, chosen, &indexes);
            }
            for (queue, indexes) in reached.queues {
                if self.avoid.iter().any(|name| *name == *queue.name) {
                    self.avoided = true;
                    continue;
                }
                let selected = all_or(indexes, &batch);
                self.share(&queue, &batch, chosen, selected, Places::Listed(&results))?;
            }
        }
        if definition.config.live != Some(false) {
            self.fan_out(namespace, Some(&topic.name), messages, &fresh, first);
        }
        Ok(())
    }

    /// Adds messages for live subscriptions only.
    pub(crate) fn for_live(&mut self, namespace: &Namespace, messages: &[Message]) {
        let first = self.begin_results(messages);
        let all: Vec<usize> = (0..messages.len()).collect();
        self.fan_out(namespace, None, messages, &all, first);
    }

    /// The only partition's share, for a conditional publish: it is refused if the log's end is not this.
    pub(crate) fn expect_end(&mut self, end: Offset) {
        for share in &mut self.topics {
            if !share.results.is_empty() {
                share.expected_end = Some(end);
            }
        }
    }

    /// Whether a message repeats one that is being written by another publish: drop the plan, and make it anew once that has ended.
    pub(crate) fn must_wait(&self) -> bool {
        self.must_wait
    }

    /// What to do with a message by its dedup id: whether it is new.
    fn is_new(&mut self, window: EntityId, id: DedupHash, verdict: Dedup) -> bool {
        match verdict {
            Dedup::New => {
                self.own_ids.insert((window, id));
                true
            }
            Dedup::Pending => {
                self.must_wait |= !self.own_ids.contains(&(window, id));
                false
            }
            Dedup::Duplicate { .. } => false,
        }
    }

    /// Overrides what the topics and queues ask for.
    pub(crate) fn set_durability(&mut self, durability: Durability) {
        self.durability = Some(durability);
    }

    /// No message need outlive the process: only what is stated for where they go counts.
    pub(crate) fn is_transient(&mut self) {
        self.durability = Some(self.transient_durability);
    }

    fn begin_results(&mut self, messages: &[Message]) -> usize {
        let first = self.results.len();
        self.results.extend(messages.iter().map(unplaced));
        first
    }

    fn encode(
        &mut self,
        messages: &[Message],
        index_subject: bool,
        topic: Option<&str>,
    ) -> Result<Arc<Encoded>, PublishError> {
        let batch = Encoded::new(messages, self.now, index_subject, topic)
            .map_err(|why| PublishError::Invalid { field: "message".to_owned(), why })?;
        self.bytes += batch.batch.size_bytes() as u64;
        Ok(Arc::new(batch))
    }

    /// Reserves the topic's dedup ids, and gives the indexes of the messages that are new.
    fn topic_duplicates(
        &mut self,
        topic: &Arc<Topic>,
        messages: &[Message],
        first: usize,
    ) -> Result<Vec<usize>, PublishError> {
        if !topic.has_dedup() {
            return Ok((0..messages.len()).collect());
        }
        let mut fresh = Vec::with_capacity(messages.len());
        self.topic_dedup.push((Arc::clone(topic), Vec::new()));
        for (at, message) in messages.iter().enumerate() {
            if let Some(id) = &message.dedup_id {
                let id = DedupHash::of(id.bytes());
                let full = |full: DedupFull| PublishError::DedupFull {
                    entity: format!("topic {:?}", &*topic.name),
                    limit: full.capacity as u64,
                };
                let verdict = topic.reserve_dedup(id, self.now).map_err(full)?;
                if !self.is_new(topic.id, id, verdict) {
                    self.mark_duplicate(first + at);
                    if let (Dedup::Duplicate { offset }, Some(result)) = (verdict, self.results.get_mut(first + at)) {
                        result.position = from_place(offset);
                    }
                    continue;
                }
                if let Some((_, ids)) = self.topic_dedup.last_mut() {
                    ids.push((id, first + at));
                }
            }
            fresh.push(at);
        }
        Ok(fresh)
    }

    fn mark_duplicate(&mut self, result: usize) {
        if let Some(result) = self.results.get_mut(result) {
            result.duplicate = true;
        }
    }

    fn refuse(&mut self, queue: &Arc<QueueOwner>, message: Option<&Message>, result: Option<usize>) {
        if let Some(message) = message
            && queue.definition().resolved.rules.overflow == Overflow::RejectDeadLetter
        {
            let message = Message { topic: self.through.as_deref().map(Text::from), ..message.clone() };
            self.turned_away.push((Arc::clone(queue), message));
        }
        if let Some(result) = result.and_then(|result| self.results.get_mut(result)) {
            result.refused += 1;
        }
    }

    /// Asks the router.
    fn reach(
        &mut self,
        namespace: &Namespace,
        topic: &Arc<Topic>,
        messages: &[Message],
    ) -> Result<Reached, PublishError> {
        let mut queues = ByTarget::default();
        let mut logs = ByTarget::default();
        let mut routes = Routes::default();
        let mut unrouted = 0;
        let reached = {
            let entities = namespace.entities.read();
            for (at, message) in (0u32..).zip(messages) {
                entities.router.route(topic.id, &MessageFields::new(message), &mut routes).map_err(route_failure)?;
                for (turn, queue) in routes.queues.iter().enumerate() {
                    queues.push(turn, queue.queue, at);
                }
                for (turn, log) in routes.logs.iter().filter(|log| **log != topic.id).enumerate() {
                    logs.push(turn, *log, at);
                }
                if routes.is_empty() {
                    unrouted += 1;
                }
            }
            let queues: Vec<_> = queues
                .sorted()
                .into_iter()
                .filter_map(|(id, at)| Some((Arc::clone(entities.queues_by_id.get(&id)?), at)))
                .collect();
            let logs: Vec<_> = logs
                .sorted()
                .into_iter()
                .filter_map(|(id, at)| Some((Arc::clone(entities.topics_by_id.get(&id)?), at)))
                .collect();
            Reached { queues, logs }
        };
        self.counts.push((Arc::clone(topic), 0, unrouted));
        Ok(reached)
    }

    /// A log further down the route gets its share, partition by partition.
    fn share_with_log(&mut self, topic: &Arc<Topic>, batch: &Arc<Encoded>, messages: &[Message], indexes: &[u32]) {
        let partitions = topic.partitions();
        let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        let mut shares: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for at in indexes {
            if let Some(message) = messages.get(*at as usize) {
                shares.entry(topic.partition_for(message, count)).or_default().push(*at);
            }
        }
        self.counts.push((Arc::clone(topic), indexes.len() as u64, 0));
        let definition = topic.definition();
        self.at_least(definition.resolved.durability.into(), definition.resolved.transient_durability.into());
        for (partition, indexes) in shares {
            let Some(owned) = partitions.get(partition as usize) else { continue };
            self.topics.push(TopicShare {
                topic: Arc::clone(topic),
                partition,
                owned: *owned,
                batch: Arc::clone(batch),
                selected: all_or(indexes, batch),
                results: Vec::new(),
                expected_end: None,
            });
        }
    }

    /// A queue gets its share: what it has seen already is left out, and room is reserved.
    fn share(
        &mut self,
        queue: &Arc<QueueOwner>,
        batch: &Arc<Encoded>,
        messages: &[Message],
        selected: Selected,
        results: Places<'_>,
    ) -> Result<(), PublishError> {
        let (count, bytes) = batch.load(&selected);
        match queue.reserve(count, bytes) {
            Some(true) => {
                self.has_share(queue, batch, selected, Vec::new(), results);
                return Ok(());
            }
            Some(false) if !self.partial => return Err(queue_full(queue)),
            Some(false) | None => {}
        }
        let mut guard = queue.lock(self.now);
        let (mut wanted, mut dedup) = (Vec::new(), Vec::new());
        let mut reserved_bytes = 0;
        for at in chosen(&selected, batch) {
            let mut new = None;
            let id = messages.get(at as usize).and_then(|message| message.dedup_id.as_ref());
            if let (Some(window), Some(id)) = (&mut guard.dedup, id) {
                let id = DedupHash::of(id.bytes());
                match window.reserve(self.now, id) {
                    Ok(verdict) if self.is_new(queue.id, id, verdict) => new = Some(id),
                    Ok(_) => {
                        if let Some(result) = results.get(at) {
                            self.mark_duplicate(result);
                        }
                        continue;
                    }
                    Err(full) => {
                        guard.cancel_dedup(&dedup);
                        if self.partial {
                            guard.unreserve(wanted.len() as u64, reserved_bytes);
                        }
                        let (entity, limit) = (format!("queue {:?}", &*queue.name), full.capacity as u64);
                        return Err(PublishError::DedupFull { entity, limit });
                    }
                }
            }
            if self.partial {
                let weight = batch.metas.get(at as usize).map_or(0, |meta| u64::from(meta.weight));
                if !guard.machine.reserve(1, weight) {
                    guard.cancel_dedup(new.as_slice());
                    if let Some(id) = new {
                        self.own_ids.remove(&(queue.id, id));
                    }
                    self.refuse(queue, messages.get(at as usize), results.get(at));
                    continue;
                }
                reserved_bytes += weight;
            }
            dedup.extend(new);
            wanted.push(at);
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let selected = all_or(wanted, batch);
        let (count, bytes) = batch.load(&selected);
        if !self.partial && !guard.machine.reserve(count, bytes) {
            guard.cancel_dedup(&dedup);
            return Err(queue_full(queue));
        }
        drop(guard);
        self.has_share(queue, batch, selected, dedup, results);
        Ok(())
    }

    /// A queue's room and dedup ids are reserved.
    fn has_share(
        &mut self,
        queue: &Arc<QueueOwner>,
        batch: &Arc<Encoded>,
        selected: Selected,
        dedup: Vec<DedupHash>,
        results: Places<'_>,
    ) {
        self.at_least(queue.durability(), queue.transient_durability());
        let mut count = |at: u32| {
            if let Some(result) = results.get(at).and_then(|result| self.results.get_mut(result)) {
                result.queues += 1;
            }
        };
        match &selected {
            Some(indexes) => indexes.iter().for_each(|at| count(*at)),
            None => (0..).take(batch.metas.len()).for_each(count),
        }
        self.queues.push(QueueShare { queue: Arc::clone(queue), batch: Arc::clone(batch), selected, dedup });
    }

    fn fan_out(
        &mut self,
        namespace: &Namespace,
        topic: Option<&str>,
        messages: &[Message],
        fresh: &[usize],
        first: usize,
    ) {
        if namespace.live.is_empty() {
            return;
        }
        for at in fresh {
            let Some(message) = messages.get(*at) else { continue };
            let to = namespace.live.matches(&message.subject, &message.also);
            if to.is_empty() {
                continue;
            }
            if let Some(result) = self.results.get_mut(first + at) {
                result.live += u32::try_from(to.len()).unwrap_or(u32::MAX);
            }
            // It may wait long for a slow subscriber, which must not keep the whole frame that it came in.
            let mut message = message.detached();
            message.topic = topic.map(Text::from);
            message.timestamp.get_or_insert(self.now.wall);
            self.live.push((Arc::new(message), to));
        }
    }

    /// What full queues refused that dead-letter it. The plan does not do so any more.
    pub(crate) fn take_turned_away(&mut self) -> Vec<TurnedAway> {
        std::mem::take(&mut self.turned_away)
    }

    /// Hands the plan over to a transaction; gives where to find the positions of what is written.
    pub(crate) fn into_transaction(mut self, transaction: &mut Transaction) -> (Vec<Placed>, Vec<Published>) {
        transaction.at_least(self.durability.unwrap_or(Durability::Memory));
        transaction.holds(self.bytes);
        let mut placed = Vec::new();
        for (queue, message) in self.take_turned_away() {
            queue.turn_away(&self.shared, transaction, message, self.now);
        }
        for share in self.topics.drain(..) {
            let operation =
                transaction.append(&share.topic, share.owned, &share.batch, &share.selected, share.expected_end);
            let deltas = share.batch.metas.iter().map(|meta| meta.delta);
            placed.push(Placed {
                operation,
                partition: share.partition,
                results: share.results.into_iter().zip(deltas).collect(),
            });
        }
        for share in self.queues.drain(..) {
            // A few dozen bytes a record: they fit a batch whenever the messages did.
            if !share.dedup.is_empty() {
                let records =
                    share.queue.lock(self.now).dedup.as_ref().map(|window| dedup_record(window, &share.dedup));
                let _ = share.queue.state.record(transaction, &records.unwrap_or_default(), self.now);
            }
            transaction.enqueue(&share.queue, &share.batch, share.selected, share.dedup);
        }
        let spots: HashMap<usize, Spot> = match self.topic_dedup.is_empty() {
            true => HashMap::new(),
            false => placed.iter().flat_map(Placed::spots).collect(),
        };
        for (topic, mut ids) in self.topic_dedup.drain(..) {
            // What nothing took is not taken: to publish it again is no repetition.
            let results = &self.results;
            let is_taken = |at: usize| spots.contains_key(&at) || results.get(at).is_none_or(Published::is_taken);
            topic.cancel_dedup(ids.extract_if(.., |(_, at)| !is_taken(*at)).map(|(id, _)| id));
            let hashes: Vec<DedupHash> = ids.iter().map(|(id, _)| *id).collect();
            let _ = topic.state.record(transaction, &topic.dedup_record(&hashes), self.now);
            transaction.topic_dedup(&topic, ids.iter().map(|(id, at)| (*id, spots.get(at).copied())).collect());
        }
        for (message, to) in self.live.drain(..) {
            transaction.live(message, to);
        }
        for (topic, published, unrouted) in self.counts.drain(..) {
            transaction.counted(&topic, published, unrouted);
        }
        (placed, std::mem::take(&mut self.results))
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        for share in self.queues.drain(..) {
            let (messages, bytes) = share.batch.load(&share.selected);
            let mut guard = share.queue.lock(self.now);
            guard.cancel_dedup(&share.dedup);
            guard.unreserve(messages, bytes);
        }
        for (topic, ids) in self.topic_dedup.drain(..) {
            topic.cancel_dedup(ids.into_iter().map(|(id, _)| id));
        }
        self.shared.flush();
    }
}

/// What is known of a message before it reached anything.
pub(crate) fn unplaced(message: &Message) -> Published {
    let id = message.id.clone().unwrap_or(MessageId::Uuid([0; 16]));
    Published { id, queues: 0, refused: 0, logs: 0, position: None, duplicate: false, live: 0 }
}

/// Messages straight for one queue that looks at no dedup ids: most of what a plan does is not needed then. Room is reserved.
#[must_use = "the room stays reserved"]
pub(crate) struct Straight(Encoded);

impl Straight {
    /// `None` if they are to be planned: the queue is full, looks at each message, or one cannot be encoded.
    pub(crate) fn reserve(queue: &QueueOwner, messages: &[Message], now: Now) -> Option<Self> {
        let batch = Encoded::new(messages, now, false, None).ok()?;
        let (count, bytes) = batch.load(&None);
        (queue.reserve(count, bytes) == Some(true)).then_some(Self(batch))
    }

    /// Adds them to a transaction, which gives the room back if it fails.
    pub(crate) fn commit_with(self, transaction: &mut Transaction, queue: &Arc<QueueOwner>) {
        transaction.holds(self.0.batch.size_bytes() as u64);
        transaction.enqueue(queue, &Arc::new(self.0), None, Vec::new());
    }
}

/// Fills in where messages were written.
pub(crate) fn place(placed: &[Placed], written: &[log::Written], results: &mut [Published]) {
    for place in placed {
        let Some(written) = written.get(place.operation) else { continue };
        for (result, delta) in &place.results {
            if let Some(result) = results.get_mut(*result) {
                let offset = written.base.plus(u64::from(*delta));
                result.position = Some(Position { partition: place.partition, offset });
            }
        }
    }
}

/// A partition, or none if the topic keeps no log, and the indexes of its messages.
type PartitionGroup = (Option<u32>, Vec<usize>);

/// The messages of each partition, by index; one group without a partition if the topic keeps no log.
fn group_by_partition(
    topic: &Topic,
    messages: &[Message],
    fresh: &[usize],
    wanted: Option<u32>,
    count: usize,
) -> Result<Vec<PartitionGroup>, PublishError> {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    if let Some(wanted) = wanted
        && wanted >= count
    {
        return Err(PublishError::NotFound { entity: format!("partition {wanted} of topic {:?}", &*topic.name) });
    }
    if fresh.is_empty() {
        return Ok(Vec::new());
    }
    if count <= 1 || wanted.is_some() {
        let partition = wanted.or((count == 1).then_some(0));
        return Ok(vec![(partition, fresh.to_vec())]);
    }
    let mut groups: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for at in fresh {
        if let Some(message) = messages.get(*at) {
            groups.entry(topic.partition_for(message, count)).or_default().push(*at);
        }
    }
    Ok(groups.into_iter().map(|(partition, group)| (Some(partition), group)).collect())
}

/// A selection of these indexes, or all if it is all of them.
fn all_or(indexes: Vec<u32>, batch: &Encoded) -> Selected {
    (indexes.len() != batch.metas.len()).then_some(indexes)
}

fn chosen(selected: &Selected, batch: &Encoded) -> Vec<u32> {
    match selected {
        Some(indexes) => indexes.clone(),
        None => (0..).take(batch.metas.len()).collect(),
    }
}

fn queue_full(queue: &QueueOwner) -> PublishError {
    let rules = queue.rules();
    let messages = rules.max_messages.map(|max| format!("max_messages {max}"));
    let bytes = rules.max_bytes.map(|max| format!("max_bytes {max}"));
    let limit = messages.into_iter().chain(bytes).collect::<Vec<_>>().join(", ");
    PublishError::QueueFull { queue: queue.name.to_string(), limit }
}

fn route_failure(error: RouteError) -> PublishError {
    PublishError::Invalid { field: "topic".to_owned(), why: error.to_string() }
}
