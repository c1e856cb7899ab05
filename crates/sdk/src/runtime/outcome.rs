//! From a handler's outcome to the end of its delivery.

use std::sync::Arc;
use std::time::Duration;

use types::{Text, Value};

use crate::client::Client;
use crate::error::Kind;
use crate::reaction::Reaction;
use crate::transport::{Destination, Outgoing, PublishError, QueueSpec, Settle, Settler, Support};
use crate::{Context, Envelope, Error, headers};

/// Longest error text that travels with a message, in bytes.
const MAX_ERROR_BYTES: usize = 1024;
/// How long a message that could be neither retried nor dead-lettered is kept before it is given back, so that it does not come again at once.
const GIVE_BACK_AFTER: Duration = Duration::from_secs(1);

/// Why a message is a dead letter: its error said that trying again is in vain.
pub(super) const TERMINAL: &str = "terminal";
/// Why a message is a dead letter: no attempt was left.
pub(super) const MAX_ATTEMPTS: &str = "max-attempts";

/// Ends deliveries of one queue.
pub(super) struct Ending {
    pub(super) client: Client,
    pub(super) queue: Arc<QueueSpec>,
    pub(super) settler: Arc<dyn Settler>,
}

/// How a delivery ended.
pub(super) enum Ended {
    /// This settlement ends it.
    Settle(Settle),
    /// It has ended already, with what was published.
    Already,
}

impl Ending {
    /// Publishes what follows, and says how the delivery ends.
    pub(super) async fn of(
        &self,
        tag: u64,
        context: &Context,
        outcome: Result<Reaction, Error>,
    ) -> (Ended, Option<Error>) {
        let error = match outcome {
            Ok(reaction) if reaction.publishes.is_empty() => return (Ended::Settle(Settle::Ack), None),
            Ok(reaction) => match self.publish(tag, reaction.publishes).await {
                Ok(ended) => return (ended, None),
                Err(error) => error,
            },
            Err(error) => error,
        };
        let ended = self.failed(context, &error).await;
        (ended, Some(error))
    }

    async fn publish(&self, tag: u64, messages: Vec<Outgoing>) -> Result<Ended, Error> {
        let transport = &**self.client.transport();
        if transport.capabilities().ack_and_publish == Support::Broker {
            let mut messages = messages;
            let watches = super::watch(&self.client, &mut messages);
            let answer = self.settler.ack_and_publish(tag, messages).await;
            watches.into_iter().for_each(|watch| watch.finish(&answer));
            return match answer {
                // A lost lease: the message comes again by itself.
                Ok(()) | Err(PublishError::LeaseLost) => Ok(Ended::Already),
                Err(error) => Err(unpublished(error)),
            };
        }
        super::publish_all(&self.client, messages).await.map_err(unpublished)?;
        Ok(Ended::Settle(Settle::Ack))
    }

    async fn failed(&self, context: &Context, error: &Error) -> Ended {
        let capabilities = self.client.transport().capabilities();
        let text = shortened(&error.to_string()).to_owned();
        let (retried, kept) = (capabilities.retry, capabilities.dead_letter);
        match error.kind() {
            Kind::Terminal if kept == Support::Broker => Ended::Settle(Settle::DeadLetter { reason: text }),
            Kind::Terminal => self.move_to(self.dead_letter(context, TERMINAL, &text)).await,
            Kind::Transient { after } if retried == Support::Broker => {
                Ended::Settle(Settle::Retry { after, error: text })
            }
            Kind::Transient { after } => {
                let next = match self.queue.retry.draw_wait(context.attempt(), after) {
                    Some(wait) => self.again(context, wait, &text),
                    None => self.dead_letter(context, MAX_ATTEMPTS, &text),
                };
                self.move_to(next).await
            }
        }
    }

    /// Publishes the message where it goes instead, and ends the delivery then: it may be there twice, and is never nowhere.
    async fn move_to(&self, next: Outgoing) -> Ended {
        let transport = self.client.transport();
        match super::publish_all(&self.client, vec![next]).await {
            Ok(()) => Ended::Settle(Settle::Ack),
            Err(error) => {
                tracing::warn!(queue = %self.queue.name, %error, "a failed message could not be moved; it goes back to its queue");
                transport.sleep(GIVE_BACK_AFTER).await;
                Ended::Settle(Settle::Release)
            }
        }
    }

    fn again(&self, context: &Context, wait: Duration, error: &str) -> Outgoing {
        let mut message = self.copy(context);
        message.not_before = Some(context.now().after(wait));
        headers::set_value(&mut message, headers::ATTEMPT, Value::int(i64::from(context.attempt())));
        headers::set(&mut message, headers::DEAD_LETTER_ERROR, Text::from(error));
        Outgoing { to: Destination::Queue(self.queue.name.clone()), message }
    }

    fn dead_letter(&self, context: &Context, reason: &'static str, error: &str) -> Outgoing {
        let mut message = self.copy(context);
        give_up(&mut message, context, reason, error);
        headers::set(&mut message, headers::DEAD_LETTER_QUEUE, Text::from(&*self.queue.name));
        Outgoing { to: Destination::Queue(self.queue.dead_letter_queue()), message }
    }

    fn copy(&self, context: &Context) -> Envelope {
        let mut message = context.envelope().clone();
        message.not_before = None;
        // The same message once more, which no dedup window may take for a double.
        message.dedup_id = None;
        if message.header(headers::FIRST_ATTEMPT).is_none() {
            headers::set_value(&mut message, headers::FIRST_ATTEMPT, Value::int(context.now().0));
        }
        message
    }
}

/// What a publish that failed means for the message whose handling led to it.
fn unpublished(error: PublishError) -> Error {
    let transient = error.is_transient() || matches!(error, PublishError::Closed);
    let error = Error::from(error).context("what the handler returned was not published");
    if transient { error } else { error.into_terminal() }
}

/// Makes a copy of a message a dead letter: it never expires, and says why it is one.
pub(super) fn give_up(message: &mut Envelope, context: &Context, reason: &'static str, error: &str) {
    message.expires_at = None;
    headers::set_value(message, headers::ATTEMPT, Value::int(i64::from(context.attempt())));
    headers::set(message, headers::DEAD_LETTER_REASON, Text::from_static(reason));
    headers::set(message, headers::DEAD_LETTER_ERROR, Text::from(shortened(error)));
    headers::set_value(message, headers::DEAD_LETTER_TIME, Value::int(context.now().0));
}

fn shortened(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_ERROR_BYTES)).unwrap_or_default()
}
