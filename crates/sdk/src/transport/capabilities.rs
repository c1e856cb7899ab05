//! What a transport can do.

use std::fmt;
use std::time::Duration;

/// Who does something that services rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// The broker.
    Broker,
    /// The SDK, on top of what the broker has.
    Sdk,
    /// Nobody. A service that needs it is refused when it starts.
    No,
}

impl Support {
    /// Whether there is any.
    #[must_use]
    pub const fn is_there(self) -> bool {
        !matches!(self, Self::No)
    }
}

impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Broker => "broker",
            Self::Sdk => "SDK",
            Self::No => "no",
        })
    }
}

/// How the end of work on a message is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Each message for itself, in any order.
    PerMessage,
    /// Up to an offset, below which everything is done. No transport of the SDK declares it yet.
    Cumulative,
}

/// What a transport can do, and who does it. docs/sdk.md shows the table of all transports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// How the end of work on a message is told.
    pub settlement: Settlement,
    /// A message whose handler failed comes again after a growing wait, which a restart of the service does not forget.
    pub retry: Support,
    /// A message that is given up is kept apart, with the reason.
    pub dead_letter: Support,
    /// A message that is published now and delivered later.
    pub delay: Support,
    /// The longest such delay; `None` is no bound.
    pub max_delay: Option<Duration>,
    /// Messages of one key one at a time, in order; a failing one holds back its key and nothing else.
    pub keyed: Support,
    /// Topics whose log can be read again.
    pub replay: Support,
    /// Records of one key can be read without the others.
    pub key_index: Support,
    /// A publish that happens only if its key's version is the expected one.
    pub expected_version: Support,
    /// What a handler returns is published together with its acknowledgement, all or none.
    pub ack_and_publish: Support,
    /// A queue takes a message of the same dedup id once.
    pub dedup: Support,
    /// Listeners in memory: requests and answers, discovery.
    pub live: Support,
    /// Messages of higher priority first.
    pub priority: Support,
    /// Looking at a queue's messages without taking them.
    pub browse: Support,
    /// Largest body, in bytes, before anything that the broker's operator configured.
    pub max_body_bytes: usize,
}

impl Capabilities {
    /// Nothing at all, and messages settled one by one: a transport that has little names what it has, with `..Capabilities::none()` behind it.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            settlement: Settlement::PerMessage,
            retry: Support::No,
            dead_letter: Support::No,
            delay: Support::No,
            max_delay: None,
            keyed: Support::No,
            replay: Support::No,
            key_index: Support::No,
            expected_version: Support::No,
            ack_and_publish: Support::No,
            dedup: Support::No,
            live: Support::No,
            priority: Support::No,
            browse: Support::No,
            max_body_bytes: 0,
        }
    }

    /// Name and support of each capability that is somebody's, in the table's order.
    #[must_use]
    pub fn rows(&self) -> [(&'static str, Support); 12] {
        [
            ("retry", self.retry),
            ("dead_letter", self.dead_letter),
            ("delay", self.delay),
            ("keyed", self.keyed),
            ("replay", self.replay),
            ("key_index", self.key_index),
            ("expected_version", self.expected_version),
            ("ack_and_publish", self.ack_and_publish),
            ("dedup", self.dedup),
            ("live", self.live),
            ("priority", self.priority),
            ("browse", self.browse),
        ]
    }
}
