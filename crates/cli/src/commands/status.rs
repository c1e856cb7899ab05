//! `status`.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use api::{Queue, Status as ServerStatus, Topic};
use clap::Args;

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Format, Rows};
use crate::values::{or_none, show_bytes, show_millis, span};

/// Puts the cursor home and clears what is below it. (ECMA-48, CUP and ED.)
const REDRAW: &str = "\x1b[H\x1b[J";

/// How the server, its queues and its topics are.
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  posthouse status\n  posthouse status --watch\n  posthouse status --watch=500ms")]
pub(crate) struct Status {
    /// Look again and again, so often.
    #[arg(long, value_name = "TIME", value_parser = span, num_args = 0..=1, require_equals = true, default_missing_value = "1s")]
    watch: Option<Duration>,
}

/// Everything that is shown.
#[derive(serde::Serialize)]
struct Seen {
    status: ServerStatus,
    queues: Vec<Queue>,
    topics: Vec<Topic>,
}

pub(crate) async fn run(client: Client, status: Status) -> Result<(), Failure> {
    loop {
        let seen = Seen {
            status: client.get(client.admin(&["status"])).await?,
            queues: client.list(client.within(&["queues"])).await?,
            topics: client.list(client.within(&["topics"])).await?,
        };
        match client.format {
            Format::Json if status.watch.is_some() => output::json_line(&seen)?,
            Format::Json => output::json(&seen)?,
            Format::Table => {
                let redraw = status.watch.is_some() && std::io::stdout().is_terminal();
                output::line(format!("{}{}", if redraw { REDRAW } else { "" }, table(&seen)))?;
            }
        }
        let Some(pause) = status.watch else { return Ok(()) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

fn table(seen: &Seen) -> String {
    let s = &seen.status;
    let mut text = String::new();
    let ready = s.not_ready.as_ref().map_or("ready".to_owned(), |why| format!("NOT READY: {why}"));
    let _ = writeln!(text, "posthouse {}  {ready}", s.version);
    let _ = writeln!(
        text,
        "published {}  delivered {}  acked {}  failed {}  dead-lettered {}  refused {}",
        s.published, s.delivered, s.acked, s.failed, s.dead_lettered, s.publish_errors
    );
    let free = or_none(s.disk_free_bytes, show_bytes);
    let high = if s.memory_high { " (publishers are held back)" } else { "" };
    let full = if s.disk_full { " (full: publishes are refused)" } else { "" };
    let _ = writeln!(text, "in memory {}{high}  disk free {free}{full}", show_bytes(s.memory_bytes));
    if let Some(backup) = &s.backup {
        let part = backup.read_bytes.saturating_mul(100) / backup.total_bytes.max(1);
        let (total, held) = (show_bytes(backup.total_bytes), show_bytes(backup.held_bytes));
        let _ = writeln!(text, "backup under way: {part} % of {total}  disk kept for it {held}");
    }
    if let Some(why) = &s.last_backup_error {
        let _ = writeln!(text, "the last backup FAILED: {why}");
    }
    if s.damaged_logs > 0 {
        let _ = writeln!(
            text,
            "DAMAGED: {} logs can only be read; stop the server and run `posthouse log verify`",
            s.damaged_logs
        );
    }
    if !seen.queues.is_empty() {
        let mut rows = Rows::new(&[
            "queue",
            ">ready",
            ">delayed",
            ">in flight",
            ">oldest",
            ">in/s",
            ">out/s",
            ">acks/s",
            ">fails/s",
            ">consumers",
        ]);
        for queue in &seen.queues {
            rows.add(queue_row(queue));
        }
        let _ = write!(text, "\n{}\n", rows.text());
    }
    if !seen.topics.is_empty() {
        let mut rows = Rows::new(&["topic", ">published", ">unrouted", ">bindings", ">records", ">bytes"]);
        for topic in &seen.topics {
            rows.add([
                marked(&topic.name, topic.damage.as_ref()),
                topic.published.to_string(),
                topic.unrouted.to_string(),
                topic.bindings.to_string(),
                topic.partitions.iter().map(|partition| partition.records).sum::<u64>().to_string(),
                show_bytes(topic.partitions.iter().map(|partition| partition.bytes).sum()),
            ]);
        }
        let _ = write!(text, "\n{}\n", rows.text());
    }
    text.trim_end().to_owned()
}

fn marked(name: &str, damage: Option<&String>) -> String {
    if damage.is_some() { format!("{name} (DAMAGED)") } else { name.to_owned() }
}

fn queue_row(queue: &Queue) -> [String; 10] {
    let rate = |rate: f64| format!("{rate:.1}");
    let paused = match queue.paused_consumers {
        0 => String::new(),
        paused => format!(" ({paused} paused)"),
    };
    [
        marked(&queue.name, queue.damage.as_ref()),
        queue.depth.ready.to_string(),
        (queue.depth.delayed + queue.depth.parked).to_string(),
        queue.depth.in_flight.to_string(),
        or_none(queue.oldest_age_ms, show_millis),
        rate(queue.rates.enqueued),
        rate(queue.rates.delivered),
        rate(queue.rates.acked),
        rate(queue.rates.failed),
        format!("{}{paused}", queue.consumers),
    ]
}
