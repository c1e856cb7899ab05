//! The six services.

pub mod analytics;
pub mod inventory;
pub mod loyalty;
pub mod notification;
pub mod order;
pub mod payment;
mod run;

use std::fmt;

/// Which service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Name {
    /// Takes orders and runs the checkout.
    Order,
    /// Takes money.
    Payment,
    /// Has the goods.
    Inventory,
    /// Tells customers.
    Notification,
    /// Gives points.
    Loyalty,
    /// Counts what was sold.
    Analytics,
}

impl Name {
    /// All of them, in the order in which they are started.
    pub const ALL: [Self; 6] =
        [Self::Payment, Self::Inventory, Self::Order, Self::Notification, Self::Loyalty, Self::Analytics];

    /// As the service calls itself.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Order => order::NAME,
            Self::Payment => payment::NAME,
            Self::Inventory => inventory::NAME,
            Self::Notification => notification::NAME,
            Self::Loyalty => loyalty::NAME,
            Self::Analytics => analytics::NAME,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The dead-letter queues of all that reads the events of orders: where a message that nobody can read has to end.
#[must_use]
pub fn event_dead_letter_queues() -> Vec<String> {
    [notification::QUEUE, loyalty::QUEUE, analytics::QUEUE].into_iter().map(|queue| format!("{queue}.dlq")).collect()
}

/// The queues that are empty when the shop is still.
#[must_use]
pub fn queues(replay: bool) -> Vec<&'static str> {
    let mut queues = vec![order::SAGA_QUEUE, notification::QUEUE, loyalty::QUEUE];
    if !replay {
        queues.push(analytics::QUEUE);
    }
    queues
}
