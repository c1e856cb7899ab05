//! Dead letters where their target is missing or full, and redrive.

use std::time::Duration;

use broker::definitions::{DeadLetterConfig, PolicyScope, PolicyValues, QueueConfig, RetentionConfig, TopicConfig};
use broker::queue::Settle;
use broker::views::{ReadFrom, RedriveInfo};
use broker::{ConsumeError, DeclareError, Read, Redrive, Session};
use types::{Filter, Message, Value};

use crate::harness::{Bench, bind, bodies, consumer, depth, many, publish, queue, receive, settle, to, topic};
use crate::support::policy;

const REJECT: Settle = Settle::Reject { error: None };

async fn reject_all(session: &Session, queue: &str) {
    for one in receive(session, queue, 1_000).await {
        settle(session, &one, REJECT).await.expect("rejects");
    }
}

fn redrive_of(session: &Session, queue: &str) -> RedriveInfo {
    session.queue(queue).expect("there").redrive.expect("a redrive")
}

/// Has a policy send the queue's dead letters there.
async fn give_up_into(session: &Session, target: DeadLetterConfig) {
    let values = PolicyValues { dead_letter: Some(target), ..PolicyValues::default() };
    session.put_policy("give-up", policy("q", PolicyScope::Queues, values)).await.expect("is taken");
}

#[tokio::test]
async fn dead_letters_may_go_through_a_topic_under_a_subject_of_their_own() {
    let bench = Bench::new();
    let session = bench.session();
    let target =
        DeadLetterConfig::Topic { topic: "failed".to_owned(), subject: Some("failed.q".to_owned()), or_drop: false };
    // A definition may not name a topic that is not there. A policy may: it can be older than its target.
    let config = QueueConfig { dead_letter: Some(target.clone()), ..QueueConfig::default() };
    let refused = session.declare_queue("q", config, true).await;
    assert!(matches!(refused, Err(DeclareError::NotFound { .. })), "{refused:?}");
    give_up_into(&session, target).await;
    queue(&session, "q", QueueConfig::default()).await;
    many(&session, "q", &["a", "b"]).await;
    let taken = receive(&session, "q", 1).await;
    settle(&session, &taken[0], REJECT).await.expect("is taken");
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(session.queue("q").expect("there").counters.dead_lettered, 0, "the topic is missing");
    let retention = Some(RetentionConfig::default());
    topic(&session, "failed", TopicConfig { retention, ..TopicConfig::default() }).await;
    queue(&session, "watch", QueueConfig::default()).await;
    bind(&session, "failed", "watch", Filter::All).await;
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(session.queue("q").expect("there").counters.dead_lettered, 1);
    assert_eq!(bodies(&receive(&session, "watch", 10).await), ["a"]);
    let read = Read { partition: 0, from: ReadFrom::Earliest, max: 10, max_bytes: 1 << 20, wait: Duration::ZERO };
    let records = session.read("failed", read).await.expect("reads").records;
    assert_eq!(&records[0].message.subject[..], b"failed.q");
    assert_eq!(records[0].message.header("ph-dead-letter-reason").and_then(Value::as_text), Some("rejected"));
    reject_all(&session, "q").await;
    assert_eq!(bodies(&receive(&session, "watch", 10).await), ["b"]);
}

#[tokio::test]
async fn a_missing_dead_letter_queue_is_made_and_one_in_use_is_not_deleted() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    assert!(matches!(session.delete_queue("q.dlq", false, false).await, Err(DeclareError::InUse { .. })));
    // Without its source it may go; a new definition makes it again.
    let nowhere = QueueConfig { dead_letter: Some(DeadLetterConfig::None), ..QueueConfig::default() };
    session.declare_queue("q", nowhere, true).await.expect("changes");
    session.delete_queue("q.dlq", false, false).await.expect("deletes");
    session.declare_queue("q", QueueConfig::default(), true).await.expect("changes");
    many(&session, "q", &["a"]).await;
    reject_all(&session, "q").await;
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(bodies(&receive(&session, "q.dlq", 10).await), ["a"]);
}

#[tokio::test]
async fn a_full_dead_letter_queue_holds_back_what_is_given_up_and_loses_nothing() {
    let bench = Bench::new();
    let session = bench.session();
    let small =
        QueueConfig { max_messages: Some(1), dead_letter: Some(DeadLetterConfig::None), ..QueueConfig::default() };
    queue(&session, "dead", small).await;
    let target = Some(DeadLetterConfig::Queue("dead".to_owned()));
    queue(&session, "q", QueueConfig { dead_letter: target, ..QueueConfig::default() }).await;
    many(&session, "q", &["a", "b", "c"]).await;
    reject_all(&session, "q").await;
    for ready in ["a", "b", "c"] {
        assert_eq!(depth(&session, "dead").0, 1);
        let dead = receive(&session, "dead", 10).await;
        assert_eq!(bodies(&dead), [ready]);
        settle(&session, &dead[0], Settle::Ack).await.expect("acks");
        // A busy queue puts the next try off no further.
        for _ in 0..10 {
            many(&session, "q", &["x"]).await;
            bench.clock.advance(Duration::from_millis(30));
            bench.broker.tick().await;
        }
    }
    assert_eq!(session.queue("q").expect("there").counters.dead_lettered, 3);
    // What is held back comes again after a restart.
    reject_all(&session, "q").await;
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    bench.pass(Duration::ZERO).await;
    let total = depth(&session, "q").0 + depth(&session, "dead").0;
    assert_eq!(total, 30);
    assert_eq!(depth(&session, "dead").0, 1);
}

#[tokio::test]
async fn a_stalled_queue_does_not_spin() {
    let bench = Bench::new();
    let session = bench.session();
    let missing = DeadLetterConfig::Topic { topic: "missing".to_owned(), subject: None, or_drop: false };
    give_up_into(&session, missing).await;
    queue(&session, "q", QueueConfig { ttl_ms: Some(1_000), ..QueueConfig::default() }).await;
    many(&session, "q", &["a", "b"]).await;
    bench.pass(Duration::from_secs(2)).await;
    assert!(bench.broker.tick().await >= Duration::from_millis(100));
    for refusal in 0..3 {
        // Refused commits do not bring a message back only to expire it again at once.
        bench.log.fail_next(crate::harness::disk_full());
        bench.pass(Duration::from_millis(300)).await;
        assert!(bench.broker.tick().await >= Duration::from_millis(100), "{refusal}");
    }
}

#[tokio::test]
async fn a_redrive_keeps_its_rate_and_says_how_far_it_is() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let names: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    many(&session, "q", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    reject_all(&session, "q").await;
    let redrive = Redrive { rate: Some(10.0), ..Redrive::default() };
    let info = session.redrive("q.dlq", redrive.clone()).expect("begins");
    assert_eq!((info.total, info.moved, info.running), (20, 0, true));
    assert!(matches!(session.redrive("q.dlq", redrive), Err(ConsumeError::Invalid { .. })), "one at a time");
    for _ in 0..10 {
        bench.pass(Duration::from_millis(100)).await;
        // Other uses of the queue do not put it off.
        session.queue("q.dlq").expect("there");
    }
    let moved = redrive_of(&session, "q.dlq").moved;
    assert!((9..=12).contains(&moved), "{moved} in a second");
    let info = session.stop_redrive("q.dlq").expect("stops");
    assert!(!info.running);
    bench.pass(Duration::from_secs(2)).await;
    assert_eq!(redrive_of(&session, "q.dlq").moved, moved);
    assert_eq!((depth(&session, "q.dlq"), depth(&session, "q").0), ((20 - moved, 0, 0, 0), moved));
    session.redrive("q.dlq", Redrive { max: Some(3), ..Redrive::default() }).expect("begins");
    bench.pass(Duration::from_secs(1)).await;
    let info = redrive_of(&session, "q.dlq");
    assert_eq!((info.moved, info.running, info.error), (3, false, None));
    session.redrive("q.dlq", Redrive::default()).expect("begins");
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!((depth(&session, "q.dlq"), depth(&session, "q")), ((0, 0, 0, 0), (20, 0, 0, 0)));
    let back = receive(&session, "q", 20).await;
    assert_eq!(bodies(&back), names, "in order, and without their story");
    assert!(back.iter().all(|one| one.message.headers.is_empty() && one.attempt == 1));
    assert!(session.consume("q.dlq", consumer(true, 0)).is_ok(), "the redrive's consumer is gone");
}

#[tokio::test]
async fn a_redrive_that_cannot_go_on_ends_with_an_error_and_loses_nothing() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { max_messages: Some(2), ..QueueConfig::default() }).await;
    queue(&session, "other", QueueConfig::default()).await;
    many(&session, "q", &["a", "b"]).await;
    reject_all(&session, "q").await;
    many(&session, "q", &["c"]).await;
    session.redrive("q.dlq", Redrive::default()).expect("begins");
    bench.pass(Duration::from_secs(1)).await;
    let info = redrive_of(&session, "q.dlq");
    assert_eq!((info.moved, info.running), (1, false));
    assert!(info.error.expect("says why").contains("full"));
    assert_eq!(depth(&session, "q.dlq"), (1, 0, 0, 0));
    // A message that was published to it says no source; elsewhere takes it.
    many(&session, "q.dlq", &["direct"]).await;
    let to_other = Redrive { to: Some("other".to_owned()), ..Redrive::default() };
    bench.log.fail_next(crate::harness::disk_full());
    session.redrive("q.dlq", to_other.clone()).expect("begins");
    bench.pass(Duration::from_secs(1)).await;
    let info = redrive_of(&session, "q.dlq");
    assert!(!info.running && info.error.expect("says why").contains("full"));
    assert_eq!(depth(&session, "q.dlq").0 + depth(&session, "other").0, 2, "nothing is lost");
    session.redrive("q.dlq", to_other).expect("begins");
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!((depth(&session, "q.dlq"), depth(&session, "other")), ((0, 0, 0, 0), (2, 0, 0, 0)));
    many(&session, "q.dlq", &["direct"]).await;
    session.redrive("q.dlq", Redrive::default()).expect("begins");
    bench.pass(Duration::from_secs(1)).await;
    assert!(redrive_of(&session, "q.dlq").error.expect("says why").contains("name a target"));
    assert_eq!(depth(&session, "q.dlq"), (1, 0, 0, 0));
}

#[tokio::test]
async fn a_redrive_says_what_is_wrong_with_it() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let to = |to: &str| Redrive { to: Some(to.to_owned()), ..Redrive::default() };
    assert!(matches!(session.redrive("nowhere", Redrive::default()), Err(ConsumeError::NotFound { .. })));
    assert!(matches!(session.redrive("q.dlq", to("nowhere")), Err(ConsumeError::NotFound { .. })));
    assert!(matches!(session.redrive("q.dlq", to("q.dlq")), Err(ConsumeError::Invalid { .. })));
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let redrive = Redrive { rate: Some(rate), ..Redrive::default() };
        assert!(matches!(session.redrive("q.dlq", redrive), Err(ConsumeError::Invalid { .. })), "{rate}");
    }
    assert!(matches!(session.stop_redrive("q.dlq"), Err(ConsumeError::NotFound { .. })));
    let info = session.redrive("q.dlq", Redrive::default()).expect("an empty one ends at once");
    assert_eq!((info.total, info.running), (0, false));
    assert!(bench.broker.tick().await >= Duration::from_millis(100), "nothing is left to do");
}

#[tokio::test]
async fn an_interrupted_redrive_leaves_each_message_in_one_place() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let messages = (0..600).map(|number| Message::new("", number.to_string())).collect();
    publish(&session, to("q"), messages).await;
    reject_all(&session, "q").await;
    session.redrive("q.dlq", Redrive::default()).expect("begins");
    bench.broker.tick().await;
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    bench.pass(Duration::ZERO).await;
    let (left, back) = (depth(&session, "q.dlq").0, depth(&session, "q").0);
    assert_eq!(left + back, 600);
    assert!(back > 0 && left > 0, "{left} left, {back} back");
    assert!(session.queue("q.dlq").expect("there").redrive.is_none());
}
