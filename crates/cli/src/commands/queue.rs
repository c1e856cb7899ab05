//! `queue`.

use api::{Breaker, BrowseAnswer, Browsed, BrowsedState, DeadLetter, Declared, Overflow, Queue, QueueConfig, Removed};
use clap::Subcommand;

use super::queue_flags::Flags;
use super::{delete, messages, outcome};
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::values::{millis, or_none, show_bytes, show_millis, show_time};

const EXAMPLES: &str = "\
Examples:
  posthouse queue create payment
  posthouse queue create payment --lease 1m --max-attempts 8 --retry-initial 500ms --dead-letter payment-failed
  posthouse queue create mail --webhook https://mail.example/hook --webhook-secret-file key";

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Make a queue. The same one again is fine; another definition is refused.
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
    /// Show all queues.
    List {
        /// Only those whose names begin so.
        #[arg(long, value_name = "TEXT")]
        prefix: Option<String>,
    },
    /// Show one queue.
    Show {
        /// Its name.
        name: String,
    },
    /// Delete a queue with its messages and the bindings that lead to it.
    Delete {
        /// Its name.
        name: String,
        /// Not while it has consumers or bindings.
        #[arg(long)]
        if_unused: bool,
        /// Not while it holds messages.
        #[arg(long)]
        if_empty: bool,
    },
    /// Remove all messages that wait.
    Purge {
        /// The queue.
        name: String,
    },
    /// Look at messages without taking them.
    Browse {
        /// The queue.
        name: String,
        /// Begin at this offset.
        #[arg(long, value_name = "OFFSET")]
        from: Option<u64>,
        /// At most so many.
        #[arg(long, value_name = "COUNT", default_value_t = 20)]
        max: u32,
    },
    /// Acknowledge a delivery that `consume --ack manual` gave.
    Ack {
        /// The queue.
        queue: String,
        /// The delivery's receipt.
        receipt: String,
    },
    /// Say that a delivery failed: it is tried again as the queue's retry policy says.
    Nack {
        /// The queue.
        queue: String,
        /// The delivery's receipt.
        receipt: String,
        /// Why; kept with the message.
        #[arg(long, value_name = "TEXT")]
        error: Option<String>,
        /// Try again after this time, whatever the policy says.
        #[arg(long, value_name = "TIME", value_parser = millis)]
        after: Option<u64>,
    },
    /// Say that a delivery failed for good: it goes to the dead-letter queue.
    Reject {
        /// The queue.
        queue: String,
        /// The delivery's receipt.
        receipt: String,
        /// Why; kept with the message.
        #[arg(long, value_name = "TEXT")]
        error: Option<String>,
    },
    /// Put a delivery back untried.
    Release {
        /// The queue.
        queue: String,
        /// The delivery's receipt.
        receipt: String,
    },
    /// Give a delivery more time.
    Extend {
        /// The queue.
        queue: String,
        /// The delivery's receipt.
        receipt: String,
        /// From now.
        #[arg(long, value_name = "TIME", value_parser = millis, default_value = "30s")]
        by: u64,
    },
}

pub(crate) async fn run(client: Client, action: Action) -> Result<(), Failure> {
    match action {
        Action::Create { name, flags } => {
            let mut config = QueueConfig::default();
            flags.apply(&mut config)?;
            declare(&client, &name, &config, false).await
        }
        Action::Update { name, flags } => {
            let queue: Queue = client.get(client.within(&["queues", &name])).await?;
            let mut config = queue.config;
            flags.apply(&mut config)?;
            declare(&client, &name, &config, true).await
        }
        Action::List { prefix } => list(&client, prefix).await,
        Action::Show { name } => show(&client, &client.get(client.within(&["queues", &name])).await?),
        Action::Delete { name, if_unused, if_empty } => {
            let query = api::DeleteQuery { if_unused: if_unused.then_some(true), if_empty: if_empty.then_some(true) };
            delete(&client, with_query(client.within(&["queues", &name]), &query)?, "queue", &name).await
        }
        Action::Purge { name } => {
            let answer = client.delete(client.within(&["queues", &name, "messages"])).await?;
            let removed: Removed = serde_json::from_value(answer).unwrap_or_default();
            match client.format {
                Format::Json => output::json(&removed),
                Format::Table => output::line(format!("{} messages removed from queue {name:?}", removed.messages)),
            }
        }
        Action::Browse { name, from, max } => {
            let query = api::BrowseQuery { from, max: Some(max) };
            let url = with_query(client.within(&["queues", &name, "messages"]), &query)?;
            let answer: BrowseAnswer = client.get(url).await?;
            print_browsed(&client, &answer)
        }
        settle => settled(&client, settle).await,
    }
}

async fn declare(client: &Client, name: &str, config: &QueueConfig, update: bool) -> Result<(), Failure> {
    let url = with_query(client.within(&["queues", name]), &api::DeclareQuery { update: Some(update) })?;
    let declared: Declared<Queue> = client.put(url, config).await?;
    match client.format {
        Format::Json => output::json(&declared),
        Format::Table => outcome("queue", name, declared.outcome),
    }
}

/// The commands that end or extend one delivery.
async fn settled(client: &Client, action: Action) -> Result<(), Failure> {
    let (queue, verb, body) = match action {
        Action::Ack { queue, receipt } => (queue, "ack", serde_json::json!(api::ReceiptRequest { receipt })),
        Action::Nack { queue, receipt, error, after } => {
            (queue, "nack", serde_json::json!(api::NackRequest { receipt, after_ms: after, error }))
        }
        Action::Reject { queue, receipt, error } => {
            (queue, "reject", serde_json::json!(api::RejectRequest { receipt, error }))
        }
        Action::Release { queue, receipt } => (queue, "release", serde_json::json!(api::ReceiptRequest { receipt })),
        Action::Extend { queue, receipt, by } => {
            (queue, "extend", serde_json::json!(api::ExtendRequest { receipt, by_ms: by }))
        }
        _ => return Ok(()),
    };
    client.tell(client.within(&["queues", &queue, verb]), &body).await?;
    match client.format {
        Format::Json => output::json(&serde_json::json!({ "done": verb })),
        Format::Table => output::line(format!("{verb}: done")),
    }
}

async fn list(client: &Client, prefix: Option<String>) -> Result<(), Failure> {
    let url = with_query(client.within(&["queues"]), &serde_json::json!({ "prefix": prefix }))?;
    let queues: Vec<Queue> = client.list(url).await?;
    let head =
        ["name", ">ready", ">delayed", ">parked", ">in flight", ">oldest", ">bytes", ">consumers", "dead letters to"];
    output::list(client.format, &queues, &head, |queue| {
        vec![
            queue.name.clone(),
            queue.depth.ready.to_string(),
            queue.depth.delayed.to_string(),
            queue.depth.parked.to_string(),
            queue.depth.in_flight.to_string(),
            or_none(queue.oldest_age_ms, show_millis),
            show_bytes(queue.depth.waiting_bytes + queue.depth.in_flight_bytes),
            queue.consumers.to_string(),
            dead_letter(queue),
        ]
    })
}

/// Where a queue's given-up messages go.
pub(crate) fn dead_letter(queue: &Queue) -> String {
    match &queue.effective.dead_letter {
        None | Some(DeadLetter::None) => "-".to_owned(),
        Some(DeadLetter::Queue(name)) => name.clone(),
        Some(DeadLetter::Topic { topic, .. }) => format!("topic:{topic}"),
        Some(DeadLetter::Named { subject: Some(queue), .. }) => queue.clone(),
        Some(DeadLetter::Named { subject: None, .. }) => "by subject".to_owned(),
    }
}

fn when_full(overflow: Overflow) -> &'static str {
    match overflow {
        Overflow::Reject => "new messages are refused",
        Overflow::DropOldest => "the oldest leave",
        Overflow::RejectDeadLetter => "new messages are refused and dead-lettered",
    }
}

fn show_breaker(breaker: Breaker) -> String {
    let Breaker { failure_ratio, window, pause_ms } = breaker;
    format!("pauses a consumer for {} once {failure_ratio} of its last {window} failed", show_millis(pause_ms))
}

fn show(client: &Client, queue: &Queue) -> Result<(), Failure> {
    let (depth, rules, counters) = (&queue.depth, &queue.effective, &queue.counters);
    let retry = &rules.retry;
    let attempts = match retry.max_attempts {
        None | Some(0) => "for ever".to_owned(),
        Some(count) => format!("{count} attempts"),
    };
    let backoff = format!(
        "{attempts}, after {} then {} times longer, at most {}",
        or_none(retry.initial_ms, show_millis),
        or_none(retry.factor, |factor| factor.to_string()),
        or_none(retry.cap_ms, show_millis),
    );
    let fields = vec![
        ("name", queue.name.clone()),
        ("id", queue.id.to_string()),
        ("description", queue.config.description.clone().unwrap_or_default()),
        ("policy", queue.policy.clone().unwrap_or_default()),
        (
            "messages",
            format!(
                "{} ready{}, {} delayed, {} parked, {} in flight",
                depth.ready,
                if depth.unread > 0 { format!(" ({} not looked at yet)", depth.unread) } else { String::new() },
                depth.delayed,
                depth.parked,
                depth.in_flight
            ),
        ),
        ("bytes", show_bytes(depth.waiting_bytes + depth.in_flight_bytes)),
        ("oldest", or_none(queue.oldest_age_ms, show_millis)),
        ("consumers", format!("{}, {} of them paused", queue.consumers, queue.paused_consumers)),
        ("lease", or_none(rules.lease_ms, show_millis)),
        ("retry", backoff),
        ("dead letters", dead_letter(queue)),
        ("keyed", rules.keyed.to_string()),
        ("priorities", rules.priority_levels.to_string()),
        ("ttl", rules.ttl_ms.map(show_millis).unwrap_or_default()),
        ("delay", rules.delay_ms.map(show_millis).unwrap_or_default()),
        ("max messages", rules.max_messages.map(|count| count.to_string()).unwrap_or_default()),
        ("max bytes", rules.max_bytes.map(show_bytes).unwrap_or_default()),
        ("when full", rules.overflow.map(when_full).unwrap_or_default().to_owned()),
        ("dedup window", rules.dedup_window_ms.map(show_millis).unwrap_or_default()),
        ("breaker", rules.breaker.map(show_breaker).unwrap_or_default()),
        ("expires", rules.expires_ms.map(show_millis).unwrap_or_default()),
        ("webhook", queue.config.webhook.as_ref().map(|webhook| webhook.url.clone()).unwrap_or_default()),
        (
            "since the start",
            format!(
                "{} in, {} delivered, {} acked, {} failed, {} dead-lettered, {} dropped",
                counters.enqueued,
                counters.delivered,
                counters.acked,
                counters.failed,
                counters.dead_lettered,
                counters.dropped
            ),
        ),
        ("damage", queue.damage.clone().unwrap_or_default()),
    ];
    output::show(client.format, queue, fields)
}

/// Prints messages of a queue that were looked at.
pub(crate) fn print_browsed(client: &Client, answer: &BrowseAnswer) -> Result<(), Failure> {
    let head = [">offset", "state", ">attempts", "since", "subject", "body"];
    if client.format == Format::Json {
        return output::json(answer);
    }
    output::list(client.format, &answer.messages, &head, |browsed| {
        vec![
            browsed.offset.to_string(),
            state(browsed),
            browsed.attempts.to_string(),
            show_time(browsed.enqueued_ms),
            browsed.message.subject.clone().unwrap_or_default(),
            messages::excerpt(&browsed.message),
        ]
    })
}

fn state(browsed: &Browsed) -> String {
    match (browsed.state, browsed.due_ms) {
        (BrowsedState::Ready, _) => "ready".to_owned(),
        (BrowsedState::Delayed, Some(due)) => format!("due {}", show_time(due)),
        (BrowsedState::Delayed, None) => "delayed".to_owned(),
        (BrowsedState::Parked, _) => "parked".to_owned(),
        (BrowsedState::InFlight, _) => "in flight".to_owned(),
    }
}
