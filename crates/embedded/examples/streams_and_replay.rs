//! A topic that keeps its log, and a report that is built from it: later, again, and anew. docs/sdk/streams-and-replay.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::time::Duration;

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::transport::RetentionSpec;
use sdk::{Context, Error, Event, Message, Replay, Service, State};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.confirmed", topic = "orders", key = "order_id")]
struct OrderConfirmed {
    order_id: String,
    cents: u64,
}

async fn add(
    State(sales): State<mpsc::Sender<u64>>,
    Event(order): Event<OrderConfirmed>,
    context: Context,
) -> Result<(), Error> {
    let at = context.get::<sdk::transport::Position>().unwrap_or_default();
    println!("analytics: {} at {}/{}", order.order_id, at.partition, at.offset);
    Ok(sales.send(order.cents).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let week = RetentionSpec { max_age: Some(Duration::from_secs(7 * 24 * 3600)), ..RetentionSpec::default() };
    let orders = Service::new("order").keeps("orders", week).publishes::<OrderConfirmed>();
    let orders = orders.start(broker.transport()).await?;
    for (order_id, cents) in [("o-1", 100), ("o-2", 250)] {
        orders.client().publish(&OrderConfirmed { order_id: order_id.to_owned(), cents }).await?;
    }

    let (sales, mut sold) = mpsc::channel(8);
    let analytics = |version| {
        let report = Replay::new("sales", "orders").version(version).on(add);
        Service::new("analytics").state(sales.clone()).replay(report).start(broker.transport())
    };

    // A service that was not there yet when they came has them all.
    let service = analytics(1).await?;
    let mut total = sold.recv().await.unwrap_or(0) + sold.recv().await.unwrap_or(0);
    service.stop().await;

    // It goes on where it was.
    orders.client().publish(&OrderConfirmed { order_id: "o-3".to_owned(), cents: 50 }).await?;
    let service = analytics(1).await?;
    total += sold.recv().await.unwrap_or(0);
    service.stop().await;
    println!("sold for {total} cents");

    // Another version of the report reads all of it again.
    let service = analytics(2).await?;
    let mut again = 0;
    for _ in 0..3 {
        again += sold.recv().await.unwrap_or(0);
    }
    service.stop().await;
    orders.stop().await;
    println!("done: {again} cents, the same as {total}");
    Ok(())
}
