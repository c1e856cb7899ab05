//! Queues: messages go in and come out, are settled, given back, moved back.

use std::collections::BTreeSet;

use bytes::Bytes;
use sdk::headers;
use sdk::transport::{ConflictPolicy, QueueSpec, Settle, Topology, Transport, TransportError};
use sdk::{Envelope, transport::Capabilities};
use types::{Timestamp, Value};

use super::ground::{body, connect, consume, declare, fresh, message, on_both, take, to_queue, to_topic, until_len};

on_both!(
    a_message_comes_out_as_it_went_in,
    a_released_message_comes_again_and_an_acknowledged_one_does_not,
    many_are_settled_in_any_order,
    a_stopped_consumer_gives_back_what_it_did_not_hand_out,
    dead_letters_go_back_to_where_they_came_from,
    another_queue_of_the_same_name_is_a_conflict,
    what_is_not_there_is_said_to_be_missing,
    higher_priorities_come_first,
    closing_flushes,
);

async fn a_message_comes_out_as_it_went_in(url: &str) {
    let amqp = connect(url).await;
    let (topic, queue) = (fresh("topic"), fresh("queue"));
    declare(&amqp, &topic, &queue).await;
    let mut sent = Envelope {
        key: Some(Bytes::from_static(b"customer-7")),
        headers: vec![("a".into(), Value::int(-1)), ("b".into(), Value::List(vec![Value::from("x"), Value::Null]))],
        content_type: Some("application/json".into()),
        timestamp: Some(Timestamp(1_700_000_000_123)),
        correlation_id: Some("c".into()),
        reply_to: Some("r".into()),
        expires_at: Some(Timestamp(amqp.now().0 + 60_000)),
        priority: Some(2),
        dedup_id: Some("d".into()),
        ..message("one", "order.created")
    };
    let published = amqp.publish(vec![to_topic(&topic, sent.clone()), to_queue(&queue, sent.clone())]).await;
    assert!(published.iter().all(|published| published.as_ref().unwrap().routed == Some(true)), "{published:?}");
    let mut consumer = consume(&amqp, &queue, 10).await;
    let taken = take(&mut *consumer, 2).await;
    assert_eq!(taken[1].message, sent, "into the queue");
    sent.topic = Some(topic.as_str().into());
    assert_eq!(taken[0].message, sent, "by the topic");
    assert_eq!((taken[0].attempt, taken[0].redelivered), (1, false));
    amqp.close().await;
}

async fn a_released_message_comes_again_and_an_acknowledged_one_does_not(url: &str) {
    let amqp = connect(url).await;
    let (topic, queue) = (fresh("topic"), fresh("queue"));
    declare(&amqp, &topic, &queue).await;
    for id in ["kept", "released"] {
        amqp.publish(vec![to_queue(&queue, message(id, "s"))]).await.remove(0).unwrap();
    }
    let mut consumer = consume(&amqp, &queue, 10).await;
    let taken = take(&mut *consumer, 2).await;
    let settler = consumer.settler();
    settler.settle(vec![(taken[0].tag, Settle::Ack), (taken[1].tag, Settle::Release)]);
    let again = take(&mut *consumer, 1).await;
    assert_eq!((body(&again[0]).as_str(), again[0].redelivered), ("released", true));
    settler.settle(vec![(again[0].tag, Settle::Ack)]);
    settler.flush().await;
    drop((consumer, settler));
    amqp.close().await;
    let amqp = connect(url).await;
    until_len(&amqp, &queue, 0).await;
}

async fn many_are_settled_in_any_order(url: &str) {
    let amqp = connect(url).await;
    let (topic, queue) = (fresh("topic"), fresh("queue"));
    declare(&amqp, &topic, &queue).await;
    let numbers: Vec<u32> = (0..2_000).collect();
    let all = numbers.iter().map(|number| to_topic(&topic, message(&number.to_string(), "n"))).collect();
    assert!(amqp.publish(all).await.iter().all(Result::is_ok));
    // Less credit than messages: they come only as others are settled.
    let mut consumer = consume(&amqp, &queue, 50).await;
    let settler = consumer.settler();
    let mut came = Vec::new();
    while came.len() < numbers.len() {
        let mut batch = take(&mut *consumer, 1).await;
        came.extend(batch.iter().map(|delivery| body(delivery).parse::<u32>().unwrap()));
        fastrand::shuffle(&mut batch);
        for part in batch.chunks(7) {
            settler.settle(part.iter().map(|delivery| (delivery.tag, Settle::Ack)).collect());
        }
    }
    assert_eq!(came, numbers);
    settler.flush().await;
    drop((consumer, settler));
    amqp.close().await;
    until_len(&connect(url).await, &queue, 0).await;
}

async fn a_stopped_consumer_gives_back_what_it_did_not_hand_out(url: &str) {
    let amqp = connect(url).await;
    let (topic, queue) = (fresh("topic"), fresh("queue"));
    declare(&amqp, &topic, &queue).await;
    for id in 0..5 {
        amqp.publish(vec![to_queue(&queue, message(&id.to_string(), "s"))]).await.remove(0).unwrap();
    }
    let mut first = consume(&amqp, &queue, 1).await;
    let mine = take(&mut *first, 1).await;
    let settler = first.settler();
    first.stop();
    assert!(first.next().await.unwrap().is_none());
    let mut second = consume(&amqp, &queue, 10).await;
    let others: BTreeSet<_> = take(&mut *second, 4).await.iter().map(body).collect();
    assert_eq!(others, ["1", "2", "3", "4"].map(str::to_owned).into());
    // What is out can still be settled.
    settler.settle(vec![(mine[0].tag, Settle::Ack)]);
    settler.flush().await;
    drop((first, settler, second));
    until_len(&amqp, &queue, 4).await;
}

async fn dead_letters_go_back_to_where_they_came_from(url: &str) {
    let amqp = connect(url).await;
    let (topic, queue) = (fresh("topic"), fresh("queue"));
    declare(&amqp, &topic, &queue).await;
    let dead = format!("{queue}.dlq");
    for id in ["a", "b", "c"] {
        let mut letter = message(id, "order.created");
        headers::set(&mut letter, headers::DEAD_LETTER_QUEUE, queue.as_str());
        headers::set(&mut letter, headers::DEAD_LETTER_REASON, "no such product");
        headers::set_value(&mut letter, headers::ATTEMPT, Value::int(5));
        amqp.publish(vec![to_queue(&dead, letter)]).await.remove(0).unwrap();
    }
    until_len(&amqp, &dead, 3).await;
    assert_eq!(amqp.redrive(&dead).await, Ok(3));
    assert_eq!(amqp.queue_len(&dead).await, Ok(0));
    let mut consumer = consume(&amqp, &queue, 10).await;
    let taken = take(&mut *consumer, 3).await;
    assert_eq!(taken.iter().map(body).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!((taken[0].attempt, &taken[0].message.subject[..]), (1, &b"order.created"[..]));
    assert!(headers::text(&taken[0].message, headers::DEAD_LETTER_REASON).is_none());
    assert_eq!(amqp.redrive(&dead).await, Ok(0));
}

async fn another_queue_of_the_same_name_is_a_conflict(url: &str) {
    let amqp = connect(url).await;
    let name = fresh("queue");
    let of = |priority_levels, conflict| Topology {
        queues: vec![QueueSpec { priority_levels, conflict, ..QueueSpec::new(name.clone()) }],
        ..Topology::default()
    };
    amqp.declare(&of(Some(5), ConflictPolicy::Update)).await.unwrap();
    amqp.declare(&of(Some(5), ConflictPolicy::Update)).await.unwrap();
    match amqp.declare(&of(None, ConflictPolicy::Update)).await {
        Err(TransportError::Conflict { what, why }) => {
            assert!(what.contains(&name) && why.contains("x-max-priority"), "{what}: {why}");
        }
        other => panic!("{other:?}"),
    }
    amqp.declare(&of(None, ConflictPolicy::Keep)).await.unwrap();
}

async fn what_is_not_there_is_said_to_be_missing(url: &str) {
    let amqp = connect(url).await;
    let name = fresh("missing");
    assert!(matches!(amqp.queue_len(&name).await, Err(TransportError::NotFound(what)) if what.contains(&name)));
    assert!(matches!(amqp.redrive(&name).await, Err(TransportError::NotFound(_))));
    let consume = sdk::transport::Consume { queue: name, name: "c".into(), credit: 1, lease: None };
    assert!(matches!(amqp.consume(consume).await, Err(TransportError::NotFound(_))));
    let Capabilities { browse, .. } = amqp.capabilities();
    assert!(!browse.is_there() && matches!(amqp.browse("q", 1).await, Err(TransportError::Unsupported { .. })));
}

async fn higher_priorities_come_first(url: &str) {
    let amqp = connect(url).await;
    let name = fresh("queue");
    let queues = vec![QueueSpec { priority_levels: Some(10), ..QueueSpec::new(name.clone()) }];
    amqp.declare(&Topology { queues, ..Topology::default() }).await.unwrap();
    let of = |id, priority| to_queue(&name, Envelope { priority: Some(priority), ..message(id, "s") });
    assert!(amqp.publish(vec![of("low", 0), of("high", 9), of("middle", 5)]).await.iter().all(Result::is_ok));
    let mut consumer = consume(&amqp, &name, 10).await;
    let came: Vec<_> = take(&mut *consumer, 3).await.iter().map(body).collect();
    assert_eq!(came, ["high", "middle", "low"]);
}

async fn closing_flushes(url: &str) {
    let amqp = connect(url).await;
    let (topic, queue) = (fresh("topic"), fresh("queue"));
    declare(&amqp, &topic, &queue).await;
    amqp.publish(vec![to_queue(&queue, message("1", "s"))]).await.remove(0).unwrap();
    let mut consumer = consume(&amqp, &queue, 10).await;
    let taken = take(&mut *consumer, 1).await;
    let settler = consumer.settler();
    settler.settle(vec![(taken[0].tag, Settle::Ack)]);
    let mut connection = amqp.connection();
    let (published, ()) = tokio::join!(amqp.publish(vec![to_queue(&queue, message("2", "s"))]), amqp.close());
    published[0].as_ref().unwrap();
    connection.wait_for(|state| *state == sdk::transport::Connection::Closed).await.unwrap();
    let late = amqp.publish(vec![to_queue(&queue, message("3", "s"))]).await.remove(0);
    assert_eq!(late, Err(sdk::transport::PublishError::Closed));
    assert!(consumer.next().await.unwrap().is_none());
    assert_eq!(amqp.queue_len(&queue).await, Err(TransportError::Closed));
    until_len(&connect(url).await, &queue, 1).await;
}
