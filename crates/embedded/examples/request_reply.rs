//! Request and reply: typed, with a deadline, cancellation, and one question to many. docs/sdk/request-reply.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::time::Duration;

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::{Answer, Client, Context, Error, Message, Request, RequestError, Service, State};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "stock.level")]
struct StockLevel {
    left: u32,
    warehouse: String,
}

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "stock.check", reply = StockLevel)]
struct CheckStock {
    product: String,
}

async fn check(
    State(warehouse): State<String>,
    Request(question): Request<CheckStock>,
    context: Context,
) -> Result<Answer<CheckStock>, Error> {
    println!("{warehouse}: who asks waits for {:?} at most", context.deadline());
    match question.product.as_str() {
        "unicorn" => Err(Error::terminal("there are no unicorns")),
        "slow" => std::future::pending().await, // dropped as soon as nobody waits for it
        _ => Ok(Answer(StockLevel { left: 3, warehouse })),
    }
}

fn of(product: &str) -> CheckStock {
    CheckStock { product: product.to_owned() }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let client = Client::new(broker.transport());

    let nobody = client.request(&of("tea")).await;
    println!("nobody is there: {}", matches!(nobody, Err(RequestError::NoResponder { .. })));

    let mut services = Vec::new();
    for warehouse in ["north", "south"] {
        let service = Service::new(warehouse).state(warehouse.to_owned()).reply(check);
        services.push(service.start(broker.transport()).await?);
    }

    let level = client.request(&of("tea")).within(Duration::from_secs(2)).await?;
    println!("the first answer: {level:?}");

    let late = client.request(&of("slow")).within(Duration::from_millis(100)).await;
    println!("too late: {}", matches!(late, Err(RequestError::Deadline { .. })));

    let refused = client.request(&of("unicorn")).await;
    println!("refused: {}", matches!(refused, Err(RequestError::Refused(_))));

    let answers = client.gather(&of("tea")).at_most(2).within(Duration::from_secs(2)).await?;
    let left: u32 = answers.into_iter().flatten().map(|level| level.left).sum();
    for service in services {
        service.stop().await;
    }
    println!("done: {left} are left in all warehouses");
    Ok(())
}
