//! Circuit breakers: a consumer that pauses while what it needs is away. docs/sdk/circuit-breaker.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use embedded::Embedded;
use parking_lot::Mutex;
use schemars::JsonSchema;
use sdk::{Breaker, Error, Event, Message, Service, State, Subscription};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.created", topic = "orders")]
struct OrderCreated {
    number: u32,
}

/// A database that is away for its first calls.
#[derive(Clone, Default)]
struct Database {
    calls: Arc<AtomicU32>,
    saved: Arc<Mutex<BTreeSet<u32>>>,
}

async fn save(State(database): State<Database>, Event(order): Event<OrderCreated>) -> Result<(), Error> {
    if database.calls.fetch_add(1, Ordering::SeqCst) < 5 {
        return Err(Error::transient("the database is away"));
    }
    database.saved.lock().insert(order.number);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::builder().manual_clock().start().await?;
    let database = Database::default();

    let breaker = Breaker { failure_ratio: 0.5, window: 4, pause: Duration::from_secs(10) };
    let subscription = Subscription::new(save).concurrency(1).breaker(breaker);
    let service = Service::new("order").state(database.clone()).with(subscription).start(broker.transport()).await?;
    for number in 0..50 {
        service.client().publish(&OrderCreated { number }).await?;
    }

    while database.calls.load(Ordering::SeqCst) < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    println!("paused after {} calls of 50 messages", database.calls.load(Ordering::SeqCst));

    // The pause is over, one message is tried and fails, another pause, one succeeds, and all others follow.
    while database.saved.lock().len() < 50 {
        broker.advance(Duration::from_secs(10)).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    service.stop().await;
    println!("done: {} saved, though the database was away for 5 calls", database.saved.lock().len());
    Ok(())
}
