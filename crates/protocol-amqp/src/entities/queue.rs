//! Queues, streams among them.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use broker::access::Action;
use broker::definitions::{BindingTarget, QueueConfig};
use broker::views::{QueueInfo, TopicInfo};
use broker::{DeclareError, DeleteOptions, PublishTo, Session};
use types::Headers;

use super::names::{Kind, clean, internal};
pub(crate) use super::queue_arguments::QueueType;
use super::queue_arguments::{self as checks, QUEUE_TYPE};
use super::{arguments, queue_config, stream};
use crate::fault::Fault;

/// What the name of a queue begins with that the broker names.
const SERVER_NAMED: &str = "amq.gen-";
/// How often a declaration is tried that another one overtakes.
const TRIES: usize = 4;

/// `queue.declare`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Declare<'a> {
    /// Empty for one that the broker names.
    pub(crate) name: &'a str,
    pub(crate) durable: bool,
    pub(crate) exclusive: bool,
    pub(crate) auto_delete: bool,
    pub(crate) arguments: Headers,
}

/// `queue.declare-ok`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// Messages that wait.
    pub(crate) messages: u32,
    pub(crate) consumers: u32,
}

/// A queue, whatever keeps its messages.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Found {
    Queue(Box<QueueInfo>),
    /// A stream, and the topic of its log.
    Stream(Box<TopicInfo>),
}

impl Found {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Queue(queue) => &queue.name,
            Self::Stream(topic) => stream_of(topic).unwrap_or(&topic.name),
        }
    }

    /// Its type.
    pub(crate) fn queue_type(&self) -> QueueType {
        match self {
            Self::Stream(_) => QueueType::Stream,
            Self::Queue(queue) => queue_type(&queue.config),
        }
    }

    fn declared(&self, name: &str) -> Declared {
        let (messages, consumers) = match self {
            Self::Queue(queue) => (queue.depth.ready, queue.consumers),
            Self::Stream(topic) => (records(topic), 0),
        };
        Declared { name: name.to_owned(), messages: short(messages), consumers: short(consumers) }
    }
}

/// The type of a queue that is no stream.
pub(crate) fn queue_type(config: &QueueConfig) -> QueueType {
    match config.arguments.get(QUEUE_TYPE).and_then(serde_json::Value::as_str) {
        Some("quorum") => QueueType::Quorum,
        _ => QueueType::Classic,
    }
}

/// How long a delivery of it may stay without an acknowledgement, if it says so.
pub(crate) fn consumer_timeout(config: &QueueConfig) -> Option<Duration> {
    config.arguments.get("x-consumer-timeout")?.as_u64().map(Duration::from_millis)
}

/// Messages of a stream.
pub(crate) fn records(topic: &TopicInfo) -> u64 {
    topic.partitions.iter().map(|partition| partition.records).sum()
}

fn short(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// `queue.declare`.
///
/// # Errors
/// As RabbitMQ's.
pub(crate) async fn declare(session: &Session, declare: Declare<'_>) -> Result<Declared, Fault> {
    let given = clean(declare.name);
    let asked = QueueType::of(&Kind::Queue.named(session, &given), &declare.arguments)?;
    let name = match &*given {
        "" if asked != QueueType::Classic => {
            let text = format!("Cannot declare a server-named queue for type {}", asked.module());
            return Err(Fault::precondition_failed(text));
        }
        "" => server_name(),
        given => {
            Kind::Queue.check_new(given)?;
            given.to_owned()
        }
    };
    Kind::Queue.may(session, Action::Configure, &name)?;
    for _ in 0..TRIES {
        match find(session, &name) {
            Ok(have) => {
                check_held(session, &name, &have, Some(declare.exclusive))?;
                check_same(session, &name, &have, &declare)?;
                return Ok(have.declared(&name));
            }
            Err(fault) if fault.code != NOT_FOUND => return Err(fault),
            Err(_) => {}
        }
        match make(session, &name, asked, &declare).await {
            Err(Made::Overtaken) => {}
            Err(Made::Fault(fault)) => return Err(fault),
            Ok(()) => return Ok(Declared { name, messages: 0, consumers: 0 }),
        }
    }
    let taken = "cannot be made: its name is another topic's, or others make and delete it all the time";
    Err(Fault::precondition_failed(format!("{} {taken}", Kind::Queue.named(session, &name))))
}

const NOT_FOUND: u16 = 404;

/// Why a queue was not made.
enum Made {
    /// Somebody else made one of this name.
    Overtaken,
    Fault(Fault),
}

impl From<Fault> for Made {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<DeclareError> for Made {
    fn from(error: DeclareError) -> Self {
        match error {
            DeclareError::Conflict { .. } | DeclareError::Held { .. } => Self::Overtaken,
            error => Self::Fault(error.into()),
        }
    }
}

async fn make(session: &Session, name: &str, asked: QueueType, declare: &Declare<'_>) -> Result<(), Made> {
    let entity = Kind::Queue.named(session, name);
    checks::check(&entity, asked, &declare.arguments)?;
    if asked != QueueType::Classic {
        check_replicated(&entity, declare)?;
    }
    if asked == QueueType::Stream {
        let config = stream::config(&entity, name, &declare.arguments)?;
        internal(session)?.declare_topic(&stream::topic_of(name), config, false).await?;
        return Ok(());
    }
    if let Some(exchange) = arguments::get(&declare.arguments, "x-dead-letter-exchange").and_then(|to| to.as_text()) {
        Kind::Queue.may(session, Action::Read, name)?;
        Kind::Exchange.may(session, Action::Write, exchange)?;
    }
    let config = queue_config::config(asked, &declare.arguments)?;
    let (volatile, auto_delete) = (declare.exclusive || !declare.durable, declare.auto_delete);
    let config = QueueConfig { volatile, auto_delete, ..config };
    match declare.exclusive {
        true => session.declare_owned_queue(name, config, false).await?,
        false => session.declare_queue(name, config, false).await?,
    };
    Ok(())
}

/// A queue of a type that RabbitMQ replicates is always durable and everybody's.
fn check_replicated(entity: &str, declare: &Declare<'_>) -> Result<(), Fault> {
    let wrong = [
        (declare.auto_delete, "auto-delete"),
        (declare.exclusive, "exclusive-owner"),
        (!declare.durable, "non-durable"),
    ];
    match wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
        Some((_, property)) => Err(Fault::precondition_failed(format!("invalid property '{property}' for {entity}"))),
        None => Ok(()),
    }
}

/// Checks that no other connection holds a queue, and if it is declared again, that it is as exclusive as before. It counts as used.
fn check_held(session: &Session, name: &str, have: &Found, exclusive: Option<bool>) -> Result<(), Fault> {
    let owned = match have {
        Found::Queue(queue) => queue.owned,
        Found::Stream(_) => false,
    };
    if exclusive.is_some_and(|exclusive| exclusive != owned) {
        return Err(Kind::Queue.locked(session, name));
    }
    match have {
        Found::Queue(_) => session.use_queue(name).map(drop).map_err(|error| fault(session, name, error)),
        Found::Stream(_) => Ok(()),
    }
}

fn fault(session: &Session, name: &str, error: DeclareError) -> Fault {
    match error {
        DeclareError::Held { .. } => Kind::Queue.locked(session, name),
        DeclareError::NotFound { .. } => Kind::Queue.missing(session, name),
        error => error.into(),
    }
}

fn check_same(session: &Session, name: &str, have: &Found, declare: &Declare<'_>) -> Result<(), Fault> {
    let entity = Kind::Queue.named(session, name);
    let (durable, auto_delete, kept) = match have {
        Found::Queue(queue) => (!queue.config.volatile, queue.config.auto_delete, &queue.config.arguments),
        Found::Stream(topic) => (true, false, &topic.config.arguments),
    };
    arguments::same_flag(&entity, "durable", durable, declare.durable && !declare.exclusive)?;
    arguments::same_flag(&entity, "auto_delete", auto_delete, declare.auto_delete)?;
    let (current, asked) = (have.queue_type(), QueueType::of(&entity, &declare.arguments)?);
    arguments::same_word(&entity, QUEUE_TYPE, current.name(), asked.name())?;
    checks::compared(current).try_for_each(|name| arguments::same_argument(&entity, name, kept, &declare.arguments))
}

/// A name for a queue that has none: 128 random bits, as RabbitMQ writes them.
fn server_name() -> String {
    format!("{SERVER_NAMED}{}", URL_SAFE_NO_PAD.encode(uuid::Uuid::new_v4().as_bytes()))
}

/// `queue.declare` with `passive`: whether it is there.
///
/// # Errors
/// 404 if not.
pub(crate) fn passive(session: &Session, name: &str) -> Result<Declared, Fault> {
    let name = &*clean(name);
    Kind::Queue.may_any(session, name)?;
    let have = find(session, name)?;
    check_held(session, name, &have, None)?;
    Ok(have.declared(name))
}

/// `queue.purge`. Gives how many messages went.
///
/// # Errors
/// As RabbitMQ's; a stream cannot be purged.
pub(crate) async fn purge(session: &Session, name: &str) -> Result<u32, Fault> {
    let name = &*clean(name);
    Kind::Queue.may(session, Action::Read, name)?;
    let entity = Kind::Queue.named(session, name);
    match find(session, name)? {
        Found::Queue(_) => session.purge(name).await.map(short).map_err(|error| fault(session, name, error)),
        Found::Stream(_) => Err(Fault::not_implemented(format!("queue.purge not supported by stream queues {entity}"))),
    }
}

/// `queue.delete`. Gives how many messages went with it; 0 if it was not there, which is fine.
///
/// # Errors
/// As RabbitMQ's.
pub(crate) async fn delete(session: &Session, name: &str, if_unused: bool, if_empty: bool) -> Result<u32, Fault> {
    let name = &*clean(name);
    Kind::Queue.may(session, Action::Configure, name)?;
    let result = match find(session, name) {
        Ok(Found::Queue(_)) => {
            let options = DeleteOptions { if_unused, if_empty, even_if_referenced: true };
            session.delete_queue_with(name, options).await
        }
        // RabbitMQ looks at neither condition for a stream.
        Ok(Found::Stream(topic)) => {
            let options = DeleteOptions { even_if_referenced: true, ..DeleteOptions::default() };
            internal(session)?.delete_topic_with(&topic.name, options).await.map(|()| 0)
        }
        Err(fault) if fault.code == NOT_FOUND => return Ok(0),
        Err(fault) => return Err(fault),
    };
    match result {
        Ok(messages) => Ok(short(messages)),
        Err(DeclareError::NotFound { .. }) => Ok(0),
        Err(DeclareError::InUse { by, .. }) => {
            let how = if if_empty && by.ends_with(" messages") { "not empty" } else { "in use" };
            Err(Fault::precondition_failed(format!("{} {how}", Kind::Queue.named(session, name))))
        }
        Err(error) => Err(fault(session, name, error)),
    }
}

/// The queue or stream of this name, whoever asks.
///
/// # Errors
/// 404 if there is none.
pub(crate) fn find(session: &Session, name: &str) -> Result<Found, Fault> {
    let internal = internal(session)?;
    match internal.queue(name) {
        Ok(queue) => return Ok(Found::Queue(Box::new(queue))),
        Err(DeclareError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    match internal.topic(&stream::topic_of(name)) {
        Ok(topic) if stream::is_stream(&topic.config) => Ok(Found::Stream(Box::new(topic))),
        Ok(_) | Err(DeclareError::NotFound { .. }) => Err(Kind::Queue.missing(session, name)),
        Err(error) => Err(error.into()),
    }
}

/// All queues and streams, by name.
///
/// # Errors
/// If the vhost was deleted.
pub(crate) fn all(session: &Session) -> Result<Vec<Found>, Fault> {
    let internal = internal(session)?;
    let queues = internal.queues()?.into_iter().map(|queue| Found::Queue(Box::new(queue)));
    let streams = internal.topics()?.into_iter().filter(|topic| stream_of(topic).is_some());
    let mut all: Vec<Found> = queues.chain(streams.map(|topic| Found::Stream(Box::new(topic)))).collect();
    all.sort_by(|a, b| a.name().cmp(b.name()));
    Ok(all)
}

/// The stream whose log a topic is, if it is one's.
pub(crate) fn stream_of(topic: &TopicInfo) -> Option<&str> {
    stream::queue_of(&topic.name, &topic.config)
}

/// Whether a binding leads to a queue, and to what. `streams` are the [topics of streams](stream_topics).
pub(crate) fn destination_of<'a>(target: &'a BindingTarget, streams: &'a BTreeMap<String, String>) -> (bool, &'a str) {
    match target {
        BindingTarget::Queue(name) => (true, name),
        BindingTarget::Topic(name) => streams.get(name).map_or((false, name), |stream| (true, stream)),
    }
}

/// The topics that are streams' logs, and the stream of each.
///
/// # Errors
/// If the vhost was deleted.
pub(crate) fn stream_topics(session: &Session) -> Result<BTreeMap<String, String>, Fault> {
    let topics = internal(session)?.topics()?;
    Ok(topics.iter().filter_map(|topic| Some((topic.name.clone(), stream_of(topic)?.to_owned()))).collect())
}

/// Where a publish to the default exchange under this routing key goes; `None` if nowhere. It holds until the broker's definitions change.
///
/// # Errors
/// If the vhost was deleted.
pub(crate) fn target(session: &Session, key: &str) -> Result<Option<PublishTo>, Fault> {
    match find(session, key) {
        Ok(Found::Queue(queue)) => Ok(Some(PublishTo::Queue(queue.name))),
        Ok(Found::Stream(topic)) => Ok(Some(PublishTo::Topic(topic.name))),
        Err(fault) if fault.code == NOT_FOUND => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// What a binding to this queue leads to.
///
/// # Errors
/// 404 if it is not there.
pub(super) fn binding_target(session: &Session, name: &str) -> Result<BindingTarget, Fault> {
    Ok(match find(session, name)? {
        Found::Queue(queue) => BindingTarget::Queue(queue.name),
        Found::Stream(topic) => BindingTarget::Topic(topic.name),
    })
}
