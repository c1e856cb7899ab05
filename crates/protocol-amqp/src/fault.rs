//! What goes wrong, as AMQP says it: a reply code, a text, and whether the channel or the connection is closed for it.
//!
//! The codes are those of the specification (section 1.2, "constants"); where several would do, the one that RabbitMQ gives.

use std::fmt;

use amq_protocol::protocol::{AMQPHardError, AMQPSoftError};
use broker::queue::{AttachError, LeaseError};
use broker::{AccessError, ConsumeError, DeclareError, PublishError, ReplayError, SettleError, StorageError};

use crate::limits::MAX_REPLY_TEXT;

/// What a fault closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The channel it happened on.
    Channel,
    /// The whole connection.
    Connection,
}

/// A method's class and number.
pub(crate) type MethodId = (u16, u16);

/// An operation's failure, with what it closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The reply code.
    pub(crate) code: u16,
    pub(crate) scope: Scope,
    /// Class and number of the method that failed; zeros if it was none.
    pub(crate) method: MethodId,
    /// What happened, with the code's name in front as RabbitMQ writes it.
    pub(crate) text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Fault {
    fn soft(error: &AMQPSoftError, text: impl fmt::Display) -> Self {
        let name = error.to_string().replace('-', "_");
        Self { code: error.get_id(), scope: Scope::Channel, method: (0, 0), text: format!("{name} - {text}") }
    }

    fn hard(error: &AMQPHardError, text: impl fmt::Display) -> Self {
        let name = error.to_string().replace('-', "_");
        Self { code: error.get_id(), scope: Scope::Connection, method: (0, 0), text: format!("{name} - {text}") }
    }

    /// 403: not allowed.
    pub(crate) fn access_refused(text: impl fmt::Display) -> Self {
        Self::soft(&AMQPSoftError::ACCESSREFUSED, text)
    }

    /// 404: there is no such thing.
    pub(crate) fn not_found(text: impl fmt::Display) -> Self {
        Self::soft(&AMQPSoftError::NOTFOUND, text)
    }

    /// 405: another connection has it for itself.
    pub(crate) fn resource_locked(text: impl fmt::Display) -> Self {
        Self::soft(&AMQPSoftError::RESOURCELOCKED, text)
    }

    /// 406: it cannot be done as things are.
    pub(crate) fn precondition_failed(text: impl fmt::Display) -> Self {
        Self::soft(&AMQPSoftError::PRECONDITIONFAILED, text)
    }

    /// 320: the broker ends the connection.
    pub(crate) fn connection_forced(text: impl fmt::Display) -> Self {
        Self::hard(&AMQPHardError::CONNECTIONFORCED, text)
    }

    /// 402: no such virtual host... as 0-9-1 has it; RabbitMQ answers 530, and so do we: see [`not_allowed`](Self::not_allowed).
    /// 501: a frame that cannot be read.
    pub(crate) fn frame_error(text: impl fmt::Display) -> Self {
        Self::hard(&AMQPHardError::FRAMEERROR, text)
    }

    /// 502: a method's or header's fields make no sense.
    pub(crate) fn syntax_error(text: impl fmt::Display) -> Self {
        Self::hard(&AMQPHardError::SYNTAXERROR, text)
    }

    /// 503: something out of its turn.
    pub(crate) fn command_invalid(text: impl fmt::Display) -> Self {
        Self::hard(&AMQPHardError::COMMANDINVALID, text)
    }

    /// 504: the channel is not open, or is open already.
    pub(crate) fn channel_error(text: impl fmt::Display) -> Self {
        Self::hard(&AMQPHardError::CHANNELERROR, text)
    }

    /// 505: a frame that is not expected here.
    pub(crate) fn unexpected_frame(text: impl fmt::Display) -> Self {
        Self::hard(&AMQPHardError::UNEXPECTEDFRAME, text)
    }

    /// 506: a bound is passed.
    pub(crate) fn resource_error(text: impl fmt::Display) -> Self {
        Self::hard(&AMQPHardError::RESOURCEERROR, text)
    }

    /// 530: against the rules of this connection.
    pub(crate) fn not_allowed(text: impl fmt::Display) -> Self {
        Self::hard(&AMQPHardError::NOTALLOWED, text)
    }

    /// 540: nothing here does that.
    pub(crate) fn not_implemented(text: impl fmt::Display) -> Self {
        Self::hard(&AMQPHardError::NOTIMPLEMENTED, text)
    }

    /// 541: the broker could not, and it is not the client's fault.
    pub(crate) fn internal_error(text: impl fmt::Display) -> Self {
        Self::hard(&AMQPHardError::INTERNALERROR, text)
    }

    /// The text as it fits a short string.
    pub(crate) fn reply_text(&self) -> &str {
        self.text.get(..self.text.floor_char_boundary(MAX_REPLY_TEXT)).unwrap_or_default()
    }

    /// The same, said of the method that failed, unless that is known already.
    pub(crate) fn of(mut self, method: MethodId) -> Self {
        if self.method == (0, 0) {
            self.method = method;
        }
        self
    }

    /// The same, but it closes the channel only.
    pub(crate) fn on_channel(mut self) -> Self {
        self.scope = Scope::Channel;
        self
    }
}

impl From<AccessError> for Fault {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::NoSuchNamespace(_) => Self::not_allowed(error),
            error => Self::access_refused(error),
        }
    }
}

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        match error {
            // The rest of the connection may go on: acknowledgements pass on a full disk.
            StorageError::Full(_) | StorageError::Overloaded(_) => Self::resource_error(error).on_channel(),
            error => Self::internal_error(error),
        }
    }
}

impl From<DeclareError> for Fault {
    fn from(error: DeclareError) -> Self {
        match error {
            DeclareError::Access(error) => error.into(),
            DeclareError::Storage(error) => error.into(),
            DeclareError::NotFound { .. } => Self::not_found(error),
            error => Self::precondition_failed(error),
        }
    }
}

impl From<PublishError> for Fault {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Access(error) => error.into(),
            PublishError::Storage(error) => error.into(),
            PublishError::NotFound { .. } => Self::not_found(error),
            PublishError::Backpressure => Self::resource_error(error).on_channel(),
            error => Self::precondition_failed(error),
        }
    }
}

impl From<AttachError> for Fault {
    fn from(error: AttachError) -> Self {
        Self::access_refused(error)
    }
}

impl From<ConsumeError> for Fault {
    fn from(error: ConsumeError) -> Self {
        match error {
            ConsumeError::Access(error) => error.into(),
            ConsumeError::Storage(error) => error.into(),
            ConsumeError::Attach(error) => error.into(),
            ConsumeError::NotFound { .. } | ConsumeError::Deleted(_) => Self::not_found(error),
            error => Self::precondition_failed(error),
        }
    }
}

impl From<SettleError> for Fault {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Access(error) => error.into(),
            SettleError::Storage(error) => error.into(),
            SettleError::Publish(error) => (*error).into(),
            SettleError::Lease(LeaseError::Unknown | LeaseError::Expired) => Self::precondition_failed(error),
            error => Self::precondition_failed(error),
        }
    }
}

impl From<ReplayError> for Fault {
    fn from(error: ReplayError) -> Self {
        match error {
            ReplayError::Access(error) => error.into(),
            ReplayError::Storage(error) => error.into(),
            ReplayError::NotFound { .. } => Self::not_found(error),
            error => Self::precondition_failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_its_code_and_fits_a_short_string() {
        let fault = Fault::precondition_failed("x".repeat(400));
        assert_eq!((fault.code, fault.scope), (406, Scope::Channel));
        assert!(fault.reply_text().starts_with("PRECONDITION_FAILED - xxx"));
        assert_eq!(fault.reply_text().len(), MAX_REPLY_TEXT);
        assert_eq!(Fault::unexpected_frame("").code, 505);
    }
}
