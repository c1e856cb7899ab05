//! Commits that are refused, or whose end is not known: nothing is lost, nothing is stuck, and the counters are right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use broker::definitions::{QueueConfig, RetryConfig};
use broker::queue::Settle;
use broker::{
    Broker, BrokerOptions, ConsumeError, Credentials, PublishError, PublishOptions, Receive, SettleError, StorageError,
};
use log::{EmbeddedLog, EmbeddedOptions, MemoryLog};
use testkit::{FaultDisk, ManualClock};
use types::{Message, Offset};

use crate::harness::{
    Bench, bodies, consumer, credit, depth, disk_full, many, nack, publish, queue, receive, settle, to,
};

fn retrying() -> QueueConfig {
    let retry = RetryConfig { max_attempts: Some(2), initial_ms: Some(0), jitter: Some(false), ..Default::default() };
    QueueConfig { retry: Some(retry), max_messages: Some(3), dedup_window_ms: Some(60_000), ..QueueConfig::default() }
}

#[tokio::test]
async fn a_refused_publish_leaves_no_trace() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", retrying()).await;
    let message = Message { dedup_id: Some("id".into()), ..Message::new("", "a") };
    for _ in 0..5 {
        bench.log.fail_next(disk_full());
        let refused = session.publish(&to("q"), vec![message.clone()], PublishOptions::default()).await;
        assert!(matches!(refused, Err(PublishError::Storage(StorageError::Full(_)))));
        assert_eq!(depth(&session, "q"), (0, 0, 0, 0));
    }
    many(&session, "q", &["x", "y"]).await;
    assert!(!publish(&session, to("q"), vec![message]).await[0].duplicate, "its id and its room are free");
    assert_eq!(session.queue("q").expect("there").counters.enqueued, 3);
}

#[tokio::test]
async fn a_refused_ack_or_reject_brings_the_message_back() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", retrying()).await;
    many(&session, "q", &["a", "b"]).await;
    let bytes = session.queue("q").expect("there").depth.waiting_bytes;
    for how in [Settle::Ack, Settle::Reject { error: None }] {
        let taken = receive(&session, "q", 1).await;
        bench.log.fail_next(disk_full());
        let refused = settle(&session, &taken[0], how).await;
        assert!(matches!(refused, Err(SettleError::Storage(StorageError::Full(_)))), "{refused:?}");
        let info = session.queue("q").expect("there");
        assert_eq!((depth(&session, "q"), info.depth.waiting_bytes), ((2, 0, 0, 0), bytes));
        assert_eq!((info.counters.dead_lettered, depth(&session, "q.dlq").0), (0, 0));
    }
    // Two rejects together, of which one commit is refused: each answer is its own.
    let taken = receive(&session, "q", 2).await;
    bench.log.fail_next(disk_full());
    let reject = Settle::Reject { error: None };
    let answers = session.settle(vec![(taken[0].receipt, reject.clone()), (taken[1].receipt, reject)]).await;
    assert!(answers[0].is_err() && answers[1].is_ok(), "{answers:?}");
    assert_eq!(session.queue("q").expect("there").counters.dead_lettered, 1);
    assert_eq!((depth(&session, "q"), depth(&session, "q.dlq").0), ((1, 0, 0, 0), 1));
    let taken = receive(&session, "q", 1).await;
    settle(&session, &taken[0], Settle::Ack).await.expect("acks");
    drop(session);
    let bench = bench.restart();
    bench.pass(Duration::ZERO).await;
    assert_eq!((depth(&bench.session(), "q"), depth(&bench.session(), "q.dlq").0), ((0, 0, 0, 0), 1));
}

#[tokio::test]
async fn a_refused_ack_together_with_rejects_loses_none_of_them() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", retrying()).await;
    many(&session, "q", &["a", "b", "c"]).await;
    let taken = receive(&session, "q", 3).await;
    bench.log.fail_next(disk_full());
    let reject = Settle::Reject { error: None };
    let all = vec![(taken[0].receipt, Settle::Ack), (taken[1].receipt, reject), (taken[2].receipt, nack(None))];
    let answers = session.settle(all).await;
    // The ack and the retry's record share the refused commit; the reject has one of its own.
    assert!(answers[0].is_err() && answers[1].is_ok() && answers[2].is_err(), "{answers:?}");
    assert_eq!((depth(&session, "q"), depth(&session, "q.dlq").0), ((2, 0, 0, 0), 1));
}

#[tokio::test]
async fn a_consumer_that_waits_is_told_of_damage_that_somebody_else_met() {
    let disk = FaultDisk::new();
    let options = EmbeddedOptions { recent_bytes: 0, wal_file_bytes: 1 << 20, ..EmbeddedOptions::default() };
    let log = Arc::new(EmbeddedLog::open(Arc::new(disk.clone()), options).expect("starts"));
    let clock = Arc::new(ManualClock::new());
    let broker = Broker::open(log, clock.clone(), BrokerOptions::default()).expect("starts");
    let principal = broker.authenticate(&Credentials::Anonymous).expect("anonymous");
    let session = broker.session(&principal, "default").expect("default");
    for name in ["hurt", "fine"] {
        queue(&session, name, QueueConfig::default()).await;
        many(&session, name, &["a message"]).await;
        assert_eq!(receive(&session, name, 1).await.len(), 1);
    }
    let mut consumers = ["hurt", "fine"].map(|name| session.consume(name, consumer(false, 0)).expect("attaches"));
    let [hurt, fine] = &mut consumers;
    let (hurt, fine) = (hurt.next(credit(1)), fine.next(credit(1)));
    tokio::pin!(hurt, fine);
    tokio::select! {
        biased;
        taken = &mut hurt => panic!("nothing is there to be taken: {taken:?}"),
        taken = &mut fine => panic!("nothing is there to be taken: {taken:?}"),
        () = std::future::ready(()) => {}
    }
    let wal = disk.contents("wal/00000001.wal").expect("there");
    let at = wal.windows(9).position(|bytes| bytes == b"a message").expect("it is there");
    disk.corrupt("wal/00000001.wal", at as u64).expect("there");
    let damaged = |error: &ConsumeError| matches!(error, ConsumeError::Storage(StorageError::Damaged(_)));
    assert!(session.browse("hurt", Offset(0), 1).is_err_and(|error| damaged(&error)));
    let damage = |name| session.queue(name).expect("there").damage;
    assert!(damage("hurt").is_some_and(|damage| damage.contains("wal/00000001.wal at byte")));
    clock.advance(Duration::from_secs(1));
    broker.tick().await;
    let told = tokio::time::timeout(Duration::from_secs(20), &mut hurt).await.expect("it is told");
    assert!(told.as_ref().is_err_and(damaged), "{told:?}");
    assert_eq!(damage("fine"), None);
    tokio::select! {
        biased;
        taken = &mut fine => panic!("its neighbour noticed: {taken:?}"),
        () = std::future::ready(()) => {}
    }
}

#[tokio::test]
async fn once_the_storage_has_failed_nothing_is_handed_out_and_consumers_are_told() {
    let bench = Bench::new();
    let session = bench.session();
    let failed = |error: &ConsumeError| matches!(error, ConsumeError::Storage(StorageError::Failed(_)));
    for name in ["fresh", "used", "empty"] {
        queue(&session, name, QueueConfig::default()).await;
    }
    many(&session, "fresh", &["a"]).await;
    many(&session, "used", &["b", "c"]).await;
    assert_eq!(receive(&session, "used", 1).await.len(), 1);
    let mut waiting = session.consume("empty", consumer(false, 0)).expect("attaches");
    let told = waiting.next(credit(1));
    tokio::pin!(told);
    tokio::select! {
        biased;
        taken = &mut told => panic!("nothing is there to be taken: {taken:?}"),
        () = std::future::ready(()) => {}
    }
    // What fails is the mark that it was handed out: after a restart it would come again as if for the first time.
    bench.log.end_unknown();
    let one = Receive { max: 1, max_bytes: u64::MAX, wait: Duration::ZERO, lease: None, auto_ack: false };
    let refused = session.receive("fresh", one).await;
    assert!(refused.as_ref().is_err_and(failed), "{refused:?}");
    assert_eq!(depth(&session, "fresh"), (1, 0, 0, 0), "it is back");
    // Here the mark stands, but no acknowledgement would be taken.
    let refused = session.receive("used", one).await;
    assert!(refused.as_ref().is_err_and(failed), "{refused:?}");
    let mut late = session.consume("used", consumer(false, 0)).expect("attaches");
    assert!(late.next(credit(1)).await.as_ref().is_err_and(failed));
    assert!(late.try_next(credit(1)).as_ref().is_err_and(failed));
    // Who waits is told within a second.
    bench.pass(Duration::from_secs(1)).await;
    let told = tokio::time::timeout(Duration::from_secs(20), &mut told).await.expect("it is told");
    assert!(told.as_ref().is_err_and(failed), "{told:?}");
}

#[tokio::test]
async fn a_full_disk_can_be_drained_by_consumers_that_fail_too() {
    const RESERVE: u64 = 1 << 20;
    let disk = FaultDisk::new();
    let options =
        EmbeddedOptions { wal_file_bytes: 1 << 20, reserve_bytes: Some(RESERVE), ..EmbeddedOptions::default() };
    let log = Arc::new(EmbeddedLog::open(Arc::new(disk.clone()), options).expect("starts"));
    let broker = Broker::open(log.clone(), Arc::new(ManualClock::new()), BrokerOptions::default()).expect("starts");
    let principal = broker.authenticate(&Credentials::Anonymous).expect("anonymous");
    let session = broker.session(&principal, "default").expect("default");
    let retry = RetryConfig { max_attempts: Some(9), initial_ms: Some(0), jitter: Some(false), ..Default::default() };
    queue(&session, "q", QueueConfig { retry: Some(retry), ..QueueConfig::default() }).await;
    many(&session, "q", &["a", "b", "c"]).await;
    let free = |bytes| {
        disk.set_free_bytes(Some(bytes));
        log.run_maintenance();
    };
    let target = to("q");
    let publish = || session.publish(&target, vec![Message::new("", "more")], PublishOptions::default());
    free(RESERVE - 4096);
    let refused = publish().await;
    assert!(matches!(refused, Err(PublishError::Storage(StorageError::Full(_)))), "{refused:?}");
    let taken = receive(&session, "q", 3).await;
    assert_eq!(taken.len(), 3);
    settle(&session, &taken[0], nack(None)).await.expect("a nack passes");
    settle(&session, &taken[1], Settle::Reject { error: None }).await.expect("a reject passes");
    settle(&session, &taken[2], Settle::Ack).await.expect("an ack passes");
    queue(&session, "elsewhere", QueueConfig::default()).await;
    assert_eq!((depth(&session, "q"), depth(&session, "q.dlq").0), ((1, 0, 0, 0), 1));
    // Not even small records take all: the rest is for moves, without which no space would come back.
    free(RESERVE / 2 - 4096);
    let taken = receive(&session, "q", 1).await;
    assert_eq!((taken.len(), taken[0].attempt), (1, 2));
    let refused = settle(&session, &taken[0], nack(None)).await;
    assert!(matches!(refused, Err(SettleError::Storage(StorageError::Full(_)))), "{refused:?}");
    let taken = receive(&session, "q", 1).await;
    settle(&session, &taken[0], Settle::Ack).await.expect("an ack still passes");
    free(2 * RESERVE);
    publish().await.expect("there is space again");
}

#[tokio::test]
async fn settlements_of_several_queues_are_under_way_at_once() {
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
    let mut all = Vec::new();
    for name in ["one", "two", "three"] {
        queue(&session, name, retrying()).await;
        many(&session, name, &["a", "b"]).await;
        let taken = receive(&session, name, 2).await;
        all.push((taken[0].receipt, Settle::Ack));
        all.push((taken[1].receipt, Settle::Reject { error: None }));
    }
    stop.store(true, Ordering::Relaxed);
    rounds.join().expect("ends");
    while log.run_round() > 0 {}
    let settling = session.settle(all);
    tokio::pin!(settling);
    tokio::select! {
        biased;
        answers = &mut settling => panic!("nothing is durable yet: {answers:?}"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(log.waiting(), 6, "an ack and a move for each of three queues");
    log.run_round();
    assert_eq!(settling.await, vec![Ok(()); 6], "one round makes all of them durable");
}

#[tokio::test]
async fn moves_that_time_began_are_tried_again_until_they_succeed() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { ttl_ms: Some(1_000), ..QueueConfig::default() }).await;
    many(&session, "q", &["a", "b"]).await;
    for _ in 0..4 {
        bench.log.fail_next(disk_full());
    }
    bench.pass(Duration::from_secs(1)).await;
    bench.pass(Duration::from_secs(1)).await;
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(bodies(&receive(&session, "q.dlq", 10).await), ["a", "b"]);
    let counters = session.queue("q").expect("there").counters;
    assert_eq!((counters.dead_lettered, counters.expired), (2, 2));
    assert_eq!(depth(&session, "q"), (0, 0, 0, 0));
}

#[tokio::test]
async fn a_refused_purge_purges_nothing() {
    let bench = Bench::new();
    let session = bench.session();
    let retry = RetryConfig { initial_ms: Some(5_000), jitter: Some(false), ..Default::default() };
    queue(&session, "q", QueueConfig { retry: Some(retry), ..QueueConfig::default() }).await;
    many(&session, "q", &["failed", "out", "c", "d"]).await;
    let taken = receive(&session, "q", 3).await;
    settle(&session, &taken[0], nack(None)).await.expect("nacks");
    settle(&session, &taken[2], Settle::Release).await.expect("releases");
    let before = session.queue("q").expect("there").depth;
    bench.log.fail_next(disk_full());
    assert!(session.purge("q").await.is_err());
    let after = session.queue("q").expect("there").depth;
    assert_eq!((after.ready, after.delayed, after.waiting_bytes), (before.ready, before.delayed, before.waiting_bytes));
    many(&session, "q", &["new"]).await;
    settle(&session, &taken[1], Settle::Release).await.expect("releases");
    bench.pass(Duration::from_secs(5)).await;
    let mut all = receive(&session, "q", 10).await;
    all.sort_by_key(|one| one.receipt.lease.offset);
    assert_eq!(bodies(&all), ["failed", "out", "c", "d", "new"]);
    assert_eq!(all[0].attempt, 2);
    let redelivered: Vec<bool> = all.iter().map(|one| one.redelivered).collect();
    assert_eq!(redelivered, [true, true, true, false, false], "what was handed out before the purge still says so");
    settle(&session, &all[0], Settle::Ack).await.expect("acks");
    assert_eq!(depth(&session, "q"), (0, 0, 0, 4));
    assert_eq!(session.purge("q").await, Ok(0));
}

#[tokio::test]
async fn ack_and_publish_happens_whole_or_not_at_all() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "in", QueueConfig { lease_ms: Some(10_000), ..QueueConfig::default() }).await;
    queue(&session, "out", QueueConfig { max_messages: Some(1), ..QueueConfig::default() }).await;
    many(&session, "in", &["a", "b"]).await;
    let taken = receive(&session, "in", 1).await;
    let result = |body: &'static str| vec![(to("out"), vec![Message::new("", body)])];
    for _ in 0..2 {
        bench.log.fail_next(disk_full());
        let refused = session.ack_and_publish(taken[0].receipt, result("done")).await;
        assert!(matches!(refused, Err(SettleError::Storage(StorageError::Full(_)))), "{refused:?}");
        assert_eq!((depth(&session, "in"), depth(&session, "out").0), ((1, 0, 0, 1), 0), "still out");
    }
    let missing = vec![(to("nowhere"), vec![Message::new("", "x")])];
    let refused = session.ack_and_publish(taken[0].receipt, missing).await;
    assert!(matches!(refused, Err(SettleError::Publish(_))), "{refused:?}");
    session.extend(taken[0].receipt, Duration::from_secs(20)).expect("is still out");
    session.ack_and_publish(taken[0].receipt, result("done")).await.expect("both");
    assert_eq!((depth(&session, "in"), depth(&session, "out").0), ((1, 0, 0, 0), 1));
    assert!(session.ack_and_publish(taken[0].receipt, result("again")).await.is_err());
    let taken = receive(&session, "in", 1).await;
    let full = session.ack_and_publish(taken[0].receipt, result("too much")).await;
    assert!(matches!(full, Err(SettleError::Publish(_))), "{full:?}");
    let done = receive(&session, "out", 1).await;
    settle(&session, &done[0], Settle::Ack).await.expect("acks");
    // A lease that runs out while the commit is refused leaves the message ready.
    bench.clock.advance(Duration::from_secs(11));
    bench.log.fail_next(disk_full());
    assert!(session.ack_and_publish(taken[0].receipt, result("late")).await.is_err());
    assert_eq!(depth(&session, "in"), (1, 0, 0, 0));
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    assert_eq!(bodies(&receive(&session, "in", 10).await), ["b"]);
    assert_eq!(depth(&session, "out"), (0, 0, 0, 0));
}

#[tokio::test]
async fn a_publish_of_unknown_end_is_there_once_or_not_at_all_after_a_restart() {
    for found in [false, true] {
        let bench = Bench::new();
        let session = bench.session();
        queue(&session, "q", retrying()).await;
        if found {
            bench.log.end_unknown_found_later();
        } else {
            bench.log.end_unknown();
        }
        let message = Message { dedup_id: Some("id".into()), ..Message::new("", "a") };
        let unknown = session.publish(&to("q"), vec![message.clone()], PublishOptions::default()).await;
        assert!(matches!(unknown, Err(PublishError::Storage(StorageError::Unknown(_)))), "{unknown:?}");
        let poisoned = session.publish(&to("q"), vec![message.clone()], PublishOptions::default()).await;
        assert!(matches!(poisoned, Err(PublishError::Storage(StorageError::Failed(_)))), "{poisoned:?}");
        drop(session);
        let bench = bench.restart();
        let session = bench.session();
        assert_eq!(depth(&session, "q").0, u64::from(found));
        let again = publish(&session, to("q"), vec![message]).await;
        assert_eq!(again[0].duplicate, found, "sent again, it is there once");
        assert_eq!(depth(&session, "q").0, 1);
    }
}

#[tokio::test]
async fn an_ack_of_unknown_end_may_come_again() {
    for found in [false, true] {
        let bench = Bench::new();
        let session = bench.session();
        queue(&session, "q", retrying()).await;
        many(&session, "q", &["a"]).await;
        let taken = receive(&session, "q", 1).await;
        if found {
            bench.log.end_unknown_found_later();
        } else {
            bench.log.end_unknown();
        }
        assert!(settle(&session, &taken[0], Settle::Ack).await.is_err());
        drop(session);
        let bench = bench.restart();
        assert_eq!(depth(&bench.session(), "q").0, u64::from(!found));
    }
}

/// A duplicate is confirmed only once the first one is known to be stored; if that was refused, the duplicate is stored itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_duplicate_of_a_publish_under_way_waits_for_its_end() {
    for refused in [false, true] {
        let log = Arc::new(MemoryLog::manual());
        let run = Arc::new(AtomicBool::new(true));
        let stop = Arc::new(AtomicBool::new(false));
        let rounds = {
            let (log, run, stop) = (Arc::clone(&log), Arc::clone(&run), Arc::clone(&stop));
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if run.load(Ordering::Relaxed) {
                        log.run_round();
                    }
                    std::thread::yield_now();
                }
            })
        };
        let bench = Bench::on(Arc::clone(&log), Arc::new(ManualClock::new()));
        let session = bench.session();
        queue(&session, "q", retrying()).await;
        run.store(false, Ordering::Relaxed);
        // A round may be under way still; nothing waits, so it is over when this one returns.
        log.run_round();
        let message = Message { dedup_id: Some("id".into()), ..Message::new("", "a") };
        let send = || {
            let (session, message) = (session.clone(), message.clone());
            tokio::spawn(async move { session.publish(&to("q"), vec![message], PublishOptions::default()).await })
        };
        let first = send();
        while log.waiting() < 1 {
            tokio::task::yield_now().await;
        }
        let second = send();
        while log.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(!second.is_finished());
        if refused {
            log.fail_next(disk_full());
        }
        run.store(true, Ordering::Relaxed);
        let first = first.await.expect("runs");
        let second = second.await.expect("runs").expect("is stored, by the one or the other");
        assert_eq!(first.is_err(), refused);
        assert_eq!(second[0].duplicate, !refused);
        assert_eq!(depth(&session, "q").0, 1);
        stop.store(true, Ordering::Relaxed);
        rounds.join().expect("ends");
    }
}

#[tokio::test]
async fn a_settlement_that_nobody_waits_for_ends_all_the_same() {
    let log = Arc::new(MemoryLog::manual());
    let stop = Arc::new(AtomicBool::new(false));
    let pump = |log: &Arc<MemoryLog>, stop: &Arc<AtomicBool>| {
        let (log, stop) = (Arc::clone(log), Arc::clone(stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                log.run_round();
                std::thread::yield_now();
            }
        })
    };
    let rounds = pump(&log, &stop);
    let bench = Bench::on(Arc::clone(&log), Arc::new(ManualClock::new()));
    let session = bench.session();
    queue(&session, "q", retrying()).await;
    many(&session, "q", &["a", "b", "c"]).await;
    let taken = receive(&session, "q", 3).await;
    stop.store(true, Ordering::Relaxed);
    rounds.join().expect("ends");
    let reject = Settle::Reject { error: None };
    {
        let all = taken.iter().map(|one| (one.receipt, reject.clone())).collect();
        let settling = session.settle(all);
        // Polled once, then dropped: as a client that goes.
        let _ = tokio::time::timeout(Duration::ZERO, settling).await;
    }
    while log.run_round() > 0 {}
    assert_eq!((depth(&session, "q"), depth(&session, "q.dlq").0), ((0, 0, 0, 0), 3));
    assert_eq!(session.queue("q").expect("there").counters.dead_lettered, 3);
}
