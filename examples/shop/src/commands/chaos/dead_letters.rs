//! What is in the dead-letter queues.

use std::time::Duration;

use sdk::transport::{Consume, Settle, Transport};
use sdk::{Envelope, headers};

use crate::books::DeadLetter;
use crate::services::{event_dead_letter_queues, order};

/// Most that are looked at in one queue.
const MOST: u32 = 2_000;
/// A queue that gives nothing for so long is at its end.
const SILENCE: Duration = Duration::from_secs(2);
/// The headers that say why, of whoever made it a dead letter.
const REASONS: [&str; 2] = [headers::DEAD_LETTER_ERROR, "ph-dead-letter-error"];

/// All dead-letter queues.
pub(super) fn queues() -> Vec<String> {
    let mut queues = event_dead_letter_queues();
    queues.push(format!("{}.dlq", order::SAGA_QUEUE));
    queues
}

/// Reads all of them.
pub(super) async fn read(transport: &dyn Transport) -> anyhow::Result<Vec<DeadLetter>> {
    let mut letters = Vec::new();
    for queue in queues() {
        let messages = if transport.capabilities().browse.is_there() {
            transport.browse(&queue, MOST).await?
        } else {
            take(transport, &queue).await?
        };
        letters.extend(messages.iter().map(|message| DeadLetter {
            queue: queue.clone(),
            message_id: message.id.as_ref().map(ToString::to_string).unwrap_or_default(),
            reason: reason(message),
        }));
    }
    Ok(letters)
}

/// Why a message is a dead letter.
fn reason(message: &Envelope) -> String {
    let said = REASONS.iter().find_map(|name| headers::text(message, name));
    said.map_or_else(|| format!("no reason is given: {:?}", message.headers), str::to_owned)
}

/// Takes what is in a queue, where nobody can look at it without, and gives it back.
async fn take(transport: &dyn Transport, queue: &str) -> anyhow::Result<Vec<Envelope>> {
    let (queue, name) = (queue.to_owned(), "chaos".to_owned());
    let mut consumer = transport.consume(Consume { queue, name, credit: MOST, lease: None }).await?;
    let (mut messages, mut tags) = (Vec::new(), Vec::new());
    while let Ok(batch) = tokio::time::timeout(SILENCE, consumer.next()).await {
        let Some(batch) = batch? else { break };
        for delivery in batch {
            tags.push((delivery.tag, Settle::Release));
            messages.push(delivery.message);
        }
    }
    let settler = consumer.settler();
    consumer.stop();
    settler.settle(tags);
    settler.flush().await;
    Ok(messages)
}
