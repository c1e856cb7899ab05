//! The topics, queues and bindings that a service needs.

use std::time::Duration;

/// What a service needs to be there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// Topics.
    pub topics: Vec<TopicSpec>,
    /// Queues. Each has a dead-letter queue `<name>.dlq`.
    pub queues: Vec<QueueSpec>,
    /// Bindings.
    pub bindings: Vec<BindingSpec>,
}

/// What happens when something is there already and is another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConflictPolicy {
    /// It is left as it is: whoever made it knows better. What consumers do with topics.
    #[default]
    Keep,
    /// It is changed to this, where the broker can. What the owner of a queue does.
    Update,
}

/// A topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Whether it keeps a log, which needs [`replay`](super::Capabilities::replay), and what of it goes away by itself.
    pub retention: Option<RetentionSpec>,
    /// Partitions of the log.
    pub partitions: u32,
    /// An index of keys, which needs [`key_index`](super::Capabilities::key_index).
    pub key_index: bool,
    /// What if it exists.
    pub conflict: ConflictPolicy,
}

impl TopicSpec {
    /// A topic without a log that is left as it is if it exists.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), retention: None, partitions: 1, key_index: false, conflict: ConflictPolicy::Keep }
    }
}

/// What of a log goes away by itself. Without any bound it is kept for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetentionSpec {
    /// Records older than this.
    pub max_age: Option<Duration>,
    /// The oldest beyond so many bytes.
    pub max_bytes: Option<u64>,
    /// Of records with the same key all but the last.
    pub compact: bool,
}

/// A queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSpec {
    /// Its name.
    pub name: String,
    /// What follows a failed attempt.
    pub retry: RetrySpec,
    /// How long a delivery may stay unsettled, where the transport has leases.
    pub lease: Duration,
    /// Messages of one key one at a time, in order; needs [`keyed`](super::Capabilities::keyed).
    pub keyed: bool,
    /// Window in which a message of the same dedup id is taken once; needs [`dedup`](super::Capabilities::dedup).
    pub dedup_window: Option<Duration>,
    /// Priority levels, 2 to 256; needs [`priority`](super::Capabilities::priority).
    pub priority_levels: Option<u32>,
    /// What if it exists.
    pub conflict: ConflictPolicy,
}

impl QueueSpec {
    /// A queue with the defaults.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            retry: RetrySpec::default(),
            lease: Duration::from_secs(30),
            keyed: false,
            dedup_window: None,
            priority_levels: None,
            conflict: ConflictPolicy::Update,
        }
    }

    /// The queue where its messages go that are given up.
    #[must_use]
    pub fn dead_letter_queue(&self) -> String {
        dead_letter_queue(&self.name)
    }
}

/// The queue where the messages of this queue go that are given up.
#[must_use]
pub fn dead_letter_queue(queue: &str) -> String {
    format!("{queue}.dlq")
}

/// What follows a failed attempt: waits that grow from `initial` by `factor` up to `cap`, each with full jitter (anything from nothing to the
/// wait), until `max_attempts` were made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetrySpec {
    /// Attempts in all; `None` is without end.
    pub max_attempts: Option<u32>,
    /// The wait before the second attempt.
    pub initial: Duration,
    /// Each further wait is so many times longer.
    pub factor: f64,
    /// No wait is longer.
    pub cap: Duration,
    /// Full jitter.
    pub jitter: bool,
}

impl Default for RetrySpec {
    /// Five attempts; 1 s, doubled, at most 5 min; with jitter.
    fn default() -> Self {
        Self {
            max_attempts: Some(5),
            initial: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(300),
            jitter: true,
        }
    }
}

impl RetrySpec {
    /// The wait after this attempt (1 is the first), before jitter; `None` if it was the last.
    #[must_use]
    pub fn wait_after(&self, attempt: u32) -> Option<Duration> {
        if self.max_attempts.is_some_and(|most| attempt >= most) {
            return None;
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let wait_s = self.initial.as_secs_f64() * self.factor.powi(exponent);
        Some(Duration::try_from_secs_f64(wait_s).map_or(self.cap, |wait| wait.min(self.cap)))
    }

    /// The wait after this attempt, drawn: anything up to [`wait_after`](Self::wait_after) with jitter, all of it without; `instead` of both if that is given. `None` if
    /// it was the last attempt.
    pub(crate) fn draw_wait(&self, attempt: u32, instead: Option<Duration>) -> Option<Duration> {
        let wait = self.wait_after(attempt)?;
        Some(instead.unwrap_or_else(|| if self.jitter { wait.mul_f64(fastrand::f64()) } else { wait }))
    }

    /// The longest time from a message's first attempt to its last, handlers' own time aside; `None` if it is retried without end.
    #[must_use]
    pub fn longest(&self) -> Option<Duration> {
        let most = self.max_attempts?;
        Some((1..most).filter_map(|attempt| self.wait_after(attempt)).fold(Duration::ZERO, Duration::saturating_add))
    }
}

/// Messages of a topic whose subject fits a pattern go into a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingSpec {
    /// From this topic.
    pub topic: String,
    /// Into this queue.
    pub queue: String,
    /// Subject pattern: `*` is one word, `#` any number.
    pub subject: String,
}
