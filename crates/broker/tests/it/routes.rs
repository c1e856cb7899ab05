//! The ways of messages: further subjects, full queues that are passed over, and what is published and settled in one commit.

use std::sync::Arc;
use std::time::Duration;

use broker::definitions::{OverflowConfig, QueueConfig, TopicConfig};
use broker::queue::Settle;
use broker::views::{Delivered, Published, ReadFrom};
use broker::{PublishError, PublishOptions, PublishTo, Publishes, Session, SettleError};
use types::{Filter, Message};

use crate::harness::{Bench, bind, bodies, depth, disk_full, many, nack, publish, queue, receive, settle, to, topic};
use crate::support::{body, kept, message, pattern, read, session_of, texts, through, to_topic};

fn also(subject: &str, further: &[&str], body: &str) -> Message {
    Message { also: further.iter().map(|one| one.to_string().into()).collect(), ..message(subject, body) }
}

fn exact(subject: &str) -> Filter {
    Filter::SubjectExact(subject.to_owned().into())
}

fn partial() -> PublishOptions {
    PublishOptions { partial: true, ..PublishOptions::default() }
}

fn holding(messages: u64) -> QueueConfig {
    QueueConfig { max_messages: Some(messages), overflow: Some(OverflowConfig::Reject), ..QueueConfig::default() }
}

fn topics_of(delivered: &[Delivered]) -> Vec<Option<&str>> {
    delivered.iter().map(|one| one.message.topic.as_deref()).collect()
}

fn reached(published: &[Published]) -> Vec<(u32, u32)> {
    published.iter().map(|one| (one.queues, one.refused)).collect()
}

#[tokio::test]
async fn a_message_takes_the_ways_of_all_its_subjects_and_each_queue_and_log_gets_it_once() {
    let bench = Bench::new();
    let session = bench.session();
    for name in ["a", "b", "both", "all", "rest"] {
        queue(&session, name, QueueConfig::default()).await;
    }
    topic(&session, "rest", TopicConfig::default()).await;
    bind(&session, "rest", "rest", Filter::All).await;
    topic(&session, "t", TopicConfig { alternate: Some("rest".to_owned()), ..TopicConfig::default() }).await;
    topic(&session, "log", kept()).await;
    bind(&session, "t", "a", exact("a")).await;
    bind(&session, "t", "b", exact("b")).await;
    bind(&session, "t", "both", exact("a")).await;
    bind(&session, "t", "both", Filter::Subject(pattern("*"))).await;
    bind(&session, "t", "all", Filter::Not(Box::new(exact("a")))).await;
    session.bind(to_topic("t", "log", Filter::Subject(pattern("*")))).await.expect("binds");
    let first = publish(&session, through("t"), vec![also("a", &["b", "b", "c"], "one")]).await;
    assert_eq!(first[0].queues, 4);
    let second = publish(&session, through("t"), vec![also("x.y", &["b"], "two"), also("x.y", &[], "three")]).await;
    assert_eq!(reached(&second), [(3, 0), (1, 0)], "`three` is in `all` alone");
    assert_eq!(bodies(&receive(&session, "a", 10).await), ["one"]);
    assert_eq!(bodies(&receive(&session, "b", 10).await), ["one", "two"]);
    assert_eq!(bodies(&receive(&session, "both", 10).await), ["one", "two"]);
    assert_eq!(bodies(&receive(&session, "all", 10).await), ["one", "two", "three"]);
    let records = read(&session, "log", 0, ReadFrom::Earliest).await;
    assert_eq!(texts(&records), ["one", "two"]);
    assert_eq!(records[0].message.also, ["b", "b", "c"].map(bytes::Bytes::from));
    assert_eq!(
        records[0].message.topic.as_deref(),
        Some("t"),
        "the topic that was published to, not the one that keeps it"
    );
    assert_eq!(depth(&session, "rest").0, 0, "somebody took each of them");
    let too_many = also("a", &vec!["b"; types::limits::MAX_ALSO_SUBJECTS + 1], "");
    let refused = session.publish(&through("t"), vec![too_many], PublishOptions::default()).await;
    assert!(matches!(refused, Err(PublishError::TooLarge { .. })), "{refused:?}");
}

#[tokio::test]
async fn live_subscriptions_get_a_message_of_several_subjects_once() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", TopicConfig { captures: Some(vec!["a".to_owned()]), ..TopicConfig::default() }).await;
    let mut both = session.subscribe(pattern("*"), None).expect("subscribes");
    let mut group = session.subscribe(pattern("b"), Some("g".to_owned())).expect("subscribes");
    let mut other = session.subscribe(pattern("c"), Some("g".to_owned())).expect("subscribes");
    let published = publish(&session, PublishTo::Subject, vec![also("a", &["b", "c"], "one")]).await;
    assert_eq!(published[0].live, 2, "once to the plain one, once to the group");
    let got = both.next().await.expect("comes");
    assert_eq!((body(&got), got.topic.as_deref()), ("one".to_owned(), Some("t")), "`t` captures the subject");
    let alone = publish(&session, PublishTo::Subject, vec![also("x", &["b"], "two")]).await;
    assert_eq!(alone[0].live, 2);
    assert_eq!(both.next().await.expect("comes").topic, None, "no topic captures it");
    tokio::select! {
        got = group.next() => assert!(got.is_some()),
        got = other.next() => assert!(got.is_some()),
    }
}

#[tokio::test]
async fn the_broker_says_which_topic_a_message_came_through_and_keeps_it_over_a_restart() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    topic(&session, "t", TopicConfig::default()).await;
    topic(&session, "u", TopicConfig::default()).await;
    session.bind(to_topic("u", "t", Filter::All)).await.expect("binds");
    bind(&session, "t", "q", Filter::All).await;
    let lying = || Message { topic: Some("elsewhere".into()), ..message("t", "x") };
    publish(&session, to("q"), vec![lying()]).await;
    for way in [through("t"), through("u"), PublishTo::Subject] {
        publish(&session, way, vec![Message { also: vec!["y".into()], ..lying() }]).await;
    }
    let bench = bench.restart();
    let session = bench.session();
    let taken = receive(&session, "q", 10).await;
    assert_eq!(topics_of(&taken), [None, Some("t"), Some("u"), Some("t")]);
    assert_eq!(taken[3].message.also, [bytes::Bytes::from("y")]);
    for one in &taken[1..] {
        settle(&session, one, Settle::Reject { error: None }).await.expect("rejects");
    }
    let dead = receive(&session, "q.dlq", 10).await;
    assert_eq!(topics_of(&dead), [Some("t"), Some("u"), Some("t")], "straight to a queue it keeps its story");
}

#[tokio::test]
async fn a_partial_publish_passes_over_full_queues_message_by_message() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", TopicConfig::default()).await;
    for (name, room) in [("one", 1), ("two", 2), ("many", 100)] {
        let window = (name == "two").then_some(60_000);
        queue(&session, name, QueueConfig { dedup_window_ms: window, ..holding(room) }).await;
        bind(&session, "t", name, Filter::All).await;
    }
    let three = || ["a", "b", "c"].map(|id| Message { dedup_id: Some(id.into()), ..message("s", id) }).to_vec();
    let whole = session.publish(&through("t"), three(), PublishOptions::default()).await;
    assert!(matches!(whole, Err(PublishError::QueueFull { .. })), "{whole:?}");
    let published = session.publish(&through("t"), three(), partial()).await.expect("is taken");
    assert_eq!(reached(&published), [(3, 0), (2, 1), (1, 2)]);
    assert_eq!(bodies(&receive(&session, "one", 10).await), ["a"]);
    let taken = receive(&session, "two", 10).await;
    assert_eq!(bodies(&taken), ["a", "b"]);
    // What was refused was not seen: it is taken once there is room.
    let again = session.publish(&to("two"), three(), partial()).await.expect("is taken");
    assert_eq!(
        again.iter().map(|one| (one.queues, one.duplicate)).collect::<Vec<_>>(),
        [(0, true), (0, true), (1, false)]
    );
    let mut each = Publishes::default();
    for name in ["two", "one", "many", "two"] {
        each.push(&Arc::new(to(name)), message("", name));
    }
    let each: Vec<Published> =
        session.publish_each(each, partial()).await.into_iter().collect::<Result<_, _>>().expect("are taken");
    assert_eq!(reached(&each), [(1, 0), (1, 0), (1, 0), (0, 1)]);
    assert!(!each[3].routed());
}

#[tokio::test]
async fn what_no_queue_took_is_no_repetition_when_it_comes_again() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", TopicConfig { dedup_window_ms: Some(60_000), ..TopicConfig::default() }).await;
    queue(&session, "q", holding(1)).await;
    bind(&session, "t", "q", Filter::All).await;
    let once = |id: &str| vec![Message { dedup_id: Some(id.into()), ..message("s", id) }];
    session.publish(&through("t"), once("a"), partial()).await.expect("is taken");
    let refused = session.publish(&through("t"), once("b"), partial()).await.expect("is passed over");
    assert_eq!(reached(&refused), [(0, 1)]);
    assert_eq!(bodies(&receive(&session, "q", 1).await), ["a"]);
    let again = session.publish(&through("t"), once("b"), partial()).await.expect("is taken");
    assert_eq!((again[0].queues, again[0].duplicate), (1, false));
}

/// Publishes to `x` and `y`, and three deliveries: of `p` an acknowledgement and a failure, of `q` an acknowledgement.
struct Together {
    bench: Bench,
    session: Session,
    settlements: Vec<(broker::Receipt, Settle)>,
}

async fn together() -> Together {
    let bench = Bench::new();
    let session = bench.session();
    for name in ["p", "q", "x", "y"] {
        queue(&session, name, holding(3)).await;
    }
    topic(&session, "t", TopicConfig::default()).await;
    bind(&session, "t", "y", Filter::All).await;
    many(&session, "p", &["1", "2"]).await;
    many(&session, "q", &["3", "4"]).await;
    let (p, q) = (receive(&session, "p", 2).await, receive(&session, "q", 2).await);
    let settlements = vec![
        (p[0].receipt, Settle::Ack),
        (q[0].receipt, Settle::Ack),
        (p[1].receipt, nack(Some(Duration::ZERO))),
        (q[1].receipt, Settle::Reject { error: None }),
    ];
    Together { bench, session, settlements }
}

fn results() -> Publishes {
    let mut publishes = Publishes::default();
    for (way, body) in [(to("x"), "a"), (through("t"), "b"), (to("x"), "c")] {
        publishes.push(&Arc::new(way), message("s", body));
    }
    publishes
}

#[tokio::test]
async fn a_transaction_publishes_and_settles_at_many_places_in_one_commit() {
    let Together { bench, session, settlements } = together().await;
    let published =
        session.transact(results(), settlements[..2].to_vec(), PublishOptions::default()).await.expect("happens");
    assert_eq!(reached(&published), [(1, 0); 3]);
    session
        .transact(Publishes::default(), settlements[2..].to_vec(), PublishOptions::default())
        .await
        .expect("happens");
    assert_eq!(depth(&session, "p"), (1, 0, 0, 0), "given back");
    assert_eq!(bodies(&receive(&session, "q.dlq", 10).await), ["4"]);
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(bodies(&receive(&session, "x", 10).await), ["a", "c"]);
    assert_eq!(bodies(&receive(&session, "y", 10).await), ["b"]);
    let back = receive(&session, "p", 10).await;
    assert_eq!((bodies(&back), back[0].attempt), (vec!["2".to_owned()], 2));
    assert_eq!(bodies(&receive(&session, "q", 10).await), Vec::<String>::new());
}

#[tokio::test]
async fn a_transaction_that_is_refused_changes_nothing() {
    let Together { bench, session, settlements } = together().await;
    let nothing = |session: &Session| {
        for name in ["p", "q"] {
            assert_eq!(depth(session, name), (0, 0, 0, 2), "{name} has its deliveries out");
        }
        for name in ["x", "y"] {
            assert_eq!(depth(session, name), (0, 0, 0, 0), "{name} got nothing");
        }
    };
    // The disk.
    bench.log.fail_next(disk_full());
    let refused = session.transact(results(), settlements.clone(), PublishOptions::default()).await;
    assert!(matches!(refused, Err(SettleError::Storage(_))), "{refused:?}");
    nothing(&session);
    // A destination.
    let mut missing = results();
    missing.push(&Arc::new(to("nowhere")), message("s", "d"));
    let refused = session.transact(missing, settlements.clone(), PublishOptions::default()).await;
    assert!(matches!(&refused, Err(SettleError::Publish(error)) if matches!(**error, PublishError::NotFound { .. })));
    nothing(&session);
    // A delivery that is settled already, here or elsewhere.
    let twice = [&settlements[..], &settlements[..1]].concat();
    let refused = session.transact(results(), twice, PublishOptions::default()).await;
    assert!(matches!(refused, Err(SettleError::Lease(_))), "{refused:?}");
    nothing(&session);
    // A full queue, unless it is to be passed over.
    let mut large = results();
    (0..2).for_each(|_| large.push(&Arc::new(to("x")), message("s", "e")));
    let refused = session.transact(large.clone(), settlements.clone(), PublishOptions::default()).await;
    assert!(matches!(&refused, Err(SettleError::Publish(error)) if matches!(**error, PublishError::QueueFull { .. })));
    nothing(&session);
    let published = session.transact(large, settlements.clone(), partial()).await.expect("happens");
    assert_eq!(reached(&published), [(1, 0), (1, 0), (1, 0), (1, 0), (0, 1)]);
    let gone = session_of(&bench).transact(results(), settlements, PublishOptions::default()).await;
    assert!(matches!(gone, Err(SettleError::Lease(_))), "{gone:?}");
}
