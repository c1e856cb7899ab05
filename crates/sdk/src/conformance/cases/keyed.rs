//! Order by key: a failing message holds back its key and nothing else.

use bytes::Bytes;

use super::retries::doubling;
use super::{broker, cases};
use crate::Envelope;
use crate::conformance::ground::{Ground, Proof, message, same, to_queue};
use crate::conformance::taker::bodies;
use crate::transport::Settle;

cases! {
    broker("keyed") => messages_of_a_key_are_out_one_at_a_time_in_order,
    broker("keyed") => messages_without_a_key_hold_back_nothing,
    broker("keyed").and("retry") => a_failing_key_is_parked_and_the_others_go_on,
    broker("keyed").and("dead_letter") => a_key_goes_on_when_its_failing_message_is_given_up,
}

/// Puts messages in; the letter that a body begins with is its key.
async fn put(ground: &Ground<'_>, queue: &str, bodies: &[&str]) -> Proof {
    let keyed = |body: &&str| {
        let key = body.get(..1).map(|key| Bytes::copy_from_slice(key.as_bytes()));
        to_queue(queue, Envelope { key, ..message("", (*body).to_owned()) })
    };
    ground.publish(bodies.iter().map(keyed).collect()).await.map(drop)
}

async fn messages_of_a_key_are_out_one_at_a_time_in_order(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |queue| queue.keyed = true).await?;
    put(ground, &queue, &["a1", "a2", "b1", "a3", "b2", "c1"]).await?;
    // Two consumers, so that no client keeps the order by accident.
    let mut one = ground.consumer(&queue, 10).await?;
    let mut heads = one.take(3).await?;
    same("the heads of three keys", bodies(&heads), ["a1", "b1", "c1"].map(str::to_owned).to_vec())?;
    one.nothing_more("a second message of a key that is out").await?;
    let mut two = ground.consumer(&queue, 10).await?;
    two.nothing_more("a second message of a key that is out elsewhere").await?;
    drop(two);
    one.ack(&heads.drain(..1).collect::<Vec<_>>());
    one.ack_one("a2").await?;
    one.ack_one("a3").await?;
    one.ack(&heads);
    one.ack_one("b2").await?;
    one.nothing_more("a message that was acknowledged").await
}

async fn messages_without_a_key_hold_back_nothing(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |queue| queue.keyed = true).await?;
    ground.put(&queue, &["1", "2", "3"]).await?;
    let taken = ground.consumer(&queue, 10).await?.take(3).await?;
    same("all of them", bodies(&taken), ["1", "2", "3"].map(str::to_owned).to_vec())
}

async fn a_failing_key_is_parked_and_the_others_go_on(ground: &Ground<'_>) -> Proof {
    let change = |queue: &mut crate::transport::QueueSpec| {
        queue.keyed = true;
        queue.retry = doubling(ground, None);
    };
    let queue = ground.queue("q", change).await?;
    put(ground, &queue, &["a1", "a2", "b1", "b2"]).await?;
    let mut taker = ground.consumer(&queue, 10).await?;
    let failing = taker.one_with("a1").await?;
    let failed = ground.transport.now();
    taker.fail(&failing, None, "the customer's account is locked");
    taker.ack_one("b1").await?;
    taker.ack_one("b2").await?;
    let again = ground.arrives_after(&mut taker, failed, ground.span()).await?;
    same("whose turn it is", bodies(std::slice::from_ref(&again)), vec!["a1".to_owned()])?;
    same("its attempt", again.attempt, 2)?;
    taker.nothing_more("a2 before a1 was done").await?;
    taker.ack(&[again]);
    taker.ack_one("a2").await
}

async fn a_key_goes_on_when_its_failing_message_is_given_up(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |queue| queue.keyed = true).await?;
    put(ground, &queue, &["a1", "a2"]).await?;
    let mut taker = ground.consumer(&queue, 10).await?;
    let poison = taker.one_with("a1").await?;
    taker.settle(&poison, Settle::DeadLetter { reason: "no such product".to_owned() });
    taker.ack_one("a2").await?;
    ground.has_length(&format!("{queue}.dlq"), 1).await
}
