//! What the broker says about its entities, in the API's words.

use api::grpc as g;
use broker::queue::{BreakerRules, Overflow};
use broker::views as v;

use super::definitions as d;
use crate::failure::Failure;
use crate::replay::group_partition;
use crate::views::ms;

pub(super) fn outcome(declared: v::Declared) -> i32 {
    i32::from(match declared {
        v::Declared::Created => g::Outcome::Created,
        v::Declared::Unchanged => g::Outcome::Unchanged,
        v::Declared::Updated => g::Outcome::Updated,
    })
}

pub(super) fn namespace(info: v::NamespaceInfo) -> g::Namespace {
    g::Namespace {
        id: info.id.0,
        name: info.name,
        config: Some(d::namespace_from(info.config)),
        topics: info.topics,
        queues: info.queues,
        stored_bytes: info.stored_bytes,
        connections: info.connections,
    }
}

pub(super) fn topic(info: v::TopicInfo) -> g::Topic {
    let partition = |(partition, info): (u32, v::PartitionInfo)| g::Partition {
        partition,
        start: info.start.0,
        end: info.end.0,
        records: info.records,
        bytes: info.bytes,
        disk_bytes: info.disk_bytes,
    };
    g::Topic {
        id: info.id.0,
        name: info.name,
        config: Some(d::topic_from(info.config)),
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

pub(super) fn queue(info: v::QueueInfo) -> g::Queue {
    let effective = effective(&info);
    g::Queue {
        id: info.id.0,
        name: info.name,
        effective: Some(effective),
        config: Some(d::queue_from(info.config)),
        policy: info.policy,
        operator_policy: info.operator_policy,
        depth: Some(g::QueueDepth {
            ready: info.depth.ready,
            unread: info.depth.unread,
            delayed: info.depth.delayed,
            parked: info.depth.parked,
            in_flight: info.depth.in_flight,
            waiting_bytes: info.depth.waiting_bytes,
            in_flight_bytes: info.depth.in_flight_bytes,
        }),
        counters: Some(g::QueueCounters {
            enqueued: info.counters.enqueued,
            delivered: info.counters.delivered,
            acked: info.counters.acked,
            failed: info.counters.failed,
            dead_lettered: info.counters.dead_lettered,
            dropped: info.counters.dropped,
            expired: info.counters.expired,
        }),
        rates: Some(g::QueueRates {
            enqueued: info.rates.enqueued,
            delivered: info.rates.delivered,
            acked: info.rates.acked,
            failed: info.rates.failed,
        }),
        consumers: info.consumers,
        paused_consumers: info.paused_consumers,
        oldest_age_ms: info.oldest_age.map(ms),
        disk_bytes: info.disk_bytes,
        redrive: info.redrive.map(redrive),
        owned: info.owned,
        damage: info.damage,
    }
}

fn effective(info: &v::QueueInfo) -> g::QueueEffective {
    let rules = &info.rules;
    let bounded = rules.max_messages.is_some() || rules.max_bytes.is_some();
    let breaker = |rules: BreakerRules| g::Breaker {
        failure_ratio: rules.failure_ratio,
        window: rules.window,
        pause_ms: ms(rules.pause),
    };
    let overflow = match rules.overflow {
        _ if !bounded => g::Overflow::Unspecified,
        Overflow::Reject => g::Overflow::Reject,
        Overflow::DropOldest => g::Overflow::DropOldest,
        Overflow::RejectDeadLetter => g::Overflow::RejectDeadLetter,
    };
    g::QueueEffective {
        lease_ms: rules.lease.map(ms),
        retry: Some(g::Retry {
            max_attempts: rules.retry.max_attempts.or(Some(0)),
            initial_ms: Some(ms(rules.retry.initial)),
            factor: Some(rules.retry.factor),
            cap_ms: Some(ms(rules.retry.cap)),
            jitter: Some(rules.retry.jitter),
            non_retryable: rules.retry.non_retryable.iter().map(ToString::to_string).collect(),
        }),
        dead_letter: Some(d::dead_letter_from(info.dead_letter.clone())),
        keyed: rules.keyed,
        priority_levels: u32::from(rules.priority_levels),
        ttl_ms: rules.ttl.map(ms),
        delay_ms: rules.delay.map(ms),
        single_active: rules.single_active,
        max_messages: rules.max_messages,
        max_bytes: rules.max_bytes,
        overflow: i32::from(overflow),
        dedup_window_ms: info.dedup_window.map(ms),
        breaker: rules.breaker.map(breaker),
        expires_ms: info.expires.map(ms),
    }
}

pub(super) fn redrive(info: v::RedriveInfo) -> g::Redrive {
    g::Redrive {
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
pub(super) fn binding(info: v::BindingInfo) -> Result<g::Binding, Failure> {
    Ok(g::Binding { id: info.id.0, config: Some(d::binding_from(info.config)?) })
}

pub(super) fn group(info: v::GroupInfo) -> g::Group {
    let member = |member: v::GroupMember| g::GroupMember { member: member.member, partitions: member.partitions };
    g::Group {
        id: info.id.0,
        name: info.name,
        config: Some(d::group_from(info.config)),
        generation: info.generation,
        members: info.members.into_iter().map(member).collect(),
        partitions: info.partitions.into_iter().map(group_partition).collect(),
        damage: info.damage,
    }
}

pub(super) fn policy(info: v::PolicyInfo) -> g::Policy {
    g::Policy { name: info.name, config: Some(d::policy_from(info.config)) }
}

pub(super) fn browsed(info: v::Browsed) -> g::Browsed {
    use g::browsed::State;
    let (state, due_ms) = match info.state {
        v::BrowsedState::Ready => (State::Ready, None),
        v::BrowsedState::Delayed { due } => (State::Delayed, due.map(|due| due.0)),
        v::BrowsedState::Parked => (State::Parked, None),
        v::BrowsedState::InFlight => (State::InFlight, None),
    };
    g::Browsed {
        offset: info.offset.0,
        state: i32::from(state),
        due_ms,
        attempts: info.attempts,
        enqueued_ms: info.enqueued.0,
        message: crate::views::message(info.message),
    }
}

pub(super) fn user(info: broker::UserInfo) -> g::User {
    let token = |(id, description, expires_at_ms)| g::TokenInfo { id, description, expires_at_ms };
    let subjects = |(topic, given): (String, broker::definitions::SubjectPermissions)| {
        (topic, g::SubjectPermissions { write: given.write, read: given.read })
    };
    let permissions = |given: broker::definitions::Permissions| g::Permissions {
        configure: given.configure,
        write: given.write,
        read: given.read,
        subjects: given.subjects.into_iter().map(subjects).collect(),
    };
    g::User {
        name: info.name,
        admin: info.admin,
        has_password: info.has_password,
        tokens: info.tokens.into_iter().map(token).collect(),
        permissions: info.permissions.into_iter().map(|(namespace, given)| (namespace, permissions(given))).collect(),
        tags: info.tags,
        loopback_only: info.loopback_only,
        limits: Some(g::UserLimits {
            max_connections: info.limits.max_connections,
            max_channels: info.limits.max_channels,
        }),
        connections: info.connections,
        channels: info.channels,
    }
}
