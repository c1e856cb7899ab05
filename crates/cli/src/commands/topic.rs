//! `topic`.

use api::{Declared, Durability, Record, Records, Retention, Router, Topic, TopicConfig};
use clap::{Args, Subcommand};

use super::{delete, messages, outcome, replay};
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::values::{millis, show_bytes, show_millis, size, word};

const EXAMPLES: &str = "\
Examples:
  posthouse topic create orders --retain 7d
  posthouse topic create prices --retain forever --compact --key-index --partitions 8
  posthouse topic update orders --retain 30d --retain-bytes 10GiB";

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Make a topic. The same one again is fine; another definition is refused.
    #[command(after_help = EXAMPLES)]
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// Change what is given, and leave the rest as it is.
    #[command(after_help = EXAMPLES)]
    Update {
        /// Its name.
        name: String,
        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// Show all topics.
    List {
        /// Only those whose names begin so.
        #[arg(long, value_name = "TEXT")]
        prefix: Option<String>,
    },
    /// Show one topic.
    Show {
        /// Its name.
        name: String,
    },
    /// Delete a topic with its log and its bindings.
    Delete {
        /// Its name.
        name: String,
        /// Not while it has bindings.
        #[arg(long)]
        if_unused: bool,
    },
    /// Show the last record of a key, or all of them. The topic needs a key index.
    #[command(
        after_help = "Examples:\n  posthouse topic get prices sku-7 --body\n  posthouse topic get prices sku-7 --all"
    )]
    Get(Get),
    /// Copy what a topic's log holds into a queue, such as one that was made later.
    Replay(replay::Replay),
}

#[derive(Args, Debug)]
pub(crate) struct Get {
    /// The topic.
    name: String,
    /// The key; of a message without one, its subject.
    key: String,
    /// All records of the key that are there, oldest first, rather than the last.
    #[arg(long)]
    all: bool,
    /// At most so many, with --all.
    #[arg(long, value_name = "COUNT", requires = "all", value_parser = clap::value_parser!(u32).range(1..=1000))]
    max: Option<u32>,
    /// Print bodies only, each as it is with a line end after it.
    #[arg(long)]
    body: bool,
}

/// How long a topic's log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retain {
    Off,
    Forever,
    For(u64),
}

fn retain(given: &str) -> Result<Retain, String> {
    match given {
        "off" => Ok(Retain::Off),
        "forever" => Ok(Retain::Forever),
        _ => millis(given).map(Retain::For).map_err(|error| format!("{error}; or forever, or off")),
    }
}

fn router(given: &str) -> Result<Router, String> {
    let hash = |header: Option<&str>, property| Router::ConsistentHash { header: header.map(str::to_owned), property };
    match (given.strip_prefix("consistent-hash:"), given.strip_prefix("consistent-hash@")) {
        (Some(header), _) => Ok(hash(Some(header), None)),
        (None, Some(property)) => Ok(hash(None, Some(word(property)?))),
        (None, None) if given == "consistent-hash" => Ok(hash(None, None)),
        (None, None) => word(given),
    }
}

#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// For people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Keep a log for so long: a time such as 7d, `forever`, or `off`.
    #[arg(long, value_name = "TIME", value_parser = retain)]
    retain: Option<Retain>,
    /// Keep at most so many bytes of log.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    retain_bytes: Option<u64>,
    /// Keep at most so many records.
    #[arg(long, value_name = "COUNT")]
    retain_records: Option<u64>,
    /// Of records with the same key keep only the last.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    compact: Option<bool>,
    /// Partitions of the log.
    #[arg(long, value_name = "COUNT")]
    partitions: Option<u32>,
    /// Keep an index of keys: read by key, last value, expected versions.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    key_index: Option<bool>,
    /// Subjects that it takes, if not its own name and what is below it. May be given several times.
    #[arg(long, value_name = "PATTERN")]
    capture: Vec<String>,
    /// The topic that gets what no binding takes.
    #[arg(long, value_name = "TOPIC")]
    alternate: Option<String>,
    /// What bindings may filter on: any, exact, fanout, subject, headers, attribute, or consistent-hash[:HEADER] or consistent-hash@PROPERTY
    /// (message-id, correlation-id, timestamp).
    #[arg(long, value_name = "KIND", value_parser = router)]
    router: Option<Router>,
    /// When a publish is confirmed: fsync, interval, os or memory.
    #[arg(long, value_name = "KIND", value_parser = word::<Durability>)]
    durability: Option<Durability>,
    /// Take a message of the same dedup id once in so long.
    #[arg(long, value_name = "TIME", value_parser = millis)]
    dedup_window: Option<u64>,
    /// Largest body.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_body: Option<u64>,
    /// Only other topics feed it.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    internal: Option<bool>,
    /// The topic goes when the last binding from it is removed.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    auto_delete: Option<bool>,
    /// The definition is in memory only, and gone with the server's process.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    volatile: Option<bool>,
    /// Whether what is published also goes to live subscriptions.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    live: Option<bool>,
}

impl Flags {
    /// Puts what was given into a definition.
    fn apply(self, config: &mut TopicConfig) {
        fn put<T>(to: &mut Option<T>, given: Option<T>) {
            if given.is_some() {
                *to = given;
            }
        }
        put(&mut config.description, self.description);
        put(&mut config.partitions, self.partitions);
        put(&mut config.alternate, self.alternate);
        put(&mut config.durability, self.durability);
        put(&mut config.dedup_window_ms, self.dedup_window);
        put(&mut config.max_body_bytes, self.max_body);
        put(&mut config.live, self.live);
        put(&mut config.captures, (!self.capture.is_empty()).then_some(self.capture));
        config.key_index = self.key_index.unwrap_or(config.key_index);
        config.internal = self.internal.unwrap_or(config.internal);
        config.auto_delete = self.auto_delete.unwrap_or(config.auto_delete);
        config.volatile = self.volatile.unwrap_or(config.volatile);
        config.router = self.router.unwrap_or(config.router.clone());
        match self.retain {
            None => {}
            Some(Retain::Off) => config.retention = None,
            Some(Retain::Forever) => config.retention.get_or_insert_with(Retention::default).max_age_ms = None,
            Some(Retain::For(age)) => config.retention.get_or_insert_with(Retention::default).max_age_ms = Some(age),
        }
        if self.retain_bytes.is_some() || self.retain_records.is_some() || self.compact.is_some() {
            let retention = config.retention.get_or_insert_with(Retention::default);
            put(&mut retention.max_bytes, self.retain_bytes);
            put(&mut retention.max_records, self.retain_records);
            retention.compact = self.compact.unwrap_or(retention.compact);
        }
    }
}

pub(crate) async fn run(client: Client, action: Action) -> Result<(), Failure> {
    match action {
        Action::Create { name, flags } => {
            let mut config = TopicConfig::default();
            flags.apply(&mut config);
            declare(&client, &name, &config, false).await
        }
        Action::Update { name, flags } => {
            let topic: Topic = client.get(client.within(&["topics", &name])).await?;
            let mut config = topic.config;
            flags.apply(&mut config);
            declare(&client, &name, &config, true).await
        }
        Action::List { prefix } => {
            let url = with_query(client.within(&["topics"]), &serde_json::json!({ "prefix": prefix }))?;
            let topics: Vec<Topic> = client.list(url).await?;
            let head = ["name", "retention", ">partitions", ">records", ">bytes", ">bindings", ">published"];
            output::list(client.format, &topics, &head, |topic| {
                vec![
                    topic.name.clone(),
                    retention(topic.retention.as_ref()),
                    topic.partitions.len().to_string(),
                    topic.partitions.iter().map(|partition| partition.records).sum::<u64>().to_string(),
                    show_bytes(topic.partitions.iter().map(|partition| partition.bytes).sum()),
                    topic.bindings.to_string(),
                    topic.published.to_string(),
                ]
            })
        }
        Action::Show { name } => {
            let topic: Topic = client.get(client.within(&["topics", &name])).await?;
            show(&client, &topic)
        }
        Action::Delete { name, if_unused } => {
            let query = api::DeleteQuery { if_unused: if_unused.then_some(true), if_empty: None };
            delete(&client, with_query(client.within(&["topics", &name]), &query)?, "topic", &name).await
        }
        Action::Get(get) => records(&client, get).await,
        Action::Replay(replay) => replay::run(client, replay).await,
    }
}

/// The records of a key.
async fn records(client: &Client, get: Get) -> Result<(), Failure> {
    let records = if get.all {
        let url = client.within(&["topics", &get.name, "keys", &get.key, "messages"]);
        let found: Records =
            client.get(with_query(url, &api::KeyQuery { base64: None, max: get.max, from: None })?).await?;
        found.records
    } else {
        vec![client.get::<Record>(client.within(&["topics", &get.name, "keys", &get.key])).await?]
    };
    for record in records {
        match (client.format, get.body) {
            (_, true) => {
                output::bytes(&messages::body(&record.message)?)?;
                output::line("")?;
            }
            (Format::Json, false) => output::json_line(&record)?,
            (Format::Table, false) => {
                let place = format!("at {}/{}", record.position.partition, record.position.offset);
                output::line(messages::describe(&record.message, &place))?;
            }
        }
    }
    Ok(())
}

async fn declare(client: &Client, name: &str, config: &TopicConfig, update: bool) -> Result<(), Failure> {
    let url = with_query(client.within(&["topics", name]), &api::DeclareQuery { update: Some(update) })?;
    let declared: Declared<Topic> = client.put(url, config).await?;
    match client.format {
        Format::Json => output::json(&declared),
        Format::Table => outcome("topic", name, declared.outcome),
    }
}

fn retention(retention: Option<&Retention>) -> String {
    let Some(retention) = retention else { return "none".to_owned() };
    let parts: Vec<String> = [
        retention.max_age_ms.map(show_millis),
        retention.max_bytes.map(show_bytes),
        retention.max_records.map(|records| format!("{records} records")),
        retention.compact.then(|| "compacted".to_owned()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if parts.is_empty() { "forever".to_owned() } else { parts.join(", ") }
}

fn show(client: &Client, topic: &Topic) -> Result<(), Failure> {
    let mut fields = vec![
        ("name", topic.name.clone()),
        ("id", topic.id.to_string()),
        ("description", topic.config.description.clone().unwrap_or_default()),
        ("retention", retention(topic.retention.as_ref())),
        ("key index", topic.config.key_index.to_string()),
        ("policy", topic.policy.clone().unwrap_or_default()),
        ("bindings", topic.bindings.to_string()),
        ("published", format!("{} since the start, {} of them taken by nothing", topic.published, topic.unrouted)),
    ];
    for partition in &topic.partitions {
        let text = format!(
            "{}: offsets {} to {}, {} records, {}",
            partition.partition,
            partition.start,
            partition.end,
            partition.records,
            show_bytes(partition.bytes)
        );
        fields.push(("partition", text));
    }
    fields.push(("damage", topic.damage.clone().unwrap_or_default()));
    output::show(client.format, topic, fields)
}
