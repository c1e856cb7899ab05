//! What lapin's errors mean to a service.

use lapin::ErrorKind;

use crate::transport::{PublishError, TransportError};

const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;

/// What the broker said, code and text, if it said anything.
pub(super) fn reply(error: &lapin::Error) -> Option<(u16, &str)> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some((error.get_id(), error.get_message().as_str())),
        _ => None,
    }
}

/// The broker closed the channel for something that was done on it: doing it again would end the same way. Another error is one of the
/// connection.
pub(super) fn is_of_channel(error: &lapin::Error) -> bool {
    error.is_amqp_soft_error()
}

/// The broker has no such thing.
pub(super) fn is_not_found(error: &lapin::Error) -> bool {
    reply(error).is_some_and(|(code, _)| code == NOT_FOUND)
}

/// It is there, and is another.
pub(super) fn is_conflict(error: &lapin::Error) -> bool {
    reply(error).is_some_and(|(code, _)| code == PRECONDITION_FAILED)
}

/// It is exclusive, and another connection has it.
pub(super) fn is_locked(error: &lapin::Error) -> bool {
    reply(error).is_some_and(|(code, _)| code == RESOURCE_LOCKED)
}

/// The login or the vhost is refused: another attempt will be refused too.
pub(super) fn is_refused_login(error: &lapin::Error) -> bool {
    reply(error).is_some_and(|(code, _)| matches!(code, ACCESS_REFUSED | NOT_ALLOWED))
}

/// The error of something that was done to `what`.
pub(super) fn transport_error(error: &lapin::Error, what: &str, address: &str) -> TransportError {
    match reply(error) {
        Some((ACCESS_REFUSED | NOT_ALLOWED, text)) => TransportError::Denied(text.to_owned()),
        Some((NOT_FOUND, _)) => TransportError::NotFound(what.to_owned()),
        Some((PRECONDITION_FAILED | RESOURCE_LOCKED, text)) => {
            TransportError::Conflict { what: what.to_owned(), why: text.to_owned() }
        }
        Some((_, text)) if is_of_channel(error) => TransportError::Invalid(text.to_owned()),
        _ => TransportError::Unavailable { address: address.to_owned(), why: error.to_string() },
    }
}

/// The error of a publish that the broker closed the channel for.
pub(super) fn publish_error(error: &lapin::Error, exchange: &str) -> PublishError {
    match reply(error) {
        Some((NOT_FOUND, _)) => PublishError::NotFound(format!("topic {exchange:?}")),
        Some((_, text)) => PublishError::Refused(text.to_owned()),
        None => PublishError::Refused(error.to_string()),
    }
}
