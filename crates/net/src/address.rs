//! Where a listener listens, and what can be wrong with that.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use tokio::net::{TcpListener, lookup_host};

/// `HOST:PORT`, with the host a name or an address (`[::1]:7070` for IPv6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    host: String,
    port: u16,
}

/// Not a `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not HOST:PORT, such as 127.0.0.1:7070 or [::1]:7070")]
pub struct ListenAddressError {
    given: String,
}

/// A listener could not be opened. `flag` is what the operator would change, such as `--http`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody listens there already.
    #[error(
        "{flag} {address}: the port is in use by another process; stop it, or choose another with {flag} HOST:PORT"
    )]
    InUse {
        /// The flag.
        flag: &'static str,
        /// The address asked for.
        address: ListenAddress,
    },
    /// The operating system does not let this user have the port.
    #[error(
        "{flag} {address}: this user may not listen there (ports below 1024 need a privilege); choose another with {flag} HOST:PORT"
    )]
    NotPermitted {
        /// The flag.
        flag: &'static str,
        /// The address asked for.
        address: ListenAddress,
    },
    /// The address is not one of this machine.
    #[error("{flag} {address}: this machine has no such address; use 127.0.0.1, [::1], or one of its own")]
    NotLocal {
        /// The flag.
        flag: &'static str,
        /// The address asked for.
        address: ListenAddress,
    },
    /// The host name means nothing.
    #[error("{flag} {address}: the host name cannot be resolved: {error}")]
    Unresolved {
        /// The flag.
        flag: &'static str,
        /// The address asked for.
        address: ListenAddress,
        /// The resolver's words.
        error: String,
    },
    /// Anything else.
    #[error("{flag} {address}: cannot listen: {error}")]
    Io {
        /// The flag.
        flag: &'static str,
        /// The address asked for.
        address: ListenAddress,
        /// The operating system's words.
        error: io::Error,
    },
}

impl ListenAddress {
    /// The port asked for; 0 lets the system choose.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Opens the port. Of a name with several addresses the first that can be had is taken.
    ///
    /// # Errors
    /// See [`BindError`]; `flag` is named in it.
    pub async fn bind(&self, flag: &'static str) -> Result<(TcpListener, SocketAddr), BindError> {
        let address = || self.clone();
        let unresolved = |error: String| BindError::Unresolved { flag, address: address(), error };
        let found: Vec<SocketAddr> = match lookup_host((self.host.as_str(), self.port)).await {
            Ok(found) => found.collect(),
            Err(error) => return Err(unresolved(error.to_string())),
        };
        let mut last = None;
        for candidate in found {
            match TcpListener::bind(candidate).await.and_then(|listener| Ok((listener.local_addr()?, listener))) {
                Ok((local, listener)) => return Ok((listener, local)),
                Err(error) => last = Some(error),
            }
        }
        let Some(error) = last else { return Err(unresolved("the name has no address".to_owned())) };
        Err(match error.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse { flag, address: address() },
            io::ErrorKind::PermissionDenied => BindError::NotPermitted { flag, address: address() },
            io::ErrorKind::AddrNotAvailable => BindError::NotLocal { flag, address: address() },
            _ => BindError::Io { flag, address: address(), error },
        })
    }
}

impl FromStr for ListenAddress {
    type Err = ListenAddressError;

    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let error = || ListenAddressError { given: given.to_owned() };
        let (host, port) = given.rsplit_once(':').ok_or_else(error)?;
        let port = port.parse().map_err(|_| error())?;
        let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
            Some(Some(inner)) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(error()),
            None => host,
        };
        // An unbracketed IPv6 address would be cut at its last colon and mean something else.
        if host.is_empty() || (host.contains(':') && !given.starts_with('[')) || host.contains(char::is_whitespace) {
            return Err(error());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, shown: Option<&str>) {
        let parsed = given.parse::<ListenAddress>();
        assert_eq!(parsed.as_ref().ok().map(ToString::to_string).as_deref(), shown, "{given}");
    }

    #[test]
    fn addresses_are_read_and_shown_alike() {
        check("127.0.0.1:7070", Some("127.0.0.1:7070"));
        check("127.9.9.9:0", Some("127.9.9.9:0"));
        check("[::1]:7070", Some("[::1]:7070"));
        check("localhost:1", Some("localhost:1"));
        check("0.0.0.0:7070", Some("0.0.0.0:7070"));
        check("[::]:7070", Some("[::]:7070"));
        check("broker.example:7070", Some("broker.example:7070"));
        for wrong in [
            "",
            "7070",
            ":7070",
            "127.0.0.1",
            "127.0.0.1:",
            "127.0.0.1:70700",
            "::1:7070",
            "[::1:7070",
            "a b:1",
            "[x]:1",
        ] {
            check(wrong, None);
        }
    }

    #[tokio::test]
    async fn a_port_in_use_names_the_flag() {
        let any: ListenAddress = "127.0.0.1:0".parse().unwrap();
        let (_held, local) = any.bind("--http").await.unwrap();
        let taken: ListenAddress = local.to_string().parse().unwrap();
        let error = taken.bind("--http").await.unwrap_err();
        assert!(matches!(error, BindError::InUse { .. }), "{error}");
        assert!(error.to_string().contains("--http"), "{error}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_told_apart() {
        let other: ListenAddress = "192.0.2.1:0".parse().unwrap();
        let error = other.bind("--http").await.unwrap_err();
        assert!(matches!(error, BindError::NotLocal { .. }), "{error}");
    }
}
