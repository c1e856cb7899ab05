//! What the arguments of `queue.declare` may be, by the queue's type.
//!
//! Arguments that RabbitMQ knows are checked as it checks them, and what is wrong is said in its words. One that no type of queue knows is kept
//! and shown. What each comes to is in `queue.rs` and `stream.rs`. Those that place a queue's copies on the nodes of a cluster, or say how its
//! files are laid out, are kept and shown and have nothing to act on: there is one node, and one way to keep messages.

use types::limits::MAX_SPAN_MS;
use types::{Headers, Value};

use super::arguments::{get, type_name};
use crate::fault::Fault;

/// The argument that names a queue's type.
pub(super) const QUEUE_TYPE: &str = "x-queue-type";
/// Largest `x-stream-max-segment-size-bytes`.
const MAX_SEGMENT_BYTES: i128 = 3_000_000_000;

/// What kind of queue is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QueueType {
    Classic,
    Quorum,
    Stream,
}

impl QueueType {
    /// The type that the arguments ask for; classic if they do not say.
    ///
    /// # Errors
    /// 406 for one that is not known.
    pub(super) fn of(entity: &str, arguments: &Headers) -> Result<Self, Fault> {
        match get(arguments, QUEUE_TYPE) {
            None => Ok(Self::Classic),
            Some(Value::Text(text)) => match text.as_str() {
                "classic" => Ok(Self::Classic),
                "quorum" => Ok(Self::Quorum),
                "stream" => Ok(Self::Stream),
                other => Err(bad(entity, QUEUE_TYPE, &format!("\"unsupported queue type '{other}'\""))),
            },
            Some(other) => Err(bad(entity, QUEUE_TYPE, &unacceptable(other))),
        }
    }

    /// As arguments and the management API call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    /// As RabbitMQ's errors call it.
    pub(super) const fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
            Self::Stream => "rabbit_stream_queue",
        }
    }
}

/// How an argument is checked.
#[derive(Clone, Copy)]
enum Check {
    /// A time to live: 0 to ten years, in milliseconds.
    Ttl,
    /// As [`Ttl`](Self::Ttl), but not 0.
    Expires,
    /// A whole number that is not negative.
    Count,
    /// As [`Count`](Self::Count), but not 0.
    Positive,
    /// A whole number.
    Int,
    Priority,
    Bool,
    Text,
    /// One of these words; what is said of another.
    OneOf(&'static [&'static str], &'static str),
    DeadLetterKey,
    Version,
    Age,
    Segment,
    FilterSize,
    /// RabbitMQ takes anything.
    Anything,
}

const CLASSIC: &[QueueType] = &[QueueType::Classic];
const QUORUM: &[QueueType] = &[QueueType::Quorum];
const STREAM: &[QueueType] = &[QueueType::Stream];
const QUEUES: &[QueueType] = &[QueueType::Classic, QueueType::Quorum];
const ALL: &[QueueType] = &[QueueType::Classic, QueueType::Quorum, QueueType::Stream];

/// The arguments that RabbitMQ knows: of which types of queue, and how they are checked.
const KNOWN: &[(&str, &[QueueType], Check)] = &[
    (QUEUE_TYPE, ALL, Check::Text),
    ("x-expires", QUEUES, Check::Expires),
    ("x-message-ttl", QUEUES, Check::Ttl),
    ("x-dead-letter-exchange", QUEUES, Check::Text),
    ("x-dead-letter-routing-key", QUEUES, Check::DeadLetterKey),
    ("x-dead-letter-strategy", QUORUM, Check::OneOf(&["at-most-once", "at-least-once"], "invalid_dlx_strategy")),
    ("x-max-length", QUEUES, Check::Count),
    ("x-max-length-bytes", ALL, Check::Count),
    ("x-max-in-memory-length", QUORUM, Check::Count),
    ("x-max-in-memory-bytes", QUORUM, Check::Count),
    ("x-max-priority", CLASSIC, Check::Priority),
    ("x-overflow", QUEUES, Check::OneOf(&["drop-head", "reject-publish", "reject-publish-dlx"], "invalid_overflow")),
    ("x-queue-mode", CLASSIC, Check::Anything),
    ("x-queue-version", CLASSIC, Check::Version),
    ("x-single-active-consumer", QUEUES, Check::Bool),
    ("x-consumer-timeout", ALL, Check::Count),
    ("x-consumer-disconnected-timeout", QUORUM, Check::Count),
    ("x-delivery-limit", QUORUM, Check::Int),
    ("x-quorum-initial-group-size", QUORUM, Check::Positive),
    ("x-quorum-target-group-size", QUORUM, Check::Positive),
    ("x-initial-cluster-size", STREAM, Check::Positive),
    ("x-max-age", STREAM, Check::Age),
    ("x-stream-max-segment-size-bytes", STREAM, Check::Segment),
    ("x-stream-filter-size-bytes", STREAM, Check::FilterSize),
    ("x-queue-master-locator", CLASSIC, Check::Anything),
    (
        "x-queue-leader-locator",
        ALL,
        Check::OneOf(&["client-local", "balanced", "random", "least-leaders"], "invalid_queue_locator_arg"),
    ),
    ("x-member-placement-tag", QUORUM, Check::Text),
    // RabbitMQ's newest has quorum queues wait before a retry. Its waits grow otherwise than a retry policy's here.
    ("x-delayed-retry-type", QUORUM, Check::OneOf(&["disabled"], "only_disabled_is_supported_here")),
    ("x-delayed-retry-min", QUORUM, Check::Count),
    ("x-delayed-retry-max", QUORUM, Check::Count),
];

/// The arguments that must be the same when a queue of this type is declared again.
pub(super) fn compared(of: QueueType) -> impl Iterator<Item = &'static str> {
    KNOWN.iter().filter(move |(name, types, _)| *name != QUEUE_TYPE && types.contains(&of)).map(|(name, ..)| *name)
}

/// Checks the arguments of a declaration. `entity` is such as `queue 'orders' in vhost '/'`.
///
/// # Errors
/// 406, with RabbitMQ's texts.
pub(super) fn check(entity: &str, of: QueueType, arguments: &Headers) -> Result<(), Fault> {
    for (name, _, check) in KNOWN.iter().filter(|(_, types, _)| types.contains(&of)) {
        if let Some(value) = get(arguments, name) {
            check_one(*check, value, arguments).map_err(|why| bad(entity, name, &why))?;
        }
    }
    let foreign = KNOWN.iter().find(|(name, types, _)| !types.contains(&of) && get(arguments, name).is_some());
    if let Some((name, ..)) = foreign {
        let text = format!("invalid arg '{name}' for {entity} of queue type {}", of.module());
        return Err(Fault::precondition_failed(text));
    }
    Ok(())
}

fn bad(entity: &str, name: &str, why: &str) -> Fault {
    Fault::precondition_failed(format!("invalid arg '{name}' for {entity}: {why}"))
}

fn unacceptable(value: &Value) -> String {
    format!("{{unacceptable_type,{}}}", type_name(value))
}

/// A whole number, whatever its width.
pub(super) fn integer(value: &Value) -> Option<i128> {
    match value {
        Value::Int { value, .. } => Some(i128::from(*value)),
        Value::Uint { value, .. } => Some(i128::from(*value)),
        _ => None,
    }
}

fn int(value: &Value) -> Result<i128, String> {
    integer(value).ok_or_else(|| format!("\"expected integer, got {}\"", type_name(value)))
}

fn count(value: &Value) -> Result<i128, String> {
    match int(value)? {
        number if number < 0 => Err(format!("{{value_negative,{number}}}")),
        number => Ok(number),
    }
}

fn span(value: &Value) -> Result<i128, String> {
    match count(value)? {
        number if number > i128::from(MAX_SPAN_MS) => Err(format!("{{value_too_large,{number}}}")),
        number => Ok(number),
    }
}

fn positive(number: i128) -> Result<(), String> {
    if number == 0 { Err("{value_zero,0}".to_owned()) } else { Ok(()) }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_text().ok_or_else(|| unacceptable(value))
}

fn check_one(check: Check, value: &Value, arguments: &Headers) -> Result<(), String> {
    match check {
        Check::Anything => Ok(()),
        Check::Ttl => span(value).map(drop),
        Check::Expires => span(value).and_then(positive),
        Check::Count => count(value).map(drop),
        Check::Positive => count(value).and_then(positive),
        Check::Int => int(value).map(drop),
        Check::Bool if matches!(value, Value::Bool(_)) => Ok(()),
        Check::Bool => Err(unacceptable(value)),
        Check::Text => text(value).map(drop),
        Check::Priority => match count(value)? {
            number if number > 255 => Err(format!("{{max_value_exceeded,{number}}}")),
            _ => Ok(()),
        },
        Check::OneOf(words, why) => match text(value)? {
            word if words.contains(&word) => Ok(()),
            _ => Err(why.to_owned()),
        },
        Check::DeadLetterKey => match (text(value)?, get(arguments, "x-dead-letter-exchange")) {
            (_, None) => Err("routing_key_but_no_dlx_defined".to_owned()),
            _ => Ok(()),
        },
        Check::Version => match count(value)? {
            1 | 2 => Ok(()),
            number => Err(format!("\"unsupported queue version '{number}'\"")),
        },
        Check::Age => max_age_ms(text(value)?).map(drop).ok_or_else(|| "invalid_max_age".to_owned()),
        Check::Segment => match count(value)? {
            number if number > MAX_SEGMENT_BYTES => Err(format!("{{value_too_large,{number}}}")),
            _ => Ok(()),
        },
        Check::FilterSize => match count(value)? {
            16..=255 => Ok(()),
            number => Err(format!("{{value_out_of_range,{number}}}")),
        },
    }
}

/// How long `7D` and the like are.
pub(crate) fn max_age_ms(text: &str) -> Option<u64> {
    const SECOND: u64 = 1_000;
    const DAY: u64 = 24 * 3_600 * SECOND;
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(digits)?;
    let unit_ms = match unit {
        "Y" => 365 * DAY,
        "M" => 30 * DAY,
        "D" => DAY,
        "h" => 3_600 * SECOND,
        "m" => 60 * SECOND,
        "s" => SECOND,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    (number > 0).then(|| number.saturating_mul(unit_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(of: QueueType, arguments: &[(&str, Value)], want: &str) {
        let arguments: Headers = arguments.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
        let fault = check("queue 'q' in vhost '/'", of, &arguments).unwrap_err();
        assert_eq!((fault.code, fault.text.as_str()), (406, &*format!("PRECONDITION_FAILED - invalid arg {want}")));
    }

    #[test]
    fn ill_typed_and_out_of_range_arguments_are_refused_in_rabbitmqs_words() {
        use QueueType::{Classic, Quorum, Stream};
        let q = "for queue 'q' in vhost '/'";
        refused(Classic, &[("x-message-ttl", Value::int(-1))], &format!("'x-message-ttl' {q}: {{value_negative,-1}}"));
        let text = Value::from("5");
        let want = format!("'x-message-ttl' {q}: \"expected integer, got longstr\"");
        refused(Classic, &[("x-message-ttl", text)], &want);
        refused(Classic, &[("x-expires", Value::int(0))], &format!("'x-expires' {q}: {{value_zero,0}}"));
        let want = format!("'x-max-priority' {q}: {{max_value_exceeded,256}}");
        refused(Classic, &[("x-max-priority", Value::int(256))], &want);
        let want = format!("'x-overflow' {q}: invalid_overflow");
        refused(Classic, &[("x-overflow", Value::from("drop-tail"))], &want);
        let want = format!("'x-dead-letter-routing-key' {q}: routing_key_but_no_dlx_defined");
        refused(Classic, &[("x-dead-letter-routing-key", Value::from("k"))], &want);
        let want = format!("'x-single-active-consumer' {q}: {{unacceptable_type,longstr}}");
        refused(Quorum, &[("x-single-active-consumer", Value::from("yes"))], &want);
        refused(Stream, &[("x-max-age", Value::from("7 D"))], &format!("'x-max-age' {q}: invalid_max_age"));
        let want = format!("'x-max-age' {q} of queue type rabbit_classic_queue");
        refused(Classic, &[("x-max-age", Value::from("7D"))], &want);
        let want = format!("'x-message-ttl' {q} of queue type rabbit_stream_queue");
        refused(Stream, &[("x-message-ttl", Value::int(1))], &want);
    }

    #[test]
    fn ages_are_a_number_and_a_unit() {
        assert_eq!(max_age_ms("7D"), Some(7 * 24 * 3_600_000));
        assert_eq!(max_age_ms("1h"), Some(3_600_000));
        for bad in ["", "D", "7", "0s", "-1s", "7d", "7D "] {
            assert_eq!(max_age_ms(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_known_argument_is_known_once() {
        let mut names: Vec<_> = KNOWN.iter().map(|(name, ..)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), KNOWN.len());
    }
}
