//! `dlq`: what was given up, and the way back.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{BrowseAnswer, DeadLetter, Queue, Redrive, RedriveRequest};
use clap::{Args, Subcommand};

use super::messages;
use crate::client::{Client, with_query};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::values::{or_none, show_millis};

/// How often a running redrive is looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Show the queues that others send their dead letters to.
    List,
    /// Show a dead-letter queue's messages: why each was given up, and after how many attempts.
    #[command(
        after_help = "Example:\n  posthouse dlq show payment\n\nA queue that sends its dead letters elsewhere may be named too."
    )]
    Show {
        /// The dead-letter queue, or the queue that sends there.
        queue: String,
        /// At most so many.
        #[arg(long, value_name = "COUNT", default_value_t = 20)]
        max: u32,
        /// Begin at this offset.
        #[arg(long, value_name = "OFFSET")]
        from: Option<u64>,
    },
    /// Put dead letters back to the queues that they came from, or into another.
    #[command(
        after_help = "Examples:\n  posthouse dlq redrive payment\n  posthouse dlq redrive payment --rate 50 --max 1000\n  posthouse dlq redrive payment --stop"
    )]
    Redrive(Back),
}

#[derive(Args, Debug)]
pub(crate) struct Back {
    /// The dead-letter queue, or the queue that sends there.
    queue: String,
    /// Into this queue, instead of each message's own.
    #[arg(long, value_name = "QUEUE")]
    to: Option<String>,
    /// Messages a second; as fast as it goes if not given.
    #[arg(long, value_name = "NUMBER")]
    rate: Option<f64>,
    /// At most so many.
    #[arg(long, value_name = "COUNT")]
    max: Option<u64>,
    /// Only start it, and do not wait for its end.
    #[arg(long)]
    background: bool,
    /// Stop the one that runs.
    #[arg(long, conflicts_with_all = ["to", "rate", "max", "background"])]
    stop: bool,
}

pub(crate) async fn run(client: Client, action: Action) -> Result<(), Failure> {
    match action {
        Action::List => list(&client).await,
        Action::Show { queue, max, from } => {
            let queue = resolve(&client, &queue).await?;
            let query = api::BrowseQuery { from, max: Some(max) };
            let url = with_query(client.within(&["queues", &queue, "messages"]), &query)?;
            show(&client, &client.get(url).await?)
        }
        Action::Redrive(back) => redrive(&client, back).await,
    }
}

/// A dead-letter queue, and who sends there.
#[derive(serde::Serialize)]
struct Target {
    queue: String,
    messages: u64,
    oldest_age_ms: Option<u64>,
    sources: Vec<String>,
    redrive: Option<Redrive>,
}

async fn list(client: &Client) -> Result<(), Failure> {
    let queues: Vec<Queue> = client.list(client.within(&["queues"])).await?;
    let mut sources: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for queue in &queues {
        if let Some(DeadLetter::Queue(target)) = &queue.effective.dead_letter {
            sources.entry(target).or_default().push(queue.name.clone());
        }
    }
    let found = queues.iter().filter_map(|queue| {
        let from = sources.get(queue.name.as_str())?.clone();
        let depth = &queue.depth;
        Some(Target {
            queue: queue.name.clone(),
            messages: depth.ready + depth.delayed + depth.parked + depth.in_flight,
            oldest_age_ms: queue.oldest_age_ms,
            sources: from,
            redrive: queue.redrive.clone(),
        })
    });
    let found: Vec<Target> = found.collect();
    output::list(client.format, &found, &["name", ">messages", ">oldest", "redrive", "dead letters of"], |target| {
        vec![
            target.queue.clone(),
            target.messages.to_string(),
            or_none(target.oldest_age_ms, show_millis),
            or_none(target.redrive.as_ref(), progress),
            target.sources.join(", "),
        ]
    })
}

/// The dead-letter queue that is meant: the one named, unless it sends its own dead letters to another and nobody sends to it.
async fn resolve(client: &Client, name: &str) -> Result<String, Failure> {
    let queue: Queue = client.get(client.within(&["queues", name])).await?;
    let Some(DeadLetter::Queue(target)) = queue.effective.dead_letter else { return Ok(name.to_owned()) };
    let queues: Vec<Queue> = client.list(client.within(&["queues"])).await?;
    let is_target = queues.iter().any(|queue| queue.effective.dead_letter == Some(DeadLetter::Queue(name.to_owned())));
    if is_target {
        return Ok(name.to_owned());
    }
    match client.get::<Queue>(client.within(&["queues", &target])).await {
        Ok(_) => Ok(target),
        Err(failure) if failure.exit == Exit::NotFound => {
            let what =
                format!("queue {name:?} has no dead letters: its dead-letter queue {target:?} does not exist yet");
            Err(Failure::new(Exit::NotFound, what))
        }
        Err(failure) => Err(failure),
    }
}

fn show(client: &Client, answer: &BrowseAnswer) -> Result<(), Failure> {
    if client.format == Format::Json {
        return output::json(answer);
    }
    let head = [">offset", "from", "reason", ">attempts", "error", "last failed", "subject", "body"];
    output::list(client.format, &answer.messages, &head, |browsed| {
        let header = |name: &str| {
            let found = browsed.message.headers.0.iter().find(|(have, _)| *have == *name);
            found.map_or_else(|| "-".to_owned(), |(_, value)| header_text(value))
        };
        vec![
            browsed.offset.to_string(),
            header("ph-dead-letter-queue"),
            header("ph-dead-letter-reason"),
            header("ph-dead-letter-attempts"),
            header("ph-dead-letter-error"),
            header("ph-dead-letter-last-failed"),
            browsed.message.subject.clone().unwrap_or_default(),
            messages::excerpt(&browsed.message),
        ]
    })
}

fn header_text(value: &types::Value) -> String {
    match value {
        types::Value::Text(text) => text.as_str().chars().map(messages::printable).collect(),
        types::Value::Int { value, .. } => value.to_string(),
        types::Value::Uint { value, .. } => value.to_string(),
        types::Value::Timestamp(at) => crate::values::show_time(at.0),
        other => serde_json::to_string(&api::HeaderValue(other.clone())).unwrap_or_default(),
    }
}

async fn redrive(client: &Client, back: Back) -> Result<(), Failure> {
    let queue = resolve(client, &back.queue).await?;
    let url = client.within(&["queues", &queue, "redrive"]);
    if back.stop {
        let answer = client.delete(url).await?;
        let stopped: Redrive = serde_json::from_value(answer).unwrap_or_default();
        return report(client, &stopped);
    }
    let request = RedriveRequest { to: back.to, rate: back.rate, max: back.max };
    let mut state: Redrive = client.post(url.clone(), &request).await?;
    while state.running && !back.background {
        tokio::time::sleep(LOOK).await;
        state = client.get(url.clone()).await?;
    }
    report(client, &state)?;
    match state.error {
        Some(error) => Err(Failure::new(Exit::Failed, format!("the redrive stopped: {error}"))),
        None => Ok(()),
    }
}

fn report(client: &Client, state: &Redrive) -> Result<(), Failure> {
    match client.format {
        Format::Json => output::json(state),
        Format::Table => output::line(progress(state)),
    }
}

fn progress(state: &Redrive) -> String {
    let how = if state.running { ", running" } else { "" };
    format!("{} of {} messages moved{how}", state.moved, state.total)
}
