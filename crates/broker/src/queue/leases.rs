//! What is in flight, and when its leases run out.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use types::Monotonic;

use super::memory::NumberMap;
use super::{Arrival, ConsumerId, Lease, LeaseError};

/// Ends remembered beyond those of live leases before the dead ones are swept.
const SLACK: usize = 64;

/// A message with a consumer.
#[derive(Debug)]
pub(super) struct InFlight<P> {
    /// Without its payload, which went with the delivery.
    pub(super) arrival: Arrival<P>,
    pub(super) serial: u64,
    pub(super) consumer: ConsumerId,
    pub(super) until: Option<Monotonic>,
}

/// All deliveries that are out.
#[derive(Debug)]
pub(super) struct Leases<P> {
    out: NumberMap<u64, InFlight<P>>,
    /// Ends, with those of settled and extended leases still among them: an end counts if its lease still says so.
    ends: BinaryHeap<Reverse<(Monotonic, u64, u64)>>,
    serial: u64,
}

impl<P> Leases<P> {
    /// `first_serial` should differ from one start of the broker to the next, so that no lease from before names a new delivery.
    pub(super) fn new(first_serial: u64) -> Self {
        Self { out: NumberMap::default(), ends: BinaryHeap::new(), serial: first_serial }
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    pub(super) fn insert(&mut self, in_flight: InFlight<P>) {
        let offset = in_flight.arrival.offset.0;
        if let Some(until) = in_flight.until {
            self.push_end(until, offset, in_flight.serial);
        }
        self.out.insert(offset, in_flight);
    }

    fn push_end(&mut self, until: Monotonic, offset: u64, serial: u64) {
        self.ends.push(Reverse((until, offset, serial)));
        if self.ends.len() > 2 * self.out.len() + SLACK {
            let out = &self.out;
            self.ends.retain(|Reverse((end, at, number))| {
                // The one just pushed may not be in `out` yet.
                (*at, *number) == (offset, serial)
                    || out.get(at).is_some_and(|lease| lease.serial == *number && lease.until == Some(*end))
            });
        }
    }

    /// The delivery that a lease names.
    pub(super) fn get(&self, lease: Lease) -> Option<&InFlight<P>> {
        self.out.get(&lease.offset.0).filter(|in_flight| in_flight.serial == lease.serial)
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        self.out.contains_key(&offset)
    }

    /// Ends the delivery that a lease names.
    pub(super) fn take(&mut self, lease: Lease) -> Option<InFlight<P>> {
        let taken = match self.out.entry(lease.offset.0) {
            std::collections::hash_map::Entry::Occupied(entry) if entry.get().serial == lease.serial => entry.remove(),
            _ => return None,
        };
        self.give_back();
        Some(taken)
    }

    /// Gives back the memory of a crowd that has left.
    fn give_back(&mut self) {
        let few = self.out.len().max(SLACK);
        if self.out.capacity() / 8 > few {
            self.out.shrink_to(2 * few);
            let out = &self.out;
            self.ends.retain(|Reverse((end, at, number))| {
                out.get(at).is_some_and(|lease| lease.serial == *number && lease.until == Some(*end))
            });
            self.ends.shrink_to(2 * few);
        }
    }

    /// Moves the end of a lease.
    pub(super) fn extend(&mut self, lease: Lease, until: Monotonic) -> Result<(), LeaseError> {
        let Some(in_flight) = self.out.get_mut(&lease.offset.0).filter(|out| out.serial == lease.serial) else {
            return Err(LeaseError::Unknown);
        };
        in_flight.until = Some(until);
        self.push_end(until, lease.offset.0, lease.serial);
        Ok(())
    }

    /// The next lease that has run out by now.
    pub(super) fn pop_ended(&mut self, now: Monotonic) -> Option<Lease> {
        loop {
            let Reverse((until, offset, serial)) = *self.ends.peek()?;
            let live = self.out.get(&offset).is_some_and(|out| out.serial == serial && out.until == Some(until));
            if live && until > now {
                return None;
            }
            self.ends.pop();
            if live {
                return Some(Lease { offset: types::Offset(offset), serial });
            }
        }
    }

    /// When the next lease runs out; may be earlier than the truth, if that lease was settled or extended.
    pub(super) fn next_end(&self) -> Option<Monotonic> {
        self.ends.peek().map(|Reverse((until, _, _))| *until)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &InFlight<P>> {
        self.out.values()
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }
}
