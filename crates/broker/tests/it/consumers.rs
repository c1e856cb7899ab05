//! Standing consumers and long polls: who is woken, and that nobody is forgotten.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use broker::definitions::QueueConfig;
use broker::queue::Settle;
use broker::{ConsumeError, Receive, Session};
use log::MemoryLog;
use testkit::ManualClock;
use types::Message;

use crate::harness::{Bench, bodies, consumer, credit, depth, many, nack, publish, queue, receive, settle, to};

/// Longer than any of these tests takes; a wait that ends so is a hang.
const HANG: Duration = Duration::from_secs(60);

fn long_poll(max: usize) -> Receive {
    Receive { max, max_bytes: u64::MAX, wait: Duration::from_secs(50), lease: None, auto_ack: false }
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.expect("hangs")
}

#[tokio::test]
async fn a_waiting_consumer_is_woken_by_a_publish_a_retry_and_the_queues_end() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let mut standing = session.consume("q", consumer(false, 0)).expect("attaches");
    let waits = tokio::spawn(async move {
        let taken = standing.next(credit(5)).await;
        (standing, taken)
    });
    tokio::task::yield_now().await;
    many(&session, "q", &["a"]).await;
    let (mut standing, taken) = in_time(waits).await.expect("runs");
    let taken = taken.expect("there");
    assert_eq!(bodies(&taken), ["a"]);
    settle(&session, &taken[0], nack(Some(Duration::from_secs(5)))).await.expect("nacks");
    let waits = tokio::spawn(async move {
        let taken = standing.next(credit(5)).await;
        (standing, taken)
    });
    tokio::task::yield_now().await;
    bench.pass(Duration::from_secs(5)).await;
    let (mut standing, taken) = in_time(waits).await.expect("runs");
    assert_eq!(taken.expect("there")[0].attempt, 2);
    let waits = tokio::spawn(async move { standing.next(credit(5)).await });
    let polls = {
        let session = session.clone();
        tokio::spawn(async move { session.receive("q", long_poll(1)).await })
    };
    tokio::task::yield_now().await;
    session.delete_queue("q", false, false).await.expect("deletes");
    assert!(matches!(in_time(waits).await.expect("runs"), Err(ConsumeError::Deleted(name)) if name == "q"));
    assert!(matches!(in_time(polls).await.expect("runs"), Err(ConsumeError::Deleted(_))));
}

#[tokio::test]
async fn a_long_poll_is_woken_by_a_publish_and_by_a_retry_that_is_due() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let poll = |session: Session| tokio::spawn(async move { session.receive("q", long_poll(1)).await });
    let waits = poll(session.clone());
    tokio::task::yield_now().await;
    many(&session, "q", &["a"]).await;
    let taken = in_time(waits).await.expect("runs").expect("receives");
    settle(&session, &taken[0], nack(Some(Duration::from_secs(3)))).await.expect("nacks");
    let waits = poll(session.clone());
    tokio::task::yield_now().await;
    bench.pass(Duration::from_secs(3)).await;
    assert_eq!(in_time(waits).await.expect("runs").expect("receives")[0].attempt, 2);
    let waits = poll(session.clone());
    tokio::task::yield_now().await;
    bench.broker.close().await;
    assert_eq!(in_time(waits).await.expect("runs").expect("ends"), []);
}

#[tokio::test]
async fn waiters_who_find_nothing_do_not_wake_each_other() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let done = Arc::new(AtomicUsize::new(0));
    let waiters: Vec<_> = (0..8)
        .map(|_| {
            let (session, done) = (session.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let taken = session.receive("q", long_poll(1)).await;
                done.fetch_add(1, Ordering::Relaxed);
                taken
            })
        })
        .collect();
    tokio::task::yield_now().await;
    many(&session, "q", &["a"]).await;
    // On one thread a yield lets everyone run who was woken. If they kept each other awake, the polls below would never be idle.
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    assert_eq!(done.load(Ordering::Relaxed), 1, "one message, one receiver");
    assert_rests().await;
    waiters.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A sleep on an otherwise idle runtime is woken by its timer alone; a runtime whose tasks spin is busy meanwhile.
async fn assert_rests() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.worker_total_busy_duration(0);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let busy = metrics.worker_total_busy_duration(0) - before;
    assert!(busy < Duration::from_millis(100), "the runtime was busy for {busy:?} of 200 ms");
}

#[tokio::test]
async fn without_credit_a_consumer_waits_and_does_not_spin() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    many(&session, "q", &["a"]).await;
    let mut standing = session.consume("q", consumer(false, 0)).expect("attaches");
    let waits = tokio::spawn(async move { standing.next(credit(0)).await });
    tokio::task::yield_now().await;
    assert_rests().await;
    session.delete_queue("q", false, false).await.expect("deletes");
    assert!(in_time(waits).await.expect("runs").is_err());
}

#[tokio::test]
async fn a_cancelled_wait_takes_nothing_and_passes_its_turn_on() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    for _ in 0..100 {
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let session = session.clone();
                tokio::spawn(async move { session.receive("q", long_poll(1)).await })
            })
            .collect();
        tokio::task::yield_now().await;
        many(&session, "q", &["a"]).await;
        // The first one was woken and has not run yet.
        waiters[0].abort();
        let mut taken = Vec::new();
        for waiter in &waiters[1..] {
            let session = session.clone();
            let rest = async {
                while !waiter.is_finished() && depth(&session, "q").0 > 0 {
                    tokio::task::yield_now().await;
                }
            };
            in_time(rest).await;
        }
        for waiter in waiters {
            waiter.abort();
            if waiter.is_finished()
                && let Ok(Ok(got)) = waiter.await
            {
                taken.extend(got);
            }
        }
        assert_eq!(bodies(&taken), ["a"]);
        settle(&session, &taken[0], Settle::Ack).await.expect("acks");
        bench.pass(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_consumer_that_is_woken_and_does_not_look_passes_its_turn_on() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let mut first = session.consume("q", consumer(false, 0)).expect("attaches");
    let mut second = session.consume("q", consumer(false, 0)).expect("attaches");
    let other = {
        let mut waits = std::pin::pin!(first.next(credit(1)));
        let pending = std::future::poll_fn(|context| Poll::Ready(waits.as_mut().poll(context).is_pending())).await;
        assert!(pending);
        let other = tokio::spawn(async move { second.next(credit(1)).await });
        tokio::task::yield_now().await;
        many(&session, "q", &["a"]).await;
        // The first one waited longer, so it was woken; here its wait is dropped.
        other
    };
    assert_eq!(bodies(&in_time(other).await.expect("runs").expect("there")), ["a"]);
    drop(first);
}

#[tokio::test]
async fn dropping_a_consumer_gives_back_what_it_holds() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { lease_ms: Some(0), ..QueueConfig::default() }).await;
    many(&session, "q", &["a", "b"]).await;
    let mut standing = session.consume("q", consumer(false, 0)).expect("attaches");
    let taken = standing.try_next(credit(2)).expect("there");
    assert_eq!(taken[0].lease, None, "until the consumer goes");
    bench.pass(Duration::from_secs(100_000)).await;
    assert_eq!(depth(&session, "q"), (0, 0, 0, 2));
    assert_eq!(standing.settle(vec![(taken[0].receipt, Settle::Ack)]).await, [Ok(())]);
    drop(standing);
    assert_eq!(depth(&session, "q"), (1, 0, 0, 0));
    assert!(settle(&session, &taken[1], Settle::Ack).await.is_err());
    let taken = receive(&session, "q", 1).await;
    assert_eq!((taken[0].attempt, taken[0].redelivered), (1, true));
}

/// Many consumers of every kind, waits that are cancelled all the time, and every message settled once.
async fn stress(bench: Bench, stop_rounds: Arc<AtomicBool>) {
    const MESSAGES: usize = 3_000;
    let session = bench.session();
    queue(&session, "q", QueueConfig { lease_ms: Some(0), ..QueueConfig::default() }).await;
    let acked = Arc::new(Acked::default());
    let mut tasks = Vec::new();
    for number in 0..12_u64 {
        let (session, acked) = (session.clone(), Arc::clone(&acked));
        tasks.push(tokio::spawn(async move {
            let mut rng = fastrand::Rng::with_seed(number);
            let mut standing = (number % 2 == 0).then(|| session.consume("q", consumer(false, 0)).expect("attaches"));
            while acked.len() < MESSAGES {
                let max = rng.usize(1..4);
                let patience = Duration::from_micros(rng.u64(0..3_000));
                let taken = match &mut standing {
                    Some(standing) => tokio::time::timeout(patience, standing.next(credit(max))).await,
                    None => tokio::time::timeout(patience, session.receive("q", long_poll(max))).await,
                };
                // Half of them have more patience than any test: they rely on being woken.
                let Ok(taken) = taken else { continue };
                // The queue goes once all is acknowledged.
                let Ok(taken) = taken else { break };
                for one in taken {
                    let how = if rng.u8(..) < 40 { Settle::Release } else { Settle::Ack };
                    let done = how == Settle::Ack;
                    settle(&session, &one, how).await.expect("settles");
                    if done {
                        acked.insert(bodies(std::slice::from_ref(&one)).remove(0));
                    }
                }
            }
        }));
    }
    // These wait without end: each must be woken for its share, or by the end.
    for _ in 0..4 {
        let (session, acked) = (session.clone(), Arc::clone(&acked));
        tasks.push(tokio::spawn(async move {
            let mut standing = session.consume("q", consumer(false, 0)).expect("attaches");
            while let Ok(taken) = standing.next(credit(1)).await {
                for one in taken {
                    settle(&session, &one, Settle::Ack).await.expect("acks");
                    acked.insert(bodies(std::slice::from_ref(&one)).remove(0));
                }
            }
        }));
    }
    let publishers: Vec<_> = (0..3)
        .map(|number| {
            let session = session.clone();
            tokio::spawn(async move {
                for at in 0..MESSAGES / 3 {
                    publish(&session, to("q"), vec![Message::new("", format!("{number}-{at}"))]).await;
                }
            })
        })
        .collect();
    let ticker = {
        let broker = bench.broker.clone();
        tokio::spawn(async move {
            loop {
                let wait = broker.tick().await;
                tokio::time::sleep(wait).await;
            }
        })
    };
    for publisher in publishers {
        in_time(publisher).await.expect("publishes");
    }
    in_time(async {
        while acked.len() < MESSAGES {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(depth(&session, "q"), (0, 0, 0, 0));
    session.delete_queue("q", false, false).await.expect("deletes");
    for task in tasks {
        in_time(task).await.expect("ends");
    }
    ticker.abort();
    stop_rounds.store(true, Ordering::Relaxed);
}

/// What was acknowledged; twice is a failure.
#[derive(Default)]
struct Acked(Mutex<BTreeSet<String>>);

impl Acked {
    fn insert(&self, body: String) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(set.insert(body), "acknowledged twice");
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_wake_up_is_lost_among_many_who_wait_and_give_up() {
    stress(Bench::new(), Arc::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn the_end_of_a_queue_reaches_those_who_begin_to_wait_in_that_moment() {
    let bench = Bench::new();
    let session = bench.session();
    for _ in 0..300 {
        queue(&session, "q", QueueConfig::default()).await;
        let waiting: Vec<_> = (0..6)
            .map(|_| {
                let session = session.clone();
                tokio::spawn(async move {
                    let Ok(mut standing) = session.consume("q", consumer(false, 0)) else { return };
                    while standing.next(credit(1)).await.is_ok() {}
                })
            })
            .collect();
        session.delete_queue("q", false, false).await.expect("deletes");
        for task in waiting {
            in_time(task).await.expect("ends");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn no_wake_up_is_lost_when_commits_end_on_another_thread() {
    let log = Arc::new(MemoryLog::manual());
    let stop = Arc::new(AtomicBool::new(false));
    let rounds = {
        let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if log.run_round() == 0 {
                    std::thread::yield_now();
                }
            }
        })
    };
    let bench = Bench::on(log, Arc::new(ManualClock::new()));
    stress(bench, Arc::clone(&stop)).await;
    rounds.join().expect("ends");
}
