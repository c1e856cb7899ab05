//! One order, one trace: two services, exported by OTLP to a collector that keeps what it gets. docs/sdk/telemetry.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::time::Duration;

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::telemetry::{Guard, Identity};
use sdk::testkit::collector::Collector;
use sdk::{Error, Event, Message, Service, State};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.created", topic = "orders")]
struct OrderCreated {}

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "stock.reserved", topic = "stock")]
struct StockReserved {}

async fn reserve(Event(_): Event<OrderCreated>) -> StockReserved {
    StockReserved {}
}

async fn mail(State(done): State<mpsc::Sender<()>>, Event(_): Event<StockReserved>) -> Result<(), Error> {
    Ok(done.send(()).await?)
}

/// In a process of its own, `telemetry::otlp(&identity, None)` at the beginning of `main` is all of it.
fn exporting(service: &str, collector: &Collector) -> Result<Guard, Box<dyn std::error::Error>> {
    let identity = Identity { service: service.to_owned(), version: "1.0.0".to_owned(), instance: "1".to_owned() };
    Ok(Guard::new(&identity, Some(&collector.endpoint()))?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let collector = Collector::start().await?;
    let (of_inventory, of_mailer) = (exporting("inventory", &collector)?, exporting("mailer", &collector)?);
    let (done, mut told) = mpsc::channel(1);

    let inventory = Service::new("inventory").telemetry(of_inventory.providers()).on(reserve);
    let inventory = inventory.publishes::<StockReserved>().start(broker.transport()).await?;
    let mailer = Service::new("mailer").telemetry(of_mailer.providers()).state(done).on(mail);
    let mailer = mailer.start(broker.transport()).await?;

    inventory.client().publish(&OrderCreated {}).await?;
    told.recv().await;
    inventory.stop().await;
    mailer.stop().await;
    of_inventory.flush();
    of_mailer.flush();

    let mut spans = collector.wait(Duration::from_secs(10), |spans| spans.len() >= 4).await;
    spans.sort_by_key(|span| span.times_ns.0);
    for span in &spans {
        let parent = spans.iter().find(|parent| span.is_child_of(parent)).map(|parent| parent.name.as_str());
        println!("{}: {} (child of {})", span.service, span.name, parent.unwrap_or("nothing"));
    }
    let mut traces: Vec<&str> = spans.iter().map(|span| span.trace_id.as_str()).collect();
    traces.dedup();
    println!("done: {} spans, {} trace", spans.len(), traces.len());
    Ok(())
}
