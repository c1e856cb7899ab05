//! Which faults are injected, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A publish is not sent, and answered with [`PublishError::Busy`](crate::transport::PublishError::Busy), which may be tried again.
    Busy,
    /// A publish is not sent, and answered with [`PublishError::Refused`](crate::transport::PublishError::Refused), which is final.
    Refuse,
    /// A publish is stored, and its confirmation is lost: the answer is
    /// [`PublishError::Unconfirmed`](crate::transport::PublishError::Unconfirmed). Of
    /// [`ack_and_publish`](crate::transport::Settler::ack_and_publish) too. Not of live messages, which nothing stores.
    LoseConfirmation,
    /// A message is delivered twice, side by side, as two consumers have it of which one was thought dead. Each copy is settled for
    /// itself; the broker is told once both are, and of two ends the one with the most to follow. Copies go beyond the consumer's credit.
    Duplicate,
    /// A delivery waits until one that came later was handed out, or for a moment if none comes.
    Reorder,
    /// A delivery waits for a random time, up to [`Plan::delay_up_to`], on the transport's clock.
    Delay,
    /// An acknowledgement is lost: the handler is done, and the message comes again.
    LoseAck,
    /// The process is killed between the handler's end and whatever was to be told of it: an acknowledgement, a failure, or what was to be
    /// published with it. The message comes again.
    Kill,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Busy,
        Self::Refuse,
        Self::LoseConfirmation,
        Self::Duplicate,
        Self::Reorder,
        Self::Delay,
        Self::LoseAck,
        Self::Kill,
    ];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Busy => "busy broker",
            Self::Refuse => "refused publish",
            Self::LoseConfirmation => "lost confirmation",
            Self::Duplicate => "duplicate",
            Self::Reorder => "reordering",
            Self::Delay => "delay",
            Self::LoseAck => "lost acknowledgement",
            Self::Kill => "kill",
        })
    }
}

/// How long a delivery is delayed at most, unless a plan says otherwise.
const DEFAULT_DELAY: Duration = Duration::from_millis(50);

/// Which faults are injected: none unless asked for.
///
/// ```
/// use sdk::testkit::{Fault, Plan};
///
/// // One publish in ten is not confirmed, and the process dies after its third message was handled.
/// let plan = Plan::none().chance(Fault::LoseConfirmation, 0.1).nth(Fault::Kill, 3);
/// # assert_ne!(plan, Plan::none());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    chances: BTreeMap<Fault, f64>,
    exact: BTreeMap<Fault, BTreeSet<u64>>,
    pub(super) twice: bool,
    pub(super) delay_up_to: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self::none()
    }
}

impl Plan {
    /// Nothing goes wrong.
    #[must_use]
    pub fn none() -> Self {
        Self { chances: BTreeMap::new(), exact: BTreeMap::new(), twice: false, delay_up_to: DEFAULT_DELAY }
    }

    /// Every message reaches its handler at least twice: its first acknowledgement is lost. What a consumer that is not idempotent does
    /// wrong, it does wrong under this plan.
    #[must_use]
    pub fn every_message_twice() -> Self {
        Self { twice: true, ..Self::none() }
    }

    /// Something of everything that a service has to survive, each with this chance; refusals, which are final, are not among it.
    #[must_use]
    pub fn some_of_everything(chance: f64) -> Self {
        let survivable = Fault::ALL.into_iter().filter(|fault| *fault != Fault::Refuse);
        survivable.fold(Self::none(), |plan, fault| plan.chance(fault, chance))
    }

    /// It goes wrong with this chance: 0 is never, 1 is always.
    ///
    /// With [`Fault::LoseAck`] or [`Fault::Kill`] at 1 no message is ever done.
    #[must_use]
    pub fn chance(mut self, fault: Fault, chance: f64) -> Self {
        self.chances.insert(fault, if chance.is_nan() { 0.0 } else { chance.clamp(0.0, 1.0) });
        self
    }

    /// It goes wrong the n-th time that it could, counted from 1 for the whole transport. May be said more than once.
    #[must_use]
    pub fn nth(mut self, fault: Fault, n: u64) -> Self {
        self.exact.entry(fault).or_default().insert(n);
        self
    }

    /// How long [`Fault::Delay`] delays at most; 50 ms unless told otherwise. Deliveries that wait here keep their lease running.
    #[must_use]
    pub fn delay_up_to(mut self, longest: Duration) -> Self {
        self.delay_up_to = longest;
        self
    }

    pub(super) fn chance_of(&self, fault: Fault) -> f64 {
        self.chances.get(&fault).copied().unwrap_or(0.0)
    }

    pub(super) fn strikes_at(&self, fault: Fault, n: u64) -> bool {
        self.exact.get(&fault).is_some_and(|exact| exact.contains(&n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_what_strikes_and_is_empty_by_default() {
        assert!(Fault::ALL.iter().all(|fault| Plan::default().chance_of(*fault) == 0.0));
        let plan = Plan::none().nth(Fault::Kill, 3).nth(Fault::Kill, 5).chance(Fault::Duplicate, 7.0);
        let struck: Vec<u64> = (0..10).filter(|n| plan.strikes_at(Fault::Kill, *n)).collect();
        assert_eq!(struck, [3, 5]);
        assert_eq!(plan.chance_of(Fault::Duplicate), 1.0);
        assert_eq!(Plan::none().chance(Fault::Busy, f64::NAN), Plan::none().chance(Fault::Busy, 0.0));
        assert_eq!(Plan::some_of_everything(0.5).chance_of(Fault::Refuse), 0.0);
    }
}
