//! What things are called in replies, and what names may not be.

use std::borrow::Cow;

use broker::access::Action;
use broker::{AccessError, Session};

use super::vhost::vhost;
use crate::fault::Fault;

/// What the name of an exchange or queue that the broker itself makes begins with.
const RESERVED: &str = "amq.";
/// What permissions call the default exchange, which has no name.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// An exchange or a queue, as replies call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exchange,
    Queue,
}

impl Kind {
    const fn word(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Queue => "queue",
        }
    }

    /// What permissions call it.
    const fn entity(self) -> &'static str {
        match self {
            Self::Exchange => "topic",
            Self::Queue => "queue",
        }
    }

    /// Such as `queue 'orders' in vhost '/'`.
    pub(crate) fn named(self, session: &Session, name: &str) -> String {
        format!("{} '{name}' in vhost '{}'", self.word(), vhost(session.namespace()))
    }

    /// 404 for it.
    pub(crate) fn missing(self, session: &Session, name: &str) -> Fault {
        Fault::not_found(format!("no {}", self.named(session, name)))
    }

    /// 405: another connection holds it, or it is not held although it should be.
    pub(crate) fn locked(self, session: &Session, name: &str) -> Fault {
        let why = "It could be originally declared on another connection or the exclusive property value does not match that of the \
                   original declaration.";
        let what = self.named(session, name);
        Fault::resource_locked(format!("cannot obtain exclusive access to locked {what}. {why}"))
    }

    /// Checks that the caller may do this to it.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn may(self, session: &Session, action: Action, name: &str) -> Result<(), Fault> {
        let name = if name.is_empty() && self == Self::Exchange { DEFAULT_EXCHANGE } else { name };
        session.may(action, self.entity(), name).map_err(|error| self.refused(session, name, error))
    }

    /// Checks that the caller may do anything to it at all, which a passive declaration asks for.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn may_any(self, session: &Session, name: &str) -> Result<(), Fault> {
        self.may(session, Action::Read, name)
            .or_else(|_| self.may(session, Action::Write, name))
            .or_else(|_| self.may(session, Action::Configure, name))
    }

    /// Checks that the caller may publish under this routing key to an exchange of this name, or bind from it with it.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn may_key(session: &Session, action: Action, exchange: &str, key: &[u8]) -> Result<(), Fault> {
        let allowed = match action {
            Action::Write => session.may_write_subject(exchange, key),
            _ => session.may_read_subject(exchange, key),
        };
        allowed.map_err(|error| match error {
            AccessError::Forbidden { user, action, .. } => {
                let (key, exchange) = (String::from_utf8_lossy(key), Self::Exchange.named(session, exchange));
                Fault::access_refused(format!(
                    "{action} access to topic '{key}' in {exchange} refused for user '{user}'"
                ))
            }
            error => error.into(),
        })
    }

    fn refused(self, session: &Session, name: &str, error: AccessError) -> Fault {
        match error {
            AccessError::Forbidden { user, action, .. } => {
                let what = self.named(session, name);
                Fault::access_refused(format!("{action} access to {what} refused for user '{user}'"))
            }
            error => error.into(),
        }
    }

    /// Checks the name of something that is to be made.
    ///
    /// # Errors
    /// 403 if it is one of the broker's own.
    pub(crate) fn check_new(self, name: &str) -> Result<(), Fault> {
        if name.starts_with(RESERVED) {
            let kind = self.word();
            return Err(Fault::access_refused(format!("{kind} name '{name}' contains reserved prefix '{RESERVED}*'")));
        }
        Ok(())
    }
}

/// Whether an exchange of this name is one that cannot be deleted.
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED)
}

/// The name without line ends, which RabbitMQ takes out of all names.
pub(crate) fn clean(name: &str) -> Cow<'_, str> {
    if name.contains(['\r', '\n']) { Cow::Owned(name.replace(['\r', '\n'], "")) } else { Cow::Borrowed(name) }
}

/// The broker's own session in the same vhost: it sees everything, and what it does was allowed before.
///
/// # Errors
/// If the vhost was deleted.
pub(crate) fn internal(session: &Session) -> Result<Session, Fault> {
    let namespace = session.namespace();
    let gone = || Fault::connection_forced(format!("vhost '{}' is deleted", vhost(namespace)));
    session.broker().internal_session(namespace).ok_or_else(gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entities::vhost::namespace;

    #[test]
    fn the_default_namespace_is_the_vhost_slash() {
        assert_eq!((namespace("/"), namespace("default"), namespace("shop")), ("default", "default", "shop"));
        assert_eq!((vhost("default"), vhost("shop")), ("/", "shop"));
    }

    #[test]
    fn line_ends_are_no_part_of_a_name() {
        assert_eq!(clean("a\r\nb"), "ab");
        assert!(matches!(clean("ab"), Cow::Borrowed("ab")));
    }
}
