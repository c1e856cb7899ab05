//! The books of the shop: what its databases and dead-letter queues say when everything is still, and whether it fits together.
//!
//! [`audit`] is a function of plain data, so that it can be shown to fail: its tests cook the books in every way that they are meant to find.

mod audit;
mod read;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use self::audit::{Audit, Check, audit};
pub use self::read::{ServiceCounts, counts, read};
use crate::contracts::{Line, PricedLine};

/// Everything that is looked at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Books {
    /// Orders that the front said it has.
    pub accepted: BTreeSet<String>,
    /// The order service.
    pub orders: Vec<Order>,
    /// The inventory's articles.
    pub stock: Vec<Stock>,
    /// The inventory's reservations.
    pub reservations: Vec<Reservation>,
    /// The payment service.
    pub payments: Vec<Payment>,
    /// Its ledger.
    pub entries: Vec<Entry>,
    /// The orders of the notification service's rows, one for each row.
    pub notifications: Vec<String>,
    /// The loyalty service's awards.
    pub awards: Vec<Award>,
    /// Its customers and their points.
    pub points: BTreeMap<String, i64>,
    /// The orders in the sales report, and their totals.
    pub sales: Vec<(String, i64)>,
    /// The report's lines.
    pub report: Vec<ReportLine>,
    /// Messages that nobody could read, put in on purpose.
    pub poison: Vec<Poison>,
    /// The dead-letter queues in which each of them has to be.
    pub poisoned_queues: Vec<String>,
    /// All dead letters.
    pub dead_letters: Vec<DeadLetter>,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Not known yet.
    Pending,
    /// It is paid and its goods are set aside.
    Confirmed,
    /// Everything that was done for it is undone.
    Cancelled,
}

impl Fate {
    /// As it is in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Cancelled => "cancelled",
        }
    }

    /// From the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Confirmed, Self::Cancelled].into_iter().find(|fate| fate.as_str() == text)
    }
}

/// An order of the order service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub order_id: String,
    /// Whose it is.
    pub customer_id: String,
    /// What became of it.
    pub fate: Fate,
    /// What is in it.
    pub lines: Vec<PricedLine>,
    /// What paying costs.
    pub fee_cents: i64,
    /// Lines and fee.
    pub total_cents: i64,
    /// Why it was cancelled.
    pub reason: Option<String>,
}

/// An article of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stock {
    /// Which one.
    pub sku: String,
    /// Pieces in the beginning.
    pub initial: i64,
    /// Pieces that nobody has reserved.
    pub available: i64,
}

/// Goods of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Whose they are.
    pub order_id: String,
    /// They are set aside; if not, they were put back.
    pub held: bool,
    /// What.
    pub lines: Vec<Line>,
}

/// How a payment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paid {
    /// The money was taken.
    Taken,
    /// The money was taken and given back.
    Refunded,
    /// The bank declined, so that nothing was taken.
    Declined,
    /// It was called off before anything was taken.
    Void,
}

impl Paid {
    /// As it is in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refunded => "refunded",
            Self::Declined => "declined",
            Self::Void => "void",
        }
    }

    /// From the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Taken, Self::Refunded, Self::Declined, Self::Void].into_iter().find(|paid| paid.as_str() == text)
    }
}

/// The payment of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// Which order.
    pub order_id: String,
    /// How much.
    pub amount_cents: i64,
    /// How it stands.
    pub paid: Paid,
}

/// A line of the ledger: money that an account got, or gave if it is negative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// For which order.
    pub order_id: String,
    /// [`SHOP`], or a customer.
    pub account: String,
    /// How much.
    pub amount_cents: i64,
}

/// The shop's own account.
pub const SHOP: &str = "shop";

/// Points for an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Award {
    /// Which order.
    pub order_id: String,
    /// Who got them.
    pub customer_id: String,
    /// How many.
    pub points: i64,
}

/// A line of the sales report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportLine {
    /// The article.
    pub sku: String,
    /// Pieces sold.
    pub units: i64,
    /// For how much.
    pub revenue_cents: i64,
}

/// What is wrong with a message that was put in on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ill {
    /// Its body is no JSON.
    Garbled,
    /// It lacks a field.
    Incomplete,
    /// Its version is unknown.
    FromTheFuture,
    /// Its content type is another.
    Foreign,
}

impl Ill {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Garbled, Self::Incomplete, Self::FromTheFuture, Self::Foreign];

    /// What the reason of its dead letter has to speak of.
    #[must_use]
    pub const fn symptom(self) -> &'static str {
        match self {
            Self::Garbled => "expected value",
            Self::Incomplete => "missing field",
            Self::FromTheFuture => "version",
            Self::Foreign => "text/plain",
        }
    }
}

/// A message that nobody can read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poison {
    /// Its id.
    pub message_id: String,
    /// What is wrong with it.
    pub ill: Ill,
}

/// A message in a dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The dead-letter queue.
    pub queue: String,
    /// The message.
    pub message_id: String,
    /// Why it is there.
    pub reason: String,
}
