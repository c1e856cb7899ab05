//! How a handler fails.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use tower::BoxError;

use crate::client::{RequestError, SendError};
use crate::contract::{DecodeError, EncodeError};
use crate::event_sourcing::UpdateError;
use crate::transport::PublishError;

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Trying again may help: the message comes again as the queue's retry policy says, and is dead-lettered after its last attempt. What an
    /// error is unless it says otherwise.
    Transient {
        /// Instead of the policy's wait.
        after: Option<Duration>,
    },
    /// Trying again is in vain: the message is dead-lettered now, with the reason.
    Terminal,
}

/// Why a handler failed.
///
/// Any error turns into one by `?` and is *transient* then: the default for what nobody thought of is to try again, and then to keep the message
/// as a dead letter. [`Error::terminal`] and [`ResultExt::terminal`] say that it is in vain. The SDK's own errors know what they are: a
/// [`RequestError::Refused`] by whoever was asked is terminal, a deadline is not.
///
/// ```
/// use sdk::{Error, ResultExt};
///
/// fn quantity(text: &str) -> Result<u32, Error> {
///     let quantity = text.parse::<u32>().terminal()?; // the same text will not parse the next time
///     if quantity == 0 {
///         return Err(Error::terminal("an order of nothing"));
///     }
///     Ok(quantity)
/// }
///
/// assert!(quantity("3").is_ok());
/// assert!(quantity("many").unwrap_err().is_terminal());
/// ```
// As `anyhow::Error`, it is no `std::error::Error` itself, so that every such error can turn into one.
pub struct Error {
    kind: Kind,
    message: Cow<'static, str>,
    source: Option<BoxError>,
}

impl Error {
    /// Worth trying again.
    #[must_use]
    pub fn transient(message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Transient { after: None }, message: message.into(), source: None }
    }

    /// Worth trying again after this time, whatever the policy says.
    #[must_use]
    pub fn retry_after(message: impl Into<Cow<'static, str>>, after: Duration) -> Self {
        Self { kind: Kind::Transient { after: Some(after) }, message: message.into(), source: None }
    }

    /// In vain: dead-lettered now, with this reason.
    #[must_use]
    pub fn terminal(reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind: Kind::Terminal, message: reason.into(), source: None }
    }

    /// What follows.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether trying again is in vain.
    #[must_use]
    pub const fn is_terminal(&self) -> bool {
        matches!(self.kind, Kind::Terminal)
    }

    /// The same failure, in vain.
    #[must_use]
    pub fn into_terminal(self) -> Self {
        Self { kind: Kind::Terminal, ..self }
    }

    /// The same failure with words of where it happened before it.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message).into();
        self
    }

    /// The error that caused it.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.source.as_deref()
    }

    /// This failure as a boxed error, for tower layers; [`Error::from_boxed`] gets it back.
    #[must_use]
    pub fn into_boxed(self) -> BoxError {
        Box::new(Boxed(self))
    }

    /// A failure out of a tower layer, or any error: one of ours as it was, one of the SDK's own by what it says of itself, another as a transient one.
    #[must_use]
    pub fn from_boxed(error: BoxError) -> Self {
        let error = match error.downcast::<Boxed>() {
            Ok(ours) => return ours.0,
            Err(error) => error,
        };
        let error = match error.downcast::<UpdateError>() {
            Ok(update) => match update.into_failure() {
                Ok(decided) => return decided,
                Err((error, terminal)) => return Self::of(Box::new(error), terminal),
            },
            Err(error) => error,
        };
        let terminal = is_terminal(&*error);
        Self::of(error, terminal)
    }

    fn of(error: BoxError, terminal: bool) -> Self {
        let kind = if terminal { Kind::Terminal } else { Kind::Transient { after: None } };
        Self { kind, message: with_causes(&*error).into(), source: Some(error) }
    }
}

/// Whether one of the SDK's own errors says that trying again is in vain.
fn is_terminal(error: &(dyn StdError + 'static)) -> bool {
    let publish = |error: &PublishError| !error.is_transient() && !matches!(error, PublishError::Closed);
    if let Some(error) = error.downcast_ref::<RequestError>() {
        return !error.is_transient();
    }
    if let Some(error) = error.downcast_ref::<PublishError>() {
        return publish(error);
    }
    match error.downcast_ref::<SendError>() {
        Some(SendError::Publish(error)) => publish(error),
        Some(SendError::Encode(_)) => true,
        None => error.is::<DecodeError>() || error.is::<EncodeError>(),
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self::from_boxed(Box::new(error))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.kind).field("message", &self.message).finish_non_exhaustive()
    }
}

/// An error and what caused it, in one line.
fn with_causes(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    text
}

/// [`Error`] where the standard trait is asked for.
struct Boxed(Error);

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl StdError for Boxed {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

/// Says what kind of failure an error is, where `?` would make it a transient one.
pub trait ResultExt<T> {
    /// In vain: dead-lettered now.
    ///
    /// # Errors
    /// The same, as [`Kind::Terminal`].
    fn terminal(self) -> Result<T, Error>;

    /// Worth trying again after this time.
    ///
    /// # Errors
    /// The same, as [`Kind::Transient`].
    fn retry_after(self, after: Duration) -> Result<T, Error>;

    /// With words of where it happened.
    ///
    /// # Errors
    /// The same.
    fn context(self, what: impl fmt::Display) -> Result<T, Error>;
}

impl<T, E: Into<Error>> ResultExt<T> for Result<T, E> {
    fn terminal(self) -> Result<T, Error> {
        self.map_err(|error| error.into().into_terminal())
    }

    fn retry_after(self, after: Duration) -> Result<T, Error> {
        self.map_err(|error| Error { kind: Kind::Transient { after: Some(after) }, ..error.into() })
    }

    fn context(self, what: impl fmt::Display) -> Result<T, Error> {
        self.map_err(|error| error.into().context(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the payment gateway is away")]
    struct Gateway(#[source] std::io::Error);

    #[test]
    fn an_unknown_error_is_transient_and_tells_its_causes() {
        let error: Error = Gateway(std::io::Error::other("connection refused")).into();
        assert_eq!(error.kind(), Kind::Transient { after: None });
        assert_eq!(error.to_string(), "the payment gateway is away: connection refused");
    }

    #[test]
    fn a_failure_passes_through_layers_as_it_is() {
        let error = Error::from_boxed(Error::terminal("no such product").into_boxed());
        assert!(error.is_terminal());
        assert_eq!(error.to_string(), "no such product");
        let wrapped: Result<(), Error> = Err(error);
        assert_eq!(wrapped.context("reserving").unwrap_err().to_string(), "reserving: no such product");
    }
}
