//! What a service sends and receives, as a document.

use super::builder::Service;
use super::subscription::{Binding, Replay, Responder, Subscription};
use crate::asyncapi::{self, Action, Channel, Description, Operation, Server};
use crate::client::question_subject;
use crate::contract::Contract;

impl<S: Clone + Send + Sync + 'static> Service<S> {
    /// An [AsyncAPI 3](https://www.asyncapi.com) document of what is registered: each message with its schema, where it comes from or goes to, and the
    /// answers to questions. `server` is the broker's protocol and host, without credentials. Handlers without a contract are not in it.
    #[must_use]
    pub fn asyncapi(&self, server: Option<Server>) -> serde_json::Value {
        let mut operations: Vec<Operation> = self.published.iter().map(published).collect();
        operations.extend(self.subscriptions.iter().filter_map(|subscription| consumed(&self.name, subscription)));
        operations.extend(self.responders.iter().filter_map(answered));
        operations.extend(self.replays.iter().flat_map(replayed));
        asyncapi::document(&Description {
            service: self.name.clone(),
            version: self.version.clone(),
            description: self.description.clone(),
            server,
            operations,
        })
    }
}

fn published(contract: &Contract) -> Operation {
    Operation {
        name: format!("publish {}", contract.name),
        action: Action::Send,
        channel: Channel::Topic(contract.topic.to_owned()),
        contract: contract.clone(),
        reply: None,
    }
}

fn consumed<S>(service: &str, subscription: &Subscription<S>) -> Option<Operation> {
    let contract = subscription.contracts.first()?.clone();
    let name = subscription.name.clone().unwrap_or_else(|| contract.name.to_owned());
    let from = match &subscription.binding {
        Binding::OfContract => Some((contract.topic.to_owned(), contract.name.to_owned())),
        Binding::Of { topic, subject } => Some((topic.clone(), subject.clone())),
        Binding::None => None,
    };
    let queue = subscription.queue.clone().unwrap_or_else(|| format!("{service}.{name}"));
    Some(Operation { name, action: Action::Receive, channel: Channel::Queue { queue, from }, contract, reply: None })
}

fn answered<S>(responder: &Responder<S>) -> Option<Operation> {
    let contract = responder.contracts.first()?.clone();
    Some(Operation {
        name: format!("answer {}", contract.name),
        action: Action::Receive,
        channel: Channel::Live(question_subject(contract.name)),
        reply: responder.replies.first().cloned(),
        contract,
    })
}

fn replayed<S>(replay: &Replay<S>) -> Vec<Operation> {
    let of = |contract: &Contract| Operation {
        name: format!("replay {} {}", replay.name, contract.name),
        action: Action::Receive,
        channel: Channel::Topic(replay.topic.clone()),
        contract: contract.clone(),
        reply: None,
    };
    replay.contracts.iter().map(of).collect()
}
