use super::*;
use crate::definitions::{Quota, WebhookConfig};

fn policy(pattern: &str, applies_to: PolicyScope, priority: i32) -> PolicyConfig {
    let pattern = pattern.to_owned();
    PolicyConfig { pattern, applies_to, priority, ..PolicyConfig::default() }
}

fn named(list: Vec<(&str, PolicyConfig)>) -> Policies {
    Policies::new(list.into_iter().map(|(name, config)| (name.to_owned(), config)))
}

fn queue(own: &QueueConfig, defaults: PolicyValues, overrides: PolicyValues) -> ResolvedQueue {
    let one = PolicyConfig { defaults, overrides, ..policy("*", PolicyScope::Queues, 0) };
    resolve_queue("orders", own, &named(vec![("one", one)]), &NamespaceConfig::default())
}

fn topic(own: &TopicConfig, defaults: PolicyValues, overrides: PolicyValues, quota: Option<u64>) -> ResolvedTopic {
    let one = PolicyConfig { defaults, overrides, ..policy("*", PolicyScope::Topics, 0) };
    let quota = Quota { max_body_bytes: quota, ..Quota::default() };
    let namespace = NamespaceConfig { quota, ..NamespaceConfig::default() };
    resolve_topic("orders", own, &named(vec![("one", one)]), &namespace)
}

/// The table of defaults, as a test.
#[test]
fn where_nobody_says_anything_the_defaults_hold() {
    let found = resolve_queue("orders", &QueueConfig::default(), &Policies::default(), &NamespaceConfig::default());
    let rules = QueueRules {
        lease: Some(Duration::from_secs(30)),
        retry: RetryRules {
            max_attempts: Some(5),
            initial: Duration::from_secs(1),
            factor: 2.0,
            cap: Duration::from_secs(300),
            jitter: true,
            non_retryable: Vec::new(),
        },
        has_dead_letter: true,
        keyed: false,
        priority_levels: 1,
        ttl: None,
        delay: None,
        single_active: false,
        max_messages: None,
        max_bytes: None,
        overflow: Overflow::Reject,
        breaker: None,
        max_in_flight: 1_000_000,
        window: 32_768,
        window_bytes: 8 * 1024 * 1024,
    };
    let expected = ResolvedQueue {
        rules,
        dead_letter: DeadLetterConfig::Queue("orders.dlq".to_owned()),
        dedup_window: None,
        expires: None,
        durability: DurabilityConfig::Fsync,
        transient_durability: DurabilityConfig::Memory,
        operator_policy: None,
        policy: None,
    };
    assert_eq!(found, expected);
    let found = resolve_topic("orders", &TopicConfig::default(), &Policies::default(), &NamespaceConfig::default());
    let expected = ResolvedTopic {
        retention: None,
        dedup_window: None,
        alternate: None,
        durability: DurabilityConfig::Fsync,
        transient_durability: DurabilityConfig::Memory,
        max_body_bytes: 16 * 1024 * 1024,
        operator_policy: None,
        policy: None,
    };
    assert_eq!(found, expected);
}

#[test]
fn the_highest_priority_that_fits_wins_and_the_oldest_among_equals() {
    let policies = named(vec![
        ("all", policy("*", PolicyScope::All, -1)),
        ("old", policy("orders*", PolicyScope::Queues, 3)),
        ("young", policy("*", PolicyScope::Queues, 3)),
        ("top", policy("*.eu", PolicyScope::Topics, 9)),
        ("damaged", policy("", PolicyScope::All, 99)),
    ]);
    let chosen =
        |target, name| policies.choose(PolicyLayer::User, target, name, &Arguments::new()).map(|(name, _)| name);
    assert_eq!(chosen(PolicyTarget::Queue, "orders.eu"), Some("old"));
    assert_eq!(chosen(PolicyTarget::Queue, "invoices"), Some("young"));
    assert_eq!(chosen(PolicyTarget::Topic, "orders.eu"), Some("top"));
    assert_eq!(chosen(PolicyTarget::Topic, "orders"), Some("all"));
    let narrow = named(vec![("eu", policy("*.eu", PolicyScope::Topics, 9))]);
    let narrow = |target, name| narrow.choose(PolicyLayer::User, target, name, &Arguments::new()).is_none();
    assert!(narrow(PolicyTarget::Topic, "orders.us") && narrow(PolicyTarget::Queue, "orders.eu"));
}

#[test]
fn an_override_beats_the_definition_which_beats_the_policys_default() {
    let lease = |lease_ms| PolicyValues { lease_ms, ..PolicyValues::default() };
    for (own, default, over, expected) in [
        (None, None, None, Some(30_000)),
        (None, Some(2), None, Some(2)),
        (Some(1), Some(2), None, Some(1)),
        (Some(1), Some(2), Some(3), Some(3)),
        (None, Some(2), Some(3), Some(3)),
        (Some(0), Some(2), None, None),
        (Some(1), None, Some(0), None),
    ] {
        let own = QueueConfig { lease_ms: own, ..QueueConfig::default() };
        let found = queue(&own, lease(default), lease(over));
        assert_eq!(found.rules.lease, expected.map(Duration::from_millis), "{own:?} {default:?} {over:?}");
        assert_eq!(found.policy.as_deref(), Some("one"));
    }
}

/// Every queue setting of a policy arrives, as a default and as an override.
#[test]
fn every_setting_of_a_policy_reaches_the_queue() {
    let values = PolicyValues {
        lease_ms: Some(1),
        retry: Some(RetryConfig { max_attempts: Some(0), jitter: Some(false), ..RetryConfig::default() }),
        dead_letter: Some(DeadLetterConfig::None),
        ttl_ms: Some(0),
        delay_ms: Some(3),
        single_active: Some(true),
        max_messages: Some(4),
        max_bytes: Some(5),
        overflow: Some(OverflowConfig::DropOldest),
        dedup_window_ms: Some(6),
        breaker: Some(BreakerConfig { failure_ratio: 0.5, window: 7, pause_ms: 8 }),
        expires_ms: Some(9),
        durability: Some(DurabilityConfig::Os),
        ..PolicyValues::default()
    };
    let as_default = queue(&QueueConfig::default(), values.clone(), PolicyValues::default());
    let own = QueueConfig {
        lease_ms: Some(100),
        retry: Some(RetryConfig { max_attempts: Some(100), jitter: Some(true), ..RetryConfig::default() }),
        dead_letter: Some(DeadLetterConfig::Queue("other".to_owned())),
        ttl_ms: Some(100),
        delay_ms: Some(100),
        single_active: Some(false),
        max_messages: Some(100),
        max_bytes: Some(100),
        overflow: Some(OverflowConfig::Reject),
        dedup_window_ms: Some(100),
        breaker: Some(BreakerConfig { failure_ratio: 1.0, window: 100, pause_ms: 100 }),
        expires_ms: Some(100),
        durability: Some(DurabilityConfig::Fsync),
        ..QueueConfig::default()
    };
    let as_override = queue(&own, PolicyValues::default(), values.clone());
    assert_eq!(as_default, as_override);
    let millis = Duration::from_millis;
    let rules = &as_default.rules;
    assert_eq!((rules.lease, rules.ttl, rules.delay), (Some(millis(1)), Some(millis(0)), Some(millis(3))));
    assert_eq!((rules.retry.max_attempts, rules.retry.jitter, rules.has_dead_letter), (None, false, false));
    assert_eq!((rules.single_active, rules.max_messages, rules.max_bytes), (true, Some(4), Some(5)));
    assert_eq!(rules.overflow, Overflow::DropOldest);
    assert_eq!(rules.breaker, Some(BreakerRules { failure_ratio: 0.5, window: 7, pause: millis(8) }));
    let pushed = WebhookConfig {
        url: "http://a".to_owned(),
        secret: None,
        concurrency: None,
        timeout_ms: None,
        headers: Default::default(),
        format: None,
    };
    let pushed = QueueConfig { webhook: Some(pushed), ..QueueConfig::default() };
    let ResolvedQueue { rules: guarded, .. } = queue(&pushed, PolicyValues::default(), PolicyValues::default());
    assert_eq!(guarded.breaker, Some(breaker_rules(defaults::PUSH_BREAKER)), "an endpoint may be down");
    assert_eq!(
        queue(&pushed, values.clone(), PolicyValues::default()).rules.breaker,
        rules.breaker,
        "unless something is said"
    );
    assert_eq!((as_default.dedup_window, as_default.expires), (Some(millis(6)), Some(millis(9))));
    assert_eq!((as_default.dead_letter, as_default.durability), (DeadLetterConfig::None, DurabilityConfig::Os));
    let own_wins = queue(&own, values, PolicyValues::default());
    assert_eq!(own_wins.rules, queue(&own, PolicyValues::default(), PolicyValues::default()).rules);
    assert_eq!(own_wins.rules.max_messages, Some(100));
}

#[test]
fn retry_settings_merge_field_by_field() {
    let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let retry = |retry| PolicyValues { retry: Some(retry), ..PolicyValues::default() };
    let defaults = retry(RetryConfig {
        max_attempts: Some(2),
        initial_ms: Some(20),
        factor: Some(3.0),
        non_retryable: names(&["default"]),
        ..RetryConfig::default()
    });
    let own = RetryConfig {
        max_attempts: Some(9),
        initial_ms: Some(10),
        non_retryable: names(&["own"]),
        ..RetryConfig::default()
    };
    let own = QueueConfig { retry: Some(own), ..QueueConfig::default() };
    let overrides = retry(RetryConfig { max_attempts: Some(4), ..RetryConfig::default() });
    let expected = RetryRules {
        max_attempts: Some(4),
        initial: Duration::from_millis(10),
        factor: 3.0,
        cap: Duration::from_secs(300),
        jitter: true,
        non_retryable: vec!["own".into()],
    };
    assert_eq!(queue(&own, defaults, overrides).rules.retry, expected);
}

#[test]
fn the_default_cap_does_not_cut_a_longer_first_wait() {
    let rules = |initial_ms, cap_ms| {
        let retry = Some(RetryConfig { initial_ms, cap_ms, ..RetryConfig::default() });
        queue(&QueueConfig { retry, ..QueueConfig::default() }, PolicyValues::default(), PolicyValues::default())
            .rules
            .retry
    };
    assert_eq!(rules(Some(600_000), None).cap, Duration::from_secs(600));
    assert_eq!(rules(Some(600_000), Some(1_000)).cap, Duration::from_secs(1));
    assert_eq!(rules(Some(0), None).cap, Duration::from_secs(300));
}

#[test]
fn a_dead_letter_queue_has_no_further_place_and_drops_nothing_by_default() {
    let plain =
        |name: &str, own: &QueueConfig| resolve_queue(name, own, &Policies::default(), &NamespaceConfig::default());
    let found = plain("orders.dlq", &QueueConfig::default());
    assert_eq!((found.dead_letter, found.rules.retry.max_attempts), (DeadLetterConfig::None, None));
    assert!(!found.rules.has_dead_letter);
    let onward = DeadLetterConfig::Queue("archive".to_owned());
    let own = QueueConfig { dead_letter: Some(onward.clone()), ..QueueConfig::default() };
    let found = plain("orders.dlq", &own);
    assert_eq!((found.dead_letter, found.rules.retry.max_attempts), (onward, Some(5)));
    let nowhere = QueueConfig { dead_letter: Some(DeadLetterConfig::None), ..QueueConfig::default() };
    let found = plain("orders", &nowhere);
    assert_eq!(
        (found.rules.has_dead_letter, found.rules.retry.max_attempts),
        (false, Some(5)),
        "dropped by explicit wish"
    );
}

#[test]
fn every_name_has_a_dead_letter_queue_whose_name_is_allowed() {
    let of = |name: &str| match defaults::dead_letter(name) {
        DeadLetterConfig::Queue(queue) => queue,
        other => panic!("{name:?} has {other:?}"),
    };
    assert_eq!(of(&"q".repeat(251)), format!("{}.dlq", "q".repeat(251)));
    let long = [
        "q".repeat(252),
        "q".repeat(255),
        "ü".repeat(127),
        format!("{}a", "€".repeat(84)),
        format!("{}b", "€".repeat(84)),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for name in long {
        let queue = of(&name);
        assert_eq!(types::check_name(&queue), Ok(()), "{queue}");
        assert!(queue.ends_with(".dlq"));
        assert!(seen.insert(queue), "two queues share a dead-letter queue by default: {name}");
    }
}

#[test]
fn durability_comes_from_the_namespace_last_and_a_volatile_queue_has_none() {
    let namespace = NamespaceConfig { durability: Some(DurabilityConfig::Os), ..NamespaceConfig::default() };
    let stated = PolicyValues { durability: Some(DurabilityConfig::Interval), ..PolicyValues::default() };
    let one = PolicyConfig { defaults: stated, ..policy("logs", PolicyScope::All, 0) };
    let policies = named(vec![("one", one)]);
    let queue = |name: &str, volatile| {
        let own = QueueConfig { volatile, ..QueueConfig::default() };
        resolve_queue(name, &own, &policies, &namespace).durability
    };
    let topic = |name: &str| resolve_topic(name, &TopicConfig::default(), &policies, &namespace).durability;
    assert_eq!((queue("orders", false), topic("orders")), (DurabilityConfig::Os, DurabilityConfig::Os));
    assert_eq!((queue("logs", false), topic("logs")), (DurabilityConfig::Interval, DurabilityConfig::Interval));
    assert_eq!(queue("logs", true), DurabilityConfig::Memory);
}

#[test]
fn a_transient_message_is_as_durable_as_is_stated_whatever_the_namespace_asks_for() {
    let namespace = NamespaceConfig { durability: Some(DurabilityConfig::Os), ..NamespaceConfig::default() };
    let policies = named(Vec::new());
    for (stated, holds) in [(None, DurabilityConfig::Memory), (Some(DurabilityConfig::Fsync), DurabilityConfig::Fsync)]
    {
        let queue = QueueConfig { durability: stated, ..QueueConfig::default() };
        assert_eq!(resolve_queue("q", &queue, &policies, &namespace).transient_durability, holds);
        let topic = TopicConfig { durability: stated, ..TopicConfig::default() };
        assert_eq!(resolve_topic("t", &topic, &policies, &namespace).transient_durability, holds);
    }
}

#[test]
fn every_setting_of_a_policy_reaches_the_topic() {
    let values = PolicyValues {
        dedup_window_ms: Some(1),
        durability: Some(DurabilityConfig::Os),
        retention: Some(RetentionConfig { max_age_ms: Some(2), ..RetentionConfig::default() }),
        alternate: Some("other".to_owned()),
        max_body_bytes: Some(3),
        ..PolicyValues::default()
    };
    let as_default = topic(&TopicConfig::default(), values.clone(), PolicyValues::default(), None);
    let own = TopicConfig {
        dedup_window_ms: Some(100),
        durability: Some(DurabilityConfig::Fsync),
        retention: Some(RetentionConfig { max_bytes: Some(100), ..RetentionConfig::default() }),
        alternate: Some("own".to_owned()),
        max_body_bytes: Some(100),
        ..TopicConfig::default()
    };
    assert_eq!(topic(&own, PolicyValues::default(), values.clone(), None), as_default);
    let expected = ResolvedTopic {
        retention: values.retention.clone(),
        dedup_window: Some(Duration::from_millis(1)),
        alternate: Some("other".to_owned()),
        durability: DurabilityConfig::Os,
        transient_durability: DurabilityConfig::Os,
        max_body_bytes: 3,
        operator_policy: None,
        policy: Some("one".to_owned()),
    };
    assert_eq!(as_default, expected);
    let own_wins = topic(&own, values, PolicyValues::default(), None);
    assert_eq!((own_wins.max_body_bytes, own_wins.alternate.as_deref()), (100, Some("own")));
}

#[test]
fn the_namespaces_quota_bounds_every_body() {
    for (own, quota, expected) in [
        (None, None, 16 * 1024 * 1024),
        (None, Some(10), 10),
        (None, Some(64 * 1024 * 1024), 64 * 1024 * 1024),
        (Some(20), Some(10), 10),
        (Some(5), Some(10), 5),
    ] {
        let own = TopicConfig { max_body_bytes: own, ..TopicConfig::default() };
        let found = topic(&own, PolicyValues::default(), PolicyValues::default(), quota);
        assert_eq!(found.max_body_bytes, expected, "{own:?} {quota:?}");
    }
}

fn of_operator(policy: PolicyConfig) -> PolicyConfig {
    PolicyConfig { layer: PolicyLayer::Operator, ..policy }
}

#[test]
fn one_policy_of_each_layer_applies_and_the_operators_wins() {
    let says = |ttl_ms, lease_ms| PolicyValues { ttl_ms, lease_ms, ..PolicyValues::default() };
    let all = |priority| policy("*", PolicyScope::All, priority);
    let policies = named(vec![
        ("p", PolicyConfig { defaults: says(Some(1), Some(10)), ..all(9) }),
        ("p", of_operator(PolicyConfig { defaults: says(Some(2), None), overrides: says(None, None), ..all(0) })),
        ("low", PolicyConfig { overrides: says(Some(3), Some(30)), ..all(1) }),
        ("low", of_operator(PolicyConfig { overrides: says(Some(4), None), ..all(-1) })),
    ]);
    let own = QueueConfig { lease_ms: Some(5_000), ..QueueConfig::default() };
    let found = resolve_queue("orders", &own, &policies, &NamespaceConfig::default());
    assert_eq!((found.policy.as_deref(), found.operator_policy.as_deref()), (Some("p"), Some("p")));
    assert_eq!(found.rules.ttl, Some(Duration::from_millis(2)), "of two defaults the operator's");
    assert_eq!(found.rules.lease, Some(Duration::from_secs(5)), "the definition before the user's default");
    let topic = resolve_topic("orders", &TopicConfig::default(), &policies, &NamespaceConfig::default());
    assert_eq!((topic.policy.as_deref(), topic.operator_policy.as_deref()), (Some("p"), Some("p")));
    let overriding = named(vec![
        ("user", PolicyConfig { overrides: says(Some(1), Some(10)), ..all(0) }),
        ("operator", of_operator(PolicyConfig { overrides: says(Some(2), None), ..all(0) })),
    ]);
    let found = resolve_queue("orders", &own, &overriding, &NamespaceConfig::default());
    assert_eq!(found.rules.ttl, Some(Duration::from_millis(2)), "of two overrides the operator's");
    assert_eq!(found.rules.lease, Some(Duration::from_millis(10)), "where that says nothing, the user's");
}

/// `(ttl, messages, bytes, expires, attempts)`: what is stated, the user's bound, the operator's bound, what holds.
#[test]
fn the_lowest_of_a_setting_and_its_bounds_holds() {
    for (stated, user, operator, expected) in [
        (None, None, None, None),
        (Some(7), None, None, Some(7)),
        (None, Some(5), None, Some(5)),
        (Some(7), Some(5), None, Some(5)),
        (Some(3), Some(5), Some(4), Some(3)),
        (Some(7), Some(5), Some(4), Some(4)),
        (None, Some(2), Some(4), Some(2)),
    ] {
        let bounds = |bound: Option<u32>| PolicyBounds {
            ttl_ms: bound.map(u64::from),
            max_messages: bound.map(u64::from),
            max_bytes: bound.map(u64::from),
            expires_ms: bound.map(u64::from),
            max_attempts: bound,
        };
        let all = || policy("*", PolicyScope::Queues, 0);
        let policies = named(vec![
            ("user", PolicyConfig { bounds: bounds(user), ..all() }),
            ("operator", of_operator(PolicyConfig { bounds: bounds(operator), ..all() })),
        ]);
        let value = stated.map(u64::from);
        let retry = RetryConfig { max_attempts: Some(stated.unwrap_or(0)), ..RetryConfig::default() };
        let own = QueueConfig {
            ttl_ms: value,
            max_messages: value,
            max_bytes: value,
            expires_ms: Some(value.unwrap_or(0)),
            retry: Some(retry),
            ..QueueConfig::default()
        };
        let found = resolve_queue("orders", &own, &policies, &NamespaceConfig::default());
        let (count, span) = (expected.map(u64::from), expected.map(|ms| Duration::from_millis(u64::from(ms))));
        assert_eq!((found.rules.max_messages, found.rules.max_bytes), (count, count));
        assert_eq!((found.rules.ttl, found.expires), (span, span));
        assert_eq!(found.rules.retry.max_attempts, expected, "{stated:?} {user:?} {operator:?}");
    }
}

#[test]
fn a_policy_may_be_for_those_of_certain_arguments() {
    let kind = |values: &[Value]| [("kind".to_owned(), values.to_vec())].into();
    let all = || policy("regex:^ord", PolicyScope::All, 0);
    let policies = named(vec![
        ("quorum", PolicyConfig { only_arguments: kind(&["quorum".into()]), ..all() }),
        ("plain", PolicyConfig { only_arguments: kind(&[Value::Null, "classic".into()]), ..all() }),
    ]);
    let chosen = |value: Option<&str>, name: &str| {
        let arguments = value.map(|value| ("kind".to_owned(), Value::from(value))).into_iter().collect();
        let own = QueueConfig { arguments, ..QueueConfig::default() };
        resolve_queue(name, &own, &policies, &NamespaceConfig::default()).policy
    };
    assert_eq!(chosen(Some("quorum"), "orders").as_deref(), Some("quorum"));
    assert_eq!(chosen(Some("classic"), "orders").as_deref(), Some("plain"));
    assert_eq!(chosen(None, "orders").as_deref(), Some("plain"));
    assert_eq!(chosen(Some("stream"), "orders"), None);
    assert_eq!(chosen(Some("quorum"), "x.orders"), None, "and the name must fit");
}
