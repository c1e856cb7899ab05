//! Publishes: what is made up, and where it should get to.

use std::collections::BTreeSet;

use broker::definitions::DurabilityConfig;
use broker::queue::Settle;
use broker::{Expect, ExpectOf, ProducerStamp, PublishOptions, PublishTo, SettleError};
use types::{Clock, Message, MessageId, Offset, Text, Timestamp};

use crate::definitions::{bare, is_other};
use crate::fixtures::{OTHER_QUEUE, QUEUES, SUBJECTS};
use crate::model::{Copy, Facts, Leaves, There};
use crate::operation::{Expected, OpId, Operation, PublishedMessage, Publishing, Reply, Stamped, Verdict};
use crate::simulation::Simulation;

/// Most messages of one publish.
pub(crate) const BATCH: usize = 4;

impl Simulation {
    pub(crate) fn publish(&mut self) {
        let Some((to, publishing, messages, options)) = self.compose(true) else { return };
        let id = self.begin(Operation::Publish(publishing.clone()), format!("publish {}", describe(&publishing)));
        self.expect_copies(id, &publishing);
        let session = self.life().session_of(&publishing.to);
        self.start(id, async move { Reply::Published(session.publish(&to, messages, options).await) });
    }

    /// Acknowledges a delivery and publishes what it led to.
    pub(crate) fn pass_on(&mut self) {
        let Some(held) = self.pick() else { return };
        let Some((to, publishing, messages, _)) = self.compose(false) else { return self.model.held.push(held) };
        if is_other(&self.model.name_of(held.queue)) != is_other(&publishing.to) {
            // What leads from one namespace to another takes two calls.
            self.planned.clear();
            self.planned_logs.clear();
            return self.model.held.push(held);
        }
        let settling = self.settling(&held, Settle::Ack);
        let receipt = held.receipt;
        let text = format!("pass on {:?} and publish {}", held.copy, describe(&publishing));
        let id = self.begin(Operation::PassOn(settling, publishing.clone()), text);
        self.model.may_leave(held.copy, id);
        self.expect_copies(id, &publishing);
        let session = self.life().session_of(&publishing.to);
        self.start(id, async move {
            let result: Result<_, SettleError> = session.ack_and_publish(receipt, vec![(to, messages)]).await;
            Reply::PassedOn(result)
        });
    }

    /// Makes up a publish. With `all`, one that may ask for more than to be stored.
    fn compose(&mut self, all: bool) -> Option<(PublishTo, Publishing, Vec<Message>, PublishOptions)> {
        let mut options = PublishOptions::default();
        let topics: Vec<String> = self.model.definitions.topics.keys().cloned().collect();
        let queues: Vec<&str> =
            QUEUES.into_iter().chain([OTHER_QUEUE]).filter(|name| self.model.definitions.takes(name)).collect();
        let into_topic = self.rng.bool() && !topics.is_empty();
        let name = match into_topic {
            true => self.rng.choice(&topics)?.clone(),
            false => (*self.rng.choice(&queues)?).to_owned(),
        };
        let mut publishing = Publishing { to: name.clone(), ..Publishing::default() };
        if into_topic {
            publishing.topic = self.model.definitions.topic_id(&name);
        }
        let is_kv = into_topic && name == "kv";
        // One at a time where the order among calls under way would decide.
        if is_kv && self.model.publishing().any(|other| other.to == "kv") {
            return None;
        }
        if all && into_topic && name == "trail" && self.rng.u8(..) < 120 {
            let messages = self.stamp(&mut publishing, &mut options)?;
            return Some((PublishTo::Topic(name), publishing, messages, options));
        }
        if all && is_kv && self.rng.u8(..) < 160 {
            let messages = self.condition(&mut publishing, &mut options);
            return Some((PublishTo::Topic(name), publishing, messages, options));
        }
        if all && !into_topic && self.rng.u8(..) < 20 {
            (publishing.soft, options.durability) = (true, Some(DurabilityConfig::Os));
        }
        let count = if self.rng.bool() { 1 } else { self.rng.usize(1..=BATCH) };
        let mut messages = Vec::with_capacity(count);
        for _ in 0..count {
            let (num, mut message) = self.message();
            let mut published = PublishedMessage { num, copies: vec![], duplicate: false, repeats: None };
            if into_topic && name == "latest" {
                // One without a key would go by its subject, as the topic has an index.
                let (key, removes) = (self.rng.u8(0..3), self.rng.u8(..) < 60);
                message.key = Some(vec![b'k', key].into());
                message.body = message.body.filter(|_| !removes);
                let facts = self.model.messages.entry(num).or_default();
                (facts.key, facts.removes) = (Some(key), removes);
            }
            if all && !publishing.soft && self.rng.u8(..) < 80 {
                let dedup = format!("d{}", self.rng.u8(0..40));
                // An id that a call under way may have taken says nothing yet.
                let busy = self.model.publishing().any(|other| other.new_ids.keys().any(|(_, id)| *id == dedup));
                if !busy {
                    message.dedup_id = Some(Text::from(dedup.as_str()));
                }
            }
            self.route(&mut publishing, &mut published, into_topic, &message);
            publishing.messages.push(published);
            messages.push(message);
        }
        let name = bare(&name).to_owned();
        let to = if into_topic { PublishTo::Topic(name) } else { PublishTo::Queue(name) };
        Some((to, publishing, messages, options))
    }

    /// Says where a message should get to.
    fn route(
        &mut self,
        publishing: &mut Publishing,
        published: &mut PublishedMessage,
        into_topic: bool,
        message: &Message,
    ) {
        let definitions = &self.model.definitions;
        let subject = String::from_utf8_lossy(&message.subject).into_owned();
        let dedup = message.dedup_id.as_ref().map(|id| id.to_string());
        let (queues, topics) = match into_topic {
            true => definitions.route(&publishing.to, &subject),
            false => (BTreeSet::from([publishing.to.clone()]), BTreeSet::new()),
        };
        let num = published.num;
        // The message that has its dedup id already.
        let first = |window, publishing: &mut Publishing| {
            let key = (window, dedup.clone()?);
            let first = self.model.taken.get(&key).or_else(|| publishing.new_ids.get(&key)).copied();
            if first.is_none() {
                publishing.new_ids.insert(key, num);
            }
            first
        };
        if let Some(topic) = publishing.topic
            && definitions.topics[&publishing.to].1.dedup_window_ms.is_some()
            && let Some(first) = first(topic, publishing)
        {
            (published.duplicate, published.repeats) = (true, Some(first));
            return;
        }
        for name in queues {
            let (queue, config) = &definitions.queues[&name];
            if config.dedup_window_ms.is_some() && first(*queue, publishing).is_some() {
                published.duplicate = true;
                continue;
            }
            let copy = (published.num, u32::try_from(published.copies.len()).expect("few"));
            published.copies.push(copy);
            self.planned.push((copy, *queue));
        }
        self.planned_logs.extend(topics.iter().filter_map(|name| Some((definitions.topic_id(name)?, published.num))));
    }

    /// A publish with a producer's stamp: a new one, one that was sent before, or one that leaves something out.
    fn stamp(&mut self, publishing: &mut Publishing, options: &mut PublishOptions) -> Option<Vec<Message>> {
        let topic = publishing.topic?;
        let name = format!("p{}", self.rng.u8(0..3));
        let is_busy = |other: &Publishing| other.producer.as_ref().is_some_and(|stamp| stamp.name == name);
        if self.model.publishing().any(is_busy) {
            return None;
        }
        let producer = self.model.producers.get(&(topic, name.clone())).cloned().unwrap_or_default();
        let choice = self.rng.u8(0..10);
        let (first, firsts, verdict) = match (choice, producer.last) {
            (0..3, Some((first, nums))) => (first, nums.into_iter().map(Some).collect(), Verdict::Duplicate),
            (3, Some(_)) => (producer.next + 3, vec![None], Verdict::OutOfOrder),
            _ => (producer.next, vec![None; self.rng.usize(1..=BATCH)], Verdict::New),
        };
        let mut messages = Vec::new();
        for repeats in firsts {
            let (num, message) = self.message();
            let mut published = PublishedMessage { num, copies: vec![], duplicate: repeats.is_some(), repeats };
            if verdict == Verdict::New {
                self.route(publishing, &mut published, true, &message);
            }
            publishing.messages.push(published);
            messages.push(message);
        }
        publishing.producer = Some(Stamped { name: name.clone(), first, verdict });
        options.producer = Some(ProducerStamp { id: name, epoch: 1, sequence: first });
        Some(messages)
    }

    /// A publish on the condition that the key's last value is the one that we know, or another.
    fn condition(&mut self, publishing: &mut Publishing, options: &mut PublishOptions) -> Vec<Message> {
        let (num, mut message) = self.message();
        let key = self.rng.u8(0..3);
        message.key = Some(vec![b'k', key].into());
        if let Some(facts) = self.model.messages.get_mut(&num) {
            facts.key = Some(key);
        }
        let topic = publishing.topic.expect("a topic");
        let actual = self.model.versions(topic).get(&key).copied();
        let right = self.rng.u8(0..4) > 0;
        let version = match (right, actual) {
            (true, version) => version,
            (false, None) => Some(Offset(3)),
            (false, Some(version)) => version.0.checked_sub(1).map(Offset),
        };
        publishing.expect = Some(Expected { right, actual });
        options.expect = Some(Expect { of: ExpectOf::Key, version });
        let mut published = PublishedMessage { num, copies: vec![], duplicate: false, repeats: None };
        self.route(publishing, &mut published, true, &message);
        publishing.messages.push(published);
        vec![message]
    }

    /// A message with its number as its body.
    fn message(&mut self) -> (u32, Message) {
        let num = self.model.next;
        self.model.next += 1;
        let rng = &mut self.rng;
        let wall = self.clock.now().wall.0;
        let key = (rng.u8(..) < 150).then(|| rng.u8(0..3));
        let priority = if rng.u8(..) < 60 { rng.u8(0..6) } else { 0 };
        let not_before = (rng.u8(..) < 20).then(|| wall + rng.i64(500..8_000));
        let expires_at = (rng.u8(..) < 16).then(|| wall + rng.i64(1_000..30_000));
        let body = format!("{num} {}", "x".repeat(rng.usize(0..200)));
        let subject = rng.choice(SUBJECTS).expect("some");
        let waits = not_before.is_some();
        let facts = Facts { key, priority, expires_at, waits, wall, ..Facts::default() };
        self.model.messages.insert(num, facts);
        let message = Message {
            id: Some(MessageId::Text(Text::from(format!("m{num}").as_str()))),
            key: key.map(|key| vec![b'k', key].into()),
            priority: Some(priority),
            not_before: not_before.map(Timestamp),
            expires_at: expires_at.map(Timestamp),
            ..Message::new(subject, body)
        };
        (num, message)
    }

    /// Enters what a publish should lead to.
    fn expect_copies(&mut self, id: OpId, publishing: &Publishing) {
        for message in &publishing.messages {
            let facts = self.model.messages.entry(message.num).or_default();
            (facts.submitted, facts.is_single) = (id.0, message.copies.len() == 1);
        }
        for (copy, at) in std::mem::take(&mut self.planned) {
            let copied = Copy {
                at,
                offset: None,
                there: There::Maybe(id),
                leaves: Leaves::No,
                story: None,
                rejected: false,
                direct: true,
                confirmed: None,
            };
            self.model.copies.insert(copy, copied);
        }
        let logs = std::mem::take(&mut self.planned_logs);
        self.model.maybe_logged.extend(logs.into_iter().map(|(topic, num)| (id, topic, num)));
    }
}

fn describe(publishing: &Publishing) -> String {
    let one = |message: &PublishedMessage| {
        format!("{}*{}{}", message.num, message.copies.len(), if message.duplicate { " again" } else { "" })
    };
    let messages: Vec<String> = publishing.messages.iter().map(one).collect();
    let stamp =
        publishing.producer.as_ref().map(|stamp| format!(" as {} {}: {:?}", stamp.name, stamp.first, stamp.verdict));
    let expect = publishing.expect.as_ref().map(|expect| format!(" if it is {:?}: {}", expect.actual, expect.right));
    let soft = if publishing.soft { " unsynced" } else { "" };
    format!(
        "{} to {}{}{}{soft}",
        messages.join(", "),
        publishing.to,
        stamp.unwrap_or_default(),
        expect.unwrap_or_default()
    )
}
