//! Retries: an unknown error is tried again, by the broker, and hours take no time in a test. docs/sdk/retries.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::time::Duration;

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::transport::RetrySpec;
use sdk::{Context, Error, Event, Message, Service, State, Subscription};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "payment.due", topic = "payments", key = "order_id")]
struct PaymentDue {
    order_id: String,
}

async fn charge(
    State(done): State<mpsc::Sender<u32>>,
    Event(payment): Event<PaymentDue>,
    context: Context,
) -> Result<(), Error> {
    println!("attempt {} for {}", context.attempt(), payment.order_id);
    if context.attempt() < 3 {
        // Any error by `?` does the same. `Error::retry_after` would say when.
        return Err(Error::transient("the bank does not answer"));
    }
    Ok(done.send(context.attempt()).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::builder().manual_clock().start().await?;
    let (done, mut told) = mpsc::channel(1);

    let hour = Duration::from_secs(3600);
    let retry = RetrySpec { max_attempts: Some(10), initial: hour, factor: 2.0, cap: 24 * hour, jitter: true };
    let service = Service::new("payment").state(done).with(Subscription::new(charge).retry(retry));
    let service = service.start(broker.transport()).await?;
    service.client().publish(&PaymentDue { order_id: "o-1".to_owned() }).await?;

    let attempts = loop {
        tokio::select! {
            attempt = told.recv() => break attempt.unwrap_or_default(),
            () = tokio::time::sleep(Duration::from_millis(50)) => broker.advance(hour).await,
        }
    };
    service.stop().await;
    println!("done: charged at attempt {attempts}");
    Ok(())
}
