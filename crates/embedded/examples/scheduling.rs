//! Messages for later: after a delay, and at a time. docs/sdk/scheduling.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::time::Duration;

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::{Error, Event, Message, Publishing, Service, State};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.created", topic = "orders", key = "order_id")]
struct OrderCreated {
    order_id: String,
}

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "reminder.due", topic = "reminders", key = "order_id")]
struct ReminderDue {
    order_id: String,
}

// Published with the acknowledgement of the order, delivered in three days.
async fn remind_later(Event(order): Event<OrderCreated>) -> Result<Publishing, Error> {
    Ok(Publishing::of(&ReminderDue { order_id: order.order_id })?.delay(3 * DAY))
}

async fn remind(State(told): State<mpsc::Sender<String>>, Event(reminder): Event<ReminderDue>) -> Result<(), Error> {
    Ok(told.send(reminder.order_id).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::builder().manual_clock().start().await?;
    let (tell, mut told) = mpsc::channel(8);
    let service = Service::new("reminders").state(tell).on(remind_later).on(remind).start(broker.transport()).await?;

    service.client().publish(&OrderCreated { order_id: "o-1".to_owned() }).await?;
    let tomorrow = broker.transport().now().after(DAY);
    let reminder = Publishing::of(&ReminderDue { order_id: "o-2".to_owned() })?.at(tomorrow);
    service.client().send(reminder).await?;

    let (mut days, mut reminders) = (0, Vec::new());
    while reminders.len() < 2 {
        tokio::select! {
            reminder = told.recv() => {
                println!("day {days}: {}", reminder.as_deref().unwrap_or_default());
                reminders.push(days);
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                broker.advance(DAY).await;
                days += 1;
            }
        }
    }
    service.stop().await;
    println!("done: {} reminders", reminders.len());
    Ok(())
}
