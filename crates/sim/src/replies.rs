//! What an answer means for the model.

use broker::queue::Settle;
use broker::views::{Delivered, Position, Published};
use broker::{DeclareError, PublishError, ReplayError, SettleError, StorageError};
use types::{EntityId, Message, MessageId, Offset};

use crate::model::{Held, Leaves, Model, There};
use crate::operation::{CopyId, Num, OpId, Operation, PublishedMessage, Publishing, Reply, Settling, Verdict};

/// What may be the reason of a refusal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// The disk was short of space in this life.
    pub(crate) full: bool,
    /// A write or a sync failed in this life, or the disk died.
    pub(crate) failed: bool,
    /// More than half of the reserve was gone at some time in this life.
    pub(crate) low: bool,
}

/// What an error says of the storage.
pub(crate) enum Ended {
    /// Nothing happened.
    Refused,
    Unknown,
}

impl Faults {
    /// What draining needs passes on a full disk, as long as half of the reserve is there.
    fn check_drains(self, error: &StorageError) {
        assert!(self.low || !matches!(error, StorageError::Full(_)), "refused for want of space, above the reserve");
    }

    pub(crate) fn storage(self, error: &StorageError) -> Ended {
        match error {
            StorageError::Full(_) => assert!(self.full, "the disk is not full: {error}"),
            StorageError::Failed(_) => assert!(self.failed, "nothing has failed: {error}"),
            StorageError::Unknown(_) => {
                assert!(self.failed, "nothing has failed: {error}");
                return Ended::Unknown;
            }
            // A disk that is dead cannot be read either.
            StorageError::Damaged(_) => assert!(self.failed, "nothing has failed: {error}"),
            other => panic!("unexpected: {other}"),
        }
        Ended::Refused
    }
}

pub(crate) fn number(one: &Delivered) -> Num {
    number_in(&one.message)
}

/// The number of a message.
pub(crate) fn number_in(message: &Message) -> Num {
    match (&message.body, &message.id) {
        (None, Some(MessageId::Text(id))) => {
            id.to_string().strip_prefix('m').and_then(|number| number.parse().ok()).expect("an id of ours")
        }
        (body, _) => number_of(body.as_deref().unwrap_or_default()),
    }
}

/// The number that a body begins with.
fn number_of(body: &[u8]) -> Num {
    let text = std::str::from_utf8(body).expect("a body of ours");
    text.split(' ').next().and_then(|number| number.parse().ok()).expect("a body of ours")
}

impl Model {
    /// Takes up an answer. Gives a line for the trace.
    pub(crate) fn reply(&mut self, id: OpId, reply: Reply, faults: Faults) -> String {
        let step = self.tick();
        let operation = self.open.remove(&id).expect("a call that is open");
        let unknown = match (&operation, &reply) {
            (Operation::Publish(publishing), Reply::Published(result)) => {
                self.published(id, publishing, result, faults)
            }
            (Operation::PassOn(settling, publishing), Reply::PassedOn(result)) => {
                self.passed_on(id, settling, publishing, result, faults)
            }
            (Operation::Settle(all), Reply::Settled(results)) => {
                assert_eq!(all.len(), results.len(), "one answer each");
                let mut unknown = false;
                for (settling, result) in all.iter().zip(results) {
                    unknown |= self.settled(id, settling, result, faults);
                }
                unknown
            }
            (Operation::Receive(receiving), Reply::Received(result)) => self.received(receiving, result, faults),
            (Operation::Purge(copies), Reply::Purged(result)) => self.purged(id, copies, result, faults),
            (Operation::Define(_), Reply::Defined(result)) => match result {
                Ok(()) => false,
                Err(DeclareError::Storage(error)) => {
                    faults.check_drains(error);
                    matches!(faults.storage(error), Ended::Unknown)
                }
                // In use, not there, exists otherwise: the definitions as shown say whether that is right.
                Err(DeclareError::Access(error)) => panic!("{error}"),
                Err(_) => false,
            },
            (Operation::Commit(name, offsets), Reply::Moved(result)) => match result {
                Ok(()) => {
                    let group = self.definitions.groups.get(name).map(|(id, _)| *id).expect("a group");
                    self.groups.entry(group).or_default().extend(offsets.iter().copied());
                    false
                }
                Err(ReplayError::Storage(error)) => {
                    faults.check_drains(error);
                    matches!(faults.storage(error), Ended::Unknown)
                }
                Err(error) => panic!("{error}"),
            },
            (Operation::Tick, Reply::Ticked(_)) => false,
            (operation, reply) => panic!("{operation:?} was answered with {reply:?}"),
        };
        let line = format!("{step} #{} {}", id.0, summary(&reply));
        if unknown {
            self.open.insert(id, operation);
        }
        line
    }

    fn published(
        &mut self,
        id: OpId,
        publishing: &Publishing,
        result: &Result<Vec<Published>, PublishError>,
        faults: Faults,
    ) -> bool {
        match result {
            Ok(published) => self.stored(id, publishing, published),
            Err(PublishError::Storage(error)) if matches!(faults.storage(error), Ended::Unknown) => return true,
            Err(error) => {
                assert!(!publishing.seen, "it was refused, and delivered all the same: {error}");
                self.check_refusal(publishing, error, faults);
                self.forget(id);
            }
        }
        false
    }

    fn check_refusal(&self, publishing: &Publishing, error: &PublishError, faults: Faults) {
        match error {
            PublishError::Storage(error) => drop(faults.storage(error)),
            PublishError::QueueFull { queue, .. } => assert!(queue.starts_with("once"), "{queue} has no bound"),
            PublishError::WrongVersion { actual } => {
                let expect = publishing.expect.as_ref().expect("it was conditional");
                assert_eq!(*actual, expect.actual, "the version is another");
                assert!(!expect.right, "the version was right");
            }
            PublishError::OutOfSequence { .. } => {
                let stamp = publishing.producer.as_ref().expect("it was stamped");
                assert_eq!(stamp.verdict, Verdict::OutOfOrder, "{error}");
            }
            other => panic!("unexpected: {other}"),
        }
    }

    /// All of a publish was stored.
    fn stored(&mut self, id: OpId, publishing: &Publishing, published: &[Published]) {
        assert_eq!(publishing.messages.len(), published.len(), "one answer each");
        assert!(publishing.expect.as_ref().is_none_or(|expect| expect.right), "the version was wrong");
        let verdict = publishing.producer.as_ref().map(|stamp| stamp.verdict);
        assert_ne!(verdict, Some(Verdict::OutOfOrder), "a sequence was left out");
        for (message, answer) in publishing.messages.iter().zip(published) {
            assert_eq!(message.duplicate, answer.duplicate, "{} is a duplicate or is not", message.num);
            if verdict != Some(Verdict::Duplicate) {
                assert_eq!(message.copies.len(), answer.queues as usize, "{} reached other queues", message.num);
            }
            if let Some(first) = message.repeats {
                self.check_repeat(publishing, first, answer.position);
            } else if let (Some(topic), Some(position)) = (publishing.topic, answer.position) {
                let log = self.logs.entry((topic, position.partition)).or_default();
                let before = log.insert(position.offset, message.num);
                assert!(before.is_none_or(|before| before == message.num), "{position:?} was taken by {before:?}");
                self.maybe_logged.retain(|(op, at, num)| (*op, *at, *num) != (id, topic, message.num));
            }
        }
        // Only now: the place of one in the same batch is not known when its duplicate is looked at.
        let is_told = |(message, answer): &(&PublishedMessage, &Published)| {
            message.repeats.is_none() && answer.position.is_some()
        };
        let told = publishing.messages.iter().zip(published).filter(is_told).map(|(message, _)| message.num);
        self.told.extend(told);
        self.promote_confirmed(id, publishing);
    }

    /// Who repeats a message is told where the first one is, if the broker can know it.
    fn check_repeat(&self, publishing: &Publishing, first: Num, position: Option<Position>) {
        let topic = publishing.topic.expect("only a topic's messages are repeated there");
        let place_of = |num: Num| {
            let logs = self.logs.range((topic, 0)..=(topic, u32::MAX));
            let mut all =
                logs.flat_map(|((_, partition), log)| log.iter().map(move |(at, num)| (*partition, *at, *num)));
            all.find_map(|(partition, offset, have)| (have == num).then_some(Position { partition, offset }))
        };
        if let Some(position) = position {
            assert_eq!(Some(position), place_of(first), "a duplicate is said to be where {first} is not");
            return;
        }
        // A batch is remembered by the place of its first message: the others must follow it.
        let batch = publishing.producer.as_ref().and_then(|stamp| {
            let producer = self.producers.get(&(topic, stamp.name.clone()))?;
            producer.last.as_ref().map(|(_, batch)| batch.clone())
        });
        let batch = batch.unwrap_or_else(|| vec![first]);
        let places: Vec<_> =
            batch.iter().map(|num| self.told.contains(num).then(|| place_of(*num)).flatten()).collect();
        let in_a_row = places.windows(2).all(|pair| match pair {
            [Some(one), Some(next)] => one.partition == next.partition && one.offset.next() == next.offset,
            _ => false,
        });
        assert!(
            places.contains(&None) || !in_a_row,
            "{first} is known to be at {places:?}, and its duplicate was not told so"
        );
    }

    fn promote_confirmed(&mut self, id: OpId, publishing: &Publishing) {
        let step = self.step;
        self.enter(id, publishing.soft);
        // Other topics' logs got their share: where, is not said.
        let (told, rest) = std::mem::take(&mut self.maybe_logged).into_iter().partition(|(op, ..)| *op == id);
        self.maybe_logged = rest;
        let told: Vec<(OpId, EntityId, Num)> = told;
        self.must_log.extend(told.into_iter().map(|(_, topic, num)| (topic, num)));
        self.taken.extend(publishing.new_ids.clone());
        if let (Some(topic), Some(stamp)) = (publishing.topic, &publishing.producer)
            && stamp.verdict == Verdict::New
        {
            let producer = self.producers.entry((topic, stamp.name.clone())).or_default();
            producer.next = stamp.first + publishing.messages.len() as u64;
            producer.last = Some((stamp.first, publishing.messages.iter().map(|one| one.num).collect()));
        }
        for (_, copy) in self.copies.iter_mut().filter(|(_, copy)| copy.there == There::Soft(id)) {
            copy.confirmed = Some(step);
        }
        if publishing.soft {
            self.soft.insert(id, step);
        } else if publishing.messages.iter().any(|message| !message.copies.is_empty()) {
            self.synced(id.0);
        }
    }

    /// A publish did not happen.
    pub(crate) fn forget(&mut self, id: OpId) {
        self.copies.retain(|_, copy| copy.there != There::Maybe(id));
        self.maybe_logged.retain(|(op, ..)| *op != id);
    }

    fn passed_on(
        &mut self,
        id: OpId,
        settling: &Settling,
        publishing: &Publishing,
        result: &Result<Vec<Published>, SettleError>,
        faults: Faults,
    ) -> bool {
        match result {
            Ok(published) => {
                self.copies.remove(&settling.copy);
                self.stored(id, publishing, published);
                return false;
            }
            Err(SettleError::Storage(error)) if matches!(faults.storage(error), Ended::Unknown) => return true,
            Err(SettleError::Publish(error)) => {
                self.check_refusal(publishing, error, faults);
                self.hold(settling);
            }
            Err(SettleError::Storage(_)) => self.hold(settling),
            Err(error) => self.check_late(settling, error),
        }
        assert!(!publishing.seen, "it was refused, and delivered all the same");
        self.stay(settling.copy, id);
        self.forget(id);
        false
    }

    /// The delivery is still out.
    fn hold(&mut self, settling: &Settling) {
        let queue = settling.receipt.queue;
        let Settling { receipt, copy, until, attempt, standing, .. } = *settling;
        if standing.is_none_or(|number| self.standing.contains(&number)) {
            self.held.push(Held { receipt, copy, queue, until, attempt, standing });
        }
    }

    /// So many attempts at a place are known to have failed.
    fn note_failure(&mut self, place: (EntityId, Offset), failed: u32) {
        let place = self.places.entry(place).or_default();
        place.least = place.least.max(failed);
    }

    fn stay(&mut self, copy: CopyId, op: OpId) {
        if let Some(copy) = self.copies.get_mut(&copy)
            && copy.leaves == Leaves::Maybe(op)
        {
            copy.leaves = Leaves::No;
        }
    }

    fn check_late(&self, settling: &Settling, error: &SettleError) {
        assert!(matches!(error, SettleError::Lease(_)), "unexpected: {error}");
        let is_gone = self.definitions.queue_name(settling.receipt.queue).is_none();
        // Of several queues one is settled after the other, so the time of the answer counts.
        assert!(settling.until <= self.now || is_gone, "{:?}: the lease had not run out, but {error}", settling.copy);
    }

    /// Takes up how one delivery ended; whether that is not known.
    fn settled(&mut self, id: OpId, settling: &Settling, result: &Result<(), SettleError>, faults: Faults) -> bool {
        let place = (settling.receipt.queue, settling.receipt.lease.offset);
        match (&settling.how, result) {
            (Settle::Ack, Ok(())) | (Settle::Reject { .. }, Ok(())) if settling.ends => {
                self.copies.remove(&settling.copy);
                self.synced(id.0);
            }
            (Settle::Nack { .. }, Ok(())) => {
                self.note_failure(place, settling.attempt);
            }
            (Settle::Reject { .. }, Ok(())) => {
                self.note_failure(place, settling.attempt);
                self.synced(id.0);
                if let Some(copy) = self.copies.get_mut(&settling.copy) {
                    copy.rejected = true;
                }
            }
            (_, Ok(())) => {}
            (how, Err(SettleError::Storage(error))) => {
                faults.check_drains(error);
                if let Ended::Unknown = faults.storage(error) {
                    return settling.ends;
                }
                assert!(
                    *how != Settle::Ack || !matches!(error, StorageError::Full(_)),
                    "an acknowledgement was refused for want of space, above the reserve"
                );
                self.stay(settling.copy, id);
            }
            (_, Err(error)) => {
                self.check_late(settling, error);
                self.stay(settling.copy, id);
            }
        }
        false
    }

    fn purged(&mut self, id: OpId, copies: &[CopyId], result: &Result<u64, DeclareError>, faults: Faults) -> bool {
        match result {
            Ok(count) => {
                assert_eq!(*count, copies.len() as u64, "a purge removes what waits");
                copies.iter().for_each(|copy| drop(self.copies.remove(copy)));
                if *count > 0 {
                    self.synced(id.0);
                }
            }
            Err(DeclareError::Storage(error)) => match faults.storage(error) {
                Ended::Unknown => return true,
                Ended::Refused => copies.iter().for_each(|copy| self.stay(*copy, id)),
            },
            Err(error) => panic!("unexpected: {error}"),
        }
        false
    }
}

fn summary(reply: &Reply) -> String {
    fn text<T>(result: &Result<T, impl std::fmt::Debug>, of: impl Fn(&T) -> String) -> String {
        match result {
            Ok(value) => of(value),
            Err(error) => format!("failed: {error:?}"),
        }
    }
    let published = |all: &Vec<Published>| {
        let one =
            |one: &Published| format!("{}q{:?}{}", one.queues, one.position, if one.duplicate { " dup" } else { "" });
        all.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let delivered = |all: &Vec<Delivered>| {
        let one = |one: &Delivered| format!("{}@{}/{}", number(one), one.receipt.lease.offset, one.attempt);
        all.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    match reply {
        Reply::Published(result) => format!("published {}", text(result, published)),
        Reply::Settled(results) => {
            let all: Vec<String> = results.iter().map(|result| text(result, |()| "ok".to_owned())).collect();
            format!("settled {}", all.join(", "))
        }
        Reply::PassedOn(result) => format!("passed on {}", text(result, published)),
        Reply::Received(result) => format!("received {}", text(result, delivered)),
        Reply::Purged(result) => format!("purged {}", text(result, u64::to_string)),
        Reply::Defined(result) => format!("defined {}", text(result, |()| "ok".to_owned())),
        Reply::Moved(result) => format!("moved {}", text(result, |()| "ok".to_owned())),
        Reply::Ticked(wait) => format!("ticked, next in {} ms", wait.as_millis()),
    }
}
