//! Numbers that must not be mixed up.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// The id of a namespace, topic, queue, group, binding or user. Never reused: a name is only an alias of it, so that
    /// delete-and-recreate never revives old data.
    EntityId(u64)
}

number! {
    /// The id of one log. Never reused.
    LogId(u64)
}

number! {
    /// The place of a record in its log, counted from 0. Logs are sparse: an offset may hold nothing any more.
    Offset(u64)
}

number! {
    /// The number of an ownership of a log. It only grows; a commit under an old one is refused.
    Epoch(u32)
}

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// The offset after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// This offset moved up by `count` records.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// How many offsets lie between `start` and this one; 0 if this one is not after `start`.
    #[must_use]
    pub const fn since(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }
}
