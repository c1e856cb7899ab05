//! The transactional outbox: a row and a message, both or neither. docs/sdk/outbox.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::sql::{SqlError, Store};
use sdk::{Error, Event, Message, Service, State};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.created", topic = "orders", key = "order_id")]
struct OrderCreated {
    order_id: String,
}

/// What an HTTP handler would call.
async fn place_order(store: &Store<Sqlite>, order_id: &str) -> Result<(), SqlError> {
    let mut tx = store.begin().await?;
    let insert = sqlx::query("INSERT INTO orders (id) VALUES ($1)").bind(order_id).execute(tx.connection()).await;
    if insert.is_err() {
        return tx.rollback().await;
    }
    // Nothing can be published here without the transaction, and nothing is before it is committed.
    tx.publish(&OrderCreated { order_id: order_id.to_owned() }).await?;
    tx.commit().await
}

async fn note(State(seen): State<mpsc::Sender<String>>, Event(order): Event<OrderCreated>) -> Result<(), Error> {
    Ok(seen.send(order.order_id).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("order.db")).await?;
    sqlx::query("CREATE TABLE orders (id TEXT PRIMARY KEY)").execute(store.pool()).await?;

    // The broker need not be there, nor the service that listens: the message waits with the row.
    place_order(&store, "o-1").await?;
    place_order(&store, "o-1").await?; // the row is there already: neither is kept
    place_order(&store, "o-2").await?;
    println!("{} messages wait in the outbox", store.outbox().pending().await?);

    let (seen, mut told) = mpsc::channel(8);
    let service = Service::new("inventory").state(seen).on(note).start(broker.transport()).await?;
    let orders = Service::new("order").publishes::<OrderCreated>().outbox(&store).start(broker.transport()).await?;
    println!("published: {:?}", (told.recv().await, told.recv().await));
    while store.outbox().pending().await? > 0 {
        tokio::task::yield_now().await;
    }
    orders.stop().await;
    service.stop().await;
    println!("done: {} messages wait in the outbox", store.outbox().pending().await?);
    Ok(())
}
