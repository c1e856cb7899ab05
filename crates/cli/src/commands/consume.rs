//! `consume`: a queue's messages with acknowledgement, or a topic's log from any place on.

use std::io::IsTerminal;
use std::time::Duration;

use api::{
    Action, BrowseAnswer, Delivery, JoinAnswer, Message, Position, ReadAnswer, ReceiveAnswer, ReceiveRequest, Record,
    Records, SettleAnswer, SettleRequest, Settlement, StartAt,
};
use clap::{Args, ValueEnum};

use super::{messages, shell};
use crate::client::{Client, with_query};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::values::{show_time, span};

/// How long one request waits for messages; then the next one does.
const POLL: Duration = Duration::from_secs(30);
/// Messages that are asked for at once.
const BATCH: u32 = 100;
/// What a running command's delivery is extended by, again and again.
const EXTENSION: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "\
Examples:
  posthouse consume payment
  posthouse consume payment --max 10 --wait 2s -o json
  posthouse consume payment --exec './charge.sh'
  posthouse consume payment --ack none
  posthouse consume --topic orders --from 2026-03-01T12:00:00Z
  posthouse consume --topic orders --group audit

A command of --exec gets the body on its standard input, and MESSAGE_ID, MESSAGE_SUBJECT, MESSAGE_KEY, MESSAGE_HEADERS (JSON),
MESSAGE_ATTEMPT and more in its environment. Exit code 0 acknowledges the message; any other is a failed attempt, which is retried
as the queue says; the exit code and the last line that the command wrote on standard error are kept as the reason.";

/// When a message that was taken is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ack {
    /// Once it is printed, or --exec succeeded.
    Auto,
    /// By `posthouse queue ack QUEUE RECEIPT`, until its lease runs out.
    Manual,
    /// Never: messages are looked at and stay where they are.
    None,
}

/// Take messages from a queue, or read a topic's log.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Consume {
    /// The queue.
    #[arg(required_unless_present = "topic", conflicts_with = "topic")]
    queue: Option<String>,
    /// Read this topic's log instead.
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Where to begin in the log: earliest, latest, an offset, or a time such as 2026-03-01T12:00:00Z.
    #[arg(long, value_name = "PLACE", requires = "topic", conflicts_with_all = ["group", "queue"])]
    from: Option<StartAt>,
    /// Only this partition of the log.
    #[arg(long, value_name = "NUMBER", requires = "topic", conflicts_with_all = ["group", "queue"])]
    partition: Option<u32>,
    /// Read on from where this group stands, and move it along.
    #[arg(long, value_name = "GROUP", requires = "topic", conflicts_with = "queue")]
    group: Option<String>,
    /// When a message is acknowledged.
    #[arg(long, value_name = "MODE", default_value = "auto", conflicts_with = "topic")]
    ack: Ack,
    /// End after so many messages.
    #[arg(long, value_name = "COUNT")]
    max: Option<u64>,
    /// End when nothing has come for so long; 0s takes only what is there. Without it, go on until interrupted.
    #[arg(long, value_name = "TIME", value_parser = span)]
    wait: Option<Duration>,
    /// How long the messages that are taken may stay unacknowledged, instead of what the queue says.
    #[arg(long, value_name = "TIME", value_parser = span, conflicts_with = "topic")]
    lease: Option<Duration>,
    /// Run this shell command for each message.
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
    /// An exit code of --exec that means that trying again is of no use: the message goes to the dead-letter queue.
    #[arg(long, value_name = "CODE", requires = "exec", conflicts_with = "topic")]
    reject_exit: Vec<i32>,
    /// Print bodies only, each as it is with a line end after it.
    #[arg(long, conflicts_with = "exec")]
    body: bool,
}

pub(crate) async fn run(client: Client, consume: Consume) -> Result<(), Failure> {
    let mut reader = Reader { client, left: consume.max.unwrap_or(u64::MAX), seen: 0, consume };
    let work = async {
        match (&reader.consume.queue, &reader.consume.topic, &reader.consume.group) {
            (Some(queue), _, _) if reader.consume.ack == Ack::None => {
                let queue = queue.clone();
                reader.peek(&queue).await
            }
            (Some(queue), _, _) => {
                let queue = queue.clone();
                reader.take(&queue).await
            }
            (None, Some(topic), None) => {
                let topic = topic.clone();
                reader.read(&topic).await
            }
            (None, Some(_), Some(group)) => {
                let group = group.clone();
                reader.follow(&group).await
            }
            (None, None, _) => Ok(()),
        }
    };
    tokio::select! {
        done = work => done?,
        // What was taken and not settled comes back when its lease runs out.
        _ = tokio::signal::ctrl_c() => {}
    }
    if std::io::stderr().is_terminal() && reader.consume.exec.is_none() && reader.client.format == Format::Table {
        output::remark(format!("{} messages", reader.seen));
    }
    Ok(())
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

struct Reader {
    client: Client,
    consume: Consume,
    left: u64,
    seen: u64,
}

impl Reader {
    /// How many to ask for. One at a time while a command works on each: the leases of those that wait would run out.
    fn batch(&self) -> u32 {
        let most = if self.consume.exec.is_some() { 1 } else { BATCH };
        u32::try_from(self.left).unwrap_or(u32::MAX).min(most)
    }

    /// How long to wait for the next.
    fn patience(&self) -> Duration {
        self.consume.wait.map_or(POLL, |wait| wait.min(POLL))
    }

    /// Whether nothing came for as long as was asked for. `waited` adds up what was waited so far.
    fn is_over(&self, waited: &mut Duration, came: bool) -> bool {
        if came {
            *waited = Duration::ZERO;
            return self.left == 0;
        }
        *waited += self.patience();
        self.consume.wait.is_some_and(|wait| *waited >= wait)
    }

    fn count(&mut self) {
        self.left = self.left.saturating_sub(1);
        self.seen += 1;
    }

    /// Takes a queue's messages.
    async fn take(&mut self, queue: &str) -> Result<(), Failure> {
        let mut waited = Duration::ZERO;
        while self.left > 0 {
            let request = ReceiveRequest {
                max: Some(self.batch()),
                wait_ms: Some(millis(self.patience())),
                lease_ms: self.consume.lease.map(millis),
                ..ReceiveRequest::default()
            };
            let url = self.client.within(&["queues", queue, "receive"]);
            let answer: ReceiveAnswer = self.client.post_waiting(url, &request, self.patience()).await?;
            let came = !answer.deliveries.is_empty();
            let mut settlements = Vec::new();
            for delivery in answer.deliveries {
                self.count();
                let settlement = self.work(queue, delivery).await?;
                settlements.extend(settlement);
            }
            self.settle(queue, settlements).await?;
            if self.is_over(&mut waited, came) {
                break;
            }
        }
        Ok(())
    }

    /// Does with a delivery what was asked for, and says how it ends.
    async fn work(&self, queue: &str, delivery: Delivery) -> Result<Option<Settlement>, Failure> {
        let settlement =
            |action, error| Settlement { receipt: delivery.receipt.clone(), action, error, ..Default::default() };
        let Some(command) = &self.consume.exec else {
            self.print(&delivery, &delivery.message, || {
                let receipt = if self.consume.ack == Ack::Manual {
                    format!(" receipt={}", delivery.receipt)
                } else {
                    String::new()
                };
                format!("attempt={}{receipt}", delivery.attempt)
            })?;
            return Ok((self.consume.ack == Ack::Auto).then(|| settlement(Action::Ack, None)));
        };
        let beat = Duration::from_millis(delivery.lease_ms.unwrap_or(60_000)) / 3;
        let alive = || async {
            let extend = api::ExtendRequest { receipt: delivery.receipt.clone(), by_ms: millis(EXTENSION) };
            if let Err(failure) = self.client.tell(self.client.within(&["queues", queue, "extend"]), &extend).await {
                output::remark(failure.to_string());
            }
        };
        let beat = beat.max(Duration::from_millis(100));
        let ended = shell::run(command, &delivery.message, delivery.attempt, false, beat, alive).await?;
        if self.consume.ack == Ack::Manual {
            return Ok(None);
        }
        Ok(Some(match ended.code {
            Some(0) => settlement(Action::Ack, None),
            Some(code) if self.consume.reject_exit.contains(&code) => settlement(Action::Reject, Some(ended.reason())),
            _ => settlement(Action::Nack, Some(ended.reason())),
        }))
    }

    async fn settle(&self, queue: &str, settlements: Vec<Settlement>) -> Result<(), Failure> {
        if settlements.is_empty() {
            return Ok(());
        }
        let url = self.client.within(&["queues", queue, "settle"]);
        let answer: SettleAnswer = self.client.post(url, &SettleRequest { settlements }).await?;
        for problem in answer.results.into_iter().filter_map(|result| result.problem) {
            output::remark(Failure::from(problem).to_string());
        }
        Ok(())
    }

    /// Looks at a queue's messages without taking them.
    async fn peek(&mut self, queue: &str) -> Result<(), Failure> {
        let mut from = None;
        while self.left > 0 {
            let query = api::BrowseQuery { from, max: Some(self.batch()) };
            let url = with_query(self.client.within(&["queues", queue, "messages"]), &query)?;
            let answer: BrowseAnswer = self.client.get(url).await?;
            let came = !answer.messages.is_empty();
            for browsed in &answer.messages {
                self.count();
                self.handle(browsed, &browsed.message, browsed.attempts, || format!("offset={}", browsed.offset))
                    .await?;
            }
            from = Some(answer.next);
            if !came {
                // A queue cannot be waited for without taking from it; what is there now is all there is to see.
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads a topic's log.
    async fn read(&mut self, topic: &str) -> Result<(), Failure> {
        let partitions: Vec<u32> = match self.consume.partition {
            Some(partition) => vec![partition],
            None => {
                let found: api::Topic = self.client.get(self.client.within(&["topics", topic])).await?;
                let partitions: Vec<u32> = found.partitions.iter().map(|partition| partition.partition).collect();
                // The read itself says why there is none.
                if partitions.is_empty() { vec![0] } else { partitions }
            }
        };
        let begin = self.consume.from.unwrap_or(StartAt::Latest);
        let mut places: Vec<(u32, StartAt)> = partitions.into_iter().map(|partition| (partition, begin)).collect();
        let mut waited = Duration::ZERO;
        let share = u32::try_from(places.len()).unwrap_or(u32::MAX).max(1);
        while self.left > 0 {
            let mut came = false;
            for (partition, place) in &mut places {
                // Of several partitions each is waited for in turn, and only briefly if another one has something.
                let wait = if came { Duration::ZERO } else { self.patience() / share };
                let query = api::ReadQuery {
                    partition: Some(*partition),
                    from: Some(*place),
                    max: Some(self.batch()),
                    max_bytes: None,
                    wait_ms: Some(millis(wait)),
                };
                let url = with_query(self.client.within(&["topics", topic, "messages"]), &query)?;
                let answer: ReadAnswer = self.client.get_waiting(url, wait).await?;
                *place = StartAt::Offset(answer.next);
                came |= !answer.records.is_empty();
                for record in &answer.records {
                    self.count();
                    self.record(record).await?;
                }
                if self.left == 0 {
                    return Ok(());
                }
            }
            if self.is_over(&mut waited, came) {
                break;
            }
        }
        Ok(())
    }

    /// Reads on from where a group stands, and moves it along.
    async fn follow(&mut self, group: &str) -> Result<(), Failure> {
        let member = format!("posthouse-{}", std::process::id());
        let place = |verb: &'static str| ["groups".to_owned(), group.to_owned(), verb.to_owned()];
        let url = |client: &Client, verb| {
            let [groups, group, verb] = place(verb);
            client.within(&[&groups, &group, &verb])
        };
        // Members must give a sign of life more often than a long poll ends.
        let wait = self.patience().min(Duration::from_secs(3));
        let mut waited = Duration::ZERO;
        while self.left > 0 {
            let join = api::MemberRequest { member: member.clone() };
            let joined: JoinAnswer = self.client.post(url(&self.client, "join"), &join).await?;
            let fetch = api::FetchRequest {
                member: member.clone(),
                generation: joined.generation,
                max: Some(self.batch()),
                wait_ms: Some(millis(wait)),
            };
            let fetched: Result<Records, Failure> =
                self.client.post_waiting(url(&self.client, "fetch"), &fetch, wait).await;
            let records = match fetched {
                Ok(records) => records.records,
                // Another member came or went: join again.
                Err(failure) if failure.exit == Exit::Refused => continue,
                Err(failure) => return Err(failure),
            };
            let mut next = std::collections::BTreeMap::new();
            for record in &records {
                self.count();
                self.record(record).await?;
                next.insert(record.position.partition, record.position.offset + 1);
            }
            if !next.is_empty() {
                let offsets = next.into_iter().map(|(partition, offset)| Position { partition, offset }).collect();
                let commit =
                    api::CommitRequest { member: Some(member.clone()), generation: Some(joined.generation), offsets };
                self.client.tell(url(&self.client, "commit"), &commit).await?;
            }
            if records.is_empty() {
                waited += wait;
            } else {
                waited = Duration::ZERO;
            }
            if self.consume.wait.is_some_and(|most| records.is_empty() && waited >= most) {
                break;
            }
        }
        self.client.tell(url(&self.client, "leave"), &api::MemberRequest { member }).await
    }

    async fn record(&self, record: &Record) -> Result<(), Failure> {
        let at =
            || format!("{}/{} {}", record.position.partition, record.position.offset, show_time(record.appended_ms));
        self.handle(record, &record.message, 1, at).await
    }

    /// Prints a message, or runs the command for it; one that fails ends the reading, since a log has no retries.
    async fn handle(
        &self,
        whole: &impl serde::Serialize,
        message: &Message,
        attempt: u32,
        place: impl Fn() -> String,
    ) -> Result<(), Failure> {
        let Some(command) = &self.consume.exec else { return self.print(whole, message, place) };
        let ended = shell::run(command, message, attempt, false, POLL, || async {}).await?;
        if ended.code == Some(0) {
            return Ok(());
        }
        let why = ended.reason();
        Err(Failure::new(Exit::Failed, format!("the command failed for the message at {}: {why}", place())))
    }

    fn print(
        &self,
        whole: &impl serde::Serialize,
        message: &Message,
        place: impl Fn() -> String,
    ) -> Result<(), Failure> {
        if self.consume.body {
            output::bytes(&messages::body(message)?)?;
            return output::line("");
        }
        if self.client.format == Format::Json {
            return output::json_line(whole);
        }
        output::line(messages::describe(message, &place()))
    }
}
