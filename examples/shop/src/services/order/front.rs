//! The shop's front: place an order, see an order.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use sdk::saga::SagaHandle;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::checkout::Checkout;
use super::neighbours::{NoQuote, Quote};
use super::{CHECKOUT, NAME, Orders};
use crate::books::Fate;
use crate::catalogue;
use crate::contracts::Line;
use crate::db;
use crate::http::Refusal;
use crate::traces;

/// The longest id of an order or a customer, in bytes.
const MAX_ID_BYTES: usize = 64;

/// A customer's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceOrder {
    /// Chosen by whoever places it, so that it can be sent again when no answer came; made up without it.
    #[serde(default)]
    pub order_id: Option<String>,
    /// Whose it is.
    pub customer_id: String,
    /// What is wanted.
    pub lines: Vec<Line>,
}

/// The order is on the disk, and will be confirmed or cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The order.
    pub order_id: String,
    /// What it will cost.
    pub total_cents: i64,
}

type Answer = (StatusCode, [(HeaderName, String); 1], Json<Accepted>);

/// `POST /orders`: 202 once the order is on the disk.
pub(super) async fn place(State(orders): State<Orders>, Json(ask): Json<PlaceOrder>) -> Result<Answer, Refusal> {
    let order_id = ask.order_id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
    check_id(&order_id)?;
    check_id(&ask.customer_id)?;
    catalogue::price(&ask.lines).map_err(|error| Refusal::new(StatusCode::BAD_REQUEST, error.to_string()))?;
    if let Some(before) = orders.placed(&order_id).await? {
        return if before.is_of(&ask.customer_id, &ask.lines) {
            Ok(accepted(order_id, before.total_cents))
        } else {
            Err(Refusal::new(StatusCode::CONFLICT, format!("there is another order {order_id:?}")))
        };
    }
    // Without an answer the order is taken all the same: the check promises nothing, and the checkout sets the goods aside or cancels.
    match orders.neighbours.missing(&ask.lines).await {
        Ok(missing) if !missing.is_empty() => {
            return Err(Refusal::new(StatusCode::CONFLICT, format!("there is not enough of {}", missing.join(", "))));
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, order_id, "taken without a stock check"),
    }
    // Without a price there is no order.
    let quote = orders.neighbours.quote(&ask.customer_id, &ask.lines).await.map_err(|error| match error {
        NoQuote::Refused(why) => Refusal::new(StatusCode::BAD_REQUEST, why),
        NoQuote::Unanswered(error) => Refusal::unavailable(error.to_string()),
    })?;
    let total_cents = quote.total_cents;
    orders.keep(&order_id, &ask.customer_id, quote).await?;
    Ok(accepted(order_id, total_cents))
}

fn accepted(order_id: String, total_cents: i64) -> Answer {
    let location = format!("/orders/{order_id}");
    (StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(Accepted { order_id, total_cents }))
}

fn check_id(id: &str) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !id.is_empty() && id.len() <= MAX_ID_BYTES && id.bytes().all(plain) {
        return Ok(());
    }
    let why = format!("{id:?} is no id: that is 1 to {MAX_ID_BYTES} letters, digits, - and _");
    Err(Refusal::new(StatusCode::BAD_REQUEST, why))
}

/// `GET /orders/{order_id}`.
pub(super) async fn see(State(orders): State<Orders>, Path(order_id): Path<String>) -> Result<Json<Value>, Refusal> {
    let row: Option<(String, String, i64, Option<String>)> =
        sqlx::query_as("SELECT customer_id, fate, total_cents, reason FROM orders WHERE order_id = $1")
            .bind(&order_id)
            .fetch_optional(orders.store.pool())
            .await?;
    let Some((customer_id, fate, total_cents, reason)) = row else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, format!("there is no order {order_id:?}")));
    };
    Ok(Json(json!({
        "order_id": order_id, "customer_id": customer_id, "state": fate, "total_cents": total_cents, "reason": reason,
    })))
}

/// An order that was placed before.
struct Placed {
    customer_id: String,
    lines: Vec<Line>,
    total_cents: i64,
}

impl Placed {
    fn is_of(&self, customer_id: &str, lines: &[Line]) -> bool {
        self.customer_id == customer_id && self.lines == lines
    }
}

impl Orders {
    async fn placed(&self, order_id: &str) -> Result<Option<Placed>, Refusal> {
        let row: Option<(String, String, i64)> =
            sqlx::query_as("SELECT customer_id, lines, total_cents FROM orders WHERE order_id = $1")
                .bind(order_id)
                .fetch_optional(self.store.pool())
                .await?;
        let Some((customer_id, lines, total_cents)) = row else { return Ok(None) };
        // A line with its price reads as one without.
        Ok(Some(Placed { customer_id, lines: serde_json::from_str(&lines)?, total_cents }))
    }

    /// Keeps an order and what starts its checkout, in one transaction: there is never one without the other.
    async fn keep(&self, order_id: &str, customer_id: &str, quote: Quote) -> Result<(), Refusal> {
        let Quote { lines, fee_cents, total_cents } = quote;
        let mut tx = self.store.begin().await?;
        let new = sqlx::query(
            "INSERT INTO orders (order_id, customer_id, fate, lines, fee_cents, total_cents, placed_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (order_id) DO NOTHING",
        )
        .bind(order_id)
        .bind(customer_id)
        .bind(Fate::Pending.as_str())
        .bind(serde_json::to_string(&lines)?)
        .bind(fee_cents)
        .bind(total_cents)
        .bind(db::now_ms())
        .execute(tx.connection())
        .await?;
        if new.rows_affected() == 0 {
            // The same request came twice at the same time.
            return Err(Refusal::unavailable(format!("order {order_id:?} is being placed; ask again")));
        }
        let (order_id, customer_id) = (order_id.to_owned(), customer_id.to_owned());
        let checkout = Checkout { order_id: order_id.clone(), customer_id, lines, total_cents };
        let start = SagaHandle::new(NAME, CHECKOUT).start(order_id, &checkout)?;
        let mut start = start.into_outgoing(types::Timestamp(db::now_ms()));
        traces::carry(&mut start.message);
        tx.send(start).await?;
        tx.commit().await?;
        Ok(())
    }
}
