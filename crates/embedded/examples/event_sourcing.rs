//! Event sourcing: an account that is what happened to it, and a projection of all accounts. docs/sdk/event-sourcing.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::event_sourcing::{Aggregate, Repository, UpdateError};
use sdk::{Error, Event, Message, Replay, Service, State};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "account.changed", topic = "accounts")]
enum AccountEvent {
    Deposited { cents: u64 },
    Withdrawn { cents: u64 },
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Account {
    cents: u64,
}

impl Aggregate for Account {
    type Event = AccountEvent;

    fn apply(&mut self, event: AccountEvent) {
        match event {
            AccountEvent::Deposited { cents } => self.cents += cents,
            AccountEvent::Withdrawn { cents } => self.cents -= cents,
        }
    }
}

async fn withdraw(accounts: &Repository<Account>, id: &str, cents: u64) -> Result<u64, UpdateError> {
    // Decided again if somebody else appended in between.
    let decide = |account: &Account| {
        if account.cents < cents {
            return Err(Error::terminal(format!("there are only {} cents", account.cents)));
        }
        Ok(vec![AccountEvent::Withdrawn { cents }])
    };
    Ok(accounts.update(id, decide).await?.state.cents)
}

async fn turnover(State(moved): State<mpsc::Sender<u64>>, Event(event): Event<AccountEvent>) -> Result<(), Error> {
    match event {
        AccountEvent::Deposited { cents } | AccountEvent::Withdrawn { cents } => Ok(moved.send(cents).await?),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let (moved, mut told) = mpsc::channel(64);
    let bank = Service::new("bank")
        .state(moved)
        .event_sourced::<Account>()
        .replay(Replay::new("turnover", "accounts").on(turnover))
        .start(broker.transport())
        .await?;

    let accounts = Repository::<Account>::new(bank.client()).snapshot_every(100);
    accounts.update("ann", |_| Ok(vec![AccountEvent::Deposited { cents: 1000 }])).await?;
    let both = (withdraw(&accounts, "ann", 300), withdraw(&accounts, "ann", 300));
    let (one, other) = tokio::join!(both.0, both.1);
    println!("two at once: {} and {} cents are left after them", one?, other?);
    match withdraw(&accounts, "ann", 500).await {
        Err(error) => println!("refused: {error}"),
        Ok(left) => println!("this cannot be: {left}"),
    }

    let mut turnover = 0;
    for _ in 0..3 {
        turnover += told.recv().await.unwrap_or(0);
    }
    let ann = accounts.load("ann").await?;
    bank.stop().await;
    println!("done: {} cents after {} events, a turnover of {turnover}", ann.state.cents, ann.events);
    Ok(())
}
