//! What the services say to each other: the contracts of their messages, and the topic that they share.

use schemars::JsonSchema;
use sdk::Message;
use sdk::transport::{Capabilities, RetentionSpec, TopicSpec};
use serde::{Deserialize, Serialize};

/// The topic of what became of orders.
pub const ORDERS: &str = "orders";

/// So many pieces of an article.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// The article.
    pub sku: String,
    /// Pieces.
    pub quantity: u32,
}

/// A line with its price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PricedLine {
    /// The article.
    pub sku: String,
    /// Pieces.
    pub quantity: u32,
    /// Of one piece.
    pub price_cents: i64,
}

impl PricedLine {
    /// Price of all pieces.
    #[must_use]
    pub fn total_cents(&self) -> i64 {
        self.price_cents.saturating_mul(i64::from(self.quantity))
    }
}

/// An order is paid and its goods are reserved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.confirmed", version = 1, topic = "orders", key = "order_id")]
pub struct OrderConfirmed {
    /// The order.
    pub order_id: String,
    /// Whose it is.
    pub customer_id: String,
    /// What was bought.
    pub lines: Vec<PricedLine>,
    /// Lines and fee.
    pub total_cents: i64,
}

/// An order came to nothing, and everything that was done for it is undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.cancelled", version = 1, topic = "orders", key = "order_id")]
pub struct OrderCancelled {
    /// The order.
    pub order_id: String,
    /// Whose it was.
    pub customer_id: String,
}

/// Asks the inventory to set goods aside.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "inventory.reserve-stock", key = "order_id", reply = StockReply)]
pub struct ReserveStock {
    /// For this order.
    pub order_id: String,
    /// What.
    pub lines: Vec<Line>,
}

/// What came of [`ReserveStock`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "inventory.stock-reply")]
pub struct StockReply {
    /// The article that there is not enough of, in which case nothing is reserved.
    pub missing: Option<String>,
}

/// Asks the inventory to put goods back, should any be set aside.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "inventory.release-stock", key = "order_id", reply = Done)]
pub struct ReleaseStock {
    /// Of this order.
    pub order_id: String,
}

/// Asks for a customer's money.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "payment.take", key = "order_id", reply = PaymentReply)]
pub struct TakePayment {
    /// For this order.
    pub order_id: String,
    /// From this customer.
    pub customer_id: String,
    /// So much.
    pub amount_cents: i64,
}

/// What came of [`TakePayment`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "payment.reply")]
pub struct PaymentReply {
    /// Why the customer's bank declined, in which case nothing was taken.
    pub declined: Option<String>,
}

/// Asks for a customer's money to be given back, should any have been taken.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "payment.refund", key = "order_id", reply = Done)]
pub struct RefundPayment {
    /// Of this order.
    pub order_id: String,
}

/// It is done, or had been done before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "shop.done")]
pub struct Done {}

/// The topic [`ORDERS`] as every service declares it, so that it is the same whichever starts first: with a log, where the transport keeps any.
#[must_use]
pub fn orders_topic(capabilities: &Capabilities) -> TopicSpec {
    let retention = capabilities.replay.is_there().then(RetentionSpec::default);
    TopicSpec { retention, ..TopicSpec::new(ORDERS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_go_to_the_topic_under_their_order() {
        let confirmed = OrderConfirmed {
            order_id: "o-1".to_owned(),
            customer_id: "c-1".to_owned(),
            lines: vec![PricedLine { sku: "mug".to_owned(), quantity: 3, price_cents: 850 }],
            total_cents: 2585,
        };
        assert_eq!(OrderConfirmed::TOPIC, ORDERS);
        assert_eq!(OrderCancelled::TOPIC, ORDERS);
        assert_eq!(confirmed.key().as_deref(), Some("o-1"));
        assert_eq!(confirmed.lines[0].total_cents(), 2550);
    }
}
