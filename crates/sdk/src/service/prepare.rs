//! What a service that starts needs to be there, and all that is wrong with it.

use std::collections::BTreeSet;

use super::builder::Service;
use super::subscription::{Binding, Replay, Subscription};
use crate::transport::{BindingSpec, QueueSpec, Settlement, Support, TopicSpec, Topology, Transport};

impl<S: Clone + Send + Sync + 'static> Service<S> {
    /// Gives each subscription its names, and collects the topology and all that is wrong.
    pub(super) fn prepare(&mut self, transport: &dyn Transport) -> Result<Topology, Vec<String>> {
        let mut problems = Vec::new();
        if let Err(error) = types::check_name(&self.name) {
            problems.push(format!("the service's name {:?} is not usable: {error}", self.name));
        }
        let mut topology = Topology { topics: std::mem::take(&mut self.topics), ..Topology::default() };
        for contract in &self.published {
            add_topic(&mut topology, contract.topic);
        }
        let mut seen = BTreeSet::new();
        for (saga, store) in &self.sagas {
            store.add_to(&self.name, saga, &mut topology);
            if let Some(what) = store.missing(transport) {
                let name = transport.name();
                problems.push(format!(
                    "the saga {saga:?} is to be kept in a topic, which needs {what:?}, which the {name} transport does not have; \
                     keep it in the service's own database"
                ));
            }
        }
        for subscription in &mut self.subscriptions {
            if subscription.prefers_keyed {
                subscription.spec.keyed = transport.capabilities().keyed.is_there();
            }
            if let Err(problem) = place(&self.name, subscription, &mut topology) {
                problems.push(problem);
                continue;
            }
            if !seen.insert(subscription.spec.name.clone()) {
                problems.push(format!(
                    "two handlers consume the queue {:?}; give one of them a name (`Subscription::named`)",
                    subscription.spec.name
                ));
            }
        }
        for responder in &self.responders {
            if responder.contracts.len() != 1 {
                problems.push("a handler that replies has exactly one `Request` argument".to_owned());
            }
        }
        for replay in &self.replays {
            add_replay(&self.name, replay, &mut topology);
        }
        problems.extend(missing(transport, &topology, self));
        warn_of_windows(&self.subscriptions);
        if problems.is_empty() { Ok(topology) } else { Err(problems) }
    }
}

/// Names a subscription's queue and binds it.
fn place<S>(service: &str, subscription: &mut Subscription<S>, topology: &mut Topology) -> Result<(), String> {
    let contract = match subscription.contracts.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        _ => return Err("a handler has one `Event` argument; register a handler for each message".to_owned()),
    };
    let name = match (&subscription.name, &contract) {
        (Some(name), _) => name.clone(),
        (None, Some(contract)) => contract.name.to_owned(),
        (None, None) => match &subscription.queue {
            Some(queue) => queue.clone(),
            None => {
                return Err("a handler without an `Event` argument needs a name and where its messages come from: \
                     `Subscription::named` and `from_topic`, or `worker`"
                    .to_owned());
            }
        },
    };
    let queue = subscription.queue.clone().unwrap_or_else(|| format!("{service}.{name}"));
    types::check_name(&queue).map_err(|error| format!("the queue's name {queue:?} is not usable: {error}"))?;
    subscription.name = Some(name);
    subscription.spec.name.clone_from(&queue);
    let bound = match (&subscription.binding, contract) {
        (Binding::None, _) => None,
        (Binding::Of { topic, subject }, _) => Some((topic.clone(), subject.clone())),
        (Binding::OfContract, Some(contract)) => Some((contract.topic.to_owned(), contract.name.to_owned())),
        (Binding::OfContract, None) => {
            return Err(format!(
                "the handler of the queue {queue:?} has no `Event` argument; say where its messages come \
                 from (`Subscription::from_topic` or `worker`)"
            ));
        }
    };
    if let Some((topic, subject)) = bound {
        add_topic(topology, &topic);
        topology.bindings.push(BindingSpec { topic, queue, subject });
    }
    topology.queues.push(subscription.spec.clone());
    Ok(())
}

fn add_topic(topology: &mut Topology, name: &str) {
    if topology.topics.iter().all(|topic| topic.name != name) {
        topology.topics.push(TopicSpec::new(name));
    }
}

fn add_replay<S>(service: &str, replay: &Replay<S>, topology: &mut Topology) {
    let retention = replay.retention.unwrap_or_default();
    match topology.topics.iter_mut().find(|topic| topic.name == replay.topic) {
        Some(topic) => topic.retention = topic.retention.or(Some(retention)),
        None => topology.topics.push(TopicSpec { retention: Some(retention), ..TopicSpec::new(&replay.topic) }),
    }
    if replay.retry.max_attempts.is_some() {
        topology.queues.push(QueueSpec::new(replay_queue(service, &replay.name)));
    }
}

/// The queue whose dead-letter queue keeps what a replay gives up.
pub(super) fn replay_queue(service: &str, name: &str) -> String {
    format!("{service}.{name}")
}

/// What the service needs and the transport does not have.
fn missing<S>(transport: &dyn Transport, topology: &Topology, service: &Service<S>) -> Vec<String> {
    let capabilities = transport.capabilities();
    let mut problems = Vec::new();
    let mut need = |needed: bool, support: Support, what: &str, who: String| {
        if needed && support == Support::No {
            problems.push(format!("{who} needs {what:?}, which the {} transport does not have", transport.name()));
        }
    };
    for queue in &topology.queues {
        let who = || format!("the queue {:?}", queue.name);
        need(queue.keyed, capabilities.keyed, "keyed", who());
        need(queue.dedup_window.is_some(), capabilities.dedup, "dedup", who());
        need(queue.priority_levels.is_some(), capabilities.priority, "priority", who());
        let retried = queue.retry.max_attempts != Some(1);
        let retry = match capabilities.retry {
            Support::No => capabilities.delay,
            support => support,
        };
        need(retried, retry, "retry", who());
    }
    for topic in &topology.topics {
        let who = || format!("the topic {:?}", topic.name);
        need(topic.retention.is_some(), capabilities.replay, "replay", who());
        need(topic.key_index, capabilities.key_index, "key_index", who());
    }
    need(!service.responders.is_empty(), capabilities.live, "live", "answering questions".to_owned());
    // There is no such transport yet; the first one brings what keeps count of the offsets below which all is done.
    let up_to_an_offset = capabilities.settlement == Settlement::Cumulative && !service.subscriptions.is_empty();
    need(up_to_an_offset, Support::No, "settlement of single messages", "consuming a queue".to_owned());
    for (saga, _) in &service.sagas {
        need(true, capabilities.delay, "delay", format!("the saga {saga:?}, whose waits are delayed messages,"));
    }
    for subscription in service.subscriptions.iter().filter(|subscription| subscription.atomic) {
        let who = format!("handling messages of {:?} once without a database", subscription.spec.name);
        // Done by the SDK it would be two steps, with a moment between them.
        need(capabilities.ack_and_publish != Support::Broker, Support::No, "ack_and_publish", who);
    }
    problems
}

/// Says where messages are forgotten before they have come for the last time.
fn warn_of_windows<S>(subscriptions: &[Subscription<S>]) {
    for subscription in subscriptions {
        let (Some(window), retry) = (subscription.window, &subscription.spec.retry) else { continue };
        let longest = retry.longest();
        if longest.is_none_or(|longest| longest >= window) {
            let queue = &subscription.spec.name;
            tracing::warn!(
                %queue, ?window, ?longest,
                "messages are known again for less time than they are retried: one that comes again after that has its effect twice; \
                 make the window longer, or the retries fewer"
            );
        }
    }
}
