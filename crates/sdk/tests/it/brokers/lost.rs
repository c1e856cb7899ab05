//! Lost connections.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sdk::transport::amqp::{Amqp, AmqpOptions};
use sdk::transport::{Connection, PublishError, Settle, Transport, TransportError};
use tokio::time::{Instant, sleep};

use super::ground::{
    Wire, body, connect, consume, declare, fresh, message, on_both, options, take, to_queue, until_len,
};

on_both!(
    publishes_and_consumers_outlive_a_lost_connection,
    what_is_not_confirmed_in_time_is_said_to_be_unknown,
    pending_publishes_are_bounded,
    a_refused_login_is_told_at_once,
);

async fn publishes_and_consumers_outlive_a_lost_connection(url: &str) {
    let wire = Wire::to(url).await;
    let (near, far) = (Arc::new(connect(wire.url()).await), connect(url).await);
    let (topic, queue) = (fresh("topic"), fresh("queue"));
    declare(&far, &topic, &queue).await;
    let mut consumer = consume(&near, &queue, 20).await;
    let settler = consumer.settler();
    let publisher = tokio::spawn({
        let (near, queue) = (Arc::clone(&near), queue.clone());
        async move {
            for at in 0..300 {
                near.publish(vec![to_queue(&queue, message(&at.to_string(), "s"))]).await.remove(0).unwrap();
            }
        }
    });
    let cutter = tokio::spawn(async move {
        let mut state = near.connection();
        for _ in 0..3 {
            sleep(Duration::from_millis(150)).await;
            wire.cut();
            state.wait_for(|state| *state == Connection::Down).await.unwrap();
            wire.mend();
            state.wait_for(|state| *state == Connection::Up).await.unwrap();
        }
        (near, wire)
    });
    let mut came = BTreeSet::new();
    let mut tags = BTreeSet::new();
    while came.len() < 300 {
        for delivery in take(&mut *consumer, 1).await {
            came.insert(body(&delivery).parse::<u32>().unwrap());
            assert!(tags.insert(delivery.tag), "a tag came twice");
            settler.settle(vec![(delivery.tag, Settle::Ack)]);
        }
    }
    publisher.await.unwrap();
    let (near, _wire) = cutter.await.unwrap();
    // Copies of those that were under way may still come.
    let drained = async {
        loop {
            for delivery in consumer.next().await.unwrap().unwrap() {
                settler.settle(vec![(delivery.tag, Settle::Ack)]);
            }
        }
    };
    tokio::select! {
        () = drained => {}
        () = sleep(Duration::from_millis(500)) => {}
    }
    settler.flush().await;
    near.close().await;
    until_len(&far, &queue, 0).await;
}

async fn what_is_not_confirmed_in_time_is_said_to_be_unknown(url: &str) {
    let wire = Wire::to(url).await;
    let confirm_timeout = Duration::from_millis(700);
    let patience = confirm_timeout;
    let near = Amqp::connect(wire.url(), AmqpOptions { confirm_timeout, patience, ..options() }).await.unwrap();
    let (topic, queue) = (fresh("topic"), fresh("queue"));
    declare(&near, &topic, &queue).await;
    wire.cut();
    near.connection().wait_for(|state| *state == Connection::Down).await.unwrap();
    let start = Instant::now();
    let published = near.publish(vec![to_queue(&queue, message("1", "s"))]).await.remove(0);
    assert_eq!(published, Err(PublishError::Unconfirmed { waited: confirm_timeout }));
    assert!(start.elapsed() >= confirm_timeout && start.elapsed() < confirm_timeout * 4, "{:?}", start.elapsed());
    assert!(matches!(near.queue_len(&queue).await, Err(TransportError::Unavailable { .. })));
    wire.mend();
    near.connection().wait_for(|state| *state == Connection::Up).await.unwrap();
    near.publish(vec![to_queue(&queue, message("2", "s"))]).await.remove(0).unwrap();
}

async fn pending_publishes_are_bounded(url: &str) {
    let wire = Wire::to(url).await;
    let confirm_timeout = Duration::from_millis(500);
    let bounded = AmqpOptions { confirm_timeout, max_pending: 2, ..options() };
    let near = Amqp::connect(wire.url(), bounded).await.unwrap();
    let (topic, queue) = (fresh("topic"), fresh("queue"));
    declare(&near, &topic, &queue).await;
    // More than fit, one after the other.
    let ten = |from: u32| (from..from + 10).map(|at| to_queue(&queue, message(&at.to_string(), "s"))).collect();
    assert!(near.publish(ten(0)).await.iter().all(Result::is_ok));
    wire.cut();
    near.connection().wait_for(|state| *state == Connection::Down).await.unwrap();
    let published = near.publish(ten(10)).await;
    let count = |wanted: fn(&PublishError) -> bool| {
        published.iter().filter(|published| published.as_ref().is_err_and(wanted)).count()
    };
    let (unknown, not_sent) = (
        count(|error| matches!(error, PublishError::Unconfirmed { .. })),
        count(|error| matches!(error, PublishError::TooManyPending { limit: "max_pending", .. })),
    );
    assert_eq!(unknown + not_sent, 10, "{published:?}");
    assert!(unknown >= 2 && not_sent > 0, "{published:?}");
}

async fn a_refused_login_is_told_at_once(url: &str) {
    let mut wrong = url::Url::parse(url).unwrap();
    wrong.set_password(Some("wrong-password")).unwrap();
    let error = Amqp::connect(wrong.as_str(), options()).await.unwrap_err();
    assert!(matches!(error, TransportError::Denied(_)), "{error}");
    assert!(!error.to_string().contains("wrong-password"), "{error}");
    let unreachable = AmqpOptions { patience: Duration::from_millis(300), ..options() };
    let error = Amqp::connect("amqp://guest:guest@127.0.0.1:1/%2f", unreachable).await.unwrap_err();
    assert!(matches!(error, TransportError::Unavailable { .. }), "{error}");
}
