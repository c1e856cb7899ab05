//! The checkout: reserve stock, take payment, confirm. What cannot be finished is undone.

use std::time::Duration;

use sdk::saga::{Data, Saga, Step, StepContext};
use sdk::transport::RetrySpec;
use sdk::{Error, RequestError, State};
use serde::{Deserialize, Serialize};

use super::{CHECKOUT, Orders};
use crate::books::Fate;
use crate::contracts::{
    Line, OrderCancelled, OrderConfirmed, PricedLine, RefundPayment, ReleaseStock, ReserveStock, TakePayment,
};
use crate::db;

/// How long a step waits for an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// The waits between attempts of a step: a service that was restarted is back within them. One that is away for longer costs sales, but it
/// keeps nobody waiting for ever.
const RETRY: RetrySpec = RetrySpec {
    max_attempts: Some(12),
    initial: Duration::from_millis(200),
    factor: 2.0,
    cap: Duration::from_secs(5),
    jitter: true,
};

/// What the saga carries from step to step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Checkout {
    pub(super) order_id: String,
    pub(super) customer_id: String,
    pub(super) lines: Vec<PricedLine>,
    pub(super) total_cents: i64,
}

/// Reserve, pay, confirm. The confirmation is what others act on, so it is the pivot: once stock and money are there the order is confirmed, however long that
/// takes. Before it, attempts run out, and the order is undone.
pub(super) fn saga() -> Saga<Checkout, Orders> {
    Saga::new(CHECKOUT)
        .step(Step::new("reserve", reserve).compensate(release).retry(RETRY).compensation_retry(RETRY))
        .step(Step::new("pay", pay).compensate(refund).retry(RETRY).compensation_retry(RETRY))
        .step(Step::new("confirm", confirm).retry(RETRY).pivot())
        .on_compensated(cancelled)
}

async fn reserve(
    State(orders): State<Orders>,
    Data(order): Data<Checkout>,
    step: StepContext,
) -> Result<Checkout, Error> {
    let lines = order.lines.iter().map(|line| Line { sku: line.sku.clone(), quantity: line.quantity }).collect();
    let ask = ReserveStock { order_id: order.order_id.clone(), lines };
    let answer = step.client().request(&ask).idempotency_key(step.idempotency_key()).within(ANSWER).await;
    match answer.map_err(asked)?.missing {
        None => Ok(order),
        Some(sku) => Err(orders.gives_up(&order, format!("there is not enough of {sku}")).await?),
    }
}

async fn release(Data(order): Data<Checkout>, step: StepContext) -> Result<Checkout, Error> {
    let ask = ReleaseStock { order_id: order.order_id.clone() };
    step.client().request(&ask).idempotency_key(step.idempotency_key()).within(ANSWER).await.map_err(asked)?;
    Ok(order)
}

async fn pay(State(orders): State<Orders>, Data(order): Data<Checkout>, step: StepContext) -> Result<Checkout, Error> {
    let (order_id, customer_id) = (order.order_id.clone(), order.customer_id.clone());
    let ask = TakePayment { order_id, customer_id, amount_cents: order.total_cents };
    let answer = step.client().request(&ask).idempotency_key(step.idempotency_key()).within(ANSWER).await;
    match answer.map_err(asked)?.declined {
        None => Ok(order),
        Some(why) => Err(orders.gives_up(&order, why).await?),
    }
}

async fn refund(Data(order): Data<Checkout>, step: StepContext) -> Result<Checkout, Error> {
    let ask = RefundPayment { order_id: order.order_id.clone() };
    step.client().request(&ask).idempotency_key(step.idempotency_key()).within(ANSWER).await.map_err(asked)?;
    Ok(order)
}

async fn confirm(
    State(orders): State<Orders>,
    Data(order): Data<Checkout>,
    step: StepContext,
) -> Result<Checkout, Error> {
    if orders.faults.rejects(&order.order_id) {
        return Err(orders.gives_up(&order, "the last look at the order rejected it".to_owned()).await?);
    }
    orders.settle(&order.order_id, Fate::Confirmed).await?;
    step.emit(&OrderConfirmed {
        order_id: order.order_id.clone(),
        customer_id: order.customer_id.clone(),
        lines: order.lines.clone(),
        total_cents: order.total_cents,
    })?;
    Ok(order)
}

async fn cancelled(
    State(orders): State<Orders>,
    Data(order): Data<Checkout>,
    step: StepContext,
) -> Result<Checkout, Error> {
    orders.settle(&order.order_id, Fate::Cancelled).await?;
    step.emit(&OrderCancelled { order_id: order.order_id.clone(), customer_id: order.customer_id.clone() })?;
    Ok(order)
}

/// A question without an answer: asking again is in vain only if whoever was asked says so.
fn asked(error: RequestError) -> Error {
    if error.is_transient() { Error::from(error) } else { Error::from(error).into_terminal() }
}

impl Orders {
    /// Writes down what becomes of an order.
    async fn settle(&self, order_id: &str, fate: Fate) -> Result<(), Error> {
        let reason = (fate == Fate::Cancelled).then_some("a service did not answer for too long");
        sqlx::query("UPDATE orders SET fate = $1, settled_ms = $2, reason = COALESCE(reason, $3) WHERE order_id = $4")
            .bind(fate.as_str())
            .bind(db::now_ms())
            .bind(reason)
            .bind(order_id)
            .execute(self.store.pool())
            .await?;
        Ok(())
    }

    /// Writes down, for the customer, why an order comes to nothing, and gives the error that undoes it.
    async fn gives_up(&self, order: &Checkout, why: String) -> Result<Error, Error> {
        sqlx::query("UPDATE orders SET reason = $1 WHERE order_id = $2")
            .bind(&why)
            .bind(&order.order_id)
            .execute(self.store.pool())
            .await?;
        Ok(Error::terminal(why))
    }
}
