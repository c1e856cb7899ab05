//! Publish/subscribe: one message, three services, each at its own pace. docs/sdk/publish-subscribe.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::{Context, Envelope, Error, Event, Message, Service, State, Subscription};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.created", topic = "orders", key = "order_id")]
struct OrderCreated {
    order_id: String,
}

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "stock.reserved", topic = "stock", key = "order_id")]
struct StockReserved {
    order_id: String,
}

type Done = mpsc::Sender<&'static str>;

// What a handler returns is published, together with the acknowledgement of what it handled.
async fn reserve(Event(order): Event<OrderCreated>) -> StockReserved {
    println!("inventory: reserved for {}", order.order_id);
    StockReserved { order_id: order.order_id }
}

async fn mail(State(done): State<Done>, Event(stock): Event<StockReserved>, context: Context) -> Result<(), Error> {
    println!("mail: {} is reserved, conversation {}", stock.order_id, context.correlation_id());
    Ok(done.send("mail").await?)
}

// Without an `Event` argument a handler takes whatever comes from where its subscription says.
async fn audit(State(done): State<Done>, message: Envelope) -> Result<(), Error> {
    println!("audit: {}", String::from_utf8_lossy(&message.subject));
    Ok(done.send("audit").await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let (done, mut told) = mpsc::channel(8);

    let inventory = Service::new("inventory").on(reserve).publishes::<StockReserved>();
    let inventory = inventory.start(broker.transport()).await?;
    let mailer = Service::new("mailer").state(done.clone()).on(mail).start(broker.transport()).await?;
    let everything = Subscription::new(audit).named("everything").from_topic("orders", "#");
    let auditor = Service::new("auditor").state(done).with(everything).start(broker.transport()).await?;

    inventory.client().publish(&OrderCreated { order_id: "o-1".to_owned() }).await?;
    let mut seen = [told.recv().await, told.recv().await];
    seen.sort();
    for service in [inventory, mailer, auditor] {
        service.stop().await;
    }
    println!("done: {seen:?} have seen it");
    Ok(())
}
