//! Who is asking, and what they may do: the same for every protocol.
//!
//! [`Users`] is the registry. It checks [`Credentials`] and gives a [`Principal`], and compiles what a principal may do in a
//! namespace into [`Grants`], which are asked on every operation.

mod authorization;
mod cache;
mod gate;
mod glob;
mod grants;
mod regexes;
mod secrets;
mod subjects;
#[cfg(test)]
mod tests;
mod users;

use std::fmt;
use std::sync::Arc;

use types::Timestamp;

pub use glob::{NamePattern, NamePatternError};
pub use grants::{Action, Grants};
pub use regexes::REGEX_PREFIX;
pub use secrets::{HashCost, SecretError, hash_password, hash_password_at, new_token};
pub(crate) use secrets::{check_password_hash, check_salted_hash, check_token_record};
pub(crate) use subjects::check_subject_pattern;
pub use users::{Users, UsersOptions};

/// What a caller proves to be itself with.
#[derive(Clone)]
#[non_exhaustive]
pub enum Credentials {
    /// A name and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// An API token.
    Token(String),
    /// A TLS client certificate that the listener has verified: its common name is the user's name.
    Certificate {
        /// The common name.
        common_name: String,
    },
    /// None.
    Anonymous,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "Credentials::Password(..)",
            Self::Token(_) => "Credentials::Token(..)",
            Self::Certificate { .. } => "Credentials::Certificate(..)",
            Self::Anonymous => "Credentials::Anonymous",
        })
    }
}

/// A caller who is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub(crate) user: Option<Arc<str>>,
    /// Which user of that name: a user who is deleted and made again is another one, and old sessions are not theirs.
    pub(crate) user_id: u64,
    /// The token that was shown, by its public part: a session ends with its token.
    pub(crate) token: Option<Arc<str>>,
    pub(crate) expires: Option<Timestamp>,
}

/// How the broker's own sessions are called in errors.
const INTERNAL_USER: &str = "(broker)";

impl Principal {
    /// The broker itself.
    pub(crate) fn internal() -> Self {
        Self { user: Some(Arc::from(INTERNAL_USER)), user_id: u64::MAX, token: None, expires: None }
    }

    pub(crate) fn is_internal(&self) -> bool {
        self.user_id == u64::MAX
    }

    pub(crate) const ANONYMOUS: Self = Self { user: None, user_id: 0, token: None, expires: None };

    /// The user's name; `None` for an anonymous caller.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The public part of the token that was shown, if it was a token.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// When the token that was shown stops working. A connection that lives longer should be closed then.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }
}
