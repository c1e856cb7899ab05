//! A set of offsets that is small while it has few members: most held keys have one or two messages behind them.

use roaring::RoaringTreemap;

/// Members held in a plain list before a bitmap pays.
const FEW: usize = 32;

/// An ordered set of offsets.
#[derive(Debug)]
pub(super) enum OffsetSet {
    /// Ascending.
    Few(Vec<u64>),
    /// Compressed.
    Many(Box<RoaringTreemap>),
}

impl Default for OffsetSet {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl OffsetSet {
    pub(super) fn insert(&mut self, offset: u64) {
        match self {
            Self::Few(list) => {
                if let Err(at) = list.binary_search(&offset) {
                    list.insert(at, offset);
                }
                if list.len() > FEW {
                    *self = Self::Many(Box::new(list.iter().copied().collect()));
                }
            }
            Self::Many(map) => {
                map.insert(offset);
            }
        }
    }

    pub(super) fn contains(&self, offset: u64) -> bool {
        match self {
            Self::Few(list) => list.binary_search(&offset).is_ok(),
            Self::Many(map) => map.contains(offset),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Few(list) => list.is_empty(),
            Self::Many(map) => map.is_empty(),
        }
    }

    /// Removes the smallest.
    pub(super) fn pop_first(&mut self) -> Option<u64> {
        match self {
            Self::Few(list) => (!list.is_empty()).then(|| list.remove(0)),
            Self::Many(map) => {
                let first = map.min()?;
                map.remove(first);
                Some(first)
            }
        }
    }

    /// The smallest `count`.
    pub(super) fn first(&self, count: usize) -> Vec<u64> {
        match self {
            Self::Few(list) => list.iter().copied().take(count).collect(),
            Self::Many(map) => map.iter().take(count).collect(),
        }
    }

    /// All of them, ascending.
    pub(super) fn into_treemap(self) -> RoaringTreemap {
        match self {
            Self::Few(list) => list.into_iter().collect(),
            Self::Many(map) => *map,
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Few(list) => list.len() as u64,
            Self::Many(map) => map.len(),
        }
    }
}
