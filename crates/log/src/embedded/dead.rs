//! Which offsets of a log are dead.

use std::ops::Range;
use std::sync::Arc;

use roaring::RoaringTreemap;

use crate::Live;

/// Dead offsets that are looked at one by one before their end is found by counting.
const WALKED: u64 = 256;

/// Dead offsets at or after the log's start. Everything from the start to the end that is not here is live, so a log of many waiting
/// records costs nothing. Cheap to clone: a checkpoint shares it until the next change.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct DeadSet(Arc<RoaringTreemap>);

impl DeadSet {
    pub(super) fn new(set: RoaringTreemap) -> Self {
        Self(Arc::new(set))
    }

    pub(super) fn set(&self) -> &RoaringTreemap {
        &self.0
    }

    /// Adds offsets; says how many were not dead before.
    pub(super) fn insert(&mut self, range: Range<u64>) -> u64 {
        if range.is_empty() { 0 } else { Arc::make_mut(&mut self.0).insert_range(range) }
    }

    /// Forgets what is before `start`; says how many that were.
    pub(super) fn forget_before(&mut self, start: u64) -> u64 {
        if self.0.min().is_none_or(|first| first >= start) {
            return 0;
        }
        Arc::make_mut(&mut self.0).remove_range(..start)
    }

    /// The first offset at or after `from` that is not dead.
    pub(super) fn next_live(&self, from: u64) -> u64 {
        let mut at = from;
        let mut dead = self.0.iter();
        dead.advance_to(from);
        for offset in dead {
            if offset != at {
                return at;
            }
            at += 1;
            if at - from == WALKED {
                return self.end_of_run(at);
            }
        }
        at
    }

    /// The first offset at or after `from` that is not dead, found by counting.
    fn end_of_run(&self, from: u64) -> u64 {
        let is_dead = |to: u64| self.0.range_cardinality(from..to) == to - from;
        let (mut dead, mut step) = (from, WALKED);
        while let Some(to) = dead.checked_add(step).filter(|to| is_dead(*to)) {
            dead = to;
            step = step.saturating_mul(2);
        }
        // It ends less than a step further on.
        while step > 1 {
            step /= 2;
            dead = dead.checked_add(step).filter(|to| is_dead(*to)).unwrap_or(dead);
        }
        dead
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        self.0.contains(offset)
    }

    /// How many of these offsets are not dead.
    pub(super) fn live_in(&self, range: Range<u64>) -> u64 {
        if range.is_empty() {
            return 0;
        }
        let all = range.end - range.start;
        if self.0.is_empty() { all } else { all - self.0.range_cardinality(range) }
    }

    /// Which records of the batch at `base` with `count` offsets are live within `window`, and how many.
    pub(super) fn live_of(&self, base: u64, count: u32, window: &Range<u64>) -> (Live, u64) {
        let end = base + u64::from(count);
        let seen = window.start.max(base)..window.end.min(end);
        let live = self.live_in(seen.clone());
        if live == u64::from(count) {
            return (Live::All, live);
        }
        let mut ranges = Vec::new();
        let delta = |offset: u64| u32::try_from(offset - base).unwrap_or(u32::MAX);
        let mut at = seen.start;
        if live > 0 {
            let mut dead = self.0.iter();
            dead.advance_to(seen.start);
            let mut run = 0;
            while let Some(offset) = dead.next().filter(|offset| *offset < seen.end) {
                if at < offset {
                    ranges.push(delta(at)..delta(offset));
                    run = 0;
                }
                at = offset + 1;
                run += 1;
                if run == WALKED {
                    at = self.end_of_run(at).min(seen.end);
                    dead.advance_to(at);
                    run = 0;
                }
            }
            if at < seen.end {
                ranges.push(delta(at)..delta(seen.end));
            }
        }
        (Live::Ranges(ranges), live)
    }

    /// Stores dense stretches as runs, so that one record that stays while millions pass costs little.
    pub(super) fn optimize(&mut self) {
        if !self.0.is_empty() {
            Arc::make_mut(&mut self.0).optimize();
        }
    }
}

#[cfg(test)]
#[allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]
mod tests {
    use super::*;

    #[test]
    fn live_ranges_are_what_is_left() {
        let mut dead = DeadSet::default();
        assert_eq!(dead.insert(3..5), 2);
        assert_eq!(dead.insert(4..6), 1);
        assert_eq!(dead.insert(8..9), 1);
        assert_eq!(dead.live_of(0, 3, &(0..100)), (Live::All, 3));
        assert_eq!(dead.live_of(2, 8, &(0..100)), (Live::Ranges(vec![0..1, 4..6, 7..8]), 4));
        assert_eq!(dead.live_of(2, 8, &(7..9)), (Live::Ranges(vec![5..6]), 1));
        assert_eq!(dead.live_of(3, 2, &(0..100)), (Live::Ranges(vec![]), 0));
        assert_eq!(dead.next_live(3), 6);
        assert_eq!(dead.next_live(6), 6);
        assert_eq!(dead.live_in(0..10), 6);
        assert_eq!(dead.forget_before(5), 2);
        assert_eq!(dead.live_in(5..10), 3);
    }

    #[test]
    fn a_stretch_of_billions_is_stepped_over_and_not_walked() {
        let mut dead = DeadSet::default();
        let billions = 1 << 32;
        dead.insert(5..billions);
        dead.insert(billions + 1..billions + 3);
        assert_eq!(dead.next_live(5), billions);
        assert_eq!(dead.next_live(7), billions);
        assert_eq!(dead.next_live(billions + 1), billions + 3);
        let base = billions - (1 << 30);
        let count = (1 << 30) + 10;
        let from = 1 << 30;
        assert_eq!(
            dead.live_of(base, count, &(0..u64::MAX)),
            (Live::Ranges(vec![from..from + 1, from + 3..from + 10]), 8)
        );
    }

    #[test]
    fn one_record_that_stays_while_millions_pass_costs_little() {
        let mut dead = DeadSet::default();
        for offset in (1..2_000_000u64).step_by(100) {
            dead.insert(offset..offset + 100);
        }
        dead.optimize();
        assert!(dead.set().serialized_size() < 2048, "{}", dead.set().serialized_size());
    }
}
