//! Moves dead letters back.

use bytes::Bytes;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::types::ShortString;
use tokio::time::{Instant, timeout_at};

use super::Amqp;
use super::declare;
use super::envelope;
use super::faults;
use super::options::MAX_REDRIVE;
use crate::headers;
use crate::transport::{Destination, Outgoing, PublishError, TransportError};

/// What the SDK wrote into a dead letter, and what a message begins anew without.
const HISTORY: [&str; 6] = [
    headers::ATTEMPT,
    headers::FIRST_ATTEMPT,
    headers::DEAD_LETTER_REASON,
    headers::DEAD_LETTER_ERROR,
    headers::DEAD_LETTER_QUEUE,
    headers::DEAD_LETTER_TIME,
];

/// Moves what is in a dead-letter queue now to where each came from, one at a time: published, confirmed, and then acknowledged. An error leaves the
/// message that it is about where it is, and those behind it.
///
/// # Errors
/// There is no such queue, or one that a message came from is gone, or the connection is.
pub(super) async fn redrive(amqp: &Amqp, dead_letter_queue: &str) -> Result<u64, TransportError> {
    let link = &amqp.link;
    // What is dead-lettered again meanwhile is not moved again by this call: it would go round for ever.
    let most = declare::ready(link, dead_letter_queue).await?.min(MAX_REDRIVE);
    let unavailable =
        |error: lapin::Error| faults::transport_error(&error, &format!("queue {dead_letter_queue:?}"), &link.address);
    let queue = ShortString::try_new(dead_letter_queue)
        .map_err(|_| TransportError::Invalid("the queue's name is too long".into()))?;
    let channel = link.channel_by(link.deadline()).await?;
    let mut moved = 0;
    while moved < most {
        let deadline = Instant::now() + link.options.patience;
        let got = timeout_at(deadline, channel.basic_get(queue.clone(), BasicGetOptions::default())).await;
        let Some(got) = got.map_err(|_| link.unavailable())?.map_err(unavailable)? else { break };
        let tag = got.delivery.delivery_tag;
        let mut message = envelope::message(got.delivery).message;
        let from = match headers::text(&message, headers::DEAD_LETTER_QUEUE) {
            Some(queue) => queue.to_owned(),
            // Dead-lettered by something else than the SDK: the queue's name says where from.
            None => dead_letter_queue.strip_suffix(".dlq").map(str::to_owned).ok_or_else(|| {
                TransportError::Invalid(format!(
                    "a message in {dead_letter_queue:?} does not say where it came from, by the header {}; it stays there",
                    headers::DEAD_LETTER_QUEUE
                ))
            })?,
        };
        for name in HISTORY {
            headers::remove(&mut message, name);
        }
        message.not_before = None;
        if message.subject == dead_letter_queue.as_bytes() {
            // It had none of its own.
            message.subject = Bytes::copy_from_slice(from.as_bytes());
        }
        amqp.publish_one(Outgoing { to: Destination::Queue(from), message }).await.map_err(|error| match error {
            PublishError::NotFound(what) => TransportError::NotFound(what),
            PublishError::Closed => TransportError::Closed,
            PublishError::Refused(why) => TransportError::Invalid(why),
            other => TransportError::Unavailable { address: link.address.clone(), why: other.to_string() },
        })?;
        channel.basic_ack(tag, BasicAckOptions::default()).await.map_err(unavailable)?;
        moved += 1;
    }
    Ok(moved)
}
