//! Where published messages go.

use futures_util::future::join_all;

use super::{CORE, cases};
use crate::conformance::ground::{Ground, Proof, check, message, same, texts, to_queue, to_topic};
use crate::transport::PublishError;

cases! {
    CORE => what_is_put_into_a_queue_comes_out_in_order,
    CORE => what_goes_through_a_topic_reaches_its_queues_in_order,
    CORE => subject_patterns_choose_the_queues,
    CORE => two_bindings_that_fit_give_a_queue_one_copy,
    CORE => a_message_that_nothing_takes_is_not_told_as_routed,
    CORE => a_missing_destination_is_told_and_its_neighbours_are_published,
    CORE => publishes_at_the_same_time_are_all_answered,
}

/// More than go in one frame of most protocols' defaults.
const MANY: usize = 500;
/// In each of several publishes.
const PART: usize = 100;
/// Publishes at a time.
const AT_ONCE: usize = 16;

async fn what_is_put_into_a_queue_comes_out_in_order(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let bodies: Vec<String> = (0..MANY).map(|n| n.to_string()).collect();
    for part in bodies.chunks(PART) {
        ground.publish(part.iter().map(|body| to_queue(&queue, message("", body.clone()))).collect()).await?;
    }
    same("bodies in order", ground.drain(&queue, MANY).await?, bodies)
}

async fn what_goes_through_a_topic_reaches_its_queues_in_order(ground: &Ground<'_>) -> Proof {
    let topic = ground.topic("t", |_| ()).await?;
    let bodies: Vec<String> = (0..PART).map(|n| n.to_string()).collect();
    let queues = [ground.queue("one", |_| ()).await?, ground.queue("two", |_| ()).await?];
    for queue in &queues {
        ground.bind(&topic, queue, "#").await?;
    }
    let subject = ground.subject("made");
    let messages = bodies.iter().map(|body| to_topic(&topic, message(&subject, body.clone()))).collect();
    for published in ground.publish(messages).await? {
        check(published.routed != Some(false), || {
            "a message that two queues have: expected it to be told as routed or nothing, and `routed: false` came"
                .to_owned()
        })?;
    }
    for queue in &queues {
        same("bodies in order", ground.drain(queue, PART).await?, bodies.clone())?;
    }
    Ok(())
}

async fn subject_patterns_choose_the_queues(ground: &Ground<'_>) -> Proof {
    let topic = ground.topic("t", |_| ()).await?;
    let subjects = ["orders", "orders.created", "orders.created.eu", "orders.paid", "stock.created"];
    let patterns: [(&str, &str, &[&str]); 7] = [
        ("exact", "orders.created", &["orders.created"]),
        ("one-word", "orders.*", &["orders.created", "orders.paid"]),
        ("any-words", "orders.#", &["orders", "orders.created", "orders.created.eu", "orders.paid"]),
        ("first-word", "*.created", &["orders.created", "stock.created"]),
        ("within", "#.created.#", &["orders.created", "orders.created.eu", "stock.created"]),
        ("all", "#", &subjects),
        ("two-words", "*.*", &["orders.created", "orders.paid", "stock.created"]),
    ];
    for (what, pattern, _) in patterns {
        let queue = ground.queue(what, |_| ()).await?;
        ground.bind(&topic, &queue, pattern).await?;
    }
    ground.publish(subjects.iter().map(|subject| to_topic(&topic, message(subject, *subject))).collect()).await?;
    for (what, pattern, expected) in patterns {
        let came = ground.drain(&ground.name(what), expected.len()).await?;
        same(&format!("what fits {pattern}"), came, expected.iter().map(|subject| (*subject).to_owned()).collect())?;
    }
    Ok(())
}

async fn two_bindings_that_fit_give_a_queue_one_copy(ground: &Ground<'_>) -> Proof {
    let topic = ground.topic("t", |_| ()).await?;
    let queue = ground.queue("q", |_| ()).await?;
    ground.bind(&topic, &queue, "orders.*").await?;
    ground.bind(&topic, &queue, "#").await?;
    ground.publish(vec![to_topic(&topic, message("orders.created", "once"))]).await?;
    same("the one copy", ground.drain(&queue, 1).await?, vec!["once".to_owned()])
}

async fn a_message_that_nothing_takes_is_not_told_as_routed(ground: &Ground<'_>) -> Proof {
    let topic = ground.topic("t", |_| ()).await?;
    let queue = ground.queue("q", |_| ()).await?;
    ground.bind(&topic, &queue, "orders.created").await?;
    let messages = ["orders.paid", "orders.created"].map(|subject| to_topic(&topic, message(subject, subject)));
    let published = ground.publish(messages.to_vec()).await?;
    let routed: Vec<Option<bool>> = published.iter().map(|published| published.routed).collect();
    check(matches!(routed[..], [Some(false), Some(true)] | [None, None]), || {
        format!("one of two messages has a queue: expected `routed` false and true, or not told, and {routed:?} came")
    })?;
    same("the routed one", ground.drain(&queue, 1).await?, vec!["orders.created".to_owned()])
}

async fn a_missing_destination_is_told_and_its_neighbours_are_published(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let missing = ground.name("missing");
    let messages = vec![
        to_queue(&queue, message("", "first")),
        to_queue(&missing, message("", "into no queue")),
        to_queue(&queue, message("", "second")),
        to_topic(&missing, message("orders.created", "through no topic")),
        to_queue(&queue, message("", "third")),
    ];
    let answers = ground.publish_each(messages).await?;
    for (at, answer) in answers.iter().enumerate() {
        let as_expected = match answer {
            Ok(_) => at % 2 == 0,
            Err(PublishError::NotFound(_)) => at % 2 == 1,
            Err(_) => false,
        };
        check(as_expected, || {
            let expected = if at % 2 == 0 { "it to be published" } else { "NotFound" };
            format!("message {at} of a batch: expected {expected}, and {answer:?} came")
        })?;
    }
    let expected = ["first", "second", "third"].map(str::to_owned).to_vec();
    same("the neighbours", ground.drain(&queue, expected.len()).await?, expected)
}

async fn publishes_at_the_same_time_are_all_answered(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let publishes = (0..AT_ONCE).map(|publisher| {
        let bodies = (0..PART).map(move |n| format!("{publisher}:{n}"));
        ground.publish(bodies.map(|body| to_queue(&queue, message("", body))).collect())
    });
    for published in join_all(publishes).await {
        published?;
    }
    let mut taker = ground.consumer(&queue, 100).await?;
    let mut next = [0; AT_ONCE];
    for _ in 0..AT_ONCE * PART {
        let delivery = taker.one().await?;
        let body = texts([&delivery.message]).concat();
        let (publisher, n) = body.split_once(':').unwrap_or_default();
        let expected = publisher.parse().ok().and_then(|publisher: usize| next.get_mut(publisher));
        let in_order = expected.is_some_and(|expected| {
            let in_order = n.parse() == Ok(*expected);
            *expected += 1;
            in_order
        });
        check(in_order, || {
            format!("expected each publish's messages in their order, and {body:?} came too early or again")
        })?;
        taker.ack(&[delivery]);
    }
    taker.nothing_more("more than was published").await
}
