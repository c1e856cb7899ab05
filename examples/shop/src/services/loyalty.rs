//! The loyalty service: points for confirmed orders.

use axum::extract::{Path, State as Shared};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use clap::Parser;
use sdk::sql::{Store, Transactional};
use sdk::transport::Transport;
use sdk::{Error, Event, Service, Subscription};
use serde_json::{Value, json};

use super::run::forget;
use crate::catalogue;
use crate::contracts::{OrderConfirmed, orders_topic};
use crate::db::{self, Db};
use crate::http::Refusal;
use crate::settings::Common;

/// Its name.
pub const NAME: &str = "loyalty";
/// The queue that it consumes.
pub const QUEUE: &str = "loyalty.order.confirmed";

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS awards (order_id TEXT NOT NULL, customer_id TEXT NOT NULL, points BIGINT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS members (customer_id TEXT PRIMARY KEY, points BIGINT NOT NULL)",
];

/// How the loyalty service is started.
#[derive(Debug, Parser)]
#[command(name = "shop-loyalty", version, about = "The shop's loyalty programme")]
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
    let router = Router::new().route("/members/{customer_id}", get(member)).with_state(store.clone());
    super::run::run(&options.common, router, |transport| service(&store, transport), std::future::pending()).await
}

fn service(store: &Store<Db>, transport: &dyn Transport) -> Service {
    Service::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .description("Gives points for confirmed orders")
        .topic(orders_topic(transport.capabilities()))
        .with(Subscription::new(award).idempotent(store))
        .task("inbox", forget(store))
}

/// Adds an order's points to its customer's. An addition is no effect that bears repetition: the inbox sees to it that there is none.
async fn award(mut tx: Transactional<Db>, Event(order): Event<OrderConfirmed>) -> Result<(), Error> {
    let points = catalogue::points(order.total_cents);
    sqlx::query("INSERT INTO awards (order_id, customer_id, points) VALUES ($1, $2, $3)")
        .bind(&order.order_id)
        .bind(&order.customer_id)
        .bind(points)
        .execute(tx.connection())
        .await?;
    sqlx::query(
        "INSERT INTO members (customer_id, points) VALUES ($1, $2)
         ON CONFLICT (customer_id) DO UPDATE SET points = members.points + excluded.points",
    )
    .bind(&order.customer_id)
    .bind(points)
    .execute(tx.connection())
    .await?;
    Ok(())
}

async fn member(Shared(store): Shared<Store<Db>>, Path(customer_id): Path<String>) -> Result<Json<Value>, Refusal> {
    let points: Option<i64> = sqlx::query_scalar("SELECT points FROM members WHERE customer_id = $1")
        .bind(&customer_id)
        .fetch_optional(store.pool())
        .await?;
    match points {
        Some(points) => Ok(Json(json!({ "customer_id": customer_id, "points": points }))),
        None => Err(Refusal::new(StatusCode::NOT_FOUND, format!("{customer_id:?} has no points yet"))),
    }
}
