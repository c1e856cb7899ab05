//! Pauses a consumer whose handler fails too often.

use std::collections::VecDeque;
use std::time::Duration;

/// When a consumer is paused: while what its handler needs is away, every message would only use up its attempts. A paused consumer gives back
/// what it has, takes nothing for `pause`, and then tries one message; that one's success ends the pause, its failure begins the next.
///
/// Terminal errors do not count as failures: they say that something is wrong with the message, and not with what the handler needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Breaker {
    /// Share of failures among the last `window` messages that opens it: above 0, at most 1.
    pub failure_ratio: f64,
    /// Messages looked at; it does not open before so many were handled.
    pub window: usize,
    /// How long a pause is.
    pub pause: Duration,
}

impl Default for Breaker {
    /// Half of the last 20 messages; 10 s.
    fn default() -> Self {
        Self { failure_ratio: 0.5, window: 20, pause: Duration::from_secs(10) }
    }
}

/// What follows from an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    GoOn,
    /// A pause.
    Pause(Duration),
    /// The end of trying one message at a time.
    Resume,
}

/// A breaker at work.
#[derive(Debug)]
pub(super) struct Watch {
    settings: Breaker,
    /// The last outcomes; true is a failure.
    last: VecDeque<bool>,
    failures: usize,
    probing: bool,
}

impl Watch {
    pub(super) fn new(settings: Breaker) -> Self {
        Self { settings, last: VecDeque::with_capacity(settings.window), failures: 0, probing: false }
    }

    /// Takes note of an outcome, and says what follows.
    pub(super) fn note(&mut self, failed: bool) -> Verdict {
        if std::mem::take(&mut self.probing) {
            self.clear();
            self.probing = failed;
            return if failed { Verdict::Pause(self.settings.pause) } else { Verdict::Resume };
        }
        self.last.push_back(failed);
        self.failures += usize::from(failed);
        if self.last.len() > self.settings.window && self.last.pop_front() == Some(true) {
            self.failures -= 1;
        }
        if self.last.len() < self.settings.window.max(1) {
            return Verdict::GoOn;
        }
        #[allow(clippy::cast_precision_loss, reason = "a window is small")]
        let ratio = self.failures as f64 / self.last.len() as f64;
        if ratio < self.settings.failure_ratio {
            return Verdict::GoOn;
        }
        self.clear();
        self.probing = true;
        Verdict::Pause(self.settings.pause)
    }

    /// Whether only one message may be tried now.
    pub(super) const fn is_probing(&self) -> bool {
        self.probing
    }

    fn clear(&mut self) {
        self.last.clear();
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_at_the_ratio_probes_and_closes_with_a_success() {
        let pause = Duration::from_secs(7);
        let mut watch = Watch::new(Breaker { failure_ratio: 0.5, window: 4, pause });
        for failed in [true, true, true] {
            assert_eq!(watch.note(failed), Verdict::GoOn, "too few to judge");
        }
        assert_eq!(watch.note(false), Verdict::Pause(pause));
        assert!(watch.is_probing());
        assert_eq!(watch.note(true), Verdict::Pause(pause), "the probe failed");
        assert!(watch.is_probing());
        assert_eq!(watch.note(false), Verdict::Resume);
        assert!(!watch.is_probing());
        for failed in [false, true, false, false, false] {
            assert_eq!(watch.note(failed), Verdict::GoOn);
        }
    }
}
