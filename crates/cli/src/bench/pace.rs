//! When the next frame of a connection is to be sent.

use std::time::{Duration, Instant};

/// One connection's rhythm.
#[derive(Debug)]
pub(super) enum Pace {
    /// Closed loop: as soon as the window has room.
    Closed,
    /// Open loop: by the clock. A connection that falls behind catches up; what was late counts as late from when it was due.
    Open {
        /// When the next message is due.
        due: Instant,
        /// Time between two messages.
        every: Duration,
    },
}

impl Pace {
    /// The rhythm of connection `at` of `of`, which share `rate` messages a second and begin evenly shifted.
    pub(super) fn new(rate: Option<f64>, at: u32, of: u32, start: Instant) -> Self {
        let Some(rate) = rate else { return Self::Closed };
        let every = Duration::from_secs_f64(f64::from(of) / rate);
        Self::Open { due: start + every.mul_f64(f64::from(at) / f64::from(of)), every }
    }

    /// From when the next frame's latency counts, and how many messages it may have, of at most `room`: if a frame is to be sent now.
    /// A frame of an open loop waits until all its messages are due, or, if it coalesces, goes with those that are.
    pub(super) fn next(&self, now: Instant, room: u32, batch: u32, coalesce: bool) -> Option<(Instant, u32)> {
        let whole = batch.min(room);
        if whole == 0 || (whole < batch && !coalesce) {
            return None;
        }
        match self {
            Self::Closed => Some((now, whole)),
            Self::Open { due, every } => {
                let behind = now.checked_duration_since(*due)?;
                let waiting = behind.as_nanos() / every.as_nanos().max(1) + 1;
                let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
                (coalesce || waiting >= batch).then(|| (*due, whole.min(waiting)))
            }
        }
    }

    /// Notes that so many messages were sent.
    pub(super) fn sent(&mut self, count: u32) {
        if let Self::Open { due, every } = self {
            *due += *every * count;
        }
    }

    /// When the next frame is due, of an open loop.
    pub(super) fn due(&self, batch: u32, coalesce: bool) -> Option<Instant> {
        match self {
            Self::Closed => None,
            Self::Open { due, every } => Some(if coalesce { *due } else { *due + *every * (batch - 1) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::now;
    use super::*;

    #[test]
    fn a_closed_loop_sends_what_the_window_has_room_for() {
        let start = now();
        let pace = Pace::new(None, 0, 1, start);
        assert_eq!(pace.next(start, 100, 10, false), Some((start, 10)));
        assert_eq!(pace.next(start, 9, 10, false), None);
        assert_eq!(pace.next(start, 9, 10, true), Some((start, 9)));
        assert_eq!(pace.next(start, 0, 10, true), None);
    }

    #[test]
    fn what_an_open_loop_sends_late_counts_from_when_it_was_due() {
        let start = now();
        let mut pace = Pace::new(Some(1000.0), 0, 1, start);
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(pace.next(start, 9, 1, false), Some((start, 1)));
        pace.sent(1);
        assert_eq!(pace.next(start, 9, 1, false), None);
        assert_eq!(pace.due(1, false), Some(at(1)));
        assert_eq!(pace.next(at(5), 9, 10, true), Some((at(1), 5)));
        assert_eq!(pace.next(at(5), 9, 10, false), None, "only five of ten are due, and only nine fit");
        assert_eq!(pace.due(3, false), Some(at(3)));
    }

    #[test]
    fn connections_of_an_open_loop_take_turns() {
        let start = now();
        let second = Pace::new(Some(10.0), 1, 2, start);
        assert_eq!(second.due(1, false), Some(start + Duration::from_millis(100)));
    }
}
