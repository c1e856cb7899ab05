//! Queues: order, acknowledgement, retry, dead letters, redrive, restart.

use std::time::Duration;

use broker::Redrive;
use broker::definitions::QueueConfig;
use broker::queue::Settle;
use types::Message;

use crate::harness::{Bench, bodies, publish, queue, receive, to};

#[tokio::test]
async fn messages_come_in_order_and_acknowledged_ones_do_not_come_back_after_a_restart() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "orders", QueueConfig::default()).await;
    publish(&session, to("orders"), ["a", "b", "c"].map(|body| Message::new("", body)).into()).await;
    let taken = receive(&session, "orders", 2).await;
    assert_eq!(bodies(&taken), ["a", "b"]);
    let acked = session.settle(vec![(taken[0].receipt, Settle::Ack)]).await;
    assert_eq!(acked, [Ok(())]);
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    let taken = receive(&session, "orders", 10).await;
    assert_eq!(bodies(&taken), ["b", "c"]);
    assert!(taken[0].redelivered);
}

#[tokio::test]
async fn a_message_that_fails_is_retried_then_dead_lettered_with_its_story_and_goes_back_on_redrive() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "payment", QueueConfig::default()).await;
    publish(&session, to("payment"), vec![Message::new("", "pay")]).await;
    for attempt in 1..=5 {
        let taken = receive(&session, "payment", 1).await;
        assert_eq!(taken.len(), 1, "attempt {attempt}");
        assert_eq!(taken[0].attempt, attempt);
        let nack = Settle::Nack { after: None, error: Some("declined".into()), counts: true };
        assert_eq!(session.settle(vec![(taken[0].receipt, nack)]).await, [Ok(())]);
        bench.pass(Duration::from_secs(600)).await;
    }
    assert_eq!(session.queue("payment").expect("there").depth.ready, 0);
    let dead = receive(&session, "payment.dlq", 1).await;
    let header = |name: &str| dead[0].message.header(name).and_then(types::Value::as_text).map(str::to_owned);
    assert_eq!(header("ph-dead-letter-reason").as_deref(), Some("max-attempts"));
    assert_eq!(header("ph-dead-letter-error").as_deref(), Some("declined"));
    session.settle(vec![(dead[0].receipt, Settle::Release)]).await;
    session.redrive("payment.dlq", Redrive::default()).expect("redrives");
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(bodies(&receive(&session, "payment", 1).await), ["pay"]);
    assert_eq!(session.queue("payment.dlq").expect("there").depth.ready, 0);
}
