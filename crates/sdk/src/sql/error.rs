//! How the patterns in a database fail.

use crate::contract::EncodeError;

/// Why work with the database failed. As any error of a handler it is transient unless the handler says otherwise: its transaction is rolled
/// back, and the message comes again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// The database refused it or could not be reached.
    #[error("{doing}: {source}; nothing of this transaction is kept, and it can be tried again")]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// No answer to the commit came.
    #[error(
        "the connection broke while committing: {source}; whether it is kept is not known. Try again through the inbox, which knows"
    )]
    CommitUnknown {
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The tables are of a later version of the SDK.
    #[error(
        "the tables svc_* have version {found}, and this service knows {known}; nothing was changed. Start a version of the service that knows it"
    )]
    NewerTables {
        /// The version found.
        found: i64,
        /// The last one known.
        known: i64,
    },
    /// A message could not be written.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A message cannot be kept as it is.
    #[error("this message cannot be kept in the outbox: {why}; nothing of it is kept")]
    Unkeepable {
        /// What stands against it.
        why: String,
    },
    /// A row holds what this version does not write.
    #[error("a row of {table} cannot be read: {why}; it is left as it is")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// What a driver said, with what was being done.
pub(crate) fn doing(doing: &'static str) -> impl FnOnce(sqlx::Error) -> SqlError {
    move |source| SqlError::Database { doing, source }
}

/// What a driver said of a commit.
pub(crate) fn committing(source: sqlx::Error) -> SqlError {
    match source {
        // The database itself answered: it did not commit.
        source @ sqlx::Error::Database(_) => SqlError::Database { doing: "committing", source },
        source => SqlError::CommitUnknown { source },
    }
}
