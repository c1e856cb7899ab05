//! Delays: queues without consumers in which messages wait until they are too old, and are dead-lettered to where they go.
//!
//! A broker looks at ages at the head of a queue alone, so all messages of one queue must wait equally long. Waits are rounded up to four
//! steps an octave (so that a message comes at most a quarter of its wait late), which makes some hundred waiting queues a destination at most:
//! `svc.wait.<queue>.<ms>` leads to the queue, and the exchange and queue `svc.wait-topic.<topic>.<ms>` to the topic. The exchange is there so that
//! the message keeps its subject as its routing key, which dead-lettering leaves alone.
//!
//! **A waiting queue goes away by itself, and never with messages in it.** A queue that nobody declares again for its `x-expires` is deleted, full
//! or not; publishing to it does not count. For a queue whose messages wait for `w`, `x-expires` is `2w + 10 min`, and nobody publishes to it who has
//! not declared it within the last `w/2 + 5 min`. A publish is tried for 4 minutes at most ([`MAX_CONFIRM_TIMEOUT`]), so the last message gets in
//! `w/2 + 9 min` after the declaration at the latest, and leaves at `w·3/2 + 9 min`: a minute and half its wait before the queue would go. A restart
//! of the broker begins all of this anew. The numbers follow from `w` alone: services of different settings declare the same queue.
//!
//! What is published is confirmed once it is in the waiting queue. If that is gone all the same (somebody deleted it), the publish comes back, and is
//! done again with a new declaration.

use std::collections::HashMap;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::faults;
use super::link::Link;
use super::options::MAX_CONFIRM_TIMEOUT;
use super::values::short;
use crate::transport::{PublishError, TransportError};

/// Shortest wait, in milliseconds.
const MIN_WAIT_MS: u64 = 16;
/// Longest wait: the longest step whose queue's `x-expires` fits into the 32 bits that brokers give it. 21 days and 17 hours.
pub(super) const MAX_WAIT_MS: u64 = 7 << 28;
/// What a waiting queue outlives twice its wait by.
const EXTRA_MS: u64 = 600_000;
/// Most waiting queues whose declaration is remembered; beyond it, all are forgotten and declared again.
const MAX_REMEMBERED: usize = 10_000;

/// Rounds a wait up to a step; `None` if it is too long.
fn round_up(wait_ms: u64) -> Option<u64> {
    if wait_ms <= MIN_WAIT_MS {
        return Some(MIN_WAIT_MS);
    }
    let quarter = 1 << (wait_ms.ilog2() - 2);
    let rounded = wait_ms.div_ceil(quarter).checked_mul(quarter)?;
    (rounded <= MAX_WAIT_MS).then_some(rounded)
}

/// How long a waiting queue stays without a new declaration.
const fn expires_ms(wait_ms: u64) -> u64 {
    2 * wait_ms + EXTRA_MS
}

/// How long a declaration is relied on.
const fn relied_on_ms(wait_ms: u64) -> u64 {
    wait_ms / 2 + EXTRA_MS / 2
}

// What the module's text promises.
const _: () = assert!(expires_ms(MAX_WAIT_MS) <= u32::MAX as u64);
const _: () =
    assert!(relied_on_ms(MIN_WAIT_MS) + MAX_CONFIRM_TIMEOUT.as_millis() as u64 + MIN_WAIT_MS < expires_ms(MIN_WAIT_MS));

/// Where a message goes when its wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    Topic(&'a str),
    Queue(&'a str),
}

/// A waiting queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wait<'a> {
    target: Target<'a>,
    /// The name of the queue, and of its exchange if it leads to a topic.
    pub(super) name: ShortString,
    wait_ms: u64,
}

impl<'a> Wait<'a> {
    /// The waiting queue for at least this long.
    ///
    /// # Errors
    /// [`PublishError::Refused`] if that is too long, or the destination's name is.
    pub(super) fn new(target: Target<'a>, wait_ms: u64) -> Result<Self, PublishError> {
        let Some(wait_ms) = round_up(wait_ms) else {
            return Err(PublishError::Refused(format!(
                "its delay of {} s is longer than the {} s that the amqp transport has; keep it, and publish it later",
                wait_ms / 1000,
                MAX_WAIT_MS / 1000
            )));
        };
        let name = match target {
            Target::Topic(topic) => format!("svc.wait-topic.{topic}.{wait_ms}"),
            Target::Queue(queue) => format!("svc.wait.{queue}.{wait_ms}"),
        };
        Ok(Self { target, name: short("the name of its waiting queue", &name)?, wait_ms })
    }

    async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let mut arguments = FieldTable::default();
        let mut set = |name: &str, value: AMQPValue| {
            arguments.insert(ShortString::from(name), value);
        };
        let number = |ms: u64| AMQPValue::LongLongInt(i64::try_from(ms).unwrap_or(i64::MAX));
        set("x-message-ttl", number(self.wait_ms));
        set("x-expires", number(expires_ms(self.wait_ms)));
        match self.target {
            Target::Queue(queue) => {
                // A wait for a queue that is not there would end in nothing, and nobody would hear of it.
                channel.queue_declare(ShortString::from(queue), passive_queue(), FieldTable::default()).await?;
                set("x-dead-letter-exchange", AMQPValue::LongString("".into()));
                set("x-dead-letter-routing-key", AMQPValue::LongString(queue.into()));
            }
            Target::Topic(topic) => {
                let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
                let topic_name = ShortString::from(topic);
                channel.exchange_declare(topic_name, ExchangeKind::Topic, passive, FieldTable::default()).await?;
                set("x-dead-letter-exchange", AMQPValue::LongString(topic.into()));
            }
        }
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(self.name.clone(), durable, arguments).await?;
        if matches!(self.target, Target::Topic(_)) {
            // It goes with its queue.
            let options =
                ExchangeDeclareOptions { durable: true, auto_delete: true, ..ExchangeDeclareOptions::default() };
            let (name, none) = (self.name.clone(), FieldTable::default());
            channel.exchange_declare(name.clone(), ExchangeKind::Fanout, options, none.clone()).await?;
            channel.queue_bind(name.clone(), name, ShortString::default(), QueueBindOptions::default(), none).await?;
        }
        Ok(())
    }
}

/// Asks whether a queue is there.
pub(super) fn passive_queue() -> QueueDeclareOptions {
    QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() }
}

/// The waiting queues that were declared, and when.
#[derive(Default)]
pub(super) struct Declared(Mutex<HashMap<ShortString, Instant>>);

impl Declared {
    /// Makes sure that a waiting queue is there, and stays for as long as it is needed.
    ///
    /// # Errors
    /// There is no such destination, or no connection in time.
    pub(super) async fn ensure(&self, link: &Link, wait: &Wait<'_>, deadline: Instant) -> Result<(), PublishError> {
        let relied_on = Duration::from_millis(relied_on_ms(wait.wait_ms));
        if self.0.lock().get(&wait.name).is_some_and(|when| when.elapsed() < relied_on) {
            return Ok(());
        }
        loop {
            let channel = link.channel_by(deadline).await.map_err(|error| unreached(link, error))?;
            // Counted from before: it is the broker's clock that runs from somewhere in between.
            let when = Instant::now();
            let declared = tokio::time::timeout_at(deadline, wait.declare(&channel)).await;
            match declared {
                Ok(Ok(())) => {
                    let mut declared = self.0.lock();
                    if declared.len() >= MAX_REMEMBERED {
                        declared.clear();
                    }
                    declared.insert(wait.name.clone(), when);
                    return Ok(());
                }
                Ok(Err(error)) if link.again(&error, deadline).await => {}
                Ok(Err(error)) if faults::is_not_found(&error) => {
                    return Err(PublishError::NotFound(match wait.target {
                        Target::Topic(topic) => format!("topic {topic:?}"),
                        Target::Queue(queue) => format!("queue {queue:?}"),
                    }));
                }
                Ok(Err(error)) if faults::is_of_channel(&error) => {
                    return Err(PublishError::Refused(format!("its waiting queue {}: {error}", wait.name)));
                }
                Ok(Err(_)) | Err(_) => {
                    return Err(PublishError::Unconfirmed { waited: link.options.confirm_timeout });
                }
            }
        }
    }

    /// It is gone.
    pub(super) fn forget(&self, wait: &Wait<'_>) {
        self.0.lock().remove(&wait.name);
    }
}

/// A publish for which there was no connection.
pub(super) fn unreached(link: &Link, error: TransportError) -> PublishError {
    match error {
        TransportError::Closed => PublishError::Closed,
        _ => PublishError::Unconfirmed { waited: link.options.confirm_timeout },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up_by_at_most_a_quarter() {
        let mut steps = std::collections::BTreeSet::new();
        let mut wait_ms = 1;
        while wait_ms <= MAX_WAIT_MS {
            let rounded = round_up(wait_ms).unwrap();
            assert!(rounded >= wait_ms && (wait_ms < MIN_WAIT_MS || rounded - wait_ms <= wait_ms / 4), "{wait_ms}");
            steps.insert(rounded);
            wait_ms += 1 + wait_ms / 100;
        }
        assert!(steps.len() <= 27 * 4, "{}", steps.len());
        assert_eq!(round_up(MAX_WAIT_MS), Some(MAX_WAIT_MS));
        assert_eq!(round_up(MAX_WAIT_MS + 1), None);
    }

    #[test]
    fn the_last_message_leaves_before_its_queue() {
        let tried_ms = u64::try_from(MAX_CONFIRM_TIMEOUT.as_millis()).unwrap();
        for wait_ms in [MIN_WAIT_MS, 1_000, 3_600_000, MAX_WAIT_MS] {
            let leaves_ms = relied_on_ms(wait_ms) + tried_ms + wait_ms;
            assert!(leaves_ms + 60_000 + wait_ms / 2 <= expires_ms(wait_ms), "{wait_ms}");
        }
    }

    #[test]
    fn names_say_where_and_how_long() {
        let name = |target, ms| Wait::new(target, ms).unwrap().name;
        assert_eq!(name(Target::Queue("billing"), 1000).as_str(), "svc.wait.billing.1024");
        assert_eq!(name(Target::Topic("orders"), 1500).as_str(), "svc.wait-topic.orders.1536");
        assert!(Wait::new(Target::Queue(&"q".repeat(250)), 1).is_err());
        assert!(Wait::new(Target::Queue("q"), MAX_WAIT_MS + 1).is_err());
    }
}
