//! The notification service: one confirmation for each confirmed order.

use axum::Router;
use clap::Parser;
use sdk::sql::{Store, Transactional};
use sdk::transport::Transport;
use sdk::{Error, Event, Service, Subscription};

use super::run::forget;
use crate::contracts::{OrderConfirmed, orders_topic};
use crate::db::{self, Db};
use crate::output::money;
use crate::settings::Common;

/// Its name.
pub const NAME: &str = "notification";
/// The queue that it consumes.
pub const QUEUE: &str = "notification.order.confirmed";

/// No key keeps a second row of an order away: that is what the inbox is for, and what `chaos` looks at.
const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS notifications (order_id TEXT NOT NULL, customer_id TEXT NOT NULL, text TEXT NOT NULL, sent_ms BIGINT NOT NULL)",
];

/// How the notification service is started.
#[derive(Debug, Parser)]
#[command(name = "shop-notification", version, about = "The shop's notification service")]
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
    super::run::run(&options.common, Router::new(), |transport| service(&store, transport), std::future::pending())
        .await
}

fn service(store: &Store<Db>, transport: &dyn Transport) -> Service {
    Service::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .description("Tells customers that their orders are confirmed")
        .topic(orders_topic(transport.capabilities()))
        .with(Subscription::new(notify).idempotent(store))
        .task("inbox", forget(store))
}

/// Writes the confirmation. The row and the inbox's note that this message was handled are one transaction.
async fn notify(mut tx: Transactional<Db>, Event(order): Event<OrderConfirmed>) -> Result<(), Error> {
    let text = format!("Thank you! Your order {} of {} is confirmed.", order.order_id, money(order.total_cents));
    sqlx::query("INSERT INTO notifications (order_id, customer_id, text, sent_ms) VALUES ($1, $2, $3, $4)")
        .bind(&order.order_id)
        .bind(&order.customer_id)
        .bind(text)
        .bind(db::now_ms())
        .execute(tx.connection())
        .await?;
    Ok(())
}
