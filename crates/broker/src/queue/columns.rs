//! Numbers of neighbours, which are mostly alike: a column keeps them in as few bytes as they need.

/// Numbers in order, as wide as they differ.
#[derive(Debug)]
pub(super) enum Column {
    /// All are this one.
    Same(u64),
    /// So much more than the first number, each.
    Near(u64, Vec<u32>),
    /// As they are.
    Wide(Vec<u64>),
}

impl Column {
    pub(super) fn get(&self, at: usize) -> Option<u64> {
        match self {
            Self::Same(value) => Some(*value),
            Self::Near(base, more) => more.get(at).map(|more| base + u64::from(*more)),
            Self::Wide(values) => values.get(at).copied(),
        }
    }

    /// Puts a number at a place of a column that has `len` numbers.
    pub(super) fn insert(&mut self, len: usize, at: usize, value: u64) {
        if len == 0 {
            *self = Self::Same(value);
            return;
        }
        if !self.holds(value) {
            self.widen(len, value);
        }
        match self {
            Self::Same(_) => {}
            Self::Near(base, more) => more.insert(at, near(*base, value).unwrap_or_default()),
            Self::Wide(values) => values.insert(at, value),
        }
    }

    /// Replaces a number of a column that has `len` numbers.
    pub(super) fn set(&mut self, len: usize, at: usize, value: u64) {
        if len == 1 {
            *self = Self::Same(value);
            return;
        }
        if !self.holds(value) {
            self.widen(len, value);
        }
        match self {
            Self::Same(_) => {}
            Self::Near(base, more) => {
                if let (Some(slot), Some(new)) = (more.get_mut(at), near(*base, value)) {
                    *slot = new;
                }
            }
            Self::Wide(values) => {
                if let Some(slot) = values.get_mut(at) {
                    *slot = value;
                }
            }
        }
    }

    /// Keeps the numbers whose bit is set, the first number's the lowest.
    pub(super) fn retain(&mut self, keep: u128) {
        let mut at = 0_u32;
        let mut kept = || {
            at += 1;
            keep.checked_shr(at - 1).is_some_and(|rest| rest & 1 == 1)
        };
        match self {
            Self::Same(_) => {}
            Self::Near(_, more) => {
                more.retain(|_| kept());
                more.shrink_to_fit();
            }
            Self::Wide(values) => {
                values.retain(|_| kept());
                values.shrink_to_fit();
            }
        }
    }

    fn holds(&self, value: u64) -> bool {
        match self {
            Self::Same(same) => *same == value,
            Self::Near(base, _) => near(*base, value).is_some(),
            Self::Wide(_) => true,
        }
    }

    /// Makes room for a number that does not fit.
    fn widen(&mut self, len: usize, value: u64) {
        let values: Vec<u64> = (0..len).filter_map(|at| self.get(at)).collect();
        let all = || values.iter().copied().chain([value]);
        let base = all().min().unwrap_or_default();
        let narrow: Option<Vec<u32>> = match all().max().and_then(|most| near(base, most)) {
            Some(_) => values.iter().map(|value| near(base, *value)).collect(),
            None => None,
        };
        *self = narrow.map_or(Self::Wide(values), |more| Self::Near(base, more));
    }
}

fn near(base: u64, value: u64) -> Option<u32> {
    value.checked_sub(base).and_then(|more| u32::try_from(more).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_says_what_was_put_in_however_far_the_numbers_lie_apart() {
        let seed = 7;
        let mut rng = fastrand::Rng::with_seed(seed);
        for round in 0..2000 {
            let mut column = Column::Same(0);
            let mut model: Vec<u64> = Vec::new();
            let spread = [1, 3, 1 << 20, 1 << 33, u64::MAX][round % 5];
            for _ in 0..rng.usize(1..200) {
                let value = (u64::MAX - spread) / 2 + rng.u64(0..spread);
                match rng.u8(0..10) {
                    0..=6 if model.len() < 128 => {
                        let at = if rng.bool() { model.len() } else { rng.usize(0..=model.len()) };
                        column.insert(model.len(), at, value);
                        model.insert(at, value);
                    }
                    7 | 8 if !model.is_empty() => {
                        let at = rng.usize(0..model.len());
                        column.set(model.len(), at, value);
                        model[at] = value;
                    }
                    9 => {
                        let keep = rng.u128(..);
                        column.retain(keep);
                        let mut at = 0;
                        model.retain(|_| {
                            at += 1;
                            keep >> (at - 1) & 1 == 1
                        });
                    }
                    _ => {}
                }
                let said: Vec<u64> = (0..model.len()).filter_map(|at| column.get(at)).collect();
                assert_eq!(said, model, "seed {seed}, round {round}");
            }
        }
    }

    #[test]
    fn numbers_that_are_alike_cost_nothing_and_near_ones_four_bytes() {
        let mut column = Column::Same(0);
        (0..3).for_each(|at| column.insert(at, at, 1 << 40));
        assert!(matches!(column, Column::Same(_)));
        column.insert(3, 3, (1 << 40) - 5);
        assert!(matches!(column, Column::Near(..)));
        column.insert(4, 0, 1 << 50);
        assert!(matches!(column, Column::Wide(_)));
    }
}
