//! What goes by itself, what goes with a connection, and names that lead to what is not there yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::definitions::{
    BindingConfig, BindingTarget, DeadLetterConfig, DurabilityConfig, GroupConfig, GroupStart, QueueConfig,
    RouterConfig, TopicConfig, WebhookConfig,
};
use broker::queue::{Credit, Settle};
use broker::views::{Declared, ReadFrom};
use broker::{
    ConsumeError, DeclareError, DeclareTopic, DeleteOptions, PublishError, PublishOptions, Receive, Redrive, Session,
};
use log::{Log, MemoryLog};
use testkit::ManualClock;
use types::{Filter, LogId, Offset};

use crate::harness::{
    Bench, bind, bodies, consumer, credit, depth, disk_full, many, publish, queue, receive, settle, to, topic,
};
use crate::support::{binding, kept, message, pattern, read, texts, through, to_topic, try_publish};

fn auto_delete() -> QueueConfig {
    QueueConfig { auto_delete: true, ..QueueConfig::default() }
}

fn passing() -> TopicConfig {
    TopicConfig { auto_delete: true, ..TopicConfig::default() }
}

fn volatile() -> TopicConfig {
    TopicConfig { volatile: true, ..TopicConfig::default() }
}

/// Dead letters are dropped, so that no other queue is made.
fn lone() -> QueueConfig {
    QueueConfig { dead_letter: Some(DeadLetterConfig::None), ..QueueConfig::default() }
}

fn to_queue(topic: &str, queue: &str, filter: Filter) -> BindingConfig {
    binding(topic, BindingTarget::Queue(queue.to_owned()), filter)
}

fn names(session: &Session) -> (Vec<String>, Vec<String>) {
    let queues = session.queues().unwrap().into_iter().map(|queue| queue.name).collect();
    (session.topics().unwrap().into_iter().map(|topic| topic.name).collect(), queues)
}

fn is_gone<T>(result: &Result<T, DeclareError>) -> bool {
    matches!(result, Err(DeclareError::NotFound { .. }))
}

const FORCED: DeleteOptions = DeleteOptions { if_unused: false, if_empty: false, even_if_referenced: true };

#[tokio::test]
async fn a_queue_goes_with_its_last_consumer_and_not_before_it_had_one() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    queue(&session, "q", auto_delete()).await;
    queue(&session, "stays", QueueConfig::default()).await;
    bind(&session, "t", "q", Filter::All).await;
    many(&session, "q", &["a"]).await;
    let taken = receive(&session, "q", 1).await;
    settle(&session, &taken[0], Settle::Ack).await.unwrap();
    bench.pass(Duration::from_secs(2)).await;
    assert_eq!(session.queue("q").unwrap().config, auto_delete(), "a receive is no standing consumer");
    let (first, second) = (session.consume("q", consumer(false, 0)).unwrap(), session.consume("q", consumer(false, 0)));
    let other = session.consume("stays", consumer(false, 0)).unwrap();
    drop(first);
    bench.pass(Duration::from_secs(2)).await;
    assert!(session.queue("q").is_ok(), "it has another consumer");
    drop((second, other));
    bench.pass(Duration::ZERO).await;
    assert!(is_gone(&session.queue("q")));
    assert!(session.queue("stays").is_ok());
    assert_eq!(session.bindings(None, None).unwrap(), []);
    assert_eq!(publish(&session, through("t"), vec![message("", "x")]).await[0].queues, 0);
}

#[tokio::test]
async fn the_last_consumer_can_wait_for_its_queue_to_go() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", auto_delete()).await;
    let (first, last) = (session.consume("q", consumer(false, 0)).unwrap(), session.consume("q", consumer(false, 0)));
    first.leave().await;
    assert!(session.queue("q").is_ok());
    last.unwrap().leave().await;
    assert!(is_gone(&session.queue("q")), "without a tick");
    queue(&session, "q", auto_delete()).await;
    bench.pass(Duration::from_secs(2)).await;
    assert!(session.queue("q").is_ok(), "what is left of the old one does not touch the new one of its name");
}

#[tokio::test]
async fn a_consumer_that_comes_before_the_queue_goes_keeps_it_and_a_redefinition_does_too() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", auto_delete()).await;
    many(&session, "q", &["a"]).await;
    drop(session.consume("q", consumer(false, 0)).unwrap());
    let mut next = session.consume("q", consumer(false, 0)).unwrap();
    bench.pass(Duration::from_secs(2)).await;
    assert_eq!(bodies(&next.next(credit(1)).await.unwrap()), ["a"]);
    drop(next);
    session.declare_queue("q", QueueConfig::default(), true).await.unwrap();
    bench.pass(Duration::from_secs(2)).await;
    assert_eq!(depth(&session, "q"), (1, 0, 0, 0), "it is no longer to go");
}

#[tokio::test]
async fn consumers_that_race_with_the_end_of_their_queue_keep_it_or_hear_that_it_is_gone() {
    for seed in 0..50_u64 {
        let bench = Bench::new();
        let session = bench.session();
        queue(&session, "q", auto_delete()).await;
        many(&session, "q", &["a"]).await;
        let last = session.consume("q", consumer(false, 0)).unwrap();
        let leaving = tokio::spawn(last.leave());
        for _ in 0..seed % 10 {
            tokio::task::yield_now().await;
        }
        match session.consume("q", consumer(false, 0)) {
            Ok(mut next) => {
                leaving.await.unwrap();
                bench.pass(Duration::from_secs(2)).await;
                assert_eq!(bodies(&next.next(credit(1)).await.unwrap()), ["a"], "seed {seed}");
            }
            Err(ConsumeError::Deleted(_) | ConsumeError::NotFound { .. }) => {
                leaving.await.unwrap();
                assert!(is_gone(&session.queue("q")), "seed {seed}");
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_consumer_that_comes_while_its_queue_goes_hears_that_it_is_gone() {
    let log = Arc::new(MemoryLog::manual());
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = {
        let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                log.run_round();
                std::thread::yield_now();
            }
        })
    };
    let bench = Bench::on(Arc::clone(&log), Arc::new(ManualClock::new()));
    let session = bench.session();
    queue(&session, "q", auto_delete()).await;
    let last = session.consume("q", consumer(false, 0)).unwrap();
    stop.store(true, Ordering::Relaxed);
    rounds.join().expect("ends");
    let leaving = tokio::spawn(last.leave());
    while log.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    let late = session.consume("q", consumer(false, 0)).map(drop);
    assert!(matches!(late, Err(ConsumeError::Deleted(_))), "{late:?}");
    log.run_round();
    leaving.await.unwrap();
    assert!(is_gone(&session.queue("q")));
}

#[tokio::test]
async fn a_queue_that_could_not_go_is_usable_and_tried_again() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", auto_delete()).await;
    // What is done each second is done for this one.
    bench.pass(Duration::ZERO).await;
    let last = session.consume("q", consumer(false, 0)).unwrap();
    bench.log.fail_next(disk_full());
    last.leave().await;
    drop(session.consume("q", consumer(false, 0)).expect("it is still there"));
    bench.log.fail_next(disk_full());
    bench.pass(Duration::ZERO).await;
    assert!(session.queue("q").is_ok());
    bench.pass(Duration::from_secs(1)).await;
    assert!(is_gone(&session.queue("q")));
}

#[tokio::test]
async fn after_a_restart_a_durable_one_waits_for_a_consumer_again() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", auto_delete()).await;
    many(&session, "q", &["a"]).await;
    let standing = session.consume("q", consumer(false, 0)).unwrap();
    // The process ends with its consumer attached.
    let bench = bench.restart();
    drop((standing, session));
    let session = bench.session();
    bench.pass(Duration::from_secs(5)).await;
    assert_eq!(depth(&session, "q"), (1, 0, 0, 0));
    session.consume("q", consumer(false, 0)).unwrap().leave().await;
    assert!(is_gone(&session.queue("q")));
    let session = bench.restart().session();
    assert!(is_gone(&session.queue("q")));
}

#[tokio::test]
async fn a_pushed_queue_cannot_go_with_its_consumer() {
    let bench = Bench::new();
    let webhook = Some(WebhookConfig {
        url: "http://192.0.2.1/".into(),
        secret: None,
        concurrency: None,
        timeout_ms: None,
        headers: Default::default(),
        format: None,
    });
    let refused = bench.session().declare_queue("q", QueueConfig { webhook, ..auto_delete() }, false).await;
    assert!(matches!(refused, Err(DeclareError::Invalid { field, .. }) if field == "auto_delete"));
}

#[tokio::test]
async fn a_topic_goes_with_the_last_binding_from_it_however_that_went() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", lone()).await;
    queue(&session, "p", lone()).await;
    topic(&session, "unbound", passing()).await;
    topic(&session, "t", passing()).await;
    session.bind(to_topic("unbound", "t", Filter::All)).await.unwrap();
    session.bind(to_topic("unbound", "t", Filter::SubjectExact("x".into()))).await.unwrap();
    session.bind(to_queue("t", "q", Filter::All)).await.unwrap();
    let (_, second) = session.bind(to_queue("t", "p", Filter::All)).await.unwrap();
    session.unbind(second.id).await.unwrap();
    assert_eq!(session.topic("t").unwrap().bindings, 1);
    // Its last binding goes with the queue; those to it go with it, and the topic that they came from with those.
    session.delete_queue("q", false, false).await.unwrap();
    assert_eq!(names(&session), (vec![], vec!["p".to_owned()]));
    assert_eq!(session.bindings(None, None).unwrap(), []);
    topic(&session, "t", passing()).await;
    bench.pass(Duration::from_secs(2)).await;
    assert!(session.topic("t").is_ok(), "it never had a binding");
    session.bind(to_queue("t", "p", Filter::All)).await.unwrap();
    assert!(session.unbind_same(to_queue("t", "p", Filter::All)).await.unwrap());
    assert!(is_gone(&session.topic("t")));
    // The last consumer takes its queue along, and that the topic.
    topic(&session, "t", passing()).await;
    queue(&session, "a", QueueConfig { dead_letter: Some(DeadLetterConfig::None), ..auto_delete() }).await;
    bind(&session, "t", "a", Filter::All).await;
    session.consume("a", consumer(false, 0)).unwrap().leave().await;
    assert_eq!(names(&session), (vec![], vec!["p".to_owned()]));
    let session = bench.restart().session();
    assert_eq!(names(&session), (vec![], vec!["p".to_owned()]));
}

#[tokio::test]
async fn topics_that_feed_each_other_in_a_circle_go_together() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", lone()).await;
    for name in ["a", "b", "c"] {
        topic(&session, name, passing()).await;
    }
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a")] {
        session.bind(to_topic(from, to, Filter::All)).await.unwrap();
    }
    bind(&session, "b", "q", Filter::All).await;
    session.delete_queue("q", false, false).await.unwrap();
    assert_eq!(names(&session).0, ["a", "b", "c"], "each has a binding left");
    session.delete_topic("b", false).await.unwrap();
    assert_eq!(names(&session).0, Vec::<String>::new());
}

#[tokio::test]
async fn a_durable_topic_that_goes_with_its_bindings_still_does_so_after_a_restart() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", TopicConfig { auto_delete: true, ..kept() }).await;
    topic(&session, "left", passing()).await;
    queue(&session, "q", lone()).await;
    queue(&session, "v", QueueConfig { volatile: true, ..lone() }).await;
    bind(&session, "t", "q", Filter::All).await;
    bind(&session, "left", "v", Filter::All).await;
    session
        .declare_group("g", GroupConfig { topic: "t".into(), start: GroupStart::Earliest, session_ms: None }, false)
        .await
        .unwrap();
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(names(&session), (vec!["left".to_owned(), "t".to_owned()], vec!["q".to_owned()]));
    session.delete_queue("q", false, false).await.unwrap();
    assert_eq!(
        names(&session).0,
        ["left"],
        "its binding went with the process, as its queue did: it waits for another"
    );
    assert!(session.group("g").is_err(), "offsets in a log that is gone are nothing");
    let session = bench.restart().session();
    assert_eq!(names(&session).0, ["left"]);
    assert_eq!(session.groups().unwrap(), []);
}

#[tokio::test]
async fn a_refused_removal_leaves_all_that_would_have_gone() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", passing()).await;
    queue(&session, "q", lone()).await;
    bind(&session, "t", "q", Filter::All).await;
    bench.log.fail_next(disk_full());
    assert!(matches!(session.delete_queue("q", false, false).await, Err(DeclareError::Storage(_))));
    assert_eq!(publish(&session, through("t"), vec![message("", "x")]).await[0].queues, 1);
}

#[tokio::test]
async fn a_volatile_topic_goes_with_the_process_and_its_bindings_with_it() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", lone()).await;
    topic(&session, "t", kept()).await;
    topic(&session, "v", volatile()).await;
    topic(&session, "w", TopicConfig { durability: Some(DurabilityConfig::Memory), volatile: true, ..kept() }).await;
    let records = || bench.log.state(LogId(0)).unwrap().records;
    let before = records();
    topic(&session, "brief", volatile()).await;
    bind(&session, "v", "q", Filter::All).await;
    session.bind(to_topic("t", "v", Filter::All)).await.unwrap();
    session.bind(to_topic("v", "brief", Filter::All)).await.unwrap();
    session.declare_topic("v", TopicConfig { description: Some("changed".into()), ..volatile() }, true).await.unwrap();
    session.delete_topic("brief", false).await.unwrap();
    assert_eq!(records(), before, "nothing of it is written");
    assert_eq!(publish(&session, through("t"), vec![message("", "x")]).await[0].queues, 1);
    publish(&session, through("w"), vec![message("", "kept in memory")]).await;
    assert_eq!(texts(&read(&session, "w", 0, ReadFrom::Earliest).await), ["kept in memory"]);
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(names(&session), (vec!["t".to_owned()], vec!["q".to_owned()]));
    assert_eq!(session.bindings(None, None).unwrap(), []);
    assert_eq!(bodies(&receive(&session, "q", 9).await), ["x"], "the durable queue behind it keeps what it got");
    topic(&session, "v", volatile()).await;
    topic(&session, "w", volatile()).await;
    assert!(!publish(&session, through("v"), vec![message("", "y")]).await[0].routed());
}

#[tokio::test]
async fn a_volatile_topic_keeps_no_log_on_disk_and_stays_volatile() {
    let bench = Bench::new();
    let session = bench.session();
    let refused = session.declare_topic("t", TopicConfig { volatile: true, ..kept() }, false).await;
    assert!(matches!(refused, Err(DeclareError::Invalid { field, .. }) if field == "retention"));
    topic(&session, "t", volatile()).await;
    let refused = session.declare_topic("t", TopicConfig::default(), true).await;
    assert!(matches!(refused, Err(DeclareError::Conflict { difference, .. }) if difference.contains("volatile")));
    topic(&session, "w", TopicConfig { durability: Some(DurabilityConfig::Memory), volatile: true, ..kept() }).await;
    let group = GroupConfig { topic: "w".into(), start: GroupStart::Earliest, session_ms: None };
    let refused = session.declare_group("g", group, false).await;
    assert!(matches!(refused, Err(DeclareError::Invalid { field, .. }) if field == "topic"));
}

#[tokio::test]
async fn a_held_queue_is_its_connections_alone_but_anybody_publishes_to_it() {
    let bench = Bench::new();
    let (own, other) = (bench.session().with_owner(), bench.session().with_owner());
    topic(&own, "t", TopicConfig::default()).await;
    let (declared, info) = own.declare_owned_queue("q", lone(), false).await.unwrap();
    assert_eq!((declared, info.owned, info.config.volatile), (Declared::Created, true, true));
    bind(&own, "t", "q", Filter::All).await;
    let bound = own.bindings(Some("t"), None).unwrap()[0].id;
    for session in [&other, &bench.session()] {
        let held = |result: Result<(), DeclareError>| {
            let Err(error @ DeclareError::Held { .. }) = result else { panic!("{result:?}") };
            assert!(error.to_string().starts_with("queue \"q\" is held by another connection"), "{error}");
        };
        held(session.declare_queue("q", QueueConfig { volatile: true, ..lone() }, true).await.map(drop));
        held(session.delete_queue_with("q", FORCED).await.map(drop));
        held(session.purge("q").await.map(drop));
        held(session.bind(to_queue("t", "q", Filter::SubjectExact("x".into()))).await.map(drop));
        held(session.unbind(bound).await);
        held(session.unbind_same(to_queue("t", "q", Filter::All)).await.map(drop));
        held(session.use_queue("q").map(drop));
        let held =
            |result: Result<(), ConsumeError>| assert!(matches!(result, Err(ConsumeError::Held { .. })), "{result:?}");
        let one = Receive { max: 1, max_bytes: 1, wait: Duration::ZERO, lease: None, auto_ack: false };
        held(session.consume("q", consumer(false, 0)).map(drop));
        held(session.receive("q", one).await.map(drop));
        held(session.browse("q", Offset(0), 1).map(drop));
        held(session.redrive("q", Redrive::default()).map(drop));
        assert!(session.queue("q").unwrap().owned, "it can be seen");
        many(session, "q", &["straight"]).await;
        publish(session, through("t"), vec![message("", "routed")]).await;
    }
    let refused = other.declare_owned_queue("q", lone(), false).await;
    assert!(matches!(refused, Err(DeclareError::Held { .. })));
    let internal = bench.broker.internal_session("default").unwrap();
    assert!(matches!(internal.purge("q").await, Err(DeclareError::Held { .. })), "whoever may do everything, too");
    internal.with_owner_of(&own).use_queue("q").expect("it acts for the connection");
    let clone = own.clone();
    assert_eq!(clone.declare_owned_queue("q", lone(), false).await.unwrap().0, Declared::Unchanged);
    assert_eq!(own.use_queue("q").unwrap().depth.ready, 4);
    assert_eq!(bodies(&receive(&clone, "q", 2).await), ["straight", "routed"]);
    assert_eq!(clone.purge("q").await.unwrap(), 2);
    own.unbind(bound).await.unwrap();
    assert_eq!(clone.delete_queue("q", false, false).await.unwrap(), 2, "those that are out");
}

#[tokio::test]
async fn whether_a_queue_is_held_is_part_of_its_definition() {
    let bench = Bench::new();
    let own = bench.session().with_owner();
    let owned = |result: Result<_, DeclareError>| {
        let Err(DeclareError::Conflict { difference, .. }) = result else { panic!("no conflict") };
        assert!(difference.starts_with("owned is"), "{difference}");
    };
    own.declare_owned_queue("held", lone(), false).await.unwrap();
    owned(own.declare_queue("held", QueueConfig { volatile: true, ..lone() }, true).await.map(drop));
    queue(&own, "open", QueueConfig { volatile: true, ..lone() }).await;
    owned(own.declare_owned_queue("open", lone(), true).await.map(drop));
    let refused = bench.session().declare_owned_queue("q", lone(), false).await;
    assert!(matches!(refused, Err(DeclareError::Invalid { .. })), "this session is no connection's");
}

#[tokio::test]
async fn what_a_connection_holds_goes_when_it_ends_and_only_that() {
    let bench = Bench::new();
    let (own, other) = (bench.session().with_owner(), bench.session().with_owner());
    topic(&own, "t", passing()).await;
    for name in ["a", "b", "deleted"] {
        own.declare_owned_queue(name, lone(), false).await.unwrap();
    }
    other.declare_owned_queue("other", lone(), false).await.unwrap();
    queue(&own, "open", lone()).await;
    own.delete_queue("deleted", false, false).await.unwrap();
    bind(&own, "t", "a", Filter::All).await;
    let mut waiting = own.consume("a", consumer(false, 0)).unwrap();
    let waiting = tokio::spawn(async move { waiting.next(Credit { messages: 1, bytes: 1 }).await });
    tokio::task::yield_now().await;
    assert_eq!(own.delete_owned().await.unwrap(), 2);
    assert!(matches!(waiting.await.unwrap(), Err(ConsumeError::Deleted(_))));
    assert_eq!(names(&other), (vec![], vec!["open".to_owned(), "other".to_owned()]));
    let late = own.declare_owned_queue("late", lone(), false).await;
    assert!(matches!(late, Err(DeclareError::Held { .. })), "nobody would delete it");
    assert_eq!((own.delete_owned().await.unwrap(), bench.session().delete_owned().await.unwrap()), (0, 0));
    assert_eq!(other.delete_owned().await.unwrap(), 1);
    // Held or not, a name is free once its queue is gone.
    queue(&other, "a", lone()).await;
    assert!(!other.queue("a").unwrap().owned);
}

#[tokio::test]
async fn a_declaration_that_races_with_its_connections_end_leaves_no_queue() {
    for yields in 0..12 {
        let bench = Bench::new();
        let own = bench.session().with_owner();
        let session = own.clone();
        let declaring = tokio::spawn(async move { session.declare_owned_queue("q", lone(), false).await });
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        own.delete_owned().await.unwrap();
        let declared = declaring.await.unwrap();
        assert!(is_gone(&own.queue("q")), "after {yields} yields: {:?}", declared.map(|_| ()));
    }
}

#[tokio::test]
async fn held_queues_go_with_the_process_and_leave_nothing_behind() {
    let bench = Bench::new();
    let own = bench.session().with_owner();
    topic(&own, "t", kept()).await;
    own.declare_owned_queue("first", lone(), false).await.unwrap();
    let records = bench.log.state(LogId(0)).unwrap().records;
    own.declare_owned_queue("q", lone(), false).await.unwrap();
    bind(&own, "t", "q", Filter::All).await;
    own.delete_owned().await.unwrap();
    assert_eq!(bench.log.state(LogId(0)).unwrap().records, records, "nothing of it is written");
    let own = own.with_owner();
    own.declare_owned_queue("q", lone(), false).await.unwrap();
    bind(&own, "t", "q", Filter::All).await;
    let bench = bench.restart();
    drop(own);
    let session = bench.session();
    assert_eq!(names(&session), (vec!["t".to_owned()], vec![]));
    assert_eq!(session.bindings(None, None).unwrap(), []);
}

#[tokio::test]
async fn a_held_queue_that_could_not_be_made_or_deleted_is_not_lost_sight_of() {
    let bench = Bench::new();
    let own = bench.session().with_owner();
    bench.log.fail_next(disk_full());
    assert!(matches!(own.declare_owned_queue("q", lone(), false).await, Err(DeclareError::Storage(_))));
    own.declare_owned_queue("q", lone(), false).await.unwrap();
    bench.log.fail_next(disk_full());
    assert!(matches!(own.delete_owned().await, Err(DeclareError::Storage(_))));
    assert_eq!(own.delete_owned().await.unwrap(), 1);
}

#[tokio::test]
async fn an_alternate_may_come_later_go_and_come_again() {
    let bench = Bench::new();
    let session = bench.session();
    let config = TopicConfig { alternate: Some("rest".into()), ..TopicConfig::default() };
    let later = DeclareTopic { alternate_may_be_missing: true, ..DeclareTopic::default() };
    assert!(is_gone(&session.declare_topic("t", config.clone(), false).await), "by default it must be there");
    session.declare_topic_with("t", config.clone(), later).await.unwrap();
    assert_eq!(session.declare_topic("t", config.clone(), false).await.unwrap().0, Declared::Unchanged);
    let described = TopicConfig { description: Some("d".into()), ..config.clone() };
    session.declare_topic("t", described, true).await.expect("its alternate is not at stake");
    let moved = TopicConfig { alternate: Some("elsewhere".into()), ..config };
    assert!(is_gone(&session.declare_topic("t", moved, true).await));
    let publish_one =
        async |session: &Session, body: &str| publish(session, through("t"), vec![message("", body)]).await[0].routed();
    let rest = async |session: &Session| {
        topic(session, "rest", TopicConfig::default()).await;
        bind(session, "rest", "q", Filter::All).await;
    };
    queue(&session, "q", lone()).await;
    assert!(!publish_one(&session, "1").await);
    rest(&session).await;
    assert!(publish_one(&session, "2").await);
    assert!(matches!(session.delete_topic("rest", false).await, Err(DeclareError::InUse { .. })));
    session.delete_topic_with("rest", FORCED).await.unwrap();
    assert!(!publish_one(&session, "3").await);
    rest(&session).await;
    assert!(publish_one(&session, "4").await);
    assert_eq!(session.topic("t").unwrap().unrouted, 2);
    session.delete_topic_with("rest", FORCED).await.unwrap();
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert!(!publish_one(&session, "5").await, "after a restart it is still missing, ...");
    rest(&session).await;
    assert!(publish_one(&session, "6").await, "... and found when it is there");
    drop(session);
    let session = bench.restart().session();
    assert!(publish_one(&session, "7").await);
    assert_eq!(bodies(&receive(&session, "q", 9).await), ["2", "4", "6", "7"]);
}

#[tokio::test]
async fn a_queue_that_dead_letters_go_to_is_deleted_when_that_is_asked_for() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "dead", lone()).await;
    queue(&session, "q", QueueConfig { dead_letter: Some(DeadLetterConfig::Queue("dead".into())), ..lone() }).await;
    many(&session, "dead", &["old"]).await;
    assert!(matches!(session.delete_queue("dead", false, false).await, Err(DeclareError::InUse { .. })));
    let empty = DeleteOptions { if_empty: true, ..FORCED };
    assert!(matches!(session.delete_queue_with("dead", empty).await, Err(DeclareError::InUse { .. })));
    let standing = session.consume("dead", consumer(false, 0)).unwrap();
    let unused = DeleteOptions { if_unused: true, ..FORCED };
    assert!(matches!(session.delete_queue_with("dead", unused).await, Err(DeclareError::InUse { .. })));
    drop(standing);
    assert_eq!(session.delete_queue_with("dead", unused).await.unwrap(), 1);
    many(&session, "q", &["a"]).await;
    let taken = receive(&session, "q", 1).await;
    let _ = settle(&session, &taken[0], Settle::Reject { error: None }).await;
    bench.pass(Duration::from_secs(1)).await;
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(bodies(&receive(&session, "dead", 9).await), ["a"], "as the definition says: the queue is made anew");
}

#[tokio::test]
async fn a_topic_that_is_referred_to_is_deleted_when_that_is_asked_for_and_its_groups_with_it() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    let dead_letter = Some(DeadLetterConfig::Topic { topic: "t".into(), subject: None, or_drop: false });
    queue(&session, "q", QueueConfig { dead_letter, ..QueueConfig::default() }).await;
    let group = GroupConfig { topic: "t".into(), start: GroupStart::Earliest, session_ms: None };
    session.declare_group("g", group.clone(), false).await.unwrap();
    assert!(matches!(session.delete_topic("t", false).await, Err(DeclareError::InUse { .. })));
    session.delete_topic_with("t", FORCED).await.unwrap();
    assert!(session.group("g").is_err());
    many(&session, "q", &["a"]).await;
    let taken = receive(&session, "q", 1).await;
    let _ = settle(&session, &taken[0], Settle::Reject { error: None }).await;
    bench.pass(Duration::from_secs(1)).await;
    topic(&session, "t", kept()).await;
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(texts(&read(&session, "t", 0, ReadFrom::Earliest).await), ["a"], "it waited for the topic to be there");
    session.declare_group("g", group, false).await.unwrap();
}

#[tokio::test]
async fn a_topic_is_unused_when_nothing_is_bound_from_it() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "from", TopicConfig::default()).await;
    topic(&session, "t", TopicConfig::default()).await;
    session.bind(to_topic("from", "t", Filter::All)).await.unwrap();
    assert!(matches!(session.delete_topic("from", true).await, Err(DeclareError::InUse { .. })));
    session.delete_topic("t", true).await.expect("a binding to it does not use it");
    session.delete_topic("from", true).await.expect("it has none any more");
}

#[tokio::test]
async fn a_declaration_is_use_and_a_queue_that_expires_waits_longer_for_it() {
    let bench = Bench::new();
    let session = bench.session();
    let config = QueueConfig { expires_ms: Some(10_000), ..lone() };
    for name in ["declared", "updated", "looked-for", "seen"] {
        queue(&session, name, config.clone()).await;
    }
    bench.pass(Duration::from_secs(6)).await;
    queue(&session, "declared", config.clone()).await;
    let updated = QueueConfig { description: Some("d".into()), ..config.clone() };
    session.declare_queue("updated", updated, true).await.unwrap();
    session.use_queue("looked-for").unwrap();
    session.queue("seen").unwrap();
    let refused = session.declare_queue("seen", QueueConfig { ttl_ms: Some(1), ..config }, false).await;
    assert!(matches!(refused, Err(DeclareError::Conflict { .. })));
    bench.pass(Duration::from_secs(6)).await;
    assert_eq!(names(&session).1, ["declared", "looked-for", "updated"]);
    bench.pass(Duration::from_secs(6)).await;
    assert_eq!(names(&session).1, Vec::<String>::new());
}

#[tokio::test]
async fn a_binding_is_removed_by_what_it_says() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", TopicConfig::default()).await;
    queue(&session, "q", lone()).await;
    let plain = to_queue("t", "q", Filter::Subject(pattern("a.*")));
    let mut argued = plain.clone();
    argued.arguments.insert("x".into(), serde_json::json!(1));
    for config in [&plain, &argued] {
        session.bind(config.clone()).await.unwrap();
    }
    assert!(session.unbind_same(plain.clone()).await.unwrap());
    assert!(!session.unbind_same(plain.clone()).await.unwrap(), "it is gone, and that is no error");
    assert_eq!(session.bindings(None, None).unwrap()[0].config, argued);
    for config in [to_queue("no", "q", Filter::All), to_queue("t", "no", Filter::All), to_topic("t", "no", Filter::All)]
    {
        assert!(!session.unbind_same(config).await.unwrap());
    }
    assert!(session.unbind_same(argued).await.unwrap());
    assert_eq!(session.bindings(None, None).unwrap(), []);
    let session = bench.restart().session();
    assert_eq!(session.bindings(None, None).unwrap(), []);
}

#[tokio::test]
async fn bindings_are_listed_by_topic_and_by_target() {
    let bench = Bench::new();
    let session = bench.session();
    for name in ["a", "b", "gone"] {
        topic(&session, name, TopicConfig::default()).await;
        queue(&session, &format!("q{name}"), lone()).await;
    }
    let all = [
        to_queue("a", "qa", Filter::All),
        to_queue("a", "qb", Filter::All),
        to_queue("b", "qa", Filter::All),
        to_topic("b", "a", Filter::All),
        to_topic("gone", "a", Filter::All),
    ];
    for config in &all {
        session.bind(config.clone()).await.unwrap();
    }
    session.delete_topic("gone", false).await.unwrap();
    let list = |topic: Option<&str>, target: Option<BindingTarget>| {
        let found = session.bindings(topic, target.as_ref()).unwrap();
        found
            .into_iter()
            .map(|binding| all.iter().position(|config| *config == binding.config).unwrap())
            .collect::<Vec<_>>()
    };
    let (queue, topic) =
        (|name: &str| Some(BindingTarget::Queue(name.into())), |name: &str| Some(BindingTarget::Topic(name.into())));
    assert_eq!(list(None, None), [0, 1, 2, 3]);
    assert_eq!(list(Some("a"), None), [0, 1]);
    assert_eq!(list(Some("b"), None), [2, 3]);
    assert_eq!(list(None, queue("qa")), [0, 2]);
    assert_eq!(list(None, topic("a")), [3]);
    assert_eq!(list(Some("b"), queue("qa")), [2]);
    assert_eq!(list(Some("gone"), None), Vec::<usize>::new());
    assert_eq!(list(None, queue("a")), Vec::<usize>::new(), "no queue of this name");
}

#[tokio::test]
async fn a_bindings_weight_is_its_share_and_part_of_what_it_says() {
    let bench = Bench::new();
    let session = bench.session();
    let router = RouterConfig::ConsistentHash { header: None, property: None };
    topic(&session, "t", TopicConfig { router, ..TopicConfig::default() }).await;
    let weighted = |queue: &str, weight| BindingConfig { weight: Some(weight), ..to_queue("t", queue, Filter::All) };
    for (name, weight) in [("light", 1), ("heavy", 9)] {
        queue(&session, name, lone()).await;
        session.bind(weighted(name, weight)).await.unwrap();
    }
    let messages = (0..1_000).map(|n| crate::support::keyed(&n.to_string(), "")).collect();
    publish(&session, through("t"), messages).await;
    let (light, heavy) = (depth(&session, "light").0, depth(&session, "heavy").0);
    assert_eq!(light + heavy, 1_000);
    assert!(heavy > 3 * light, "{light} and {heavy}");
    assert!(!session.unbind_same(weighted("heavy", 8)).await.unwrap());
    assert!(session.unbind_same(weighted("heavy", 9)).await.unwrap());
    let gone = try_publish(&session, to("nowhere"), message("", ""), PublishOptions::default()).await;
    assert!(matches!(gone, Err(PublishError::NotFound { .. })));
}
