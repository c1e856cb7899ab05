//! The contracts that the tests of services use.

use schemars::JsonSchema;
use sdk::Message;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "order.created", topic = "orders", key = "order_id")]
pub(crate) struct OrderCreated {
    pub(crate) order_id: String,
    pub(crate) quantity: u32,
}

impl OrderCreated {
    pub(crate) fn new(order_id: &str, quantity: u32) -> Self {
        Self { order_id: order_id.to_owned(), quantity }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "stock.reserved", topic = "stock", key = "order_id")]
pub(crate) struct StockReserved {
    pub(crate) order_id: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "stock.level", topic = "stock")]
pub(crate) struct StockLevel {
    pub(crate) left: u32,
    pub(crate) told_by: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "stock.check", topic = "stock", reply = StockLevel)]
pub(crate) struct CheckStock {
    pub(crate) product: String,
}
