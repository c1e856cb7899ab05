//! An idempotent consumer: a message that comes twice has its effect once. docs/sdk/idempotent-consumer.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::time::Duration;

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::sql::{Store, Transactional};
use sdk::{Error, Event, Message, Publishing, Service, State, Subscription};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "payment.due", topic = "payments", key = "order_id")]
struct PaymentDue {
    order_id: String,
    cents: i64,
}

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "payment.taken", topic = "payments", key = "order_id")]
struct PaymentTaken {
    order_id: String,
}

// The row, the note that the message was handled, and the message that follows are one transaction.
async fn charge(mut tx: Transactional<Sqlite>, Event(payment): Event<PaymentDue>) -> Result<PaymentTaken, Error> {
    sqlx::query("INSERT INTO charges (order_id, cents) VALUES ($1, $2)")
        .bind(&payment.order_id)
        .bind(payment.cents)
        .execute(tx.connection())
        .await?;
    Ok(PaymentTaken { order_id: payment.order_id })
}

async fn taken(State(done): State<mpsc::Sender<String>>, Event(payment): Event<PaymentTaken>) -> Result<(), Error> {
    Ok(done.send(payment.order_id).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("payment.db")).await?;
    sqlx::query("CREATE TABLE charges (order_id TEXT, cents INTEGER)").execute(store.pool()).await?;

    let payment = Service::new("payment")
        .with(Subscription::new(charge).idempotent(&store))
        .outbox(&store) // what a handler returns leaves by it
        .publishes::<PaymentTaken>();
    let payment = payment.start(broker.transport()).await?;
    let (done, mut told) = mpsc::channel(8);
    let mailer = Service::new("mailer").state(done).on(taken).start(broker.transport()).await?;

    // Somebody presses the button three times: three messages of one id.
    let due = Publishing::of(&PaymentDue { order_id: "o-1".to_owned(), cents: 1200 })?.id("due-o-1");
    for _ in 0..3 {
        payment.client().send(due.clone()).await?;
    }
    while broker.transport().queue_len("payment.payment.due").await? > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("told that {} is paid", told.recv().await.unwrap_or_default());
    payment.stop().await;
    mailer.stop().await;

    let (charges,): (i64,) = sqlx::query_as("SELECT count(*) FROM charges").fetch_one(store.pool()).await?;
    println!("done: 3 messages, {charges} charge");
    Ok(())
}
