//! Messages that are published twice and stored once: idempotent producers, dedup ids.

use std::sync::Arc;
use std::time::Duration;

use broker::definitions::{QueueConfig, TopicConfig};
use broker::views::{Published, ReadFrom};
use broker::{ProducerStamp, PublishError, PublishOptions, PublishTo, Session};
use log::{MemoryLog, Refusal};
use types::{Filter, Message};

use crate::harness::{Bench, bind, bodies, publish, queue, receive, topic};
use crate::support::{kept, message, partitioned, read, texts, through};

const FULL: Refusal = Refusal::DiskFull { free_bytes: 1, reserve_bytes: 2 };

fn stamped(epoch: u32, sequence: u64) -> PublishOptions {
    let producer = Some(ProducerStamp { id: "p".to_owned(), epoch, sequence });
    PublishOptions { producer, ..PublishOptions::default() }
}

async fn send(session: &Session, epoch: u32, sequence: u64, bodies: &[&str]) -> Result<Vec<Published>, PublishError> {
    let messages = bodies.iter().map(|body| message("", body)).collect();
    session.publish(&through("t"), messages, stamped(epoch, sequence)).await
}

fn with_id(id: &str, body: &str) -> Message {
    Message { dedup_id: Some(id.into()), ..message("s", body) }
}

fn windowed(config: TopicConfig) -> TopicConfig {
    TopicConfig { dedup_window_ms: Some(60_000), ..config }
}

#[tokio::test]
async fn a_producer_that_sends_a_batch_again_has_it_stored_once_and_over_restarts_too() {
    let mut bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    drop(session);
    for round in 0..2 {
        let session = bench.session();
        let first = send(&session, 0, 0, &["a", "b"]).await.unwrap();
        assert!(first.iter().all(|published| published.duplicate == (round > 0)));
        assert_eq!(send(&session, 0, 2, &["c"]).await.unwrap()[0].duplicate, round > 0);
        assert!(matches!(send(&session, 0, 4, &["x"]).await, Err(PublishError::OutOfSequence { got: 4, expected: 3 })));
        assert!(matches!(send(&session, 0, 0, &["a"]).await, Err(PublishError::OutOfSequence { .. })), "another cut");
        assert_eq!(texts(&read(&session, "t", 0, ReadFrom::Earliest).await), ["a", "b", "c"]);
        drop(session);
        bench = bench.restart();
    }
    let session = bench.session();
    assert!(matches!(send(&session, 1, 5, &["x"]).await, Err(PublishError::OutOfSequence { expected: 0, .. })));
    send(&session, 1, 0, &["d"]).await.unwrap();
    assert!(matches!(send(&session, 0, 3, &["x"]).await, Err(PublishError::Fenced { current: 1 })));
    drop(session);
    let session = bench.restart().session();
    assert!(matches!(send(&session, 0, 3, &["x"]).await, Err(PublishError::Fenced { current: 1 })));
    assert_eq!(texts(&read(&session, "t", 0, ReadFrom::Earliest).await), ["a", "b", "c", "d"]);
    let to_queue = session.publish(&PublishTo::Queue("q".into()), vec![message("", "x")], stamped(1, 1)).await;
    assert!(to_queue.is_err());
}

#[tokio::test]
async fn producers_are_remembered_through_snapshots_of_the_state() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", windowed(kept())).await;
    for n in 0..5_000 {
        let options = stamped(0, n);
        session.publish(&through("t"), vec![with_id(&format!("i{n}"), "x")], options).await.unwrap();
        if n % 500 == 0 {
            bench.pass(Duration::from_secs(1)).await;
        }
    }
    bench.pass(Duration::from_secs(1)).await;
    let id = session.topic("t").unwrap().id;
    let state = types::LogId(id.0 * 2_048 + 2_047);
    let records = log::Log::state(&*bench.log, state).unwrap().records;
    assert!(records < 2_000, "{records} are left of 10,000");
    drop(session);
    let session = bench.restart().session();
    assert!(send(&session, 0, 4_999, &["x"]).await.unwrap()[0].duplicate);
    assert!(matches!(send(&session, 0, 5_001, &["x"]).await, Err(PublishError::OutOfSequence { expected: 5_000, .. })));
    assert!(publish(&session, through("t"), vec![with_id("i4998", "x")]).await[0].duplicate);
    assert!(!send(&session, 0, 5_000, &["x"]).await.unwrap()[0].duplicate);
}

#[tokio::test]
async fn what_the_log_refused_may_be_sent_again() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", windowed(kept())).await;
    send(&session, 0, 0, &["a"]).await.unwrap();
    bench.log.fail_next(FULL);
    assert!(matches!(send(&session, 0, 1, &["b"]).await, Err(PublishError::Storage(_))));
    assert!(!send(&session, 0, 1, &["b"]).await.unwrap()[0].duplicate);
    bench.log.fail_next(FULL);
    let refused = session.publish(&through("t"), vec![with_id("i", "c")], PublishOptions::default()).await;
    assert!(refused.is_err());
    assert!(!publish(&session, through("t"), vec![with_id("i", "c")]).await[0].duplicate);
    assert!(publish(&session, through("t"), vec![with_id("i", "c")]).await[0].duplicate);
    assert_eq!(texts(&read(&session, "t", 0, ReadFrom::Earliest).await), ["a", "b", "c"]);
}

#[tokio::test]
async fn dedup_ids_hold_for_their_window_in_topics_and_queues_within_a_call_and_over_restarts() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", windowed(partitioned(3))).await;
    topic(&session, "plain", TopicConfig::default()).await;
    queue(&session, "q", QueueConfig { dedup_window_ms: Some(60_000), ..QueueConfig::default() }).await;
    for from in ["t", "plain"] {
        bind(&session, from, "q", Filter::All).await;
    }
    let batch = vec![with_id("1", "a"), with_id("2", "b"), with_id("1", "again"), message("s", "free")];
    let published = publish(&session, through("t"), batch.clone()).await;
    let duplicates = |published: &[Published]| published.iter().map(|one| one.duplicate).collect::<Vec<_>>();
    assert_eq!(duplicates(&published), [false, false, true, false]);
    let positions: Vec<bool> = published.iter().map(|one| one.position.is_some()).collect();
    assert_eq!(positions, [true, true, false, true]);
    // The queue has seen these ids, by whatever way they come.
    let published = publish(&session, through("plain"), batch).await;
    assert_eq!(duplicates(&published), [true, true, true, false]);
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["a", "b", "free", "free"]);
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert!(publish(&session, through("t"), vec![with_id("1", "late")]).await[0].duplicate);
    assert!(publish(&session, through("plain"), vec![with_id("2", "late")]).await[0].duplicate);
    bench.pass(Duration::from_secs(61)).await;
    assert!(!publish(&session, through("t"), vec![with_id("1", "new")]).await[0].duplicate);
}

/// A broker whose log takes nothing until it is told to.
async fn held_back() -> (Arc<MemoryLog>, Session) {
    let log = Arc::new(MemoryLog::manual());
    let clock = Arc::new(testkit::ManualClock::new());
    let opening = {
        let log = log.clone();
        std::thread::spawn(move || broker::Broker::open(log, clock, broker::BrokerOptions::default()))
    };
    while !opening.is_finished() {
        log.run_round();
        std::thread::yield_now();
    }
    let broker = opening.join().unwrap().unwrap();
    let principal = broker.authenticate(&broker::Credentials::Anonymous).unwrap();
    let session = broker.session(&principal, "default").unwrap();
    (log, session)
}

/// Lets the log go on until the call has ended.
async fn done<T>(log: &MemoryLog, call: impl Future<Output = T>) -> T {
    tokio::pin!(call);
    loop {
        tokio::select! {
            biased;
            result = &mut call => return result,
            () = tokio::task::yield_now() => drop(log.run_round()),
        }
    }
}

/// Publishes the same twice, the second time while the first is being written, and lets the first end as `fails` says.
async fn twice(to: &str, options: PublishOptions, message: Message, fails: bool) -> Vec<Result<bool, PublishError>> {
    let (log, session) = held_back().await;
    done(&log, session.declare_topic("t", windowed(kept()), false)).await.unwrap();
    let deduplicating = QueueConfig { dedup_window_ms: Some(60_000), ..QueueConfig::default() };
    done(&log, session.declare_queue("q", deduplicating, false)).await.unwrap();
    let to = if to == "t" { through("t") } else { PublishTo::Queue("q".into()) };
    let mut calls = Vec::new();
    for waiting in [1, 2] {
        let (session, to, options, message) = (session.clone(), to.clone(), options.clone(), message.clone());
        calls.push(tokio::spawn(async move {
            session.publish(&to, vec![message], options).await.map(|published| published[0].duplicate)
        }));
        while log.waiting() < waiting {
            tokio::task::yield_now().await;
        }
    }
    assert!(calls.iter().all(|call| !call.is_finished()), "nothing is confirmed before it is durable");
    if fails {
        log.fail_next(FULL);
    }
    let mut results = Vec::new();
    for call in calls {
        results.push(done(&log, call).await.unwrap());
    }
    let stored = match &to {
        PublishTo::Topic(_) => session.topic("t").unwrap().partitions[0].records,
        _ => session.queue("q").unwrap().depth.ready,
    };
    assert_eq!(stored, 1, "the message is there once, whatever became of the first try");
    results
}

#[tokio::test]
async fn a_duplicate_is_confirmed_only_if_the_first_one_became_durable() {
    for (to, options, message) in [
        ("t", stamped(0, 0), message("", "x")),
        ("t", PublishOptions::default(), with_id("i", "x")),
        ("q", PublishOptions::default(), with_id("i", "x")),
    ] {
        let both = twice(to, options.clone(), message.clone(), false).await;
        assert_eq!(both, [Ok(false), Ok(true)], "{to}");
        let second = twice(to, options, message, true).await;
        assert!(matches!(&second[..], [Err(PublishError::Storage(_)), Ok(false)]), "{to}: {second:?}");
    }
}

#[tokio::test]
async fn a_conditional_publish_sees_what_is_being_written() {
    let (log, session) = held_back().await;
    let indexed = TopicConfig { key_index: true, ..kept() };
    done(&log, session.declare_topic("t", indexed, false)).await.unwrap();
    let keyed = |body: &str| vec![crate::support::keyed("k", body)];
    let plain = {
        let (session, messages) = (session.clone(), keyed("plain"));
        tokio::spawn(async move { session.publish(&through("t"), messages, PublishOptions::default()).await })
    };
    while log.waiting() < 1 {
        tokio::task::yield_now().await;
    }
    // The first one is not there yet, so nothing contradicts the expectation when it is looked at.
    let expect = Some(broker::Expect { of: broker::ExpectOf::Key, version: None });
    let options = PublishOptions { expect, ..PublishOptions::default() };
    let conditional = {
        let (session, messages) = (session.clone(), keyed("conditional"));
        tokio::spawn(async move { session.publish(&through("t"), messages, options).await })
    };
    while log.waiting() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(done(&log, plain).await.unwrap().is_ok());
    let refused = done(&log, conditional).await.unwrap();
    assert!(matches!(refused, Err(PublishError::WrongVersion { actual: Some(types::Offset(0)) })), "{refused:?}");
    assert_eq!(texts(&read(&session, "t", 0, ReadFrom::Earliest).await), ["plain"]);
}
