//! A window of dedup ids: a message whose id was seen less than the window's length ago is not taken again.
//!
//! Ids are kept as 128-bit hashes, 32 bytes each with their time and offset, in slices of the window that are dropped whole; slices
//! that take no more are sorted arrays. A full window refuses new ids: forgetting one early would let its duplicate in.
//!
//! The window counts its time by the monotonic clock from a wall time that it is given at the start, so that a jump of the wall
//! clock neither forgets nor keeps.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use sha2::{Digest, Sha256};
use types::limits::MAX_DEDUP_WINDOW;
use types::{Now, Offset, Timestamp};

use crate::codec::{DecodeError, Reader, put_int, put_uint};

/// Parts of the window that are dropped one after another.
const SLICES: i64 = 16;

/// The hash of a dedup id. Cryptographic, so that nobody can make another's message look like a duplicate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DedupHash(pub [u8; 16]);

impl DedupHash {
    /// The hash of an id: the first half of its SHA-256.
    #[must_use]
    pub fn of(id: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(id).into();
        let mut hash = [0; 16];
        hash.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(hash)
    }
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dedup {
    /// Publish it, then [`confirm`](DedupWindow::confirm) or [`cancel`](DedupWindow::cancel).
    New,
    /// The first one is being written: answer as for that, once it is known.
    Pending,
    /// It was taken already: answer with the first one's offset.
    Duplicate {
        /// Where the first one is.
        offset: Offset,
    },
}

/// The window holds as many ids as it may; the message is refused, to be sent again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the dedup window is full: it holds {capacity} ids; the message can be sent again later")]
pub struct DedupFull {
    /// How many it may hold.
    pub capacity: usize,
}

/// An id that was taken: what the owner writes into the state log, and replays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupEntry {
    /// The id's hash.
    pub hash: DedupHash,
    /// When it was seen, by the window's own count of time.
    pub at: Timestamp,
    /// Where its message is.
    pub offset: Offset,
}

/// The window.
#[derive(Clone, Debug)]
pub struct DedupWindow {
    window_ms: i64,
    capacity: usize,
    start: Now,
    /// Oldest first.
    slices: VecDeque<Slice>,
    active: Active,
    pending: HashMap<DedupHash, Timestamp>,
    confirmed: usize,
    swept: Timestamp,
}

/// A slice that takes no more ids: sorted by hash.
#[derive(Clone, Debug)]
struct Slice {
    base: Timestamp,
    newest: Timestamp,
    entries: Box<[Packed]>,
}

/// 32 bytes.
#[derive(Clone, Copy, Debug)]
struct Packed {
    hash: [u8; 16],
    offset: u64,
    after_base_ms: i32,
}

/// The slice that takes ids.
#[derive(Clone, Debug)]
struct Active {
    base: Timestamp,
    newest: Timestamp,
    entries: HashMap<DedupHash, (Timestamp, Offset)>,
}

impl Active {
    fn new(base: Timestamp) -> Self {
        Self { base, newest: base, entries: HashMap::new() }
    }

    fn seal(self) -> Slice {
        let pack = |(hash, (at, offset)): (DedupHash, (Timestamp, Offset))| Packed {
            hash: hash.0,
            offset: offset.0,
            // An id may have been reserved long before its slice began; if too long for the field, it counts as later, so that it
            // is not forgotten early. A slice is never so long that an id is too late for the field.
            after_base_ms: i32::try_from((at.0 - self.base.0).max(i64::from(i32::MIN))).unwrap_or(i32::MAX),
        };
        let mut entries: Box<[Packed]> = self.entries.into_iter().map(pack).collect();
        entries.sort_unstable_by_key(|entry| entry.hash);
        Slice { base: self.base, newest: self.newest, entries }
    }
}

impl Slice {
    fn get(&self, hash: DedupHash) -> Option<(Timestamp, Offset)> {
        let at = self.entries.binary_search_by_key(&hash.0, |entry| entry.hash).ok()?;
        self.entries.get(at).map(|entry| (self.time(entry), Offset(entry.offset)))
    }

    fn time(&self, entry: &Packed) -> Timestamp {
        Timestamp(self.base.0 + i64::from(entry.after_base_ms))
    }

    fn entries(&self) -> impl Iterator<Item = DedupEntry> {
        self.entries.iter().map(|entry| DedupEntry {
            hash: DedupHash(entry.hash),
            at: self.time(entry),
            offset: Offset(entry.offset),
        })
    }
}

impl DedupWindow {
    /// An empty window that remembers ids for `window` (at most [`MAX_DEDUP_WINDOW`]) and holds at most `capacity` of them.
    #[must_use]
    pub fn new(now: Now, window: Duration, capacity: usize) -> Self {
        Self {
            window_ms: window_ms(window),
            capacity,
            start: now,
            slices: VecDeque::new(),
            active: Active::new(now.wall),
            pending: HashMap::new(),
            confirmed: 0,
            swept: now.wall,
        }
    }

    /// Changes the rules. Ids that a shorter window had forgotten do not come back.
    pub fn set_rules(&mut self, now: Now, window: Duration, capacity: usize) {
        self.window_ms = window_ms(window);
        self.capacity = capacity;
        self.expire(now);
    }

    /// For how long ids are remembered.
    #[must_use]
    pub fn window(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.window_ms).unwrap_or(0))
    }

    /// Ids that take room: those remembered, those being written, and some that are over but not dropped yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.confirmed + self.pending.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Looks at a message's id before it is published. A new id counts as being written from here on.
    ///
    /// # Errors
    /// [`DedupFull`]; duplicates are recognised all the same.
    pub fn reserve(&mut self, now: Now, hash: DedupHash) -> Result<Dedup, DedupFull> {
        self.expire(now);
        let at = self.time(now);
        if self.pending.contains_key(&hash) {
            return Ok(Dedup::Pending);
        }
        if let Some((_, offset)) = self.find(hash).filter(|(seen, _)| !self.is_over(*seen, at)) {
            return Ok(Dedup::Duplicate { offset });
        }
        if self.len() >= self.capacity {
            self.sweep(at);
        }
        if self.len() >= self.capacity {
            return Err(DedupFull { capacity: self.capacity });
        }
        self.pending.insert(hash, at);
        Ok(Dedup::New)
    }

    /// What [`confirm`](Self::confirm) will remember of an id that is being written: to be written in the same commit as the message.
    #[must_use]
    pub fn entry(&self, hash: DedupHash, offset: Offset) -> Option<DedupEntry> {
        self.pending.get(&hash).map(|at| DedupEntry { hash, at: *at, offset })
    }

    /// The message is durable, at this offset. An id that was not reserved is not remembered.
    pub fn confirm(&mut self, hash: DedupHash, offset: Offset) {
        if let Some(at) = self.pending.remove(&hash) {
            self.insert(DedupEntry { hash, at, offset });
        }
    }

    /// The message was not written: its id is free again.
    pub fn cancel(&mut self, hash: DedupHash) {
        self.pending.remove(&hash);
    }

    /// Takes in an id that the state log holds. Replay ignores the capacity: what was promised is kept.
    pub fn observe(&mut self, now: Now, entry: DedupEntry) {
        if !self.is_over(entry.at, self.time(now)) {
            self.insert(entry);
        }
    }

    /// Drops what is over. Costs one dropped array now and then.
    pub fn expire(&mut self, now: Now) {
        let at = self.time(now);
        while let Some(slice) = self.slices.front().filter(|slice| self.is_over(slice.newest, at)) {
            self.confirmed -= slice.entries.len();
            self.slices.pop_front();
        }
        if self.slices.is_empty() && !self.active.entries.is_empty() && self.is_over(self.active.newest, at) {
            self.confirmed = 0;
            self.active = Active::new(at);
        }
    }

    /// All ids that are remembered, for a snapshot, as entries of up to `at_once` ids each.
    pub fn snapshot(&self, now: Now, at_once: usize) -> Vec<Vec<u8>> {
        let at = self.time(now);
        let active =
            self.active.entries.iter().map(|(hash, (at, offset))| DedupEntry { hash: *hash, at: *at, offset: *offset });
        let all = self.slices.iter().flat_map(Slice::entries).chain(active);
        let live: Vec<DedupEntry> = all.filter(|entry| !self.is_over(entry.at, at)).collect();
        live.chunks(at_once.max(1)).map(encode_entries).collect()
    }

    /// The window's own time: the wall time of its start, moved on by the monotonic clock.
    fn time(&self, now: Now) -> Timestamp {
        self.start.wall.after(now.mono.since(self.start.mono))
    }

    fn is_over(&self, seen: Timestamp, at: Timestamp) -> bool {
        at.0.saturating_sub(seen.0) >= self.window_ms
    }

    fn find(&self, hash: DedupHash) -> Option<(Timestamp, Offset)> {
        // The newest first: an id may stand in two slices, once over and once not.
        let active = self.active.entries.get(&hash).copied();
        active.or_else(|| self.slices.iter().rev().find_map(|slice| slice.get(hash)))
    }

    fn insert(&mut self, entry: DedupEntry) {
        let slice_ms = (self.window_ms / SLICES).max(1);
        if entry.at.0.saturating_sub(self.active.base.0) >= slice_ms {
            let full = std::mem::replace(&mut self.active, Active::new(entry.at));
            if !full.entries.is_empty() {
                self.slices.push_back(full.seal());
            }
        }
        self.active.newest = self.active.newest.max(entry.at);
        if self.active.entries.insert(entry.hash, (entry.at, entry.offset)).is_none() {
            self.confirmed += 1;
        }
    }

    /// Takes what is over out of the oldest slice, at most 16 times a slice's length: a full window would else look
    /// through it at every publish.
    fn sweep(&mut self, at: Timestamp) {
        let pause_ms = (self.window_ms / (SLICES * SLICES)).max(1);
        if at.0.saturating_sub(self.swept.0) < pause_ms {
            return;
        }
        self.swept = at;
        let window_ms = self.window_ms;
        let over = |seen: Timestamp| at.0.saturating_sub(seen.0) >= window_ms;
        match self.slices.front_mut() {
            Some(slice) => {
                let base = slice.base;
                let keep = |entry: &Packed| !over(Timestamp(base.0 + i64::from(entry.after_base_ms)));
                slice.entries = slice.entries.iter().copied().filter(keep).collect();
            }
            None => self.active.entries.retain(|_, (seen, _)| !over(*seen)),
        }
        let sealed: usize = self.slices.iter().map(|slice| slice.entries.len()).sum();
        self.confirmed = sealed + self.active.entries.len();
    }
}

fn window_ms(window: Duration) -> i64 {
    i64::try_from(window.min(MAX_DEDUP_WINDOW).as_millis()).unwrap_or(i64::MAX)
}

const ENTRIES: u8 = 1;

/// A record of the state log that holds these ids: see docs/formats/dedup-records.md.
#[must_use]
pub fn encode_entries(entries: &[DedupEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + entries.len() * 32);
    out.push(ENTRIES);
    put_uint(&mut out, entries.len() as u64);
    for entry in entries {
        out.extend_from_slice(&entry.hash.0);
        put_int(&mut out, entry.at.0);
        put_uint(&mut out, entry.offset.0);
    }
    out
}

/// Reads a record of the state log.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode_entries(bytes: &[u8]) -> Result<Vec<DedupEntry>, DecodeError> {
    let mut reader = Reader::new(bytes);
    match reader.byte()? {
        ENTRIES => {}
        kind => return Err(DecodeError::Kind(kind)),
    }
    let mut entries = Vec::new();
    for _ in 0..reader.uint()? {
        let hash = DedupHash(reader.array()?);
        entries.push(DedupEntry { hash, at: Timestamp(reader.int()?), offset: Offset(reader.uint()?) });
    }
    reader.finish()?;
    Ok(entries)
}

#[cfg(test)]
mod tests;
