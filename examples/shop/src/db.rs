//! A service's own database: a file of SQLite, or PostgreSQL. The statements of the shop work on both.

use anyhow::Context;
use sdk::sql::Store;
use sqlx::Executor;
use sqlx::any::AnyPoolOptions;

/// Either of the two.
pub type Db = sqlx::Any;

/// Connections of somebody who only reads.
const READERS: u32 = 2;

/// Opens a service's database, and makes the SDK's tables and the service's own where they are missing.
///
/// # Errors
/// If it cannot be opened or the tables cannot be made.
pub async fn open(url: &str, tables: &'static [&'static str]) -> anyhow::Result<Store<Db>> {
    let store = Store::open_url(url).await.with_context(|| format!("opening the database {}", shown(url)))?;
    for table in tables {
        let made = store.pool().execute(*table).await;
        made.with_context(|| format!("making a table in {}", shown(url)))?;
    }
    Ok(store)
}

/// Connects to a service's database, to read it.
///
/// # Errors
/// If it cannot be opened.
pub async fn read(url: &str) -> anyhow::Result<sqlx::Pool<Db>> {
    // That they are there already is no fault.
    let _ = sqlx::any::install_drivers(&[sqlx::sqlite::any::DRIVER, sqlx::postgres::any::DRIVER]);
    let connected = AnyPoolOptions::new().max_connections(READERS).connect(url).await;
    connected.with_context(|| format!("opening the database {}", shown(url)))
}

/// A URL without its password.
fn shown(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://...@{rest}"),
        _ => url.to_owned(),
    }
}

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    use types::Clock;
    types::clock::SystemClock::new().now().wall.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(shown("postgres://ann:secret@localhost/shop"), "postgres://...@localhost/shop");
        assert_eq!(shown("sqlite:/tmp/order.db?mode=rwc"), "sqlite:/tmp/order.db?mode=rwc");
    }
}
