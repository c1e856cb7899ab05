//! Several relays on one outbox.

use std::collections::HashSet;
use std::time::Duration;

use sdk::sql::{Relay, RelayError, RelayOptions};
use tokio_util::sync::CancellationToken;

use super::broker::{Broker, Running, body};
use super::db::{Db, Place, eventually};
use super::on_both;
use super::outbox::{outgoing, publish, quick};

on_both!(
    of_two_relays_one_works_and_nothing_is_published_twice,
    the_next_relay_goes_on_when_one_is_gone_without_a_word,
    a_stopped_relay_hands_over_at_once,
    a_slow_broker_does_not_cost_the_lease,
    options_that_make_no_sense_are_refused,
);

const MESSAGES: usize = 200;

fn numbers(broker: &Broker) -> Vec<usize> {
    broker.taken().iter().map(|outgoing| body(outgoing).parse().unwrap()).collect()
}

async fn of_two_relays_one_works_and_nothing_is_published_twice<DB: Db>(place: Place<DB>) {
    let (one, other, broker) = (place.store().await, place.store().await, Broker::new());
    broker.takes(Duration::from_millis(1));
    let relays = [&one, &other].map(|store| Running::start(store, &broker, RelayOptions { batch: 8, ..quick() }));
    for number in 0..MESSAGES {
        // Both wake their own relay.
        let store = if number % 2 == 0 { &one } else { &other };
        publish(store, [outgoing("q", Some("k"), number.to_string())]).await;
    }
    broker.until(MESSAGES).await;
    eventually("empty", async || (one.outbox().pending().await.unwrap() == 0).then_some(())).await;
    for relay in relays {
        relay.stop().await;
    }
    assert_eq!(numbers(&broker), (0..MESSAGES).collect::<Vec<_>>());
}

async fn the_next_relay_goes_on_when_one_is_gone_without_a_word<DB: Db>(place: Place<DB>) {
    let (one, other, broker) = (place.store().await, place.store().await, Broker::new());
    let options = RelayOptions { batch: 8, lease: Duration::from_millis(500), ..quick() };
    broker.takes(Duration::from_millis(2));
    let first = Running::start(&one, &broker, options.clone());
    publish(&one, (0..MESSAGES).map(|number| outgoing("q", Some("k"), number.to_string()))).await;
    broker.until(20).await;
    let second = Running::start(&other, &broker, options);
    broker.until(40).await;
    // Nothing of it goes on: no lease is given back.
    first.task.abort();
    eventually("empty", async || (other.outbox().pending().await.unwrap() == 0).then_some(())).await;
    second.stop().await;
    let taken = numbers(&broker);
    // What was on its way when the first one went may be there twice, and that is all.
    assert!(taken.len() <= MESSAGES + 1, "{taken:?}");
    let mut seen = HashSet::new();
    let firsts: Vec<usize> = taken.into_iter().filter(|number| seen.insert(*number)).collect();
    assert_eq!(firsts, (0..MESSAGES).collect::<Vec<_>>());
    let ids: HashSet<_> = broker.taken().iter().map(|outgoing| outgoing.message.id.clone()).collect();
    assert_eq!(ids.len(), MESSAGES, "what is published again keeps its id");
}

async fn a_stopped_relay_hands_over_at_once<DB: Db>(place: Place<DB>) {
    let (one, other, broker) = (place.store().await, place.store().await, Broker::new());
    let options = RelayOptions { lease: Duration::from_secs(3600), ..quick() };
    let first = Running::start(&one, &broker, options.clone());
    publish(&one, [outgoing("q", None, "0")]).await;
    broker.until(1).await;
    let second = Running::start(&other, &broker, options);
    first.stop().await;
    publish(&one, [outgoing("q", None, "1")]).await;
    broker.until(2).await;
    second.stop().await;
    assert_eq!(numbers(&broker), [0, 1]);
}

async fn a_slow_broker_does_not_cost_the_lease<DB: Db>(place: Place<DB>) {
    let (one, other, broker) = (place.store().await, place.store().await, Broker::new());
    let options = RelayOptions { lease: Duration::from_millis(400), ..quick() };
    // A confirmation takes longer than the lease, which is renewed meanwhile.
    broker.takes(Duration::from_millis(1500));
    let first = Running::start(&one, &broker, options.clone());
    publish(&one, [outgoing("q", None, "0")]).await;
    broker.until(1).await;
    let second = Running::start(&other, &broker, options);
    eventually("confirmed", async || (one.outbox().pending().await.unwrap() == 0).then_some(())).await;
    first.stop().await;
    second.stop().await;
    assert_eq!(numbers(&broker), [0], "the other relay kept away");
}

async fn options_that_make_no_sense_are_refused<DB: Db>(place: Place<DB>) {
    let (store, broker) = (place.store().await, Broker::new());
    for options in [
        RelayOptions { batch: 0, ..quick() },
        RelayOptions { batch: 1000, ..quick() },
        RelayOptions { lease: Duration::ZERO, ..quick() },
        RelayOptions { poll: Duration::ZERO, ..quick() },
        RelayOptions { backoff_cap: Duration::ZERO, ..quick() },
    ] {
        let ended = Relay::run(store.clone(), broker.clone(), options, CancellationToken::new()).await;
        assert!(matches!(ended, Err(RelayError::Options(_))), "{ended:?}");
    }
}
