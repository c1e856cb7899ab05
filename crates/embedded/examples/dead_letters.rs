//! Dead letters: what is given up is kept with its reason, and goes back when it can be done. docs/sdk/dead-letters-and-redrive.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::{Error, Event, Message, Service, State, headers};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.created", topic = "orders", key = "order_id")]
struct OrderCreated {
    order_id: String,
    product: String,
}

async fn reserve(State(sells_tea): State<Arc<AtomicBool>>, Event(order): Event<OrderCreated>) -> Result<(), Error> {
    if order.product == "tea" && !sells_tea.load(Ordering::SeqCst) {
        // Trying again is in vain: it is a dead letter at once.
        return Err(Error::terminal(format!("there is no product {:?}", order.product)));
    }
    println!("reserved {} for {}", order.product, order.order_id);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let transport = broker.transport();
    let sells_tea = Arc::new(AtomicBool::new(false));
    let service = Service::new("inventory").state(Arc::clone(&sells_tea)).on(reserve).start(transport.clone()).await?;
    let order = OrderCreated { order_id: "o-1".to_owned(), product: "tea".to_owned() };
    service.client().publish(&order).await?;

    let queue = "inventory.order.created";
    let letters = loop {
        match service.client().dead_letters(queue, 10).await? {
            none if none.is_empty() => tokio::time::sleep(Duration::from_millis(5)).await,
            letters => break letters,
        }
    };
    for letter in &letters {
        let error = headers::text(letter, "ph-dead-letter-error").unwrap_or_default();
        println!("dead letter: {error}");
    }

    // The shop sells tea now, and what waited for it gets a new chance.
    sells_tea.store(true, Ordering::SeqCst);
    let moved = service.client().redrive(queue).await?;
    while transport.queue_len(queue).await? > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = service.client().dead_letters(queue, 10).await?.len();
    service.stop().await;
    println!("done: {moved} moved back, {left} left");
    Ok(())
}
