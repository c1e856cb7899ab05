//! Who is asking.

use std::fmt;

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
    pub(crate) user: Option<std::sync::Arc<str>>,
}
