//! A clock that stands still until it is moved: for tests, and for brokers that others test with.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Clock, Monotonic, Now, Timestamp};

/// A clock that tests move by hand. Share it in an `Arc`.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Now>,
}

impl ManualClock {
    /// The wall-clock time of a new clock: 2025-01-01 00:00 UTC.
    pub const START: Timestamp = Timestamp(1_735_689_600_000);

    /// A clock at [`Self::START`], with one second on its monotonic side.
    #[must_use]
    pub fn new() -> Self {
        Self::starting_at(Self::START)
    }

    /// A clock at this wall-clock time.
    #[must_use]
    pub fn starting_at(wall: Timestamp) -> Self {
        Self { now: Mutex::new(Now { wall, mono: Monotonic(1_000_000_000) }) }
    }

    /// Moves both clocks on, and says where they stand then.
    pub fn advance(&self, by: Duration) -> Now {
        self.change(|now| *now = now.after(by))
    }

    /// Moves the wall clock alone by so many milliseconds, backwards if negative, as an operator or a time server would.
    pub fn jump_wall(&self, by_ms: i64) -> Now {
        self.change(|now| now.wall = Timestamp(now.wall.0.saturating_add(by_ms)))
    }

    fn change(&self, change: impl FnOnce(&mut Now)) -> Now {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut now);
        *now
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Now {
        self.change(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_advance_together_and_the_wall_jumps_alone() {
        let clock = ManualClock::new();
        let before = clock.now();
        assert_eq!(clock.now(), before, "it stands still");
        let after = clock.advance(Duration::from_millis(1500));
        assert_eq!(after.wall.since(before.wall), Duration::from_millis(1500));
        assert_eq!(after.mono.since(before.mono), Duration::from_millis(1500));
        let jumped = clock.jump_wall(-60_000);
        assert_eq!(jumped.mono, after.mono);
        assert_eq!(jumped.wall.0, after.wall.0 - 60_000);
    }
}
