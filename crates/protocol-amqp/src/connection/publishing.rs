//! Publishes: from a message that came in whole to its confirm.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use broker::access::Action;
use broker::views::Published;
use broker::{PublishError, PublishOptions, PublishTo, Publishes, Started, StorageError};
use bytes::Bytes;

use super::Open;
use crate::channel::{Mode, Outbound, Returned};
use crate::codec::method::{PUBLISH, Publish};
use crate::codec::outbox::Content;
use crate::codec::properties::Properties;
use crate::entities::exchange::RouteTo;
use crate::entities::names::Kind;
use crate::fault::Fault;
use crate::limits::{MAX_PUBLISHING, MAX_PUBLISHING_BYTES, RUN_BYTES, RUN_MESSAGES};
use crate::message;

/// The queue of direct reply-to.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// `basic.return`'s code and text for a message that reached nothing.
const NO_ROUTE: (u16, &str) = (312, "NO_ROUTE");

type Each = Vec<Result<Published, PublishError>>;

/// What is being published, in the order in which it came.
#[derive(Default)]
pub(super) struct Publishing {
    run: Publishes,
    entries: Vec<Entry>,
    calls: VecDeque<Call>,
    messages: usize,
    bytes: usize,
    /// The broker is short of memory: nothing is published until this is ready.
    held: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// Messages that were published in one call.
struct Call {
    started: Started<Each>,
    entries: Vec<Entry>,
    bytes: usize,
}

/// What is to be told of a message.
struct Entry {
    channel: u16,
    channel_id: u64,
    /// Its number, if it is to be confirmed.
    number: Option<u64>,
    /// To how many places it went.
    parts: usize,
    mandatory: Option<Box<Returned>>,
}

impl Publishing {
    /// Whether more may be read.
    pub(super) fn has_room(&self) -> bool {
        self.held.is_none() && self.messages < MAX_PUBLISHING && self.bytes < MAX_PUBLISHING_BYTES
    }

    /// Whether everything has ended.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.entries.is_empty()
    }
}

pub(super) fn options() -> PublishOptions {
    PublishOptions { partial: true, ..PublishOptions::default() }
}

impl Open {
    /// A message has come in whole.
    pub(super) fn content_complete(&mut self, number: u16) -> Result<(), Fault> {
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        let Some(content) = channel.content.take() else { return Ok(()) };
        let properties = content.properties.unwrap_or_default();
        let outbound = self
            .outbound(number, &content.publish, properties, content.body.into_bytes())
            .map_err(|fault| fault.of(PUBLISH))?;
        let Some(channel) = self.channels.get_mut(number) else { return Ok(()) };
        let confirm = match &mut channel.mode {
            Mode::Plain => None,
            Mode::Confirm { next } => {
                let confirm = *next;
                *next += 1;
                Some(confirm)
            }
            Mode::Transaction(transaction) => return transaction.publish(outbound).map_err(|fault| fault.of(PUBLISH)),
        };
        let entry = Entry {
            channel: number,
            channel_id: channel.id,
            number: confirm,
            parts: outbound.to.len(),
            mandatory: outbound.mandatory,
        };
        let publishing = &mut self.publishing;
        publishing.entries.push(entry);
        let mut to = outbound.to.into_iter();
        let last = to.next_back();
        for further in to {
            publishing.run.push(&further, outbound.message.clone());
        }
        if let Some(last) = last {
            publishing.run.push(&last, outbound.message);
        }
        if publishing.run.len() >= RUN_MESSAGES || publishing.run.weight_bytes() >= RUN_BYTES {
            self.begin_publishing();
        }
        Ok(())
    }

    /// Finds where a message goes, and makes it the broker's.
    fn outbound(
        &mut self,
        number: u16,
        publish: &Publish,
        mut properties: Properties,
        body: Bytes,
    ) -> Result<Outbound, Fault> {
        let route = self.targets.exchange(&self.session, &publish.exchange)?;
        if let Some(claimed) = properties.user_id.as_deref()
            && claimed != self.terms.user.as_bytes()
        {
            let claimed = String::from_utf8_lossy(claimed);
            let why = format!("user_id property set to '{claimed}' but authenticated user was '{}'", self.terms.user);
            return Err(Fault::precondition_failed(why));
        }
        if properties.reply_to.as_deref() == Some(REPLY_TO.as_bytes()) {
            properties.reply_to = Some(self.reply_to(number)?);
        }
        let mandatory = publish.mandatory.then(|| {
            Box::new(Returned {
                exchange: publish.exchange.clone(),
                routing_key: publish.routing_key.clone(),
                properties: properties.clone(),
                body: body.clone(),
            })
        });
        let now = self.now;
        let mut message = message::incoming(publish, properties, body, now, route.delayed)?;
        let to = match route.to {
            RouteTo::Exchange(to) => {
                if let (true, PublishTo::Topic(exchange)) = (route.by_key, &*to) {
                    for key in std::iter::once(&message.subject).chain(&message.also) {
                        Kind::may_key(&self.session, Action::Write, exchange, key)?;
                    }
                }
                vec![to]
            }
            RouteTo::Default => {
                let mut to: Vec<Arc<PublishTo>> = Vec::with_capacity(1);
                let also = std::mem::take(&mut message.also);
                for key in std::iter::once(&message.subject).chain(&also) {
                    if let Some(target) = self.targets.queue(&self.session, key)?
                        && !to.contains(&target)
                    {
                        to.push(target);
                    }
                }
                message.also = also;
                to
            }
        };
        Ok(Outbound { to, message, mandatory })
    }

    /// Begins to publish what was collected.
    pub(super) fn begin_publishing(&mut self) {
        let publishing = &mut self.publishing;
        if publishing.held.is_some() || publishing.entries.is_empty() {
            return;
        }
        let run = std::mem::take(&mut publishing.run);
        let (messages, bytes) = (run.len(), run.weight_bytes());
        match self.internal.start_publish_each(run, options()) {
            Ok(started) => {
                let entries = std::mem::take(&mut publishing.entries);
                publishing.messages += entries.len().max(messages);
                publishing.bytes += bytes;
                publishing.calls.push_back(Call { started, entries, bytes });
            }
            Err(run) => {
                publishing.run = run;
                let session = self.internal.clone();
                publishing.held = Some(Box::pin(async move { session.memory_ready().await }));
                self.tell_blocked(true);
            }
        }
    }

    /// Tells what became of publishes. `true` if something was told.
    pub(super) fn poll_published(&mut self, context: &mut Context<'_>) -> bool {
        let mut told = false;
        if let Some(held) = &mut self.publishing.held
            && held.as_mut().poll(context).is_ready()
        {
            self.publishing.held = None;
            self.tell_blocked(false);
            self.begin_publishing();
            told = true;
        }
        while let Some(first) = self.publishing.calls.front_mut() {
            let Poll::Ready(results) = Pin::new(&mut first.started).poll(context) else { break };
            if let Some(call) = self.publishing.calls.pop_front() {
                self.publishing.messages =
                    self.publishing.messages.saturating_sub(call.entries.len().max(results.len()));
                self.publishing.bytes -= call.bytes;
                self.published(call.entries, results);
                told = true;
            }
        }
        self.confirms.flush(&mut self.wire.out);
        told
    }

    /// Tells what became of a call's messages.
    fn published(&mut self, entries: Vec<Entry>, results: Each) {
        let mut results = results.into_iter();
        for entry in entries {
            let end = End::of(results.by_ref().take(entry.parts));
            if self.channel_of(entry.channel, entry.channel_id).is_none() {
                continue;
            }
            let taken = match end {
                Ok(end) => {
                    if let Some(returned) = entry.mandatory.filter(|_| !end.routed) {
                        self.confirms.flush(&mut self.wire.out);
                        self.give_back(entry.channel, &returned);
                    }
                    !end.refused
                }
                Err(error) => match (entry.number, may_be_nacked(&error)) {
                    (Some(_), true) => false,
                    _ => {
                        self.fail(entry.channel, &Fault::from(error).of(PUBLISH));
                        continue;
                    }
                },
            };
            match entry.number {
                Some(number) if taken => self.confirms.ack(entry.channel, number, &mut self.wire.out),
                Some(number) => self.confirms.nack(entry.channel, number, &mut self.wire.out),
                None => {}
            }
        }
    }

    /// `basic.return`.
    pub(super) fn give_back(&mut self, channel: u16, returned: &Returned) {
        let how = Content::Return { reply_code: NO_ROUTE.0, reply_text: NO_ROUTE.1 };
        let Returned { exchange, routing_key, properties, body } = returned;
        self.wire.out.content(channel, &how, exchange, routing_key, properties, body);
    }
}

/// What became of one message, wherever it went.
pub(super) struct End {
    /// Something has it, or would have if there were room.
    pub(super) routed: bool,
    /// A queue had no room for it.
    pub(super) refused: bool,
}

impl End {
    /// Of its parts.
    ///
    /// # Errors
    /// The first part's that failed.
    pub(super) fn of(parts: impl Iterator<Item = Result<Published, PublishError>>) -> Result<Self, PublishError> {
        let mut end = Self { routed: false, refused: false };
        for part in parts {
            match part {
                Ok(published) => {
                    end.routed |= published.routed() || published.refused > 0;
                    end.refused |= published.refused > 0;
                }
                // The queue or exchange went since it was looked up.
                Err(PublishError::NotFound { .. }) => {}
                Err(PublishError::QueueFull { .. }) => (end.routed, end.refused) = (true, true),
                Err(error) => return Err(error),
            }
        }
        Ok(end)
    }
}

/// Whether a publish's failure is a matter of the message, or of the moment, so that its confirm can tell it. Others close the channel.
fn may_be_nacked(error: &PublishError) -> bool {
    match error {
        PublishError::Storage(error) => !matches!(error, StorageError::Damaged(_)),
        PublishError::Backpressure | PublishError::DedupFull { .. } | PublishError::Quota { .. } => true,
        _ => false,
    }
}
