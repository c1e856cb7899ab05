//! What a queue's definition can ask for: times, bounds, order, and who may consume.

use std::time::Duration;

use broker::definitions::{BreakerConfig, DeadLetterConfig, OverflowConfig, QueueConfig, RetryConfig};
use broker::queue::{AttachError, Settle};
use broker::views::BrowsedState;
use broker::{ConsumeError, DeclareError, PublishError, PublishOptions, Receive, Session};
use types::{Filter, Message, Offset, Value};

use crate::harness::{
    Bench, bind, bodies, consumer, credit, depth, many, nack, publish, queue, receive, settle, to, topic,
};

fn now(bench: &Bench) -> types::Timestamp {
    use types::Clock as _;
    bench.clock.now().wall
}

async fn try_publish(session: &Session, queue: &str, message: Message) -> Result<(), PublishError> {
    session.publish(&to(queue), vec![message], PublishOptions::default()).await.map(|_| ())
}

fn reason(delivered: &broker::views::Delivered) -> Option<&str> {
    delivered.message.header("ph-dead-letter-reason").and_then(Value::as_text)
}

#[tokio::test]
async fn delayed_messages_wait_for_their_time_also_through_a_restart() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { delay_ms: Some(10_000), ..QueueConfig::default() }).await;
    let mut later = Message::new("", "later");
    later.not_before = Some(now(&bench).after(Duration::from_secs(20)));
    publish(&session, to("q"), vec![later, Message::new("", "soon")]).await;
    assert_eq!(depth(&session, "q"), (0, 2, 0, 0));
    bench.pass(Duration::from_millis(9_999)).await;
    assert!(receive(&session, "q", 10).await.is_empty());
    bench.pass(Duration::from_millis(1)).await;
    assert_eq!(depth(&session, "q"), (1, 1, 0, 0));
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    bench.pass(Duration::ZERO).await;
    assert_eq!(depth(&session, "q"), (1, 1, 0, 0));
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["soon"]);
    bench.pass(Duration::from_secs(10)).await;
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["later"]);
}

#[tokio::test]
async fn messages_expire_with_and_without_consumers_and_are_dead_letters() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { ttl_ms: Some(5_000), ..QueueConfig::default() }).await;
    let mut short = Message::new("", "short");
    short.expires_at = Some(now(&bench).after(Duration::from_secs(1)));
    publish(&session, to("q"), vec![short, Message::new("", "long")]).await;
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(bodies(&receive(&session, "q.dlq", 10).await), ["short"]);
    // Asked for at its very end, before any tick, it is not delivered.
    bench.clock.advance(Duration::from_secs(4));
    assert!(receive(&session, "q", 10).await.is_empty());
    bench.pass(Duration::ZERO).await;
    let dead = receive(&session, "q.dlq", 10).await;
    assert_eq!((bodies(&dead), reason(&dead[0])), (vec!["long".to_owned()], Some("expired")));
    assert!(dead[0].message.expires_at.is_none(), "it does not expire there");
    let counters = session.queue("q").expect("there").counters;
    assert_eq!((counters.expired, counters.dead_lettered, counters.delivered), (2, 2, 0));
    // What expires while the broker is away goes when it is back.
    many(&session, "q", &["away"]).await;
    drop(session);
    bench.clock.advance(Duration::from_secs(60));
    let bench = bench.restart();
    bench.pass(Duration::ZERO).await;
    let session = bench.session();
    assert_eq!(depth(&session, "q"), (0, 0, 0, 0));
    assert!(bodies(&receive(&session, "q.dlq", 10).await).contains(&"away".to_owned()));
}

#[tokio::test]
async fn an_unused_queue_goes_with_its_time_and_a_used_one_stays() {
    let bench = Bench::new();
    let session = bench.session();
    let config =
        QueueConfig { expires_ms: Some(10_000), dead_letter: Some(DeadLetterConfig::None), ..QueueConfig::default() };
    queue(&session, "q", config).await;
    for _ in 0..3 {
        bench.pass(Duration::from_secs(8)).await;
        receive(&session, "q", 1).await;
    }
    let held = session.consume("q", consumer(false, 0)).expect("attaches");
    bench.pass(Duration::from_secs(30)).await;
    drop(held);
    bench.pass(Duration::from_secs(8)).await;
    assert!(session.queue("q").is_ok());
    bench.pass(Duration::from_secs(3)).await;
    assert!(session.queue("q").is_err());
}

#[tokio::test]
async fn a_full_queue_refuses_and_what_is_out_makes_room() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { max_messages: Some(2), ..QueueConfig::default() }).await;
    many(&session, "q", &["a", "b"]).await;
    let full = try_publish(&session, "q", Message::new("", "c")).await;
    assert!(matches!(full, Err(PublishError::QueueFull { queue, limit }) if queue == "q" && limit == "max_messages 2"));
    let taken = receive(&session, "q", 1).await;
    try_publish(&session, "q", Message::new("", "c")).await.expect("in flight is not counted");
    assert!(try_publish(&session, "q", Message::new("", "d")).await.is_err());
    settle(&session, &taken[0], Settle::Release).await.expect("comes back all the same");
    assert_eq!(depth(&session, "q"), (3, 0, 0, 0));
    let two = vec![Message::new("", "x"), Message::new("", "y")];
    assert!(session.publish(&to("q"), two, PublishOptions::default()).await.is_err());
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["a", "b", "c"]);
}

#[tokio::test]
async fn one_full_queue_of_several_keeps_a_publish_out_of_all_of_them() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", Default::default()).await;
    let window = Some(60_000);
    queue(&session, "wide", QueueConfig { max_messages: Some(3), dedup_window_ms: window, ..QueueConfig::default() })
        .await;
    queue(&session, "tight", QueueConfig { max_messages: Some(1), ..QueueConfig::default() }).await;
    bind(&session, "t", "wide", Filter::All).await;
    bind(&session, "t", "tight", Filter::All).await;
    many(&session, "tight", &["there"]).await;
    let mut message = Message::new("t", "new");
    message.dedup_id = Some("id".into());
    for _ in 0..10 {
        let topic = broker::PublishTo::Topic("t".to_owned());
        let refused = session.publish(&topic, vec![message.clone()], PublishOptions::default()).await;
        assert!(matches!(refused, Err(PublishError::QueueFull { .. })));
    }
    assert_eq!(depth(&session, "wide"), (0, 0, 0, 0));
    many(&session, "wide", &["1", "2"]).await;
    let again = publish(&session, to("wide"), vec![message]).await;
    assert!(!again[0].duplicate, "neither its room nor its id was taken");
    assert_eq!(depth(&session, "wide"), (3, 0, 0, 0));
}

#[tokio::test]
async fn a_queue_that_drops_its_oldest_makes_dead_letters_of_them() {
    let bench = Bench::new();
    let session = bench.session();
    let config =
        QueueConfig { max_messages: Some(2), overflow: Some(OverflowConfig::DropOldest), ..QueueConfig::default() };
    queue(&session, "q", config).await;
    many(&session, "q", &["a", "b", "c", "d"]).await;
    bench.pass(Duration::ZERO).await;
    let dead = receive(&session, "q.dlq", 10).await;
    assert_eq!((bodies(&dead), reason(&dead[0])), (vec!["a".to_owned(), "b".to_owned()], Some("overflow")));
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    many(&session, "q", &["e"]).await;
    bench.pass(Duration::ZERO).await;
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["d", "e"]);
}

#[tokio::test]
async fn a_dedup_id_is_taken_once_in_its_window() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { dedup_window_ms: Some(10_000), ..QueueConfig::default() }).await;
    let with = |id: &str| Message { dedup_id: Some(id.into()), ..Message::new("", id.to_owned()) };
    let published = publish(&session, to("q"), vec![with("a"), with("b"), with("a")]).await;
    assert_eq!(published.iter().map(|one| one.duplicate).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(depth(&session, "q").0, 2);
    let taken = receive(&session, "q", 10).await;
    settle(&session, &taken[0], Settle::Ack).await.expect("acks");
    bench.pass(Duration::from_millis(9_999)).await;
    assert!(publish(&session, to("q"), vec![with("a")]).await[0].duplicate, "also when the first one is done");
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert!(publish(&session, to("q"), vec![with("a")]).await[0].duplicate, "also after a restart");
    bench.pass(Duration::from_millis(1)).await;
    assert!(!publish(&session, to("q"), vec![with("a")]).await[0].duplicate);
    assert_eq!(depth(&session, "q").0, 2);
}

fn keyed(key: &'static str, body: &'static str) -> Message {
    Message { key: Some(key.into()), ..Message::new("", body) }
}

#[tokio::test]
async fn a_failed_message_holds_back_its_key_and_not_the_queue_also_through_a_restart() {
    let bench = Bench::new();
    let session = bench.session();
    let retry = RetryConfig { initial_ms: Some(5_000), jitter: Some(false), ..Default::default() };
    queue(&session, "q", QueueConfig { keyed: Some(true), retry: Some(retry), ..QueueConfig::default() }).await;
    let messages = vec![keyed("k", "k1"), keyed("k", "k2"), keyed("l", "l1"), keyed("k", "k3"), Message::new("", "n")];
    publish(&session, to("q"), messages).await;
    let taken = receive(&session, "q", 10).await;
    assert_eq!(bodies(&taken), ["k1", "l1", "n"]);
    assert_eq!(depth(&session, "q"), (0, 0, 2, 3));
    settle(&session, &taken[0], nack(None)).await.expect("nacks");
    settle(&session, &taken[1], Settle::Ack).await.expect("acks");
    settle(&session, &taken[2], Settle::Ack).await.expect("acks");
    assert!(receive(&session, "q", 10).await.is_empty(), "k waits for its retry");
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    bench.pass(Duration::ZERO).await;
    publish(&session, to("q"), vec![keyed("m", "m1")]).await;
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["m1"]);
    assert_eq!(depth(&session, "q"), (0, 1, 2, 1));
    bench.pass(Duration::from_secs(5)).await;
    for expected in ["k1", "k2", "k3"] {
        let taken = receive(&session, "q", 10).await;
        assert_eq!(bodies(&taken), [expected]);
        settle(&session, &taken[0], Settle::Ack).await.expect("acks");
    }
    assert_eq!(depth(&session, "q"), (0, 0, 0, 1));
}

#[tokio::test]
async fn priorities_come_first_also_after_a_restart() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { priority_levels: Some(4), ..QueueConfig::default() }).await;
    let at = |priority: u8, body: &'static str| Message { priority: Some(priority), ..Message::new("", body) };
    publish(&session, to("q"), vec![at(0, "low"), at(9, "top"), at(1, "mid"), at(3, "top2"), at(0, "low2")]).await;
    assert_eq!(bodies(&receive(&session, "q", 1).await), ["top"]);
    drop(session);
    let bench = bench.restart();
    assert_eq!(bodies(&receive(&bench.session(), "q", 10).await), ["top", "top2", "mid", "low", "low2"]);
}

#[tokio::test]
async fn exclusive_and_single_active_consumers() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let first = session.consume("q", consumer(true, 0)).expect("attaches");
    let second = session.consume("q", consumer(false, 0));
    assert!(matches!(second, Err(ConsumeError::Attach(AttachError::HeldExclusively))));
    drop(first);
    let first = session.consume("q", consumer(false, 0)).expect("attaches");
    let second = session.consume("q", consumer(true, 0));
    assert!(matches!(second, Err(ConsumeError::Attach(AttachError::InUse))));
    drop(first);

    queue(&session, "one", QueueConfig { single_active: Some(true), ..QueueConfig::default() }).await;
    let mut first = session.consume("one", consumer(false, 0)).expect("attaches");
    let mut second = session.consume("one", consumer(false, 0)).expect("attaches");
    many(&session, "one", &["a", "b"]).await;
    assert!(second.try_next(credit(1)).expect("there").is_empty());
    assert_eq!(bodies(&first.try_next(credit(1)).expect("there")), ["a"]);
    drop(first);
    let taken = second.try_next(credit(10)).expect("there");
    assert_eq!(bodies(&taken), ["a", "b"], "what the first one held comes back in its place");
    assert!(taken[0].redelivered && !taken[1].redelivered);
}

#[tokio::test]
async fn a_consumer_of_higher_priority_is_served_first_while_it_has_credit() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let mut low = session.consume("q", consumer(false, 0)).expect("attaches");
    let mut high = session.consume("q", consumer(false, 5)).expect("attaches");
    assert!(high.try_next(credit(1)).expect("there").is_empty());
    many(&session, "q", &["a", "b"]).await;
    assert!(low.try_next(credit(1)).expect("there").is_empty());
    assert_eq!(bodies(&high.try_next(credit(1)).expect("there")), ["a"]);
    high.pause();
    assert_eq!(bodies(&low.try_next(credit(1)).expect("there")), ["b"]);
}

#[tokio::test]
async fn a_purge_removes_what_waits_and_nothing_of_it_comes_back() {
    let bench = Bench::new();
    let session = bench.session();
    let retry = RetryConfig { initial_ms: Some(60_000), jitter: Some(false), ..Default::default() };
    queue(&session, "q", QueueConfig { keyed: Some(true), retry: Some(retry), ..QueueConfig::default() }).await;
    publish(&session, to("q"), vec![keyed("k", "failed"), keyed("l", "out"), Message::new("", "c")]).await;
    let taken = receive(&session, "q", 2).await;
    settle(&session, &taken[0], nack(None)).await.expect("nacks");
    assert_eq!(session.purge("q").await, Ok(2));
    assert_eq!(session.purge("q").await, Ok(0));
    assert_eq!(depth(&session, "q"), (0, 0, 0, 1));
    settle(&session, &taken[1], nack(Some(Duration::ZERO))).await.expect("what was out is still there");
    publish(&session, to("q"), vec![keyed("k", "new")]).await;
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    bench.pass(Duration::ZERO).await;
    let there = depth(&session, "q");
    assert_eq!(there.0 + there.1, 2, "nothing is counted that is gone");
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["out", "new"], "a purged message holds no key");
    // After a restart, before anything was read.
    many(&session, "q", &["x", "y"]).await;
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(session.purge("q").await, Ok(4));
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(depth(&session, "q"), (0, 0, 0, 0));
    assert_eq!(session.queue("q").expect("there").depth.waiting_bytes, 0);
    many(&session, "q", &["z"]).await;
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["z"]);
}

#[tokio::test]
async fn browsing_shows_everything_and_takes_nothing() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { keyed: Some(true), ..QueueConfig::default() }).await;
    let mut delayed = Message::new("", "delayed");
    let due = now(&bench).after(Duration::from_secs(9));
    delayed.not_before = Some(due);
    let messages = vec![keyed("k", "out"), keyed("k", "parked"), delayed, Message::new("", "ready")];
    publish(&session, to("q"), messages).await;
    receive(&session, "q", 1).await;
    // The parked one is found to be so when its turn would come.
    let mut consumer = session.consume("q", consumer(false, 0)).expect("attaches");
    let taken = consumer.try_next(credit(1)).expect("there");
    settle(&session, &taken[0], Settle::Release).await.expect("releases");
    let (seen, next) = session.browse("q", Offset(0), 100).expect("browses");
    let states: Vec<_> = seen.iter().map(|one| one.state).collect();
    let expected =
        [BrowsedState::InFlight, BrowsedState::Parked, BrowsedState::Delayed { due: Some(due) }, BrowsedState::Ready];
    assert_eq!(states, expected);
    assert_eq!(next, Offset(4));
    let (some, next) = session.browse("q", Offset(1), 2).expect("browses");
    assert_eq!((some.len(), next), (2, Offset(3)));
    let before = depth(&session, "q");
    session.browse("q", Offset(0), 100).expect("browses");
    assert_eq!(depth(&session, "q"), before);
}

#[tokio::test]
async fn a_consumer_that_fails_too_often_is_paused_and_probed() {
    let bench = Bench::new();
    let session = bench.session();
    let breaker = BreakerConfig { failure_ratio: 0.5, window: 2, pause_ms: 10_000 };
    let retry = RetryConfig { max_attempts: Some(0), initial_ms: Some(0), ..Default::default() };
    queue(&session, "q", QueueConfig { breaker: Some(breaker), retry: Some(retry), ..QueueConfig::default() }).await;
    many(&session, "q", &["a", "b", "c"]).await;
    let mut consumer = session.consume("q", consumer(false, 0)).expect("attaches");
    for _ in 0..2 {
        let taken = consumer.try_next(credit(1)).expect("there");
        settle(&session, &taken[0], nack(None)).await.expect("nacks");
    }
    assert!(consumer.try_next(credit(1)).expect("there").is_empty());
    assert_eq!(session.queue("q").expect("there").paused_consumers, 1);
    let probe = {
        let (clock, broker) = (bench.clock.clone(), bench.broker.clone());
        let probed = tokio::spawn(async move {
            let taken = consumer.next(credit(10)).await;
            (consumer, taken)
        });
        tokio::task::yield_now().await;
        clock.advance(Duration::from_secs(10));
        broker.tick().await;
        probed
    };
    let (mut consumer, taken) = probe.await.expect("runs");
    let taken = taken.expect("there");
    assert_eq!(taken.len(), 1, "one message is the probe");
    settle(&session, &taken[0], Settle::Ack).await.expect("acks");
    assert_eq!(consumer.try_next(credit(10)).expect("there").len(), 2);
    assert_eq!(session.queue("q").expect("there").paused_consumers, 0);
}

#[tokio::test]
async fn what_is_acknowledged_as_it_is_handed_out_is_gone() {
    let bench = Bench::new();
    let session = bench.session();
    let retry = RetryConfig { max_attempts: Some(0), initial_ms: Some(0), ..Default::default() };
    queue(&session, "q", QueueConfig { retry: Some(retry), ..QueueConfig::default() }).await;
    many(&session, "q", &["a", "b", "c"]).await;
    let taken = receive(&session, "q", 1).await;
    settle(&session, &taken[0], nack(Some(Duration::ZERO))).await.expect("nacks");
    let auto = Receive { max: 2, max_bytes: u64::MAX, wait: Duration::ZERO, lease: None, auto_ack: true };
    let taken = session.receive("q", auto).await.expect("receives");
    assert_eq!((bodies(&taken), taken[0].lease), (vec!["a".to_owned(), "b".to_owned()], None));
    let counters = session.queue("q").expect("there").counters;
    assert_eq!((counters.delivered, counters.acked), (3, 2));
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    bench.pass(Duration::ZERO).await;
    assert_eq!(depth(&session, "q"), (1, 0, 0, 0), "no trace of the failed one either");
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["c"]);
}

#[tokio::test]
async fn a_volatile_queue_is_gone_after_a_restart_and_may_be_changed_before() {
    let bench = Bench::new();
    let session = bench.session();
    let volatile = QueueConfig { volatile: true, dead_letter: Some(DeadLetterConfig::None), ..QueueConfig::default() };
    queue(&session, "v", volatile.clone()).await;
    queue(&session, "gone", volatile.clone()).await;
    session.delete_queue("gone", false, false).await.expect("deletes");
    let changed = QueueConfig { max_messages: Some(5), ..volatile.clone() };
    session.declare_queue("v", changed, true).await.expect("changes");
    let durable = QueueConfig { volatile: false, ..volatile.clone() };
    assert!(matches!(session.declare_queue("v", durable, true).await, Err(DeclareError::Conflict { .. })));
    many(&session, "v", &["a"]).await;
    assert_eq!(bodies(&receive(&session, "v", 1).await), ["a"]);
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert!(session.queue("v").is_err());
    queue(&session, "v", volatile).await;
    assert_eq!(depth(&session, "v"), (0, 0, 0, 0));
}

#[tokio::test]
async fn more_messages_than_the_window_come_in_order_before_and_after_a_restart() {
    const COUNT: usize = 140_000;
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    for start in (0..COUNT).step_by(10_000) {
        let messages = (start..start + 10_000).map(|number| Message::new("", number.to_string())).collect();
        publish(&session, to("q"), messages).await;
    }
    let mut expected = 0..COUNT;
    let check = async |session: &Session, expected: &mut std::ops::Range<usize>, rounds: usize| {
        for _ in 0..rounds {
            let taken = receive(session, "q", 1_000).await;
            let numbers: Vec<usize> = bodies(&taken).iter().map(|body| body.parse().expect("a number")).collect();
            let wanted: Vec<usize> = expected.by_ref().take(1_000).collect();
            assert_eq!(numbers, wanted);
            let acks = taken.iter().map(|one| (one.receipt, Settle::Ack)).collect();
            assert!(session.settle(acks).await.iter().all(Result::is_ok));
        }
    };
    check(&session, &mut expected, 30).await;
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    check(&session, &mut expected, 110).await;
    assert_eq!(depth(&session, "q"), (0, 0, 0, 0));
    assert_eq!(session.queue("q").expect("there").depth.waiting_bytes, 0);
}
