//! Groups: members, places, seeking, lag, restart.

use std::collections::BTreeSet;
use std::time::Duration;

use broker::definitions::{GroupConfig, GroupStart, TopicConfig};
use broker::views::{Declared, ReadFrom};
use broker::{DeclareError, ReplayError, Session, StorageError};
use log::Refusal;
use types::Offset;

use crate::harness::{Bench, publish, topic};
use crate::support::{at, kept, keyed, message, partitioned, session_of, texts, through};

fn on(topic: &str) -> GroupConfig {
    GroupConfig { topic: topic.to_owned(), start: GroupStart::Earliest, session_ms: Some(10_000) }
}

async fn group(session: &Session, name: &str, config: GroupConfig) {
    session.declare_group(name, config, false).await.expect("declares");
}

async fn fetch(session: &Session, member: &str, generation: u64) -> Vec<String> {
    texts(&session.fetch_group("g", member, generation, 100, Duration::ZERO).await.expect("fetches"))
}

fn committed(session: &Session) -> Vec<Option<u64>> {
    let info = session.group("g").expect("there");
    info.partitions.iter().map(|partition| partition.committed.map(|offset| offset.0)).collect()
}

fn lag(session: &Session) -> Vec<u64> {
    session.group("g").expect("there").partitions.iter().map(|partition| partition.lag).collect()
}

#[tokio::test]
async fn a_group_is_declared_on_a_log_and_keeps_its_topic_from_being_deleted() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    topic(&session, "plain", TopicConfig::default()).await;
    assert!(matches!(session.declare_group("g", on("x"), false).await, Err(DeclareError::NotFound { .. })));
    assert!(matches!(session.declare_group("g", on("plain"), false).await, Err(DeclareError::Invalid { .. })));
    assert_eq!(session.declare_group("g", on("t"), false).await.unwrap().0, Declared::Created);
    assert_eq!(session.declare_group("g", on("t"), false).await.unwrap().0, Declared::Unchanged);
    let latest = GroupConfig { start: GroupStart::Latest, ..on("t") };
    assert!(matches!(session.declare_group("g", latest.clone(), false).await, Err(DeclareError::Conflict { .. })));
    assert_eq!(session.declare_group("g", latest, true).await.unwrap().0, Declared::Updated);
    assert!(matches!(session.declare_group("g", on("plain"), true).await, Err(DeclareError::Conflict { .. })));
    assert!(matches!(session.delete_topic("t", false).await, Err(DeclareError::InUse { .. })));
    session.delete_group("g").await.unwrap();
    assert!(matches!(session.group("g"), Err(ReplayError::NotFound { .. })));
    session.delete_topic("t", false).await.unwrap();
}

#[tokio::test]
async fn members_share_the_partitions_and_read_on_from_what_is_committed() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", partitioned(4)).await;
    group(&session, "g", on("t")).await;
    let messages = (0..40).map(|n| keyed(&format!("k{n}"), &n.to_string())).collect();
    publish(&session, through("t"), messages).await;
    let (generation, all) = session.join_group("g", "a").unwrap();
    assert_eq!(all, [0, 1, 2, 3]);
    assert_eq!(fetch(&session, "a", generation).await.len(), 40);
    assert_eq!(fetch(&session, "a", generation).await.len(), 40, "fetching does not move the group");
    let (newer, of_b) = session.join_group("g", "b").unwrap();
    assert!(newer > generation && of_b.len() == 2);
    let stale = session.fetch_group("g", "a", generation, 10, Duration::ZERO).await;
    assert!(matches!(stale, Err(ReplayError::Membership(_))));
    let stale = session.commit_group("g", Some(("a", generation)), &[(0, Offset(1))]).await;
    assert!(matches!(stale, Err(ReplayError::Membership(_))));
    let (same, of_a) = session.join_group("g", "a").unwrap();
    assert_eq!(same, newer);
    let both: BTreeSet<u32> = of_a.iter().chain(&of_b).copied().collect();
    assert_eq!(both.len(), 4);
    let foreign = session.commit_group("g", Some(("a", newer)), &[(of_b[0], Offset(1))]).await;
    assert!(matches!(foreign, Err(ReplayError::Membership(_))), "another member has it");
    let standalone = session.commit_group("g", None, &[(0, Offset(1))]).await;
    assert!(matches!(standalone, Err(ReplayError::Membership(_))), "there are members");
    let ends: Vec<u64> = session.group("g").unwrap().partitions.iter().map(|partition| partition.end.0).collect();
    let half: Vec<_> = of_a.iter().map(|partition| (*partition, Offset(ends[*partition as usize]))).collect();
    session.commit_group("g", Some(("a", newer)), &half).await.unwrap();
    assert!(fetch(&session, "a", newer).await.is_empty());
    let rest: u64 = of_b.iter().map(|partition| ends[*partition as usize]).sum();
    assert_eq!(fetch(&session, "b", newer).await.len() as u64, rest);
    assert_eq!(lag(&session).iter().sum::<u64>(), rest);
    session.leave_group("g", "a").unwrap();
    assert!(matches!(session.leave_group("g", "a"), Err(ReplayError::Membership(_))));
    let (last, of_b) = session.join_group("g", "b").unwrap();
    assert_eq!((last > newer, of_b.len()), (true, 4));
    assert_eq!(fetch(&session, "b", last).await.len() as u64, rest);
}

#[tokio::test]
async fn a_member_that_is_silent_for_its_session_loses_its_partitions() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", partitioned(2)).await;
    group(&session, "g", on("t")).await;
    session.join_group("g", "a").unwrap();
    let (generation, _) = session.join_group("g", "b").unwrap();
    for _ in 0..5 {
        bench.pass(Duration::from_secs(5)).await;
        // A fetch is a sign of life.
        let alive = session.fetch_group("g", "a", generation, 1, Duration::ZERO).await;
        let members = session.group("g").unwrap().members.len();
        assert_eq!(alive.is_ok(), members == 2, "{alive:?}");
        session.join_group("g", "a").unwrap();
    }
    let info = session.group("g").unwrap();
    assert_eq!(info.members.len(), 1);
    assert_eq!((info.members[0].member.as_str(), info.members[0].partitions.as_slice()), ("a", &[0, 1][..]));
    bench.pass(Duration::from_secs(11)).await;
    assert!(session.group("g").unwrap().members.is_empty());
    session.commit_group("g", None, &[(0, Offset(0))]).await.unwrap();
}

#[tokio::test]
async fn a_group_seeks_by_offset_and_time_and_members_begin_there() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", partitioned(2)).await;
    group(&session, "g", GroupConfig { start: GroupStart::Latest, ..on("t") }).await;
    let mut middle = types::Timestamp(0);
    for n in 0..20 {
        if n == 10 {
            middle = types::Clock::now(&*bench.clock).wall;
        }
        publish(&session, through("t"), vec![keyed(&format!("k{n}"), &n.to_string())]).await;
        bench.clock.advance(Duration::from_secs(1));
    }
    let (generation, _) = session.join_group("g", "a").unwrap();
    assert!(fetch(&session, "a", generation).await.is_empty(), "it begins at the end");
    session.seek_group("g", None, ReadFrom::Time(middle)).await.unwrap();
    let stale = session.fetch_group("g", "a", generation, 10, Duration::ZERO).await;
    assert!(matches!(stale, Err(ReplayError::Membership(_))), "members notice that the group was moved");
    let (generation, _) = session.join_group("g", "a").unwrap();
    let mut got: Vec<u32> = fetch(&session, "a", generation).await.iter().map(|text| text.parse().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, (10..20).collect::<Vec<_>>());
    let places = session.seek_group("g", Some(1), at(2)).await.unwrap();
    assert_eq!(places[1].committed, Some(Offset(2)));
    session.seek_group("g", None, ReadFrom::Earliest).await.unwrap();
    assert_eq!(committed(&session), [Some(0), Some(0)]);
    assert_eq!(lag(&session).iter().sum::<u64>(), 20);
    assert!(matches!(session.seek_group("g", Some(0), at(99)).await, Err(ReplayError::OutOfRange { .. })));
    assert!(matches!(session.seek_group("g", Some(7), at(0)).await, Err(ReplayError::NotFound { .. })));
    session.seek_group("g", None, ReadFrom::Latest).await.unwrap();
    assert_eq!(lag(&session), [0, 0]);
}

#[tokio::test]
async fn committed_offsets_survive_restarts_and_thousands_of_commits_are_snapshotted() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", partitioned(2)).await;
    group(&session, "g", on("t")).await;
    for n in 0..5_000 {
        session.commit_group("g", None, &[(0, Offset(n))]).await.unwrap();
    }
    session.commit_group("g", None, &[(1, Offset(7))]).await.unwrap();
    let id = session.group("g").unwrap().id;
    drop(session);
    let records = log::Log::state(&*bench.log, types::LogId(id.0 * 2_048)).unwrap().records;
    assert!(records < 1_500, "{records} records are left of 5,001");
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(committed(&session), [Some(4_999), Some(7)]);
    session.commit_group("g", None, &[(0, Offset(5_000))]).await.unwrap();
    session.seek_group("g", Some(1), ReadFrom::Earliest).await.unwrap();
    drop(session);
    let bench = bench.restart();
    assert_eq!(committed(&bench.session()), [Some(5_000), Some(0)]);
}

#[tokio::test]
async fn a_commit_that_the_log_refuses_moves_nothing() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    group(&session, "g", on("t")).await;
    session.commit_group("g", None, &[(0, Offset(1))]).await.unwrap();
    bench.log.fail_next(Refusal::DiskFull { free_bytes: 1, reserve_bytes: 2 });
    let refused = session.commit_group("g", None, &[(0, Offset(2))]).await;
    assert!(matches!(refused, Err(ReplayError::Storage(StorageError::Full(_)))));
    assert_eq!(committed(&session), [Some(1)]);
    let unknown = session.commit_group("g", None, &[(3, Offset(2))]).await;
    assert!(matches!(unknown, Err(ReplayError::Membership(_))), "no such partition");
}

#[tokio::test]
async fn a_commit_that_nobody_waits_for_holds_in_memory_as_in_the_log() {
    let log = std::sync::Arc::new(log::MemoryLog::manual());
    let clock = std::sync::Arc::new(testkit::ManualClock::new());
    let opened = {
        let (log, clock) = (log.clone(), clock.clone());
        std::thread::spawn(move || broker::Broker::open(log, clock, broker::BrokerOptions::default()))
    };
    while !opened.is_finished() {
        log.run_round();
        std::thread::yield_now();
    }
    let broker = opened.join().unwrap().unwrap();
    let principal = broker.authenticate(&broker::Credentials::Anonymous).unwrap();
    let session = broker.session(&principal, "default").unwrap();
    // Declarations, too: each is given up by its caller before the log has taken it.
    declare_and_hang_up(&log, session.declare_topic("t", kept(), false)).await;
    declare_and_hang_up(&log, session.declare_group("g", on("t"), false)).await;
    declare_and_hang_up(&log, session.commit_group("g", None, &[(0, Offset(3))])).await;
    assert_eq!(committed(&session), [Some(3)]);
    assert_eq!(session.topics().unwrap().len(), 1);
}

/// Drops a call once it has handed its commit to the log, and lets the log go on.
async fn declare_and_hang_up<T>(log: &log::MemoryLog, call: impl Future<Output = T>) {
    {
        tokio::pin!(call);
        while log.waiting() == 0 {
            let polled = tokio::time::timeout(Duration::ZERO, call.as_mut()).await;
            assert!(polled.is_err(), "the log has not taken it yet");
            tokio::task::yield_now().await;
        }
    }
    for _ in 0..10 {
        log.run_round();
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn added_partitions_reach_members_and_those_who_commit_alone() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", partitioned(1)).await;
    group(&session, "g", on("t")).await;
    let (generation, _) = session.join_group("g", "a").unwrap();
    session.declare_topic("t", partitioned(3), true).await.unwrap();
    let stale = session.fetch_group("g", "a", generation, 10, Duration::ZERO).await;
    assert!(matches!(stale, Err(ReplayError::Membership(_))));
    assert_eq!(session.join_group("g", "a").unwrap().1, [0, 1, 2]);
    session.leave_group("g", "a").unwrap();
    session.declare_topic("t", partitioned(4), true).await.unwrap();
    session.commit_group("g", None, &[(3, Offset(0))]).await.unwrap();
    assert_eq!(committed(&session), [None, None, None, Some(0)]);
}

#[tokio::test]
async fn a_fetch_waits_for_records_and_no_partition_starves_another() {
    let bench = Bench::new();
    let session = session_of(&bench);
    topic(&session, "t", partitioned(2)).await;
    group(&session, "g", on("t")).await;
    let (generation, _) = session.join_group("g", "a").unwrap();
    let waiting = {
        let session = session.clone();
        let wait = Duration::from_secs(60);
        tokio::spawn(async move { session.fetch_group("g", "a", generation, 10, wait).await })
    };
    tokio::task::yield_now().await;
    publish(&session, through("t"), vec![message("", "now")]).await;
    assert_eq!(texts(&waiting.await.unwrap().unwrap()), ["now"]);
    let to = |partition| broker::PublishOptions { partition: Some(partition), ..Default::default() };
    for partition in [0, 1] {
        let messages = vec![message("", "x"); 50];
        session.publish(&through("t"), messages, to(partition)).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let records = session.fetch_group("g", "a", generation, 10, Duration::ZERO).await.unwrap();
        seen.extend(records.iter().map(|record| record.position.partition));
    }
    assert_eq!(seen.len(), 2);
    let none = session.fetch_group("g", "a", generation, 10, Duration::from_millis(20)).await;
    assert!(!none.unwrap().is_empty());
}

#[tokio::test]
async fn retention_moves_a_group_on_and_its_lag_counts_what_is_left() {
    let bench = Bench::new();
    let session = bench.session();
    let retention = broker::definitions::RetentionConfig { max_records: Some(5), ..Default::default() };
    topic(&session, "t", TopicConfig { retention: Some(retention), ..TopicConfig::default() }).await;
    group(&session, "g", on("t")).await;
    session.commit_group("g", None, &[(0, Offset(0))]).await.unwrap();
    for n in 0..20 {
        publish(&session, through("t"), vec![message("", &n.to_string())]).await;
    }
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(lag(&session), [5]);
    let (generation, _) = session.join_group("g", "a").unwrap();
    assert_eq!(fetch(&session, "a", generation).await, ["15", "16", "17", "18", "19"]);
}
