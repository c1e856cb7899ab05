//! `topic replay`: a topic's log, copied into a queue.

use api::{Queue, ReadAnswer, ReadQuery, StartAt, Topic};
use clap::Args;

use super::publish::Sender;
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::output::{self, Format};

/// Records that are read at once, and messages that are stored together.
const BATCH: u32 = 500;

/// Copy what a topic's log holds into a queue.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  posthouse topic replay orders --to audit\n  posthouse topic replay orders --to audit --from 2026-03-01T12:00:00Z\n\nIt copies what is there when it begins. Bind the queue to the topic to get what comes later."
)]
pub(crate) struct Replay {
    /// The topic. It needs a log (--retain).
    name: String,
    /// The queue that the messages are copied into.
    #[arg(long, value_name = "QUEUE")]
    to: String,
    /// Where to begin in the log: earliest, an offset, or a time such as 2026-03-01T12:00:00Z.
    #[arg(long, value_name = "PLACE", default_value = "earliest")]
    from: StartAt,
    /// Only this partition of the log.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
}

pub(crate) async fn run(client: Client, replay: Replay) -> Result<(), Failure> {
    // A wrong name is said before anything is read.
    let _: Queue = client.get(client.within(&["queues", &replay.to])).await?;
    let topic: Topic = client.get(client.within(&["topics", &replay.name])).await?;
    let wanted = |number: u32| replay.partition.is_none_or(|only| only == number);
    // The read of a partition that is not there says so itself.
    let mut parts: Vec<(u32, u64)> =
        topic.partitions.iter().filter(|part| wanted(part.partition)).map(|part| (part.partition, part.end)).collect();
    if parts.is_empty() {
        parts.push((replay.partition.unwrap_or(0), 0));
    }
    // Each batch is told by the total at the end, not one by one.
    let mut quiet = client.clone();
    quiet.format = Format::Table;
    let mut sender = Sender::into_queue(quiet, Some(replay.to.clone()), BATCH as usize, true);
    for (partition, end) in parts {
        copy(&client, &replay, partition, end, &mut sender).await?;
    }
    sender.flush().await?;
    sender.clear_bar();
    let copied = sender.stored();
    match client.format {
        Format::Json => output::json(&serde_json::json!({ "copied": copied })),
        Format::Table => output::line(format!("{copied} messages copied into queue {:?}", replay.to)),
    }
}

/// Copies a partition's records up to `end`: a topic that feeds the same queue would else be followed for ever.
async fn copy(client: &Client, replay: &Replay, partition: u32, end: u64, sender: &mut Sender) -> Result<(), Failure> {
    let mut place = replay.from;
    loop {
        let query =
            ReadQuery { partition: Some(partition), from: Some(place), max: Some(BATCH), ..ReadQuery::default() };
        let url = with_query(client.within(&["topics", &replay.name, "messages"]), &query)?;
        let answer: ReadAnswer = client.get(url).await?;
        let was_empty = answer.records.is_empty();
        for record in answer.records {
            if record.position.offset < end {
                sender.add(record.message).await?;
            }
        }
        if was_empty || answer.next >= end {
            return Ok(());
        }
        place = StartAt::Offset(answer.next);
    }
}
