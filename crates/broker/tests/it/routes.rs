//! The ways of messages: further subjects, full queues that are passed over, and what is published and settled in one commit.

use std::sync::Arc;
use std::time::Duration;

use broker::definitions::{
    DeadLetterConfig, DurabilityConfig, HashProperty, OverflowConfig, QueueConfig, RetryConfig, RouterConfig,
    TopicConfig,
};
use broker::queue::{LeaveReason, Settle};
use broker::views::{Delivered, Published, ReadFrom};
use broker::{Deaths, DeclareError, PublishError, PublishOptions, PublishTo, Publishes, Session, SettleError};
use types::{Filter, Message, Timestamp};

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

const REJECT: Settle = Settle::Reject { error: None };

fn via(topic: &str, subject: Option<&str>) -> DeadLetterConfig {
    DeadLetterConfig::Topic { topic: topic.to_owned(), subject: subject.map(str::to_owned), or_drop: true }
}

fn named(subject: Option<&str>, or_drop: bool) -> DeadLetterConfig {
    DeadLetterConfig::Named { subject: subject.map(str::to_owned), or_drop }
}

fn giving_up_to(target: DeadLetterConfig) -> QueueConfig {
    QueueConfig { dead_letter: Some(target), ..QueueConfig::default() }
}

async fn reject_all(session: &Session, queue: &str) {
    for one in receive(session, queue, 100).await {
        settle(session, &one, REJECT).await.expect("rejects");
    }
}

/// Dead-lettered and dropped.
fn given_up(session: &Session, queue: &str) -> (u64, u64) {
    let counters = session.queue(queue).expect("there").counters;
    (counters.dead_lettered, counters.dropped)
}

#[tokio::test]
async fn a_dead_letter_is_dropped_where_its_topic_leads_nowhere_only_if_that_was_asked_for() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", giving_up_to(via("later", None))).await;
    many(&session, "q", &["missing"]).await;
    reject_all(&session, "q").await;
    assert_eq!((depth(&session, "q"), given_up(&session, "q")), ((0, 0, 0, 0), (0, 1)), "its topic is not there");
    topic(&session, "later", TopicConfig::default()).await;
    many(&session, "q", &["nowhere"]).await;
    reject_all(&session, "q").await;
    assert_eq!(given_up(&session, "q"), (0, 2), "nothing is bound to it");
    queue(&session, "there", QueueConfig::default()).await;
    bind(&session, "later", "there", Filter::All).await;
    many(&session, "q", &["kept"]).await;
    reject_all(&session, "q").await;
    assert_eq!(bodies(&receive(&session, "there", 10).await), ["kept"]);
    session.delete_topic("later", false).await.expect("nobody needs it to be there");
    assert!(session.queue("q.dlq").is_err(), "nothing was kept in a queue of last resort");
    // Without that wish the topic must be there, and stays.
    let wanted = DeadLetterConfig::Topic { topic: "absent".to_owned(), subject: None, or_drop: false };
    let refused = session.declare_queue("r", giving_up_to(wanted), false).await;
    assert!(matches!(refused, Err(DeclareError::NotFound { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_dead_letter_takes_all_ways_of_its_subjects_unless_its_queue_names_one() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "dead", TopicConfig::default()).await;
    for name in ["a", "b", "c"] {
        queue(&session, name, QueueConfig::default()).await;
        bind(&session, "dead", name, exact(name)).await;
    }
    queue(&session, "own", giving_up_to(via("dead", None))).await;
    queue(&session, "other", giving_up_to(via("dead", Some("c")))).await;
    publish(&session, to("own"), vec![also("a", &["b", "z"], "own")]).await;
    publish(&session, to("other"), vec![also("a", &["b"], "other")]).await;
    let bench = bench.restart();
    let session = bench.session();
    reject_all(&session, "own").await;
    reject_all(&session, "other").await;
    assert_eq!(bodies(&receive(&session, "a", 10).await), ["own"]);
    let taken = receive(&session, "b", 10).await;
    assert_eq!((bodies(&taken), topics_of(&taken)), (vec!["own".to_owned()], vec![Some("dead")]));
    let taken = receive(&session, "c", 10).await;
    assert_eq!(bodies(&taken), ["other"]);
    assert_eq!((&taken[0].message.subject[..], taken[0].message.also.len()), (&b"c"[..], 0));
}

#[tokio::test]
async fn a_dead_letter_goes_into_the_queues_that_its_subjects_name() {
    let bench = Bench::new();
    let session = bench.session();
    for name in ["a", "b", "c"] {
        queue(&session, name, QueueConfig::default()).await;
    }
    queue(&session, "own", giving_up_to(named(None, true))).await;
    queue(&session, "other", giving_up_to(named(Some("c"), true))).await;
    queue(&session, "keeps", giving_up_to(named(None, false))).await;
    topic(&session, "t", TopicConfig::default()).await;
    for name in ["own", "other", "keeps"] {
        bind(&session, "t", name, Filter::All).await;
    }
    publish(&session, through("t"), vec![also("a", &["b", "a", "nobody"], "1")]).await;
    publish(&session, through("t"), vec![message("nobody", "2")]).await;
    for name in ["own", "other", "keeps"] {
        reject_all(&session, name).await;
    }
    assert_eq!(bodies(&receive(&session, "a", 10).await), ["1", "1"], "from `own` and `keeps`");
    let taken = receive(&session, "b", 10).await;
    assert_eq!((bodies(&taken), topics_of(&taken)), (vec!["1".to_owned(), "1".to_owned()], vec![None, None]));
    assert_eq!(bodies(&receive(&session, "c", 10).await), ["1", "2"]);
    assert_eq!(given_up(&session, "own"), (1, 1));
    // The queue of last resort is made first.
    bench.pass(Duration::from_secs(1)).await;
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(bodies(&receive(&session, "keeps.dlq", 10).await), ["2"], "what names no queue is kept");
}

#[tokio::test]
async fn what_goes_round_by_itself_is_dropped_and_what_a_consumer_rejected_goes_on() {
    let bench = Bench::new();
    let session = bench.session();
    // A work queue whose rejects wait in a second one, which sends them back as they expire.
    queue(&session, "work", giving_up_to(named(Some("wait"), true))).await;
    queue(&session, "wait", QueueConfig { ttl_ms: Some(1_000), ..giving_up_to(named(Some("work"), true)) }).await;
    many(&session, "work", &["x"]).await;
    for _ in 0..3 {
        reject_all(&session, "work").await;
        bench.pass(Duration::from_secs(2)).await;
    }
    let taken = receive(&session, "work", 1).await;
    let deaths = Deaths::of(&taken[0].message).expect("a history");
    let short: Vec<_> =
        deaths.list.iter().map(|death| (&*death.mark.queue, death.mark.reason.clone(), death.count)).collect();
    assert_eq!(short, [("wait", LeaveReason::Expired, 3), ("work", LeaveReason::Rejected, 3)]);
    assert_eq!((&*deaths.first.queue, &*deaths.last.queue), ("work", "wait"));
    // Two that send their expired ones to each other, and nobody looks.
    queue(&session, "ping", QueueConfig { ttl_ms: Some(1_000), ..giving_up_to(named(Some("pong"), true)) }).await;
    queue(&session, "pong", QueueConfig { ttl_ms: Some(1_000), ..giving_up_to(named(Some("ping"), true)) }).await;
    many(&session, "ping", &["y"]).await;
    for _ in 0..4 {
        bench.pass(Duration::from_secs(2)).await;
    }
    assert_eq!((depth(&session, "ping"), depth(&session, "pong")), ((0, 0, 0, 0), (0, 0, 0, 0)));
    assert_eq!((given_up(&session, "ping"), given_up(&session, "pong")), ((1, 0), (0, 1)));
}

#[tokio::test]
async fn the_history_of_deaths_tells_where_and_under_which_subjects_it_began() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", TopicConfig::default()).await;
    topic(&session, "dead", TopicConfig::default()).await;
    queue(&session, "q", giving_up_to(via("dead", Some("late")))).await;
    let once = RetryConfig { max_attempts: Some(1), ..RetryConfig::default() };
    queue(&session, "morgue", QueueConfig { retry: Some(once), ..giving_up_to(named(Some("end"), true)) }).await;
    queue(&session, "end", QueueConfig::default()).await;
    bind(&session, "t", "q", Filter::All).await;
    bind(&session, "dead", "morgue", exact("late")).await;
    let now = testkit_now(&bench);
    let brief = Message { expires_at: Some(Timestamp(now.0 + 500)), ..also("s", &["s.2"], "x") };
    publish(&session, through("t"), vec![brief]).await;
    bench.pass(Duration::from_secs(1)).await;
    let bench = bench.restart();
    let session = bench.session();
    let taken = receive(&session, "morgue", 1).await;
    assert_eq!(taken[0].message.expires_at, None, "it does not expire again");
    settle(&session, &taken[0], nack(None)).await.expect("fails for the last time");
    let taken = receive(&session, "end", 1).await;
    let deaths = Deaths::of(&taken[0].message).expect("a history");
    let [last, first] = &deaths.list[..] else { panic!("two deaths: {deaths:?}") };
    assert_eq!((&*first.mark.queue, &first.mark.reason), ("q", &LeaveReason::Expired));
    assert_eq!((first.mark.topic.as_deref(), first.ttl_ms, first.count), (Some("t"), Some(500), 1));
    assert_eq!(first.subjects, [&b"s"[..], b"s.2"]);
    assert_eq!((&*last.mark.queue, &last.mark.reason), ("morgue", &LeaveReason::MaxAttempts));
    assert_eq!(
        (last.mark.topic.as_deref(), last.ttl_ms, &last.subjects[..]),
        (Some("dead"), None, &["late".into()][..])
    );
    assert_eq!((&deaths.first, &deaths.last), (&first.mark, &last.mark));
    // Back where it came from it is as it was.
    reject_all(&session, "end").await;
    session.redrive("end.dlq", broker::Redrive { to: Some("end".to_owned()), rate: None, max: None }).expect("begins");
    bench.pass(Duration::from_secs(1)).await;
    let back = receive(&session, "end", 1).await;
    assert!(back.is_empty() || Deaths::of(&back[0].message).is_none(), "{back:?}");
}

fn testkit_now(bench: &Bench) -> Timestamp {
    types::Clock::now(&*bench.clock).wall
}

#[tokio::test]
async fn what_a_full_queue_refuses_is_dead_lettered_if_it_says_so() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "refused", QueueConfig::default()).await;
    topic(&session, "t", TopicConfig::default()).await;
    let full = QueueConfig {
        overflow: Some(OverflowConfig::RejectDeadLetter),
        dead_letter: Some(DeadLetterConfig::Queue("refused".to_owned())),
        ..holding(2)
    };
    queue(&session, "full", full).await;
    queue(&session, "other", QueueConfig::default()).await;
    bind(&session, "t", "full", Filter::All).await;
    bind(&session, "t", "other", Filter::All).await;
    let bodies_of = |range: std::ops::Range<u32>| range.map(|n| message("s", &n.to_string())).collect::<Vec<_>>();
    // In part: in the same commit as what the others get.
    bench.log.fail_next(disk_full());
    session.publish(&through("t"), bodies_of(0..3), partial()).await.expect_err("the disk is full");
    assert_eq!((depth(&session, "other").0, depth(&session, "refused").0), (0, 0));
    let published = session.publish(&through("t"), bodies_of(0..3), partial()).await.expect("is taken");
    assert_eq!(reached(&published), [(2, 0), (2, 0), (1, 1)]);
    // As a whole.
    let whole = session.publish(&through("t"), bodies_of(3..4), PublishOptions::default()).await;
    assert!(matches!(whole, Err(PublishError::QueueFull { .. })), "{whole:?}");
    let each = session.publish_each(Publishes::to(to("full"), bodies_of(4..6)), PublishOptions::default()).await;
    assert!(each.iter().all(|end| matches!(end, Err(PublishError::QueueFull { .. }))), "{each:?}");
    let mut together = Publishes::default();
    together.push(&Arc::new(to("full")), message("s", "6"));
    session.transact(together, Vec::new(), PublishOptions::default()).await.expect_err("is full");
    assert_eq!(given_up(&session, "full"), (5, 0));
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(bodies(&receive(&session, "full", 10).await), ["0", "1"]);
    assert_eq!(bodies(&receive(&session, "other", 10).await), ["0", "1", "2"]);
    let refused = receive(&session, "refused", 10).await;
    assert_eq!(bodies(&refused), ["2", "3", "4", "5", "6"]);
    assert_eq!(topics_of(&refused), [Some("t"), Some("t"), None, None, None]);
    let deaths = Deaths::of(&refused[0].message).expect("a history");
    assert_eq!((&*deaths.last.queue, &deaths.last.reason), ("full", &LeaveReason::Overflow));
}

#[tokio::test]
async fn a_hash_of_a_property_keeps_equal_messages_together_and_spreads_the_others() {
    let bench = Bench::new();
    let session = bench.session();
    for (name, property) in
        [("m", HashProperty::MessageId), ("c", HashProperty::CorrelationId), ("t", HashProperty::Timestamp)]
    {
        let router = RouterConfig::ConsistentHash { header: None, property: Some(property) };
        topic(&session, name, TopicConfig { router, ..TopicConfig::default() }).await;
        for at in 0..4 {
            let target = format!("{name}{at}");
            queue(&session, &target, QueueConfig::default()).await;
            bind(&session, name, &target, Filter::All).await;
        }
        let with = |n: i64| Message {
            id: Some(types::MessageId::Text(n.to_string().as_str().into())),
            correlation_id: Some(n.to_string().as_str().into()),
            timestamp: Some(Timestamp(n)),
            ..message("s", &n.to_string())
        };
        let twice = (0..200).chain(0..200).map(with).collect();
        publish(&session, through(name), twice).await;
        for at in 0..4 {
            let mut got = bodies(&receive(&session, &format!("{name}{at}"), 400).await);
            assert!(got.len() > 20, "{name}{at} has its share: {}", got.len());
            got.sort();
            assert!(got.chunks(2).all(|pair| pair[0] == pair[1]), "{name}{at}: equal ones go the same way");
        }
    }
    let both = RouterConfig::ConsistentHash { header: Some("h".to_owned()), property: Some(HashProperty::Timestamp) };
    let refused = session.declare_topic("both", TopicConfig { router: both, ..TopicConfig::default() }, false).await;
    assert!(matches!(&refused, Err(DeclareError::Invalid { field, .. }) if field == "router.property"), "{refused:?}");
}

#[tokio::test]
async fn what_only_a_log_took_further_down_the_route_is_routed() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "log", kept()).await;
    topic(&session, "t", TopicConfig { alternate: Some("log".to_owned()), ..TopicConfig::default() }).await;
    topic(&session, "bound", TopicConfig::default()).await;
    session.bind(to_topic("bound", "log", exact("k"))).await.expect("binds");
    let each = |published: Vec<Published>| -> Vec<bool> { published.iter().map(Published::routed).collect() };
    let messages = || vec![message("k", "x"), message("other", "y")];
    assert_eq!(each(publish(&session, through("t"), messages()).await), [true, true], "the alternate's log has both");
    assert_eq!(each(publish(&session, through("bound"), messages()).await), [true, false]);
    assert_eq!(each(publish(&session, through("log"), messages()).await), [true, true], "its own log is one too");
    let mut both = Publishes::default();
    for to in ["bound", "log"] {
        both.push(&Arc::new(through(to)), message("k", "x"));
    }
    let ends = session.publish_each(both.clone(), partial()).await;
    assert!(ends.iter().all(|end| end.as_ref().is_ok_and(Published::routed)), "{ends:?}");
    assert_eq!(each(session.transact(both, Vec::new(), partial()).await.unwrap()), [true, true]);
}

#[tokio::test]
async fn a_transient_message_is_confirmed_at_once_unless_more_is_stated_for_where_it_goes() {
    let bench = Bench::new();
    let session = bench.session();
    let stated = || Some(DurabilityConfig::Fsync);
    queue(&session, "plain", QueueConfig::default()).await;
    queue(&session, "stated", QueueConfig { durability: stated(), ..QueueConfig::default() }).await;
    topic(&session, "log", TopicConfig { durability: stated(), ..kept() }).await;
    for (name, targets) in [("t", &["plain"][..]), ("both", &["plain", "stated"])] {
        topic(&session, name, TopicConfig::default()).await;
        for target in targets {
            bind(&session, name, target, Filter::All).await;
        }
    }
    for (to, transient) in [
        (to("plain"), log::Durability::Memory),
        (to("stated"), log::Durability::Fsync),
        (through("t"), log::Durability::Memory),
        (through("both"), log::Durability::Fsync),
        (through("log"), log::Durability::Fsync),
    ] {
        let fleeting = || Message { durable: false, ..message("", "x") };
        publish(&session, to.clone(), vec![fleeting()]).await;
        assert_eq!(bench.log.last_durability(), Some(transient), "{to:?}");
        // Two destinations, so that each is planned for itself.
        let mut each = Publishes::to(to.clone(), vec![fleeting()]);
        each.push(&Arc::new(crate::harness::to("plain")), fleeting());
        session.publish_each(each.clone(), partial()).await.into_iter().for_each(|end| drop(end.expect("is taken")));
        assert_eq!(bench.log.last_durability(), Some(transient), "{to:?} among others");
        session.transact(each, Vec::new(), partial()).await.expect("is taken");
        assert_eq!(bench.log.last_durability(), Some(transient), "{to:?} in a transaction");
        publish(&session, to.clone(), vec![fleeting(), message("", "y")]).await;
        assert_eq!(bench.log.last_durability(), Some(log::Durability::Fsync), "{to:?} with one that is not transient");
    }
}
