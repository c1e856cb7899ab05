//! The inventory: answers stock checks over REST, sets goods aside and puts them back.

use axum::extract::State as Shared;
use axum::routing::post;
use axum::{Json, Router};
use clap::Parser;
use sdk::sql::{Store, Transactional};
use sdk::{Answer, Error, Request, Responder, Service};
use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;

use super::run::forget;
use crate::catalogue::{ARTICLES, MAX_LINES};
use crate::contracts::{Done, Line, ReleaseStock, ReserveStock, StockReply};
use crate::db::{self, Db};
use crate::http::Refusal;
use crate::settings::Common;

/// Its name.
pub const NAME: &str = "inventory";

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS articles (sku TEXT PRIMARY KEY, initial BIGINT NOT NULL, available BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS reservations (order_id TEXT PRIMARY KEY, held BIGINT NOT NULL, lines TEXT NOT NULL)",
];

/// How the inventory is started.
#[derive(Debug, Parser)]
#[command(name = "shop-inventory", version, about = "The shop's inventory")]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Pieces of each article in the beginning.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    stock: u32,
}

/// Asks whether there is enough of everything. It promises nothing: the checkout sets goods aside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StockCheck {
    /// What is wanted.
    pub lines: Vec<Line>,
}

/// What there is not enough of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StockAnswer {
    /// Articles.
    pub missing: Vec<String>,
}

/// Runs the service.
///
/// # Errors
/// If it cannot start.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let _telemetry = super::run::observe(NAME, &options.common)?;
    let store = db::open(&options.common.database, TABLES).await?;
    for article in ARTICLES {
        sqlx::query("INSERT INTO articles (sku, initial, available) VALUES ($1, $2, $2) ON CONFLICT (sku) DO NOTHING")
            .bind(article.sku)
            .bind(i64::from(options.stock))
            .execute(store.pool())
            .await?;
    }
    let router = Router::new().route("/stock/check", post(check)).with_state(store.clone());
    super::run::run(&options.common, router, |_| service(&store), std::future::pending()).await
}

fn service(store: &Store<Db>) -> Service {
    Service::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .description("Sets goods aside and puts them back")
        .responder(Responder::new(reserve).idempotent(store))
        .responder(Responder::new(release).idempotent(store))
        .task("inbox", forget(store))
}

/// Sets an order's goods aside, all or none.
async fn reserve(
    mut tx: Transactional<Db>,
    Request(ask): Request<ReserveStock>,
) -> Result<Answer<ReserveStock>, Error> {
    match find(tx.connection(), &ask.order_id).await? {
        Some((true, _)) => return Ok(Answer(StockReply { missing: None })),
        // The order was called off while this question was on its way.
        Some((false, _)) => return Err(Error::terminal("this order's goods were put back already")),
        None => {}
    }
    let mut lines = ask.lines;
    // Always in the same order, so that two orders never wait for each other.
    lines.sort_by(|one, other| one.sku.cmp(&other.sku));
    for (taken, line) in lines.iter().enumerate() {
        if !take(tx.connection(), line).await? {
            for line in lines.iter().take(taken) {
                put_back(tx.connection(), line).await?;
            }
            return Ok(Answer(StockReply { missing: Some(line.sku.clone()) }));
        }
    }
    keep(tx.connection(), &ask.order_id, true, &lines).await?;
    Ok(Answer(StockReply { missing: None }))
}

/// Puts an order's goods back. If nothing was set aside, nothing will be any more.
async fn release(
    mut tx: Transactional<Db>,
    Request(ask): Request<ReleaseStock>,
) -> Result<Answer<ReleaseStock>, Error> {
    match find(tx.connection(), &ask.order_id).await? {
        Some((false, _)) => {}
        Some((true, lines)) => {
            for line in &lines {
                put_back(tx.connection(), line).await?;
            }
            sqlx::query("UPDATE reservations SET held = 0 WHERE order_id = $1")
                .bind(&ask.order_id)
                .execute(tx.connection())
                .await?;
        }
        None => keep(tx.connection(), &ask.order_id, false, &[]).await?,
    }
    Ok(Answer(Done {}))
}

async fn find(connection: &mut AnyConnection, order_id: &str) -> Result<Option<(bool, Vec<Line>)>, Error> {
    let row: Option<(i64, String)> = sqlx::query_as("SELECT held, lines FROM reservations WHERE order_id = $1")
        .bind(order_id)
        .fetch_optional(connection)
        .await?;
    row.map(|(held, lines)| Ok((held == 1, serde_json::from_str(&lines)?))).transpose()
}

async fn keep(connection: &mut AnyConnection, order_id: &str, held: bool, lines: &[Line]) -> Result<(), Error> {
    sqlx::query("INSERT INTO reservations (order_id, held, lines) VALUES ($1, $2, $3)")
        .bind(order_id)
        .bind(i64::from(held))
        .bind(serde_json::to_string(lines)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes pieces of an article, if there are enough.
async fn take(connection: &mut AnyConnection, line: &Line) -> Result<bool, Error> {
    let done = sqlx::query("UPDATE articles SET available = available - $1 WHERE sku = $2 AND available >= $1")
        .bind(i64::from(line.quantity))
        .bind(&line.sku)
        .execute(connection)
        .await?;
    Ok(done.rows_affected() == 1)
}

async fn put_back(connection: &mut AnyConnection, line: &Line) -> Result<(), Error> {
    sqlx::query("UPDATE articles SET available = available + $1 WHERE sku = $2")
        .bind(i64::from(line.quantity))
        .bind(&line.sku)
        .execute(connection)
        .await?;
    Ok(())
}

async fn check(Shared(store): Shared<Store<Db>>, Json(ask): Json<StockCheck>) -> Result<Json<StockAnswer>, Refusal> {
    let mut missing = Vec::new();
    for line in ask.lines.iter().take(MAX_LINES) {
        let available: Option<i64> = sqlx::query_scalar("SELECT available FROM articles WHERE sku = $1")
            .bind(&line.sku)
            .fetch_optional(store.pool())
            .await?;
        if available.is_none_or(|available| available < i64::from(line.quantity)) {
            missing.push(line.sku.clone());
        }
    }
    Ok(Json(StockAnswer { missing }))
}
