//! A store whose database the URL chooses.

use sqlx::any::AnyPoolOptions;
use sqlx::{AssertSqlSafe, Executor};

use super::error::{SqlError, doing};
use super::limits::{POOL_CONNECTIONS, SQLITE_BUSY_TIMEOUT};
use super::store::Store;

impl Store<sqlx::Any> {
    /// Opens the database of this URL, and makes the tables: `sqlite:/path/to/file?mode=rwc`, which makes the file if it is not there, or
    /// `postgres://user:password@host/database`. So one program serves both: statements that are written in what the two have in common, with `$1` for
    /// placeholders and columns of `BIGINT`, `TEXT` and bytes, run on either. SQLite is used as by [`Store::open`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), sdk::sql::SqlError> {
    /// let store = sdk::sql::Store::open_url("sqlite:/var/lib/order/order.db?mode=rwc").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SqlError`] if the URL is of neither, the database cannot be reached, and what [`Store::migrate`] gives.
    pub async fn open_url(url: &str) -> Result<Self, SqlError> {
        // That they are there already is no fault.
        let _ = sqlx::any::install_drivers(&[sqlx::sqlite::any::DRIVER, sqlx::postgres::any::DRIVER]);
        let sqlite = url.starts_with("sqlite:");
        let options = AnyPoolOptions::new().max_connections(POOL_CONNECTIONS).after_connect(move |connection, _| {
            Box::pin(async move {
                if sqlite {
                    let patience = format!("PRAGMA busy_timeout = {}", SQLITE_BUSY_TIMEOUT.as_millis());
                    connection.execute(AssertSqlSafe(patience)).await?;
                    connection.execute("PRAGMA journal_mode = WAL").await?;
                    connection.execute("PRAGMA synchronous = FULL").await?;
                }
                Ok(())
            })
        });
        let store = Self::new(options.connect(url).await.map_err(doing("opening the database"))?);
        store.migrate().await?;
        Ok(store)
    }
}
