//! Bindings.
//!
//! To AMQP a binding is what it connects, its routing key and its arguments. What of those the broker's filter does not say, because the
//! exchange's type does not look at it, is kept with the binding.

use broker::access::Action;
use broker::definitions::{BindingConfig, BindingTarget, RouterConfig, TopicConfig};
use broker::{DeclareError, Session};
use serde_json::json;
use types::limits::MAX_BINDING_WEIGHT;
use types::{Filter, HeaderMatch, Headers, SubjectPattern, Text, Value, Word};

use super::exchange::{self, not_default};
use super::names::{Kind, clean, internal};
use super::{arguments, queue};
use crate::fault::Fault;

/// Where a routing key is kept that the filter does not hold.
const KEY: &str = "ph-amqp-key";
/// The argument that says how headers are matched.
const MATCH: &str = "x-match";

/// `queue.bind`, `exchange.bind` and their opposites.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Binding<'a> {
    pub(crate) destination: Destination<'a>,
    pub(crate) source: &'a str,
    pub(crate) key: &'a str,
    pub(crate) arguments: Headers,
}

/// Where a binding leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination<'a> {
    Queue(&'a str),
    Exchange(&'a str),
}

impl<'a> Destination<'a> {
    fn named(self) -> (Kind, &'a str) {
        match self {
            Self::Queue(name) => (Kind::Queue, name),
            Self::Exchange(name) => (Kind::Exchange, name),
        }
    }
}

/// Binds. The same binding again is fine.
///
/// # Errors
/// As RabbitMQ's.
pub(crate) async fn bind(session: &Session, binding: Binding<'_>) -> Result<(), Fault> {
    let config = definition(session, &binding)?;
    match acting(session, &binding, &config)?.bind(config).await {
        Ok(_) => Ok(()),
        Err(error) => Err(fault(session, &binding, error)),
    }
}

/// Unbinds. A binding that is not there is fine, if what it would connect is there.
///
/// # Errors
/// As RabbitMQ's.
pub(crate) async fn unbind(session: &Session, binding: Binding<'_>) -> Result<(), Fault> {
    let config = definition(session, &binding)?;
    match acting(session, &binding, &config)?.unbind_same(config).await {
        Ok(_) => Ok(()),
        Err(error) => Err(fault(session, &binding, error)),
    }
}

/// Who does it: the caller, or for a stream, whose topic the caller's permissions do not know, the broker.
fn acting(session: &Session, binding: &Binding<'_>, config: &BindingConfig) -> Result<Session, Fault> {
    match (binding.destination, &config.target) {
        (Destination::Queue(_), BindingTarget::Topic(_)) => internal(session),
        _ => Ok(session.clone()),
    }
}

/// What a binding is to the broker, once the caller may make or remove it and both its ends are there.
fn definition(session: &Session, binding: &Binding<'_>) -> Result<BindingConfig, Fault> {
    let (kind, destination) = binding.destination.named();
    let (destination, source) = (&*clean(destination), &*clean(binding.source));
    kind.may(session, Action::Write, destination)?;
    if kind == Kind::Exchange {
        not_default(destination)?;
    }
    not_default(source)?;
    Kind::Exchange.may(session, Action::Read, source)?;
    let from = exchange::find(session, source)?;
    if from.config.router == RouterConfig::Subject {
        Kind::may_key(session, Action::Read, source, binding.key.as_bytes())?;
    }
    let target = match kind {
        Kind::Exchange => exchange::find(session, destination).map(|topic| BindingTarget::Topic(topic.name))?,
        Kind::Queue => queue::binding_target(session, destination)?,
    };
    let (filter, weight) = filter(&from.config, binding.key, &binding.arguments)?;
    let mut kept = arguments::keep(&binding.arguments)?;
    if !says_key(&from.config.router, binding.key, weight) {
        kept.insert(KEY.to_owned(), json!(binding.key));
    }
    Ok(BindingConfig { topic: from.name, target, filter: filter.into(), weight, arguments: kept })
}

fn fault(session: &Session, binding: &Binding<'_>, error: DeclareError) -> Fault {
    match error {
        // One of them went in between; which, is found by looking again.
        DeclareError::NotFound { .. } => definition(session, binding).err().unwrap_or_else(|| error.into()),
        DeclareError::Held { .. } => Kind::Queue.locked(session, &clean(binding.destination.named().1)),
        error => error.into(),
    }
}

/// Whether filter and weight of such a binding tell its routing key.
fn says_key(router: &RouterConfig, key: &str, weight: Option<u32>) -> bool {
    match router {
        RouterConfig::Exact | RouterConfig::Subject | RouterConfig::Any => true,
        RouterConfig::Fanout | RouterConfig::Headers | RouterConfig::Attribute => key.is_empty(),
        RouterConfig::ConsistentHash { .. } => weight.is_some_and(|weight| weight.to_string() == key),
    }
}

fn filter(exchange: &TopicConfig, key: &str, arguments: &Headers) -> Result<(Filter, Option<u32>), Fault> {
    let filter = match &exchange.router {
        RouterConfig::Exact => Filter::SubjectExact(key.to_owned().into()),
        RouterConfig::Fanout => Filter::All,
        RouterConfig::Subject | RouterConfig::Any => Filter::Subject(pattern(key)?),
        RouterConfig::Headers => headers(arguments)?,
        RouterConfig::ConsistentHash { .. } => return Ok((Filter::All, Some(weight(key)?))),
        RouterConfig::Attribute if matches!(key, "" | "#") => Filter::All,
        RouterConfig::Attribute => {
            let why = "this topic filters by attributes, of which AMQP knows nothing: bind with the key '#' for every message";
            return Err(Fault::precondition_failed(why));
        }
    };
    Ok((filter, None))
}

/// A pattern of a topic exchange: `>` is a word like any other there.
fn pattern(key: &str) -> Result<SubjectPattern, Fault> {
    let word = |word: &str| match word {
        "*" => Word::One,
        "#" => Word::Any,
        literal => Word::Literal(literal.to_owned().into()),
    };
    SubjectPattern::from_words(key.split('.').map(word).collect()).map_err(Fault::precondition_failed)
}

fn weight(key: &str) -> Result<u32, Fault> {
    let number: i128 = key
        .parse()
        .map_err(|_| Fault::precondition_failed(format!("The binding key must be an integer: <<\"{key}\">>")))?;
    match u32::try_from(number) {
        Ok(0) | Err(_) if number < 1 => Err(Fault::precondition_failed("The binding key must be greater than 0")),
        Ok(weight) if weight <= MAX_BINDING_WEIGHT => Ok(weight),
        _ => Err(Fault::precondition_failed(format!("The binding key must not exceed {MAX_BINDING_WEIGHT}"))),
    }
}

fn headers(arguments: &Headers) -> Result<Filter, Fault> {
    let expected = "expected all, any, all-with-x, or any-with-x";
    let (matching, with_x) = match arguments::get(arguments, MATCH) {
        None => (HeaderMatch::All, false),
        Some(Value::Text(text)) => match text.as_str() {
            "all" => (HeaderMatch::All, false),
            "any" => (HeaderMatch::Any, false),
            "all-with-x" => (HeaderMatch::All, true),
            "any-with-x" => (HeaderMatch::Any, true),
            other => {
                let text = format!("Invalid x-match field value <<\"{other}\">>; {expected}");
                return Err(Fault::precondition_failed(text));
            }
        },
        Some(other) => {
            let (kind, value) = (arguments::type_name(other), arguments::to_plain(other));
            let text = format!("Invalid x-match field type {kind} (value {value}); expected longstr");
            return Err(Fault::precondition_failed(text));
        }
    };
    let counts = |name: &Text| *name != *MATCH && (with_x || !name.starts_with("x-"));
    let wanted = arguments.iter().filter(|(name, _)| counts(name)).map(|(name, value)| {
        let value = (*value != Value::Null).then(|| value.clone());
        (name.clone(), value)
    });
    Ok(Filter::Headers { matching, wanted: wanted.collect() })
}

/// The routing key of a binding, as AMQP shows it. Of one that was made elsewhere it is what comes closest.
pub(crate) fn key_of(config: &BindingConfig) -> String {
    if let Some(key) = config.arguments.get(KEY).and_then(serde_json::Value::as_str) {
        return key.to_owned();
    }
    if let Some(weight) = config.weight {
        return weight.to_string();
    }
    match Filter::try_from(config.filter.clone()) {
        Ok(Filter::SubjectExact(subject)) => String::from_utf8_lossy(&subject).into_owned(),
        Ok(Filter::Subject(pattern)) => shown_pattern(&pattern),
        Ok(_) | Err(_) => String::new(),
    }
}

fn shown_pattern(pattern: &SubjectPattern) -> String {
    let word = |word: &Word| match word {
        Word::Literal(word) => String::from_utf8_lossy(word).into_owned(),
        Word::One => "*".to_owned(),
        Word::Any => "#".to_owned(),
        Word::Rest => "*.#".to_owned(),
    };
    pattern.words().iter().map(word).collect::<Vec<_>>().join(".")
}
