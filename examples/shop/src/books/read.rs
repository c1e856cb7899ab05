//! Reads the books out of the services' databases.

use anyhow::Context;
use sqlx::Pool;

use super::{Award, Books, Entry, Fate, Order, Paid, Payment, ReportLine, Reservation, Stock};
use crate::db::{self, Db};
use crate::services::Name;
use crate::supervise::Layout;

/// How much is where, to see whether the shop is still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounts {
    /// Orders.
    pub orders: i64,
    /// Those whose fate is not known yet.
    pub pending: i64,
    /// Those that are confirmed.
    pub confirmed: i64,
    /// Messages in the order service's outbox.
    pub outbox: i64,
    /// Rows of the notification service.
    pub notifications: i64,
    /// Rows of the loyalty service.
    pub awards: i64,
    /// Rows of the sales report.
    pub sales: i64,
}

async fn count(pool: &Pool<Db>, query: &'static str) -> anyhow::Result<i64> {
    sqlx::query_scalar(query).fetch_one(pool).await.context(query)
}

async fn open(layout: &Layout, name: Name) -> anyhow::Result<Pool<Db>> {
    db::read(layout.database(name)).await
}

/// Counts what is in the services' databases.
///
/// # Errors
/// If one cannot be read.
pub async fn counts(layout: &Layout) -> anyhow::Result<ServiceCounts> {
    let orders = open(layout, Name::Order).await?;
    let counts = ServiceCounts {
        orders: count(&orders, "SELECT count(*) FROM orders").await?,
        pending: count(&orders, "SELECT count(*) FROM orders WHERE fate = 'pending'").await?,
        confirmed: count(&orders, "SELECT count(*) FROM orders WHERE fate = 'confirmed'").await?,
        outbox: count(&orders, "SELECT count(*) FROM svc_outbox").await?,
        notifications: count(&open(layout, Name::Notification).await?, "SELECT count(*) FROM notifications").await?,
        awards: count(&open(layout, Name::Loyalty).await?, "SELECT count(*) FROM awards").await?,
        sales: count(&open(layout, Name::Analytics).await?, "SELECT count(*) FROM sales").await?,
    };
    Ok(counts)
}

/// Reads everything that the services' databases have. What is not in them, the caller adds.
///
/// # Errors
/// If one cannot be read, or has something in it that makes no sense.
pub async fn read(layout: &Layout) -> anyhow::Result<Books> {
    let mut books = Books::default();
    orders(&open(layout, Name::Order).await?, &mut books).await?;
    inventory(&open(layout, Name::Inventory).await?, &mut books).await?;
    payments(&open(layout, Name::Payment).await?, &mut books).await?;
    let notifications = open(layout, Name::Notification).await?;
    books.notifications = sqlx::query_scalar("SELECT order_id FROM notifications").fetch_all(&notifications).await?;
    loyalty(&open(layout, Name::Loyalty).await?, &mut books).await?;
    let analytics = open(layout, Name::Analytics).await?;
    books.sales = sqlx::query_as("SELECT order_id, total_cents FROM sales").fetch_all(&analytics).await?;
    let report: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT sku, units, revenue_cents FROM report").fetch_all(&analytics).await?;
    let line = |(sku, units, revenue_cents)| ReportLine { sku, units, revenue_cents };
    books.report = report.into_iter().map(line).collect();
    Ok(books)
}

type OrderRow = (String, String, String, String, i64, i64, Option<String>);

async fn orders(pool: &Pool<Db>, books: &mut Books) -> anyhow::Result<()> {
    let rows: Vec<OrderRow> = sqlx::query_as(
        "SELECT order_id, customer_id, fate, lines, fee_cents, total_cents, reason FROM orders ORDER BY placed_ms",
    )
    .fetch_all(pool)
    .await?;
    for (order_id, customer_id, fate, lines, fee_cents, total_cents, reason) in rows {
        let fate = Fate::parse(&fate).with_context(|| format!("order {order_id} is {fate:?}"))?;
        let lines = serde_json::from_str(&lines).with_context(|| format!("the lines of order {order_id}"))?;
        books.orders.push(Order { order_id, customer_id, fate, lines, fee_cents, total_cents, reason });
    }
    Ok(())
}

async fn inventory(pool: &Pool<Db>, books: &mut Books) -> anyhow::Result<()> {
    let rows: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT sku, initial, available FROM articles").fetch_all(pool).await?;
    books.stock = rows.into_iter().map(|(sku, initial, available)| Stock { sku, initial, available }).collect();
    let rows: Vec<(String, i64, String)> =
        sqlx::query_as("SELECT order_id, held, lines FROM reservations").fetch_all(pool).await?;
    for (order_id, held, lines) in rows {
        let lines = serde_json::from_str(&lines).with_context(|| format!("the reservation of order {order_id}"))?;
        books.reservations.push(Reservation { order_id, held: held == 1, lines });
    }
    Ok(())
}

async fn payments(pool: &Pool<Db>, books: &mut Books) -> anyhow::Result<()> {
    let rows: Vec<(String, i64, String)> =
        sqlx::query_as("SELECT order_id, amount_cents, paid FROM payments").fetch_all(pool).await?;
    for (order_id, amount_cents, paid) in rows {
        let paid = Paid::parse(&paid).with_context(|| format!("the payment of order {order_id} is {paid:?}"))?;
        books.payments.push(Payment { order_id, amount_cents, paid });
    }
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT order_id, account, amount_cents FROM ledger").fetch_all(pool).await?;
    let entry = |(order_id, account, amount_cents)| Entry { order_id, account, amount_cents };
    books.entries = rows.into_iter().map(entry).collect();
    Ok(())
}

async fn loyalty(pool: &Pool<Db>, books: &mut Books) -> anyhow::Result<()> {
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT order_id, customer_id, points FROM awards").fetch_all(pool).await?;
    let award = |(order_id, customer_id, points)| Award { order_id, customer_id, points };
    books.awards = rows.into_iter().map(award).collect();
    let rows: Vec<(String, i64)> = sqlx::query_as("SELECT customer_id, points FROM members").fetch_all(pool).await?;
    books.points = rows.into_iter().collect();
    Ok(())
}
