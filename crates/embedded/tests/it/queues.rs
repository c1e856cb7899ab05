//! Publishing and consuming.

use std::time::Duration;

use embedded::Embedded;
use sdk::transport::{
    ConflictPolicy, Consume, Destination, Outgoing, PublishError, QueueSpec, RetrySpec, Settle, Topology,
    TransportError,
};

use crate::kit::{
    binding, consume, failed, log, manual, message, next, publish, queue, settle, soon, text, texts, to_queue, to_topic,
};

const HOUR: Duration = Duration::from_secs(3600);

fn retried(name: &str, attempts: u32) -> QueueSpec {
    let retry = RetrySpec { max_attempts: Some(attempts), initial: HOUR, factor: 1.0, cap: HOUR, jitter: false };
    QueueSpec { retry, ..QueueSpec::new(name) }
}

#[tokio::test]
async fn what_is_acknowledged_is_gone_and_what_failed_comes_again_after_an_hour_that_takes_no_time() {
    let (broker, transport) = manual().await;
    queue(&*transport, retried("q", 3)).await;
    let published = publish(&*transport, vec![to_queue("q", "a"), to_queue("q", "b")]).await;
    assert!(published.iter().all(|one| one.routed == Some(true) && !one.duplicate));
    let mut consumer = consume(&*transport, "q").await;
    let found = next(&mut *consumer, 2).await;
    assert_eq!((texts(&found), found[0].attempt, found[0].redelivered), (vec!["a".into(), "b".into()], 1, false));
    settle(&*consumer, found[0].tag, Settle::Ack).await;
    settle(&*consumer, found[1].tag, failed("no")).await;
    assert_eq!(transport.queue_len("q").await.unwrap(), 1);
    broker.advance(HOUR - Duration::from_millis(1)).await;
    assert!(tokio::time::timeout(Duration::from_millis(50), consumer.next()).await.is_err(), "it is too early");
    broker.advance(Duration::from_millis(1)).await;
    let again = next(&mut *consumer, 1).await;
    assert_eq!((texts(&again), again[0].attempt, again[0].redelivered), (vec!["b".into()], 2, true));
    settle(&*consumer, again[0].tag, Settle::Ack).await;
    assert_eq!(transport.queue_len("q").await.unwrap(), 0);
}

#[tokio::test]
async fn dead_letters_are_kept_apart_with_the_reason_and_can_be_redriven() {
    let (_broker, transport) = manual().await;
    queue(&*transport, retried("q", 1)).await;
    publish(&*transport, vec![to_queue("q", "a"), to_queue("q", "b"), to_queue("q", "c")]).await;
    let mut consumer = consume(&*transport, "q").await;
    let found = next(&mut *consumer, 3).await;
    settle(&*consumer, found[0].tag, failed("its last attempt")).await;
    settle(&*consumer, found[1].tag, Settle::DeadLetter { reason: "poison".to_owned() }).await;
    settle(&*consumer, found[2].tag, Settle::Release).await;
    let again = next(&mut *consumer, 1).await;
    assert_eq!((texts(&again), again[0].attempt), (vec!["c".into()], 1), "a release counts no attempt");
    settle(&*consumer, again[0].tag, Settle::Ack).await;
    assert_eq!(transport.queue_len("q.dlq").await.unwrap(), 2);
    let dead = transport.browse("q.dlq", 100).await.unwrap();
    let reasons: Vec<_> = dead.iter().map(|one| format!("{:?}", one.headers)).collect();
    assert_eq!(dead.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    assert!(reasons[0].contains("its last attempt") && reasons[1].contains("poison"), "{reasons:?}");
    assert_eq!(transport.browse("q.dlq", 1).await.unwrap().len(), 1);
    assert_eq!(soon(transport.redrive("q.dlq")).await.unwrap(), 2);
    assert_eq!(texts(&next(&mut *consumer, 2).await), ["a", "b"]);
}

#[tokio::test]
async fn an_acknowledgement_and_what_it_leads_to_happen_together_or_not_at_all() {
    let (broker, transport) = manual().await;
    for name in ["q", "next"] {
        queue(&*transport, QueueSpec { lease: Duration::from_secs(30), ..QueueSpec::new(name) }).await;
    }
    publish(&*transport, vec![to_queue("q", "a"), to_queue("q", "b")]).await;
    let mut consumer = consume(&*transport, "q").await;
    let found = next(&mut *consumer, 2).await;
    let settler = consumer.settler();
    let leads_to = |text: &str| vec![to_queue("next", text), to_queue("next", "more")];
    soon(settler.ack_and_publish(found[0].tag, leads_to("done"))).await.unwrap();
    assert_eq!(transport.queue_len("next").await.unwrap(), 2);
    let nowhere = soon(settler.ack_and_publish(found[1].tag, vec![to_queue("nowhere", "x")])).await;
    assert!(matches!(nowhere, Err(PublishError::NotFound(_))), "{nowhere:?}");
    broker.advance(Duration::from_secs(31)).await;
    let late = soon(settler.ack_and_publish(found[1].tag, leads_to("late"))).await;
    assert_eq!(late, Err(PublishError::LeaseLost));
    assert_eq!(transport.queue_len("next").await.unwrap(), 2, "nothing was published");
    assert_eq!(soon(settler.ack_and_publish(found[0].tag, leads_to("twice"))).await, Err(PublishError::LeaseLost));
}

#[tokio::test]
async fn each_message_has_its_own_end() {
    let (_broker, transport) = manual().await;
    queue(&*transport, QueueSpec::new("q")).await;
    let odd = Outgoing { to: Destination::Queue("nowhere".to_owned()), message: message("", "b") };
    let mut large = to_queue("q", "c");
    large.message.body = Some(vec![0u8; 32 * 1024 * 1024].into());
    let ends = soon(transport.publish(vec![to_queue("q", "a"), odd, large, to_queue("q", "d")])).await;
    assert!(
        matches!(&ends[..], [Ok(_), Err(PublishError::NotFound(_)), Err(PublishError::Refused(_)), Ok(_)]),
        "{ends:?}"
    );
    let unheard = Outgoing { to: Destination::Live, message: message("nobody.listens", "x") };
    assert_eq!(publish(&*transport, vec![unheard]).await[0].routed, Some(false));
}

#[tokio::test]
async fn a_stopped_consumer_gives_back_what_waits_and_settles_what_is_out() {
    let (_broker, transport) = manual().await;
    queue(&*transport, QueueSpec::new("q")).await;
    publish(&*transport, (0..250).map(|n| to_queue("q", &n.to_string())).collect()).await;
    let mut consumer = consume(&*transport, "q").await;
    let found = next(&mut *consumer, 1).await;
    consumer.stop();
    assert!(soon(consumer.next()).await.unwrap().is_none());
    let settler = consumer.settler();
    settler.settle(found.iter().map(|delivery| (delivery.tag, Settle::Ack)).collect());
    soon(settler.flush()).await;
    let left = 250 - found.len();
    assert_eq!(transport.queue_len("q").await.unwrap(), left as u64);
    let mut other = consume(&*transport, "q").await;
    let rest: Vec<_> = next(&mut *other, left.min(100)).await;
    assert!(rest.iter().all(|delivery| delivery.attempt == 1), "they were not tried");
}

#[tokio::test]
async fn what_is_declared_twice_is_kept_or_changed_as_it_says() {
    let (_broker, transport) = manual().await;
    log(&*transport, "t", 1).await;
    let topology = Topology {
        topics: vec![sdk::transport::TopicSpec::new("t")],
        queues: vec![QueueSpec::new("q")],
        bindings: vec![binding("t", "q", "s.*")],
    };
    for _ in 0..2 {
        soon(transport.declare(&topology)).await.unwrap();
    }
    let published =
        publish(&*transport, vec![to_topic("t", message("s.1", "a")), to_topic("t", message("x", "b"))]).await;
    assert!(published.iter().all(|one| one.position.is_some()), "the topic's log was kept");
    assert_eq!(transport.queue_len("q").await.unwrap(), 1, "one binding, by its subject");
    let longer = QueueSpec { conflict: ConflictPolicy::Keep, lease: HOUR, ..QueueSpec::new("q") };
    queue(&*transport, longer).await;
    let lost = Topology { bindings: vec![binding("nowhere", "q", "#")], ..Topology::default() };
    assert!(matches!(transport.declare(&lost).await, Err(TransportError::NotFound(_))));
    assert!(matches!(transport.queue_len("nowhere").await, Err(TransportError::NotFound(_))));
}

#[tokio::test]
async fn a_closed_transport_sends_what_it_has_and_takes_nothing_more() {
    let (broker, transport) = manual().await;
    queue(&*transport, QueueSpec::new("q")).await;
    publish(&*transport, vec![to_queue("q", "a")]).await;
    let mut consumer = consume(&*transport, "q").await;
    let tag = next(&mut *consumer, 1).await[0].tag;
    consumer.settler().settle(vec![(tag, Settle::Ack)]);
    let last = transport.publish(vec![to_queue("q", "b")]);
    let (ends, ()) = tokio::join!(soon(last), soon(transport.close()));
    assert!(ends[0].is_ok(), "{ends:?}");
    assert_eq!(soon(transport.publish(vec![to_queue("q", "c")])).await[0], Err(PublishError::Closed));
    assert_eq!(transport.queue_len("q").await, Err(TransportError::Closed));
    assert_eq!(soon(consumer.next()).await.unwrap_err(), TransportError::Closed);
    let again = Consume { queue: "q".to_owned(), name: String::new(), credit: 1, lease: None };
    assert!(matches!(transport.consume(again).await, Err(TransportError::Closed)));
    assert_eq!(broker.transport().queue_len("q").await.unwrap(), 1, "b; a was acknowledged");
}

#[tokio::test]
async fn what_is_kept_in_a_directory_outlives_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    {
        let broker = Embedded::builder().data(directory.path()).start().await.unwrap();
        let transport = broker.transport();
        queue(&*transport, QueueSpec::new("q")).await;
        publish(&*transport, vec![to_queue("q", "a")]).await;
        transport.close().await;
        broker.stop().await;
    }
    let broker = Embedded::builder().data(directory.path()).start().await.unwrap();
    assert_eq!(soon(broker.transport().queue_len("q")).await.unwrap(), 1);
}
