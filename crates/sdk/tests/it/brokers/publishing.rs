//! Publishing: what leads nowhere, what is missing, what waits.

use std::time::Duration;

use sdk::Envelope;
use sdk::transport::{Destination, Outgoing, PublishError, TopicSpec, Topology, Transport};
use types::Timestamp;

use super::ground::{body, connect, consume, declare, fresh, message, on_both, take, to_queue, to_topic};

on_both!(
    what_leads_nowhere_is_told_of_each_message,
    a_missing_topic_is_told_of_its_messages_alone,
    a_topic_that_is_deleted_meanwhile_stops_its_messages_alone,
    delayed_messages_come_in_time_and_in_order,
    a_delay_that_cannot_be_is_refused,
);

async fn what_leads_nowhere_is_told_of_each_message(url: &str) {
    let amqp = connect(url).await;
    let (topic, nowhere, queue) = (fresh("topic"), fresh("nowhere"), fresh("queue"));
    declare(&amqp, &topic, &queue).await;
    amqp.declare(&Topology { topics: vec![TopicSpec::new(nowhere.as_str())], ..Topology::default() }).await.unwrap();
    let leads_somewhere: Vec<bool> = (0..400).map(|_| fastrand::bool()).collect();
    let messages = leads_somewhere.iter().enumerate();
    let messages = messages
        .map(|(at, somewhere)| to_topic(if *somewhere { &topic } else { &nowhere }, message(&at.to_string(), "s")));
    let published = amqp.publish(messages.collect()).await;
    let routed: Vec<_> = published.into_iter().map(|published| published.unwrap().routed.unwrap()).collect();
    assert_eq!(routed, leads_somewhere);
}

async fn a_missing_topic_is_told_of_its_messages_alone(url: &str) {
    let amqp = connect(url).await;
    let (topic, queue) = (fresh("topic"), fresh("queue"));
    declare(&amqp, &topic, &queue).await;
    let (no_topic, no_queue) = (fresh("missing-topic"), fresh("missing-queue"));
    publish_among(&amqp, &topic, &no_topic, &no_queue).await;
    let mut consumer = consume(&amqp, &queue, 100).await;
    let came: Vec<_> = take(&mut *consumer, 24).await.iter().map(body).collect();
    assert_eq!(came, expected().map(|at| at.to_string()).collect::<Vec<_>>());
}

async fn a_topic_that_is_deleted_meanwhile_stops_its_messages_alone(url: &str) {
    let amqp = connect(url).await;
    let (topic, queue, deleted) = (fresh("topic"), fresh("queue"), fresh("deleted"));
    declare(&amqp, &topic, &queue).await;
    amqp.declare(&Topology { topics: vec![TopicSpec::new(deleted.as_str())], ..Topology::default() }).await.unwrap();
    // From now on the transport takes it for granted.
    let published = amqp.publish(vec![to_topic(&deleted, message("0", "s"))]).await.remove(0);
    assert_eq!(published.unwrap().routed, Some(false));
    let other = lapin::Connection::connect(url, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = other.create_channel().await.unwrap();
    channel.exchange_delete(deleted.as_str().into(), lapin::options::ExchangeDeleteOptions::default()).await.unwrap();
    publish_among(&amqp, &topic, &deleted, &fresh("missing-queue")).await;
    // Those that were under way when the broker closed the channel may have come twice, in order each time.
    let mut consumer = consume(&amqp, &queue, 100).await;
    let mut came: Vec<u32> = Vec::new();
    while came.last() != Some(&29) {
        came.extend(take(&mut *consumer, 1).await.iter().map(|delivery| body(delivery).parse::<u32>().unwrap()));
    }
    came.sort_unstable();
    came.dedup();
    assert_eq!(came, expected().collect::<Vec<_>>());
}

/// Those of [`publish_among`] that lead somewhere.
fn expected() -> impl Iterator<Item = u32> {
    (0..30).filter(|at| !matches!(at % 10, 3 | 6))
}

async fn publish_among(amqp: &dyn Transport, topic: &str, no_topic: &str, no_queue: &str) {
    let messages = (0..30).map(|at| match at % 10 {
        3 => to_topic(no_topic, message(&at.to_string(), "s")),
        6 => to_queue(no_queue, message(&at.to_string(), "s")),
        _ => to_topic(topic, message(&at.to_string(), "s")),
    });
    let published = amqp.publish(messages.collect()).await;
    for (at, published) in published.iter().enumerate() {
        match (at % 10, published) {
            (3, Err(PublishError::NotFound(what))) => assert!(what.contains(no_topic), "{what}"),
            (6, Err(PublishError::NotFound(what))) => assert!(what.contains(no_queue), "{what}"),
            (3 | 6, other) => panic!("{at}: {other:?}"),
            (_, other) => assert_eq!(other.as_ref().unwrap().routed, Some(true), "{at}"),
        }
    }
}

async fn delayed_messages_come_in_time_and_in_order(url: &str) {
    let amqp = connect(url).await;
    let (topic, queue) = (fresh("topic"), fresh("queue"));
    declare(&amqp, &topic, &queue).await;
    let start = amqp.now();
    let delayed =
        |id: &str, ms: i64| Envelope { not_before: Some(Timestamp(start.0 + ms)), ..message(id, "order.created") };
    // It lives longer than it waits; the last does not.
    let lives = Envelope { expires_at: Some(Timestamp(start.0 + 60_000)), ..delayed("500", 500) };
    let dies = Envelope { expires_at: Some(Timestamp(start.0 + 100)), ..delayed("never", 700) };
    let published = amqp
        .publish(vec![
            to_queue(&queue, delayed("2000", 2_000)),
            to_topic(&topic, delayed("1000", 1_000)),
            to_queue(&queue, lives),
            to_topic(&topic, dies),
            to_queue(&queue, delayed("0", 0)),
        ])
        .await;
    for (at, published) in published.iter().enumerate() {
        assert_eq!(published.as_ref().unwrap().routed, (at == 4).then_some(true), "{at}");
    }
    let mut consumer = consume(&amqp, &queue, 10).await;
    for wait_ms in [0, 500, 1_000, 2_000] {
        let taken = take(&mut *consumer, 1).await;
        let waited_ms = amqp.now().0 - start.0;
        assert_eq!((taken.len(), body(&taken[0])), (1, wait_ms.to_string()));
        // The rest of the time is this machine's, which other tests share.
        assert!(waited_ms >= wait_ms && waited_ms <= wait_ms + wait_ms / 4 + 1_500, "{wait_ms}: {waited_ms}");
        let message = &taken[0].message;
        assert_eq!(&message.subject[..], b"order.created");
        assert_eq!(message.topic.as_deref(), (wait_ms == 1_000).then_some(topic.as_str()));
        assert!(message.headers.is_empty(), "{:?}", message.headers);
        assert_eq!(message.expires_at.is_some(), wait_ms == 500);
    }
}

async fn a_delay_that_cannot_be_is_refused(url: &str) {
    let amqp = connect(url).await;
    let in_time = |by: Duration| Some(Timestamp(amqp.now().0 + i64::try_from(by.as_millis()).unwrap()));
    let waits = Envelope { not_before: in_time(Duration::from_secs(60)), ..message("1", "s") };
    let missing = fresh("missing");
    for to in [Destination::Queue(missing.clone()), Destination::Topic(missing.clone())] {
        let published = amqp.publish(vec![Outgoing { to, message: waits.clone() }]).await.remove(0);
        assert!(matches!(&published, Err(PublishError::NotFound(what)) if what.contains(&missing)), "{published:?}");
    }
    let live = amqp.publish(vec![Outgoing { to: Destination::Live, message: waits.clone() }]).await.remove(0);
    assert!(matches!(live, Err(PublishError::Unsupported { .. })), "{live:?}");
    let longest = amqp.capabilities().max_delay.unwrap();
    let long = Envelope { not_before: in_time(longest + Duration::from_secs(60)), ..waits };
    assert!(matches!(amqp.publish(vec![to_queue("q", long)]).await.remove(0), Err(PublishError::Refused(_))));
}
