//! A work queue: tasks go to a queue by name, and its workers share them. docs/sdk/work-queue.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use embedded::Embedded;
use schemars::JsonSchema;
use sdk::{Client, Error, Event, Message, Publishing, Service, State, Subscription};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "picture.shrink")]
struct Shrink {
    picture: u32,
}

#[derive(Clone)]
struct Worker {
    name: &'static str,
    done: mpsc::Sender<u32>,
}

async fn shrink(State(worker): State<Worker>, Event(task): Event<Shrink>) -> Result<(), Error> {
    println!("{}: picture {}", worker.name, task.picture);
    Ok(worker.done.send(task.picture).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let (done, mut told) = mpsc::channel(8);
    let mut workers = Vec::new();
    for name in ["one", "two"] {
        let state = Worker { name, done: done.clone() };
        let tasks = Subscription::worker("pictures", shrink).concurrency(4).priority_levels(2);
        workers.push(Service::new("shrinker").state(state).with(tasks).start(broker.transport()).await?);
    }

    let client = Client::new(broker.transport());
    let mut tasks = Vec::new();
    for picture in 1..=20 {
        // The customer waits for the last one.
        let urgent = u8::from(picture == 20);
        tasks.push(Publishing::of(&Shrink { picture })?.to_queue("pictures").priority(urgent));
    }
    for confirmed in client.send_all(tasks).await {
        confirmed?;
    }

    let mut pictures = Vec::new();
    while pictures.len() < 20 {
        pictures.extend(told.recv().await);
    }
    for worker in workers {
        worker.stop().await;
    }
    pictures.sort_unstable();
    pictures.dedup();
    println!("done: {} pictures, each by one worker", pictures.len());
    Ok(())
}
