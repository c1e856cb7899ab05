//! The queues, topics, bindings and the rest that a run begins with, and how they are changed.

use broker::definitions::{
    BindingConfig, BindingTarget, DeadLetterConfig, GroupConfig, GroupStart, OverflowConfig, Permissions, PolicyConfig,
    PolicyScope, PolicyValues, QueueConfig, RetentionConfig, RetryConfig, TopicConfig,
};
use bytes::Bytes;
use fastrand::Rng;
use types::{Filter, SubjectPattern};

use crate::definitions::{Change, Definitions, OTHER, is_other};

/// A day: longer than any run's clock moves.
const WINDOW_MS: u64 = 86_400_000;
pub(crate) const SUBJECTS: [&str; 4] = ["a.x", "a.y", "b.x", "b.y"];
const PATTERNS: [&str; 3] = ["a.*", "b.*", "*.x"];
/// Queues that messages are published into, besides those of topics.
pub(crate) const QUEUES: [&str; 9] = ["plain", "keyed", "levels", "once", "short", "extra", "ring", "ping", "pong"];
/// The same names mean something else in the second namespace.
pub(crate) const OTHER_QUEUE: &str = "other/plain";
const OTHER_TOPIC: &str = "other/fan";
/// Queues whose dead letters go to each other. What leaves them by itself goes round once.
pub(crate) const CIRCLE: [&str; 2] = ["ping", "pong"];
/// Most that waits in the queue that drops its oldest.
const RING_MESSAGES: u64 = 6;
const TOPICS: [&str; 5] = ["fan", "trail", "kv", "window", "latest"];
/// How long a compacted topic keeps a removal.
pub(crate) const TOMBSTONE_MS: i64 = 5_000;
/// What the bounded topic keeps: records, and for how long.
pub(crate) const WINDOW_RECORDS: u64 = 8;
pub(crate) const WINDOW_AGE_MS: i64 = 60_000;

pub(crate) fn queue(name: &str) -> QueueConfig {
    let retry = RetryConfig {
        max_attempts: Some(3),
        initial_ms: Some(700),
        non_retryable: vec!["fatal".to_owned()],
        ..RetryConfig::default()
    };
    let config = QueueConfig { lease_ms: Some(10_000), retry: Some(retry), ..QueueConfig::default() };
    match name {
        "keyed" => QueueConfig { keyed: Some(true), ..config },
        "levels" => QueueConfig { priority_levels: Some(4), ..config },
        "once" => QueueConfig { dedup_window_ms: Some(WINDOW_MS), max_messages: Some(12), ..config },
        "short" => QueueConfig { ttl_ms: Some(20_000), dead_letter: other("dead"), ..config },
        "ring" => {
            QueueConfig { max_messages: Some(RING_MESSAGES), overflow: Some(OverflowConfig::DropOldest), ..config }
        }
        "ping" => QueueConfig { dead_letter: other("pong"), ttl_ms: Some(9_000), ..config },
        "pong" => QueueConfig { dead_letter: other("ping"), ttl_ms: Some(6_000), ..config },
        _ => config,
    }
}

fn other(name: &str) -> Option<DeadLetterConfig> {
    Some(DeadLetterConfig::Queue(name.to_owned()))
}

pub(crate) fn topic(name: &str) -> TopicConfig {
    let kept = TopicConfig { retention: Some(RetentionConfig::default()), ..TopicConfig::default() };
    match name {
        "trail" => TopicConfig { partitions: Some(2), dedup_window_ms: Some(WINDOW_MS), ..kept },
        "kv" => TopicConfig { key_index: true, ..kept },
        "window" => {
            let bounds = RetentionConfig {
                max_records: Some(WINDOW_RECORDS),
                max_age_ms: Some(WINDOW_AGE_MS.unsigned_abs()),
                ..RetentionConfig::default()
            };
            TopicConfig { retention: Some(bounds), ..TopicConfig::default() }
        }
        "latest" => {
            let compacted = RetentionConfig {
                compact: true,
                tombstone_ms: Some(TOMBSTONE_MS.unsigned_abs()),
                ..RetentionConfig::default()
            };
            TopicConfig { retention: Some(compacted), key_index: true, ..TopicConfig::default() }
        }
        _ => TopicConfig::default(),
    }
}

fn bind(topic: &str, target: BindingTarget, filter: Filter) -> Change {
    Change::Bind(Box::new(BindingConfig {
        topic: topic.to_owned(),
        target,
        filter: filter.into(),
        weight: None,
        arguments: Default::default(),
    }))
}

fn pattern(text: &str) -> Filter {
    Filter::Subject(SubjectPattern::parse(text).expect("a pattern"))
}

fn group() -> Change {
    let config = GroupConfig { topic: "trail".to_owned(), start: GroupStart::Earliest, session_ms: None };
    Change::Group("readers".to_owned(), config)
}

/// What the second namespace begins with.
fn others() -> Vec<Change> {
    vec![
        Change::Namespace,
        Change::Queue(OTHER_QUEUE.to_owned(), Box::new(queue("plain"))),
        Change::Topic(OTHER_TOPIC.to_owned(), Box::new(topic("fan"))),
        bind(OTHER_TOPIC, BindingTarget::Queue(OTHER_QUEUE.to_owned()), pattern("a.*")),
    ]
}

/// What a run begins with. Short runs do without some of it.
pub(crate) fn all(rng: &mut Rng, share: f32) -> Vec<Change> {
    let to = |name: &str| BindingTarget::Queue(name.to_owned());
    let mut wanted = |share: f32| rng.f32() < share;
    let mut changes = vec![Change::Queue("plain".to_owned(), Box::new(queue("plain")))];
    for name in ["keyed", "levels", "once", "short", "ring", "ping", "pong"] {
        if wanted(share) {
            changes.push(Change::Queue(name.to_owned(), Box::new(queue(name))));
        }
    }
    for name in TOPICS {
        if wanted(share) {
            changes.push(Change::Topic(name.to_owned(), Box::new(topic(name))));
        }
    }
    changes.push(bind("fan", to("plain"), Filter::All));
    changes.push(bind("fan", to("keyed"), pattern("a.*")));
    changes.push(bind("fan", to("ring"), pattern("b.*")));
    changes.push(bind("fan", to("levels"), Filter::SubjectExact(Bytes::from_static(b"a.x"))));
    changes.push(bind("fan", BindingTarget::Topic("trail".to_owned()), pattern("b.*")));
    changes.push(bind("trail", to("keyed"), pattern("*.x")));
    changes.push(group());
    if wanted(share) {
        changes.extend(others());
    }
    changes
}

/// Whether a change can be made: what it names is there.
pub(crate) fn makes_sense(change: &Change, have: &Definitions) -> bool {
    match change {
        Change::Bind(config) => {
            have.topics.contains_key(&config.topic)
                && match &config.target {
                    BindingTarget::Queue(name) => have.takes(name),
                    BindingTarget::Topic(name) => have.topics.contains_key(name),
                }
        }
        Change::Group(..) => have.topics.contains_key("trail"),
        Change::Queue(name, _) => !is_other(name) || have.namespaces.contains_key(OTHER),
        Change::Topic(name, _) => !is_other(name) || have.namespaces.contains_key(OTHER),
        _ => true,
    }
}

/// A change of what there is, at random.
pub(crate) fn any(rng: &mut Rng, have: &Definitions, users: bool) -> Change {
    let missing = QUEUES.iter().find(|name| !have.queues.contains_key(**name));
    if let (Some(name), true) = (missing, rng.bool()) {
        return Change::Queue((*name).to_owned(), Box::new(queue(name)));
    }
    let missing = TOPICS.iter().find(|name| !have.topics.contains_key(**name));
    if let (Some(name), true) = (missing, rng.bool()) {
        return Change::Topic((*name).to_owned(), Box::new(topic(name)));
    }
    if rng.u8(0..8) == 0 {
        let is_there = have.namespaces.contains_key(OTHER);
        let change = others().swap_remove(rng.usize(0..4));
        return if is_there && rng.u8(0..4) == 0 { Change::DeleteNamespace } else { change };
    }
    let name = |rng: &mut Rng, names: &[&str]| (*rng.choice(names).expect("some")).to_owned();
    match rng.u8(0..if users { 20 } else { 17 }) {
        0..3 => {
            let all: Vec<&str> = have.queues.keys().map(String::as_str).collect();
            let any = ["extra"];
            Change::DeleteQueue(name(rng, if all.is_empty() { &any } else { &all }))
        }
        3..6 => {
            let name = name(rng, &QUEUES);
            let mut config = queue(&name);
            config.description = Some(rng.u8(..).to_string());
            config.lease_ms = Some(rng.u64(5..15) * 1_000);
            Change::Queue(name, Box::new(config))
        }
        6 => Change::DeleteTopic(name(rng, &TOPICS)),
        7..10 => {
            let filter = match rng.u8(0..4) {
                0 => Filter::All,
                1 => Filter::SubjectExact(Bytes::from_static(rng.choice(SUBJECTS).expect("some").as_bytes())),
                _ => pattern(rng.choice(PATTERNS).expect("some")),
            };
            let from = if rng.bool() { "fan" } else { "trail" };
            bind(from, BindingTarget::Queue(name(rng, &QUEUES)), filter)
        }
        10..12 => match rng.choice(have.bindings.keys()) {
            Some(id) => Change::Unbind(*id),
            None => group(),
        },
        12 => Change::DeleteGroup("readers".to_owned()),
        13 => group(),
        14..16 => {
            let overrides = PolicyValues { lease_ms: Some(rng.u64(3..20) * 1_000), ..PolicyValues::default() };
            let config = PolicyConfig {
                pattern: name(rng, &["plain", "k*", "*"]),
                applies_to: PolicyScope::Queues,
                priority: i32::from(rng.u8(0..3)),
                overrides,
                ..PolicyConfig::default()
            };
            Change::Policy(name(rng, &["p", "q"]), Box::new(config))
        }
        16 => Change::DeletePolicy(name(rng, &["p", "q"])),
        17..19 => {
            let permissions = Permissions { read: vec![format!("q{}*", rng.u8(..))], ..Permissions::default() };
            Change::User(name(rng, &["ann", "bob"]), vec![rng.u8(..).to_string()], permissions)
        }
        _ => Change::DeleteUser(name(rng, &["ann", "bob"])),
    }
}
