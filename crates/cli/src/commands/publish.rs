//! `publish`: one message, a line each, an NDJSON message each, or a file.

use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::PathBuf;
use std::time::Duration;

use api::{Batch, Message, PublishAnswer, PublishQuery, Published};
use clap::Args;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::messages;
use crate::client::{Client, with_query};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};

/// A batch ends with the message that passes this many bytes.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How long the server may take to store a batch.
const STORE_TIME: Duration = Duration::from_secs(60);
/// Standard input, in the place of a file's name.
const STDIN: &str = "-";

const EXAMPLES: &str = "\
Examples:
  posthouse publish orders.eu.created '{\"order\": 1}' --key customer-7 --header region=eu
  posthouse publish --queue payment 'straight into a queue'
  posthouse publish invoices.new --file invoice.pdf --content-type application/pdf
  tail -f access.log | posthouse publish logs.web --lines -
  posthouse publish --topic orders --ndjson orders.ndjson
  posthouse publish prices.sku-7 19.90 --key sku-7 --expect-version 41

Without --topic and --queue a message goes to the topic that takes its subject, and to live subscriptions. A line of NDJSON is
a message as the API writes it: {\"subject\": \"orders.eu.created\", \"key\": \"7\", \"body\": {\"order\": 1}}.";

/// Publish messages. They are stored when the command ends.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Publish {
    /// What the messages are about: dot-separated words.
    #[arg(required_unless_present_any = ["topic", "queue", "ndjson"])]
    subject: Option<String>,
    /// The body. Without it and the options below, each line of standard input is a body.
    #[arg(conflicts_with_all = ["file", "lines", "ndjson"])]
    body: Option<String>,
    /// To this topic, whatever the subject.
    #[arg(long, value_name = "TOPIC", conflicts_with = "queue")]
    topic: Option<String>,
    /// Straight into this queue.
    #[arg(long, value_name = "QUEUE")]
    queue: Option<String>,
    /// The body is what this file holds, or standard input for -.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["lines", "ndjson"])]
    file: Option<PathBuf>,
    /// Each line of this file is a body, or of standard input for -.
    #[arg(long, value_name = "FILE", conflicts_with = "ndjson")]
    lines: Option<PathBuf>,
    /// Each line of this file is a message in JSON, or of standard input for -.
    #[arg(long, value_name = "FILE")]
    ndjson: Option<PathBuf>,
    /// Publish each message so many times.
    #[arg(long, value_name = "COUNT", default_value_t = 1, conflicts_with_all = ["lines", "ndjson"])]
    repeat: u64,
    /// Messages that are sent together, and stored all or none.
    #[arg(long, value_name = "COUNT", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    batch: u64,
    /// Only if the last record of the message's key (or of its subject, if it has no key) has this offset; `none` if there must be no record.
    #[arg(long, value_name = "OFFSET", value_parser = version, conflicts_with_all = ["queue", "lines", "ndjson", "repeat"])]
    expect_version: Option<String>,
    /// To this partition of the topic's log, rather than the key's.
    #[arg(long, value_name = "NUMBER", conflicts_with = "queue")]
    partition: Option<u32>,
    #[command(flatten)]
    message: messages::Flags,
}

fn version(given: &str) -> Result<String, String> {
    match given == "none" || given.parse::<u64>().is_ok() {
        true => Ok(given.to_owned()),
        false => Err("give an offset, or `none`".to_owned()),
    }
}

pub(crate) async fn run(client: Client, mut publish: Publish) -> Result<(), Failure> {
    // With --topic or --queue the first word is the body if it is the only one.
    if publish.body.is_none()
        && (publish.topic.is_some() || publish.queue.is_some())
        && !publish.reads_lines()
        && publish.file.is_none()
    {
        publish.body = publish.subject.take();
    }
    let mut sender = Sender::new(client, &publish);
    if let Some(body) = publish.single_body()? {
        if publish.repeat > 1 && publish.message.names_one() {
            return Err(Failure::usage("--id and --dedup-id name one message; they do not go with --repeat"));
        }
        let message = publish.message.message(body);
        for _ in 0..publish.repeat {
            sender.add(message.clone()).await?;
        }
        return sender.finish().await;
    }
    if publish.message.names_one() {
        return Err(Failure::usage("--id and --dedup-id name one message; with lines each message gets its own id"));
    }
    let ndjson = publish.ndjson.is_some();
    let path = publish.ndjson.as_ref().or(publish.lines.as_ref());
    let mut input = open(path)?;
    let mut number = 0u64;
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        number += 1;
        let body = line.trim_ascii_end();
        if ndjson {
            if body.is_empty() {
                continue;
            }
            let mut message: Message = serde_json::from_slice(body)
                .map_err(|error| Failure::usage(format!("line {number}: not a message: {error}")))?;
            publish.message.fill(&mut message);
            sender.add(message).await?;
        } else {
            let end = line.len() - usize::from(line.ends_with(b"\n"));
            let body = line.get(..end).unwrap_or_default();
            let body = body.strip_suffix(b"\r").unwrap_or(body);
            sender.add(publish.message.message(body.to_vec())).await?;
        }
        // A terminal or a pipe that gives line after line wants each published as it comes.
        if input.buffer().is_empty() {
            sender.flush().await?;
        }
    }
    sender.finish().await
}

impl Publish {
    fn reads_lines(&self) -> bool {
        self.lines.is_some() || self.ndjson.is_some()
    }

    /// What is about the publish rather than about its messages.
    fn query(&self) -> PublishQuery {
        let (by_key, by_subject) = match self.message.has_key() {
            true => (self.expect_version.clone(), None),
            false => (None, self.expect_version.clone()),
        };
        PublishQuery {
            expect_key_version: by_key,
            expect_subject_version: by_subject,
            partition: self.partition,
            ..PublishQuery::default()
        }
    }

    /// The body, if there is only one.
    fn single_body(&self) -> Result<Option<Vec<u8>>, Failure> {
        if let Some(body) = &self.body {
            return Ok(Some(body.as_bytes().to_vec()));
        }
        let Some(path) = &self.file else { return Ok(None) };
        let mut body = Vec::new();
        open(Some(path))?.read_to_end(&mut body)?;
        Ok(Some(body))
    }
}

/// A file, or standard input.
fn open(path: Option<&PathBuf>) -> Result<BufReader<Box<dyn Read>>, Failure> {
    let input: Box<dyn Read> = match path.filter(|path| path.as_os_str() != STDIN) {
        None => {
            if std::io::stdin().is_terminal() {
                output::remark("each line that you type is published; Ctrl-D ends it");
            }
            Box::new(std::io::stdin())
        }
        Some(path) => {
            Box::new(File::open(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?)
        }
    };
    Ok(BufReader::new(input))
}

/// Messages a second, without the decimals that nobody can read while they change.
fn rate(state: &ProgressState, to: &mut dyn std::fmt::Write) {
    let _ = write!(to, "{:.0}/s", state.per_sec());
}

/// Collects messages into batches and sends them.
pub(crate) struct Sender {
    client: Client,
    topic: Option<String>,
    queue: Option<String>,
    subject: Option<String>,
    query: PublishQuery,
    batch: usize,
    waiting: Vec<Message>,
    waiting_bytes: usize,
    waiting_subject: Option<String>,
    done: u64,
    unrouted: u64,
    last: Option<Published>,
    bar: Option<ProgressBar>,
}

impl Sender {
    fn new(client: Client, publish: &Publish) -> Self {
        let many = publish.reads_lines() || publish.repeat > 1;
        let batch = usize::try_from(publish.batch).unwrap_or(usize::MAX);
        Self {
            topic: publish.topic.clone(),
            subject: publish.subject.clone(),
            query: publish.query(),
            ..Self::into_queue(client, publish.queue.clone(), batch, many)
        }
    }

    /// One that sends straight into a queue. Of `many` messages it shows on a terminal how far they are.
    pub(crate) fn into_queue(client: Client, queue: Option<String>, batch: usize, many: bool) -> Self {
        let bar = (many && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{spinner} {human_pos} messages, {rate}, {elapsed}")
                .map(|style| style.with_key("rate", rate));
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar
        });
        Self {
            client,
            topic: None,
            queue,
            subject: None,
            query: PublishQuery::default(),
            batch,
            waiting: Vec::new(),
            waiting_bytes: 0,
            waiting_subject: None,
            done: 0,
            unrouted: 0,
            last: None,
            bar,
        }
    }

    pub(crate) async fn add(&mut self, mut message: Message) -> Result<(), Failure> {
        if let Some(subject) = &self.subject {
            message.subject = Some(subject.clone());
        }
        if self.topic.is_none() && self.queue.is_none() {
            let subject = message.subject.clone();
            if subject.is_none() {
                return Err(Failure::usage(
                    "a message has no subject, and neither --topic nor --queue says where it goes",
                ));
            }
            // A request goes to one subject, so that a batch ends where the subject changes.
            if self.waiting_subject != subject {
                self.flush().await?;
                self.waiting_subject = subject;
            }
        }
        let [body, text, base64] = [
            message.body.as_ref().map_or(0, |body| body.get().len()),
            message.text.as_ref().map_or(0, String::len),
            message.base64.as_ref().map_or(0, String::len),
        ];
        self.waiting_bytes += body + text + base64;
        self.waiting.push(message);
        if self.waiting.len() >= self.batch || self.waiting_bytes >= BATCH_BYTES {
            self.flush().await?;
        }
        Ok(())
    }

    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.waiting_bytes = 0;
        let segments = match (&self.topic, &self.queue, &self.waiting_subject) {
            (Some(topic), _, _) => ["topics", topic, "messages"],
            (None, Some(queue), _) => ["queues", queue, "messages"],
            (None, None, Some(subject)) => ["subjects", subject, "messages"],
            (None, None, None) => return Ok(()),
        };
        let url = with_query(self.client.within(&segments), &self.query)?;
        let batch = Batch { messages: std::mem::take(&mut self.waiting) };
        let body = serde_json::to_vec(&batch).map_err(std::io::Error::from)?;
        let sent = self.client.post_as::<PublishAnswer>(url, api::BATCH_TYPE, body, STORE_TIME).await;
        let answer = sent.map_err(|mut failure| {
            if self.done > 0 {
                failure.what = format!("{} (the {} messages before were stored)", failure.what, self.done);
            }
            failure
        })?;
        self.done += answer.published.len() as u64;
        self.unrouted += answer.published.iter().filter(|published| !published.routed).count() as u64;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        }
        if self.client.format == Format::Json {
            for published in &answer.published {
                output::json_line(published)?;
            }
        }
        self.last = answer.published.into_iter().next_back();
        Ok(())
    }

    /// Messages that are stored.
    pub(crate) fn stored(&self) -> u64 {
        self.done
    }

    /// Ends the progress bar, if there is one.
    pub(crate) fn clear_bar(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    async fn finish(mut self) -> Result<(), Failure> {
        self.flush().await?;
        self.clear_bar();
        if self.client.format == Format::Table {
            match (&self.last, self.done - self.unrouted) {
                // Of what went nowhere the error speaks.
                (_, 0) if self.unrouted > 0 => {}
                (Some(published), 1) if self.done == 1 => output::line(describe(published))?,
                (_, 1) => output::line("published 1 message")?,
                (_, count) => output::line(format!("published {count} messages"))?,
            }
        }
        if self.unrouted > 0 {
            let what = match self.done {
                1 => "the message went nowhere: no queue, log or live subscription took it".to_owned(),
                done => format!(
                    "{} of {done} messages went nowhere: no queue, log or live subscription took them",
                    self.unrouted
                ),
            };
            return Err(Failure::new(Exit::Refused, what).hint(
                "see that a topic takes the subject (posthouse topic list), then bind a queue to it (posthouse binding create) or \
                 give it a retention",
            ));
        }
        Ok(())
    }
}

fn describe(published: &Published) -> String {
    let mut text = format!("published {}", published.id);
    if published.duplicate {
        text.push_str(" (it was there already)");
    }
    if let Some(at) = published.position {
        text.push_str(&format!(" at {}/{}", at.partition, at.offset));
    }
    match published.queues {
        0 => {}
        1 => text.push_str(" to 1 queue"),
        count => text.push_str(&format!(" to {count} queues")),
    }
    text
}
