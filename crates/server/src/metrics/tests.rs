use std::sync::Arc;
use std::time::Duration;

use broker::definitions::{DeadLetterConfig, QueueConfig, TopicConfig};
use broker::queue::{Overflow, QueueDepth, QueueRules, RetryRules};
use broker::views::{PartitionInfo, QueueCounters, QueueInfo, QueueRates, TopicInfo};
use broker::{BackupHistory, BrokerMetrics};
use log::EngineState;
use types::{EntityId, Offset, Timestamp};

use super::render;
use super::snapshot::Snapshot;

fn queue(name: &str, ready: u64) -> (String, QueueInfo) {
    let retry = RetryRules {
        max_attempts: None,
        initial: Duration::ZERO,
        factor: 1.0,
        cap: Duration::ZERO,
        jitter: false,
        non_retryable: Vec::new(),
    };
    let rules = QueueRules {
        lease: None,
        retry,
        has_dead_letter: false,
        keyed: false,
        priority_levels: 1,
        ttl: None,
        delay: None,
        single_active: false,
        max_messages: None,
        max_bytes: None,
        overflow: Overflow::Reject,
        breaker: None,
        max_in_flight: 1,
        window: 1,
        window_bytes: 1,
    };
    let info = QueueInfo {
        operator_policy: None,
        owned: false,
        id: EntityId(1),
        name: name.to_owned(),
        config: QueueConfig::default(),
        rules,
        dead_letter: DeadLetterConfig::None,
        dedup_window: None,
        expires: None,
        policy: None,
        depth: QueueDepth { ready, oldest: Some(Timestamp(9_000)), ..QueueDepth::default() },
        counters: QueueCounters { acked: ready * 2, ..QueueCounters::default() },
        rates: QueueRates::default(),
        consumers: 1,
        paused_consumers: 0,
        oldest_age: None,
        disk_bytes: 0,
        redrive: None,
        damage: None,
    };
    ("default".to_owned(), info)
}

fn topic(name: &str) -> (String, TopicInfo) {
    let partition = PartitionInfo { start: Offset(0), end: Offset(7), records: 7, bytes: 70, disk_bytes: 100 };
    let info = TopicInfo {
        operator_policy: None,
        id: EntityId(2),
        name: name.to_owned(),
        config: TopicConfig::default(),
        retention: None,
        policy: None,
        partitions: vec![partition, partition],
        bindings: 3,
        published: 20,
        unrouted: 1,
        damage: None,
    };
    ("default".to_owned(), info)
}

fn page(max_entities: usize) -> String {
    let mut sync_us = [0; 16];
    sync_us[0] = 2;
    sync_us[3] = 1;
    sync_us[15] = 1;
    render(Snapshot {
        now: Timestamp(10_000),
        uptime: Duration::from_secs(5),
        ready: true,
        broker: BrokerMetrics { published: 12, delivered: 11, ..BrokerMetrics::default() },
        backups: BackupHistory { last_success: Some(Timestamp(1_500)), last_error: None },
        engine: EngineState { sync_us, sync_us_sum: 9_000_000, commits: 4, ..EngineState::default() },
        queues: vec![queue("small", 1), queue("large", 50), queue("quo\"ted", 2)],
        topics: vec![topic("orders")],
        listeners: vec![("http", Arc::default())],
        max_entities,
    })
}

#[track_caller]
fn has(page: &str, line: &str) {
    assert!(page.lines().any(|have| have == line), "{line} is not in\n{page}");
}

#[test]
fn counters_and_histograms_are_on_the_page() {
    let page = page(10);
    has(&page, r#"messaging_client_sent_messages_total{messaging_system="posthouse"} 12"#);
    has(&page, r#"messaging_client_consumed_messages_total{messaging_system="posthouse"} 11"#);
    has(&page, "posthouse_ready 1.0");
    has(&page, "posthouse_log_commits_total 4");
    has(&page, r#"posthouse_log_fsync_duration_seconds_bucket{le="0.00005"} 2"#);
    has(&page, r#"posthouse_log_fsync_duration_seconds_bucket{le="0.0004"} 3"#);
    has(&page, r#"posthouse_log_fsync_duration_seconds_bucket{le="+Inf"} 4"#);
    has(&page, "posthouse_log_fsync_duration_seconds_sum 9.0");
    has(&page, "posthouse_log_fsync_duration_seconds_count 4");
    has(&page, r#"posthouse_connections{listener="http"} 0.0"#);
    has(&page, r#"posthouse_queue_messages{namespace="default",queue="large",state="ready"} 50.0"#);
    has(&page, r#"posthouse_queue_messages{namespace="default",queue="quo\"ted",state="ready"} 2.0"#);
    has(&page, r#"posthouse_queue_acked_messages_total{namespace="default",queue="small"} 2"#);
    has(&page, r#"posthouse_queue_oldest_age_seconds{namespace="default",queue="small"} 1.0"#);
    has(&page, r#"posthouse_topic_records{namespace="default",topic="orders"} 14.0"#);
    has(&page, r#"posthouse_topic_published_messages_total{namespace="default",topic="orders"} 20"#);
    assert!(!page.contains(r#"queue="""#), "nothing is summed up while all are shown");
}

#[test]
fn queues_beyond_the_bound_are_one_sum() {
    let page = page(1);
    has(&page, "posthouse_queues 3.0");
    has(&page, r#"posthouse_queue_messages{namespace="default",queue="large",state="ready"} 50.0"#);
    has(&page, r#"posthouse_queue_messages{namespace="",queue="",state="ready"} 3.0"#);
    has(&page, r#"posthouse_queue_acked_messages_total{namespace="",queue=""} 6"#);
    assert!(!page.contains(r#"queue="small""#));
}
