//! Standing consumers and how deliveries end.

use super::{CORE, PER_MESSAGE, cases, has};
use crate::conformance::ground::{Failure, Ground, Proof, check, same, texts};
use crate::conformance::taker::bodies;
use crate::transport::{Consume, Settle, TransportError};

cases! {
    CORE => a_missing_queue_is_told_to_its_consumer,
    PER_MESSAGE => no_more_than_the_credit_is_out,
    CORE => a_wait_that_is_given_up_loses_nothing,
    CORE => an_acknowledged_message_is_gone,
    PER_MESSAGE => acknowledgements_in_any_order_hold,
    PER_MESSAGE => a_released_message_comes_again_without_an_attempt,
    CORE => what_is_unsettled_comes_again_when_its_consumer_goes,
    PER_MESSAGE => a_stopped_consumer_hands_back_the_rest_and_can_still_settle,
    CORE => consumers_of_a_queue_share_its_messages,
    CORE => a_tag_that_is_settled_twice_does_no_harm,
    CORE => the_length_of_a_queue_counts_what_waits,
    has("browse") => the_length_of_a_queue_counts_what_is_out,
}

async fn a_missing_queue_is_told_to_its_consumer(ground: &Ground<'_>) -> Proof {
    let queue = ground.name("missing");
    let consume = Consume { queue: queue.clone(), name: "nobody".to_owned(), credit: 1, lease: None };
    let started = ground.soon("a consumer's start", ground.transport.consume(consume)).await?.map(drop);
    check(matches!(started, Err(TransportError::NotFound(_))), || {
        format!("a consumer of a missing queue: expected NotFound, and {started:?} came")
    })?;
    let length = ground.soon("a length", ground.transport.queue_len(&queue)).await?;
    check(matches!(length, Err(TransportError::NotFound(_))), || {
        format!("the length of a missing queue: expected NotFound, and {length:?} came")
    })?;
    // Whatever the refusal did to a connection, the transport goes on.
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["after"]).await?;
    ground.drain(&queue, 1).await.map(drop)
}

async fn no_more_than_the_credit_is_out(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1", "2", "3", "4", "5", "6", "7", "8"]).await?;
    let mut taker = ground.consumer(&queue, 3).await?;
    let first = taker.take(3).await?;
    taker.nothing_more("a fourth delivery with a credit of 3").await?;
    taker.ack(&first[..2]);
    let second = taker.take(2).await?;
    same("the next two", bodies(&second), vec!["4".to_owned(), "5".to_owned()])?;
    taker.nothing_more("a fourth unsettled delivery with a credit of 3").await?;
    taker.ack(&first[2..]);
    taker.ack(&second);
    let third = taker.take(3).await?;
    taker.ack(&third);
    taker.nothing_more("more than was published").await
}

async fn a_wait_that_is_given_up_loses_nothing(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let mut taker = ground.consumer(&queue, 50).await?;
    let mut expected = Vec::new();
    let mut came = Vec::new();
    for n in 0..20 {
        let body = n.to_string();
        ground.put(&queue, &[&body]).await?;
        expected.push(body);
        // Polled once and dropped, as a `select!` does when another branch is ready.
        if let Some(next) = futures_util::FutureExt::now_or_never(taker.consumer().next()) {
            let next = next?.ok_or_else(|| Failure("expected a consumer that waits, and it ended".to_owned()))?;
            taker.ack(&next);
            came.extend(bodies(&next));
        }
    }
    let rest = taker.take(expected.len() - came.len()).await?;
    taker.ack(&rest);
    came.extend(bodies(&rest));
    same("what came in spite of the dropped waits", came, expected)?;
    taker.nothing_more("a message that was taken").await
}

async fn an_acknowledged_message_is_gone(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1", "2", "3"]).await?;
    let mut taker = ground.consumer(&queue, 10).await?;
    let taken = taker.take(3).await?;
    taker.ack(&taken);
    taker.flush().await?;
    drop(taker);
    ground.has_length(&queue, 0).await?;
    ground.consumer(&queue, 10).await?.nothing_more("a message that was acknowledged").await
}

async fn acknowledgements_in_any_order_hold(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1", "2", "3", "4", "5"]).await?;
    let mut taker = ground.consumer(&queue, 10).await?;
    let taken = taker.take(5).await?;
    for at in [4, 1, 2] {
        taker.ack(&taken[at..=at]);
    }
    taker.flush().await?;
    drop(taker);
    let mut left = ground.drain(&queue, 2).await?;
    left.sort();
    same("what was not acknowledged", left, vec!["1".to_owned(), "4".to_owned()])
}

async fn a_released_message_comes_again_without_an_attempt(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1"]).await?;
    let mut taker = ground.consumer(&queue, 1).await?;
    let first = taker.one().await?;
    taker.settle(&first, Settle::Release);
    let again = taker.one_with("1").await?;
    check(again.redelivered || again.attempt == first.attempt, || {
        format!(
            "a released message: expected it as redelivered or as attempt {}, and attempt {} came",
            first.attempt, again.attempt
        )
    })?;
    same("the id", again.message.id.clone(), first.message.id)?;
    taker.ack(&[again]);
    taker.flush().await?;
    ground.has_length(&queue, 0).await
}

async fn what_is_unsettled_comes_again_when_its_consumer_goes(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1", "2", "3", "4"]).await?;
    let mut taker = ground.consumer(&queue, 10).await?;
    let taken = taker.take(4).await?;
    taker.ack(&taken[..1]);
    taker.flush().await?;
    drop(taker);
    let left = ground.drain(&queue, 3).await?;
    same("what was not settled, in order", left, vec!["2".to_owned(), "3".to_owned(), "4".to_owned()])
}

async fn a_stopped_consumer_hands_back_the_rest_and_can_still_settle(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1", "2", "3", "4", "5", "6"]).await?;
    let mut taker = ground.consumer(&queue, 4).await?;
    let first = taker.one().await?;
    taker.stop();
    let mut taken = vec![first];
    taken.extend(taker.rest().await?);
    check(taken.len() <= 4, || format!("expected no delivery after the stop, and {:?} came", bodies(&taken)))?;
    taker.ack(&taken);
    taker.flush().await?;
    drop(taker);
    let left = 6 - taken.len();
    let mut all = bodies(&taken);
    let mut second = ground.consumer(&queue, 10).await?;
    let rest = second.take(left).await?;
    second.nothing_more("a message that was acknowledged after the stop").await?;
    second.ack(&rest);
    all.extend(texts(rest.iter().map(|delivery| &delivery.message)));
    all.sort();
    same("each message once", all, ["1", "2", "3", "4", "5", "6"].map(str::to_owned).to_vec())
}

async fn consumers_of_a_queue_share_its_messages(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let mut one = ground.consumer(&queue, 1).await?;
    let mut two = ground.consumer(&queue, 1).await?;
    ground.put(&queue, &["1", "2", "3", "4"]).await?;
    let mut came = Vec::new();
    for _ in 0..2 {
        let (first, second) = (one.one().await?, two.one().await?);
        came.extend(texts([&first.message, &second.message]));
        one.ack(&[first]);
        two.ack(&[second]);
    }
    one.nothing_more("a message that another consumer had").await?;
    two.nothing_more("a message that another consumer had").await?;
    came.sort();
    same("each message once", came, ["1", "2", "3", "4"].map(str::to_owned).to_vec())
}

async fn a_tag_that_is_settled_twice_does_no_harm(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1", "2", "3"]).await?;
    let mut taker = ground.consumer(&queue, 1).await?;
    let first = taker.one_with("1").await?;
    taker.ack(std::slice::from_ref(&first));
    taker.ack(std::slice::from_ref(&first));
    let second = taker.one_with("2").await?;
    taker.settle(&first, Settle::Release);
    taker.ack(&[second]);
    taker.ack_one("3").await?;
    taker.flush().await?;
    taker.nothing_more("a message that was acknowledged").await?;
    drop(taker);
    ground.has_length(&queue, 0).await
}

async fn the_length_of_a_queue_counts_what_waits(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.has_length(&queue, 0).await?;
    ground.put(&queue, &["1", "2", "3", "4", "5"]).await?;
    ground.has_length(&queue, 5).await?;
    let mut taker = ground.consumer(&queue, 2).await?;
    let taken = taker.take(2).await?;
    taker.ack(&taken);
    taker.flush().await?;
    drop(taker);
    ground.has_length(&queue, 3).await
}

async fn the_length_of_a_queue_counts_what_is_out(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1", "2", "3"]).await?;
    let mut taker = ground.consumer(&queue, 2).await?;
    let taken = taker.take(2).await?;
    ground.has_length(&queue, 3).await?;
    taker.ack(&taken);
    ground.has_length(&queue, 1).await
}
