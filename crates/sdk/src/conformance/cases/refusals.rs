//! What a transport does not have it refuses, by the capability's name.

use std::fmt::Debug;
use std::time::Duration;

use super::{cases, lacks};
use crate::Envelope;
use crate::conformance::ground::{Ground, Proof, check, message, same, to_queue};
use crate::transport::{
    Destination, Expected, Outgoing, Position, PublishError, QueueSpec, RetentionSpec, StartAt, TopicSpec, Topology,
    TransportError,
};

cases! {
    lacks("delay") => without_delays_one_is_refused_and_its_neighbours_are_published,
    lacks("keyed") => without_keyed_queues_one_is_refused,
    lacks("dedup") => without_dedup_windows_one_is_refused,
    lacks("priority") => without_priorities_they_are_refused,
    lacks("replay") => without_logs_they_are_refused,
    lacks("key_index") => without_key_indexes_they_are_refused,
    lacks("expected_version") => without_versions_expecting_one_is_refused,
    lacks("ack_and_publish") => without_ack_and_publish_it_is_refused,
    lacks("live") => without_listeners_they_are_refused,
    lacks("browse") => without_browsing_it_is_refused,
    lacks("dead_letter") => without_dead_letters_moving_them_is_refused,
}

fn refused<T: Debug>(capability: &str, what: &str, came: Result<T, TransportError>) -> Proof {
    let as_expected = matches!(&came, Err(TransportError::Unsupported { what, .. }) if *what == capability);
    check(as_expected, || {
        let came = came.map(|came| format!("{came:?}"));
        format!("{what} without {capability}: expected Unsupported by that name, and {came:?} came")
    })
}

fn not_published<T: Debug>(capability: &str, came: Result<T, PublishError>) -> Proof {
    let as_expected = matches!(&came, Err(PublishError::Unsupported { what, .. }) if *what == capability);
    check(as_expected, || {
        format!("a publish without {capability}: expected Unsupported by that name, and {came:?} came")
    })
}

async fn declares_queue(ground: &Ground<'_>, capability: &str, change: impl FnOnce(&mut QueueSpec)) -> Proof {
    let mut spec = QueueSpec::new(ground.name("q"));
    change(&mut spec);
    let topology = Topology { queues: vec![spec], ..Topology::default() };
    refused(capability, "a declaration", ground.transport.declare(&topology).await)?;
    let length = ground.transport.queue_len(&ground.name("q")).await;
    check(matches!(length, Err(TransportError::NotFound(_))), || {
        format!("a refused declaration: expected nothing to be made, and the queue's length is {length:?}")
    })
}

async fn declares_topic(ground: &Ground<'_>, capability: &str, change: impl FnOnce(&mut TopicSpec)) -> Proof {
    let mut spec = TopicSpec::new(ground.name("t"));
    change(&mut spec);
    let topology = Topology { topics: vec![spec], ..Topology::default() };
    refused(capability, "a declaration", ground.transport.declare(&topology).await)
}

async fn without_delays_one_is_refused_and_its_neighbours_are_published(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let not_before = Some(ground.transport.now().after(Duration::from_secs(3600)));
    let delayed = Envelope { not_before, ..message("", "later") };
    let mut answers =
        ground.publish_each(vec![to_queue(&queue, delayed), to_queue(&queue, message("", "now"))]).await?;
    not_published("delay", answers.remove(0))?;
    same("the neighbour", ground.drain(&queue, 1).await?, vec!["now".to_owned()])
}

async fn without_keyed_queues_one_is_refused(ground: &Ground<'_>) -> Proof {
    declares_queue(ground, "keyed", |queue| queue.keyed = true).await
}

async fn without_dedup_windows_one_is_refused(ground: &Ground<'_>) -> Proof {
    declares_queue(ground, "dedup", |queue| queue.dedup_window = Some(Duration::from_secs(60))).await
}

async fn without_priorities_they_are_refused(ground: &Ground<'_>) -> Proof {
    declares_queue(ground, "priority", |queue| queue.priority_levels = Some(10)).await
}

async fn without_logs_they_are_refused(ground: &Ground<'_>) -> Proof {
    declares_topic(ground, "replay", |topic| topic.retention = Some(RetentionSpec::default())).await?;
    let topic = ground.topic("plain", |_| ()).await?;
    refused("replay", "a reader", ground.transport.read(&topic, StartAt::Earliest, false).await.map(drop))?;
    refused("replay", "a look at offsets", ground.transport.committed(&topic, "name").await)?;
    let next = vec![Position { partition: 0, offset: 1 }];
    refused("replay", "a commit", ground.transport.commit(&topic, "name", next).await)
}

async fn without_key_indexes_they_are_refused(ground: &Ground<'_>) -> Proof {
    declares_topic(ground, "key_index", |topic| topic.key_index = true).await?;
    let topic = ground.topic("plain", |_| ()).await?;
    refused("key_index", "a read", ground.transport.read_key(&topic, b"key", 0, 1).await)?;
    refused("key_index", "a look at the last", ground.transport.last_of_key(&topic, b"key").await)
}

async fn without_versions_expecting_one_is_refused(ground: &Ground<'_>) -> Proof {
    let topic = ground.topic("plain", |_| ()).await?;
    let messages = vec![Envelope { key: Some(bytes::Bytes::from_static(b"key")), ..message("orders.event", "1") }];
    not_published("expected_version", ground.transport.publish_expecting(&topic, messages, Expected::Nothing).await)
}

async fn without_ack_and_publish_it_is_refused(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let out = ground.queue("out", |_| ()).await?;
    ground.put(&queue, &["in"]).await?;
    let mut taker = ground.consumer(&queue, 1).await?;
    let delivery = taker.one().await?;
    let messages = vec![to_queue(&out, message("", "out"))];
    not_published("ack_and_publish", taker.settler().ack_and_publish(delivery.tag, messages).await)?;
    ground.drain(&out, 0).await?;
    // It is as it was: out, and to be settled.
    taker.ack(&[delivery]);
    taker.flush().await?;
    ground.has_length(&queue, 0).await
}

async fn without_listeners_they_are_refused(ground: &Ground<'_>) -> Proof {
    refused("live", "a listener", ground.transport.listen("orders.*", None).await.map(drop))?;
    refused("live", "an inbox", ground.transport.open_inbox().await.map(drop))?;
    not_published("live", ground.transport.answer("somewhere", message("", "answer")).await)?;
    let outgoing = Outgoing { to: Destination::Live, message: message("orders.created", "1") };
    not_published("live", ground.publish_each(vec![outgoing]).await?.remove(0))
}

async fn without_browsing_it_is_refused(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    refused("browse", "a look", ground.transport.browse(&queue, 1).await)
}

async fn without_dead_letters_moving_them_is_refused(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    refused("dead_letter", "a redrive", ground.transport.redrive(&format!("{queue}.dlq")).await)
}
