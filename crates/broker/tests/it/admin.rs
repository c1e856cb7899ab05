//! Policies, namespaces, quotas.

use std::time::Duration;

use broker::definitions::{
    DeadLetterConfig, DurabilityConfig, NamespaceConfig, PolicyScope, PolicyValues, QueueConfig, Quota,
    RetentionConfig, TopicConfig,
};
use broker::queue::Settle;
use broker::views::{Declared, ReadFrom};
use broker::{AccessError, DeclareError, Principal, PublishError, PublishOptions, PublishTo, Session, SettleError};
use log::Refusal;
use types::Filter;

use crate::harness::{Bench, bind, bodies, publish, queue, receive, topic};
use crate::support::{binding, kept, message, policy, read, texts, through, to_topic, try_publish};

fn anyone(bench: &Bench) -> Principal {
    bench.broker.authenticate(&broker::Credentials::Anonymous).expect("open")
}

fn keep_records(records: u64) -> PolicyValues {
    let retention = RetentionConfig { max_records: Some(records), ..RetentionConfig::default() };
    PolicyValues { retention: Some(retention), ..PolicyValues::default() }
}

async fn publish_some(session: &Session, to: &str, from: u64, count: u64) {
    for n in from..from + count {
        publish(session, through(to), vec![message("", &n.to_string())]).await;
    }
}

#[tokio::test]
async fn a_policy_changes_how_long_a_log_is_kept_and_its_end_changes_it_back() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "orders", kept()).await;
    topic(&session, "other", kept()).await;
    publish_some(&session, "orders", 0, 10).await;
    publish_some(&session, "other", 0, 10).await;
    let values = policy("ord*", PolicyScope::Topics, keep_records(3));
    assert_eq!(session.put_policy("p", values.clone()).await.unwrap(), Declared::Created);
    assert_eq!(session.put_policy("p", values).await.unwrap(), Declared::Unchanged);
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(texts(&read(&session, "orders", 0, ReadFrom::Earliest).await), ["7", "8", "9"]);
    assert_eq!(read(&session, "other", 0, ReadFrom::Earliest).await.len(), 10);
    let info = session.topic("orders").unwrap();
    assert_eq!((info.policy.as_deref(), info.retention.unwrap().max_records), (Some("p"), Some(3)));
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    publish_some(&session, "orders", 10, 1).await;
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(texts(&read(&session, "orders", 0, ReadFrom::Earliest).await), ["8", "9", "10"]);
    session.delete_policy("p").await.unwrap();
    assert!(matches!(session.delete_policy("p").await, Err(DeclareError::NotFound { .. })));
    publish_some(&session, "orders", 11, 5).await;
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(read(&session, "orders", 0, ReadFrom::Earliest).await.len(), 8);
}

#[tokio::test]
async fn a_policy_does_not_decide_whether_a_topic_that_exists_keeps_a_log() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "before", TopicConfig::default()).await;
    session.put_policy("p", policy("*", PolicyScope::All, keep_records(3))).await.unwrap();
    topic(&session, "under", TopicConfig::default()).await;
    assert_eq!(session.topic("before").unwrap().partitions.len(), 0);
    assert_eq!(session.topic("before").unwrap().retention, None);
    assert_eq!(session.topic("under").unwrap().partitions.len(), 1);
    publish_some(&session, "under", 0, 2).await;
    drop(session);
    // The start must not look for a log that was never made,
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(session.topic("before").unwrap().partitions.len(), 0);
    assert_eq!(texts(&read(&session, "under", 0, ReadFrom::Earliest).await), ["0", "1"]);
    session.delete_policy("p").await.unwrap();
    drop(session);
    // nor forget one that was.
    let bench = bench.restart();
    let session = bench.session();
    publish_some(&session, "under", 2, 4).await;
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(read(&session, "under", 0, ReadFrom::Earliest).await.len(), 6);
    let described = TopicConfig { description: Some("still there".into()), ..TopicConfig::default() };
    session.declare_topic("under", described, true).await.unwrap();
    assert_eq!(read(&session, "under", 0, ReadFrom::Earliest).await.len(), 6);
}

#[tokio::test]
async fn a_topic_in_memory_begins_anew_with_a_restart_whatever_policies_say_of_durability() {
    let bench = Bench::new();
    let session = bench.session();
    let memory = TopicConfig { durability: Some(DurabilityConfig::Memory), ..kept() };
    topic(&session, "volatile", memory).await;
    topic(&session, "durable", kept()).await;
    let values = |durability| PolicyValues { durability: Some(durability), ..PolicyValues::default() };
    let config = policy("volatile", PolicyScope::All, values(DurabilityConfig::Fsync));
    session.put_policy("a", config).await.unwrap();
    session.put_policy("b", policy("durable", PolicyScope::All, values(DurabilityConfig::Memory))).await.unwrap();
    let group = |topic: &str| broker::definitions::GroupConfig {
        topic: topic.to_owned(),
        start: broker::definitions::GroupStart::Earliest,
        session_ms: None,
    };
    session.declare_group("g", group("volatile"), false).await.unwrap();
    publish_some(&session, "volatile", 0, 5).await;
    publish_some(&session, "durable", 0, 5).await;
    session.commit_group("g", None, &[(0, types::Offset(5))]).await.unwrap();
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert!(read(&session, "volatile", 0, ReadFrom::Earliest).await.is_empty());
    assert_eq!(read(&session, "durable", 0, ReadFrom::Earliest).await.len(), 5);
    publish_some(&session, "volatile", 7, 2).await;
    let (generation, _) = session.join_group("g", "m").unwrap();
    let fetched = session.fetch_group("g", "m", generation, 10, Duration::ZERO).await.unwrap();
    assert_eq!(texts(&fetched), ["7", "8"], "a place in the log that is gone says nothing");
}

#[tokio::test]
async fn a_dead_letter_queue_that_a_policy_names_is_made() {
    let bench = Bench::new();
    let session = bench.session();
    let never = QueueConfig { dead_letter: Some(DeadLetterConfig::None), ..QueueConfig::default() };
    queue(&session, "q", never).await;
    let values = PolicyValues { dead_letter: Some(DeadLetterConfig::Queue("graveyard".into())), ..Default::default() };
    session.put_policy("p", policy("q", PolicyScope::Queues, values)).await.unwrap();
    assert_eq!(session.queue("graveyard").unwrap().dead_letter, DeadLetterConfig::None);
    publish(&session, PublishTo::Queue("q".into()), vec![message("", "x")]).await;
    let taken = receive(&session, "q", 1).await;
    let reject = Settle::Reject { error: Some("no".into()) };
    assert_eq!(session.settle(vec![(taken[0].receipt, reject)]).await, [Ok::<(), SettleError>(())]);
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(bodies(&receive(&session, "graveyard", 1).await), ["x"]);
    assert!(matches!(session.delete_queue("graveyard", false, false).await, Err(DeclareError::InUse { .. })));
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(session.queue("q").unwrap().dead_letter, DeadLetterConfig::Queue("graveyard".into()));
    assert_eq!(bodies(&receive(&session, "graveyard", 1).await), ["x"]);
}

#[tokio::test]
async fn the_highest_policy_that_fits_holds_as_a_whole_and_bad_ones_are_refused() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "orders", QueueConfig { ttl_ms: Some(5), ..QueueConfig::default() }).await;
    let ttl = |ttl_ms| PolicyValues { ttl_ms: Some(ttl_ms), ..PolicyValues::default() };
    let with = |priority, values| {
        let mut config = policy("o*", PolicyScope::Queues, values);
        config.priority = priority;
        config
    };
    session.put_policy("low", with(1, ttl(100))).await.unwrap();
    let high = with(2, PolicyValues { max_messages: Some(3), ..PolicyValues::default() });
    session.put_policy("high", high).await.unwrap();
    let rules = |session: &Session| {
        let info = session.queue("orders").unwrap();
        (info.policy.unwrap_or_default(), info.rules.ttl, info.rules.max_messages)
    };
    assert_eq!(rules(&session), ("high".into(), Some(Duration::from_millis(5)), Some(3)));
    session.delete_policy("high").await.unwrap();
    assert_eq!(rules(&session), ("low".into(), Some(Duration::from_millis(100)), None));
    let mut defaults = with(9, PolicyValues::default());
    defaults.defaults = ttl(1_000);
    session.put_policy("default", defaults).await.unwrap();
    assert_eq!(rules(&session).1, Some(Duration::from_millis(5)), "the definition says something");
    let names: Vec<String> = session.policies().unwrap().into_iter().map(|policy| policy.name).collect();
    assert_eq!(names, ["default", "low"]);
    let bad = PolicyValues { max_body_bytes: Some(0), ..PolicyValues::default() };
    assert!(matches!(session.put_policy("bad", with(0, bad)).await, Err(DeclareError::Invalid { .. })));
    assert!(matches!(session.put_policy("", with(0, ttl(1))).await, Err(DeclareError::Name(_))));
}

#[tokio::test]
async fn an_alternate_that_a_policy_names_is_used_as_soon_as_it_exists() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", TopicConfig::default()).await;
    let values = PolicyValues { alternate: Some("rest".into()), ..PolicyValues::default() };
    session.put_policy("p", policy("t", PolicyScope::Topics, values)).await.unwrap();
    assert!(!publish(&session, through("t"), vec![message("", "lost")]).await[0].routed());
    topic(&session, "rest", kept()).await;
    publish(&session, through("t"), vec![message("", "kept")]).await;
    assert_eq!(texts(&read(&session, "rest", 0, ReadFrom::Earliest).await), ["kept"]);
    assert!(matches!(session.delete_topic("rest", false).await, Err(DeclareError::InUse { .. })));
}

#[tokio::test]
async fn namespaces_hold_the_same_names_apart_and_take_all_with_them() {
    let bench = Bench::new();
    let (session, admin) = (bench.session(), anyone(&bench));
    assert!(matches!(bench.broker.session(&admin, "other"), Err(AccessError::NoSuchNamespace(_))));
    let made = bench.broker.put_namespace(&admin, "other", NamespaceConfig::default()).await.unwrap();
    let again = bench.broker.put_namespace(&admin, "other", NamespaceConfig::default()).await.unwrap();
    assert_eq!((made.0, again.0), (Declared::Created, Declared::Unchanged));
    let other = bench.broker.session(&admin, "other").unwrap();
    for session in [&session, &other] {
        topic(session, "t", kept()).await;
        queue(session, "q", QueueConfig::default()).await;
        bind(session, "t", "q", Filter::All).await;
    }
    publish(&other, through("t"), vec![message("", "x")]).await;
    assert!(receive(&session, "q", 1).await.is_empty());
    let taken = receive(&other, "q", 1).await;
    let foreign = session.settle(vec![(taken[0].receipt, Settle::Ack)]).await;
    assert!(matches!(foreign[0], Err(SettleError::Lease(_))), "a receipt of another namespace");
    assert!(matches!(bench.broker.delete_namespace(&admin, "default").await, Err(DeclareError::InUse { .. })));
    let logs = log::Log::logs(&*bench.log).len();
    bench.broker.delete_namespace(&admin, "other").await.unwrap();
    // Topic: one partition and its state; two queues with two logs each.
    assert_eq!(log::Log::logs(&*bench.log).len(), logs - 6);
    assert!(matches!(other.topics(), Err(DeclareError::Access(AccessError::NoSuchNamespace(_)))));
    let late = other.declare_topic("late", kept(), false).await;
    assert!(matches!(late, Err(DeclareError::Access(AccessError::NoSuchNamespace(_)))));
    let late = try_publish(&other, PublishTo::Subject, message("s", "x"), PublishOptions::default()).await;
    assert!(matches!(late, Err(PublishError::Access(_))));
    bench.broker.put_namespace(&admin, "other", NamespaceConfig::default()).await.unwrap();
    drop((session, other));
    let bench = bench.restart();
    let names: Vec<String> = bench.broker.namespaces(&admin).unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["default", "other"]);
    let other = bench.broker.session(&admin, "other").unwrap();
    assert!(other.topics().unwrap().is_empty() && other.queues().unwrap().is_empty());
}

async fn limited(bench: &Bench, quota: Quota) -> Session {
    let config = NamespaceConfig { quota, ..NamespaceConfig::default() };
    bench.broker.put_namespace(&anyone(bench), "default", config).await.expect("sets");
    bench.session()
}

#[tokio::test]
async fn each_quota_on_entities_has_its_error() {
    let bench = Bench::new();
    let quota = Quota { max_topics: Some(2), max_queues: Some(2), max_bindings: Some(1), ..Quota::default() };
    let session = limited(&bench, quota).await;
    let quota = |error: DeclareError| match error {
        DeclareError::Quota { limit, value } => (limit, value),
        other => panic!("{other:?}"),
    };
    for name in ["a", "b"] {
        topic(&session, name, kept()).await;
    }
    assert_eq!(quota(session.declare_topic("c", kept(), false).await.unwrap_err()), ("max_topics", 2));
    assert_eq!(session.declare_topic("a", kept(), false).await.unwrap().0, Declared::Unchanged);
    // A queue brings its dead-letter queue.
    queue(&session, "q", QueueConfig::default()).await;
    assert_eq!(quota(session.declare_queue("r", QueueConfig::default(), false).await.unwrap_err()), ("max_queues", 2));
    bind(&session, "a", "q", Filter::All).await;
    bind(&session, "a", "q", Filter::All).await;
    let second = session.bind(to_topic("a", "b", Filter::All)).await.unwrap_err();
    assert_eq!(quota(second), ("max_bindings", 1));
    session.delete_topic("b", false).await.unwrap();
    topic(&session, "c", kept()).await;
}

#[tokio::test]
async fn each_quota_on_messages_has_its_error() {
    let bench = Bench::new();
    let session = limited(&bench, Quota { max_body_bytes: Some(100), ..Quota::default() }).await;
    topic(&session, "t", TopicConfig { max_body_bytes: Some(1_000), ..kept() }).await;
    topic(&session, "small", TopicConfig { max_body_bytes: Some(10), ..kept() }).await;
    queue(&session, "q", QueueConfig::default()).await;
    let tell = |to: PublishTo, bytes: usize| {
        let session = session.clone();
        async move { try_publish(&session, to, message("", &"x".repeat(bytes)), PublishOptions::default()).await }
    };
    for (to, limit) in
        [(through("t"), 100), (through("small"), 10), (PublishTo::Queue("q".into()), 100), (PublishTo::Subject, 100)]
    {
        assert!(tell(to.clone(), limit).await.is_ok(), "{to:?}");
        let refused = tell(to.clone(), limit + 1).await.unwrap_err();
        assert!(matches!(refused, PublishError::TooLarge { limit: l, .. } if l == limit as u64), "{to:?}: {refused}");
    }
    let session = limited(&bench, Quota { max_publish_rate: Some(10), ..Quota::default() }).await;
    let ten = vec![message("", "x"); 10];
    publish(&session, through("t"), ten.clone()).await;
    let refused = session.publish(&through("t"), vec![message("", "x")], PublishOptions::default()).await;
    assert!(matches!(refused, Err(PublishError::Quota { limit: "max_publish_rate", value: 10 })));
    bench.clock.advance(Duration::from_millis(500));
    publish(&session, through("t"), vec![message("", "x"); 5]).await;
    assert!(session.publish(&through("t"), vec![message("", "x")], PublishOptions::default()).await.is_err());
    let session = limited(&bench, Quota { max_stored_bytes: Some(20_000), ..Quota::default() }).await;
    let mut taken = 0;
    let refused = loop {
        let big = message("", &"x".repeat(1_000));
        match try_publish(&session, through("t"), big, PublishOptions::default()).await {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100);
    };
    assert!(matches!(refused, PublishError::Quota { limit: "max_stored_bytes", value: 20_000 }));
    assert!((15..20).contains(&taken), "{taken}, without a tick in between");
    session
        .declare_topic(
            "t",
            TopicConfig {
                retention: Some(RetentionConfig { max_records: Some(1), ..Default::default() }),
                max_body_bytes: Some(1_000),
                ..TopicConfig::default()
            },
            true,
        )
        .await
        .unwrap();
    bench.pass(Duration::from_secs(1)).await;
    bench.pass(Duration::from_secs(1)).await;
    publish(&session, through("t"), vec![message("", "room again")]).await;
    drop(session);
    let bench = bench.restart();
    bench.broker.tick().await;
    assert!(bench.broker.namespaces(&anyone(&bench)).unwrap()[0].stored_bytes > 0, "known from the first tick on");
}

#[tokio::test]
async fn a_body_may_pass_the_default_bound_only_where_a_topic_or_quota_says_so() {
    let bench = Bench::new();
    let session = bench.session();
    let large = 17 * 1024 * 1024;
    topic(&session, "large", TopicConfig { max_body_bytes: Some(20 * 1024 * 1024), ..kept() }).await;
    topic(&session, "usual", kept()).await;
    let body = bytes_of(large);
    let tell = |to: &str| {
        let (session, to, message) = (session.clone(), through(to), types::Message::new("", body.clone()));
        async move { try_publish(&session, to, message, PublishOptions::default()).await }
    };
    assert!(matches!(
        tell("usual").await,
        Err(PublishError::TooLarge { limit_name: "max_body_bytes of the topic", .. })
    ));
    assert!(tell("large").await.is_ok());
}

fn bytes_of(len: usize) -> Vec<u8> {
    vec![7; len]
}

#[tokio::test]
async fn what_the_log_refuses_changes_no_definition() {
    let bench = Bench::new();
    let (session, admin) = (bench.session(), anyone(&bench));
    topic(&session, "t", kept()).await;
    topic(&session, "u", kept()).await;
    queue(&session, "q", QueueConfig::default()).await;
    bind(&session, "t", "q", Filter::All).await;
    session.put_policy("p", policy("x", PolicyScope::All, PolicyValues::default())).await.unwrap();
    let group = |start| broker::definitions::GroupConfig { topic: "t".into(), start, session_ms: None };
    let (earliest, latest) = (broker::definitions::GroupStart::Earliest, broker::definitions::GroupStart::Latest);
    session.declare_group("g", group(earliest), false).await.unwrap();
    let bound = session.bindings(None, None).unwrap()[0].id;
    let described = Some("new".to_owned());
    macro_rules! refused {
        ($($call:expr),+ $(,)?) => {$(
            let before = snapshot(&bench);
            bench.log.fail_next(Refusal::DiskFull { free_bytes: 1, reserve_bytes: 2 });
            let result = $call.await;
            let error = result.map(|_| ()).expect_err(stringify!($call));
            assert!(matches!(error, DeclareError::Storage(_)), "{}: {error:?}", stringify!($call));
            assert_eq!(snapshot(&bench), before, "{}", stringify!($call));
        )+};
    }
    let values = policy("*", PolicyScope::All, keep_records(1));
    refused!(
        session.declare_topic("new", kept(), false),
        session.declare_topic("t", TopicConfig { partitions: Some(3), ..kept() }, true),
        session.delete_topic("u", false),
        session.declare_queue("new", QueueConfig::default(), false),
        session.declare_queue("q", QueueConfig { description: described.clone(), ..QueueConfig::default() }, true),
        session.delete_queue("q", false, false),
        session.bind(binding("u", broker::definitions::BindingTarget::Queue("q".into()), Filter::All)),
        session.unbind(bound),
        session.declare_group("new", group(earliest), false),
        session.declare_group("g", group(latest), true),
        session.delete_group("g"),
        session.put_policy("new", values.clone()),
        session.put_policy("p", values),
        session.delete_policy("p"),
        bench.broker.put_namespace(&admin, "new", NamespaceConfig::default()),
        bench.broker.put_namespace(&admin, "default", NamespaceConfig { description: described, ..Default::default() }),
    );
    publish(&session, through("t"), vec![message("", "x")]).await;
    assert_eq!(bodies(&receive(&session, "q", 1).await), ["x"]);
    let before = snapshot(&bench);
    drop(session);
    assert_eq!(snapshot(&bench.restart()), before);
}

/// Every definition, as text.
pub(crate) fn snapshot(bench: &Bench) -> String {
    let admin = bench.broker.internal_session("default").expect("there");
    let mut text = String::new();
    let topics = admin.topics().unwrap();
    let topic = |topic: &broker::views::TopicInfo| {
        (
            topic.id,
            topic.config.clone(),
            topic.retention.clone(),
            topic.policy.clone(),
            topic.partitions.len(),
            topic.bindings,
            topic.name.clone(),
        )
    };
    text += &format!("{:?}\n", topics.iter().map(topic).collect::<Vec<_>>());
    let queue = |queue: &broker::views::QueueInfo| {
        (
            queue.id,
            queue.name.clone(),
            queue.config.clone(),
            queue.rules.clone(),
            queue.dead_letter.clone(),
            queue.policy.clone(),
        )
    };
    text += &format!("{:?}\n", admin.queues().unwrap().iter().map(queue).collect::<Vec<_>>());
    text += &format!("{:?}\n{:?}\n", admin.bindings(None, None).unwrap(), admin.policies().unwrap());
    let group = |group: &broker::views::GroupInfo| {
        (group.id, group.name.clone(), group.config.clone(), group.partitions.clone())
    };
    text += &format!("{:?}\n", admin.groups().unwrap().iter().map(group).collect::<Vec<_>>());
    let spaces = bench.broker.all_topics().into_iter().map(|(space, topic)| (space, topic.name)).collect::<Vec<_>>();
    text + &format!("{spaces:?}")
}
