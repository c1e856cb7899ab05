//! The key index: which offsets a record key has.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use crate::KeySummary;

/// Two 64-bit hashes under keys of this process. Two record keys with the same 128 bits are taken for one; at a trillion keys the odds
/// of that are one in a hundred trillion.
#[derive(Debug, Default)]
pub(super) struct KeyHasher(RandomState, RandomState);

impl KeyHasher {
    pub(super) fn hash(&self, key: &[u8]) -> u128 {
        u128::from(self.0.hash_one(key)) << 64 | u128::from(self.1.hash_one(key))
    }
}

/// Offsets by key, up to an offset of the log; it catches up when it is asked. A record costs 8 bytes here, and a key about 50:
/// only a log that asks for an index pays it.
#[derive(Debug, Default)]
pub(super) struct KeyIndex {
    pub(super) hasher: KeyHasher,
    offsets: HashMap<u128, Vec<u64>>,
    /// Records below it are known.
    pub(super) upto: u64,
    /// Offsets in all lists, dead ones included.
    pub(super) entries: u64,
}

impl KeyIndex {
    /// Adds a record; they come in offset order.
    pub(super) fn add(&mut self, key: &[u8], offset: u64) {
        let list = self.offsets.entry(self.hasher.hash(key)).or_default();
        list.push(offset);
        self.entries += 1;
    }

    /// What is live of a key.
    pub(super) fn summary(&mut self, key: &[u8], is_live: impl Fn(u64) -> bool) -> Option<KeySummary> {
        let hash = self.hasher.hash(key);
        let list = self.offsets.get_mut(&hash)?;
        let before = list.len();
        list.retain(|offset| is_live(*offset));
        self.entries -= (before - list.len()) as u64;
        let (Some(first), Some(last)) = (list.first(), list.last()) else {
            self.offsets.remove(&hash);
            return None;
        };
        let count = list.len() as u64;
        Some(KeySummary { first: types::Offset(*first), last: types::Offset(*last), count })
    }

    /// Forgets what is dead.
    pub(super) fn sweep(&mut self, is_live: impl Fn(u64) -> bool) {
        let mut entries = 0;
        self.offsets.retain(|_, list| {
            list.retain(|offset| is_live(*offset));
            list.shrink_to_fit();
            entries += list.len() as u64;
            !list.is_empty()
        });
        self.entries = entries;
    }
}
