//! The outbox and the relay.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sdk::Envelope;
use sdk::sql::{RelayError, RelayOptions, SqlError, Store};
use sdk::transport::{Destination, Outgoing, PublishError};
use types::{MessageId, Timestamp, Value};

use super::broker::{Broker, Running, body};
use super::db::{DEADLINE, Db, Place, eventually, run, run_alone};
use super::on_both;

on_both!(
    what_is_rolled_back_is_not_published,
    a_commit_wakes_the_relay_and_the_message_arrives_whole,
    a_message_of_another_process_is_found_by_polling,
    messages_of_a_key_stay_in_order_over_failures,
    a_refused_message_blocks_nothing_and_can_be_retried,
    a_full_queue_holds_up_its_own_messages_alone,
    a_destination_that_stays_away_counts_as_refused,
    a_row_of_a_later_version_is_set_aside,
    a_message_can_be_set_aside_and_discarded,
    large_bodies_come_in_several_batches,
    the_relay_outlives_a_broken_database,
    a_closed_transport_ends_the_relay_and_keeps_the_messages,
);

/// Never by polling.
pub(crate) fn only_woken() -> RelayOptions {
    RelayOptions { poll: DEADLINE * 2, ..quick() }
}

/// Short waits.
pub(crate) fn quick() -> RelayOptions {
    RelayOptions {
        poll: Duration::from_millis(20),
        backoff: Duration::from_millis(1),
        backoff_cap: Duration::from_millis(20),
        ..RelayOptions::default()
    }
}

pub(crate) fn outgoing(queue: &str, key: Option<&str>, body: impl Into<String>) -> Outgoing {
    let mut message = Envelope::new("test", body.into());
    message.key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
    Outgoing { to: Destination::Queue(queue.to_owned()), message }
}

pub(crate) async fn publish<DB: Db>(store: &Store<DB>, messages: impl IntoIterator<Item = Outgoing>) {
    let mut tx = store.begin().await.unwrap();
    for message in messages {
        tx.send(message).await.unwrap();
    }
    tx.commit().await.unwrap();
}

async fn emptied<DB: Db>(store: &Store<DB>) {
    eventually("the outbox is empty", async || (store.outbox().pending().await.unwrap() == 0).then_some(())).await;
}

async fn what_is_rolled_back_is_not_published<DB: Db>(place: Place<DB>) {
    let (store, broker) = (place.store().await, Broker::new());
    let relay = Running::start(&store, &broker, quick());
    for number in 0..5 {
        let mut tx = store.begin().await.unwrap();
        tx.send(outgoing("q", None, format!("not {number}"))).await.unwrap();
        tx.rollback().await.unwrap();
    }
    publish(&store, [outgoing("q", None, "yes")]).await;
    broker.until(1).await;
    emptied(&store).await;
    relay.stop().await;
    assert_eq!(broker.bodies(), ["yes"]);
}

async fn a_commit_wakes_the_relay_and_the_message_arrives_whole<DB: Db>(place: Place<DB>) {
    let (store, broker) = (place.store().await, Broker::new());
    let relay = Running::start(&store, &broker, only_woken());
    // One that goes out before shows that the relay is waiting when the other is committed.
    publish(&store, [outgoing("q", None, "first")]).await;
    broker.until(1).await;
    emptied(&store).await;

    let mut whole = outgoing("q", Some("k\0\u{fc}"), "body");
    whole.to = Destination::Topic("orders".to_owned());
    whole.message.id = Some(MessageId::Text("m-1".into()));
    whole.message.headers = vec![("n".into(), Value::int(7)), ("n".into(), Value::Bytes(Bytes::from_static(b"\xff")))];
    whole.message.not_before = Some(Timestamp(i64::MAX));
    whole.message.timestamp = Some(Timestamp(5));
    whole.message.priority = Some(3);
    publish(&store, [whole.clone()]).await;
    let taken = broker.until(2).await;
    whole.message.dedup_id = Some("m-1".into());
    assert_eq!(taken[1], whole);
    let first = &taken[0].message;
    assert_eq!(first.dedup_id.as_deref(), first.id.as_ref().map(MessageId::to_string).as_deref());
    assert!(first.timestamp.is_some());
    relay.stop().await;
}

async fn a_message_of_another_process_is_found_by_polling<DB: Db>(place: Place<DB>) {
    let (store, other, broker) = (place.store().await, place.store().await, Broker::new());
    let relay = Running::start(&store, &broker, quick());
    publish(&other, [outgoing("q", None, "theirs")]).await;
    broker.until(1).await;
    relay.stop().await;
}

async fn messages_of_a_key_stay_in_order_over_failures<DB: Db>(place: Place<DB>) {
    const KEYS: usize = 5;
    const EACH: usize = 20;
    let (store, broker) = (place.store().await, Broker::new());
    let seed = fastrand::u64(..);
    println_seed(seed);
    let mut random = fastrand::Rng::with_seed(seed);
    broker.rule(move |_| match random.u8(..10) {
        0..2 => Err(PublishError::Busy("now and then".to_owned())),
        2 => Err(PublishError::Unconfirmed { waited: Duration::ZERO }),
        _ => Ok(()),
    });
    let relay = Running::start(&store, &broker, RelayOptions { batch: 16, ..quick() });
    for number in 0..EACH {
        publish(&store, (0..KEYS).map(|key| outgoing("q", Some(&format!("k-{key}")), number.to_string()))).await;
    }
    broker.until(KEYS * EACH).await;
    emptied(&store).await;
    relay.stop().await;
    let mut by_key: HashMap<Bytes, Vec<usize>> = HashMap::new();
    for outgoing in broker.taken() {
        by_key.entry(outgoing.message.key.clone().unwrap()).or_default().push(body(&outgoing).parse().unwrap());
    }
    assert_eq!(by_key.len(), KEYS);
    for (key, numbers) in by_key {
        assert_eq!(numbers, (0..EACH).collect::<Vec<_>>(), "{key:?}, seed {seed}");
    }
}

/// Random tests print their seed.
fn println_seed(seed: u64) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "seed {seed}");
}

async fn a_refused_message_blocks_nothing_and_can_be_retried<DB: Db>(place: Place<DB>) {
    let (store, broker) = (place.store().await, Broker::new());
    broker.rule(|outgoing| match body(outgoing).starts_with("bad") {
        true => Err(PublishError::Refused("too large".to_owned())),
        false => Ok(()),
    });
    let relay = Running::start(&store, &broker, only_woken());
    publish(&store, ["bad 1", "good 1", "bad 2", "good 2"].map(|body| outgoing("q", Some("k"), body))).await;
    broker.until(2).await;
    emptied(&store).await;
    assert_eq!(broker.bodies(), ["good 1", "good 2"]);

    let failed = store.outbox().failed(0, 10).await.unwrap();
    let bodies = failed.iter().map(|failed| body(failed.message.as_ref().unwrap())).collect::<Vec<_>>();
    assert_eq!(bodies, ["bad 1", "bad 2"]);
    assert!(failed[0].error.contains("too large"), "{}", failed[0].error);
    assert_eq!((failed[0].destination.as_str(), failed[0].attempts), ("queue:q", 1));
    assert_eq!(store.outbox().failed(failed[0].seq, 10).await.unwrap()[..], failed[1..]);
    let backlog = store.outbox().backlog().await.unwrap();
    assert_eq!((backlog.pending, backlog.failed, backlog.oldest), (0, 2, None));

    broker.rule(|_| Ok(()));
    assert!(store.outbox().retry(failed[1].seq).await.unwrap());
    broker.until(3).await;
    assert_eq!(store.outbox().retry_failed().await.unwrap(), 1);
    let taken = broker.until(4).await;
    emptied(&store).await;
    relay.stop().await;
    assert_eq!(broker.bodies(), ["good 1", "good 2", "bad 2", "bad 1"]);
    assert_eq!(taken[3].message.id.as_ref().unwrap().to_string(), failed[0].message_id, "the id stays");
}

async fn a_full_queue_holds_up_its_own_messages_alone<DB: Db>(place: Place<DB>) {
    let (store, broker) = (place.store().await, Broker::new());
    broker.rule(|outgoing| match &outgoing.to {
        Destination::Queue(name) if name == "full" => Err(PublishError::Busy("it is full".to_owned())),
        _ => Ok(()),
    });
    let relay = Running::start(&store, &broker, RelayOptions { batch: 4, ..quick() });
    // More than one batch, all before the others.
    publish(&store, (0..12).map(|number| outgoing("full", Some("k"), format!("full {number}")))).await;
    publish(&store, (0..12).map(|number| outgoing("free", None, format!("free {number}")))).await;
    broker.until(12).await;
    assert!(broker.bodies().iter().all(|body| body.starts_with("free")));
    eventually("the others wait", async || (store.outbox().pending().await.unwrap() == 12).then_some(())).await;
    assert!(store.outbox().backlog().await.unwrap().oldest.is_some());
    broker.rule(|_| Ok(()));
    broker.until(24).await;
    emptied(&store).await;
    relay.stop().await;
    let full = (0..12).map(|number| format!("full {number}")).collect::<Vec<_>>();
    assert_eq!(broker.bodies()[12..], full);
}

async fn a_destination_that_stays_away_counts_as_refused<DB: Db>(place: Place<DB>) {
    let (store, broker) = (place.store().await, Broker::new());
    let tries = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = tries.clone();
    broker.rule(move |outgoing| match &outgoing.to {
        Destination::Queue(name) if name == "soon" && counted.fetch_add(1, Ordering::Relaxed) >= 3 => Ok(()),
        _ => Err(PublishError::NotFound("such queue".to_owned())),
    });
    let relay = Running::start(&store, &broker, quick());
    publish(&store, [outgoing("soon", None, "soon"), outgoing("never", None, "never")]).await;
    broker.until(1).await;
    emptied(&store).await;
    relay.stop().await;
    let failed = store.outbox().failed(0, 10).await.unwrap();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].attempts, 10);
    assert!(failed[0].error.contains("such queue"));
}

async fn a_row_of_a_later_version_is_set_aside<DB: Db>(place: Place<DB>) {
    let (store, broker) = (place.store().await, Broker::new());
    publish(&store, [outgoing("q", None, "later"), outgoing("q", None, "now")]).await;
    run_alone(&store, "UPDATE svc_outbox SET envelope = '{\"v\":2}' WHERE seq = (SELECT min(seq) FROM svc_outbox)")
        .await;
    let relay = Running::start(&store, &broker, quick());
    broker.until(1).await;
    emptied(&store).await;
    relay.stop().await;
    let failed = store.outbox().failed(0, 10).await.unwrap();
    assert!(failed[0].error.contains("version 2") && failed[0].message.is_none(), "{failed:?}");
}

async fn a_message_can_be_set_aside_and_discarded<DB: Db>(place: Place<DB>) {
    let store = place.store().await;
    publish(&store, [outgoing("q", None, "stuck")]).await;
    assert!(store.outbox().failed(0, 10).await.unwrap().is_empty());
    assert!(!store.outbox().discard(1).await.unwrap(), "it is on its way");
    assert!(store.outbox().set_aside(1, "by hand").await.unwrap());
    assert!(!store.outbox().set_aside(1, "by hand").await.unwrap());
    assert_eq!(store.outbox().failed(0, 10).await.unwrap()[0].error, "by hand");
    assert!(store.outbox().discard(1).await.unwrap());
    assert_eq!(store.outbox().backlog().await.unwrap(), sdk::sql::Backlog::default());
}

async fn large_bodies_come_in_several_batches<DB: Db>(place: Place<DB>) {
    let (store, broker) = (place.store().await, Broker::new());
    let megabytes = |count: usize| "x".repeat(count << 20);
    publish(&store, [9, 3, 3, 3, 1].map(|count| outgoing("q", None, megabytes(count)))).await;
    let relay = Running::start(&store, &broker, quick());
    let taken = broker.until(5).await;
    relay.stop().await;
    let sizes: Vec<usize> = taken.iter().map(|outgoing| body(outgoing).len() >> 20).collect();
    assert_eq!(sizes, [9, 3, 3, 3, 1]);
    // The first is over the bound alone, the next three reach it.
    assert_eq!(broker.calls(), [1, 3, 1]);
}

async fn the_relay_outlives_a_broken_database<DB: Db>(place: Place<DB>) {
    let (store, broker) = (place.store().await, Broker::new());
    let relay = Running::start(&store, &broker, quick());
    publish(&store, [outgoing("q", None, "before")]).await;
    broker.until(1).await;
    emptied(&store).await;
    run_alone(&store, "ALTER TABLE svc_leases RENAME TO hidden_leases").await;
    run_alone(&store, "ALTER TABLE svc_outbox RENAME TO hidden_outbox").await;
    let mut tx = store.begin().await.unwrap();
    let error = tx.send(outgoing("q", None, "lost")).await.unwrap_err();
    assert!(matches!(error, SqlError::Database { .. }), "{error}");
    drop(tx);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!relay.task.is_finished());
    run_alone(&store, "ALTER TABLE hidden_outbox RENAME TO svc_outbox").await;
    run_alone(&store, "ALTER TABLE hidden_leases RENAME TO svc_leases").await;
    publish(&store, [outgoing("q", None, "after")]).await;
    broker.until(2).await;
    relay.stop().await;
    assert_eq!(broker.bodies(), ["before", "after"]);
}

async fn a_closed_transport_ends_the_relay_and_keeps_the_messages<DB: Db>(place: Place<DB>) {
    let (store, broker) = (place.store().await, Broker::new());
    broker.rule(|_| Err(PublishError::Closed));
    let relay = Running::start(&store, &broker, only_woken());
    publish(&store, [outgoing("q", None, "kept")]).await;
    let ended = tokio::time::timeout(DEADLINE, relay.task).await.unwrap().unwrap();
    assert!(matches!(ended, Err(RelayError::TransportClosed)), "{ended:?}");
    assert_eq!(store.outbox().pending().await.unwrap(), 1);
    // The lease was given back: the next one need not wait for it.
    broker.rule(|_| Ok(()));
    let next = Running::start(&store, &broker, RelayOptions { lease: DEADLINE * 2, ..quick() });
    broker.until(1).await;
    next.stop().await;
    let mut tx = store.begin().await.unwrap();
    run(&mut tx, "DELETE FROM svc_outbox").await;
}
