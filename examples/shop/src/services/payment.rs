//! The payment service: quotes prices over gRPC, takes customers' money and gives it back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use clap::Parser;
use sdk::sql::{Store, Tx};
use sdk::{Answer, Error, Request, Service, State};
use tokio::net::TcpListener;
use tonic::{Response, Status};

use crate::books::{Paid, SHOP};
use crate::catalogue::{self, CARD_FEE_CENTS};
use crate::contracts::{Done, Line, PaymentReply, RefundPayment, TakePayment};
use crate::db::{self, Db};
use crate::faults::Faults;
use crate::settings::Common;
use crate::traces;

/// The code made of `quote.proto`.
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod quotes {
    tonic::include_proto!("shop.payment.v1");
}

use quotes::quotes_server::{Quotes, QuotesServer};
use quotes::{PricedItem, QuoteReply, QuoteRequest};

/// Its name.
pub const NAME: &str = "payment";

/// How long an answer that comes too late takes: longer than whoever asks waits.
const STALL: Duration = Duration::from_secs(30);

const TABLES: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS payments (order_id TEXT PRIMARY KEY, customer_id TEXT NOT NULL, amount_cents BIGINT NOT NULL, paid TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS ledger (order_id TEXT NOT NULL, account TEXT NOT NULL, amount_cents BIGINT NOT NULL)",
];

/// How the payment service is started.
#[derive(Debug, Parser)]
#[command(name = "shop-payment", version, about = "The shop's payment service")]
pub struct Options {
    #[command(flatten)]
    common: Common,
    /// Where quotes are answered over gRPC.
    #[arg(long, value_name = "HOST:PORT")]
    grpc: SocketAddr,
    #[command(flatten)]
    faults: Faults,
}

/// What its handlers have.
#[derive(Clone, Debug)]
struct Payments {
    store: Store<Db>,
    faults: Faults,
}

/// Runs the service.
///
/// # Errors
/// If it cannot start.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let _telemetry = super::run::observe(NAME, &options.common)?;
    let store = db::open(&options.common.database, TABLES).await?;
    let payments = Payments { store, faults: options.faults };
    let listener = TcpListener::bind(options.grpc).await?;
    let quotes = async {
        let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = tonic::transport::Server::builder().add_service(QuotesServer::new(Cashier));
        server.serve_with_incoming(incoming).await.context("answering quotes")
    };
    super::run::run(&options.common, Router::new(), |_| service(&payments), quotes).await
}

fn service(payments: &Payments) -> Service<Payments> {
    Service::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .description("Takes customers' money and gives it back")
        .state(payments.clone())
        .reply(take)
        .reply(refund)
}

/// Takes a customer's money. An order has one payment, whose row says what became of it: that makes a question that comes twice harmless
/// without an inbox, and lets the answer get lost after the money was taken.
async fn take(
    State(payments): State<Payments>,
    Request(ask): Request<TakePayment>,
) -> Result<Answer<TakePayment>, Error> {
    if payments.faults.fails_now() {
        return Err(Error::transient("the line to the bank is down"));
    }
    let mut tx = payments.store.begin().await?;
    let before = find(&mut tx, &ask.order_id).await?;
    let paid = match before {
        Some((paid, _, _)) => paid,
        None if payments.faults.declines(&ask.order_id) => Paid::Declined,
        None => Paid::Taken,
    };
    if before.is_none() {
        keep(&mut tx, &ask.order_id, &ask.customer_id, ask.amount_cents, paid).await?;
        if paid == Paid::Taken {
            book(&mut tx, &ask.order_id, &ask.customer_id, SHOP, ask.amount_cents).await?;
        }
    }
    tx.commit().await?;
    if before.is_none() && payments.faults.stalls(&ask.order_id) {
        tokio::time::sleep(STALL).await;
    }
    match paid {
        Paid::Taken => Ok(Answer(PaymentReply { declined: None })),
        Paid::Declined => Ok(Answer(PaymentReply { declined: Some("the customer's bank declined".to_owned()) })),
        Paid::Refunded | Paid::Void => Err(Error::terminal("this order's payment was called off already")),
    }
}

/// Gives a customer's money back. If none was taken, none will be any more.
async fn refund(
    State(payments): State<Payments>,
    Request(ask): Request<RefundPayment>,
) -> Result<Answer<RefundPayment>, Error> {
    if payments.faults.fails_now() {
        return Err(Error::transient("the line to the bank is down"));
    }
    let mut tx = payments.store.begin().await?;
    match find(&mut tx, &ask.order_id).await? {
        Some((Paid::Taken, customer_id, amount_cents)) => {
            sqlx::query("UPDATE payments SET paid = $1 WHERE order_id = $2")
                .bind(Paid::Refunded.as_str())
                .bind(&ask.order_id)
                .execute(tx.connection())
                .await?;
            book(&mut tx, &ask.order_id, SHOP, &customer_id, amount_cents).await?;
        }
        Some(_) => {}
        None => keep(&mut tx, &ask.order_id, "", 0, Paid::Void).await?,
    }
    tx.commit().await?;
    Ok(Answer(Done {}))
}

type Found = (Paid, String, i64);

async fn find(tx: &mut Tx<Db>, order_id: &str) -> Result<Option<Found>, Error> {
    let row: Option<(String, String, i64)> =
        sqlx::query_as("SELECT paid, customer_id, amount_cents FROM payments WHERE order_id = $1")
            .bind(order_id)
            .fetch_optional(tx.connection())
            .await?;
    let found = |(paid, customer_id, amount_cents): (String, String, i64)| {
        let paid = Paid::parse(&paid).ok_or_else(|| Error::terminal(format!("a payment cannot be {paid:?}")))?;
        Ok((paid, customer_id, amount_cents))
    };
    row.map(found).transpose()
}

async fn keep(tx: &mut Tx<Db>, order_id: &str, customer_id: &str, amount_cents: i64, paid: Paid) -> Result<(), Error> {
    sqlx::query("INSERT INTO payments (order_id, customer_id, amount_cents, paid) VALUES ($1, $2, $3, $4)")
        .bind(order_id)
        .bind(customer_id)
        .bind(amount_cents)
        .bind(paid.as_str())
        .execute(tx.connection())
        .await?;
    Ok(())
}

/// Moves money from one account to another.
async fn book(tx: &mut Tx<Db>, order_id: &str, from: &str, to: &str, amount_cents: i64) -> Result<(), Error> {
    for (account, amount_cents) in [(from, -amount_cents), (to, amount_cents)] {
        sqlx::query("INSERT INTO ledger (order_id, account, amount_cents) VALUES ($1, $2, $3)")
            .bind(order_id)
            .bind(account)
            .bind(amount_cents)
            .execute(tx.connection())
            .await?;
    }
    Ok(())
}

/// Tells prices.
#[derive(Clone, Copy, Debug)]
struct Cashier;

#[tonic::async_trait]
impl Quotes for Cashier {
    async fn quote(&self, request: tonic::Request<QuoteRequest>) -> Result<Response<QuoteReply>, Status> {
        let headers = request.metadata().clone().into_headers();
        let served = traces::serving(&headers, "shop.payment.v1.Quotes/Quote".to_owned(), Vec::new());
        let _current = served.attach();
        let items = request.into_inner().items;
        let lines: Vec<Line> = items.into_iter().map(|item| Line { sku: item.sku, quantity: item.quantity }).collect();
        let priced = catalogue::price(&lines).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let total_cents = catalogue::total_cents(&priced, CARD_FEE_CENTS);
        let items = priced.into_iter().map(|line| PricedItem {
            sku: line.sku,
            quantity: line.quantity,
            price_cents: line.price_cents,
        });
        Ok(Response::new(QuoteReply { items: items.collect(), fee_cents: CARD_FEE_CENTS, total_cents }))
    }
}
