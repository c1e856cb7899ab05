//! What a queue may hold in memory, and the hasher of its maps.

use std::hash::{BuildHasherDefault, Hasher};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Arrival;

/// What a queue may hold even when all queues together hold too much: enough to go on without reading each message by itself.
const SHARE_BYTES: u64 = 64 * 1024;
const SHARE_ENTRIES: usize = 256;
/// What an entry takes beside its message, in bytes.
const ENTRY_BYTES: u64 = 128;

/// What all queues together may hold in memory: with many of them, each one's own bound says little.
#[derive(Debug)]
pub struct WindowBudget {
    used_bytes: AtomicU64,
    limit_bytes: u64,
}

impl WindowBudget {
    /// Once so many bytes are held, a queue takes in only a small share of its own bound.
    #[must_use]
    pub fn new(limit_bytes: u64) -> Self {
        Self { used_bytes: AtomicU64::new(0), limit_bytes }
    }

    /// Bytes held by all queues.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn is_spent(&self) -> bool {
        self.used_bytes() >= self.limit_bytes
    }
}

/// Bounds on entries and payload handles.
#[derive(Debug)]
pub(super) struct Memory {
    /// Most ready entries.
    window: usize,
    /// Most bytes of payload handles.
    limit_bytes: u64,
    used_bytes: u64,
    budget: Arc<WindowBudget>,
    /// What of the budget is this queue's.
    counted_bytes: u64,
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.reset();
    }
}

impl Memory {
    /// Bound by itself only.
    pub(super) fn new(window: usize, limit_bytes: u64) -> Self {
        let budget = Arc::new(WindowBudget::new(u64::MAX));
        Self { window: window.max(1), limit_bytes, used_bytes: 0, budget, counted_bytes: 0 }
    }

    /// From now on bound by a common budget too.
    pub(super) fn share(&mut self, budget: Arc<WindowBudget>) {
        self.budget.used_bytes.fetch_sub(self.counted_bytes, Ordering::Relaxed);
        budget.used_bytes.fetch_add(self.counted_bytes, Ordering::Relaxed);
        self.budget = budget;
    }

    pub(super) fn resize(&mut self, window: usize, limit_bytes: u64) {
        self.window = window.max(1);
        self.limit_bytes = limit_bytes;
    }

    /// Most ready entries that the queue may have.
    pub(super) fn whole_window(&self) -> usize {
        self.window
    }

    /// Most ready entries to take in now.
    pub(super) fn window(&self) -> usize {
        if self.budget.is_spent() { self.window.min(SHARE_ENTRIES) } else { self.window }
    }

    fn limit_bytes(&self) -> u64 {
        if self.budget.is_spent() { self.limit_bytes.min(SHARE_BYTES) } else { self.limit_bytes }
    }

    fn count(&mut self, weight: u64) {
        self.used_bytes += weight;
        self.counted_bytes += weight + ENTRY_BYTES;
        self.budget.used_bytes.fetch_add(weight + ENTRY_BYTES, Ordering::Relaxed);
    }

    fn discount(&mut self, weight: u64) {
        self.used_bytes = self.used_bytes.saturating_sub(weight);
        let counted = (weight + ENTRY_BYTES).min(self.counted_bytes);
        self.counted_bytes -= counted;
        self.budget.used_bytes.fetch_sub(counted, Ordering::Relaxed);
    }

    /// Most delayed messages held as entries.
    pub(super) fn delayed_entries(&self) -> usize {
        (self.window() / 4).clamp(1, 16 * 1024)
    }

    /// Most parked messages held as entries.
    pub(super) fn parked_entries(&self) -> usize {
        (self.window() / 4).max(1)
    }

    /// Counts the payload of an entry that comes into memory, or drops it if there is no room. What comes is younger than what is
    /// there (a delivered message leaves its payload with its consumer), so the youngest go without.
    pub(super) fn admit<P>(&mut self, arrival: &mut Arrival<P>) {
        if arrival.payload.is_some() {
            let weight = u64::from(arrival.weight);
            if self.used_bytes.saturating_add(weight) > self.limit_bytes() {
                arrival.payload = None;
            } else {
                self.count(weight);
            }
        }
    }

    /// Whether the payloads of a page are likely to find room.
    pub(super) fn has_room(&self) -> bool {
        self.used_bytes <= self.limit_bytes() / 2
    }

    /// The entry's payload is no longer held.
    pub(super) fn forget<P>(&mut self, arrival: &Arrival<P>) {
        if arrival.payload.is_some() {
            self.discount(u64::from(arrival.weight));
        }
    }

    /// Nothing is held any more.
    pub(super) fn reset(&mut self) {
        self.budget.used_bytes.fetch_sub(self.counted_bytes, Ordering::Relaxed);
        (self.used_bytes, self.counted_bytes) = (0, 0);
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
