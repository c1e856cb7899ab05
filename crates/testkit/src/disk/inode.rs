//! One file: its pages as the page cache shows them, and what the disk below has of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;

/// The page cache writes back by the page.
pub(super) const PAGE_BYTES: usize = 4096;
/// A disk writes a sector whole or not at all.
pub(super) const SECTOR_BYTES: usize = 512;
/// Most earlier contents kept of a page that was written several times since the last sync.
const MAX_VERSIONS: usize = 8;

type Page = [u8; PAGE_BYTES];
/// `None` is a hole, which reads as zeros.
type Slot = Option<Arc<Page>>;

static ZEROS: Page = [0; PAGE_BYTES];

/// A sparse file. A clone shares all pages and copies the ones that are changed later.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    slots: Arc<Vec<Slot>>,
    len_bytes: u64,
    durable_len_bytes: u64,
    /// Pages below this have their space, written or not.
    reserved_pages: usize,
    /// Pages written since the last sync: what they held before, oldest first, so that the first is what the disk has. Write-back may have put
    /// any of them there, or what the page holds now.
    unsynced: BTreeMap<usize, Vec<Slot>>,
    /// Pages that a failed sync dropped: the cache holds them as if they were clean, and the disk has this.
    dropped: BTreeMap<usize, Slot>,
}

/// Which of the unsynced pages a power cut leaves.
enum Keep {
    /// Each unit with this chance, in percent.
    Chance(u8),
    /// What is below this byte: an appender's torn tail.
    Below(u64),
    /// All but the unit at this byte.
    AllBut(u64),
}

impl Inode {
    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Space that the file takes, in bytes.
    pub(super) fn allocated_bytes(&self) -> u64 {
        let beyond = self.slots.iter().skip(self.reserved_pages).filter(|slot| slot.is_some()).count();
        ((self.reserved_pages + beyond) * PAGE_BYTES) as u64
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let there = usize::try_from(self.len_bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(there);
        let mut done = 0;
        while done < wanted {
            let (page, within) = place(offset + done as u64);
            let part = (PAGE_BYTES - within).min(wanted - done);
            let from = content(self.slots.get(page).unwrap_or(&None));
            buffer[done..done + part].copy_from_slice(&from[within..within + part]);
            done += part;
        }
        wanted
    }

    /// Writes as much of `data` as the budget has space for, and takes new pages off the budget. Says how many bytes were written.
    pub(super) fn write(&mut self, data: &[u8], offset: u64, budget_bytes: &mut u64) -> usize {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (page, within) = place(at);
            let part = (PAGE_BYTES - within).min(data.len() - done);
            if page >= self.reserved_pages && self.slots.get(page).is_none_or(Option::is_none) {
                match budget_bytes.checked_sub(PAGE_BYTES as u64) {
                    Some(rest) => *budget_bytes = rest,
                    None => break,
                }
            }
            self.change(page, |content| content[within..within + part].copy_from_slice(&data[done..done + part]));
            done += part;
            self.len_bytes = self.len_bytes.max(at + part as u64);
        }
        done
    }

    /// Cuts or extends the file.
    pub(super) fn set_len(&mut self, len_bytes: u64) {
        if len_bytes < self.len_bytes {
            let (page, within) = place(len_bytes);
            let first_gone = if within == 0 { page } else { page + 1 };
            let tail = self.slots.get(page).and_then(|slot| content(slot).get(within..));
            if within != 0 && tail.is_some_and(|tail| tail.iter().any(|byte| *byte != 0)) {
                self.change(page, |content| content[within..].fill(0));
            }
            for gone in first_gone..self.slots.len() {
                if self.slots[gone].is_some() {
                    self.remember(gone);
                    Arc::make_mut(&mut self.slots)[gone] = None;
                }
            }
            self.reserved_pages = self.reserved_pages.min(first_gone);
        }
        self.len_bytes = len_bytes;
    }

    /// Reserves the space of all pages below `len_bytes`; false, and nothing done, if the budget has not enough. The file
    /// grows to that length if it is shorter, as by `fallocate`.
    pub(super) fn allocate(&mut self, len_bytes: u64, budget_bytes: &mut u64) -> bool {
        let pages = usize::try_from(len_bytes.div_ceil(PAGE_BYTES as u64)).unwrap_or(usize::MAX);
        let there = |page: usize| self.slots.get(page).is_some_and(Option::is_some);
        let new = (self.reserved_pages..pages).filter(|page| !there(*page)).count();
        let Some(rest) = budget_bytes.checked_sub((new * PAGE_BYTES) as u64) else { return false };
        *budget_bytes = rest;
        self.reserved_pages = self.reserved_pages.max(pages);
        self.len_bytes = self.len_bytes.max(len_bytes);
        true
    }

    /// A sync that worked. Pages that an earlier one dropped stay lost: the cache believes that they are clean.
    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.durable_len_bytes = self.len_bytes;
    }

    /// A sync that failed, as Linux does it: what was unsynced counts as clean from now on, and is not on the disk.
    pub(super) fn fail_sync(&mut self) {
        for (page, versions) in std::mem::take(&mut self.unsynced) {
            self.dropped.insert(page, versions.into_iter().next().flatten());
        }
    }

    /// Changes a byte in the cache and on the disk alike; false if the file ends before it.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) -> bool {
        if offset >= self.len_bytes {
            return false;
        }
        let (page, within) = place(offset);
        let flip = |slot: &mut Slot| {
            Arc::make_mut(slot.get_or_insert_with(|| Arc::new(ZEROS)))[within] ^= mask;
        };
        flip(self.slot_mut(page));
        self.unsynced.get_mut(&page).into_iter().flatten().for_each(flip);
        self.dropped.get_mut(&page).into_iter().for_each(flip);
        true
    }

    /// Makes all that the cache shows durable, whatever happened before.
    pub(super) fn settle(&mut self) {
        self.dropped.clear();
        self.sync();
    }

    /// The file after a power cut that lost everything unsynced.
    pub(super) fn without_unsynced(&self) -> Self {
        let mut image = self.clone();
        image.unsynced.clear();
        for (page, versions) in &self.unsynced {
            *image.slot_mut(*page) = versions.first().cloned().flatten();
        }
        image.drop_dropped();
        image.end_at(self.durable_len_bytes);
        image
    }

    /// The file after a power cut that came while its unsynced pages were being written, in any order.
    pub(super) fn torn(&self, rng: &mut Rng) -> Self {
        let mut image = self.clone();
        image.unsynced.clear();
        let unit_bytes = if rng.bool() { SECTOR_BYTES } else { PAGE_BYTES };
        let keep = self.keep(rng, unit_bytes);
        for (page, versions) in &self.unsynced {
            let now = self.slots.get(*page).cloned().flatten();
            *image.slot_mut(*page) = tear(*page, versions, &now, unit_bytes, &keep, rng);
        }
        image.drop_dropped();
        let (durable, now) = (self.durable_len_bytes, self.len_bytes);
        image.end_at(match rng.u8(0..4) {
            0 => durable,
            1 if durable < now => rng.u64(durable..=now),
            _ => now,
        });
        image
    }

    fn keep(&self, rng: &mut Rng, unit_bytes: usize) -> Keep {
        let first = self.unsynced.keys().next().copied().unwrap_or(0);
        let last = self.unsynced.keys().next_back().copied().unwrap_or(0);
        let any = rng.usize(first * PAGE_BYTES..(last + 1) * PAGE_BYTES);
        let unit = (any - any % unit_bytes) as u64;
        match rng.u8(0..5) {
            0 => Keep::Below(unit),
            1 => Keep::AllBut(unit),
            2 => Keep::Chance(10),
            3 => Keep::Chance(90),
            _ => Keep::Chance(50),
        }
    }

    fn drop_dropped(&mut self) {
        for (page, on_disk) in std::mem::take(&mut self.dropped) {
            *self.slot_mut(page) = on_disk;
        }
    }

    /// Sets the length of an image, which is durable as it stands.
    fn end_at(&mut self, len_bytes: u64) {
        self.len_bytes = u64::MAX;
        self.set_len(len_bytes);
        self.settle();
    }

    fn slot_mut(&mut self, page: usize) -> &mut Slot {
        let slots = Arc::make_mut(&mut self.slots);
        if slots.len() <= page {
            slots.resize(page + 1, None);
        }
        &mut slots[page]
    }

    /// Notes what a page holds before it is changed.
    fn remember(&mut self, page: usize) {
        let now = self.slots.get(page).cloned().flatten();
        let versions = self.unsynced.entry(page).or_default();
        if versions.is_empty() {
            versions.push(self.dropped.remove(&page).unwrap_or(now));
        } else if versions.len() < MAX_VERSIONS {
            versions.push(now);
        }
    }

    fn change(&mut self, page: usize, change: impl FnOnce(&mut Page)) {
        self.remember(page);
        let slot = self.slot_mut(page);
        change(Arc::make_mut(slot.get_or_insert_with(|| Arc::new(ZEROS))));
    }
}

/// One page after a power cut: each unit from one of the page's contents since the last sync.
fn tear(page: usize, versions: &[Slot], now: &Slot, unit_bytes: usize, keep: &Keep, rng: &mut Rng) -> Slot {
    let mut torn = ZEROS;
    for from in (0..PAGE_BYTES).step_by(unit_bytes) {
        let at = (page * PAGE_BYTES + from) as u64;
        let kept = match keep {
            Keep::Chance(percent) => rng.u8(0..100) < *percent,
            Keep::Below(end) => at < *end,
            Keep::AllBut(hole) => at != *hole,
        };
        // Some of what is not kept had been written back between two writes.
        let version = match kept {
            true => now,
            false if rng.bool() => &versions[rng.usize(0..versions.len())],
            false => &versions[0],
        };
        torn[from..from + unit_bytes].copy_from_slice(&content(version)[from..from + unit_bytes]);
    }
    Some(Arc::new(torn))
}

fn content(slot: &Slot) -> &Page {
    slot.as_deref().unwrap_or(&ZEROS)
}

fn place(offset: u64) -> (usize, usize) {
    let page = usize::try_from(offset / PAGE_BYTES as u64).unwrap_or(usize::MAX);
    (page, usize::try_from(offset % PAGE_BYTES as u64).unwrap_or(0))
}
