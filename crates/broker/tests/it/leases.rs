//! Leases, attempts, retry, and what a restart remembers of them.

use std::time::Duration;

use broker::definitions::{DeadLetterConfig, QueueConfig, RetryConfig};
use broker::queue::{LeaseError, Settle};
use broker::{Receive, SettleError};
use types::Value;

use crate::harness::{Bench, bodies, depth, many, nack, queue, receive, settle, to};

fn retry(max_attempts: u32, initial_ms: u64) -> QueueConfig {
    let retry = RetryConfig {
        max_attempts: Some(max_attempts),
        initial_ms: Some(initial_ms),
        jitter: Some(false),
        non_retryable: vec!["BadInput".to_owned()],
        ..Default::default()
    };
    QueueConfig { retry: Some(retry), lease_ms: Some(10_000), ..QueueConfig::default() }
}

fn lease_error(result: Result<(), SettleError>) -> LeaseError {
    match result {
        Err(SettleError::Lease(error)) => error,
        other => panic!("not a lease error: {other:?}"),
    }
}

#[tokio::test]
async fn a_lease_that_runs_out_is_a_failed_attempt_and_its_receipt_says_so() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", retry(5, 1_000)).await;
    many(&session, "q", &["a"]).await;
    let first = receive(&session, "q", 1).await;
    assert_eq!(first[0].lease, Some(Duration::from_secs(10)));
    bench.pass(Duration::from_secs(9)).await;
    assert_eq!(depth(&session, "q"), (0, 0, 0, 1));
    bench.pass(Duration::from_secs(1)).await;
    assert_eq!(depth(&session, "q"), (0, 1, 0, 0), "it waits for its retry");
    assert_eq!(lease_error(settle(&session, &first[0], Settle::Ack).await), LeaseError::Expired);
    bench.pass(Duration::from_secs(1)).await;
    let second = receive(&session, "q", 1).await;
    assert_eq!((second[0].attempt, second[0].redelivered), (2, true));
    assert_eq!(settle(&session, &second[0], Settle::Ack).await, Ok(()));
    assert_eq!(lease_error(settle(&session, &second[0], Settle::Ack).await), LeaseError::Unknown);
    assert_eq!(depth(&session, "q"), (0, 0, 0, 0));
    let counters = session.queue("q").expect("there").counters;
    assert_eq!((counters.enqueued, counters.delivered, counters.acked, counters.failed), (1, 2, 1, 1));
}

#[tokio::test]
async fn an_extended_lease_lasts_from_the_call_and_a_receive_may_choose_its_own() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", retry(5, 1_000)).await;
    many(&session, "q", &["a", "b"]).await;
    let receive = Receive {
        max: 2,
        max_bytes: u64::MAX,
        wait: Duration::ZERO,
        lease: Some(Duration::from_secs(60)),
        auto_ack: false,
    };
    let taken = session.receive("q", receive).await.expect("receives");
    assert_eq!(taken[0].lease, Some(Duration::from_secs(60)));
    session.extend(taken[1].receipt, Duration::from_secs(100)).expect("extends");
    bench.pass(Duration::from_secs(61)).await;
    assert_eq!(depth(&session, "q"), (0, 1, 0, 1), "only the first ran out");
    assert!(session.extend(taken[0].receipt, Duration::from_secs(1)).is_err());
    session.extend(taken[1].receipt, Duration::ZERO).expect("ends it");
    bench.pass(Duration::ZERO).await;
    assert_eq!(depth(&session, "q"), (0, 2, 0, 0));
}

#[tokio::test]
async fn waits_grow_and_a_nack_may_name_its_own() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", retry(0, 1_000)).await;
    many(&session, "q", &["a"]).await;
    for (attempt, wait) in [(1, 1), (2, 2), (3, 4)] {
        let taken = receive(&session, "q", 1).await;
        assert_eq!(taken[0].attempt, attempt);
        settle(&session, &taken[0], nack(None)).await.expect("nacks");
        bench.pass(Duration::from_millis(wait * 1000 - 1)).await;
        assert!(receive(&session, "q", 1).await.is_empty(), "after {attempt}");
        bench.pass(Duration::from_millis(1)).await;
    }
    let taken = receive(&session, "q", 1).await;
    settle(&session, &taken[0], nack(Some(Duration::ZERO))).await.expect("nacks");
    let taken = receive(&session, "q", 1).await;
    assert_eq!(taken[0].attempt, 5);
    settle(&session, &taken[0], Settle::Release).await.expect("releases");
    let taken = receive(&session, "q", 1).await;
    assert_eq!((taken[0].attempt, taken[0].redelivered), (5, true), "a release counts nothing");
}

#[tokio::test]
async fn rejected_and_non_retryable_messages_are_dead_letters_at_once() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", retry(5, 1_000)).await;
    many(&session, "q", &["a", "b"]).await;
    let taken = receive(&session, "q", 2).await;
    settle(&session, &taken[0], Settle::Reject { error: Some("spoiled".into()) }).await.expect("rejects");
    let error = Some("BadInput: no total".into());
    settle(&session, &taken[1], Settle::Nack { after: None, error, counts: true }).await.expect("nacks");
    let dead = receive(&session, "q.dlq", 10).await;
    let header = |at: usize, name: &str| dead[at].message.header(name).and_then(Value::as_text).map(str::to_owned);
    assert_eq!(bodies(&dead), ["a", "b"]);
    assert_eq!(header(0, "ph-dead-letter-reason").as_deref(), Some("rejected"));
    assert_eq!(header(0, "ph-dead-letter-error").as_deref(), Some("spoiled"));
    assert_eq!(header(0, "ph-dead-letter-queue").as_deref(), Some("q"));
    assert_eq!(header(1, "ph-dead-letter-reason").as_deref(), Some("non-retryable"));
    let counters = session.queue("q").expect("there").counters;
    assert_eq!((counters.dead_lettered, counters.dropped, counters.failed), (2, 0, 2));
    assert_eq!(depth(&session, "q"), (0, 0, 0, 0));
}

#[tokio::test]
async fn attempts_and_history_survive_a_restart() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", retry(3, 5_000)).await;
    many(&session, "q", &["a", "b"]).await;
    let taken = receive(&session, "q", 1).await;
    settle(&session, &taken[0], nack(None)).await.expect("nacks");
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    bench.pass(Duration::ZERO).await;
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["b"], "the failed one still waits");
    assert_eq!(
        lease_error(settle(&session, &taken[0], Settle::Ack).await),
        LeaseError::Expired,
        "a receipt from before"
    );
    bench.pass(Duration::from_secs(5)).await;
    let taken = receive(&session, "q", 10).await;
    assert_eq!((bodies(&taken), taken[0].attempt), (vec!["a".to_owned()], 2));
    settle(&session, &taken[0], nack(None)).await.expect("nacks");
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    bench.pass(Duration::from_secs(60)).await;
    let taken = receive(&session, "q", 1).await;
    assert_eq!((bodies(&taken), taken[0].attempt), (vec!["a".to_owned()], 3));
    settle(&session, &taken[0], nack(None)).await.expect("nacks");
    let dead = receive(&session, "q.dlq", 1).await;
    assert_eq!(dead[0].message.header("ph-dead-letter-attempts").and_then(Value::as_f64), Some(3.0));
    assert_eq!(dead[0].message.header("ph-dead-letter-error").and_then(Value::as_text), Some("no"));
    // Nothing of it is left behind in the state log.
    drop(session);
    let bench = bench.restart();
    bench.pass(Duration::ZERO).await;
    assert_eq!(depth(&bench.session(), "q"), (1, 0, 0, 0), "b");
}

#[tokio::test]
async fn state_is_snapshot_and_trimmed_and_says_the_same_after_a_restart() {
    let bench = Bench::new();
    let session = bench.session();
    let config = QueueConfig { dedup_window_ms: Some(3_600_000), ..retry(0, 0) };
    queue(&session, "q", config).await;
    many(&session, "q", &["stays", "b", "c"]).await;
    let mut message = types::Message::new("", "once");
    message.dedup_id = Some("id".into());
    crate::harness::publish(&session, to("q"), vec![message.clone()]).await;
    for _ in 0..1_500 {
        // Each round writes five records or more; the others are acked and replaced, so that there are Forget records too.
        let taken = receive(&session, "q", 4).await;
        for one in &taken {
            settle(&session, one, nack(Some(Duration::ZERO))).await.expect("nacks");
        }
        let taken = receive(&session, "q", 4).await;
        for one in &taken {
            let acked = bodies(std::slice::from_ref(one))[0] == "c";
            settle(&session, one, if acked { Settle::Ack } else { Settle::Release }).await.expect("settles");
        }
        many(&session, "q", &["c"]).await;
        bench.pass(Duration::ZERO).await;
    }
    use log::Log as _;
    let logs = bench.log.logs();
    let trimmed = logs.iter().any(|log| bench.log.state(*log).is_ok_and(|state| state.start.0 > 1_000));
    assert!(trimmed, "a snapshot has replaced the records before it");
    let before = depth(&session, "q");
    drop(session);
    let bench = bench.restart();
    let session = bench.session();
    bench.pass(Duration::ZERO).await;
    assert_eq!(depth(&session, "q"), before);
    let again = crate::harness::publish(&session, to("q"), vec![message]).await;
    assert!(again[0].duplicate, "the dedup window came through the snapshots");
    let taken = receive(&session, "q", 10).await;
    assert_eq!(bodies(&taken), ["stays", "b", "once", "c"]);
    assert_eq!(taken.iter().map(|one| one.attempt).collect::<Vec<_>>(), [1501, 1501, 1501, 1]);
}

#[tokio::test]
async fn without_a_place_to_go_a_given_up_message_is_dropped_only_by_wish() {
    let bench = Bench::new();
    let session = bench.session();
    let config = QueueConfig { dead_letter: Some(DeadLetterConfig::None), ..retry(1, 0) };
    queue(&session, "q", config).await;
    many(&session, "q", &["a"]).await;
    let taken = receive(&session, "q", 1).await;
    settle(&session, &taken[0], nack(None)).await.expect("nacks");
    let info = session.queue("q").expect("there");
    assert_eq!((info.counters.dropped, info.counters.dead_lettered), (1, 0));
    drop(session);
    let bench = bench.restart();
    bench.pass(Duration::ZERO).await;
    assert_eq!(depth(&bench.session(), "q"), (0, 0, 0, 0));
}

#[tokio::test]
async fn a_receive_that_let_its_leases_run_out_stands_in_nobodys_way() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", retry(0, 1_000)).await;
    many(&session, "q", &["a"]).await;
    assert_eq!(receive(&session, "q", 1).await.len(), 1);
    let exclusive = crate::harness::consumer(true, 0);
    assert!(session.consume("q", exclusive.clone()).is_err(), "a message is out");
    bench.pass(Duration::from_secs(10)).await;
    assert!(session.consume("q", exclusive).is_ok());
}
