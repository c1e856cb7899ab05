//! Why the server does not start.

use std::io;
use std::path::PathBuf;

use net::{BindError, TlsError};

/// The server cannot start. The text says what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A listener's port cannot be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// Certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A listener that is there for TLS has no certificate.
    #[error("{flag}: TLS needs a certificate and its key: set --tls-cert and --tls-key, or {flag} off")]
    NoCertificate {
        /// The flag.
        flag: &'static str,
    },
    /// The data directory cannot be had.
    #[error("--data: {0}")]
    Disk(#[from] log::FileDiskError),
    /// What is in the data directory cannot be used.
    #[error("--data {}: {error}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        error: log::StartError,
    },
    /// The broker cannot read what is stored.
    #[error("the broker cannot start on what is stored: {0}")]
    Broker(#[from] broker::StorageError),
    /// It would listen beyond this machine with no user to ask for.
    #[error(
        "{flag} {address}: there are no users, so everybody who reaches this port could do everything; \
         make one first (`posthouse user create admin --admin --password-stdin --data DIR` while no server runs, or set \
         POSTHOUSE_ADMIN_PASSWORD), \
         or say --insecure if that is what you want"
    )]
    Insecure {
        /// The flag.
        flag: &'static str,
        /// Where it would listen.
        address: std::net::SocketAddr,
    },
    /// Nobody could do anything.
    #[error(
        "there are no users, and callers without credentials are refused (--anonymous=false): make one (`posthouse user create admin --admin \
         --password-stdin --data DIR`), or set POSTHOUSE_ADMIN_PASSWORD to make the user admin"
    )]
    NobodyMayEnter,
    /// The file with the first password cannot be read.
    #[error("--admin-password-file {}: {error}", path.display())]
    PasswordFile {
        /// The file.
        path: PathBuf,
        /// The operating system's words.
        error: io::Error,
    },
    /// The first user cannot be made.
    #[error("the user admin cannot be made: {0}")]
    Admin(String),
    /// A user cannot be made or changed.
    #[error("user {name:?}: {why}")]
    User {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
    },
    /// The log's filter makes no sense.
    #[error(transparent)]
    Logging(#[from] crate::logging::LoggingError),
    /// The process lacks something that only the operating system gives.
    #[error("{what}: {error}")]
    System {
        /// What was wanted.
        what: &'static str,
        /// The operating system's words.
        error: io::Error,
    },
}
