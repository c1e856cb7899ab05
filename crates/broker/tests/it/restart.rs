//! What a restart brings back.

use std::time::Duration;

use broker::PublishTo;
use broker::definitions::{
    BindingTarget, GroupConfig, GroupStart, NamespaceConfig, PolicyScope, PolicyValues, QueueConfig, TopicConfig,
};
use broker::views::ReadFrom;
use log::{Append, Commit, Durability, Log, Operation, Target};
use types::{Filter, HeaderMatch, LogId, Offset};

use crate::admin::snapshot;
use crate::harness::{Bench, bind, bodies, consumer, credit, depth, nack, publish, queue, receive, settle, to, topic};
use crate::support::{indexed, kept, keyed, message, partitioned, pattern, policy, read, texts, through, to_topic};

fn on(topic: &str) -> GroupConfig {
    GroupConfig { topic: topic.to_owned(), start: GroupStart::Latest, session_ms: None }
}

#[tokio::test]
async fn all_definitions_come_back_as_they_were() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "z-rest", TopicConfig::default()).await;
    topic(&session, "a", TopicConfig { alternate: Some("z-rest".into()), ..partitioned(3) }).await;
    topic(&session, "keys", indexed()).await;
    queue(&session, "q", QueueConfig { keyed: Some(true), ttl_ms: Some(5), ..QueueConfig::default() }).await;
    bind(&session, "a", "q", Filter::Subject(pattern("x.*"))).await;
    let wanted = vec![("h".into(), Some(types::Value::Text("v".into())))];
    bind(&session, "a", "q", Filter::Headers { matching: HeaderMatch::Any, wanted }).await;
    session.bind(to_topic("a", "keys", Filter::All)).await.unwrap();
    session.declare_group("g", on("a"), false).await.unwrap();
    let values = PolicyValues { max_messages: Some(9), ..PolicyValues::default() };
    session.put_policy("p", policy("q*", PolicyScope::All, values)).await.unwrap();
    let before = snapshot(&bench);
    drop(session);
    let bench = bench.restart();
    assert_eq!(snapshot(&bench), before);
    let session = bench.session();
    publish(&session, through("a"), vec![keyed("k", "1")]).await;
    assert_eq!(texts(&read(&session, "keys", 0, ReadFrom::Earliest).await), ["1"]);
    assert_eq!(session.topics().unwrap().iter().map(|topic| topic.unrouted).sum::<u64>(), 0);
}

#[tokio::test]
async fn ids_are_given_once_whatever_is_deleted_and_restarted() {
    let mut bench = Bench::new();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5 {
        let session = bench.session();
        for _ in 0..3 {
            topic(&session, "t", kept()).await;
            queue(&session, "v", QueueConfig { volatile: true, ..QueueConfig::default() }).await;
            for id in [session.topic("t").unwrap().id, session.queue("v").unwrap().id] {
                assert!(seen.insert(id), "{id} was given before");
            }
            session.delete_topic("t", false).await.unwrap();
            session.delete_queue("v", false, false).await.unwrap();
        }
        // One that is never recorded, and has no dead-letter queue that would be.
        let dead_letter = Some(broker::definitions::DeadLetterConfig::None);
        queue(&session, "w", QueueConfig { volatile: true, dead_letter, ..QueueConfig::default() }).await;
        assert!(seen.insert(session.queue("w").unwrap().id));
        drop(session);
        bench = bench.restart();
    }
}

#[tokio::test]
async fn definitions_that_change_often_are_snapshotted_while_running_and_at_the_start() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    for n in 0..1_500 {
        queue(&session, "q", QueueConfig { ttl_ms: Some(n), ..QueueConfig::default() }).await;
        session.delete_queue("q", false, false).await.unwrap();
        if n == 1_000 {
            bench.pass(Duration::from_secs(1)).await;
            let records = bench.log.state(LogId(0)).unwrap().records;
            assert!(records < 100, "{records} records are left");
        }
    }
    queue(&session, "last", QueueConfig::default()).await;
    let before = snapshot(&bench);
    let id = session.queue("last").unwrap().id;
    drop(session);
    let mut bench = bench;
    for _ in 0..2 {
        bench = bench.restart();
        assert_eq!(snapshot(&bench), before);
    }
    let session = bench.session();
    queue(&session, "next", QueueConfig::default()).await;
    assert!(session.queue("next").unwrap().id > id);
}

#[tokio::test]
async fn volatile_queues_go_with_the_process_and_their_bindings_with_them() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    queue(&session, "v", QueueConfig { volatile: true, ..QueueConfig::default() }).await;
    queue(&session, "q", QueueConfig::default()).await;
    bind(&session, "t", "v", Filter::All).await;
    bind(&session, "t", "q", Filter::All).await;
    assert_eq!(publish(&session, through("t"), vec![message("", "x")]).await[0].queues, 2);
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert!(session.queue("v").is_err());
    let bound = session.bindings(None, None).unwrap();
    assert_eq!(
        bound.iter().map(|binding| &binding.config.target).collect::<Vec<_>>(),
        [&BindingTarget::Queue("q".into())]
    );
    queue(&session, "v", QueueConfig { volatile: true, ..QueueConfig::default() }).await;
    assert!(receive(&session, "v", 1).await.is_empty());
    assert_eq!(publish(&session, through("t"), vec![message("", "y")]).await[0].queues, 1);
}

#[tokio::test]
async fn namespaces_come_back_with_their_settings_and_deleted_ones_do_not() {
    let bench = Bench::new();
    let admin = bench.broker.authenticate(&broker::Credentials::Anonymous).unwrap();
    for name in ["a", "b"] {
        let config = NamespaceConfig { description: Some(name.into()), ..NamespaceConfig::default() };
        bench.broker.put_namespace(&admin, name, config).await.unwrap();
        let session = bench.broker.session(&admin, name).unwrap();
        topic(&session, "t", kept()).await;
        session.declare_group("g", on("t"), false).await.unwrap();
        queue(&session, "q", QueueConfig::default()).await;
        publish(&session, PublishTo::Queue("q".into()), vec![message("", name)]).await;
    }
    bench.broker.delete_namespace(&admin, "a").await.unwrap();
    let bench = bench.restart();
    let names: Vec<_> =
        bench.broker.namespaces(&admin).unwrap().into_iter().map(|info| (info.name, info.config.description)).collect();
    assert_eq!(names, [("b".to_owned(), Some("b".to_owned())), ("default".to_owned(), None)]);
    let session = bench.broker.session(&admin, "b").unwrap();
    assert_eq!(bodies(&receive(&session, "q", 1).await), ["b"]);
}

/// Writes a record that is none into a log, as a fault of the disk or of another program might.
fn spoil(bench: &Bench, log: LogId) {
    let opened = bench.log.open(&[log]).remove(0).expect("opens");
    let mut builder = log::batch::BatchBuilder::new(log::batch::BatchOptions::default());
    builder.push(None, 0, None, Some(b"\xffspoilt"), log::batch::NO_HEADERS).expect("fits");
    let append = Append { batch: builder.finish().expect("a batch"), selection: None, weight: 0 };
    let target = Target { log, epoch: opened.epoch, expected_end: None, operation: Operation::Append(append) };
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let commit = Commit { durability: Durability::Fsync, operations: vec![target], uses_reserve: false };
    bench.log.commit(commit, Box::new(move |outcome| send.send(outcome).expect("heard")));
    assert!(matches!(receive.recv().expect("ends"), log::CommitOutcome::Committed(_)));
}

#[tokio::test]
async fn damage_in_the_state_of_one_thing_leaves_its_neighbours_working() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    topic(&session, "u", kept()).await;
    session.declare_group("g", on("t"), false).await.unwrap();
    session.commit_group("g", None, &[(0, Offset(0))]).await.unwrap();
    for name in ["q", "r"] {
        queue(&session, name, QueueConfig::default()).await;
        publish(&session, PublishTo::Queue(name.into()), vec![message("", name)]).await;
    }
    publish(&session, through("t"), vec![message("", "t")]).await;
    let state = |id: types::EntityId| LogId(id.0 * 2_048 + 2_047);
    spoil(&bench, state(session.topic("t").unwrap().id));
    spoil(&bench, state(session.queue("q").unwrap().id));
    spoil(&bench, LogId(session.group("g").unwrap().id.0 * 2_048));
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert!(session.queue("q").unwrap().damage.is_some());
    assert_eq!(session.queue("r").unwrap().damage, None);
    for name in ["q", "r"] {
        assert_eq!(bodies(&receive(&session, name, 1).await), [name], "its messages are whole");
    }
    assert_eq!(texts(&read(&session, "t", 0, ReadFrom::Earliest).await), ["t"]);
    publish(&session, through("u"), vec![message("", "u")]).await;
    assert_eq!(session.group("g").unwrap().partitions[0].committed, Some(Offset(0)));
    // What nobody can make sense of is not guessed at.
    spoil(&bench, LogId(0));
    let options = broker::BrokerOptions::default();
    let refused = broker::Broker::open(std::sync::Arc::new(bench.log.reopen()), bench.clock.clone(), options);
    assert!(refused.is_err_and(|error| error.to_string().contains("definitions")));
}

/// A queue of many messages that wait for an hour, with one behind them that does not; as a restart finds it.
async fn restarted_behind_delayed(config: QueueConfig, messages: usize) -> Bench {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", config).await;
    let delayed = |n: usize| {
        let not_before = Some(types::Timestamp(types::Clock::now(&*bench.clock).wall.0 + 3_600_000));
        types::Message { not_before, ..keyed("k", &n.to_string()) }
    };
    for first in (0..messages).step_by(10_000) {
        publish(&session, to("q"), (first..(first + 10_000).min(messages)).map(delayed).collect()).await;
    }
    publish(&session, to("q"), vec![keyed("k", "ready")]).await;
    drop(session);
    bench.restart()
}

#[tokio::test]
async fn a_receive_without_a_wait_finds_what_is_ready_behind_many_delayed_messages_after_a_restart() {
    // More than one look reads.
    let bench = restarted_behind_delayed(QueueConfig::default(), 60_000).await;
    let session = bench.session();
    let seen = session.queue("q").unwrap().depth;
    assert_eq!((seen.ready, seen.unread), (60_001, 60_001), "the view says what it does not know");
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["ready"]);
    let seen = session.queue("q").unwrap().depth;
    assert_eq!((seen.ready, seen.unread, seen.delayed, seen.in_flight), (0, 0, 60_000, 1));
    assert!(receive(&session, "q", 10).await.is_empty());
}

#[tokio::test]
async fn a_standing_consumer_finds_it_too() {
    let bench = restarted_behind_delayed(QueueConfig::default(), 60_000).await;
    let session = bench.session();
    let mut consumer = session.consume("q", consumer(false, 0)).unwrap();
    assert_eq!(bodies(&consumer.try_next(credit(10)).unwrap()), ["ready"]);
}

#[tokio::test]
async fn a_queue_with_keys_is_looked_through_by_itself_after_a_restart() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { keyed: Some(true), ..QueueConfig::default() }).await;
    publish(&session, to("q"), vec![keyed("head", "0")]).await;
    let first = receive(&session, "q", 1).await;
    settle(&session, &first[0], nack(Some(Duration::from_secs(3_600)))).await.unwrap();
    // More of other keys than the queue holds in memory, then those behind the one that failed.
    for chunk in 0..4 {
        publish(&session, to("q"), (0..10_000).map(|n| keyed(&format!("{chunk} {n}"), "1")).collect()).await;
    }
    publish(&session, to("q"), (0..100).map(|_| keyed("head", "2")).collect()).await;
    assert_eq!(depth(&session, "q"), (40_000, 1, 100, 0));
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    for _ in 0..100 {
        bench.broker.tick().await;
    }
    assert_eq!(depth(&session, "q"), (40_000, 1, 100, 0));
    assert_eq!(session.queue("q").unwrap().depth.unread, 0);
}

#[tokio::test]
async fn messages_expire_after_a_restart_even_if_somebody_looked_at_the_queue_first() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { ttl_ms: Some(1_000), ..QueueConfig::default() }).await;
    publish(&session, PublishTo::Queue("q".to_owned()), vec![message("", "a")]).await;
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(session.queue("q").expect("there").depth.ready, 1);
    bench.pass(Duration::from_secs(2)).await;
    assert_eq!(bodies(&receive(&session, "q.dlq", 1).await), ["a"]);
}
