//! How a result is written.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::broker::Cost;
use super::disk::{self, DiskReport};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Rows};

/// A result. Fields are only ever added.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) bench: &'static str,
    pub(super) protocol: &'static str,
    pub(super) size_bytes: u64,
    pub(super) concurrency: u32,
    pub(super) window: u32,
    pub(super) batch: u32,
    pub(super) coalesce: bool,
    pub(super) queues: u32,
    pub(super) rate: Option<f64>,
    pub(super) durability: api::Durability,
    /// It was ended by Ctrl-C.
    pub(super) interrupted: bool,
    /// Messages that were measured.
    pub(super) messages: u64,
    /// Messages that were refused, and connections that were lost, also before measuring began.
    pub(super) errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) first_error: Option<String>,
    /// Messages that the queues hold at the end, each queue's counted, where they are not consumed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stored: Option<u64>,
    pub(super) seconds: f64,
    pub(super) messages_per_second: f64,
    /// Of bodies.
    pub(super) mib_per_second: f64,
    pub(super) latency: Latency,
    pub(super) broker: Cost,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) disk: Vec<DiskReport>,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latency {
    /// What a latency is the time between.
    pub(super) measured: &'static str,
    pub(super) count: u64,
    pub(super) mean_us: f64,
    pub(super) p50_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    pub(super) max_us: u64,
}

impl Latency {
    pub(super) fn new(measured: &'static str, times: &Histogram<u64>) -> Self {
        Self {
            measured,
            count: times.len(),
            mean_us: times.mean(),
            p50_us: times.value_at_quantile(0.5),
            p99_us: times.value_at_quantile(0.99),
            p999_us: times.value_at_quantile(0.999),
            max_us: times.max(),
        }
    }
}

impl Report {
    /// Writes it.
    ///
    /// # Errors
    /// If messages failed, or nobody reads it.
    pub(super) fn write(&self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Json => output::json(self)?,
            Format::Table => self.table()?,
        }
        match (&self.first_error, self.errors) {
            (Some(first), count) if count > 0 => {
                Err(Failure::new(Exit::Failed, format!("{count} errors, the first of them: {first}")))
            }
            _ => Ok(()),
        }
    }

    fn table(&self) -> Result<(), Failure> {
        let mut rows =
            Rows::new(&[self.bench, ">messages", ">errors", ">msg/s", ">MiB/s", ">p50", ">p99", ">p99.9", ">max"]);
        rows.add([
            self.protocol.to_owned(),
            self.messages.to_string(),
            self.errors.to_string(),
            format!("{:.0}", self.messages_per_second),
            format!("{:.1}", self.mib_per_second),
            micros(self.latency.p50_us),
            micros(self.latency.p99_us),
            micros(self.latency.p999_us),
            micros(self.latency.max_us),
        ]);
        output::line(rows.text())?;
        output::line(format!("latency: {}", self.latency.measured))?;
        let mut costs = Vec::new();
        costs.extend(
            self.broker.cpu_seconds_per_million.map(|s| format!("{s:.2} s of processor time a million messages")),
        );
        costs.extend(
            self.broker.wal_bytes_per_message.map(|bytes| format!("{bytes:.0} B of write-ahead log a message")),
        );
        costs.extend(self.broker.messages_per_round.map(|count| format!("{count:.1} messages a sync")));
        if !costs.is_empty() {
            output::line(format!("broker: {}", costs.join(", ")))?;
        }
        if !self.disk.is_empty() {
            output::line(disk::table(&self.disk))?;
        }
        if self.interrupted {
            output::remark("interrupted: this is what was measured until then");
        }
        Ok(())
    }
}

/// A latency for people.
#[allow(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn micros(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} us"),
        1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_shown_in_the_unit_that_fits() {
        assert_eq!([7, 1_234, 2_500_000].map(micros), ["7 us", "1.23 ms", "2.50 s"]);
    }
}
