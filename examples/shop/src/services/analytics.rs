//! Analytics: a sales report out of the stream of orders.

use axum::extract::State as Shared;
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use sdk::sql::Store;
use sdk::transport::{RetrySpec, Transport};
use sdk::{Error, Event, Replay, Service, State, Subscription};
use serde_json::{Value, json};

use crate::contracts::{ORDERS, OrderConfirmed, orders_topic};
use crate::db::{self, Db};
use crate::http::Refusal;
use crate::settings::Common;

/// Its name.
pub const NAME: &str = "analytics";
/// What its replay is called, and the queue where there is none.
const REPORT: &str = "sales-report";
/// The queue that it consumes where there is no replay; its dead-letter queue keeps what a replay gives up, too.
pub const QUEUE: &str = "analytics.sales-report";

/// Attempts at a record that fails for want of the database. Those behind it wait for it.
const ATTEMPTS: u32 = 1_000;

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS sales (order_id TEXT PRIMARY KEY, total_cents BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS report (sku TEXT PRIMARY KEY, units BIGINT NOT NULL, revenue_cents BIGINT NOT NULL)",
];

/// How analytics is started.
#[derive(Debug, Parser)]
#[command(name = "shop-analytics", version, about = "The shop's sales report")]
pub struct Options {
    #[command(flatten)]
    common: Common,
}

/// Runs the service.
///
/// # Errors
/// If it cannot start.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let _telemetry = super::run::observe(NAME, &options.common)?;
    let store = db::open(&options.common.database, TABLES).await?;
    let router = Router::new().route("/report", get(report)).with_state(store.clone());
    super::run::run(&options.common, router, |transport| service(&store, transport), std::future::pending()).await
}

fn service(store: &Store<Db>, transport: &dyn Transport) -> Service<Store<Db>> {
    let retry = RetrySpec { max_attempts: Some(ATTEMPTS), ..RetrySpec::default() };
    let service = Service::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .description("Builds a sales report")
        .topic(orders_topic(transport.capabilities()))
        .state(store.clone());
    if transport.capabilities().replay.is_there() {
        return service.replay(Replay::new(REPORT, ORDERS).on(count).retry(retry));
    }
    tracing::warn!(
        transport = transport.name(),
        queue = QUEUE,
        "this transport has no replay: the report is built from a durable queue, and knows no order from before that queue was made"
    );
    service.with(Subscription::new(count).named(REPORT).retry(retry))
}

/// Counts an order. A stream that is read again brings orders again: each is counted once, because its row in `sales` is.
async fn count(State(store): State<Store<Db>>, Event(order): Event<OrderConfirmed>) -> Result<(), Error> {
    let mut tx = store.begin().await?;
    let new =
        sqlx::query("INSERT INTO sales (order_id, total_cents) VALUES ($1, $2) ON CONFLICT (order_id) DO NOTHING")
            .bind(&order.order_id)
            .bind(order.total_cents)
            .execute(tx.connection())
            .await?;
    if new.rows_affected() == 0 {
        return Ok(());
    }
    let mut lines = order.lines;
    lines.sort_by(|one, other| one.sku.cmp(&other.sku));
    for line in &lines {
        sqlx::query(
            "INSERT INTO report (sku, units, revenue_cents) VALUES ($1, $2, $3) ON CONFLICT (sku) DO UPDATE
             SET units = report.units + excluded.units, revenue_cents = report.revenue_cents + excluded.revenue_cents",
        )
        .bind(&line.sku)
        .bind(i64::from(line.quantity))
        .bind(line.total_cents())
        .execute(tx.connection())
        .await?;
    }
    tx.commit().await?;
    Ok(())
}

async fn report(Shared(store): Shared<Store<Db>>) -> Result<Json<Value>, Refusal> {
    let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM sales").fetch_one(store.pool()).await?;
    let lines: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT sku, units, revenue_cents FROM report ORDER BY revenue_cents DESC, sku")
            .fetch_all(store.pool())
            .await?;
    let lines: Vec<Value> = lines
        .into_iter()
        .map(|(sku, units, revenue_cents)| json!({ "sku": sku, "units": units, "revenue_cents": revenue_cents }))
        .collect();
    Ok(Json(json!({ "orders": orders, "lines": lines })))
}
