//! How long to wait before trying again.

use std::time::Duration;

/// The waits between tries to reach the broker: each is anything from nothing to a bound that doubles, so that clients of a broker that comes
/// back do not come all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait.
    pub initial: Duration,
    /// No bound is larger.
    pub cap: Duration,
}

impl Default for Backoff {
    /// 100 ms, doubled up to 5 s.
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), cap: Duration::from_secs(5) }
    }
}

/// Where a series of tries stands.
#[derive(Debug)]
pub(crate) struct Pace {
    backoff: Backoff,
    tries: u32,
}

impl Pace {
    pub(crate) const fn new(backoff: Backoff) -> Self {
        Self { backoff, tries: 0 }
    }

    /// It worked: the next series begins from the start.
    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }

    /// The wait before the next try.
    pub(crate) fn next(&mut self) -> Duration {
        let bound = self.bound();
        self.tries = self.tries.saturating_add(1);
        bound.mul_f64(fastrand::f64())
    }

    fn bound(&self) -> Duration {
        let factor = 1u32.checked_shl(self.tries.min(31)).unwrap_or(u32::MAX);
        self.backoff.initial.saturating_mul(factor).min(self.backoff.cap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_begin_anew_after_a_success() {
        let backoff = Backoff { initial: Duration::from_millis(100), cap: Duration::from_secs(1) };
        let mut pace = Pace::new(backoff);
        let mut bounds = Vec::new();
        for _ in 0..6 {
            let bound = pace.bound();
            assert!(pace.next() <= bound);
            bounds.push(bound.as_millis());
        }
        assert_eq!(bounds, [100, 200, 400, 800, 1000, 1000]);
        for _ in 0..100 {
            assert!(pace.next() <= backoff.cap);
        }
        pace.reset();
        assert_eq!(pace.bound(), backoff.initial);
    }
}
