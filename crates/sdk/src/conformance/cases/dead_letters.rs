//! Messages that are given up, and the way back.

use types::Value;

use super::retries::doubling;
use super::{CORE, broker, cases, has};
use crate::Envelope;
use crate::conformance::ground::{Failure, Ground, Proof, check, same, text_of, texts};
use crate::transport::{Settle, TransportError};

cases! {
    CORE => a_queue_has_a_dead_letter_queue,
    broker("dead_letter") => a_dead_letter_is_kept_apart_with_its_reason,
    broker("dead_letter").and("retry") => the_last_attempt_that_fails_makes_a_dead_letter,
    broker("dead_letter") => dead_letters_are_moved_back,
    has("browse") => looking_at_a_queue_takes_nothing,
    broker("dead_letter").and("browse") => a_dead_letter_and_its_reason_can_be_looked_at,
}

async fn a_queue_has_a_dead_letter_queue(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.has_length(&dlq(&queue), 0).await?;
    ground.put(&dlq(&queue), &["put there by hand"]).await?;
    ground.drain(&dlq(&queue), 1).await.map(drop)
}

fn dlq(queue: &str) -> String {
    format!("{queue}.dlq")
}

/// Some header holds these words, whichever the transport writes them into.
fn tells(message: &Envelope, words: &str) -> Proof {
    let holds = |(_, value): &(types::Text, Value)| value.as_text().is_some_and(|text| text.contains(words));
    check(message.headers.iter().any(holds), || {
        format!("expected a dead letter with a header that says {words:?}, and these came: {:?}", message.headers)
    })
}

async fn a_dead_letter_is_kept_apart_with_its_reason(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["poison", "fine"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let poison = taker.one_with("poison").await?;
    taker.settle(&poison, Settle::DeadLetter { reason: "no such product".to_owned() });
    taker.ack_one("fine").await?;
    taker.flush().await?;
    taker.nothing_more("a message that was given up").await?;
    let mut dead = ground.consumer(&dlq(&queue), 5).await?;
    let letter = dead.one_with("poison").await?;
    same("its id", &letter.message.id, &poison.message.id)?;
    tells(&letter.message, "no such product")?;
    dead.ack(&[letter]);
    dead.flush().await?;
    ground.has_length(&queue, 0).await
}

async fn the_last_attempt_that_fails_makes_a_dead_letter(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |queue| queue.retry = doubling(ground, Some(2))).await?;
    ground.put(&queue, &["poison"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let first = taker.one().await?;
    let failed = ground.transport.now();
    taker.fail(&first, None, "the first error");
    let second = ground.arrives_after(&mut taker, failed, ground.span()).await?;
    same("the attempt", second.attempt, 2)?;
    taker.fail(&second, None, "the last error");
    taker.flush().await?;
    let letter = ground.consumer(&dlq(&queue), 5).await?.one_with("poison").await?;
    tells(&letter.message, "the last error")?;
    ground.has_length(&queue, 0).await
}

async fn dead_letters_are_moved_back(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1", "2"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    for delivery in taker.take(2).await? {
        taker.settle(&delivery, Settle::DeadLetter { reason: "the handler has a bug".to_owned() });
    }
    taker.flush().await?;
    ground.has_length(&dlq(&queue), 2).await?;
    let moved = ground.soon("a redrive's end", ground.transport.redrive(&dlq(&queue))).await??;
    same("how many were moved", moved, 2)?;
    let mut again = taker.take(2).await?;
    again.sort_by_key(|delivery| text_of(&delivery.message));
    for (delivery, body) in again.iter().zip(["1", "2"]) {
        same("the body", text_of(&delivery.message), body.to_owned())?;
        same("the attempt of a message that has a new chance", delivery.attempt, 1)?;
    }
    taker.ack(&again);
    taker.flush().await?;
    ground.has_length(&dlq(&queue), 0).await?;
    same("what is left to move", ground.transport.redrive(&dlq(&queue)).await?, 0)
}

async fn looking_at_a_queue_takes_nothing(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    same("an empty queue", ground.transport.browse(&queue, 10).await?, Vec::new())?;
    ground.put(&queue, &["1", "2", "3"]).await?;
    let two = ["1", "2"].map(str::to_owned).to_vec();
    same("the first two", texts(&ground.transport.browse(&queue, 2).await?), two)?;
    let three = ["1", "2", "3"].map(str::to_owned).to_vec();
    same("all", texts(&ground.transport.browse(&queue, 10).await?), three.clone())?;
    let missing = ground.transport.browse(&ground.name("missing"), 10).await;
    check(matches!(missing, Err(TransportError::NotFound(_))), || {
        format!("looking at a missing queue: expected NotFound, and {missing:?} came")
    })?;
    let mut taker = ground.consumer(&queue, 10).await?;
    let taken = taker.take(3).await?;
    for delivery in &taken {
        check(!delivery.redelivered && delivery.attempt == 1, || {
            format!("expected a look to leave no trace, and {delivery:?} came")
        })?;
    }
    same("what a consumer gets", texts(taken.iter().map(|delivery| &delivery.message)), three)
}

async fn a_dead_letter_and_its_reason_can_be_looked_at(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["poison"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let poison = taker.one().await?;
    taker.settle(&poison, Settle::DeadLetter { reason: "no such product".to_owned() });
    taker.flush().await?;
    let look = || async {
        let letters = ground.transport.browse(&dlq(&queue), 10).await?;
        Ok((!letters.is_empty()).then_some(letters))
    };
    let letters = ground.until("a dead letter", look).await?;
    same("the dead letters", texts(&letters), vec!["poison".to_owned()])?;
    let letter = letters.first().ok_or_else(|| Failure("expected a dead letter".to_owned()))?;
    tells(letter, "no such product")
}
