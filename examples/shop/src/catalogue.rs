//! What the shop sells, and for how much.

use crate::contracts::{Line, PricedLine};

/// An article.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Article {
    /// Its name.
    pub sku: &'static str,
    /// Price of one piece.
    pub price_cents: i64,
}

/// All articles.
pub const ARTICLES: [Article; 8] = [
    Article { sku: "mug", price_cents: 850 },
    Article { sku: "teapot", price_cents: 3_490 },
    Article { sku: "kettle", price_cents: 5_900 },
    Article { sku: "spoon", price_cents: 320 },
    Article { sku: "saucer", price_cents: 590 },
    Article { sku: "tray", price_cents: 2_150 },
    Article { sku: "sieve", price_cents: 480 },
    Article { sku: "caddy", price_cents: 1_290 },
];

/// What paying by card costs the customer.
pub const CARD_FEE_CENTS: i64 = 35;

/// The order has so many lines at most.
pub const MAX_LINES: usize = 16;

/// A line has so many pieces at most.
pub const MAX_QUANTITY: u32 = 100;

/// Why an order cannot be priced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BasketError {
    /// There is nothing in it, or too much.
    #[error("an order has 1 to {MAX_LINES} lines, not {0}")]
    Lines(usize),
    /// A line of nothing, or of too much.
    #[error("a line has 1 to {MAX_QUANTITY} pieces, not {quantity} of {sku:?}")]
    Quantity {
        /// The article.
        sku: String,
        /// How many.
        quantity: u32,
    },
    /// It is not sold here.
    #[error("there is no article {0:?}")]
    Unknown(String),
    /// It is there twice.
    #[error("{0:?} is in the order twice; put its pieces into one line")]
    Twice(String),
}

/// Prices a basket.
///
/// # Errors
/// [`BasketError`].
pub fn price(lines: &[Line]) -> Result<Vec<PricedLine>, BasketError> {
    if lines.is_empty() || lines.len() > MAX_LINES {
        return Err(BasketError::Lines(lines.len()));
    }
    let mut priced: Vec<PricedLine> = Vec::with_capacity(lines.len());
    for Line { sku, quantity } in lines {
        if !(1..=MAX_QUANTITY).contains(quantity) {
            return Err(BasketError::Quantity { sku: sku.clone(), quantity: *quantity });
        }
        let article = ARTICLES.iter().find(|article| article.sku == sku);
        let article = article.ok_or_else(|| BasketError::Unknown(sku.clone()))?;
        if priced.iter().any(|line| line.sku == *sku) {
            return Err(BasketError::Twice(sku.clone()));
        }
        priced.push(PricedLine { sku: sku.clone(), quantity: *quantity, price_cents: article.price_cents });
    }
    Ok(priced)
}

/// Price of all lines and the fee.
#[must_use]
pub fn total_cents(lines: &[PricedLine], fee_cents: i64) -> i64 {
    lines.iter().map(PricedLine::total_cents).fold(fee_cents, i64::saturating_add)
}

/// Points for an order: one for each whole unit of money.
#[must_use]
pub const fn points(total_cents: i64) -> i64 {
    total_cents / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sku: &str, quantity: u32) -> Line {
        Line { sku: sku.to_owned(), quantity }
    }

    #[test]
    fn a_basket_is_priced_line_by_line() {
        let priced = price(&[line("mug", 2), line("teapot", 1)]).unwrap();
        assert_eq!(total_cents(&priced, CARD_FEE_CENTS), 2 * 850 + 3_490 + 35);
        assert_eq!(points(5_225), 52);
    }

    #[test]
    fn a_basket_that_makes_no_sense_is_refused() {
        assert_eq!(price(&[]), Err(BasketError::Lines(0)));
        assert_eq!(price(&[line("yacht", 1)]), Err(BasketError::Unknown("yacht".to_owned())));
        assert_eq!(price(&[line("mug", 1), line("mug", 2)]), Err(BasketError::Twice("mug".to_owned())));
        let none = BasketError::Quantity { sku: "mug".to_owned(), quantity: 0 };
        assert_eq!(price(&[line("mug", 0)]), Err(none));
    }
}
