//! A failure is on disk before its message is handed out again, so that a kill takes back one delivery at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use broker::definitions::{DeadLetterConfig, QueueConfig, RetryConfig};
use broker::queue::Settle;
use broker::views::Delivered;
use broker::{Receive, Session};
use log::MemoryLog;
use testkit::ManualClock;

use crate::harness::{Bench, consumer, credit, disk_full, many, nack, queue};

const LEASE: Duration = Duration::from_secs(10);

/// How a delivery fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fails {
    /// Its consumer says so.
    Nacked,
    /// Its lease runs out.
    RunsOut,
    /// It is given up, but it cannot be moved.
    CannotMove,
}

/// A broker whose commits wait for a round, but for those of its start.
fn start(log: &Arc<MemoryLog>, clock: &Arc<ManualClock>) -> Bench {
    let started = Arc::new(AtomicBool::new(false));
    let rounds = {
        let (log, started) = (Arc::clone(log), Arc::clone(&started));
        std::thread::spawn(move || {
            while !started.load(Ordering::Relaxed) {
                log.run_round();
                std::thread::yield_now();
            }
        })
    };
    let bench = Bench::on(Arc::clone(log), Arc::clone(clock));
    started.store(true, Ordering::Relaxed);
    rounds.join().expect("ends");
    bench
}

/// Runs rounds until the call has ended.
async fn written<T>(log: &MemoryLog, call: impl Future<Output = T>) -> T {
    tokio::pin!(call);
    loop {
        tokio::select! {
            biased;
            ended = &mut call => return ended,
            () = tokio::task::yield_now() => drop(log.run_round()),
        }
    }
}

fn is_ready<T>(call: &mut std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    matches!(call.as_mut().poll(&mut context), Poll::Ready(_))
}

async fn receive(session: &Session, max: usize) -> Vec<Delivered> {
    let receive = Receive { max, max_bytes: u64::MAX, wait: Duration::ZERO, lease: None, auto_ack: false };
    session.receive("q", receive).await.expect("receives")
}

/// Attempts of what a receive gives.
fn attempts(taken: &[Delivered]) -> Vec<u32> {
    taken.iter().map(|one| one.attempt).collect()
}

async fn prepare(log: &MemoryLog, session: &Session) -> Delivered {
    let retry = RetryConfig { max_attempts: Some(9), initial_ms: Some(0), jitter: Some(false), ..Default::default() };
    let config = QueueConfig {
        lease_ms: Some(10_000),
        retry: Some(retry),
        dead_letter: Some(DeadLetterConfig::Queue("dead".to_owned())),
        ..QueueConfig::default()
    };
    written(log, queue(session, "q", config)).await;
    written(log, many(session, "q", &["a"])).await;
    let taken = written(log, receive(session, 1)).await;
    // The mark of what was handed out is written, so that nothing waits for it any more.
    while log.run_round() > 0 {}
    taken.into_iter().next().expect("there")
}

/// Lets the delivery fail. The record of that has not been written when this returns.
async fn fail(bench: &Bench, session: &Session, one: &Delivered, fails: Fails) {
    let settlement = match fails {
        Fails::Nacked => nack(None),
        Fails::CannotMove => {
            bench.log.fail_next(disk_full());
            Settle::Reject { error: None }
        }
        Fails::RunsOut => {
            bench.clock.advance(LEASE);
            bench.broker.tick().await;
            return;
        }
    };
    let settling = session.settle(vec![(one.receipt, settlement)]);
    tokio::pin!(settling);
    assert!(!is_ready(&mut settling), "it is not durable yet");
    if fails == Fails::CannotMove {
        assert_eq!(bench.log.run_round(), 1, "the move, which is refused");
        assert!(!is_ready(&mut settling), "its failure is not durable yet");
    }
}

#[tokio::test]
async fn a_failed_message_is_not_handed_out_again_before_its_failure_is_on_disk() {
    for fails in [Fails::Nacked, Fails::RunsOut, Fails::CannotMove] {
        let (log, clock) = (Arc::new(MemoryLog::manual()), Arc::new(ManualClock::new()));
        let bench = start(&log, &clock);
        let session = bench.session();
        let one = prepare(&log, &session).await;
        fail(&bench, &session, &one, fails).await;
        {
            let again = receive(&session, 2);
            tokio::pin!(again);
            assert!(!is_ready(&mut again), "{fails:?}: handed out before its failure was on disk");
            let taken = written(&log, again).await;
            assert_eq!(attempts(&taken), [2], "{fails:?}");
        }
        // Killed right after: nothing of the failure is lost, and no more than the delivery in flight.
        let log = Arc::new(log.reopen());
        drop((session, bench));
        let bench = start(&log, &clock);
        let taken = written(&log, receive(&bench.session(), 2)).await;
        assert_eq!(attempts(&taken), [2], "{fails:?}");
    }
}

#[tokio::test]
async fn a_standing_consumer_waits_for_the_failures_record_too_and_its_neighbours_do_not() {
    let (log, clock) = (Arc::new(MemoryLog::manual()), Arc::new(ManualClock::new()));
    let bench = start(&log, &clock);
    let session = bench.session();
    let one = prepare(&log, &session).await;
    written(&log, many(&session, "q", &["b"])).await;
    let mut first = session.consume("q", consumer(false, 0)).expect("attaches");
    let mut second = session.consume("q", consumer(false, 0)).expect("attaches");
    fail(&bench, &session, &one, Fails::Nacked).await;
    let again = first.next(credit(1));
    tokio::pin!(again);
    assert!(!is_ready(&mut again), "its failure is not on disk");
    let other = second.next(credit(1)).await.expect("there");
    assert_eq!(attempts(&other), [1], "one that did not fail waits for nothing");
    assert_eq!(attempts(&written(&log, again).await.expect("there")), [2]);
}

#[tokio::test]
async fn a_failure_that_cannot_be_recorded_keeps_nobody_from_draining() {
    let (log, clock) = (Arc::new(MemoryLog::manual()), Arc::new(ManualClock::new()));
    let bench = start(&log, &clock);
    let session = bench.session();
    let one = prepare(&log, &session).await;
    bench.log.fail_next(disk_full());
    fail(&bench, &session, &one, Fails::Nacked).await;
    assert_eq!(attempts(&written(&log, receive(&session, 1)).await), [2]);
}
