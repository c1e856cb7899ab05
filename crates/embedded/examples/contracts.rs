//! Contracts: versions, upcasts, what happens to a version that nobody knows, and the AsyncAPI document. docs/sdk/contracts.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::time::Duration;

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::{Error, Event, Message, Publishing, Service, State, headers};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.created", version = 1, topic = "orders")]
struct OrderCreatedV1 {
    order_id: String,
    euros: i64,
}

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.created", version = 2, topic = "orders", upcast(1 = OrderCreatedV1))]
struct OrderCreated {
    order_id: String,
    cents: i64,
}

impl From<OrderCreatedV1> for OrderCreated {
    fn from(old: OrderCreatedV1) -> Self {
        Self { order_id: old.order_id, cents: old.euros * 100 }
    }
}

async fn total(State(cents): State<mpsc::Sender<i64>>, Event(order): Event<OrderCreated>) -> Result<(), Error> {
    println!("{}: {} cents", order.order_id, order.cents);
    Ok(cents.send(order.cents).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let transport = broker.transport();
    let (cents, mut told) = mpsc::channel(8);
    let service = Service::new("report").version("1.4.0").state(cents).on(total);
    let document = service.asyncapi(None);
    println!("AsyncAPI {}: {}", document["asyncapi"], document["info"]["title"]);
    let service = service.start(transport.clone()).await?;

    let old = OrderCreatedV1 { order_id: "o-1".to_owned(), euros: 3 };
    service.client().publish(&old).await?;
    let new = OrderCreated { order_id: "o-2".to_owned(), cents: 250 };
    service.client().publish(&new).await?;
    let sum = told.recv().await.unwrap_or(0) + told.recv().await.unwrap_or(0);

    // Of a version that this service does not know.
    let newer = Publishing::of(&new)?;
    let (to, mut envelope) = (newer.destination().clone(), newer.as_envelope().clone());
    headers::set(&mut envelope, headers::VERSION, "3");
    service.client().send(Publishing::envelope(to, envelope)).await?;
    let letters = loop {
        match transport.browse("report.order.created.dlq", 1).await? {
            none if none.is_empty() => tokio::time::sleep(Duration::from_millis(5)).await,
            letters => break letters,
        }
    };
    println!("dead letter: {}", headers::text(&letters[0], "ph-dead-letter-error").unwrap_or_default());
    service.stop().await;
    println!("done: {sum} cents, {} dead letter", letters.len());
    Ok(())
}
