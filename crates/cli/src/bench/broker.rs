//! What a run cost the broker.

use reqwest::Url;
use serde::Serialize;

use crate::client::Client;
use crate::failure::Failure;

/// Ticks of a second in `/proc/<pid>/stat`: USER_HZ, which is 100 on every machine that Linux tells programs about.
const TICKS_PER_SECOND: f64 = 100.0;

/// The broker's counters at one time. What cannot be read is left out: it is only beside the point.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    cpu_seconds: Option<f64>,
    wal_bytes: Option<f64>,
    rounds: Option<f64>,
}

/// What a run cost the broker, what came before measuring included.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cost {
    /// Messages that the costs below are of.
    pub(super) messages: u64,
    /// Processor time of the broker, in user and kernel mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_seconds_per_million: Option<f64>,
    /// Bytes written to the write-ahead log for each message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) wal_bytes_per_message: Option<f64>,
    /// Messages that shared a write and a sync.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) messages_per_round: Option<f64>,
}

impl Counters {
    pub(super) async fn read(client: &Client, pid: Option<u32>) -> Result<Self, Failure> {
        let cpu_seconds = match pid {
            None => None,
            Some(pid) => Some(cpu_seconds(pid).ok_or_else(|| {
                Failure::usage(format!("the processor time of process {pid} cannot be read from /proc/{pid}/stat"))
            })?),
        };
        let metrics = client.text(metrics_url(client)).await.unwrap_or_default();
        Ok(Self {
            cpu_seconds,
            wal_bytes: value(&metrics, "posthouse_log_written_bytes_total"),
            rounds: value(&metrics, "posthouse_log_rounds_total"),
        })
    }

    /// The cost of so many messages between then and now.
    #[allow(clippy::cast_precision_loss, reason = "a measurement for people")]
    pub(super) fn cost(&self, before: &Self, messages: u64) -> Cost {
        let grown = |now: Option<f64>, then: Option<f64>| Some(now? - then?).filter(|_| messages > 0);
        let count = messages as f64;
        let cpu_seconds = grown(self.cpu_seconds, before.cpu_seconds);
        Cost {
            messages,
            cpu_seconds,
            cpu_seconds_per_million: cpu_seconds.map(|seconds| seconds * 1e6 / count),
            wal_bytes_per_message: grown(self.wal_bytes, before.wal_bytes).map(|bytes| bytes / count),
            messages_per_round: grown(self.rounds, before.rounds)
                .filter(|rounds| *rounds > 0.0)
                .map(|rounds| count / rounds),
        }
    }
}

fn metrics_url(client: &Client) -> Url {
    let mut url = client.base().clone();
    url.set_path("/metrics");
    url
}

/// The value of a metric without labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// A process's user and kernel time.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    cpu_of(&stat)
}

/// Fields 14 and 15, counted behind the command's name, which is in parentheses and may hold anything. (proc_pid_stat(5))
#[allow(clippy::cast_precision_loss, reason = "a measurement, exact up to 2^53 ticks")]
fn cpu_of(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some((ticks()? + ticks()?) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 900 0 1 0 250 150 0 0 20 0 8 0 100 1 1";
        assert_eq!(cpu_of(stat), Some(4.0));
        assert_eq!(cpu_of("42"), None);
        assert!(cpu_seconds(std::process::id()).is_some());
    }

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP a_total x\na_total_more 7\na_total 1.5e3\n";
        assert_eq!((value(text, "a_total"), value(text, "b_total")), (Some(1500.0), None));
    }

    #[test]
    fn costs_are_what_was_added() {
        let at = |n: f64| Counters { cpu_seconds: Some(n), wal_bytes: Some(n * 1000.0), rounds: None };
        let cost = at(3.0).cost(&at(1.0), 1_000_000);
        assert_eq!((cost.cpu_seconds_per_million, cost.wal_bytes_per_message), (Some(2.0), Some(0.002)));
        assert_eq!(cost.messages_per_round, None);
        assert_eq!(at(3.0).cost(&at(1.0), 0).cpu_seconds, None, "nothing was done, so nothing has a price");
    }
}
