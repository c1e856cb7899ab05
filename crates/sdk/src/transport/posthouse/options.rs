//! Where the broker is, and how the connection behaves.

use std::fmt;
use std::time::Duration;

use http::HeaderValue;
use percent_encoding::percent_decode_str;
use url::Url;

use super::Backoff;
use crate::transport::TransportError;

/// The port of a URL that names none.
const DEFAULT_PORT: u16 = 7071;

/// How a [`Posthouse`](super::Posthouse) transport behaves.
#[derive(Clone)]
pub struct PosthouseOptions {
    /// How long the first connection may take, tries included, and how long a single call (a declaration, a look into a queue) waits out a
    /// lost one.
    pub connect_timeout: Duration,
    /// How long a publish waits for its confirmation. In that time it is sent again after each lost connection.
    pub confirm_timeout: Duration,
    /// How long [`close`](crate::transport::Transport::close) waits for confirmations and settlements that are under way.
    pub close_timeout: Duration,
    /// Messages that may wait for their confirmation. One more is [`TooManyPending`](crate::transport::PublishError::TooManyPending).
    pub max_pending_messages: usize,
    /// Bytes of messages that may wait for their confirmation. A single publish is taken whatever it weighs if nothing else waits.
    pub max_pending_bytes: usize,
    /// The waits between tries to reach the broker.
    pub backoff: Backoff,
    /// An API token, instead of user and password in the URL.
    pub token: Option<Token>,
    /// Certificates, in PEM, of the authorities that may vouch for the broker, with TLS; those that the system trusts if `None`.
    pub authorities: Option<Vec<u8>>,
}

/// An API token. It does not show itself.
#[derive(Clone)]
pub struct Token(pub(super) HeaderValue);

impl Token {
    /// A token as the broker gave it out.
    ///
    /// # Errors
    /// [`TransportError::Invalid`] if it holds what no token does.
    pub fn new(token: &str) -> Result<Self, TransportError> {
        credentials(&format!("Bearer {token}")).map(Self)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Credentials as the metadata `authorization` has them.
pub(super) fn credentials(text: &str) -> Result<HeaderValue, TransportError> {
    let wrong = |_| TransportError::Invalid("the credentials hold characters that no header may have".to_owned());
    let mut value = HeaderValue::from_str(text).map_err(wrong)?;
    value.set_sensitive(true);
    Ok(value)
}

impl Default for PosthouseOptions {
    /// 30 s to connect and to be confirmed, 5 s to close; 65,536 messages and 64 MiB pending.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            confirm_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
            max_pending_messages: 65_536,
            max_pending_bytes: 64 * 1024 * 1024,
            backoff: Backoff::default(),
            token: None,
            authorities: None,
        }
    }
}

impl fmt::Debug for PosthouseOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PosthouseOptions")
            .field("connect_timeout", &self.connect_timeout)
            .field("confirm_timeout", &self.confirm_timeout)
            .field("max_pending_messages", &self.max_pending_messages)
            .field("max_pending_bytes", &self.max_pending_bytes)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// A broker's URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<(String, String)>,
    pub(super) namespace: String,
}

impl Address {
    /// Reads `posthouse://[user:password@]host[:port][/namespace]`.
    pub(super) fn parse(text: &str) -> Result<Self, TransportError> {
        let wrong = |why: &str| {
            let form = "posthouse://[user:password@]host[:port][/namespace]";
            TransportError::Invalid(format!("the broker's URL {why}; it has the form {form}"))
        };
        let url = Url::parse(text).map_err(|error| wrong(&format!("cannot be read ({error})")))?;
        let tls = match url.scheme() {
            "posthouse" | "grpc" => false,
            "posthouses" | "grpcs" => true,
            _ => return Err(wrong("begins with none of posthouse://, posthouses:// (with TLS), grpc://, grpcs://")),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("names no host"))?.to_owned();
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("has a query or a fragment, which mean nothing here"));
        }
        let plain = |part: &str| {
            percent_decode_str(part)
                .decode_utf8()
                .map(String::from)
                .map_err(|_| wrong("holds escapes that are not UTF-8"))
        };
        let user = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some((plain(user)?, plain(password.unwrap_or_default())?)),
        };
        let namespace = plain(url.path().trim_start_matches('/'))?;
        if namespace.contains('/') {
            return Err(wrong("has a path of several parts; a namespace is one"));
        }
        Ok(Self { tls, host, port: url.port().unwrap_or(DEFAULT_PORT), user, namespace })
    }

    /// Where it is, without credentials.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_who_and_which_namespace() {
        let address = Address::parse("posthouse://ann:p%40ss@broker.example:7100/shop").unwrap();
        assert_eq!(address.place(), "broker.example:7100");
        assert_eq!(address.user, Some(("ann".to_owned(), "p@ss".to_owned())));
        assert_eq!((address.namespace.as_str(), address.tls), ("shop", false));
        let short = Address::parse("grpcs://[::1]").unwrap();
        assert_eq!((short.place().as_str(), short.tls), ("[::1]:7071", true));
        assert_eq!((short.user, short.namespace.as_str()), (None, ""));
    }

    #[test]
    fn what_is_no_url_of_a_broker_is_refused_without_its_password() {
        for text in
            ["", "broker", "amqp://a:secret@b", "posthouse:///ns", "posthouse://a:secret@b/x/y", "posthouse://b?x=1"]
        {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(error.contains("posthouse://[user") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn options_do_not_show_the_token() {
        let options = PosthouseOptions { token: Some(Token::new("secret").unwrap()), ..PosthouseOptions::default() };
        assert!(!format!("{options:?}").contains("secret"));
        assert!(Token::new("line\nbreak").is_err());
    }
}
