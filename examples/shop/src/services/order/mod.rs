//! The order service: takes orders over HTTP, and brings each through the checkout.

mod checkout;
mod front;
mod neighbours;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use clap::Parser;
use sdk::saga::SagaStore;
use sdk::sql::{Relay, RelayOptions, Store};
use sdk::transport::Transport;
use sdk::{Client, Service};
use tokio_util::sync::CancellationToken;

pub use self::front::{Accepted, PlaceOrder};
use self::neighbours::Neighbours;
use crate::contracts::{OrderCancelled, OrderConfirmed, orders_topic};
use crate::db::{self, Db};
use crate::faults::Faults;
use crate::settings::Common;

/// Its name.
pub const NAME: &str = "order";
/// The saga's name.
const CHECKOUT: &str = "checkout";
/// The queue that moves the saga on.
pub const SAGA_QUEUE: &str = "order.saga.checkout";

const TABLES: &[&str] = &["CREATE TABLE IF NOT EXISTS orders (
    order_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, fate TEXT NOT NULL, lines TEXT NOT NULL, fee_cents BIGINT NOT NULL,
    total_cents BIGINT NOT NULL, reason TEXT, placed_ms BIGINT NOT NULL, settled_ms BIGINT)"];

/// How the order service is started.
#[derive(Debug, Parser)]
#[command(name = "shop-order", version, about = "The shop's order service")]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// The inventory's REST side: http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    inventory: String,
    /// The payment service's gRPC side: http://HOST:PORT.
    #[arg(long, value_name = "URL")]
    payment: String,
    #[command(flatten)]
    faults: Faults,
}

/// What its handlers have.
#[derive(Clone, Debug)]
struct Orders {
    store: Store<Db>,
    neighbours: Arc<Neighbours>,
    faults: Faults,
}

/// Runs the service.
///
/// # Errors
/// If it cannot start.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let _telemetry = super::run::observe(NAME, &options.common)?;
    let store = db::open(&options.common.database, TABLES).await?;
    let neighbours = Arc::new(Neighbours::new(&options.inventory, &options.payment)?);
    let orders = Orders { store, neighbours, faults: options.faults };
    let router = Router::new()
        .route("/orders", post(front::place))
        .route("/orders/{order_id}", get(front::see))
        .with_state(orders.clone());
    super::run::run(&options.common, router, |transport| service(&orders, transport), std::future::pending()).await
}

fn service(orders: &Orders, transport: &dyn Transport) -> Service<Orders> {
    // As events in a topic where the transport can tell versions apart, so that the log is each checkout's history; in the service's own
    // database otherwise.
    let store = match transport.capabilities().expected_version.is_there() {
        true => SagaStore::topic(),
        false => orders.store.saga_store(),
    };
    Service::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .description("Takes orders and brings each through the checkout")
        .state(orders.clone())
        .topic(orders_topic(transport.capabilities()))
        .publishes::<OrderConfirmed>()
        .publishes::<OrderCancelled>()
        .saga(checkout::saga(), store)
        .task("outbox", relay)
}

/// Brings what the front put into the outbox to the broker.
async fn relay(orders: Orders, client: Client, stop: CancellationToken) {
    let relayed = Relay::run(orders.store, Arc::clone(client.transport()), RelayOptions::default(), stop).await;
    if let Err(error) = relayed {
        tracing::error!(%error, "the outbox is not emptied any more");
    }
}
