//! What happens once, or together, or not at all.

use std::time::Duration;

use types::Text;

use super::{broker, cases};
use crate::Envelope;
use crate::conformance::ground::{Failure, Ground, Proof, check, message, same, to_queue, to_topic};
use crate::conformance::taker::Taker;
use crate::transport::{Delivery, Outgoing, PublishError, Settle};

cases! {
    broker("dedup") => a_queue_takes_a_dedup_id_once,
    broker("dedup") => a_dedup_id_is_known_after_its_message_is_gone,
    broker("ack_and_publish") => an_acknowledgement_and_what_it_led_to_happen_together,
    broker("ack_and_publish") => with_a_tag_that_was_settled_nothing_is_published,
    broker("ack_and_publish") => with_a_tag_that_was_released_nothing_is_published,
    broker("ack_and_publish") => with_a_missing_destination_nothing_is_published_and_nothing_acknowledged,
    broker("ack_and_publish") => an_acknowledgement_with_nothing_to_publish_is_one,
}

fn dedup(queue: &str, id: &str, body: &str) -> Outgoing {
    to_queue(queue, Envelope { dedup_id: Some(Text::from(id)), ..message("", body.to_owned()) })
}

async fn a_queue_takes_a_dedup_id_once(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |queue| queue.dedup_window = Some(Duration::from_secs(3600))).await?;
    let batch = vec![dedup(&queue, "a", "1"), dedup(&queue, "a", "again"), dedup(&queue, "b", "2")];
    let duplicates = |published: Vec<crate::transport::Published>| -> Vec<bool> {
        published.iter().map(|published| published.duplicate).collect()
    };
    same("what is told of one batch", duplicates(ground.publish(batch).await?), vec![false, true, false])?;
    let later = vec![dedup(&queue, "b", "again"), dedup(&queue, "c", "3"), to_queue(&queue, message("", "4"))];
    same("what is told of the next", duplicates(ground.publish(later).await?), vec![true, false, false])?;
    let came = ground.drain(&queue, 4).await?;
    same("what was stored", came, ["1", "2", "3", "4"].map(str::to_owned).to_vec())
}

async fn a_dedup_id_is_known_after_its_message_is_gone(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |queue| queue.dedup_window = Some(Duration::from_secs(3600))).await?;
    ground.publish(vec![dedup(&queue, "a", "1")]).await?;
    ground.drain(&queue, 1).await?;
    let published = ground.publish(vec![dedup(&queue, "a", "again")]).await?;
    same("a duplicate", published.first().map(|published| published.duplicate), Some(true))?;
    ground.drain(&queue, 0).await.map(drop)
}

async fn ack_and_publish(
    ground: &Ground<'_>,
    taker: &mut Taker,
    delivery: &Delivery,
    messages: Vec<Outgoing>,
) -> Proof<Result<(), PublishError>> {
    let settler = taker.settler();
    ground.soon("the end of an acknowledgement", settler.ack_and_publish(delivery.tag, messages)).await
}

fn lease_lost(came: &Result<(), PublishError>) -> Proof {
    check(*came == Err(PublishError::LeaseLost), || {
        format!("a delivery that is no longer this consumer's: expected LeaseLost, and {came:?} came")
    })
}

async fn an_acknowledgement_and_what_it_led_to_happen_together(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let straight = ground.queue("straight", |_| ()).await?;
    let bound = ground.queue("bound", |_| ()).await?;
    let topic = ground.topic("t", |_| ()).await?;
    ground.bind(&topic, &bound, "orders.*").await?;
    ground.put(&queue, &["in"]).await?;
    let mut taker = ground.consumer(&queue, 1).await?;
    let delivery = taker.one().await?;
    let messages = vec![
        to_queue(&straight, message("", "out 1")),
        to_topic(&topic, message("orders.paid", "out 2")),
        to_queue(&straight, message("", "out 3")),
    ];
    ack_and_publish(ground, &mut taker, &delivery, messages).await??;
    drop(taker);
    same("straight", ground.drain(&straight, 2).await?, ["out 1", "out 3"].map(str::to_owned).to_vec())?;
    same("through the topic", ground.drain(&bound, 1).await?, vec!["out 2".to_owned()])?;
    ground.has_length(&queue, 0).await?;
    ground.drain(&queue, 0).await.map(drop)
}

async fn with_a_tag_that_was_settled_nothing_is_published(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let out = ground.queue("out", |_| ()).await?;
    ground.put(&queue, &["in"]).await?;
    let mut taker = ground.consumer(&queue, 1).await?;
    let delivery = taker.one().await?;
    taker.ack(std::slice::from_ref(&delivery));
    taker.flush().await?;
    lease_lost(&ack_and_publish(ground, &mut taker, &delivery, vec![to_queue(&out, message("", "out"))]).await?)?;
    ground.drain(&out, 0).await.map(drop)
}

async fn with_a_tag_that_was_released_nothing_is_published(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let out = ground.queue("out", |_| ()).await?;
    ground.put(&queue, &["in"]).await?;
    let mut taker = ground.consumer(&queue, 1).await?;
    let delivery = taker.one().await?;
    taker.stop();
    taker.settle(&delivery, Settle::Release);
    taker.flush().await?;
    // Another consumer has it before the first one tries: it cannot be both done and out.
    let mut other = ground.consumer(&queue, 1).await?;
    let again = other.one_with("in").await?;
    lease_lost(&ack_and_publish(ground, &mut taker, &delivery, vec![to_queue(&out, message("", "out"))]).await?)?;
    other.ack(&[again]);
    other.flush().await?;
    ground.drain(&out, 0).await.map(drop)
}

async fn with_a_missing_destination_nothing_is_published_and_nothing_acknowledged(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let out = ground.queue("out", |_| ()).await?;
    ground.put(&queue, &["in"]).await?;
    let mut taker = ground.consumer(&queue, 1).await?;
    let delivery = taker.one().await?;
    let messages = vec![to_queue(&out, message("", "out")), to_queue(&ground.name("missing"), message("", "nowhere"))];
    let came = ack_and_publish(ground, &mut taker, &delivery, messages).await?;
    check(matches!(came, Err(PublishError::NotFound(_))), || {
        format!("one of two destinations is missing: expected NotFound, and {came:?} came")
    })?;
    ground.drain(&out, 0).await?;
    // It is still this consumer's: it can be tried again.
    let retried = ack_and_publish(ground, &mut taker, &delivery, vec![to_queue(&out, message("", "out"))]).await?;
    retried.map_err(|error| Failure(format!("expected the delivery to be out still, and this came: {error}")))?;
    ground.drain(&out, 1).await?;
    ground.has_length(&queue, 0).await
}

async fn an_acknowledgement_with_nothing_to_publish_is_one(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["in"]).await?;
    let mut taker = ground.consumer(&queue, 1).await?;
    let delivery = taker.one().await?;
    ack_and_publish(ground, &mut taker, &delivery, Vec::new()).await??;
    ground.has_length(&queue, 0).await
}
