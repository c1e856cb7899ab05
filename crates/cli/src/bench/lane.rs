//! What one connection does while a benchmark runs.

use std::cell::Cell;
use std::future::pending;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;

use super::clock::now;
use super::driver::{Answered, Event, Frame, Receiver, Sender};
use super::options::{Load, MIN_SIZE_BYTES};
use super::pace::Pace;
use super::recorder::Recorder;
use crate::failure::Failure;

/// Body bytes are these, again and again. They differ enough that a disk or a network that compresses gains little.
const FILLER: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const STAMP_BYTES: usize = MIN_SIZE_BYTES as usize;

/// A body of this size, in ASCII so that every protocol carries it as it is.
pub(super) fn body(size: usize) -> Vec<u8> {
    // Seeded, so that two runs send the same.
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        FILLER.get((state % 64) as usize).copied().unwrap_or(b'x')
    };
    (0..size).map(|_| next()).collect()
}

/// One connection's share of the work.
pub(super) struct Lane<'r> {
    pub(super) recorder: &'r Recorder,
    pace: Pace,
    window: u32,
    batch: u32,
    coalesce: bool,
    /// Targets of the connection, taken in turn.
    targets: usize,
    next: usize,
    body: Bytes,
}

impl<'r> Lane<'r> {
    /// Of connection `at`, which has so many targets.
    pub(super) fn new(load: &Load, recorder: &'r Recorder, at: u32, targets: usize, start: Instant) -> Self {
        Self {
            recorder,
            pace: Pace::new(load.rate, at, load.concurrency, start),
            window: load.window(),
            batch: load.batch,
            coalesce: load.coalesce,
            targets,
            // Connections begin at different targets, so that they do not all write to the same one.
            next: at as usize % targets.max(1),
            body: Bytes::from(body(load.size())),
        }
    }

    /// The next frame, if one is to be sent now.
    fn frame(&mut self, at: Instant, room: u32, stamp: Option<Instant>) -> Option<Frame> {
        if self.recorder.is_over(at) {
            return None;
        }
        let (since, count) = self.pace.next(at, room, self.batch, self.coalesce)?;
        let count = self.recorder.claim(since, count);
        if count == 0 {
            return None;
        }
        self.pace.sent(count);
        let to = self.next;
        self.next = (to + 1) % self.targets.max(1);
        let body = match stamp {
            None => self.body.clone(),
            Some(start) => stamped(&self.body, since.saturating_duration_since(start)),
        };
        Some(Frame { to, body, count, since })
    }

    /// Waits until the clock says that something is to be done: the next message is due, or the run is over.
    async fn wake(&self) {
        let due = self.pace.due(self.batch, self.coalesce);
        let wake = match (due, self.recorder.end()) {
            (Some(due), Some(end)) => Some(due.min(end)),
            (Some(due), None) => Some(due),
            (None, _) => None,
        };
        match wake {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => pending().await,
        }
    }

    /// Sends until the run is over, and waits for what is in flight.
    ///
    /// # Errors
    /// If the connection is lost.
    pub(super) async fn send<S: Sender>(mut self, mut sender: S) -> Result<(), Failure> {
        let mut in_flight = 0;
        loop {
            let at = now();
            while let Some(frame) = self.frame(at, self.window - in_flight, None) {
                in_flight += frame.count;
                sender.send(frame).await?;
            }
            if in_flight == 0 {
                if self.recorder.is_over(at) {
                    return Ok(());
                }
                self.wake().await;
                continue;
            }
            let mut answered = tokio::select! {
                biased;
                answered = sender.answered() => answered?,
                () = self.wake(), if !self.recorder.is_over(at) && in_flight < self.window => continue,
            };
            // All answers that are there go before the next frame, which so gets as full as it can.
            let at = now();
            loop {
                in_flight -= (answered.done + answered.failed).min(in_flight);
                self.recorder.note(at, &answered);
                if in_flight == 0 {
                    break;
                }
                match sender.answered().now_or_never() {
                    Some(more) => answered = more?,
                    None => break,
                }
            }
        }
    }

    /// As [`send`](Self::send), where what is in flight is what was not received yet, wherever that is counted.
    pub(super) async fn send_for<S: Sender>(mut self, mut sender: S, trip: &RoundTrip) -> Result<(), Failure> {
        let mut unconfirmed = 0;
        loop {
            let at = now();
            while let Some(frame) = self.frame(at, trip.room(), Some(trip.start)) {
                unconfirmed += frame.count;
                trip.on_the_way.set(trip.on_the_way.get() + frame.count);
                sender.send(frame).await?;
            }
            let over = self.recorder.is_over(at);
            if over && unconfirmed == 0 {
                return Ok(());
            }
            tokio::select! {
                biased;
                answered = sender.answered(), if unconfirmed > 0 => {
                    let answered = answered?;
                    unconfirmed -= (answered.done + answered.failed).min(unconfirmed);
                    trip.confirmed.set(trip.confirmed.get() + u64::from(answered.done));
                    trip.arrived(answered.failed);
                    self.recorder.note(now(), &Answered { done: 0, ..answered });
                }
                () = self.recorder.room.notified(), if !over => {}
                () = self.wake(), if !over && trip.room() > 0 => {}
                () = until(self.recorder.end()), if !over => {}
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// Messages between publishers and consumers.
#[derive(Debug)]
pub(super) struct RoundTrip {
    /// Stamps count from here.
    start: Instant,
    window: u32,
    on_the_way: Cell<u32>,
    /// Messages whose publish was confirmed.
    pub(super) confirmed: Cell<u64>,
    /// Messages that were received.
    pub(super) received: Cell<u64>,
}

impl RoundTrip {
    pub(super) fn new(load: &Load, start: Instant) -> Self {
        Self {
            start,
            window: load.window().saturating_mul(load.concurrency),
            on_the_way: Cell::new(0),
            confirmed: Cell::new(0),
            received: Cell::new(0),
        }
    }

    fn room(&self) -> u32 {
        self.window.saturating_sub(self.on_the_way.get())
    }

    fn arrived(&self, count: u32) {
        self.on_the_way.set(self.on_the_way.get().saturating_sub(count));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.on_the_way.get() == 0
    }

    /// Takes messages and notes how long each was on its way, for ever.
    pub(super) async fn receive(&self, mut receiver: impl Receiver, recorder: &Recorder) -> Result<(), Failure> {
        loop {
            let mut look = |body: &[u8]| {
                let at = now();
                let Some(sent) = stamp(body) else { return };
                self.received.set(self.received.get() + 1);
                recorder.note(at, &Answered { since: self.start + sent, done: 1, failed: 0, why: None });
            };
            match receiver.next(&mut look).await? {
                Event::Came(count) => {
                    self.arrived(count);
                    recorder.room.notify_waiters();
                    receiver.acknowledge(now()).await?;
                }
                Event::Acknowledged(answered) => recorder.note(now(), &Answered { done: 0, ..answered }),
            }
        }
    }
}

/// Takes and acknowledges messages until so many are acknowledged by all lanes together, or the run is over.
///
/// # Errors
/// If the connection is lost.
pub(super) async fn consume(mut receiver: impl Receiver, recorder: &Recorder, filled: u64) -> Result<(), Failure> {
    let mut look = |_: &[u8]| {};
    loop {
        let at = now();
        if recorder.answered() >= filled || recorder.is_over(at) {
            recorder.room.notify_waiters();
            return Ok(());
        }
        let event = tokio::select! {
            biased;
            event = receiver.next(&mut look) => event?,
            () = recorder.room.notified() => continue,
            () = until(recorder.end()) => continue,
        };
        match event {
            Event::Came(_) => receiver.acknowledge(now()).await?,
            Event::Acknowledged(answered) => recorder.note(now(), &answered),
        }
    }
}

/// The body with the time at which it was sent in front.
fn stamped(body: &Bytes, sent: Duration) -> Bytes {
    let mut text = format!("{:016x}", sent.as_nanos()).into_bytes();
    text.extend_from_slice(body.get(STAMP_BYTES..).unwrap_or_default());
    Bytes::from(text)
}

/// The time in front of a body.
fn stamp(body: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(body.get(..STAMP_BYTES)?).ok()?;
    u64::from_str_radix(text, 16).ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_carries_its_time_and_keeps_its_size() {
        let plain = Bytes::from(body(100));
        let sent = Duration::from_nanos(0x0012_3456_789A_BCDE);
        let stamped = stamped(&plain, sent);
        assert_eq!((stamped.len(), stamp(&stamped)), (100, Some(sent)));
        assert_eq!(plain[16..], stamped[16..]);
        assert_eq!(stamp(b"short"), None);
        assert!(plain.is_ascii() && body(100) == body(100));
    }
}
