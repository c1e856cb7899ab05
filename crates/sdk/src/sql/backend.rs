//! The two databases behind one sealed trait: all that the patterns need of a driver, and all in which the dialects differ.

use futures_util::future::BoxFuture;
use sqlx::{Database, Pool, SqlStr};

/// A database that the patterns work on: `sqlx::Sqlite` or `sqlx::Postgres`, each with the feature of its name, or `sqlx::Any`, which is either of
/// them as the URL says, with the feature `any`. Sealed.
pub trait Backend: sealed::Sealed {}

/// A value for a placeholder. `None` is null, of the kind that the column has.
#[derive(Clone, Debug)]
#[doc(hidden)]
pub enum Arg {
    /// A whole number.
    Int(Option<i64>),
    /// Text.
    Text(Option<String>),
    /// Bytes.
    Blob(Option<Vec<u8>>),
}

impl From<i64> for Arg {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<Option<i64>> for Arg {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Arg {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<String> for Arg {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<Option<String>> for Arg {
    fn from(value: Option<String>) -> Self {
        Self::Text(value)
    }
}

impl From<&[u8]> for Arg {
    fn from(value: &[u8]) -> Self {
        Self::Blob(Some(value.to_vec()))
    }
}

impl From<Option<&[u8]>> for Arg {
    fn from(value: Option<&[u8]>) -> Self {
        Self::Blob(value.map(<[u8]>::to_vec))
    }
}

/// All in which the databases' languages differ.
#[derive(Debug)]
#[doc(hidden)]
pub struct Dialect {
    /// Begins a transaction that writes.
    pub(crate) begin: &'static str,
    /// A key column that counts up by itself.
    pub(crate) serial: &'static str,
    /// The type of columns of bytes.
    pub(crate) blob: &'static str,
    /// Asks for the database's own time, in milliseconds since 1970: the one clock that all instances of a service share.
    pub(crate) now_ms: &'static str,
    /// Makes other transactions that ask for the same number wait until this one ends. `None` where there is one writer at a time anyway.
    pub(crate) lock: Option<&'static str>,
}

#[cfg(feature = "sqlite")]
const SQLITE: Dialect = Dialect {
    // A transaction that reads first and would write later fails at once if another wrote in between, and no waiting helps: so it takes the
    // one place for writers when it begins, for which it waits as long as the connection's busy timeout says.
    begin: "BEGIN IMMEDIATE",
    serial: "INTEGER PRIMARY KEY AUTOINCREMENT",
    blob: "BLOB",
    now_ms: "SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER)",
    lock: None,
};

#[cfg(feature = "postgres")]
const POSTGRES: Dialect = Dialect {
    begin: "BEGIN",
    serial: "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    blob: "BYTEA",
    now_ms: "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
    // What the function itself gives has a type that not every driver reads.
    lock: Some("SELECT CAST(pg_advisory_xact_lock($1) AS TEXT)"),
};

pub(crate) mod sealed {
    use super::{Arg, BoxFuture, Database, Dialect, Pool, SqlStr};

    /// What the patterns need of a driver.
    pub trait Sealed: Database {
        /// How the database behind this pool speaks.
        fn dialect(pool: &Pool<Self>) -> &'static Dialect;

        /// Runs a statement; how many rows it changed.
        fn execute<'a>(
            connection: &'a mut Self::Connection,
            sql: SqlStr,
            args: Vec<Arg>,
        ) -> BoxFuture<'a, sqlx::Result<u64>>;

        /// Runs a query.
        fn fetch<'a>(
            connection: &'a mut Self::Connection,
            sql: SqlStr,
            args: Vec<Arg>,
        ) -> BoxFuture<'a, sqlx::Result<Vec<Self::Row>>>;

        /// A column as a number.
        fn int(row: &Self::Row, at: usize) -> sqlx::Result<Option<i64>>;
        /// A column as text.
        fn text(row: &Self::Row, at: usize) -> sqlx::Result<Option<String>>;
        /// A column as bytes.
        fn blob(row: &Self::Row, at: usize) -> sqlx::Result<Option<Vec<u8>>>;
    }
}

macro_rules! backend {
    ($database:ty, $dialect:expr) => {
        impl Backend for $database {}

        impl sealed::Sealed for $database {
            fn dialect(pool: &Pool<Self>) -> &'static Dialect {
                let dialect: fn(&Pool<Self>) -> &'static Dialect = $dialect;
                dialect(pool)
            }

            fn execute<'a>(
                connection: &'a mut Self::Connection,
                sql: SqlStr,
                args: Vec<Arg>,
            ) -> BoxFuture<'a, sqlx::Result<u64>> {
                Box::pin(async move {
                    let mut query = sqlx::query::<$database>(sql);
                    for arg in args {
                        query = match arg {
                            Arg::Int(value) => query.bind(value),
                            Arg::Text(value) => query.bind(value),
                            Arg::Blob(value) => query.bind(value),
                        };
                    }
                    Ok(query.execute(connection).await?.rows_affected())
                })
            }

            fn fetch<'a>(
                connection: &'a mut Self::Connection,
                sql: SqlStr,
                args: Vec<Arg>,
            ) -> BoxFuture<'a, sqlx::Result<Vec<Self::Row>>> {
                Box::pin(async move {
                    let mut query = sqlx::query::<$database>(sql);
                    for arg in args {
                        query = match arg {
                            Arg::Int(value) => query.bind(value),
                            Arg::Text(value) => query.bind(value),
                            Arg::Blob(value) => query.bind(value),
                        };
                    }
                    query.fetch_all(connection).await
                })
            }

            fn int(row: &Self::Row, at: usize) -> sqlx::Result<Option<i64>> {
                sqlx::Row::try_get(row, at)
            }

            fn text(row: &Self::Row, at: usize) -> sqlx::Result<Option<String>> {
                sqlx::Row::try_get(row, at)
            }

            fn blob(row: &Self::Row, at: usize) -> sqlx::Result<Option<Vec<u8>>> {
                sqlx::Row::try_get(row, at)
            }
        }
    };
}

#[cfg(feature = "sqlite")]
backend!(sqlx::Sqlite, |_| &SQLITE);

#[cfg(feature = "postgres")]
backend!(sqlx::Postgres, |_| &POSTGRES);

#[cfg(feature = "any")]
backend!(sqlx::Any, |pool| match pool.connect_options().database_url.scheme() {
    "sqlite" => &SQLITE,
    _ => &POSTGRES,
});
