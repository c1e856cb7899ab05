//! What the broker says about entities and messages, in the API's words.

use broker::bounds::whole_ms as ms;
use broker::queue::{BreakerRules, Overflow};
use broker::views as v;
use types::Offset;

use crate::definitions as d;
use crate::problem::Failure;

pub(crate) fn outcome(declared: v::Declared) -> api::Outcome {
    match declared {
        v::Declared::Created => api::Outcome::Created,
        v::Declared::Unchanged => api::Outcome::Unchanged,
        v::Declared::Updated => api::Outcome::Updated,
    }
}

pub(crate) fn namespace(info: v::NamespaceInfo) -> api::Namespace {
    api::Namespace {
        id: info.id.0,
        name: info.name,
        config: d::namespace_from(info.config),
        topics: info.topics,
        queues: info.queues,
        stored_bytes: info.stored_bytes,
        connections: info.connections,
    }
}

pub(crate) fn topic(info: v::TopicInfo) -> api::Topic {
    let partition = |(partition, info): (u32, v::PartitionInfo)| api::Partition {
        partition,
        start: info.start.0,
        end: info.end.0,
        records: info.records,
        bytes: info.bytes,
        disk_bytes: info.disk_bytes,
    };
    api::Topic {
        id: info.id.0,
        name: info.name,
        config: d::topic_from(info.config),
        retention: info.retention.map(d::retention_from),
        policy: info.policy,
        operator_policy: info.operator_policy,
        partitions: (0..).zip(info.partitions).map(partition).collect(),
        bindings: info.bindings,
        published: info.published,
        unrouted: info.unrouted,
        damage: info.damage,
    }
}

pub(crate) fn queue(info: v::QueueInfo) -> api::Queue {
    let effective = effective(&info);
    api::Queue {
        id: info.id.0,
        name: info.name,
        effective,
        config: d::queue_from(info.config),
        policy: info.policy,
        operator_policy: info.operator_policy,
        depth: api::QueueDepth {
            ready: info.depth.ready,
            unread: info.depth.unread,
            delayed: info.depth.delayed,
            parked: info.depth.parked,
            in_flight: info.depth.in_flight,
            waiting_bytes: info.depth.waiting_bytes,
            in_flight_bytes: info.depth.in_flight_bytes,
        },
        counters: api::QueueCounters {
            enqueued: info.counters.enqueued,
            delivered: info.counters.delivered,
            acked: info.counters.acked,
            failed: info.counters.failed,
            dead_lettered: info.counters.dead_lettered,
            dropped: info.counters.dropped,
            expired: info.counters.expired,
        },
        rates: api::QueueRates {
            enqueued: info.rates.enqueued,
            delivered: info.rates.delivered,
            acked: info.rates.acked,
            failed: info.rates.failed,
        },
        consumers: info.consumers,
        paused_consumers: info.paused_consumers,
        oldest_age_ms: info.oldest_age.map(ms),
        disk_bytes: info.disk_bytes,
        redrive: info.redrive.map(redrive),
        owned: info.owned,
        damage: info.damage,
    }
}

fn effective(info: &v::QueueInfo) -> api::QueueEffective {
    let rules = &info.rules;
    let bounded = rules.max_messages.is_some() || rules.max_bytes.is_some();
    let breaker = |rules: BreakerRules| api::Breaker {
        failure_ratio: rules.failure_ratio,
        window: rules.window,
        pause_ms: ms(rules.pause),
    };
    api::QueueEffective {
        lease_ms: rules.lease.map(ms),
        retry: api::Retry {
            max_attempts: rules.retry.max_attempts.or(Some(0)),
            initial_ms: Some(ms(rules.retry.initial)),
            factor: Some(rules.retry.factor),
            cap_ms: Some(ms(rules.retry.cap)),
            jitter: Some(rules.retry.jitter),
            non_retryable: rules.retry.non_retryable.iter().map(ToString::to_string).collect(),
        },
        dead_letter: Some(d::dead_letter_from(info.dead_letter.clone())),
        keyed: rules.keyed,
        priority_levels: rules.priority_levels,
        ttl_ms: rules.ttl.map(ms),
        delay_ms: rules.delay.map(ms),
        single_active: rules.single_active,
        max_messages: rules.max_messages,
        max_bytes: rules.max_bytes,
        overflow: bounded.then_some(match rules.overflow {
            Overflow::Reject => api::Overflow::Reject,
            Overflow::DropOldest => api::Overflow::DropOldest,
            Overflow::RejectDeadLetter => api::Overflow::RejectDeadLetter,
        }),
        dedup_window_ms: info.dedup_window.map(ms),
        breaker: rules.breaker.map(breaker),
        expires_ms: info.expires.map(ms),
    }
}

pub(crate) fn redrive(info: v::RedriveInfo) -> api::Redrive {
    api::Redrive {
        to: info.to,
        moved: info.moved,
        total: info.total,
        rate: info.rate,
        running: info.running,
        error: info.error,
    }
}

/// # Errors
/// If the stored filter cannot be read.
pub(crate) fn binding(info: v::BindingInfo) -> Result<api::Binding, Failure> {
    Ok(api::Binding { id: info.id.0, config: d::binding_from(info.config)? })
}

pub(crate) fn group(info: v::GroupInfo) -> api::Group {
    api::Group {
        id: info.id.0,
        name: info.name,
        config: d::group_from(info.config),
        generation: info.generation,
        members: info
            .members
            .into_iter()
            .map(|member| api::GroupMember { member: member.member, partitions: member.partitions })
            .collect(),
        partitions: info.partitions.into_iter().map(group_partition).collect(),
        damage: info.damage,
    }
}

pub(crate) fn group_partition(info: v::GroupPartition) -> api::GroupPartition {
    api::GroupPartition {
        partition: info.partition,
        committed: info.committed.map(|offset| offset.0),
        end: info.end.0,
        lag: info.lag,
    }
}

pub(crate) fn policy(info: v::PolicyInfo) -> api::Policy {
    api::Policy { name: info.name, config: d::policy_from(info.config) }
}

pub(crate) fn published(info: &v::Published) -> api::Published {
    api::Published {
        id: info.id.to_string(),
        routed: info.routed(),
        queues: info.queues,
        live: info.live,
        duplicate: info.duplicate,
        position: info.position.map(position),
    }
}

fn position(at: v::Position) -> api::Position {
    api::Position { partition: at.partition, offset: at.offset.0 }
}

pub(crate) fn delivery(info: &v::Delivered) -> api::Delivery {
    api::Delivery {
        receipt: info.receipt.to_string(),
        attempt: info.attempt,
        redelivered: info.redelivered,
        lease_ms: info.lease.map(ms),
        enqueued_ms: info.enqueued.0,
        message: api::Message::from(&*info.message),
    }
}

pub(crate) fn record(info: &v::Record) -> api::Record {
    api::Record {
        position: position(info.position),
        appended_ms: info.appended.0,
        message: api::Message::from(&*info.message),
    }
}

pub(crate) fn browsed(info: &v::Browsed) -> api::Browsed {
    let (state, due_ms) = match info.state {
        v::BrowsedState::Ready => (api::BrowsedState::Ready, None),
        v::BrowsedState::Delayed { due } => (api::BrowsedState::Delayed, due.map(|due| due.0)),
        v::BrowsedState::Parked => (api::BrowsedState::Parked, None),
        v::BrowsedState::InFlight => (api::BrowsedState::InFlight, None),
    };
    api::Browsed {
        offset: info.offset.0,
        state,
        due_ms,
        attempts: info.attempts,
        enqueued_ms: info.enqueued.0,
        message: api::Message::from(&*info.message),
    }
}

pub(crate) fn read_from(start: api::StartAt) -> v::ReadFrom {
    match start {
        api::StartAt::Earliest => v::ReadFrom::Earliest,
        api::StartAt::Latest => v::ReadFrom::Latest,
        api::StartAt::Offset(offset) => v::ReadFrom::Offset(Offset(offset)),
        api::StartAt::Time(at) => v::ReadFrom::Time(types::Timestamp(at)),
    }
}
