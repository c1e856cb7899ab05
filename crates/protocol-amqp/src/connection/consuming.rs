//! `basic.consume` and direct reply-to.

use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, basic};
use broker::access::Action;
use broker::queue::ConsumerRules;
use broker::views::{ReadFrom, TopicInfo};
use broker::{ConsumeError, ConsumerOptions};
use bytes::Bytes;
use types::{Headers, Offset, Value};

use super::Open;
use super::consumers::{Consumer, Source};
use super::publishing::REPLY_TO;
use crate::codec::table::headers_of;
use crate::entities::names::Kind;
use crate::entities::queue::{self, Found, QueueType};
use crate::fault::Fault;
use crate::flags::Flag;
use crate::limits::MAX_CONSUMERS;
use crate::registry;
use crate::stream::{self, StreamReader};

/// A consumer's place among a queue's.
const PRIORITY: &str = "x-priority";
/// What RabbitMQ lets a stream's consumer filter by.
const STREAM_FILTERS: [&str; 2] = ["x-stream-filter", "x-stream-match-unfiltered"];

impl Open {
    /// `basic.consume`.
    pub(super) fn consume(&mut self, number: u16, consume: basic::Consume) -> Result<(), Fault> {
        let name = self.queue_name(number, consume.queue.as_str())?;
        if consume.no_local {
            return Err(Fault::not_implemented("no_local=true: the broker does not know who published a message"));
        }
        let tag: Arc<str> = match consume.consumer_tag.as_str() {
            "" => made_up_tag().into(),
            tag => tag.into(),
        };
        let Some(channel) = self.channels.get(number) else { return Ok(()) };
        if channel.consumers.contains_key(&tag) {
            return Err(Fault::not_allowed(format_args!("attempt to reuse consumer tag '{tag}'")));
        }
        if channel.consumers.len() >= MAX_CONSUMERS {
            let why = format!("a channel has at most {MAX_CONSUMERS} consumers (MAX_CONSUMERS)");
            return Err(Fault::resource_error(why).on_channel());
        }
        let prefetch = channel.prefetch;
        let arguments = headers_of(&consume.arguments);
        let (source, counts, timeout) = if name == REPLY_TO {
            (self.replies(&consume)?, false, None)
        } else {
            Kind::Queue.may(&self.session, Action::Read, &name)?;
            match queue::find(&self.session, &name)? {
                Found::Queue(found) => {
                    let counts = queue::queue_type(&found.config) == QueueType::Quorum;
                    (
                        self.queue_source(&name, &tag, &consume, &arguments)?,
                        counts,
                        queue::consumer_timeout(&found.config),
                    )
                }
                Found::Stream(topic) => {
                    (self.stream_source(&name, prefetch, &topic, &consume, &arguments)?, false, None)
                }
            }
        };
        let key = self.next_consumer;
        self.next_consumer += 1;
        let consumer = Consumer {
            channel: number,
            tag: Arc::clone(&tag),
            source,
            no_ack: consume.no_ack,
            counts,
            timeout,
            prefetch,
            unsettled: 0,
            starved: false,
            cancelled: false,
            flag: Flag::new(&self.task),
        };
        if let Some(channel) = self.channels.get_mut(number) {
            channel.consumers.insert(Arc::clone(&tag), key);
            if let Some(entry) = &channel.entry {
                entry.put_consumer(registry::Consumer {
                    tag: tag.to_string(),
                    queue: name,
                    ack_required: !consume.no_ack,
                    exclusive: consume.exclusive,
                    prefetch: prefetch.into(),
                    arguments,
                    active: true,
                });
            }
        }
        self.consumers.insert(key, consumer);
        if !consume.nowait {
            let ok = basic::ConsumeOk { consumer_tag: (&*tag).into() };
            self.send(number, AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(ok)));
        }
        Ok(())
    }

    /// The queue that a method names; the one declared last if it names none.
    ///
    /// # Errors
    /// 404 if none was declared.
    pub(super) fn queue_name(&self, number: u16, given: &str) -> Result<String, Fault> {
        match (given, self.channels.get(number)) {
            ("", Some(channel)) if channel.last_queue.is_empty() => {
                Err(Fault::not_found("no previously declared queue"))
            }
            ("", Some(channel)) => Ok(channel.last_queue.clone()),
            (name, _) => Ok(name.to_owned()),
        }
    }

    fn queue_source(
        &self,
        name: &str,
        tag: &str,
        consume: &basic::Consume,
        arguments: &Headers,
    ) -> Result<Source, Fault> {
        let rules = ConsumerRules {
            exclusive: consume.exclusive,
            priority: priority(arguments)?,
            lease: None,
            auto_ack: consume.no_ack,
        };
        let consumer = self.session.consume(name, ConsumerOptions { name: tag.to_owned(), rules });
        consumer.map(Source::Queue).map_err(|error| match error {
            ConsumeError::Attach(_) => {
                Fault::access_refused(format_args!("{} in exclusive use", Kind::Queue.named(&self.session, name)))
            }
            ConsumeError::NotFound { .. } | ConsumeError::Deleted(_) => Kind::Queue.missing(&self.session, name),
            ConsumeError::Held { .. } => Kind::Queue.locked(&self.session, name),
            error => error.into(),
        })
    }

    fn stream_source(
        &self,
        name: &str,
        prefetch: u16,
        topic: &TopicInfo,
        consume: &basic::Consume,
        arguments: &Headers,
    ) -> Result<Source, Fault> {
        let named = || Kind::Queue.named(&self.session, name);
        if consume.no_ack {
            let why = format!("automatic acknowledgement not supported by stream {}", named());
            return Err(Fault::not_implemented(why).on_channel());
        }
        if prefetch == 0 {
            return Err(Fault::precondition_failed(format!(
                "consumer prefetch count is not set for stream {}",
                named()
            )));
        }
        if let Some((filter, _)) = arguments.iter().find(|(name, _)| STREAM_FILTERS.contains(&name.as_str())) {
            let why =
                format!("argument '{}' is not supported: consume without it and filter in the client", filter.as_str());
            return Err(Fault::precondition_failed(why));
        }
        let last = match topic.partitions.first() {
            Some(log) if log.end > log.start => ReadFrom::Offset(Offset(log.end.0 - 1)),
            _ => ReadFrom::Latest,
        };
        let from = stream::start(arguments, last, self.app.options.clock.now().wall)?;
        let reader = StreamReader::new(self.internal.clone(), topic.name.clone(), from);
        Ok(Source::Stream(Box::new(reader)))
    }

    /// A consumer of direct reply-to.
    fn replies(&self, consume: &basic::Consume) -> Result<Source, Fault> {
        if !consume.no_ack {
            return Err(Fault::precondition_failed("reply consumer cannot acknowledge"));
        }
        if self.consumers.values().any(|consumer| matches!(consumer.source, Source::Replies(_))) {
            return Err(Fault::precondition_failed("reply consumer already set"));
        }
        Ok(Source::Replies(self.session.open_inbox()?))
    }

    /// Where the answers to a request of this channel go.
    ///
    /// # Errors
    /// 406 if nobody would hear them.
    pub(super) fn reply_to(&self, number: u16) -> Result<Bytes, Fault> {
        let inbox = self.consumers.values().find_map(|consumer| match &consumer.source {
            Source::Replies(inbox) if consumer.channel == number => Some(inbox.subject().clone()),
            _ => None,
        });
        inbox.ok_or_else(|| Fault::precondition_failed("fast reply consumer does not exist"))
    }
}

/// `x-priority`: any integer.
fn priority(arguments: &Headers) -> Result<i32, Fault> {
    let Some((_, value)) = arguments.iter().find(|(name, _)| name.as_str() == PRIORITY) else { return Ok(0) };
    let found = match value {
        Value::Int { value, .. } => i32::try_from(*value).ok(),
        Value::Uint { value, .. } => i32::try_from(*value).ok(),
        _ => None,
    };
    found.ok_or_else(|| Fault::precondition_failed(format!("invalid arg '{PRIORITY}': an integer of 32 bits")))
}

fn made_up_tag() -> String {
    format!("amq.ctag-{}", uuid::Uuid::new_v4().simple())
}
