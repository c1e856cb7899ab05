//! Operators' policies, and what holds in the end.
//!
//! Of one setting, the first that says something holds: the policy's override, the definition, the policy's default, the
//! namespace (for durability and the largest body), [`crate::defaults`]. One policy applies to an entity, as a whole.

use std::sync::Arc;
use std::time::Duration;

use types::limits::MAX_IN_FLIGHT;

use crate::access::NamePattern;
use crate::defaults;
use crate::definitions::{
    BreakerConfig, DeadLetterConfig, DurabilityConfig, Millis, NamespaceConfig, OverflowConfig, PolicyConfig,
    PolicyScope, PolicyValues, QueueConfig, RetentionConfig, RetryConfig, TopicConfig,
};
use crate::queue::{BreakerRules, Overflow, QueueRules, RetryRules};

/// A namespace's policies, in the order in which they are tried.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// Highest priority first, oldest first among equals.
    ordered: Vec<Policy>,
}

#[derive(Clone, Debug)]
struct Policy {
    name: String,
    pattern: NamePattern,
    config: PolicyConfig,
}

/// The kind of thing that a policy is looked up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyTarget {
    /// A queue.
    Queue,
    /// A topic.
    Topic,
}

/// What holds for a queue.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedQueue {
    /// For its state machine.
    pub rules: QueueRules,
    /// Where messages go that are given up.
    pub dead_letter: DeadLetterConfig,
    /// Window in which a message of the same dedup id is taken once.
    pub dedup_window: Option<Duration>,
    /// The queue goes by itself when unused for so long.
    pub expires: Option<Duration>,
    /// When a publish to it, and an acknowledgement, is confirmed.
    pub durability: DurabilityConfig,
    /// The policy that had a say, if one fits.
    pub policy: Option<String>,
}

/// What holds for a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedTopic {
    /// Whether it keeps a log, and what of that goes away by itself.
    pub retention: Option<RetentionConfig>,
    /// Window in which a message of the same dedup id is taken once.
    pub dedup_window: Option<Duration>,
    /// The topic that gets what no binding took.
    pub alternate: Option<String>,
    /// When a publish through it is confirmed.
    pub durability: DurabilityConfig,
    /// Largest message body, in bytes.
    pub max_body_bytes: u64,
    /// The policy that had a say, if one fits.
    pub policy: Option<String>,
}

impl Policies {
    /// Takes policies by name, oldest first. One whose pattern cannot be read applies to nothing; definitions are checked before
    /// they are stored, so that takes a damaged record.
    #[must_use]
    pub fn new(oldest_first: impl IntoIterator<Item = (String, PolicyConfig)>) -> Self {
        let read = |(name, config): (String, PolicyConfig)| {
            let pattern = NamePattern::new(&config.pattern).ok()?;
            Some(Policy { name, pattern, config })
        };
        let mut ordered: Vec<Policy> = oldest_first.into_iter().filter_map(read).collect();
        // The sort is stable, so equals stay oldest first.
        ordered.sort_by_key(|policy| std::cmp::Reverse(policy.config.priority));
        Self { ordered }
    }

    /// The policy for this entity: the one of the highest priority that fits, the oldest among equals.
    #[must_use]
    pub fn choose(&self, target: PolicyTarget, name: &str) -> Option<(&str, &PolicyConfig)> {
        let applies = |scope: PolicyScope| match scope {
            PolicyScope::All => true,
            PolicyScope::Queues => target == PolicyTarget::Queue,
            PolicyScope::Topics => target == PolicyTarget::Topic,
        };
        let fits = |policy: &&Policy| applies(policy.config.applies_to) && policy.pattern.matches(name);
        self.ordered.iter().find(fits).map(|policy| (policy.name.as_str(), &policy.config))
    }
}

/// The first of override, definition and default that says something.
fn first<T: Clone>(over: &Option<T>, own: &Option<T>, default: &Option<T>) -> Option<T> {
    over.as_ref().or(own.as_ref()).or(default.as_ref()).cloned()
}

/// A time span of which 0 says "none".
fn span_or_none(ms: Option<Millis>) -> Option<Duration> {
    ms.filter(|ms| *ms > 0).map(Duration::from_millis)
}

static NO_VALUES: PolicyValues = PolicyValues {
    lease_ms: None,
    retry: None,
    dead_letter: None,
    ttl_ms: None,
    delay_ms: None,
    single_active: None,
    max_messages: None,
    max_bytes: None,
    overflow: None,
    dedup_window_ms: None,
    breaker: None,
    expires_ms: None,
    durability: None,
    retention: None,
    alternate: None,
    max_body_bytes: None,
};

/// The chosen policy's name, overrides and defaults.
fn values_of<'a>(chosen: Option<(&str, &'a PolicyConfig)>) -> (Option<String>, &'a PolicyValues, &'a PolicyValues) {
    match chosen {
        Some((name, policy)) => (Some(name.to_owned()), &policy.overrides, &policy.defaults),
        None => (None, &NO_VALUES, &NO_VALUES),
    }
}

/// What holds for the queue of this name.
#[must_use]
pub fn resolve_queue(name: &str, own: &QueueConfig, policies: &Policies, namespace: &NamespaceConfig) -> ResolvedQueue {
    let (policy, over, default) = values_of(policies.choose(PolicyTarget::Queue, name));
    let stated_dead_letter = first(&over.dead_letter, &own.dead_letter, &default.dead_letter);
    let nowhere_by_default = stated_dead_letter.is_none() && defaults::dead_letter(name) == DeadLetterConfig::None;
    let dead_letter = stated_dead_letter.unwrap_or_else(|| defaults::dead_letter(name));
    // Nothing is dropped because of a default: without a place to go by default, there is no last attempt by default.
    let default_attempts = if nowhere_by_default { 0 } else { defaults::MAX_ATTEMPTS };
    let retry = [&over.retry, &own.retry, &default.retry];
    let lease_ms = first(&over.lease_ms, &own.lease_ms, &default.lease_ms);
    let breaker = first(&over.breaker, &own.breaker, &default.breaker)
        .or_else(|| own.webhook.as_ref().map(|_| defaults::PUSH_BREAKER));
    let rules = QueueRules {
        lease: lease_ms.map_or(Some(defaults::LEASE), |ms| span_or_none(Some(ms))),
        retry: resolve_retry(retry.map(Option::as_ref), default_attempts),
        has_dead_letter: dead_letter != DeadLetterConfig::None,
        keyed: own.keyed.unwrap_or(false),
        priority_levels: own.priority_levels.unwrap_or(defaults::PRIORITY_LEVELS).max(1),
        // A message that may live 0 ms is one that is taken at once or not at all, which is not the same as no bound.
        ttl: first(&over.ttl_ms, &own.ttl_ms, &default.ttl_ms).map(Duration::from_millis),
        delay: span_or_none(first(&over.delay_ms, &own.delay_ms, &default.delay_ms)),
        single_active: first(&over.single_active, &own.single_active, &default.single_active).unwrap_or(false),
        max_messages: first(&over.max_messages, &own.max_messages, &default.max_messages),
        max_bytes: first(&over.max_bytes, &own.max_bytes, &default.max_bytes),
        overflow: match first(&over.overflow, &own.overflow, &default.overflow) {
            Some(OverflowConfig::DropOldest) => Overflow::DropOldest,
            Some(OverflowConfig::RejectDeadLetter) => Overflow::RejectDeadLetter,
            Some(OverflowConfig::Reject) | None => Overflow::Reject,
        },
        breaker: breaker.map(breaker_rules),
        window: defaults::WINDOW,
        window_bytes: defaults::WINDOW_BYTES,
        max_in_flight: MAX_IN_FLIGHT,
    };
    let durability = match first(&over.durability, &own.durability, &default.durability) {
        _ if own.volatile => DurabilityConfig::Memory,
        stated => stated.or(namespace.durability).unwrap_or(DurabilityConfig::Fsync),
    };
    ResolvedQueue {
        rules,
        dead_letter,
        dedup_window: span_or_none(first(&over.dedup_window_ms, &own.dedup_window_ms, &default.dedup_window_ms)),
        expires: span_or_none(first(&over.expires_ms, &own.expires_ms, &default.expires_ms)),
        durability,
        policy,
    }
}

/// Merges retry settings field by field; `stated` has the strongest first.
fn resolve_retry(stated: [Option<&RetryConfig>; 3], default_attempts: u32) -> RetryRules {
    fn pick<T>(stated: &[Option<&RetryConfig>; 3], field: impl Fn(&RetryConfig) -> Option<T>) -> Option<T> {
        stated.iter().flatten().find_map(|retry| field(retry))
    }
    let attempts = pick(&stated, |retry| retry.max_attempts).unwrap_or(default_attempts);
    let initial = pick(&stated, |retry| retry.initial_ms).map_or(defaults::RETRY_INITIAL, Duration::from_millis);
    // A first wait that is longer than the cap nobody asked for is meant as it was said.
    let cap = pick(&stated, |retry| retry.cap_ms).map_or(defaults::RETRY_CAP.max(initial), Duration::from_millis);
    let names = pick(&stated, |retry| Some(&retry.non_retryable).filter(|names| !names.is_empty()).cloned());
    RetryRules {
        max_attempts: Some(attempts).filter(|attempts| *attempts > 0),
        initial,
        factor: pick(&stated, |retry| retry.factor).unwrap_or(defaults::RETRY_FACTOR),
        cap,
        jitter: pick(&stated, |retry| retry.jitter).unwrap_or(defaults::RETRY_JITTER),
        non_retryable: names.unwrap_or_default().into_iter().map(Arc::from).collect(),
    }
}

fn breaker_rules(config: BreakerConfig) -> BreakerRules {
    BreakerRules {
        failure_ratio: config.failure_ratio,
        window: config.window,
        pause: Duration::from_millis(config.pause_ms),
    }
}

/// What holds for the topic of this name.
#[must_use]
pub fn resolve_topic(name: &str, own: &TopicConfig, policies: &Policies, namespace: &NamespaceConfig) -> ResolvedTopic {
    let (policy, over, default) = values_of(policies.choose(PolicyTarget::Topic, name));
    let durability = first(&over.durability, &own.durability, &default.durability).or(namespace.durability);
    let body = first(&over.max_body_bytes, &own.max_body_bytes, &default.max_body_bytes);
    // The quota is a bound on what topics may allow, and what they allow if nothing else is said.
    let quota = namespace.quota.max_body_bytes;
    let body = body.or(quota).unwrap_or(defaults::MAX_BODY_BYTES).min(quota.unwrap_or(u64::MAX));
    ResolvedTopic {
        retention: first(&over.retention, &own.retention, &default.retention),
        dedup_window: span_or_none(first(&over.dedup_window_ms, &own.dedup_window_ms, &default.dedup_window_ms)),
        alternate: first(&over.alternate, &own.alternate, &default.alternate),
        durability: durability.unwrap_or(DurabilityConfig::Fsync),
        max_body_bytes: body,
        policy,
    }
}

#[cfg(test)]
mod tests;
