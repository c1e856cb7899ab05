//! What a queue may hold in memory, and the hasher of its maps.

use std::hash::{BuildHasherDefault, Hasher};

use super::Arrival;

/// Bounds on entries and payload handles.
#[derive(Debug)]
pub(super) struct Memory {
    /// Most ready entries.
    pub(super) window: usize,
    /// Most bytes of payload handles.
    limit_bytes: u64,
    used_bytes: u64,
}

impl Memory {
    pub(super) fn new(window: usize, limit_bytes: u64) -> Self {
        Self { window: window.max(1), limit_bytes, used_bytes: 0 }
    }

    pub(super) fn resize(&mut self, window: usize, limit_bytes: u64) {
        self.window = window.max(1);
        self.limit_bytes = limit_bytes;
    }

    /// Most delayed messages held as entries.
    pub(super) fn delayed_entries(&self) -> usize {
        (self.window / 4).clamp(1, 16 * 1024)
    }

    /// Most parked messages held as entries.
    pub(super) fn parked_entries(&self) -> usize {
        (self.window / 4).max(1)
    }

    /// Counts the payload of an entry that comes into memory, or drops it if there is no room. What comes is younger than what is
    /// there (a delivered message leaves its payload with its consumer), so the youngest go without.
    pub(super) fn admit<P>(&mut self, arrival: &mut Arrival<P>) {
        if arrival.payload.is_some() {
            let used = self.used_bytes.saturating_add(u64::from(arrival.weight));
            if used > self.limit_bytes {
                arrival.payload = None;
            } else {
                self.used_bytes = used;
            }
        }
    }

    /// Whether the payloads of a page are likely to find room.
    pub(super) fn has_room(&self) -> bool {
        self.used_bytes <= self.limit_bytes / 2
    }

    /// The entry's payload is no longer held.
    pub(super) fn forget<P>(&mut self, arrival: &Arrival<P>) {
        if arrival.payload.is_some() {
            self.used_bytes = self.used_bytes.saturating_sub(u64::from(arrival.weight));
        }
    }

    /// Nothing is held any more.
    pub(super) fn reset(&mut self) {
        self.used_bytes = 0;
    }

    #[cfg(test)]
    pub(super) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }
}

/// Hashes offsets and our own numbers. They are not foreign input, so one multiplication is enough.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// A map keyed by our own numbers.
pub(super) type NumberMap<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<NumberHasher>>;
