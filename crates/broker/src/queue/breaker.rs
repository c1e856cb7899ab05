//! Pauses a consumer that fails too often, then probes it with one message.

use std::collections::VecDeque;

use types::Monotonic;

use super::BreakerRules;

/// The pause doubles up to so many times its first length.
const MAX_PAUSES: u32 = 32;
/// Most settlements remembered, whatever the rules say.
const MAX_WINDOW: u32 = 10_000;

/// How a settlement counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure,
    /// Neither: released, or nacked without counting.
    Untried,
}

/// What a settlement did to the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Opened,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    /// Nothing is handed out until then; then one message is.
    Open {
        until: Monotonic,
        pauses: u32,
    },
    /// This delivery decides.
    Probing {
        serial: u64,
        pauses: u32,
    },
}

/// One consumer's breaker.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    /// The last settlements; true is a failure.
    recent: VecDeque<bool>,
    failures: u32,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { state: State::Closed, recent: VecDeque::new(), failures: 0 }
    }

    /// How many messages may be handed out, at most `wanted`.
    pub(super) fn allows(&self, now: Monotonic, wanted: usize) -> usize {
        match self.state {
            State::Closed => wanted,
            State::Open { until, .. } if until <= now => wanted.min(1),
            State::Open { .. } | State::Probing { .. } => 0,
        }
    }

    /// Whether the consumer is paused, or being probed.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed)
    }

    /// When a paused consumer may be probed.
    pub(super) fn probe_at(&self) -> Option<Monotonic> {
        match self.state {
            State::Open { until, .. } => Some(until),
            State::Closed | State::Probing { .. } => None,
        }
    }

    pub(super) fn delivered(&mut self, serial: u64) {
        if let State::Open { pauses, .. } = self.state {
            self.state = State::Probing { serial, pauses };
        }
    }

    pub(super) fn settled(
        &mut self,
        now: Monotonic,
        rules: Option<&BreakerRules>,
        serial: u64,
        outcome: Outcome,
    ) -> Option<Change> {
        let Some(rules) = rules else {
            *self = Self::new();
            return None;
        };
        match (self.state, outcome) {
            (State::Probing { serial: probe, pauses }, _) if probe == serial => match outcome {
                Outcome::Success => {
                    *self = Self::new();
                    Some(Change::Closed)
                }
                Outcome::Failure => Some(self.open(now, rules, pauses.saturating_mul(2).min(MAX_PAUSES))),
                Outcome::Untried => {
                    self.state = State::Open { until: now, pauses };
                    None
                }
            },
            (State::Closed, Outcome::Success | Outcome::Failure) => {
                let window = rules.window.clamp(1, MAX_WINDOW) as usize;
                self.count(window, outcome == Outcome::Failure);
                let full = self.recent.len() >= window;
                let ratio = f64::from(self.failures) / self.recent.len() as f64;
                (full && self.failures > 0 && ratio >= rules.failure_ratio).then(|| self.open(now, rules, 1))
            }
            _ => None,
        }
    }

    fn open(&mut self, now: Monotonic, rules: &BreakerRules, pauses: u32) -> Change {
        *self = Self::new();
        self.state = State::Open { until: now.after(rules.pause.saturating_mul(pauses)), pauses };
        Change::Opened
    }

    fn count(&mut self, window: usize, failed: bool) {
        self.recent.push_back(failed);
        self.failures += u32::from(failed);
        while self.recent.len() > window {
            self.failures -= u32::from(self.recent.pop_front() == Some(true));
        }
    }
}
