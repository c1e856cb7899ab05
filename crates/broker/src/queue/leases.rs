//! What is in flight, and when its leases run out.
//!
//! A queue may have a million deliveries out at a time, so neighbours by serial stand in a block of columns, where each costs some twenty
//! bytes. Nothing is looked up by anything but the serial; an end is known a block, and found within it when the block's turn has come.

use std::collections::{BTreeMap, BTreeSet};

use roaring::RoaringTreemap;
use types::{Monotonic, Offset, Timestamp};

use super::columns::Column;
use super::memory::NumberMap;
use super::{Arrival, ConsumerId, Lease, LeaseError};

/// Serials of one block.
const BLOCK: u64 = 128;
/// Settled deliveries that a block holds on to before it closes up, besides a quarter of those that are out.
const SLACK: u32 = 8;
/// The end of a lease without one.
const NEVER: Monotonic = Monotonic(u64::MAX);

/// A message with a consumer.
#[derive(Debug)]
pub(super) struct InFlight<P> {
    /// Without its payload, which went with the delivery, and without its not-before, which has passed.
    pub(super) arrival: Arrival<P>,
    pub(super) serial: u64,
    pub(super) consumer: ConsumerId,
    pub(super) until: Option<Monotonic>,
}

/// What is looked at of a delivery that stays out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) key: Option<u64>,
    pub(super) arrived: Timestamp,
    pub(super) consumer: ConsumerId,
    pub(super) until: Option<Monotonic>,
}

/// A delivery as numbers, in the order of [`Block::columns`].
type Numbers = [u64; 7];

/// A delivery in its block.
#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: Offset,
    until: Monotonic,
    arrived: Timestamp,
    key: Option<u64>,
    consumer: ConsumerId,
    weight: u32,
    priority: u8,
    /// Its own expiry is in `Leases::expiries`.
    has_expiry: bool,
}

/// The deliveries of [`BLOCK`] serials. Each serial is one bit of the bitmaps.
#[derive(Debug)]
struct Block {
    /// Those that have a slot: the slot's place is the number of bits below.
    present: u128,
    /// Those of them that are out.
    live: u128,
    columns: [Column; 7],
    /// No lease here ends earlier.
    soonest: Monotonic,
}

/// All deliveries that are out.
#[derive(Debug)]
pub(super) struct Leases {
    /// By serial, without its lowest bits.
    blocks: BTreeMap<u64, Block>,
    /// What the blocks say of their ends, but for those without one.
    ends: BTreeSet<(Monotonic, u64)>,
    /// Offsets that are out.
    out: RoaringTreemap,
    /// The messages' own expiries, by serial: few have one.
    expiries: NumberMap<u64, Timestamp>,
    len: usize,
    serial: u64,
}

/// Place of the ends among the columns.
const UNTIL: usize = 1;
/// Bits of the last column, above the priority.
const HAS_KEY: u64 = 1 << 8;
const HAS_EXPIRY: u64 = 1 << 9;

impl Slot {
    fn until(&self) -> Option<Monotonic> {
        (self.until != NEVER).then_some(self.until)
    }

    fn numbers(&self) -> Numbers {
        let has_key = if self.key.is_some() { HAS_KEY } else { 0 };
        let has_expiry = if self.has_expiry { HAS_EXPIRY } else { 0 };
        [
            self.offset.0,
            self.until.0,
            self.arrived.0.cast_unsigned(),
            self.key.unwrap_or_default(),
            self.consumer.0,
            u64::from(self.weight),
            u64::from(self.priority) | has_key | has_expiry,
        ]
    }

    fn of([offset, until, arrived, key, consumer, weight, rest]: Numbers) -> Self {
        Self {
            offset: Offset(offset),
            until: Monotonic(until),
            arrived: Timestamp(arrived.cast_signed()),
            key: (rest & HAS_KEY != 0).then_some(key),
            consumer: ConsumerId(consumer),
            weight: u32::try_from(weight).unwrap_or(u32::MAX),
            // tidy-allow: a number has eight bytes
            priority: rest.to_le_bytes()[0],
            has_expiry: rest & HAS_EXPIRY != 0,
        }
    }
}

/// A serial's block, and its bit there.
fn place(serial: u64) -> (u64, u128) {
    (serial / BLOCK, 1 << (serial % BLOCK))
}

impl Block {
    fn new() -> Self {
        Self { present: 0, live: 0, columns: [const { Column::Same(0) }; 7], soonest: NEVER }
    }

    fn len(&self) -> usize {
        self.present.count_ones() as usize
    }

    fn at(&self, bit: u128) -> usize {
        (self.present & (bit - 1)).count_ones() as usize
    }

    fn slot(&self, at: usize) -> Slot {
        let mut numbers = Numbers::default();
        for (number, column) in numbers.iter_mut().zip(&self.columns) {
            *number = column.get(at).unwrap_or_default();
        }
        Slot::of(numbers)
    }

    fn get(&self, bit: u128) -> Option<Slot> {
        (self.live & bit != 0).then(|| self.slot(self.at(bit)))
    }

    fn set_until(&mut self, bit: u128, until: Monotonic) {
        let (len, at) = (self.len(), self.at(bit));
        // tidy-allow: a constant within the array's length
        self.columns[UNTIL].set(len, at, until.0);
    }

    fn insert(&mut self, bit: u128, slot: &Slot) {
        let (len, at) = (self.len(), self.at(bit));
        for (number, column) in slot.numbers().into_iter().zip(&mut self.columns) {
            if self.present & bit == 0 {
                column.insert(len, at, number);
            } else {
                column.set(len, at, number);
            }
        }
        self.present |= bit;
        self.live |= bit;
    }

    fn remove(&mut self, bit: u128) {
        self.live &= !bit;
        let (live, present) = (self.live.count_ones(), self.present.count_ones());
        if present - live > live / 4 + SLACK {
            let (mut left, mut keep) = (self.present, 0_u128);
            for at in 0..present {
                let lowest = left & left.wrapping_neg();
                left &= !lowest;
                keep |= u128::from(self.live & lowest != 0) << at;
            }
            self.columns.iter_mut().for_each(|column| column.retain(keep));
            self.present = self.live;
        }
    }

    /// Those that are out: their bits' numbers, ascending, and their places.
    fn places(&self) -> impl Iterator<Item = (u64, usize)> {
        let (mut left, present) = (self.live, self.present);
        std::iter::from_fn(move || {
            let number = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (number < u128::BITS).then(|| {
                let below = (1_u128 << number) - 1;
                (u64::from(number), (present & below).count_ones() as usize)
            })
        })
    }

    /// Those that are out, with their bits' numbers, ascending.
    fn iter(&self) -> impl Iterator<Item = (u64, Slot)> {
        self.places().map(|(number, at)| (number, self.slot(at)))
    }

    /// The one that ends first, the lowest serial of equals.
    fn first_to_end(&self) -> Option<(u64, Monotonic, usize)> {
        let ends = self.places().filter_map(|(number, at)| {
            // tidy-allow: a constant within the array's length
            let until = self.columns[UNTIL].get(at)?;
            Some((number, Monotonic(until), at))
        });
        ends.min_by_key(|(_, until, _)| *until)
    }
}

impl Leases {
    /// `first_serial` should differ from one start of the broker to the next, so that no lease from before names a new delivery.
    pub(super) fn new(first_serial: u64) -> Self {
        Self {
            blocks: BTreeMap::new(),
            ends: BTreeSet::new(),
            out: RoaringTreemap::new(),
            expiries: NumberMap::default(),
            len: 0,
            serial: first_serial,
        }
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// Adds a delivery whose serial is not out.
    pub(super) fn insert<P>(&mut self, in_flight: &InFlight<P>) {
        let InFlight { arrival, serial, consumer, until } = in_flight;
        let slot = Slot {
            offset: arrival.offset,
            until: until.unwrap_or(NEVER),
            arrived: arrival.arrived,
            key: arrival.key,
            consumer: *consumer,
            weight: arrival.weight,
            priority: arrival.priority,
            has_expiry: arrival.expires_at.is_some(),
        };
        if let Some(expiry) = arrival.expires_at {
            self.expiries.insert(*serial, expiry);
        }
        let (number, bit) = place(*serial);
        let block = self.blocks.entry(number).or_insert_with(Block::new);
        block.insert(bit, &slot);
        self.out.insert(arrival.offset.0);
        self.len += 1;
        self.ends_by(number, slot.until);
    }

    /// A lease of the block ends so soon.
    fn ends_by(&mut self, number: u64, until: Monotonic) {
        let Some(block) = self.blocks.get_mut(&number).filter(|block| until < block.soonest) else { return };
        if block.soonest != NEVER {
            self.ends.remove(&(block.soonest, number));
        }
        block.soonest = until;
        self.ends.insert((until, number));
    }

    fn slot(&self, lease: Lease) -> Option<Slot> {
        let (number, bit) = place(lease.serial);
        self.blocks.get(&number)?.get(bit).filter(|slot| slot.offset == lease.offset)
    }

    /// The delivery that a lease names.
    pub(super) fn get(&self, lease: Lease) -> Option<Held> {
        self.slot(lease).map(|slot| Held::of(&slot))
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        self.out.contains(offset)
    }

    /// Ends the delivery that a lease names.
    pub(super) fn take<P>(&mut self, lease: Lease) -> Option<InFlight<P>> {
        let slot = self.slot(lease)?;
        let (number, bit) = place(lease.serial);
        let block = self.blocks.get_mut(&number)?;
        block.remove(bit);
        if block.live == 0 {
            self.ends.remove(&(block.soonest, number));
            self.blocks.remove(&number);
        }
        self.out.remove(slot.offset.0);
        self.len -= 1;
        let expires_at = if slot.has_expiry { self.expiries.remove(&lease.serial) } else { None };
        if self.len == 0 {
            self.expiries = NumberMap::default();
        }
        Some(InFlight {
            arrival: Arrival {
                offset: slot.offset,
                key: slot.key,
                priority: slot.priority,
                arrived: slot.arrived,
                not_before: None,
                expires_at,
                weight: slot.weight,
                payload: None,
            },
            serial: lease.serial,
            consumer: slot.consumer,
            until: slot.until(),
        })
    }

    /// Moves the end of a lease.
    pub(super) fn extend(&mut self, lease: Lease, until: Monotonic) -> Result<(), LeaseError> {
        let (number, bit) = place(lease.serial);
        self.slot(lease).ok_or(LeaseError::Unknown)?;
        if let Some(block) = self.blocks.get_mut(&number) {
            block.set_until(bit, until);
        }
        self.ends_by(number, until);
        Ok(())
    }

    /// The next lease that has run out by now.
    pub(super) fn pop_ended(&mut self, now: Monotonic) -> Option<Lease> {
        loop {
            let (soonest, number) = *self.ends.first()?;
            if soonest > now {
                return None;
            }
            let block = self.blocks.get_mut(&number)?;
            let (bit, until, at) = block.first_to_end()?;
            if until == soonest {
                return Some(Lease { offset: block.slot(at).offset, serial: number * BLOCK + bit });
            }
            // The one that would have ended first was settled or extended.
            self.ends.pop_first();
            block.soonest = until;
            if until != NEVER {
                self.ends.insert((until, number));
            }
        }
    }

    /// When the next lease runs out; may be earlier than the truth, if that lease was settled or extended.
    pub(super) fn next_end(&self) -> Option<Monotonic> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// All that are out, ascending by serial.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Lease, Held)> {
        self.blocks.iter().flat_map(|(number, block)| {
            let first = number * BLOCK;
            block.iter().map(move |(bit, slot)| (Lease { offset: slot.offset, serial: first + bit }, Held::of(&slot)))
        })
    }

    /// Offsets that are out.
    pub(super) fn offsets(&self) -> &RoaringTreemap {
        &self.out
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Slots in memory, of settled deliveries too.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.blocks.values().map(Block::len).sum()
    }
}

impl Held {
    fn of(slot: &Slot) -> Self {
        Self { key: slot.key, arrived: slot.arrived, consumer: slot.consumer, until: slot.until() }
    }
}
