//! Order by key: a key whose message fails is parked, and the others go on. docs/sdk/per-key-order.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::time::Duration;

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::{Context, Error, Event, Message, Service, State, Subscription};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "account.entry", topic = "entries", key = "account")]
struct Entry {
    account: String,
    number: u32,
}

async fn book(
    State(booked): State<mpsc::Sender<String>>,
    Event(entry): Event<Entry>,
    context: Context,
) -> Result<(), Error> {
    if entry.account == "ann" && context.attempt() == 1 {
        return Err(Error::transient("the account is locked"));
    }
    Ok(booked.send(format!("{}{}", entry.account, entry.number)).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::builder().manual_clock().start().await?;
    let (booked, mut told) = mpsc::channel(8);
    let subscription = Subscription::new(book).keyed().concurrency(16);
    let service = Service::new("ledger").state(booked).with(subscription).start(broker.transport()).await?;
    for number in 1..=2 {
        for account in ["ann", "bob"] {
            service.client().publish(&Entry { account: account.to_owned(), number }).await?;
        }
    }

    // Ann's entries wait for the retry of her first one; Bob's do not.
    let mut order = vec![told.recv().await.unwrap_or_default(), told.recv().await.unwrap_or_default()];
    println!("while Ann waits: {order:?}");
    while order.len() < 4 {
        tokio::select! {
            entry = told.recv() => order.extend(entry),
            () = tokio::time::sleep(Duration::from_millis(10)) => broker.advance(Duration::from_secs(1)).await,
        }
    }
    service.stop().await;
    println!("done: {}", order.join(" "));
    Ok(())
}
