//! Whose turn it is: what a receive may give.

use broker::definitions::OverflowConfig;
use broker::views::BrowsedState;
use types::{Offset, Timestamp};

use crate::check::Found;
use crate::operation::Receiving;
use crate::simulation::Simulation;

/// Ticks after a start until a queue has looked at all it holds.
const LOOKED_THROUGH: usize = 4;

impl Simulation {
    /// Whether the messages that were handed out were those whose turn it was.
    pub(crate) fn check_turn(&self, before: &[Found], receiving: &Receiving, given: &[Offset]) {
        let (name, max) = (receiving.name.as_str(), receiving.max);
        let wall = self.model.latest_wall;
        let Some((_, config)) = self.model.definitions.queues.get(name) else { return };
        let expires = |one: &Found| one.message.expires_at.is_some_and(|at| at.0 <= wall) || config.ttl_ms.is_some();
        let key = |one: &Found| self.model.messages[&one.num].key;
        let brief = |one: &Found| (one.num, one.offset.0, one.state, one.message.expires_at, one.message.not_before);
        if config.keyed == Some(true) {
            for (at, one) in before.iter().enumerate().filter(|(_, one)| given.contains(&one.offset)) {
                // One that waits for its own time holds nobody back; one that failed does. Before the queue has been looked through, one
                // that waited shows as ready, though one of its key may have begun before its time came.
                let is_early = |due: Timestamp| due.0 > receiving.wall;
                let waits = |other: &Found| {
                    let due = other.message.not_before;
                    due.is_some_and(|due| {
                        self.ticks < LOOKED_THROUGH || other.state != BrowsedState::Ready || is_early(due)
                    })
                };
                let mut earlier = before[..at].iter().filter(|other| !expires(other) && !waits(other));
                let is_done = |other: &Found| receiving.auto_ack && given.contains(&other.offset);
                let earlier = earlier.find(|other| !is_done(other) && key(other).is_some() && key(other) == key(one));
                assert!(earlier.is_none(), "{:?} came before {:?} of its key", brief(one), earlier.map(brief));
            }
            return;
        }
        // What is too much goes first, and may go with this very look.
        let is_over = config.max_messages.is_some_and(|most| before.len() as u64 > most);
        if is_over && config.overflow == Some(OverflowConfig::DropOldest) {
            return;
        }
        if self.ticks < LOOKED_THROUGH && config.priority_levels.is_some() {
            return;
        }
        let is_ready = |one: &&Found| one.state == BrowsedState::Ready;
        let delayed = |one: &Found| one.message.not_before.is_some();
        let level = |one: &Found| match config.priority_levels {
            Some(levels) => u16::from(self.model.messages[&one.num].priority).min(levels - 1),
            None => 0,
        };
        let place = |one: &Found| (std::cmp::Reverse(level(one)), one.offset);
        let last = before.iter().filter(|one| given.contains(&one.offset)).map(place).max();
        let passed_over = |one: &&Found| {
            !given.contains(&one.offset)
                && !expires(one)
                && !delayed(one)
                && (given.len() < max || last.is_some_and(|last| place(one) < last))
        };
        let passed = before.iter().filter(is_ready).find(passed_over);
        assert!(
            passed.is_none(),
            "{:?} was ready in {name} and passed over for {:?}; there were {:?}",
            passed.map(brief),
            given,
            before.iter().map(brief).collect::<Vec<_>>()
        );
    }
}
