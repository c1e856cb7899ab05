//! The handle on a service's database, and its transactions.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{AssertSqlSafe, Pool, SqlSafeStr};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::clock::SystemClock;
use types::{Clock, Timestamp};

use super::backend::{Arg, Backend, Dialect};
use super::error::{SqlError, committing, doing};
use super::limits::{CLEANUP_EVERY, DEFAULT_INBOX_WINDOW};
use super::{Checkpoints, Events, Inbox, Outbox, Sagas, schema};
use crate::Message;
use crate::transport::Outgoing;

/// A service's own database, with the tables of the patterns in it. Cheap to clone; clones share the pool.
///
/// ```no_run
/// # #[cfg(feature = "sqlite")] mod example {
/// use sdk::sql::{SqlError, Store};
///
/// async fn reserve(store: &Store<sqlx::Sqlite>, message_id: &str) -> Result<(), SqlError> {
///     let mut tx = store.begin().await?;
///     if tx.first_time("inventory", message_id).await? {
///         // ... the service's own statements, by `tx.connection()`, and what it publishes, by `tx.publish(&event)` ...
///     }
///     tx.commit().await
/// }
/// # }
/// ```
pub struct Store<DB: Backend> {
    pool: Pool<DB>,
    clock: Arc<dyn Clock>,
    pub(super) inbox_window: Duration,
    /// Told of each commit that left something in the outbox.
    committed: Arc<watch::Sender<()>>,
}

impl<DB: Backend> Store<DB> {
    /// A store on this pool. [`migrate`](Self::migrate) makes its tables.
    ///
    /// A pool of SQLite should be in WAL mode and wait for other writers, as [`Store::open`] does.
    #[must_use]
    pub fn new(pool: Pool<DB>) -> Self {
        Self {
            pool,
            clock: Arc::new(SystemClock::new()),
            inbox_window: DEFAULT_INBOX_WINDOW,
            committed: Arc::new(watch::Sender::new(())),
        }
    }

    /// Stamps rows by this clock instead of the machine's.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// How long the inbox remembers a message: longer than any message can take to come again. [`Inbox::check`] holds it against a
    /// queue's retry policy. The default is seven days.
    #[must_use]
    pub fn with_inbox_window(self, window: Duration) -> Self {
        Self { inbox_window: window, ..self }
    }

    /// Makes the tables `svc_*`, or brings them up to date, beside the service's own. Does nothing where they are; several instances may
    /// call it at the same time. With PostgreSQL they are in the first schema of the connection's search path.
    ///
    /// # Errors
    /// [`SqlError`]; nothing is changed then.
    pub async fn migrate(&self) -> Result<(), SqlError> {
        schema::migrate(self).await
    }

    /// Begins a transaction. With SQLite it is the one writer until it ends, so keep it short.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn begin(&self) -> Result<Tx<DB>, SqlError> {
        let transaction = self.pool.begin_with(self.dialect().begin).await.map_err(doing("beginning a transaction"))?;
        Ok(self.adopt(transaction))
    }

    /// Takes over a transaction that the service began itself, on the same database. With SQLite, begin it by `BEGIN IMMEDIATE`.
    #[must_use]
    pub fn adopt(&self, transaction: sqlx::Transaction<'static, DB>) -> Tx<DB> {
        Tx { transaction, store: self.clone(), published: false }
    }

    /// The pool.
    #[must_use]
    pub const fn pool(&self) -> &Pool<DB> {
        &self.pool
    }

    /// Which messages were handled before.
    #[must_use]
    pub const fn inbox(&self) -> Inbox<'_, DB> {
        Inbox { store: self }
    }

    /// What was published and is on its way.
    #[must_use]
    pub const fn outbox(&self) -> Outbox<'_, DB> {
        Outbox { store: self }
    }

    /// The states of sagas.
    #[must_use]
    pub const fn sagas(&self) -> Sagas<'_, DB> {
        Sagas { store: self }
    }

    /// How far projections have read.
    #[must_use]
    pub const fn checkpoints(&self) -> Checkpoints<'_, DB> {
        Checkpoints { store: self }
    }

    /// Streams of events, and snapshots.
    #[must_use]
    pub const fn events(&self) -> Events<'_, DB> {
        Events { store: self }
    }

    /// Forgets by itself what the inbox need not remember any more, until it is told to stop. Run one for each instance of the service.
    pub async fn maintain(&self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.inbox().cleanup().await {
                tracing::warn!(%error, "the inbox was not cleaned up; the next attempt follows");
            }
            // Instances that were started together do not clean up together.
            let wait = CLEANUP_EVERY.mul_f64(0.5 + fastrand::f64());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    pub(super) fn dialect(&self) -> &'static Dialect {
        DB::dialect(&self.pool)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now().wall
    }

    /// Hears of commits that left something in the outbox, from now on.
    pub(super) fn commits(&self) -> watch::Receiver<()> {
        self.committed.subscribe()
    }

    /// Wakes the relays of this process.
    pub(super) fn wake_relays(&self) {
        self.committed.send_replace(());
    }

    /// A statement that is a transaction of its own.
    pub(super) async fn execute(
        &self,
        what: &'static str,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<u64, SqlError> {
        let mut connection = self.pool.acquire().await.map_err(doing(what))?;
        DB::execute(&mut connection, sql.into_sql_str(), args).await.map_err(doing(what))
    }

    /// A query outside of any transaction.
    pub(super) async fn fetch(
        &self,
        what: &'static str,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Vec<Row<DB>>, SqlError> {
        let mut connection = self.pool.acquire().await.map_err(doing(what))?;
        let rows = DB::fetch(&mut connection, sql.into_sql_str(), args).await.map_err(doing(what))?;
        Ok(rows.into_iter().map(Row).collect())
    }
}

#[cfg(feature = "sqlite")]
impl Store<sqlx::Sqlite> {
    /// Opens this file, makes it if it is not there, and makes the tables. Write-ahead mode, every commit synced to disk: what was
    /// acknowledged outlives a power cut.
    ///
    /// # Errors
    /// [`SqlError`] if the file cannot be opened or is no database, and what [`Store::migrate`] gives.
    pub async fn open(path: impl AsRef<std::path::Path>) -> Result<Self, SqlError> {
        use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

        use super::limits::{POOL_CONNECTIONS, SQLITE_BUSY_TIMEOUT};

        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(SQLITE_BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().max_connections(POOL_CONNECTIONS).connect_with(options).await;
        let store = Self::new(pool.map_err(doing("opening the database"))?);
        store.migrate().await?;
        Ok(store)
    }
}

#[cfg(feature = "postgres")]
impl Store<sqlx::Postgres> {
    /// Connects to a server, as in `postgres://user:password@host/database`, and makes the tables. For TLS, switch on one of sqlx's `tls-*`
    /// features in the service.
    ///
    /// # Errors
    /// [`SqlError`] if the URL is none or the server cannot be reached, and what [`Store::migrate`] gives.
    pub async fn connect(url: &str) -> Result<Self, SqlError> {
        use super::limits::POOL_CONNECTIONS;

        let pool = sqlx::postgres::PgPoolOptions::new().max_connections(POOL_CONNECTIONS).connect(url).await;
        let store = Self::new(pool.map_err(doing("connecting to the database"))?);
        store.migrate().await?;
        Ok(store)
    }
}

impl<DB: Backend> Clone for Store<DB> {
    fn clone(&self) -> Self {
        Self {
            pool: self.pool.clone(),
            clock: Arc::clone(&self.clock),
            inbox_window: self.inbox_window,
            committed: Arc::clone(&self.committed),
        }
    }
}

impl<DB: Backend> fmt::Debug for Store<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("database", &DB::NAME).finish_non_exhaustive()
    }
}

/// A transaction on the service's database. It derefs to sqlx's own; the service's statements go through [`connection`](Self::connection).
///
/// Dropped without [`commit`](Self::commit), nothing of it is kept.
pub struct Tx<DB: Backend> {
    transaction: sqlx::Transaction<'static, DB>,
    store: Store<DB>,
    published: bool,
}

impl<DB: Backend> Tx<DB> {
    /// What the service's own statements are executed on: `sqlx::query(..).execute(tx.connection())`.
    pub fn connection(&mut self) -> &mut DB::Connection {
        &mut self.transaction
    }

    /// The store that it was begun on.
    #[must_use]
    pub const fn store(&self) -> &Store<DB> {
        &self.store
    }

    /// Whether this consumer sees this message for the first time: [`Inbox::first_time`].
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn first_time(&mut self, consumer: &str, message_id: &str) -> Result<bool, SqlError> {
        let store = self.store.clone();
        store.inbox().first_time(self, consumer, message_id).await
    }

    /// Publishes a message to its topic, if and once this transaction is committed: [`Outbox::publish`].
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn publish<M: Message>(&mut self, message: &M) -> Result<(), SqlError> {
        let message = crate::contract::encode(message)?;
        let to = crate::transport::Destination::Topic(M::TOPIC.to_owned());
        self.send(Outgoing { to, message }).await
    }

    /// Sends a message, if and once this transaction is committed: [`Outbox::publish`].
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn send(&mut self, outgoing: Outgoing) -> Result<(), SqlError> {
        let store = self.store.clone();
        store.outbox().publish(self, outgoing).await
    }

    /// Commits. What was published is on its way then: relays of this process are woken at once.
    ///
    /// # Errors
    /// [`SqlError::Database`], and nothing is kept; or [`SqlError::CommitUnknown`].
    pub async fn commit(self) -> Result<(), SqlError> {
        self.transaction.commit().await.map_err(committing)?;
        if self.published {
            self.store.wake_relays();
        }
        Ok(())
    }

    /// Ends it and keeps nothing, now instead of when the connection is used next.
    ///
    /// # Errors
    /// [`SqlError::Database`]; nothing is kept then either.
    pub async fn rollback(self) -> Result<(), SqlError> {
        self.transaction.rollback().await.map_err(doing("rolling back"))
    }

    /// Has the relays woken after the commit.
    pub(super) const fn mark_published(&mut self) {
        self.published = true;
    }

    pub(super) async fn execute(
        &mut self,
        what: &'static str,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<u64, SqlError> {
        DB::execute(&mut self.transaction, sql.into_sql_str(), args).await.map_err(doing(what))
    }

    pub(super) async fn fetch(
        &mut self,
        what: &'static str,
        sql: impl SqlSafeStr,
        args: Vec<Arg>,
    ) -> Result<Vec<Row<DB>>, SqlError> {
        let rows = DB::fetch(&mut self.transaction, sql.into_sql_str(), args).await.map_err(doing(what))?;
        Ok(rows.into_iter().map(Row).collect())
    }

    /// Has other transactions that ask for the same number wait until this one ends.
    pub(super) async fn lock(&mut self, what: &'static str, number: i64) -> Result<(), SqlError> {
        if let Some(lock) = self.store.dialect().lock {
            self.fetch(what, lock, vec![number.into()]).await?;
        }
        Ok(())
    }
}

impl<DB: Backend> Deref for Tx<DB> {
    type Target = sqlx::Transaction<'static, DB>;

    fn deref(&self) -> &Self::Target {
        &self.transaction
    }
}

impl<DB: Backend> DerefMut for Tx<DB> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.transaction
    }
}

impl<DB: Backend> fmt::Debug for Tx<DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tx").field("store", &self.store).field("published", &self.published).finish_non_exhaustive()
    }
}

/// A row, read by the columns' places.
pub(super) struct Row<DB: Backend>(DB::Row);

impl<DB: Backend> Row<DB> {
    pub(super) fn int(&self, at: usize) -> Result<i64, SqlError> {
        self.maybe_int(at)?.ok_or_else(|| null(at))
    }

    pub(super) fn maybe_int(&self, at: usize) -> Result<Option<i64>, SqlError> {
        DB::int(&self.0, at).map_err(doing(READING))
    }

    pub(super) fn text(&self, at: usize) -> Result<String, SqlError> {
        self.maybe_text(at)?.ok_or_else(|| null(at))
    }

    pub(super) fn maybe_text(&self, at: usize) -> Result<Option<String>, SqlError> {
        DB::text(&self.0, at).map_err(doing(READING))
    }

    pub(super) fn blob(&self, at: usize) -> Result<Vec<u8>, SqlError> {
        self.maybe_blob(at)?.ok_or_else(|| null(at))
    }

    pub(super) fn maybe_blob(&self, at: usize) -> Result<Option<Vec<u8>>, SqlError> {
        DB::blob(&self.0, at).map_err(doing(READING))
    }
}

const READING: &str = "reading a row";

fn null(at: usize) -> SqlError {
    SqlError::Unreadable { table: "svc_*", why: format!("column {at} is null") }
}

/// A statement that is made of constants and placeholders alone.
pub(super) fn made(sql: String) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql)
}
