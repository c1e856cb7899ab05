//! Definitions, and looks into queues.

use std::time::Duration;

use api::grpc as g;
use types::Timestamp;

use super::core::{CallError, Core};
use crate::Envelope;
use crate::transport::{
    BindingSpec, ConflictPolicy, QueueSpec, RetentionSpec, RetrySpec, TopicSpec, Topology, TransportError,
};

/// Messages of one page of a look into a queue.
const PAGE: u32 = 1000;
/// How often a redrive is looked at.
const REDRIVE_LOOK: Duration = Duration::from_millis(20);

/// A call of the administration that is safe to repeat.
macro_rules! admin {
    ($core:expr, $what:expr, $call:ident, $request:expr) => {{
        let request = $request;
        let begin = || {
            let (mut admin, request) = ($core.admin(), request.clone());
            async move { admin.$call(request).await }
        };
        $core.call($what, begin).await
    }};
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl Core {
    pub(super) async fn declare(&self, topology: &Topology) -> Result<(), TransportError> {
        self.check_open()?;
        for topic in &topology.topics {
            self.declare_topic(topic).await?;
        }
        for queue in &topology.queues {
            self.declare_queue(queue).await?;
        }
        for binding in &topology.bindings {
            self.declare_binding(binding).await?;
        }
        Ok(())
    }

    async fn declare_topic(&self, spec: &TopicSpec) -> Result<(), TransportError> {
        let config = g::TopicConfig {
            retention: spec.retention.as_ref().map(retention),
            partitions: spec.retention.is_some().then_some(spec.partitions),
            key_index: spec.key_index,
            ..g::TopicConfig::default()
        };
        let keep = spec.conflict == ConflictPolicy::Keep;
        let (namespace, name) = (self.namespace.clone(), spec.name.clone());
        let request = g::PutTopicRequest { namespace, name, config: Some(config), keep };
        let put = || {
            let (mut admin, request) = (self.admin(), request.clone());
            async move { admin.put_topic(request).await }
        };
        self.kept(self.try_call(put).await.map(drop), keep, &format!("topic {:?}", spec.name))
    }

    async fn declare_queue(&self, spec: &QueueSpec) -> Result<(), TransportError> {
        let dead_letter = g::DeadLetter { to: Some(g::dead_letter::To::Queue(spec.dead_letter_queue())) };
        let config = g::QueueConfig {
            lease_ms: Some(ms(spec.lease)),
            retry: Some(retry(&spec.retry)),
            dead_letter: Some(dead_letter),
            keyed: Some(spec.keyed),
            priority_levels: spec.priority_levels,
            dedup_window_ms: spec.dedup_window.map(ms),
            ..g::QueueConfig::default()
        };
        let keep = spec.conflict == ConflictPolicy::Keep;
        let (namespace, name) = (self.namespace.clone(), spec.name.clone());
        let request = g::PutQueueRequest { namespace, name, config: Some(config), keep };
        let put = || {
            let (mut admin, request) = (self.admin(), request.clone());
            async move { admin.put_queue(request).await }
        };
        self.kept(self.try_call(put).await.map(drop), keep, &format!("queue {:?}", spec.name))
    }

    /// What is there and is another is left as it is, if it is to be kept.
    fn kept(&self, put: Result<(), CallError>, keep: bool, what: &str) -> Result<(), TransportError> {
        match put {
            Err(CallError::Failed(fault)) if keep && fault.is_conflict() => {
                tracing::debug!(what, difference = fault.detail(), "it exists, and is left as it is");
                Ok(())
            }
            put => put.map_err(|error| error.into_transport(what, &self.address)),
        }
    }

    async fn declare_binding(&self, spec: &BindingSpec) -> Result<(), TransportError> {
        let filter = g::Filter { kind: Some(g::filter::Kind::Subject(spec.subject.clone())) };
        let config = g::BindingConfig {
            topic: spec.topic.clone(),
            target: Some(g::binding_config::Target::ToQueue(spec.queue.clone())),
            filter: Some(filter),
            ..g::BindingConfig::default()
        };
        let request = g::CreateBindingRequest { namespace: self.namespace.clone(), config: Some(config) };
        let what = format!("the binding of {:?} to {:?}", spec.topic, spec.queue);
        admin!(self, &what, create_binding, request).map(drop)
    }

    pub(super) async fn queue_len(&self, queue: &str) -> Result<u64, TransportError> {
        let request = g::GetQueueRequest { namespace: self.namespace.clone(), name: queue.to_owned() };
        let found = admin!(self, &format!("queue {queue:?}"), get_queue, request)?;
        let depth = found.depth.unwrap_or_default();
        Ok(depth.ready + depth.delayed + depth.parked + depth.in_flight)
    }

    pub(super) async fn browse(&self, queue: &str, max: u32) -> Result<Vec<Envelope>, TransportError> {
        self.check_open()?;
        let (mut found, mut from) = (Vec::new(), 0);
        let most = max as usize;
        while found.len() < most {
            let left = u32::try_from(most - found.len()).unwrap_or(u32::MAX);
            let (namespace, queue_name) = (self.namespace.clone(), queue.to_owned());
            let request = g::BrowseQueueRequest { namespace, queue: queue_name, from, max: Some(left.min(PAGE)) };
            let page = admin!(self, &format!("queue {queue:?}"), browse_queue, request)?;
            if page.messages.is_empty() {
                break;
            }
            from = page.next;
            let waits = |one: &g::Browsed| one.state() != g::browsed::State::InFlight;
            let read = |one: g::Browsed| one.message?.into_message(Timestamp(0)).ok();
            found.extend(page.messages.into_iter().filter(waits).filter_map(read));
        }
        Ok(found)
    }

    pub(super) async fn redrive(&self, queue: &str) -> Result<u64, TransportError> {
        let what = format!("the redrive of queue {queue:?}");
        let (namespace, queue) = (self.namespace.clone(), queue.to_owned());
        let start = g::StartRedriveRequest {
            namespace: namespace.clone(),
            queue: queue.clone(),
            to: None,
            rate: None,
            max: None,
        };
        let mut state = admin!(self, &what, start_redrive, start)?;
        while state.running {
            tokio::select! {
                () = self.closing.cancelled() => return Err(TransportError::Closed),
                () = tokio::time::sleep(REDRIVE_LOOK) => {}
            }
            let look = g::GetRedriveRequest { namespace: namespace.clone(), queue: queue.clone() };
            state = admin!(self, &what, get_redrive, look)?;
        }
        match state.error {
            None => Ok(state.moved),
            Some(why) => {
                Err(TransportError::Invalid(format!("the redrive ended early, after {} messages: {why}", state.moved)))
            }
        }
    }
}

fn retention(spec: &RetentionSpec) -> g::Retention {
    g::Retention {
        max_age_ms: spec.max_age.map(ms),
        max_bytes: spec.max_bytes,
        compact: spec.compact,
        ..g::Retention::default()
    }
}

fn retry(spec: &RetrySpec) -> g::Retry {
    g::Retry {
        // The broker says 0 for no end.
        max_attempts: Some(spec.max_attempts.unwrap_or(0)),
        initial_ms: Some(ms(spec.initial)),
        factor: Some(spec.factor),
        cap_ms: Some(ms(spec.cap)),
        jitter: Some(spec.jitter),
        non_retryable: Vec::new(),
    }
}
