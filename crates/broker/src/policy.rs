//! Policies, and what holds in the end.
//!
//! Of one setting, the first that says something holds: an override, the definition, a policy's default, the namespace (for
//! durability and the largest body), [`crate::defaults`]. One policy of each layer applies to an entity, as a whole; of two overrides or
//! two defaults the operator's holds. No bound of either may be passed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use types::limits::MAX_IN_FLIGHT;

use crate::access::NamePattern;
use crate::defaults;
use crate::definitions::{
    BreakerConfig, DeadLetterConfig, DurabilityConfig, Millis, NamespaceConfig, OverflowConfig, PolicyBounds,
    PolicyConfig, PolicyLayer, PolicyScope, PolicyValues, QueueConfig, RetentionConfig, RetryConfig, TopicConfig,
};
use crate::queue::{BreakerRules, Overflow, QueueRules, RetryRules};

/// What a protocol keeps with an entity.
type Arguments = BTreeMap<String, serde_json::Value>;

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
    /// The same of messages that need not outlive the process: at once, unless the queue or a policy states a durability.
    pub transient_durability: DurabilityConfig,
    /// The operator's policy that had a say, if one fits.
    pub operator_policy: Option<String>,
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
    /// See [`ResolvedQueue::transient_durability`].
    pub transient_durability: DurabilityConfig,
    /// Largest message body, in bytes.
    pub max_body_bytes: u64,
    /// The operator's policy that had a say, if one fits.
    pub operator_policy: Option<String>,
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

    /// The policy of a layer for this entity: the one of the highest priority that fits, the oldest among equals.
    #[must_use]
    pub fn choose(
        &self,
        layer: PolicyLayer,
        target: PolicyTarget,
        name: &str,
        arguments: &BTreeMap<String, serde_json::Value>,
    ) -> Option<(&str, &PolicyConfig)> {
        let applies = |scope: PolicyScope| match scope {
            PolicyScope::All => true,
            PolicyScope::Queues => target == PolicyTarget::Queue,
            PolicyScope::Topics => target == PolicyTarget::Topic,
        };
        let fits = |policy: &&Policy| {
            policy.config.layer == layer
                && applies(policy.config.applies_to)
                && has_arguments(&policy.config, arguments)
                && policy.pattern.matches(name)
        };
        self.ordered.iter().find(fits).map(|policy| (policy.name.as_str(), &policy.config))
    }
}

/// Whether an entity has the arguments that a policy is for.
fn has_arguments(policy: &PolicyConfig, arguments: &Arguments) -> bool {
    policy.only_arguments.iter().all(|(name, values)| values.contains(arguments.get(name).unwrap_or(&Value::Null)))
}

/// A time span of which 0 says "none".
fn span_or_none(ms: Option<Millis>) -> Option<Duration> {
    ms.filter(|ms| *ms > 0).map(Duration::from_millis)
}

static NO_POLICY: PolicyConfig = PolicyConfig {
    pattern: String::new(),
    applies_to: PolicyScope::All,
    only_arguments: BTreeMap::new(),
    layer: PolicyLayer::User,
    priority: 0,
    defaults: NO_VALUES,
    overrides: NO_VALUES,
    bounds: PolicyBounds { ttl_ms: None, max_messages: None, max_bytes: None, expires_ms: None, max_attempts: None },
    arguments: BTreeMap::new(),
};

const NO_VALUES: PolicyValues = PolicyValues {
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

/// The policies that have a say, if any fit.
struct Chosen<'a> {
    operator_name: Option<String>,
    user_name: Option<String>,
    operator: &'a PolicyConfig,
    user: &'a PolicyConfig,
}

impl<'a> Chosen<'a> {
    fn of(policies: &'a Policies, target: PolicyTarget, name: &str, arguments: &Arguments) -> Self {
        let [operator, user] =
            [PolicyLayer::Operator, PolicyLayer::User].map(|layer| policies.choose(layer, target, name, arguments));
        Self {
            operator_name: operator.map(|(name, _)| name.to_owned()),
            user_name: user.map(|(name, _)| name.to_owned()),
            operator: operator.map_or(&NO_POLICY, |(_, policy)| policy),
            user: user.map_or(&NO_POLICY, |(_, policy)| policy),
        }
    }

    /// What is said of a setting, the strongest first.
    fn stated<'b, T>(&'b self, own: &'b Option<T>, field: impl Fn(&PolicyValues) -> &Option<T>) -> [Option<&'b T>; 5] {
        [
            field(&self.operator.overrides).as_ref(),
            field(&self.user.overrides).as_ref(),
            own.as_ref(),
            field(&self.operator.defaults).as_ref(),
            field(&self.user.defaults).as_ref(),
        ]
    }

    /// The first that is said of a setting.
    fn first<T: Clone>(&self, own: &Option<T>, field: impl Fn(&PolicyValues) -> &Option<T>) -> Option<T> {
        self.stated(own, field).into_iter().flatten().next().cloned()
    }

    /// The lowest of a setting and what bounds it.
    fn bounded<T: Ord>(&self, stated: Option<T>, bound: impl Fn(&PolicyBounds) -> Option<T>) -> Option<T> {
        let bounds = [bound(&self.operator.bounds), bound(&self.user.bounds)];
        bounds.into_iter().chain([stated]).flatten().min()
    }
}

/// What holds for the queue of this name.
#[must_use]
pub fn resolve_queue(name: &str, own: &QueueConfig, policies: &Policies, namespace: &NamespaceConfig) -> ResolvedQueue {
    let chosen = Chosen::of(policies, PolicyTarget::Queue, name, &own.arguments);
    let stated_dead_letter = chosen.first(&own.dead_letter, |values| &values.dead_letter);
    let nowhere_by_default = stated_dead_letter.is_none() && defaults::dead_letter(name) == DeadLetterConfig::None;
    let dead_letter = stated_dead_letter.unwrap_or_else(|| defaults::dead_letter(name));
    // Nothing is dropped because of a default: without a place to go by default, there is no last attempt by default.
    let default_attempts = if nowhere_by_default { 0 } else { defaults::MAX_ATTEMPTS };
    let durability = match own.volatile {
        true => Some(DurabilityConfig::Memory),
        false => chosen.first(&own.durability, |values| &values.durability),
    };
    let expires = span_or_none(chosen.first(&own.expires_ms, |values| &values.expires_ms));
    ResolvedQueue {
        rules: queue_rules(own, &chosen, default_attempts, dead_letter != DeadLetterConfig::None),
        dead_letter,
        dedup_window: span_or_none(chosen.first(&own.dedup_window_ms, |values| &values.dedup_window_ms)),
        expires: chosen.bounded(expires, |bounds| span_or_none(bounds.expires_ms)),
        durability: durability.or(namespace.durability).unwrap_or(DurabilityConfig::Fsync),
        transient_durability: durability.unwrap_or(DurabilityConfig::Memory),
        operator_policy: chosen.operator_name,
        policy: chosen.user_name,
    }
}

fn queue_rules(own: &QueueConfig, chosen: &Chosen<'_>, default_attempts: u32, has_dead_letter: bool) -> QueueRules {
    let mut retry = resolve_retry(chosen.stated(&own.retry, |values| &values.retry), default_attempts);
    retry.max_attempts = chosen.bounded(retry.max_attempts, |bounds| bounds.max_attempts);
    let lease_ms = chosen.first(&own.lease_ms, |values| &values.lease_ms);
    let breaker = chosen
        .first(&own.breaker, |values| &values.breaker)
        .or_else(|| own.webhook.as_ref().map(|_| defaults::PUSH_BREAKER));
    let ttl_ms = chosen.bounded(chosen.first(&own.ttl_ms, |values| &values.ttl_ms), |bounds| bounds.ttl_ms);
    let max_messages = chosen.first(&own.max_messages, |values| &values.max_messages);
    let max_bytes = chosen.first(&own.max_bytes, |values| &values.max_bytes);
    QueueRules {
        lease: lease_ms.map_or(Some(defaults::LEASE), |ms| span_or_none(Some(ms))),
        retry,
        has_dead_letter,
        keyed: own.keyed.unwrap_or(false),
        priority_levels: own.priority_levels.unwrap_or(defaults::PRIORITY_LEVELS).max(1),
        // A message that may live 0 ms is one that is taken at once or not at all, which is not the same as no bound.
        ttl: ttl_ms.map(Duration::from_millis),
        delay: span_or_none(chosen.first(&own.delay_ms, |values| &values.delay_ms)),
        single_active: chosen.first(&own.single_active, |values| &values.single_active).unwrap_or(false),
        max_messages: chosen.bounded(max_messages, |bounds| bounds.max_messages),
        max_bytes: chosen.bounded(max_bytes, |bounds| bounds.max_bytes),
        overflow: match chosen.first(&own.overflow, |values| &values.overflow) {
            Some(OverflowConfig::DropOldest) => Overflow::DropOldest,
            Some(OverflowConfig::RejectDeadLetter) => Overflow::RejectDeadLetter,
            Some(OverflowConfig::Reject) | None => Overflow::Reject,
        },
        breaker: breaker.map(breaker_rules),
        window: defaults::WINDOW,
        window_bytes: defaults::WINDOW_BYTES,
        max_in_flight: MAX_IN_FLIGHT,
    }
}

/// Merges retry settings field by field; `stated` has the strongest first.
fn resolve_retry(stated: [Option<&RetryConfig>; 5], default_attempts: u32) -> RetryRules {
    fn pick<T>(stated: &[Option<&RetryConfig>; 5], field: impl Fn(&RetryConfig) -> Option<T>) -> Option<T> {
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
    let chosen = Chosen::of(policies, PolicyTarget::Topic, name, &own.arguments);
    let durability = chosen.first(&own.durability, |values| &values.durability);
    let body = chosen.first(&own.max_body_bytes, |values| &values.max_body_bytes);
    // The quota is a bound on what topics may allow, and what they allow if nothing else is said.
    let quota = namespace.quota.max_body_bytes;
    let body = body.or(quota).unwrap_or(defaults::MAX_BODY_BYTES).min(quota.unwrap_or(u64::MAX));
    ResolvedTopic {
        retention: chosen.first(&own.retention, |values| &values.retention),
        dedup_window: span_or_none(chosen.first(&own.dedup_window_ms, |values| &values.dedup_window_ms)),
        alternate: chosen.first(&own.alternate, |values| &values.alternate),
        durability: durability.or(namespace.durability).unwrap_or(DurabilityConfig::Fsync),
        transient_durability: durability.unwrap_or(DurabilityConfig::Memory),
        max_body_bytes: body,
        operator_policy: chosen.operator_name,
        policy: chosen.user_name,
    }
}

#[cfg(test)]
mod tests;
