//! Published now, delivered later.

use std::time::Duration;

use super::{cases, has};
use crate::Envelope;
use crate::conformance::ground::{Ground, Proof, check, message, same, to_queue, to_topic};
use crate::transport::{Outgoing, PublishError};

cases! {
    has("delay") => a_delayed_message_waits_in_a_queue_for_its_time,
    has("delay") => a_delayed_message_through_a_topic_waits_for_its_time,
    has("delay") => delayed_messages_come_in_the_order_of_their_times,
    has("delay") => a_delay_that_is_over_is_none,
    has("delay") => a_delay_beyond_the_longest_is_refused,
}

fn delayed(ground: &Ground<'_>, subject: &str, body: &str, by: Duration) -> Envelope {
    Envelope { not_before: Some(ground.transport.now().after(by)), ..message(subject, body.to_owned()) }
}

async fn a_delayed_message_waits_in_a_queue_for_its_time(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let since = ground.transport.now();
    let messages =
        vec![to_queue(&queue, delayed(ground, "", "later", ground.span())), to_queue(&queue, message("", "now"))];
    ground.publish(messages).await?;
    taker.ack_one("now").await?;
    let delivery = ground.arrives_after(&mut taker, since, ground.span()).await?;
    same("its attempt", delivery.attempt, 1)?;
    taker.ack(&[delivery]);
    taker.nothing_more("a second copy").await
}

async fn a_delayed_message_through_a_topic_waits_for_its_time(ground: &Ground<'_>) -> Proof {
    let topic = ground.topic("t", |_| ()).await?;
    let queue = ground.queue("q", |_| ()).await?;
    let other = ground.queue("other", |_| ()).await?;
    ground.bind(&topic, &queue, "orders.*").await?;
    ground.bind(&topic, &other, "stock.*").await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let since = ground.transport.now();
    ground.publish(vec![to_topic(&topic, delayed(ground, "orders.due", "later", ground.span()))]).await?;
    let delivery = ground.arrives_after(&mut taker, since, ground.span()).await?;
    same("its subject", &delivery.message.subject[..], b"orders.due")?;
    ground.has_length(&other, 0).await
}

async fn delayed_messages_come_in_the_order_of_their_times(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let span = ground.span();
    let at = |body, spans| to_queue(&queue, delayed(ground, "", body, span * spans));
    let since = ground.transport.now();
    let messages: Vec<Outgoing> = vec![at("third", 3), at("first", 1), at("second", 2)];
    ground.publish(messages).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    for (spans, body) in [(1, "first"), (2, "second"), (3, "third")] {
        let delivery = ground.arrives_after(&mut taker, since, span * spans).await?;
        same("whose time it is", crate::conformance::ground::text_of(&delivery.message), body.to_owned())?;
        taker.ack(&[delivery]);
    }
    Ok(())
}

async fn a_delay_that_is_over_is_none(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let past = Envelope { not_before: Some(types::Timestamp(1_000)), ..message("", "past") };
    ground.publish(vec![to_queue(&queue, past)]).await?;
    ground.drain(&queue, 1).await.map(drop)
}

async fn a_delay_beyond_the_longest_is_refused(ground: &Ground<'_>) -> Proof {
    let Some(longest) = ground.transport.capabilities().max_delay else {
        return Ok(());
    };
    let queue = ground.queue("q", |_| ()).await?;
    let by = longest.saturating_add(Duration::from_secs(3600));
    let messages =
        vec![to_queue(&queue, delayed(ground, "", "too late", by)), to_queue(&queue, message("", "neighbour"))];
    let answers = ground.publish_each(messages).await?;
    check(matches!(answers[..], [Err(PublishError::Refused(_) | PublishError::Unsupported { .. }), Ok(_)]), || {
        format!("a delay of {by:?}, beyond {longest:?}: expected a refusal and a neighbour, and {answers:?} came")
    })?;
    ground.drain(&queue, 1).await.map(drop)
}
