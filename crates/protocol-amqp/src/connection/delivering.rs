//! Deliveries: from a consumer's source to the socket.

use std::sync::Arc;
use std::task::{Context, Poll};

use amq_protocol::protocol::{AMQPClass, basic};
use broker::queue::Credit;
use broker::{ConsumeError, Receipt, ReplayError};
use bytes::Bytes;
use types::{Message, Text, Value};

use super::Open;
use super::consumers::{Consumer, Source};
use crate::channel::Channel;
use crate::codec::outbox::{Content, Outbox};
use crate::fault::Fault;
use crate::limits::OUTBOX_BYTES;
use crate::message::{self, Outgoing};
use crate::unsettled::{ConsumerKey, Unsettled};

/// How often a message was given back before, of a queue that counts it.
pub(super) const DELIVERY_COUNT: &str = "x-delivery-count";
/// A record's place in its stream.
const STREAM_OFFSET: &str = "x-stream-offset";

/// A message for a consumer.
pub(crate) struct Item {
    pub(crate) message: Arc<Message>,
    pub(crate) receipt: Option<Receipt>,
    pub(crate) redelivered: bool,
    pub(crate) attempt: u32,
    /// Its place, if it is a stream's.
    pub(crate) offset: Option<u64>,
}

/// Why a consumer gets nothing more.
pub(super) enum Over {
    /// Its queue is gone.
    Gone,
    Fault(Fault),
}

impl Source {
    fn poll(&mut self, context: &mut Context<'_>, credit: Credit) -> Poll<Result<Vec<Item>, Over>> {
        match self {
            Self::Queue(consumer) => consumer.poll_next(context, credit).map(|found| match found {
                Ok(found) => Ok(found.into_iter().map(item).collect()),
                Err(ConsumeError::Deleted(_) | ConsumeError::NotFound { .. }) => Err(Over::Gone),
                Err(error) => Err(Over::Fault(error.into())),
            }),
            Self::Stream(reader) => reader.poll_next(context, credit).map(|found| match found {
                Ok(items) => Ok(items),
                Err(ReplayError::NotFound { .. }) => Err(Over::Gone),
                Err(error) => Err(Over::Fault(error.into())),
            }),
            Self::Replies(_) if credit.messages == 0 => Poll::Pending,
            Self::Replies(inbox) => inbox.poll_next(context).map(|found| match found {
                Some(message) => {
                    Ok(vec![Item { message, receipt: None, redelivered: false, attempt: 1, offset: None }])
                }
                None => Err(Over::Gone),
            }),
        }
    }
}

fn item(delivered: broker::views::Delivered) -> Item {
    Item {
        message: delivered.message,
        receipt: Some(delivered.receipt),
        redelivered: delivered.redelivered,
        attempt: delivered.attempt,
        offset: None,
    }
}

/// A message as a client gets it, with what its delivery adds.
pub(super) fn shown(item: &mut Item, counts: bool) -> Outgoing {
    let message = std::mem::take(&mut item.message);
    let mut outgoing = message::outgoing(Arc::unwrap_or_clone(message));
    if counts && item.attempt > 1 {
        let count = Value::int(i64::from(item.attempt) - 1);
        outgoing.properties.headers.push((Text::from_static(DELIVERY_COUNT), count));
    }
    if let Some(offset) = item.offset {
        let offset = Value::int(i64::try_from(offset).unwrap_or(i64::MAX));
        outgoing.properties.headers.push((Text::from_static(STREAM_OFFSET), offset));
    }
    outgoing
}

impl Open {
    /// Whether a consumer is to be polled.
    pub(super) fn has_raised(&self) -> bool {
        self.wire.out.len() < OUTBOX_BYTES && self.consumers.values().any(|consumer| consumer.flag.is_raised())
    }

    /// Gives consumers what they may have. `true` if somebody got something.
    pub(super) fn deliver(&mut self) -> bool {
        if self.state != super::State::Open {
            return false;
        }
        let mut delivered = false;
        let mut since = None;
        for (key, consumer) in &mut self.consumers {
            if self.wire.out.len() >= OUTBOX_BYTES {
                break;
            }
            if !consumer.flag.take() {
                continue;
            }
            let Some(channel) = self.channels.get_mut(consumer.channel) else { continue };
            let credit = consumer.credit(channel);
            consumer.starved = credit.messages == 0;
            let waker = consumer.flag.waker();
            match consumer.source.poll(&mut Context::from_waker(&waker), credit) {
                Poll::Pending => {}
                Poll::Ready(Ok(items)) => {
                    // There may be more.
                    consumer.flag.raise();
                    delivered |= !items.is_empty();
                    let since = *since.get_or_insert_with(|| self.app.options.clock.now().mono);
                    for item in items {
                        hand_out(*key, consumer, channel, item, since, &mut self.wire.out);
                    }
                    channel.show();
                }
                Poll::Ready(Err(end)) => self.over.push((*key, end)),
            }
        }
        // A client that deletes a queue hears that it is done before it hears that its consumers are.
        if self.operation.is_none() {
            for (key, end) in std::mem::take(&mut self.over) {
                self.consumer_over(key, end);
            }
        }
        delivered
    }

    fn consumer_over(&mut self, key: ConsumerKey, end: Over) {
        let Some(consumer) = self.consumers.get(&key) else { return };
        let number = consumer.channel;
        match end {
            Over::Fault(fault) => self.fail(number, &fault),
            Over::Gone => {
                let Some(consumer) = self.consumers.remove(&key) else { return };
                if let Some(channel) = self.channels.get_mut(number) {
                    channel.forget_consumer(&consumer.tag);
                }
                if self.terms.cancel_notify && !consumer.cancelled {
                    let cancel = basic::Cancel { consumer_tag: (&*consumer.tag).into(), nowait: true };
                    self.wire.out.method(number, AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)));
                }
            }
        }
    }
}

fn hand_out(
    key: ConsumerKey,
    consumer: &mut Consumer,
    channel: &mut Channel,
    mut item: Item,
    since: types::Monotonic,
    out: &mut Outbox,
) {
    let entry = Unsettled {
        receipt: item.receipt,
        consumer: Some(key),
        counts: consumer.counts,
        since,
        timeout: consumer.timeout,
    };
    let delivery_tag = channel.unsettled.push((!consumer.no_ack).then_some(entry));
    consumer.unsettled += usize::from(!consumer.no_ack);
    let how = Content::Deliver { consumer_tag: &consumer.tag, delivery_tag, redelivered: item.redelivered };
    if item.attempt <= 1 && item.offset.is_none() {
        let message = &*item.message;
        let exchange = message.topic.as_ref().map_or(&[][..], |topic| topic.bytes());
        let empty = Bytes::new();
        let body = message.body.as_ref().unwrap_or(&empty);
        let header = |out: &mut Vec<u8>| message::write_plain(message, out);
        if out.content_with(consumer.channel, &how, exchange, &message.subject, header, body) {
            return;
        }
    }
    let Outgoing { exchange, routing_key, properties, body } = shown(&mut item, consumer.counts);
    out.content(consumer.channel, &how, &exchange, &routing_key, &properties, &body);
}
