//! Time, counts, and what a run came to.

use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;

/// Ticks of a second in `/proc/<pid>/stat`: USER_HZ, which is 100 on every machine that Linux tells programs about.
const TICKS_PER_SECOND: f64 = 100.0;
/// Not counted at the begin of a run.
pub(crate) const WARMUP: Duration = Duration::from_secs(1);

/// Now.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Counts of a run that is warmed up first.
#[derive(Debug)]
pub(crate) struct Meter {
    begin: Instant,
    end: Instant,
    done: u64,
    answered: u64,
    latency: Histogram<u64>,
    pid: Option<u32>,
    cpu: Option<f64>,
}

/// What it came to, in the fields that `posthouse bench` has too.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) bench: &'static str,
    messages: u64,
    seconds: f64,
    messages_per_second: f64,
    latency: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_seconds_per_million: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Latency {
    p50_us: u64,
    p99_us: u64,
    p999_us: u64,
    max_us: u64,
}

impl Meter {
    /// Of a run that begins now, and is measured for so long once it is warm. `pid` is the process that does the work.
    ///
    /// # Errors
    /// If the process's time cannot be read.
    pub(crate) fn new(warmup: Duration, duration: Duration, pid: Option<u32>) -> anyhow::Result<Self> {
        let begin = now() + warmup;
        Ok(Self {
            begin,
            end: begin + duration,
            done: 0,
            answered: 0,
            latency: Histogram::new_with_bounds(1, 600_000_000, 3)?,
            pid,
            cpu: pid.map(cpu_seconds).transpose()?,
        })
    }

    /// Whether nothing more is to be sent.
    pub(crate) fn is_over(&self, at: Instant) -> bool {
        at >= self.end
    }

    /// Notes an answer to what was sent at `since`.
    pub(crate) fn note(&mut self, since: Instant, at: Instant, count: u64) {
        self.answered += count;
        if at >= self.begin && at < self.end {
            self.done += count;
            let micros = u64::try_from(at.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX);
            self.latency.saturating_record_n(micros.max(1), count);
        }
    }

    /// What it came to. A run that ran out of work before its time is divided by the time that it took.
    ///
    /// # Errors
    /// If the process's time cannot be read.
    #[allow(clippy::cast_precision_loss, reason = "a measurement, exact up to 2^53")]
    pub(crate) fn finish(self, bench: &'static str) -> anyhow::Result<Report> {
        let seconds = self.end.min(now()).saturating_duration_since(self.begin).as_secs_f64();
        let cpu = match (self.pid, self.cpu) {
            (Some(pid), Some(before)) if self.answered > 0 => {
                Some((cpu_seconds(pid)? - before) * 1e6 / self.answered as f64)
            }
            _ => None,
        };
        Ok(Report {
            bench,
            messages: self.done,
            seconds,
            messages_per_second: self.done as f64 / seconds.max(f64::MIN_POSITIVE),
            latency: Latency {
                p50_us: self.latency.value_at_quantile(0.5),
                p99_us: self.latency.value_at_quantile(0.99),
                p999_us: self.latency.value_at_quantile(0.999),
                max_us: self.latency.max(),
            },
            cpu_seconds_per_million: cpu,
        })
    }
}

/// A process's user and kernel time: fields 14 and 15, counted behind the command's name. (proc_pid_stat(5))
#[allow(clippy::cast_precision_loss, reason = "a measurement, exact up to 2^53 ticks")]
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat =
        std::fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("there is no process {pid}"))?;
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().skip(11).take(2).filter_map(|field| field.parse().ok()).collect())
        .unwrap_or_default();
    anyhow::ensure!(fields.len() == 2, "the time of process {pid} cannot be read");
    Ok(fields.iter().sum::<u64>() as f64 / TICKS_PER_SECOND)
}

/// A body, the same in every run. It does not compress well, as that of `posthouse bench` does not.
pub(crate) fn body(size: usize) -> bytes::Bytes {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b' ' + (state % 94) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// A runtime of so many threads; one is the caller's own.
pub(crate) fn runtime(threads: usize) -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = match threads {
        0 | 1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    };
    Ok(runtime?)
}

/// Reads a number of seconds.
pub(crate) fn seconds(given: &str) -> Result<Duration, String> {
    match given.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds > 0.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("give a number of seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_answered_in_the_measured_time_counts() {
        let mut meter = Meter::new(Duration::from_secs(1), Duration::from_secs(2), Some(std::process::id())).unwrap();
        let at = |ms| meter.begin + Duration::from_millis(ms) - Duration::from_secs(1);
        let times = [at(500), at(1500), at(2999), at(3000)];
        for time in times {
            meter.note(time - Duration::from_micros(700), time, 10);
        }
        assert!(meter.is_over(times[3]) && !meter.is_over(times[2]));
        let report = meter.finish("x").unwrap();
        assert_eq!(report.messages, 20);
        assert!((699..=701).contains(&report.latency.p50_us), "{report:?}");
    }
}
