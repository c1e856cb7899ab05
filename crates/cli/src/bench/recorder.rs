//! What was counted, and when it counts.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::Notify;

use super::clock::now;
use super::driver::Answered;
use super::options::Load;
use crate::failure::{Exit, Failure};

/// Longest latency that is told apart from longer ones.
const MAX_LATENCY: Duration = Duration::from_secs(600);
/// Digits of a latency that are kept.
const DIGITS: u8 = 3;
/// A run to which nothing happens for so long has failed.
pub(super) const STALL: Duration = Duration::from_secs(30);

/// Counts and latencies of a run, shared by its connections. All of them run on one thread.
#[derive(Debug)]
pub(super) struct Recorder {
    /// When measuring begins.
    begin: Instant,
    /// When it ends, unless a count is measured.
    end: Option<Instant>,
    /// Messages that are still to be sent, of a count.
    left: Cell<Option<u64>>,
    done: Cell<u64>,
    failed: Cell<u64>,
    first_failure: RefCell<Option<String>>,
    /// When the last message that counts was done.
    last: Cell<Instant>,
    /// All that was ever answered, to notice a run that stands still.
    progress: Cell<u64>,
    latency: RefCell<Histogram<u64>>,
    /// Told when messages arrive, of runs whose window is what was not received yet.
    pub(super) room: Notify,
}

/// What a run came to.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) done: u64,
    pub(super) failed: u64,
    pub(super) first_failure: Option<String>,
    pub(super) took: Duration,
    pub(super) latency: Histogram<u64>,
}

impl Recorder {
    /// Of a run that begins now.
    pub(super) fn new(load: &Load) -> Result<Self, Failure> {
        let begin = now() + load.warmup();
        let longest = u64::try_from(MAX_LATENCY.as_micros()).unwrap_or(u64::MAX);
        let latency = Histogram::new_with_bounds(1, longest, DIGITS)
            .map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
        Ok(Self {
            begin,
            end: load.duration().map(|duration| begin + duration),
            left: Cell::new(load.count),
            done: Cell::new(0),
            failed: Cell::new(0),
            first_failure: RefCell::new(None),
            last: Cell::new(begin),
            progress: Cell::new(0),
            latency: RefCell::new(latency),
            room: Notify::new(),
        })
    }

    pub(super) fn begin(&self) -> Instant {
        self.begin
    }

    /// Whether nothing more is to be sent.
    pub(super) fn is_over(&self, at: Instant) -> bool {
        self.left.get() == Some(0) || self.end.is_some_and(|end| at >= end)
    }

    /// When nothing more is to be sent, if that is a time.
    pub(super) fn end(&self) -> Option<Instant> {
        self.end
    }

    /// Takes up to so many messages that are to be sent. What is sent before measuring begins is not of the count.
    pub(super) fn claim(&self, since: Instant, count: u32) -> u32 {
        match self.left.get() {
            Some(left) if since >= self.begin => {
                let claimed = count.min(u32::try_from(left).unwrap_or(u32::MAX));
                self.left.set(Some(left - u64::from(claimed)));
                claimed
            }
            _ => count,
        }
    }

    /// Notes an answer. A duration counts what was done in it; a count counts what was sent of it.
    pub(super) fn note(&self, at: Instant, answered: &Answered) {
        self.progress.set(self.progress.get() + u64::from(answered.done + answered.failed));
        if answered.failed > 0 {
            self.failed.set(self.failed.get() + u64::from(answered.failed));
            let mut first = self.first_failure.borrow_mut();
            if first.is_none() {
                first.clone_from(&answered.why);
            }
        }
        if answered.done > 0 && self.counts(answered.since, at) {
            self.done.set(self.done.get() + u64::from(answered.done));
            self.last.set(at);
            let micros = u64::try_from(at.saturating_duration_since(answered.since).as_micros()).unwrap_or(u64::MAX);
            self.latency.borrow_mut().saturating_record_n(micros.max(1), answered.done.into());
        }
    }

    fn counts(&self, since: Instant, at: Instant) -> bool {
        match self.end {
            Some(end) => at >= self.begin && at < end,
            None => since >= self.begin,
        }
    }

    /// Notes a failure that is no message's, such as a lost connection.
    pub(super) fn broken(&self, failure: &Failure) {
        self.failed.set(self.failed.get() + 1);
        self.first_failure.borrow_mut().get_or_insert_with(|| failure.what.clone());
    }

    /// Messages that count so far.
    pub(super) fn done(&self) -> u64 {
        self.done.get()
    }

    /// Messages that were done or refused so far, those before measuring began included.
    pub(super) fn answered(&self) -> u64 {
        self.progress.get()
    }

    /// Ends with a failure once nothing has happened for too long.
    pub(super) async fn watch(&self) -> Failure {
        let mut before = self.progress.get();
        loop {
            tokio::time::sleep(STALL).await;
            let progress = std::mem::replace(&mut before, self.progress.get());
            if progress == before {
                return Failure::new(Exit::Timeout, format!("nothing was answered for {} s", STALL.as_secs()));
            }
        }
    }

    /// What it came to; `stopped` is when the run was interrupted, if it was.
    pub(super) fn finish(&self, stopped: Option<Instant>) -> Measured {
        let end = match (stopped, self.end) {
            (Some(at), end) => end.map_or(at, |end| end.min(at)),
            (None, Some(end)) => end,
            (None, None) => self.last.get(),
        };
        Measured {
            done: self.done.get(),
            failed: self.failed.get(),
            first_failure: self.first_failure.borrow().clone(),
            took: end.saturating_duration_since(self.begin),
            latency: self.latency.borrow().clone(),
        }
    }
}
