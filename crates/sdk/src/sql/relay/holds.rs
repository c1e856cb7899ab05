//! Destinations that take nothing at the moment, and waits that grow.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::limits::MAX_HELD_DESTINATIONS;
use super::until;

/// Waits that double from a first one up to a cap, each shortened by up to a half at random.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first: Duration,
    cap: Duration,
    failures: u32,
}

impl Backoff {
    pub(super) const fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, failures: 0 }
    }

    pub(super) fn next(&mut self) -> Duration {
        let doubled = 2u32.checked_pow(self.failures).and_then(|times| self.first.checked_mul(times));
        self.failures = self.failures.saturating_add(1);
        doubled.map_or(self.cap, |wait| wait.min(self.cap)).mul_f64(1.0 - fastrand::f64() / 2.0)
    }

    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The destinations that failed last time. A destination stays in it until it takes a message, or until it was not tried for long.
#[derive(Debug)]
pub(super) struct Holds {
    first: Duration,
    cap: Duration,
    held: HashMap<String, Hold>,
}

#[derive(Debug)]
struct Hold {
    backoff: Backoff,
    until: Instant,
}

impl Holds {
    pub(super) fn new(first: Duration, cap: Duration) -> Self {
        Self { first, cap, held: HashMap::new() }
    }

    /// Passes over this destination for a while; for how long. More failures within that time change nothing.
    pub(super) fn hold(&mut self, destination: &str) -> Duration {
        let now = Instant::now();
        if !self.held.contains_key(destination) {
            let cap = self.cap;
            // Not tried again for so long: nothing of it is in the outbox any more.
            self.held.retain(|_, hold| now < hold.until + cap);
        }
        let hold = self
            .held
            .entry(destination.to_owned())
            .or_insert_with(|| Hold { backoff: Backoff::new(self.first, self.cap), until: now });
        if hold.until <= now {
            hold.until = now + hold.backoff.next();
        }
        until(hold.until)
    }

    /// It took a message.
    pub(super) fn release(&mut self, destination: &str) {
        // One that failed for another message of the same wave stays held.
        if self.held.get(destination).is_some_and(|hold| hold.until <= Instant::now()) {
            self.held.remove(destination);
        }
    }

    /// Those that are passed over now.
    pub(super) fn names(&self) -> Vec<String> {
        let now = Instant::now();
        self.held.iter().filter(|(_, hold)| now < hold.until).map(|(name, _)| name.clone()).collect()
    }

    /// In how long the first of them is tried again.
    pub(super) fn soonest(&self) -> Option<Duration> {
        let now = Instant::now();
        self.held.values().filter(|hold| now < hold.until).map(|hold| until(hold.until)).min()
    }

    /// If as many are held as may be: in how long the first is tried again.
    pub(super) fn full(&self) -> Option<Duration> {
        if self.names().len() < MAX_HELD_DESTINATIONS { None } else { self.soonest() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_with_jitter() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for most_ms in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next();
            assert!(wait >= Duration::from_millis(most_ms / 2) && wait <= Duration::from_millis(most_ms), "{wait:?}");
        }
        for _ in 0..100 {
            assert!(backoff.next() <= Duration::from_secs(1));
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_is_held_for_longer_and_longer_until_it_takes_something() {
        let mut holds = Holds::new(Duration::from_millis(100), Duration::from_secs(60));
        let first = holds.hold("queue:full");
        assert_eq!(holds.names(), ["queue:full"]);
        assert_eq!(holds.hold("queue:full"), first, "a second message of the same wave");
        tokio::time::advance(first).await;
        assert!(holds.names().is_empty());
        assert!(holds.hold("queue:full") >= Duration::from_millis(100));
        tokio::time::advance(Duration::from_millis(200)).await;
        holds.release("queue:full");
        assert!(holds.hold("queue:full") <= Duration::from_millis(100), "it begins anew");
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_are_held() {
        let mut holds = Holds::new(Duration::from_secs(10), Duration::from_secs(10));
        for number in 0..MAX_HELD_DESTINATIONS {
            assert_eq!(holds.full(), None);
            holds.hold(&format!("queue:{number}"));
        }
        tokio::time::advance(holds.full().unwrap()).await;
        assert_eq!(holds.full(), None);
    }
}
