//! Topics: declaring, routing, partitions, reading, keys and versions.

use std::time::Duration;

use broker::definitions::{BindingTarget, DurabilityConfig, QueueConfig, RetentionConfig, RouterConfig, TopicConfig};
use broker::views::{Declared, Position, ReadFrom};
use broker::{DeclareError, Expect, ExpectOf, PublishError, PublishOptions, PublishTo, Read, ReplayError};
use types::{Filter, HeaderMatch, Offset, Text, Timestamp, Value};

use crate::harness::{Bench, bind, bodies, publish, queue, receive, topic};
use crate::support::{
    at, binding, indexed, kept, keyed, message, offsets, partitioned, pattern, read, reading, session_of, texts,
    through, to_topic, try_publish,
};

#[tokio::test]
async fn a_topic_is_declared_once_changed_when_asked_and_refused_otherwise() {
    let bench = Bench::new();
    let session = bench.session();
    assert_eq!(session.declare_topic("t", kept(), false).await.unwrap().0, Declared::Created);
    assert_eq!(session.declare_topic("t", kept(), false).await.unwrap().0, Declared::Unchanged);
    let short = TopicConfig {
        retention: Some(RetentionConfig { max_records: Some(2), ..RetentionConfig::default() }),
        ..TopicConfig::default()
    };
    let refused = session.declare_topic("t", short.clone(), false).await.unwrap_err();
    assert!(
        matches!(&refused, DeclareError::Conflict { difference, .. } if difference.contains("retention")),
        "{refused}"
    );
    publish(&session, through("t"), ["a", "b", "c"].map(|body| message("", body)).into()).await;
    publish(&session, through("t"), vec![message("", "d")]).await;
    publish(&session, through("t"), vec![message("", "e")]).await;
    assert_eq!(session.declare_topic("t", short, true).await.unwrap().0, Declared::Updated);
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(texts(&read(&session, "t", 0, ReadFrom::Earliest).await), ["d", "e"]);
    for (config, what) in [
        (TopicConfig::default(), "the log itself"),
        (TopicConfig { key_index: true, ..kept() }, "key_index"),
        (TopicConfig { durability: Some(DurabilityConfig::Memory), ..kept() }, "memory"),
    ] {
        let refused = session.declare_topic("t", config, true).await.unwrap_err();
        assert!(
            matches!(&refused, DeclareError::Conflict { difference, .. } if difference.contains(what)),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_topic_in_use_is_not_deleted_and_a_new_one_of_the_name_holds_nothing_of_the_old() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "rest", TopicConfig::default()).await;
    topic(&session, "t", TopicConfig { alternate: Some("rest".into()), ..kept() }).await;
    queue(&session, "q", QueueConfig::default()).await;
    bind(&session, "t", "q", Filter::All).await;
    let in_use = |result: Result<(), DeclareError>| matches!(result, Err(DeclareError::InUse { .. }));
    assert!(in_use(session.delete_topic("rest", false).await), "it is an alternate");
    assert!(in_use(session.delete_topic("t", true).await), "it has a binding");
    publish(&session, through("t"), vec![message("", "old")]).await;
    let id = session.topic("t").unwrap().id;
    session.delete_topic("t", false).await.unwrap();
    assert_eq!(session.bindings(None, None).unwrap(), []);
    assert!(matches!(session.topic("t"), Err(DeclareError::NotFound { .. })));
    topic(&session, "t", kept()).await;
    assert!(session.topic("t").unwrap().id > id);
    assert!(read(&session, "t", 0, ReadFrom::Earliest).await.is_empty());
    let published = publish(&session, through("t"), vec![message("", "new")]).await;
    assert_eq!((published[0].queues, published[0].position.unwrap().offset), (0, Offset(0)));
    let missing = session.declare_topic("x", TopicConfig { alternate: Some("y".into()), ..kept() }, false).await;
    assert!(matches!(missing, Err(DeclareError::NotFound { .. })));
}

#[tokio::test]
async fn keys_choose_partitions_and_order_holds_partition_by_partition_into_one_queue() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", partitioned(4)).await;
    queue(&session, "q", QueueConfig::default()).await;
    bind(&session, "t", "q", Filter::All).await;
    let messages: Vec<_> = (0..200).map(|n| keyed(&format!("k{}", n % 13), &n.to_string())).collect();
    let mut placed = Vec::new();
    for some in messages.chunks(7) {
        placed.extend(publish(&session, through("t"), some.to_vec()).await);
    }
    let mut partitions = std::collections::BTreeSet::new();
    for partition in 0..4 {
        let records = read(&session, "t", partition, ReadFrom::Earliest).await;
        assert_eq!(offsets(&records), (0..records.len() as u64).collect::<Vec<_>>());
        for record in &records {
            let n: usize = crate::support::body(&record.message).parse().unwrap();
            assert_eq!(placed[n].position, Some(record.position), "what the publish was told");
            assert_eq!(record.message.key.as_deref(), Some(format!("k{}", n % 13).as_bytes()));
            partitions.insert((n % 13, partition));
        }
    }
    assert_eq!(partitions.len(), 13, "a key has one partition");
    let taken = receive(&session, "q", 1_000).await;
    assert_eq!(taken.len(), 200);
    for key in 0..13 {
        let of_key = bodies(&taken).into_iter().map(|body| body.parse::<u32>().unwrap()).filter(|n| n % 13 == key);
        assert!(of_key.is_sorted(), "key {key}");
    }
}

#[tokio::test]
async fn a_partition_can_be_named_and_added_but_not_taken_away() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", partitioned(2)).await;
    let to = |partition| PublishOptions { partition: Some(partition), ..PublishOptions::default() };
    let published = try_publish(&session, through("t"), keyed("k", "a"), to(1)).await.unwrap();
    assert_eq!(published.position, Some(Position { partition: 1, offset: Offset(0) }));
    let missing = try_publish(&session, through("t"), keyed("k", "a"), to(2)).await;
    assert!(matches!(missing, Err(PublishError::NotFound { .. })));
    assert_eq!(session.declare_topic("t", partitioned(3), true).await.unwrap().1.partitions.len(), 3);
    let published = try_publish(&session, through("t"), keyed("k", "b"), to(2)).await.unwrap();
    assert_eq!(published.position, Some(Position { partition: 2, offset: Offset(0) }));
    assert!(matches!(session.declare_topic("t", partitioned(1), true).await, Err(DeclareError::Conflict { .. })));
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(session.topic("t").unwrap().partitions.len(), 3);
    assert_eq!(texts(&read(&session, "t", 2, ReadFrom::Earliest).await), ["b"]);
}

#[tokio::test]
async fn topics_feed_topics_once_each_whatever_cycles_there_are() {
    let bench = Bench::new();
    let session = bench.session();
    for name in ["a", "b", "c"] {
        topic(&session, name, kept()).await;
        queue(&session, &format!("{name}-q"), QueueConfig::default()).await;
        bind(&session, name, &format!("{name}-q"), Filter::All).await;
    }
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "c")] {
        session.bind(to_topic(from, to, Filter::All)).await.unwrap();
    }
    let published = publish(&session, through("b"), vec![message("s", "1")]).await;
    assert_eq!(published[0].queues, 3);
    for name in ["a", "b", "c"] {
        assert_eq!(texts(&read(&session, name, 0, ReadFrom::Earliest).await), ["1"], "log of {name}");
        assert_eq!(bodies(&receive(&session, &format!("{name}-q"), 10).await), ["1"], "queue of {name}");
    }
    session.delete_topic("c", false).await.unwrap();
    assert_eq!(publish(&session, through("b"), vec![message("s", "2")]).await[0].queues, 1);
}

#[tokio::test]
async fn what_no_binding_took_goes_to_the_alternate_and_is_counted_where_there_is_none() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "rest", TopicConfig { internal: true, ..kept() }).await;
    topic(&session, "t", TopicConfig { alternate: Some("rest".into()), ..TopicConfig::default() }).await;
    queue(&session, "q", QueueConfig::default()).await;
    bind(&session, "t", "q", Filter::Subject(pattern("a.*"))).await;
    publish(&session, through("t"), vec![message("a.1", "taken"), message("b.1", "left")]).await;
    assert_eq!(texts(&read(&session, "rest", 0, ReadFrom::Earliest).await), ["left"]);
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["taken"]);
    let direct = try_publish(&session, through("rest"), message("", "x"), PublishOptions::default()).await;
    assert!(matches!(direct, Err(PublishError::Invalid { .. })), "an internal topic");
    let by_subject = try_publish(&session, PublishTo::Subject, message("rest.x", "x"), PublishOptions::default()).await;
    assert!(matches!(by_subject, Err(PublishError::Invalid { .. })), "an internal topic, by subject");
    topic(&session, "lone", TopicConfig::default()).await;
    let published = publish(&session, through("lone"), vec![message("", "x")]).await;
    assert!(!published[0].routed());
    let info = session.topic("lone").unwrap();
    assert_eq!((info.published, info.unrouted), (1, 1));
}

#[tokio::test]
async fn routers_of_each_kind_take_the_filters_that_fit_and_keep_doing_so_when_changed() {
    let bench = Bench::new();
    let session = bench.session();
    for name in ["q1", "q2"] {
        queue(&session, name, QueueConfig::default()).await;
    }
    let headers = Filter::Headers { matching: HeaderMatch::All, wanted: vec![("h".into(), None)] };
    let filters = [Filter::All, Filter::SubjectExact("s".into()), Filter::Subject(pattern("s.*")), headers];
    for (kind, fits) in [
        (RouterConfig::Any, [true, true, true, true]),
        (RouterConfig::Exact, [false, true, false, false]),
        (RouterConfig::Fanout, [true, false, false, false]),
        (RouterConfig::Subject, [true, true, true, false]),
        (RouterConfig::Headers, [true, false, false, true]),
        (RouterConfig::ConsistentHash { header: None, property: None }, [true, false, false, false]),
    ] {
        let config = TopicConfig { router: kind.clone(), ..TopicConfig::default() };
        topic(&session, "t", config).await;
        for (filter, fits) in filters.iter().zip(fits) {
            let bound = session.bind(binding("t", BindingTarget::Queue("q1".into()), filter.clone())).await;
            assert_eq!(bound.is_ok(), fits, "{kind:?} {filter:?}");
        }
        session.delete_topic("t", false).await.unwrap();
    }
    topic(&session, "t", TopicConfig::default()).await;
    bind(&session, "t", "q1", Filter::Subject(pattern("s.*"))).await;
    let exact = TopicConfig { router: RouterConfig::Exact, ..TopicConfig::default() };
    assert!(matches!(session.declare_topic("t", exact, true).await, Err(DeclareError::Conflict { .. })));
    let subject = TopicConfig { router: RouterConfig::Subject, ..TopicConfig::default() };
    session.declare_topic("t", subject, true).await.unwrap();
    publish(&session, through("t"), vec![message("s.1", "in"), message("x", "out")]).await;
    assert_eq!(bodies(&receive(&session, "q1", 10).await), ["in"]);
    let heavy = broker::definitions::BindingConfig {
        weight: Some(100_000),
        ..binding("t", BindingTarget::Queue("q2".into()), Filter::All)
    };
    assert!(matches!(session.bind(heavy).await, Err(DeclareError::Invalid { .. })));
}

#[tokio::test]
async fn consistent_hash_gives_each_key_to_one_queue_and_all_queues_a_share() {
    let bench = Bench::new();
    let session = bench.session();
    let config =
        TopicConfig { router: RouterConfig::ConsistentHash { header: None, property: None }, ..TopicConfig::default() };
    topic(&session, "t", config).await;
    for name in ["q0", "q1", "q2"] {
        queue(&session, name, QueueConfig::default()).await;
        bind(&session, "t", name, Filter::All).await;
    }
    let messages: Vec<_> = (0..600).map(|n| keyed(&format!("k{}", n % 150), "x")).collect();
    assert!(publish(&session, through("t"), messages).await.iter().all(|published| published.queues == 1));
    let mut seen = std::collections::HashMap::new();
    for name in ["q0", "q1", "q2"] {
        let taken = receive(&session, name, 1_000).await;
        assert!(taken.len() > 60, "{name} got {}", taken.len());
        for delivered in taken {
            let owner = *seen.entry(delivered.message.key.clone()).or_insert(name);
            assert_eq!(owner, name);
        }
    }
    assert_eq!(seen.len(), 150);
}

#[tokio::test]
async fn subjects_belong_to_the_topic_that_captures_them_and_a_call_may_mix_them_in_order() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "orders", kept()).await;
    topic(&session, "orders.eu", kept()).await;
    let captures = |list: &[&str]| Some(list.iter().map(|text| (*text).to_owned()).collect());
    topic(&session, "metrics", TopicConfig { captures: captures(&["m.>", "orders.*.metric"]), ..kept() }).await;
    topic(&session, "none", TopicConfig { captures: Some(Vec::new()), ..kept() }).await;
    let overlap = TopicConfig { captures: captures(&["m.cpu"]), ..kept() };
    assert!(matches!(session.declare_topic("other", overlap, false).await, Err(DeclareError::Invalid { .. })));
    let subjects = [
        "orders",
        "orders.us",
        "m.cpu",
        "orders.eu",
        "orders.eu.1",
        "nobody",
        "orders.eu.metric",
        "orders.us.2",
        "none",
    ];
    let messages = subjects.iter().map(|subject| message(subject, subject)).collect();
    let published = publish(&session, PublishTo::Subject, messages).await;
    assert_eq!(published.len(), subjects.len());
    for (name, want) in [
        ("orders", vec!["orders", "orders.us", "orders.us.2"]),
        ("orders.eu", vec!["orders.eu", "orders.eu.1"]),
        ("metrics", vec!["m.cpu", "orders.eu.metric"]),
        ("none", vec![]),
    ] {
        let records = read(&session, name, 0, ReadFrom::Earliest).await;
        assert_eq!(texts(&records), want, "{name}");
        for record in records {
            let place = subjects.iter().position(|subject| *subject == crate::support::body(&record.message)).unwrap();
            assert_eq!(published[place].position, Some(record.position));
        }
    }
    assert!(!published[5].routed() && !published[8].routed());
}

#[tokio::test]
async fn reading_goes_from_earliest_latest_an_offset_or_a_time_and_is_bounded() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    let mut times = Vec::new();
    for n in 0..10 {
        times.push(broker_time(&bench));
        publish(&session, through("t"), vec![message("", &format!("{n}-{}", "x".repeat(1_000)))]).await;
        bench.clock.advance(Duration::from_secs(10));
    }
    let batch = (10..20).map(|n| message("", &format!("{n}-{}", "x".repeat(1_000)))).collect();
    publish(&session, through("t"), batch).await;
    assert_eq!(read(&session, "t", 0, ReadFrom::Earliest).await.len(), 20);
    assert_eq!(read(&session, "t", 0, ReadFrom::Latest).await.len(), 0);
    assert_eq!(offsets(&read(&session, "t", 0, at(17)).await), [17, 18, 19]);
    assert_eq!(read(&session, "t", 0, ReadFrom::Time(times[7])).await[0].position.offset, Offset(7));
    let between = Timestamp(times[7].0 + 1);
    assert_eq!(read(&session, "t", 0, ReadFrom::Time(between)).await[0].position.offset, Offset(8));
    let future = Timestamp(times[9].0 + 1_000_000);
    assert!(read(&session, "t", 0, ReadFrom::Time(future)).await.is_empty());
    let beyond = session.read("t", reading(0, at(21))).await;
    assert!(matches!(beyond, Err(ReplayError::OutOfRange { end: Offset(20), .. })));
    assert!(matches!(session.read("t", reading(1, at(0))).await, Err(ReplayError::NotFound { .. })));
    assert!(matches!(session.read("u", reading(0, at(0))).await, Err(ReplayError::NotFound { .. })));
    // Pages, by number and by bytes, within batches too.
    for limit in [Read { max: 3, ..reading(0, at(0)) }, Read { max_bytes: 3_500, ..reading(0, at(0)) }] {
        let (mut next, mut all) = (Offset(0), Vec::new());
        loop {
            let answer = session.read("t", Read { from: ReadFrom::Offset(next), ..limit }).await.unwrap();
            assert!(answer.records.len() <= 3, "{}", answer.records.len());
            if answer.records.is_empty() {
                assert_eq!((answer.next, answer.end), (Offset(20), Offset(20)));
                break;
            }
            next = answer.next;
            all.extend(offsets(&answer.records));
        }
        assert_eq!(all, (0..20).collect::<Vec<_>>());
    }
    let one = session.read("t", Read { max_bytes: 1, ..reading(0, at(12)) }).await.unwrap();
    assert_eq!(offsets(&one.records), [12], "one is given whatever it weighs");
}

fn broker_time(bench: &Bench) -> Timestamp {
    types::Clock::now(&*bench.clock).wall
}

#[tokio::test]
async fn a_read_waits_for_records_and_for_no_longer_than_asked() {
    let bench = Bench::new();
    let session = session_of(&bench);
    topic(&session, "t", kept()).await;
    let waiting = Read { wait: Duration::from_millis(20), ..reading(0, ReadFrom::Latest) };
    assert!(session.read("t", waiting).await.unwrap().records.is_empty());
    let reader = {
        let session = session.clone();
        let waiting = Read { wait: Duration::from_secs(60), ..reading(0, ReadFrom::Latest) };
        tokio::spawn(async move { session.read("t", waiting).await })
    };
    tokio::task::yield_now().await;
    publish(&session, through("t"), vec![message("", "now")]).await;
    assert_eq!(texts(&reader.await.unwrap().unwrap().records), ["now"]);
    let reader = {
        let session = session.clone();
        let waiting = Read { wait: Duration::from_secs(60), ..reading(0, ReadFrom::Latest) };
        tokio::spawn(async move { session.read("t", waiting).await })
    };
    tokio::task::yield_now().await;
    session.delete_topic("t", false).await.unwrap();
    assert!(matches!(reader.await.unwrap(), Err(ReplayError::NotFound { .. })));
}

#[tokio::test]
async fn retention_takes_the_oldest_by_age_and_size() {
    let bench = Bench::new();
    let session = bench.session();
    let retention = |retention| TopicConfig { retention: Some(retention), ..TopicConfig::default() };
    let aged = RetentionConfig { max_age_ms: Some(60_000), ..RetentionConfig::default() };
    topic(&session, "aged", retention(aged)).await;
    let sized = RetentionConfig { max_bytes: Some(10_000), ..RetentionConfig::default() };
    topic(&session, "sized", retention(sized)).await;
    for n in 0..20 {
        let body = format!("{n}{}", " ".repeat(1_000));
        publish(&session, through("aged"), vec![message("", &body)]).await;
        publish(&session, through("sized"), vec![message("", &body)]).await;
        bench.pass(Duration::from_secs(10)).await;
    }
    let aged = read(&session, "aged", 0, ReadFrom::Earliest).await;
    assert!((5..=7).contains(&aged.len()), "{}", aged.len());
    let sized = read(&session, "sized", 0, ReadFrom::Earliest).await;
    assert!((7..=9).contains(&sized.len()), "{}", sized.len());
    let info = session.topic("sized").unwrap().partitions[0];
    assert_eq!((info.end, info.records), (Offset(20), sized.len() as u64));
    assert_eq!(info.start, sized[0].position.offset);
    assert!(info.bytes < 11_000);
}

#[tokio::test]
async fn keys_are_read_by_series_and_a_message_without_one_by_its_subject() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "plain", kept()).await;
    assert!(matches!(session.read_key("plain", b"k", Offset(0), 10), Err(ReplayError::NoKeyIndex(_))));
    topic(&session, "t", TopicConfig { partitions: Some(5), ..indexed() }).await;
    for n in 0..50 {
        publish(&session, through("t"), vec![keyed(&format!("k{}", n % 5), &n.to_string())]).await;
        publish(&session, through("t"), vec![message(&format!("s.{}", n % 3), &n.to_string())]).await;
    }
    let series = session.read_key("t", b"k2", Offset(0), 100).unwrap();
    assert_eq!(texts(&series), (0..10).map(|n| (n * 5 + 2).to_string()).collect::<Vec<_>>());
    assert_eq!(session.read_key("t", b"k2", Offset(0), 3).unwrap().len(), 3);
    assert_eq!(texts(session.last_value("t", b"k3").unwrap().as_slice()), ["48"]);
    let series = session.read_key("t", b"s.1", Offset(0), 100).unwrap();
    assert_eq!(texts(&series), (0..17).map(|n| (n * 3 + 1).to_string()).collect::<Vec<_>>());
    assert!(series.iter().all(|record| record.message.key.is_none()), "the index is not the key");
    let partitions: std::collections::BTreeSet<_> = series.iter().map(|record| record.position.partition).collect();
    assert_eq!(partitions.len(), 1, "a series has one partition");
    assert_eq!(session.last_value("t", b"s.4").unwrap(), None);
    // What comes by another topic is indexed as well.
    topic(&session, "front", TopicConfig::default()).await;
    session.bind(to_topic("front", "t", Filter::All)).await.unwrap();
    publish(&session, through("front"), vec![message("s.9", "by another way")]).await;
    assert_eq!(texts(session.last_value("t", b"s.9").unwrap().as_slice()), ["by another way"]);
}

fn expecting(of: ExpectOf, version: Option<u64>) -> PublishOptions {
    PublishOptions { expect: Some(Expect { of, version: version.map(Offset) }), ..PublishOptions::default() }
}

#[tokio::test]
async fn a_conditional_publish_is_stored_only_at_the_expected_version() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", indexed()).await;
    let by_key = |version| try_publish(&session, through("t"), keyed("k", "v"), expecting(ExpectOf::Key, version));
    assert_eq!(by_key(None).await.unwrap().position.unwrap().offset, Offset(0));
    assert!(matches!(by_key(None).await, Err(PublishError::WrongVersion { actual: Some(Offset(0)) })));
    publish(&session, through("t"), vec![keyed("other", "x")]).await;
    assert_eq!(by_key(Some(0)).await.unwrap().position.unwrap().offset, Offset(2), "other keys do not count");
    assert!(matches!(by_key(Some(1)).await, Err(PublishError::WrongVersion { actual: Some(Offset(2)) })));
    let by_subject =
        |version| try_publish(&session, through("t"), message("s.1", "v"), expecting(ExpectOf::Subject, version));
    assert!(matches!(by_subject(Some(0)).await, Err(PublishError::WrongVersion { actual: None })));
    assert_eq!(by_subject(None).await.unwrap().position.unwrap().offset, Offset(3));
    assert_eq!(by_subject(Some(3)).await.unwrap().position.unwrap().offset, Offset(4));
    let wrong = [
        (through("t"), vec![keyed("k", "a"), keyed("l", "b")], ExpectOf::Key),
        (through("t"), vec![message("s.1", "a"), message("s.2", "b")], ExpectOf::Subject),
        (through("t"), vec![message("s", "a")], ExpectOf::Key),
        (through("t"), vec![keyed("k", "a")], ExpectOf::Subject),
        (through("t"), vec![message("", "a")], ExpectOf::Subject),
        (PublishTo::Queue("q".into()), vec![keyed("k", "a")], ExpectOf::Key),
        (through("plain"), vec![keyed("k", "a")], ExpectOf::Key),
    ];
    topic(&session, "plain", kept()).await;
    queue(&session, "q", QueueConfig::default()).await;
    for (to, messages, of) in wrong {
        let result = session.publish(&to, messages.clone(), expecting(of, None)).await;
        assert!(matches!(result, Err(PublishError::Invalid { .. })), "{messages:?}: {result:?}");
    }
    assert_eq!(session.topic("t").unwrap().published, 5, "refused ones are not counted");
}

#[tokio::test]
async fn a_conditional_publish_of_several_messages_stores_all_or_none() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", TopicConfig { partitions: Some(3), ..indexed() }).await;
    let three = |first: u32| (first..first + 3).map(|n| keyed("k", &n.to_string())).collect::<Vec<_>>();
    let publish = |messages, version| {
        let session = session.clone();
        async move { session.publish(&through("t"), messages, expecting(ExpectOf::Key, version)).await }
    };
    let stored = publish(three(0), None).await.unwrap();
    assert_eq!(offsets_of(&stored), [0, 1, 2]);
    for version in [None, Some(0), Some(1), Some(3)] {
        let refused = publish(three(9), version).await;
        assert!(matches!(refused, Err(PublishError::WrongVersion { actual: Some(Offset(2)) })), "{refused:?}");
    }
    assert_eq!(offsets_of(&publish(three(3), Some(2)).await.unwrap()), [3, 4, 5]);
    assert_eq!(texts(&session.read_key("t", b"k", Offset(0), 100).unwrap()), ["0", "1", "2", "3", "4", "5"]);
    let by_subject = expecting(ExpectOf::Subject, None);
    let two = vec![message("s.1", "a"), message("s.1", "b")];
    assert_eq!(session.publish(&through("t"), two, by_subject).await.unwrap().len(), 2);
    assert_eq!(texts(&session.read_key("t", b"s.1", Offset(0), 100).unwrap()), ["a", "b"]);
}

#[tokio::test]
async fn a_key_is_read_in_pages() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", indexed()).await;
    for n in 0..10 {
        publish(&session, through("t"), vec![keyed("k", &n.to_string()), keyed("other", "x")]).await;
    }
    let (mut from, mut found) = (Offset(0), Vec::new());
    loop {
        let page = session.read_key("t", b"k", from, 3).unwrap();
        let Some(last) = page.last() else { break };
        from = last.position.offset.next();
        found.extend(page);
    }
    assert_eq!(texts(&found), (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(
        texts(&session.read_key("t", b"k", Offset(17), 3).unwrap()),
        ["9"],
        "an offset of another key begins at the next"
    );
    assert!(session.read_key("t", b"k", Offset(99), 3).unwrap().is_empty());
}

fn offsets_of(published: &[broker::views::Published]) -> Vec<u64> {
    published.iter().map(|one| one.position.unwrap().offset.0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_conditional_publishes_of_one_version_exactly_one_wins() {
    let bench = Bench::new();
    let session = session_of(&bench);
    topic(&session, "t", TopicConfig { partitions: Some(2), ..indexed() }).await;
    let mut version = None;
    for round in 0..10 {
        let mut tries = tokio::task::JoinSet::new();
        for n in 0..100 {
            let (session, options) = (session.clone(), expecting(ExpectOf::Key, version));
            tries.spawn(async move {
                // Others write other keys at the same time: they do not count.
                let other = keyed(&format!("other-{n}"), "x");
                let others = try_publish(&session, through("t"), other, PublishOptions::default()).await;
                assert!(others.is_ok());
                try_publish(&session, through("t"), keyed("k", &format!("{round}-{n}")), options).await
            });
        }
        let results = tries.join_all().await;
        let won: Vec<_> = results.iter().flatten().collect();
        assert_eq!(won.len(), 1, "round {round}");
        let lost = |result: &Result<_, _>| matches!(result, Err(PublishError::WrongVersion { .. }));
        assert_eq!(results.iter().filter(|result| lost(result)).count(), 99);
        version = Some(won[0].position.unwrap().offset.0);
    }
    assert_eq!(session.read_key("t", b"k", Offset(0), 100).unwrap().len(), 10);
}

#[tokio::test]
async fn a_compacted_topic_keeps_the_last_of_each_key_and_forgets_removals_in_time() {
    let bench = Bench::new();
    let session = bench.session();
    let retention = RetentionConfig { compact: true, tombstone_ms: Some(60_000), ..RetentionConfig::default() };
    topic(&session, "t", TopicConfig { retention: Some(retention), ..indexed() }).await;
    for n in 0..30 {
        publish(&session, through("t"), vec![keyed(&format!("k{}", n % 3), &n.to_string())]).await;
    }
    publish(&session, through("t"), vec![types::Message { body: None, ..keyed("k1", "") }]).await;
    bench.pass(Duration::from_secs(1)).await;
    let records = read(&session, "t", 0, ReadFrom::Earliest).await;
    assert_eq!(offsets(&records), [27, 29, 30], "offsets stay");
    assert_eq!(records[2].message.body, None);
    bench.pass(Duration::from_secs(61)).await;
    assert_eq!(offsets(&read(&session, "t", 0, ReadFrom::Earliest).await), [27, 29]);
    assert_eq!(session.last_value("t", b"k1").unwrap(), None);
    assert_eq!(texts(session.last_value("t", b"k2").unwrap().as_slice()), ["29"]);
    let version = try_publish(&session, through("t"), keyed("k1", "again"), expecting(ExpectOf::Key, None)).await;
    assert_eq!(version.unwrap().position.unwrap().offset, Offset(31));
}

#[tokio::test]
async fn a_message_comes_back_from_a_topic_as_it_was_published() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    let text = |text: &str| Some(Text::from(text));
    let whole = types::Message {
        id: Some(types::MessageId::Text("id-1".into())),
        headers: vec![("a".into(), Value::Text("1".into())), ("a".into(), Value::Bool(true))],
        content_type: text("text/plain"),
        timestamp: Some(Timestamp(5)),
        correlation_id: text("c"),
        reply_to: text("r"),
        not_before: Some(Timestamp(7)),
        expires_at: Some(Timestamp(9)),
        priority: Some(3),
        dedup_id: text("d"),
        durable: false,
        ..keyed("k", "body")
    };
    publish(&session, through("t"), vec![whole.clone()]).await;
    let whole = types::Message { topic: text("t"), ..whole };
    assert_eq!(*read(&session, "t", 0, ReadFrom::Earliest).await[0].message, whole);
}
