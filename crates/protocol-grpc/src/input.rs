//! What requests say, in the broker's words. An enum's unknown value, and a field that does not apply, is an error that names the field.

use std::sync::Arc;
use std::time::Duration;

use api::grpc as g;
use broker::bounds;
use broker::definitions::DurabilityConfig;
use broker::queue::Settle;
use broker::{Expect, ExpectOf, ProducerStamp, PublishOptions, PublishTo};
use bytes::Bytes;
use types::{Message, Offset, Timestamp};

use crate::failure::Failure;
use crate::limits::ANSWER_BYTES;

/// An enum's value; an unknown number is refused.
pub(crate) fn known<E: TryFrom<i32>>(field: &str, number: i32) -> Result<E, Failure> {
    E::try_from(number).map_err(|_| Failure::invalid(field, format!("`{field}` has no value {number}")))
}

pub(crate) fn target(field: &str, target: Option<g::Target>) -> Result<Option<PublishTo>, Failure> {
    let Some(target) = target else { return Ok(None) };
    match target.to {
        Some(g::target::To::Topic(name)) => Ok(Some(PublishTo::Topic(name))),
        Some(g::target::To::Queue(name)) => Ok(Some(PublishTo::Queue(name))),
        Some(g::target::To::Subject(g::BySubject {})) => Ok(Some(PublishTo::Subject)),
        None => Err(Failure::invalid(field, format!("`{field}` is a topic, a queue or by subject"))),
    }
}

pub(crate) fn no_target() -> Failure {
    Failure::invalid("to", "`to` says where the messages go: a topic, a queue, or by subject")
}

pub(crate) fn durability(field: &str, number: i32) -> Result<Option<DurabilityConfig>, Failure> {
    Ok(match known(field, number)? {
        g::Durability::Unspecified => None,
        g::Durability::Fsync => Some(DurabilityConfig::Fsync),
        g::Durability::Interval => Some(DurabilityConfig::Interval),
        g::Durability::Os => Some(DurabilityConfig::Os),
        g::Durability::Memory => Some(DurabilityConfig::Memory),
    })
}

pub(crate) fn publish_options(options: Option<g::PublishOptions>) -> Result<PublishOptions, Failure> {
    let Some(options) = options else { return Ok(PublishOptions::default()) };
    let expect = match options.expect {
        None => None,
        Some(expect) => {
            let of = match known("options.expect.of", expect.of)? {
                g::expect::Of::Key => ExpectOf::Key,
                g::expect::Of::Subject => ExpectOf::Subject,
                g::expect::Of::Unspecified => {
                    return Err(Failure::invalid("options.expect.of", "the version is of the key or of the subject"));
                }
            };
            Some(Expect { of, version: expect.version.map(Offset) })
        }
    };
    let producer = match options.producer {
        None => None,
        Some(producer) if producer.id.is_empty() => {
            return Err(Failure::invalid("options.producer.id", "a producer has an id"));
        }
        Some(producer) => Some(ProducerStamp { id: producer.id, epoch: producer.epoch, sequence: producer.sequence }),
    };
    let durability = durability("options.durability", options.durability)?;
    Ok(PublishOptions { expect, producer, partition: options.partition, durability, partial: false })
}

/// Messages of a publish that takes all or none.
pub(crate) fn messages(messages: Vec<g::Message>, subject: &Bytes, now: Timestamp) -> Result<Vec<Message>, Failure> {
    let read = |(at, mut message): (usize, g::Message)| {
        message.default_subject(subject);
        message.into_message(now).map_err(|fault| {
            let field = format!("messages[{at}].{}", fault.field());
            Failure::from(fault).field(&field)
        })
    };
    messages.into_iter().enumerate().map(read).collect()
}

/// What a settlement does.
pub(crate) enum How {
    Settle(Settle),
    Extend(Duration),
}

pub(crate) fn how(action: i32, after_ms: Option<u64>, error: String, extend_ms: Option<u64>) -> Result<How, Failure> {
    use g::SettleAction as A;
    let action = known("action", action)?;
    let stray = |field: &str| Failure::invalid(field, format!("`{field}` does not go with this action"));
    if after_ms.is_some() && action != A::Nack {
        return Err(stray("after_ms"));
    }
    if !error.is_empty() && !matches!(action, A::Nack | A::Reject) {
        return Err(stray("error"));
    }
    if extend_ms.is_some() && action != A::Extend {
        return Err(stray("extend_ms"));
    }
    let error = || (!error.is_empty()).then(|| Arc::from(error.as_str()));
    Ok(match action {
        A::Ack => How::Settle(Settle::Ack),
        A::Nack => {
            How::Settle(Settle::Nack { after: after_ms.map(Duration::from_millis), error: error(), counts: true })
        }
        A::Reject => How::Settle(Settle::Reject { error: error() }),
        A::Release => How::Settle(Settle::Release),
        A::Extend => {
            let ms = extend_ms.ok_or_else(|| Failure::invalid("extend_ms", "an extension says `extend_ms`"))?;
            How::Extend(positive("extend_ms", ms)?)
        }
        A::Unspecified => return Err(Failure::invalid("action", "`action` says what to do with the deliveries")),
    })
}

pub(crate) fn wait(ms: u64) -> Result<Duration, Failure> {
    Ok(bounds::wait(ms)?)
}

pub(crate) fn max_messages(max: Option<u32>, default: usize) -> Result<usize, Failure> {
    Ok(bounds::max_messages(max, default)?)
}

pub(crate) fn max_bytes(max: Option<u64>) -> u64 {
    bounds::max_bytes(max, ANSWER_BYTES)
}

pub(crate) fn positive(field: &str, ms: u64) -> Result<Duration, Failure> {
    Ok(bounds::positive(field, ms)?)
}

/// A first frame without its open, or a later one with it.
pub(crate) fn misplaced_open() -> Failure {
    Failure::invalid("open", "the first frame of a stream has `open`, and no other has")
}
