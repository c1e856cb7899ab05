//! A saga by choreography: services that react to each other's events, and undo by an event. docs/sdk/saga.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::{Context, Error, Event, Message, Publishing, Service, State};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.created", topic = "orders", key = "order_id")]
struct OrderCreated {
    order_id: String,
    cents: u32,
}

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "stock.reserved", topic = "stock", key = "order_id")]
struct StockReserved {
    order_id: String,
    cents: u32,
}

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "payment.declined", topic = "payments", key = "order_id")]
struct PaymentDeclined {
    order_id: String,
}

type Done = mpsc::Sender<String>;

async fn reserve(Event(order): Event<OrderCreated>) -> StockReserved {
    println!("inventory: reserved for {}", order.order_id);
    StockReserved { order_id: order.order_id, cents: order.cents }
}

async fn pay(Event(stock): Event<StockReserved>) -> Option<PaymentDeclined> {
    println!("payment: {} cents are declined", stock.cents);
    (stock.cents > 10_000).then_some(PaymentDeclined { order_id: stock.order_id })
}

// The compensation is a handler like any other. All of it has one correlation id.
async fn release(
    State(done): State<Done>,
    Event(payment): Event<PaymentDeclined>,
    context: Context,
) -> Result<(), Error> {
    println!("inventory: released {}", payment.order_id);
    Ok(done.send(context.correlation_id()).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let (done, mut told) = mpsc::channel(1);
    let inventory = Service::new("inventory").state(done).on(reserve).on(release).publishes::<StockReserved>();
    let inventory = inventory.start(broker.transport()).await?;
    let payment = Service::new("payment").on(pay).publishes::<PaymentDeclined>().start(broker.transport()).await?;

    let order = OrderCreated { order_id: "o-1".to_owned(), cents: 50_000 };
    inventory.client().send(Publishing::of(&order)?.id("placed-o-1")).await?;
    let conversation = told.recv().await.unwrap_or_default();
    inventory.stop().await;
    payment.stop().await;
    println!("done: {conversation} is undone");
    Ok(())
}
