//! Exchanges.

use std::sync::Arc;

use broker::access::Action;
use broker::definitions::{RouterConfig, TopicConfig};
use broker::views::TopicInfo;
use broker::{DeclareError, DeclareTopic, DeleteOptions, PublishTo, Session};
use types::{Headers, Value};

use super::names::{Kind, clean, internal, is_reserved};
use super::{arguments, kind, stream};
use crate::fault::Fault;

/// The argument that names the exchange which gets what no binding took.
const ALTERNATE: &str = "alternate-exchange";
/// How often a declaration is tried that another one overtakes.
const TRIES: usize = 4;

/// The exchanges that every vhost has, and their types.
const PREDECLARED: &[(&str, &str, bool)] = &[
    ("amq.direct", "direct", false),
    ("amq.fanout", "fanout", false),
    ("amq.topic", "topic", false),
    ("amq.headers", "headers", false),
    ("amq.match", "headers", false),
    ("amq.rabbitmq.trace", "topic", true),
];

/// `exchange.declare`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Declare<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    pub(crate) internal: bool,
    pub(crate) arguments: Headers,
}

/// Where a publish to an exchange goes.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) to: RouteTo,
    /// Its messages are held back for as long as their header `x-delay` says.
    pub(crate) delayed: bool,
    /// The caller's permissions may speak of routing keys, since they say who gets a message.
    pub(crate) by_key: bool,
}

/// See [`Route`].
#[derive(Clone, Debug)]
pub(crate) enum RouteTo {
    /// The default exchange: to the queue that the routing key names. See [`queue::target`](super::queue::target).
    Default,
    /// Through this exchange.
    Exchange(Arc<PublishTo>),
}

/// Makes the exchanges that every vhost has, if they are not there yet. Cheap if they are.
///
/// # Errors
/// If the storage refuses, or the namespace may hold no more topics.
pub(crate) async fn ensure_predeclared(session: &Session) -> Result<(), Fault> {
    let internal = internal(session)?;
    for (name, kind, is_internal) in PREDECLARED {
        if internal.topic(name).is_ok() {
            continue;
        }
        let none = Headers::new();
        let config = config(kind, *is_internal, &none)?;
        match internal.declare_topic(name, config, false).await {
            // Somebody else makes it at the same time, or an administrator made it otherwise.
            Ok(_) | Err(DeclareError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// `exchange.declare`.
///
/// # Errors
/// As RabbitMQ's.
pub(crate) async fn declare(session: &Session, declare: Declare<'_>) -> Result<(), Fault> {
    let name = &*clean(declare.name);
    kind::router(declare.kind, &declare.arguments)?;
    not_default(name)?;
    Kind::Exchange.may(session, Action::Configure, name)?;
    for _ in 0..TRIES {
        match find(session, name) {
            Ok(have) => return check_same(session, &have, &declare),
            Err(fault) if fault.code != NOT_FOUND => return Err(fault),
            Err(_) => {}
        }
        match make(session, name, &declare).await {
            Err(Made::Overtaken) => {}
            Err(Made::Fault(fault)) => return Err(fault),
            Ok(()) => return Ok(()),
        }
    }
    Err(Fault::precondition_failed(format!("{} is changed by others", Kind::Exchange.named(session, name))))
}

const NOT_FOUND: u16 = 404;

/// Why an exchange was not made.
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

async fn make(session: &Session, name: &str, declare: &Declare<'_>) -> Result<(), Made> {
    Kind::Exchange.check_new(name)?;
    if let Some(alternate) = alternate(session, name, &declare.arguments)? {
        Kind::Exchange.may(session, Action::Read, name)?;
        Kind::Exchange.may(session, Action::Write, alternate)?;
    }
    let config = config(declare.kind, declare.internal, &declare.arguments)?;
    let config = TopicConfig { volatile: !declare.durable, auto_delete: declare.auto_delete, ..config };
    // RabbitMQ asks of no alternate that it is there.
    let options = DeclareTopic { alternate_may_be_missing: true, ..DeclareTopic::default() };
    match session.declare_topic_with(name, config, options).await {
        Ok(_) => Ok(()),
        Err(DeclareError::Conflict { .. }) => Err(Made::Overtaken),
        Err(error) => Err(Made::Fault(error.into())),
    }
}

fn config(kind: &str, internal: bool, arguments: &Headers) -> Result<TopicConfig, Fault> {
    let alternate = arguments::get(arguments, ALTERNATE).and_then(Value::as_text);
    let mut config = TopicConfig {
        router: kind::router(kind, arguments)?,
        alternate: alternate.map(str::to_owned),
        captures: Some(Vec::new()),
        live: Some(false),
        internal,
        arguments: arguments::keep(arguments)?,
        ..TopicConfig::default()
    };
    kind::note(kind, &mut config);
    Ok(config)
}

fn alternate<'a>(session: &Session, name: &str, arguments: &'a Headers) -> Result<Option<&'a str>, Fault> {
    match arguments::get(arguments, ALTERNATE) {
        None => Ok(None),
        Some(Value::Text(alternate)) => Ok(Some(alternate)),
        Some(other) => {
            let (kind, exchange) = (arguments::type_name(other), Kind::Exchange.named(session, name));
            Err(Fault::precondition_failed(format!("invalid type '{kind}' for arg '{ALTERNATE}' in {exchange}")))
        }
    }
}

fn check_same(session: &Session, have: &TopicInfo, declare: &Declare<'_>) -> Result<(), Fault> {
    let (entity, config) = (Kind::Exchange.named(session, &have.name), &have.config);
    arguments::same_word(&entity, "type", kind::of(config), declare.kind)?;
    arguments::same_flag(&entity, "durable", !config.volatile, declare.durable)?;
    arguments::same_flag(&entity, "auto_delete", config.auto_delete, declare.auto_delete)?;
    arguments::same_flag(&entity, "internal", config.internal, declare.internal)?;
    arguments::same_argument(&entity, ALTERNATE, &config.arguments, &declare.arguments)
}

/// `exchange.declare` with `passive`: whether it is there.
///
/// # Errors
/// 404 if not.
pub(crate) fn check(session: &Session, name: &str) -> Result<(), Fault> {
    let name = &*clean(name);
    not_default(name)?;
    Kind::Exchange.may_any(session, name)?;
    find(session, name).map(drop)
}

/// `exchange.delete`. One that is not there is fine.
///
/// # Errors
/// As RabbitMQ's.
pub(crate) async fn delete(session: &Session, name: &str, if_unused: bool) -> Result<(), Fault> {
    let name = &*clean(name);
    not_default(name)?;
    if is_reserved(name) {
        let exchange = Kind::Exchange.named(session, name);
        return Err(Fault::access_refused(format!("deletion of system {exchange} not allowed")));
    }
    Kind::Exchange.may(session, Action::Configure, name)?;
    match find(session, name) {
        Err(fault) if fault.code == NOT_FOUND => return Ok(()),
        Err(fault) => return Err(fault),
        Ok(_) => {}
    }
    let options = DeleteOptions { if_unused, even_if_referenced: true, ..DeleteOptions::default() };
    match session.delete_topic_with(name, options).await {
        Ok(()) | Err(DeclareError::NotFound { .. }) => Ok(()),
        Err(DeclareError::InUse { .. }) if if_unused => {
            Err(Fault::precondition_failed(format!("{} in use", Kind::Exchange.named(session, name))))
        }
        Err(error) => Err(error.into()),
    }
}

/// Where a publish to this exchange goes. What it gives holds until the broker's definitions change.
///
/// # Errors
/// 404 if it is not there, 403 if it is internal or the caller may not write to it.
pub(crate) fn route(session: &Session, exchange: &str) -> Result<Route, Fault> {
    let name = &*clean(exchange);
    Kind::Exchange.may(session, Action::Write, name)?;
    if name.is_empty() {
        return Ok(Route { to: RouteTo::Default, delayed: false, by_key: false });
    }
    let have = find(session, name)?;
    if have.config.internal {
        let exchange = Kind::Exchange.named(session, name);
        return Err(Fault::access_refused(format!("cannot publish to internal {exchange}")));
    }
    let to = RouteTo::Exchange(Arc::new(PublishTo::Topic(name.to_owned())));
    let by_key = have.config.router == RouterConfig::Subject;
    Ok(Route { to, delayed: kind::of(&have.config) == kind::DELAYED, by_key })
}

/// The exchange of this name, whoever asks.
///
/// # Errors
/// 404 if there is none.
pub(crate) fn find(session: &Session, name: &str) -> Result<TopicInfo, Fault> {
    match internal(session)?.topic(name) {
        Ok(topic) if stream::is_stream(&topic.config) => Err(Kind::Exchange.missing(session, name)),
        Ok(topic) => Ok(topic),
        Err(DeclareError::NotFound { .. }) => Err(Kind::Exchange.missing(session, name)),
        Err(error) => Err(error.into()),
    }
}

/// All exchanges but the default one, by name.
///
/// # Errors
/// If the vhost was deleted.
pub(crate) fn all(session: &Session) -> Result<Vec<TopicInfo>, Fault> {
    let mut all = internal(session)?.topics()?;
    all.retain(|topic| !stream::is_stream(&topic.config));
    Ok(all)
}

/// An exchange's type.
pub(crate) fn kind_of(config: &TopicConfig) -> &str {
    kind::of(config)
}

/// # Errors
/// 403 if it is the default exchange, which nobody changes.
pub(super) fn not_default(name: &str) -> Result<(), Fault> {
    if name.is_empty() {
        return Err(Fault::access_refused("operation not permitted on the default exchange"));
    }
    Ok(())
}
