//! A saga by orchestration: a checkout that is undone because the card is declined. docs/sdk/saga.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::time::Duration;

use embedded::Embedded;
use sdk::saga::{Data, Saga, SagaHandle, SagaStore, Sagas, Step, StepContext};
use sdk::{Error, Service};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Checkout {
    order_id: String,
    cents: u32,
    reservation: Option<String>,
}

async fn reserve(Data(mut order): Data<Checkout>, step: StepContext) -> Result<Checkout, Error> {
    // The same key in each attempt: whoever reserves takes it once.
    order.reservation = Some(step.idempotency_key());
    println!("reserved for {}", order.order_id);
    Ok(order)
}

async fn release(Data(mut order): Data<Checkout>) -> Result<Checkout, Error> {
    if let Some(reservation) = order.reservation.take() {
        println!("released {reservation}");
    }
    Ok(order)
}

async fn pay(Data(order): Data<Checkout>) -> Result<Checkout, Error> {
    if order.cents > 10_000 {
        return Err(Error::terminal("the card was declined"));
    }
    println!("took {} cents", order.cents);
    Ok(order)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let checkout = Saga::new("checkout")
        .step(Step::new("reserve", reserve).compensate(release))
        .step(Step::new("pay", pay))
        .deadline(Duration::from_secs(15 * 60));
    let store = SagaStore::topic();
    let service = Service::new("order").saga(checkout, store.clone()).start(broker.transport()).await?;

    let checkouts = SagaHandle::new("order", "checkout");
    let sagas = Sagas::new(service.client().clone(), "order", "checkout", &store);
    let mut ends = Vec::new();
    for (order_id, cents) in [("o-1", 500), ("o-2", 50_000)] {
        let order = Checkout { order_id: order_id.to_owned(), cents, reservation: None };
        service.client().send(checkouts.start(order_id, &order)?).await?;
        let saga = loop {
            match sagas.get(order_id).await? {
                Some(saga) if saga.status.is_over() => break saga,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let why = saga.error.map(|why| format!(", since {why}")).unwrap_or_default();
        println!("{order_id}: {}{why}", saga.status.as_str());
        ends.push(saga.status.as_str());
    }
    service.stop().await;
    println!("done: {}", ends.join(", "));
    Ok(())
}
