//! Declares what a service needs: durable topic exchanges, durable queues without arguments, bindings.
//!
//! A queue has no arguments (but for priorities, where they are asked for) so that any version of either broker, and any other client, declares the
//! same one. What queues cannot do here the SDK does on top of them.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use tokio::time::{Instant, timeout_at};

use super::faults;
use super::link::Link;
use super::waits::passive_queue;
use crate::transport::{ConflictPolicy, QueueSpec, TopicSpec, Topology, TransportError};

/// Priorities are bytes.
const MAX_PRIORITY_LEVELS: u32 = 256;

/// Declares all of a topology.
///
/// # Errors
/// It needs what AMQP has not, or is there and another, or is not allowed.
pub(super) async fn topology(link: &Link, topology: &Topology) -> Result<(), TransportError> {
    if link.closing.is_cancelled() {
        return Err(TransportError::Closed);
    }
    topology.topics.iter().try_for_each(check_topic)?;
    topology.queues.iter().try_for_each(check_queue)?;
    let deadline = link.deadline();
    for topic in &topology.topics {
        let step = Step { what: format!("topic {:?}", topic.name), kind: Kind::Exchange(topic) };
        step.run(link, deadline).await?;
    }
    for queue in &topology.queues {
        let dead_letters = queue.dead_letter_queue();
        let step = Step { what: format!("queue {dead_letters:?}"), kind: Kind::DeadLetters(&dead_letters) };
        step.run(link, deadline).await?;
        let step = Step { what: format!("queue {:?}", queue.name), kind: Kind::Queue(queue) };
        step.run(link, deadline).await?;
    }
    for binding in &topology.bindings {
        let what = format!("topic {:?} or queue {:?}", binding.topic, binding.queue);
        let kind = Kind::Binding {
            topic: name(&binding.topic)?,
            queue: name(&binding.queue)?,
            pattern: name(&binding.subject)?,
        };
        Step { what, kind }.run(link, deadline).await?;
    }
    Ok(())
}

fn name(name: &str) -> Result<ShortString, TransportError> {
    ShortString::try_new(name)
        .map_err(|_| TransportError::Invalid(format!("the name {name:?} is longer than AMQP's 255 bytes")))
}

fn unsupported(what: &'static str, instead: String) -> Result<(), TransportError> {
    Err(TransportError::Unsupported { transport: super::NAME, what, instead })
}

fn check_topic(topic: &TopicSpec) -> Result<(), TransportError> {
    name(&topic.name)?;
    let of = &topic.name;
    if topic.retention.is_some() || topic.partitions > 1 {
        let instead = format!("declare topic {of:?} without a log, and give each of its readers a queue of its own");
        return unsupported("replay", instead);
    }
    if topic.key_index {
        return unsupported("key_index", format!("keep the state that topic {of:?} would be read for in a database"));
    }
    Ok(())
}

fn check_queue(queue: &QueueSpec) -> Result<(), TransportError> {
    name(&queue.dead_letter_queue())?;
    let of = &queue.name;
    if queue.keyed {
        let instead = format!("consume queue {of:?} with one handler at a time, or have handlers check versions");
        return unsupported("keyed", instead);
    }
    if queue.dedup_window.is_some() {
        return unsupported("dedup", format!("use the inbox of an idempotent consumer on queue {of:?}"));
    }
    if queue.priority_levels.is_some_and(|levels| !(2..=MAX_PRIORITY_LEVELS).contains(&levels)) {
        return Err(TransportError::Invalid(format!("queue {of:?} has priority levels that are not 2 to 256")));
    }
    Ok(())
}

/// One declaration.
struct Step<'a> {
    what: String,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Exchange(&'a TopicSpec),
    Queue(&'a QueueSpec),
    DeadLetters(&'a str),
    Binding { topic: ShortString, queue: ShortString, pattern: ShortString },
}

impl Step<'_> {
    async fn run(&self, link: &Link, deadline: Instant) -> Result<(), TransportError> {
        loop {
            let error = match self.once(link, deadline).await? {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if link.again(&error, deadline).await {
                continue;
            }
            if faults::is_conflict(&error) && self.is_left_as_it_is() {
                tracing::warn!(what = %self.what, %error, "it is there and another than declared; it is left as it is");
                return Ok(());
            }
            return Err(faults::transport_error(&error, &self.what, &link.address));
        }
    }

    /// A channel of its own for each, since the broker closes it for an error.
    async fn once(&self, link: &Link, deadline: Instant) -> Result<lapin::Result<()>, TransportError> {
        let channel = link.channel_by(deadline).await?;
        timeout_at(deadline, self.declare(&channel)).await.map_err(|_| link.unavailable())
    }

    const fn is_left_as_it_is(&self) -> bool {
        match &self.kind {
            Kind::Exchange(topic) => matches!(topic.conflict, ConflictPolicy::Keep),
            Kind::Queue(queue) => matches!(queue.conflict, ConflictPolicy::Keep),
            // Whoever set this one up otherwise (a bound, a lifetime) did it for a reason, and it takes dead letters all the same.
            Kind::DeadLetters(_) => true,
            Kind::Binding { .. } => false,
        }
    }

    async fn declare(&self, channel: &Channel) -> lapin::Result<()> {
        let none = FieldTable::default();
        match &self.kind {
            Kind::Exchange(topic) => {
                let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(topic.name.as_str().into(), ExchangeKind::Topic, options, none).await
            }
            Kind::Queue(queue) => {
                let mut arguments = none;
                if let Some(levels) = queue.priority_levels {
                    arguments.insert("x-max-priority".into(), AMQPValue::LongLongInt(i64::from(levels) - 1));
                }
                channel.queue_declare(queue.name.as_str().into(), durable(), arguments).await.map(drop)
            }
            Kind::DeadLetters(queue) => channel.queue_declare((*queue).into(), durable(), none).await.map(drop),
            Kind::Binding { topic, queue, pattern } => {
                let (queue, topic, pattern) = (queue.clone(), topic.clone(), pattern.clone());
                channel.queue_bind(queue, topic, pattern, QueueBindOptions::default(), none).await
            }
        }
    }
}

fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

/// How many messages of a queue are ready.
///
/// # Errors
/// There is no such queue, or no connection.
pub(super) async fn ready(link: &Link, queue: &str) -> Result<u64, TransportError> {
    let deadline = link.deadline();
    let queue_name = name(queue)?;
    loop {
        let channel = link.channel_by(deadline).await?;
        let asked = channel.queue_declare(queue_name.clone(), passive_queue(), FieldTable::default());
        match timeout_at(deadline, asked).await.map_err(|_| link.unavailable())? {
            Ok(queue) => return Ok(queue.message_count().into()),
            Err(error) if link.again(&error, deadline).await => {}
            Err(error) => return Err(faults::transport_error(&error, &format!("queue {queue:?}"), &link.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::transport::RetentionSpec;

    fn lacks(result: Result<(), TransportError>) -> &'static str {
        match result {
            Err(TransportError::Unsupported { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_amqp_has_not_is_refused_by_name() {
        let queue = QueueSpec::new("q");
        assert_eq!(check_queue(&queue), Ok(()));
        assert_eq!(lacks(check_queue(&QueueSpec { keyed: true, ..queue.clone() })), "keyed");
        let window = Some(Duration::from_secs(60));
        assert_eq!(lacks(check_queue(&QueueSpec { dedup_window: window, ..queue.clone() })), "dedup");
        assert!(check_queue(&QueueSpec { priority_levels: Some(1), ..queue }).is_err());
        let topic = TopicSpec::new("t");
        assert_eq!(check_topic(&topic), Ok(()));
        let retention = Some(RetentionSpec::default());
        assert_eq!(lacks(check_topic(&TopicSpec { retention, ..topic.clone() })), "replay");
        assert_eq!(lacks(check_topic(&TopicSpec { key_index: true, ..topic })), "key_index");
    }
}
