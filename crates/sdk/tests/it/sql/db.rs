//! A database of its own for each test, the same for both kinds.

use std::marker::PhantomData;
use std::time::Duration;

use futures_util::future::BoxFuture;
use sdk::sql::{Backend, Store, Tx};
use sqlx::{AssertSqlSafe, Row};

use super::postgres;

/// How long anything may take that is waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What the tests do with a database that the patterns do not.
pub(crate) trait Db: Backend {
    /// Makes room for one test; its address.
    fn make() -> BoxFuture<'static, (String, Option<tempfile::TempDir>)>;
    /// Opens it, with a pool of its own.
    fn open(address: &str) -> BoxFuture<'_, Store<Self>>;
    /// Runs a statement of the service's own.
    fn run<'a>(connection: &'a mut Self::Connection, sql: &'a str) -> BoxFuture<'a, ()>;
    /// The number that a query gives.
    fn number<'a>(connection: &'a mut Self::Connection, sql: &'a str) -> BoxFuture<'a, i64>;
    /// What tells a child process which database it is.
    const KIND: &'static str;
}

macro_rules! statements {
    ($database:ty) => {
        fn run<'a>(connection: &'a mut Self::Connection, sql: &'a str) -> BoxFuture<'a, ()> {
            Box::pin(async move {
                sqlx::query::<$database>(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
            })
        }

        fn number<'a>(connection: &'a mut Self::Connection, sql: &'a str) -> BoxFuture<'a, i64> {
            Box::pin(async move {
                let row = sqlx::query::<$database>(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await;
                row.unwrap().get(0)
            })
        }
    };
}

impl Db for sqlx::Sqlite {
    const KIND: &'static str = "sqlite";

    fn make() -> BoxFuture<'static, (String, Option<tempfile::TempDir>)> {
        Box::pin(async {
            let directory = tempfile::tempdir().unwrap();
            (directory.path().join("service.db").to_str().unwrap().to_owned(), Some(directory))
        })
    }

    fn open(address: &str) -> BoxFuture<'_, Store<Self>> {
        Box::pin(async move { Store::open(address).await.unwrap() })
    }

    statements!(sqlx::Sqlite);
}

impl Db for sqlx::Postgres {
    const KIND: &'static str = "postgres";

    /// A schema of its own, which also shows that the tables go where the search path says.
    fn make() -> BoxFuture<'static, (String, Option<tempfile::TempDir>)> {
        Box::pin(async {
            let schema = format!("sdk_test_{}", uuid::Uuid::now_v7().simple());
            Self::run(&mut postgres::connect().await, &format!("CREATE SCHEMA {schema}")).await;
            let mut url = url::Url::parse(postgres::url()).unwrap();
            url.query_pairs_mut().append_pair("options[search_path]", &schema);
            (url.to_string(), None)
        })
    }

    fn open(address: &str) -> BoxFuture<'_, Store<Self>> {
        Box::pin(async move { Store::connect(address).await.unwrap() })
    }

    statements!(sqlx::Postgres);
}

#[cfg(feature = "any")]
impl Db for sqlx::Any {
    const KIND: &'static str = "any";

    /// On SQLite; on PostgreSQL by [`Place::on_postgres`].
    fn make() -> BoxFuture<'static, (String, Option<tempfile::TempDir>)> {
        Box::pin(async {
            let (file, directory) = <sqlx::Sqlite as Db>::make().await;
            (format!("sqlite:{file}?mode=rwc"), directory)
        })
    }

    fn open(address: &str) -> BoxFuture<'_, Store<Self>> {
        Box::pin(async move { Store::open_url(address).await.unwrap() })
    }

    statements!(sqlx::Any);
}

/// The database of one test. A PostgreSQL schema is dropped with it.
pub(crate) struct Place<DB: Db> {
    pub(crate) address: String,
    _directory: Option<tempfile::TempDir>,
    kind: PhantomData<DB>,
}

impl<DB: Db> Place<DB> {
    pub(crate) async fn new() -> Self {
        let (address, directory) = DB::make().await;
        Self { address, _directory: directory, kind: PhantomData }
    }

    /// A store with a pool of its own, as another process has one.
    pub(crate) async fn store(&self) -> Store<DB> {
        DB::open(&self.address).await
    }
}

#[cfg(feature = "any")]
impl Place<sqlx::Any> {
    pub(crate) async fn on_postgres() -> Self {
        let (address, directory) = <sqlx::Postgres as Db>::make().await;
        Self { address, _directory: directory, kind: PhantomData }
    }
}

/// Runs a statement of the service's own in a transaction.
pub(crate) async fn run<DB: Db>(tx: &mut Tx<DB>, sql: &str) {
    DB::run(tx.connection(), sql).await;
}

/// Runs a statement of the service's own.
pub(crate) async fn run_alone<DB: Db>(store: &Store<DB>, sql: &str) {
    DB::run(&mut *store.pool().acquire().await.unwrap(), sql).await;
}

/// The number that a query gives.
pub(crate) async fn number<DB: Db>(store: &Store<DB>, sql: &str) -> i64 {
    DB::number(&mut *store.pool().acquire().await.unwrap(), sql).await
}

/// Waits until this gives something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}
