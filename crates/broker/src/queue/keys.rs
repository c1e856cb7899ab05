//! Per-key order: a message that was delivered holds its key until it leaves; later ones of the key are parked behind it.

use std::collections::{BTreeSet, HashMap};

use roaring::RoaringTreemap;

use super::Arrival;
use super::memory::{Memory, NumberMap};
use super::offsets::OffsetSet;

/// Parked messages of a key that are read together when the first of them is needed.
const READ_AHEAD: usize = 64;
/// Most offsets remembered to be read ahead.
const MAX_WANTED: u64 = 4096;

/// A key that is held, or has messages parked.
#[derive(Debug, Default)]
struct KeyState {
    /// Delivered, and not gone yet. None between the end of one message and the delivery of the next.
    begun: Option<u64>,
    /// More of those: only after per-key order was switched on while several were out.
    others: Vec<u64>,
    parked: OffsetSet,
}

/// A parked message that is ready now.
#[derive(Debug)]
pub(super) struct Promoted<P> {
    pub(super) offset: u64,
    /// Its entry, if in memory.
    pub(super) entry: Option<Arrival<P>>,
}

/// All held keys.
#[derive(Debug)]
pub(super) struct Keys<P> {
    /// By the key's hash, which foreign input chooses: hashed again with a random key.
    states: HashMap<u64, KeyState>,
    /// Failed before a restart and not delivered since, by key. They hold back what is behind them, but not what is before them: that was out
    /// when they were delivered, and has come back.
    failed: HashMap<u64, BTreeSet<u64>>,
    /// Entries of parked messages, while there is room.
    aside: NumberMap<u64, Arrival<P>>,
    /// Parked, and wanted in memory soon.
    wanted: RoaringTreemap,
}

impl KeyState {
    fn end(&mut self, offset: u64) {
        if self.begun == Some(offset) {
            self.begun = self.others.pop();
        } else {
            self.others.retain(|other| *other != offset);
        }
    }
}

impl<P> Keys<P> {
    pub(super) fn new() -> Self {
        Self {
            states: HashMap::new(),
            failed: HashMap::new(),
            aside: NumberMap::default(),
            wanted: RoaringTreemap::new(),
        }
    }

    /// Whether another message of the key was begun.
    pub(super) fn blocks(&self, key: u64, offset: u64) -> bool {
        if self.failed_before(key, offset) {
            return true;
        }
        let Some(state) = self.states.get(&key) else { return false };
        state.begun.is_some_and(|begun| begun != offset || !state.others.is_empty())
    }

    /// The message failed before a restart: later ones of its key wait for it.
    pub(super) fn hold(&mut self, key: u64, offset: u64) {
        self.failed.entry(key).or_default().insert(offset);
    }

    fn failed_before(&self, key: u64, offset: u64) -> bool {
        let first = self.failed.get(&key).and_then(BTreeSet::first);
        first.is_some_and(|first| *first < offset)
    }

    fn forget_failed(&mut self, key: u64, offset: u64) {
        if let Some(failed) = self.failed.get_mut(&key) {
            failed.remove(&offset);
            if failed.is_empty() {
                self.failed.remove(&key);
            }
        }
    }

    /// The message is delivered, or waits for a retry: it holds its key.
    pub(super) fn begin(&mut self, key: u64, offset: u64) {
        self.forget_failed(key, offset);
        let state = self.states.entry(key).or_default();
        match state.begun {
            None => state.begun = Some(offset),
            Some(begun) if begun == offset || state.others.contains(&offset) => {}
            Some(_) => state.others.push(offset),
        }
    }

    /// Whether the key is held by anyone.
    pub(super) fn is_held(&self, key: u64) -> bool {
        self.states.get(&key).is_some_and(|state| state.begun.is_some())
    }

    /// Puts a message behind the one that holds its key.
    pub(super) fn park(&mut self, key: u64, entry: Arrival<P>, memory: &mut Memory) {
        let offset = entry.offset.0;
        let state = self.states.entry(key).or_default();
        state.end(offset);
        state.parked.insert(offset);
        self.set_aside(entry, memory);
    }

    fn set_aside(&mut self, mut entry: Arrival<P>, memory: &mut Memory) {
        if self.aside.len() < memory.parked_entries() {
            memory.admit(&mut entry);
            self.aside.insert(entry.offset.0, entry);
        }
    }

    /// A message of the key left the queue. If nobody holds the key now, its earliest parked message is ready.
    pub(super) fn release(&mut self, key: u64, offset: u64, memory: &mut Memory) -> Option<Promoted<P>> {
        self.forget_failed(key, offset);
        let first_failed = self.failed.get(&key).and_then(|failed| failed.first().copied());
        let state = self.states.get_mut(&key)?;
        state.end(offset);
        if state.begun.is_some() {
            return None;
        }
        if let Some(failed) = first_failed
            && state.parked.first(1).first().is_none_or(|parked| failed < *parked)
        {
            // That one comes when its time has come.
            return None;
        }
        let first = state.parked.pop_first();
        let entry = first.and_then(|first| self.aside.remove(&first));
        if let Some(entry) = &entry {
            memory.forget(entry);
        } else if first.is_some() && self.wanted.len() < MAX_WANTED {
            self.wanted.extend(state.parked.first(READ_AHEAD));
        }
        if state.parked.is_empty() {
            self.states.remove(&key);
        }
        Some(Promoted { offset: first?, entry })
    }

    /// A message whose key is not known is gone: whatever key it held, or was to hold next, is free.
    pub(super) fn release_gone(&mut self, offset: u64, memory: &mut Memory) -> Vec<Promoted<P>> {
        let keys: BTreeSet<u64> = self.states.keys().chain(self.failed.keys()).copied().collect();
        keys.into_iter().filter_map(|key| self.release(key, offset, memory)).collect()
    }

    /// Offsets to be read with the next page.
    pub(super) fn wanted(&self) -> &RoaringTreemap {
        &self.wanted
    }

    /// A parked message was read ahead: holds it if it is still wanted.
    pub(super) fn read(&mut self, entry: Arrival<P>, memory: &mut Memory) {
        let offset = entry.offset.0;
        let parked = |key| self.states.get(&key).is_some_and(|state| state.parked.contains(offset));
        if self.wanted.remove(offset) && entry.key.is_some_and(parked) && !self.aside.contains_key(&offset) {
            self.set_aside(entry, memory);
        }
    }

    /// What was wanted below this offset was read or is gone.
    pub(super) fn read_to(&mut self, offset: u64) {
        if !self.wanted.is_empty() {
            self.wanted.remove_range(..offset);
        }
    }

    /// Whether the message is parked. For browsing: looks at every key.
    pub(super) fn is_parked(&self, offset: u64) -> bool {
        self.aside.contains_key(&offset) || self.states.values().any(|state| state.parked.contains(offset))
    }

    /// Offsets of the parked messages in memory.
    pub(super) fn entries(&self) -> impl Iterator<Item = u64> {
        self.aside.keys().copied()
    }

    /// Per-key order ends: gives back all parked messages.
    pub(super) fn unpark_all(&mut self, memory: &mut Memory) -> (Vec<Arrival<P>>, RoaringTreemap) {
        let mut rest = RoaringTreemap::new();
        for (_, state) in self.states.drain() {
            rest |= state.parked.into_treemap();
        }
        let mut entries: Vec<_> = self.aside.drain().map(|(_, entry)| entry).collect();
        entries.sort_unstable_by_key(|entry| entry.offset);
        for entry in &entries {
            memory.forget(entry);
            rest.remove(entry.offset.0);
        }
        self.wanted.clear();
        self.failed.clear();
        (entries, rest)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    #[cfg(test)]
    pub(super) fn parked_len(&self) -> u64 {
        self.states.values().map(|state| state.parked.len()).sum()
    }

    #[cfg(test)]
    pub(super) fn is_clear(&self) -> bool {
        self.states.is_empty() && self.failed.is_empty() && self.aside.is_empty()
    }
}
