//! Failed attempts come again after a wait, which the broker keeps.

use std::time::Duration;

use super::{broker, cases};
use crate::conformance::ground::{Ground, Proof, same};
use crate::transport::RetrySpec;

cases! {
    broker("retry") => a_failed_message_comes_again_after_its_wait,
    broker("retry") => waits_grow_and_attempts_are_counted,
    broker("retry") => a_retry_may_say_its_own_wait,
    broker("retry") => a_retry_at_once_is_at_once,
    broker("retry") => a_waiting_message_holds_back_no_other,
    broker("retry") => a_waiting_message_outlives_its_consumer,
}

/// So many attempts with waits of one span that double, without jitter.
pub(super) fn doubling(ground: &Ground<'_>, max_attempts: Option<u32>) -> RetrySpec {
    RetrySpec { max_attempts, initial: ground.span(), factor: 2.0, cap: ground.span() * 100, jitter: false }
}

async fn a_failed_message_comes_again_after_its_wait(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |queue| queue.retry = doubling(ground, None)).await?;
    ground.put(&queue, &["1"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let first = taker.one().await?;
    let failed = ground.transport.now();
    taker.fail(&first, None, "the database is away");
    let again = ground.arrives_after(&mut taker, failed, ground.span()).await?;
    same("the attempt", again.attempt, 2)?;
    same("the id", &again.message.id, &first.message.id)?;
    same("the body", &again.message.body, &first.message.body)?;
    taker.ack(&[again]);
    taker.flush().await?;
    ground.has_length(&queue, 0).await
}

async fn waits_grow_and_attempts_are_counted(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |queue| queue.retry = doubling(ground, Some(5))).await?;
    ground.put(&queue, &["1"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let mut delivery = taker.one().await?;
    for attempt in 1..4 {
        same("the attempt", delivery.attempt, attempt)?;
        let failed = ground.transport.now();
        taker.fail(&delivery, None, "the database is away");
        let wait = ground.span() * 2_u32.pow(attempt - 1);
        delivery = ground.arrives_after(&mut taker, failed, wait).await?;
    }
    same("the attempt", delivery.attempt, 4)?;
    taker.ack(&[delivery]);
    Ok(())
}

async fn a_retry_may_say_its_own_wait(ground: &Ground<'_>) -> Proof {
    let spec = RetrySpec { initial: ground.span() * 100, ..doubling(ground, None) };
    let queue = ground.queue("q", |queue| queue.retry = spec).await?;
    ground.put(&queue, &["1"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let first = taker.one().await?;
    let failed = ground.transport.now();
    taker.fail(&first, Some(ground.span()), "the gateway asks to come again later");
    let again = ground.arrives_after(&mut taker, failed, ground.span()).await?;
    same("the attempt", again.attempt, 2)
}

async fn a_retry_at_once_is_at_once(ground: &Ground<'_>) -> Proof {
    let spec = RetrySpec { initial: ground.span() * 100, ..doubling(ground, None) };
    let queue = ground.queue("q", |queue| queue.retry = spec).await?;
    ground.put(&queue, &["1"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let first = taker.one().await?;
    taker.fail(&first, Some(Duration::ZERO), "a lost race");
    same("the attempt", taker.one_with("1").await?.attempt, 2)
}

async fn a_waiting_message_holds_back_no_other(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |queue| queue.retry = doubling(ground, None)).await?;
    ground.put(&queue, &["fails", "2", "3"]).await?;
    // A credit of one: what waits must not count as unsettled.
    let mut taker = ground.consumer(&queue, 1).await?;
    let first = taker.one_with("fails").await?;
    let failed = ground.transport.now();
    taker.fail(&first, None, "the database is away");
    taker.ack_one("2").await?;
    taker.ack_one("3").await?;
    ground.has_length(&queue, 1).await?;
    let again = ground.arrives_after(&mut taker, failed, ground.span()).await?;
    same("the attempt", again.attempt, 2)
}

async fn a_waiting_message_outlives_its_consumer(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |queue| queue.retry = doubling(ground, None)).await?;
    ground.put(&queue, &["1"]).await?;
    let mut taker = ground.consumer(&queue, 1).await?;
    let first = taker.one().await?;
    let failed = ground.transport.now();
    taker.fail(&first, None, "the database is away");
    taker.flush().await?;
    drop(taker);
    let mut taker = ground.consumer(&queue, 1).await?;
    let again = ground.arrives_after(&mut taker, failed, ground.span()).await?;
    same("the attempt", again.attempt, 2)
}
