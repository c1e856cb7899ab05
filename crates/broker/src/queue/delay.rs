//! The delay index. Few delayed messages are held exactly; many are bits in buckets of due time, which cost two bytes a message or less.
//!
//! A bitmap does not know the time within its bucket. So the coarse buckets fire a little early: their messages are read again (or, for
//! retries, looked up) and sorted more finely. The finest buckets are so narrow that all of one are taken to be due at its end.

use std::collections::BTreeMap;
use std::time::Duration;

use roaring::RoaringTreemap;
use types::Timestamp;

use super::Arrival;
use super::memory::Memory;

/// One resolution of buckets.
#[derive(Debug)]
struct Wheel {
    /// Messages due sooner than this go to a finer wheel.
    least_ms: i64,
    /// Width of a bucket.
    width_ms: i64,
    /// How long before its start a bucket fires.
    lead_ms: i64,
    buckets: BTreeMap<i64, RoaringTreemap>,
}

/// What a bucket that fired says of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fired {
    /// All are due.
    Due,
    /// They are due soon: sort them again.
    Soon,
}

/// All delayed messages.
#[derive(Debug)]
pub(super) struct Delays<P> {
    near: BTreeMap<(Timestamp, u64), Option<Arrival<P>>>,
    /// The finest first.
    wheels: [Wheel; 4],
}

/// Width of the finest buckets: how late a message may be when very many are delayed.
pub(super) const FINEST: Duration = Duration::from_millis(10);

fn wheel(least_ms: i64, width_ms: i64, lead_ms: i64) -> Wheel {
    Wheel { least_ms, width_ms, lead_ms, buckets: BTreeMap::new() }
}

impl Wheel {
    /// When the bucket of this number fires.
    fn fires(&self, number: i64) -> Timestamp {
        Timestamp(number.saturating_mul(self.width_ms).saturating_sub(self.lead_ms))
    }
}

impl<P> Delays<P> {
    pub(super) fn new() -> Self {
        // A message moves at least one wheel down when its bucket fires, since `least_ms` is twice the width and more than the lead.
        let finest = i64::try_from(FINEST.as_millis()).unwrap_or(10);
        let wheels = [
            wheel(i64::MIN, finest, 0),
            wheel(2_000, 1_000, 250),
            wheel(128_000, 64_000, 2_000),
            wheel(8_192_000, 4_096_000, 60_000),
        ];
        Self { near: BTreeMap::new(), wheels }
    }

    /// Adds a message that is due later than now.
    pub(super) fn insert(
        &mut self,
        now: Timestamp,
        due: Timestamp,
        offset: u64,
        entry: Option<Arrival<P>>,
        memory: &mut Memory,
    ) {
        if self.near.len() >= memory.delayed_entries() {
            let last = self.near.last_key_value().map(|(at, _)| *at);
            if last.is_none_or(|last| last <= (due, offset)) {
                self.insert_bucket(now, due, offset);
                return;
            }
            if let Some(((due, offset), entry)) = self.near.pop_last() {
                if let Some(entry) = entry {
                    memory.forget(&entry);
                }
                self.insert_bucket(now, due, offset);
            }
        }
        let entry = entry.map(|mut entry| {
            memory.admit(&mut entry);
            entry
        });
        self.near.insert((due, offset), entry);
    }

    fn insert_bucket(&mut self, now: Timestamp, due: Timestamp, offset: u64) {
        let distance = due.0.saturating_sub(now.0);
        let coarse = self.wheels.iter().skip(1).rposition(|wheel| distance >= wheel.least_ms).map_or(0, |at| at + 1);
        let Some(wheel) = self.wheels.get_mut(coarse) else { return };
        let mut number = due.0.div_euclid(wheel.width_ms);
        if coarse == 0 && due.0.rem_euclid(wheel.width_ms) != 0 {
            number += 1;
        }
        wheel.buckets.entry(number).or_default().insert(offset);
    }

    /// When something is to be done; `None` if nothing is delayed.
    pub(super) fn next(&self) -> Option<Timestamp> {
        let near = self.near.first_key_value().map(|((due, _), _)| *due);
        let buckets = self.wheels.iter().filter_map(|wheel| {
            let (number, _) = wheel.buckets.first_key_value()?;
            Some(wheel.fires(*number))
        });
        near.into_iter().chain(buckets).min()
    }

    /// Takes one exactly held message that is due.
    pub(super) fn pop_due(&mut self, now: Timestamp, memory: &mut Memory) -> Option<(u64, Option<Arrival<P>>)> {
        let first = self.near.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let ((_, offset), entry) = first.remove_entry();
        if let Some(entry) = &entry {
            memory.forget(entry);
        }
        Some((offset, entry))
    }

    /// Takes one bucket that fires.
    pub(super) fn pop_bucket(&mut self, now: Timestamp) -> Option<(Fired, RoaringTreemap)> {
        for (at, wheel) in self.wheels.iter_mut().enumerate() {
            let Some((number, _)) = wheel.buckets.first_key_value() else { continue };
            if wheel.fires(*number) <= now {
                let (_, bucket) = wheel.buckets.pop_first()?;
                return Some((if at == 0 { Fired::Due } else { Fired::Soon }, bucket));
            }
        }
        None
    }

    /// When a delayed message is due, as exactly as its place says. For browsing: looks into every bucket.
    pub(super) fn find(&self, offset: u64) -> Option<Timestamp> {
        let near = self.near.keys().find(|(_, at)| *at == offset).map(|(due, _)| *due);
        near.or_else(|| {
            self.wheels.iter().find_map(|wheel| {
                let (number, _) = wheel.buckets.iter().find(|(_, bucket)| bucket.contains(offset))?;
                Some(Timestamp(number.saturating_mul(wheel.width_ms)))
            })
        })
    }

    /// The entries in memory, with their due times.
    pub(super) fn entries(&self) -> impl Iterator<Item = (Timestamp, u64)> {
        self.near.keys().copied()
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        let buckets = self.wheels.iter().flat_map(|wheel| wheel.buckets.values());
        self.near.len() as u64 + buckets.map(RoaringTreemap::len).sum::<u64>()
    }
}
