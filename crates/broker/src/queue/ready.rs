//! Ready messages: per priority level a window of entries in log order, and a bitmap of those that wait in the log only.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use roaring::RoaringTreemap;

use super::Arrival;
use super::memory::Memory;

/// One priority level.
#[derive(Debug)]
pub(super) struct Level<P> {
    /// Ascending: what came in order. The common path only pushes at its end and pops at its head.
    run: VecDeque<Arrival<P>>,
    /// What came back to its place: released, retried, due.
    returned: BTreeMap<u64, Arrival<P>>,
    /// Ready, but not in memory: to be read again.
    unheld: RoaringTreemap,
}

impl<P> Default for Level<P> {
    fn default() -> Self {
        Self { run: VecDeque::new(), returned: BTreeMap::new(), unheld: RoaringTreemap::new() }
    }
}

impl<P> Level<P> {
    /// Number of entries in memory.
    pub(super) fn held(&self) -> usize {
        self.run.len() + self.returned.len()
    }

    /// The earliest entry in memory.
    pub(super) fn head(&self) -> Option<&Arrival<P>> {
        match (self.run.front(), self.returned.first_key_value()) {
            (Some(run), Some((offset, returned))) => Some(if *offset < run.offset.0 { returned } else { run }),
            (run, returned) => run.or(returned.map(|(_, entry)| entry)),
        }
    }

    /// The earliest that must be read.
    pub(super) fn first_unheld(&self) -> Option<u64> {
        self.unheld.min()
    }

    pub(super) fn unheld(&self) -> &RoaringTreemap {
        &self.unheld
    }

    fn pop(&mut self) -> Option<Arrival<P>> {
        let returned = self.returned.first_key_value().map(|(offset, _)| *offset);
        match (self.run.front(), returned) {
            (Some(run), Some(offset)) if offset < run.offset.0 => self.returned.pop_first().map(|(_, entry)| entry),
            (Some(_), _) => self.run.pop_front(),
            (None, _) => self.returned.pop_first().map(|(_, entry)| entry),
        }
    }

    fn last(&self) -> Option<u64> {
        let run = self.run.back().map(|entry| entry.offset.0);
        run.max(self.returned.last_key_value().map(|(offset, _)| *offset))
    }

    fn pop_last(&mut self) -> Option<Arrival<P>> {
        let run = self.run.back().map(|entry| entry.offset.0);
        let returned = self.returned.last_key_value().map(|(offset, _)| *offset);
        if returned > run { self.returned.pop_last().map(|(_, entry)| entry) } else { self.run.pop_back() }
    }

    fn insert(&mut self, entry: Arrival<P>) {
        if self.run.back().is_none_or(|last| last.offset < entry.offset) {
            self.run.push_back(entry);
        } else {
            self.returned.insert(entry.offset.0, entry);
        }
    }

    fn contains(&self, offset: u64) -> bool {
        self.run.binary_search_by_key(&offset, |entry| entry.offset.0).is_ok()
            || self.returned.contains_key(&offset)
            || self.unheld.contains(offset)
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Arrival<P>> {
        self.run.iter().chain(self.returned.values())
    }
}

/// All levels, the highest last.
#[derive(Debug)]
pub(super) struct Ready<P> {
    levels: Vec<Level<P>>,
    held: usize,
}

impl<P> Ready<P> {
    pub(super) fn new(levels: usize) -> Self {
        let mut ready = Self { levels: Vec::new(), held: 0 };
        ready.levels.resize_with(levels.max(1), Level::default);
        ready
    }

    pub(super) fn levels(&self) -> &[Level<P>] {
        &self.levels
    }

    /// Number of entries in memory.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Whether nothing is ready, in memory or not.
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0 && self.levels.iter().all(|level| level.unheld.is_empty())
    }

    /// Adds an entry to its level. If the window is full, the youngest of the lowest level gives way.
    pub(super) fn add(&mut self, level: usize, mut entry: Arrival<P>, memory: &mut Memory) {
        let offset = entry.offset.0;
        let lowest = if self.held >= memory.window() { self.levels.iter().position(|l| l.held() > 0) } else { None };
        let Some(own) = self.levels.get_mut(level) else { return };
        // Behind one that must be read anyway, an entry would only take the place of an earlier one.
        if own.first_unheld().is_some_and(|first| first < offset) {
            own.unheld.insert(offset);
            return;
        }
        if let Some(lowest) = lowest {
            if lowest > level || (lowest == level && own.last() < Some(offset)) {
                own.unheld.insert(offset);
                return;
            }
            self.evict(lowest, memory);
        }
        memory.admit(&mut entry);
        if let Some(own) = self.levels.get_mut(level) {
            own.insert(entry);
            self.held += 1;
        }
    }

    /// Whether something in memory or to be read stands at or behind this offset.
    pub(super) fn is_held_beyond(&self, offset: u64) -> bool {
        self.levels.iter().any(|level| level.last() >= Some(offset) || level.unheld.max() >= Some(offset))
    }

    /// Adds messages that stand behind all others, if there is one level only: as many in memory as the window takes.
    pub(super) fn add_run(&mut self, run: Range<u64>, entries: impl Iterator<Item = Arrival<P>>, memory: &mut Memory) {
        let Some(level) = self.levels.first_mut() else { return };
        // Behind one that must be read anyway, an entry would only take the place of an earlier one.
        let room = if level.unheld.is_empty() { memory.window().saturating_sub(self.held) } else { 0 };
        let held = room.min(usize::try_from(run.end - run.start).unwrap_or(usize::MAX));
        level.run.extend(entries.take(held).map(|mut entry| {
            memory.admit(&mut entry);
            entry
        }));
        self.held += held;
        level.unheld.insert_range(run.start + held as u64..run.end);
    }

    /// Adds messages that are not in memory, to the lowest level.
    pub(super) fn add_unheld_run(&mut self, run: Range<u64>) {
        if let Some(level) = self.levels.first_mut() {
            level.unheld.insert_range(run);
        }
    }

    fn evict(&mut self, level: usize, memory: &mut Memory) {
        let Some(level) = self.levels.get_mut(level) else { return };
        if let Some(evicted) = level.pop_last() {
            memory.forget(&evicted);
            level.unheld.insert(evicted.offset.0);
            self.held -= 1;
        }
    }

    /// Evicts until the window holds what is in memory.
    pub(super) fn shrink(&mut self, memory: &mut Memory) {
        while self.held > memory.whole_window() {
            let Some(lowest) = self.levels.iter().position(|l| l.held() > 0) else { return };
            self.evict(lowest, memory);
        }
    }

    /// Adds a ready message that is not in memory.
    pub(super) fn add_unheld(&mut self, level: usize, offset: u64) {
        if let Some(level) = self.levels.get_mut(level) {
            level.unheld.insert(offset);
        }
    }

    /// Adds many of those.
    pub(super) fn add_all_unheld(&mut self, level: usize, offsets: RoaringTreemap) {
        if let Some(level) = self.levels.get_mut(level) {
            level.unheld |= offsets;
        }
    }

    /// Takes an offset out of the bitmaps: it was read, or is gone. Says from which level.
    pub(super) fn take_unheld(&mut self, offset: u64) -> bool {
        self.levels.iter_mut().any(|level| level.unheld.remove(offset))
    }

    /// Takes the earliest entry of a level.
    pub(super) fn pop(&mut self, level: usize, memory: &mut Memory) -> Option<Arrival<P>> {
        let entry = self.levels.get_mut(level)?.pop()?;
        self.held -= 1;
        memory.forget(&entry);
        Some(entry)
    }

    /// Whether the offset is ready.
    pub(super) fn contains(&self, offset: u64) -> bool {
        self.levels.iter().any(|level| level.contains(offset))
    }

    /// Changes the number of levels. Gives back the entries, to be added anew, and the offsets whose level must be read.
    pub(super) fn relevel(&mut self, levels: usize, memory: &mut Memory) -> (Vec<Arrival<P>>, RoaringTreemap) {
        let old = std::mem::take(&mut self.levels);
        *self = Self::new(levels);
        let (mut entries, mut unknown) = (Vec::new(), RoaringTreemap::new());
        let top = old.len() - 1;
        for (number, level) in old.into_iter().enumerate() {
            for entry in level.run.into_iter().chain(level.returned.into_values()) {
                memory.forget(&entry);
                entries.push(entry);
            }
            if number == top && levels > top + 1 {
                // The old top level held all priorities from its own up.
                unknown |= level.unheld;
            } else {
                self.add_all_unheld(number.min(levels - 1), level.unheld);
            }
        }
        entries.sort_unstable_by_key(|entry| entry.offset);
        (entries, unknown)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.levels.len());
    }
}
