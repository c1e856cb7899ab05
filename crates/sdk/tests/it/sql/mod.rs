//! The patterns in a database, each test on SQLite and on PostgreSQL.

mod broker;
mod db;
mod events;
mod inbox;
mod kill;
mod outbox;
mod postgres;
mod program;
mod relay;
mod rows;

/// Makes of each generic test one for SQLite and one for PostgreSQL, and the same over `sqlx::Any`.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::sql::db::Place::<sqlx::Sqlite>::new().await).await;
                }
            )+
        }
        mod on_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::sql::db::Place::<sqlx::Postgres>::new().await).await;
                }
            )+
        }
        #[cfg(feature = "any")]
        mod on_any_sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::sql::db::Place::<sqlx::Any>::new().await).await;
                }
            )+
        }
        #[cfg(feature = "any")]
        mod on_any_postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    super::$name(crate::sql::db::Place::<sqlx::Any>::on_postgres().await).await;
                }
            )+
        }
    };
}
use on_both;
