//! Which services run, and whether one can work. docs/sdk/discovery-and-health.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::discovery::Directory;
use sdk::{Client, Event, Message, Service};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.created", topic = "orders")]
struct OrderCreated {}

async fn reserve(Event(_): Event<OrderCreated>) {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let mut directory = Directory::watch(&Client::new(broker.transport())).await?;

    let database_is_there = Arc::new(AtomicBool::new(true));
    let looked_at = Arc::clone(&database_is_there);
    let inventory = Service::new("inventory")
        .version("1.2.0")
        .endpoint("http", "http://127.0.0.1:8080")
        .on(reserve)
        .check("database", move || {
            let there = looked_at.load(Ordering::SeqCst);
            async move { there.then_some(()).ok_or_else(|| "connection refused".to_owned()) }
        })
        .start(broker.transport())
        .await?;

    // GET /readyz and /livez, for whoever runs it.
    let address = inventory.health().serve(([127, 0, 0, 1], 0).into()).await?;
    println!("health at http://{address}/readyz, ready: {}", inventory.health().is_ready().await);
    database_is_there.store(false, Ordering::SeqCst);
    println!("not ready: {:?}", inventory.health().problems().await);

    while directory.of("inventory").is_empty() {
        directory.changed().await;
    }
    for instance in directory.of("inventory") {
        println!(
            "{} {}: {:?} consumes {:?}",
            instance.service, instance.version, instance.endpoints, instance.consumes
        );
    }
    inventory.stop().await;
    while !directory.of("inventory").is_empty() {
        directory.changed().await;
    }
    println!("done: it said goodbye");
    Ok(())
}
