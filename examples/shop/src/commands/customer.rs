//! Customers: they make up orders, and insist.

use std::time::Duration;

use anyhow::Context;
use reqwest::StatusCode;
use serde_json::Value;

use crate::books::Fate;
use crate::catalogue::ARTICLES;
use crate::contracts::Line;
use crate::http::client;
use crate::services::order::PlaceOrder;

/// Customers that there are.
const CUSTOMERS: usize = 25;
/// Lines of an order, and pieces of a line, at most.
const MOST: (usize, u32) = (3, 3);
/// Time for one attempt.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);
/// The pause before an order is sent again.
const AGAIN: Duration = Duration::from_millis(250);

/// Makes up orders: the same ones from the same seed.
#[derive(Debug)]
pub(super) struct Orders {
    random: fastrand::Rng,
    run: String,
    made: u64,
}

impl Orders {
    /// Their ids begin with this.
    pub(super) fn new(run: impl Into<String>, seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), run: run.into(), made: 0 }
    }

    pub(super) fn next(&mut self) -> PlaceOrder {
        let random = &mut self.random;
        let (most_lines, most_pieces) = MOST;
        let count = random.usize(1..=most_lines);
        let skus = random.choose_multiple(ARTICLES.iter(), count);
        let lines =
            skus.into_iter().map(|article| Line { sku: article.sku.to_owned(), quantity: random.u32(1..=most_pieces) });
        let lines = lines.collect();
        self.made += 1;
        PlaceOrder {
            order_id: Some(format!("{}-{:05}", self.run, self.made)),
            customer_id: format!("customer-{:02}", self.random.usize(1..=CUSTOMERS)),
            lines,
        }
    }
}

/// What came of placing an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// 202: it is the shop's now.
    Accepted,
    /// The shop does not want it.
    Refused(String),
    /// There was no answer for as long as the customer had patience. The shop may have it all the same.
    Unanswered(String),
}

/// A way to the front.
#[derive(Clone, Debug)]
pub(super) struct Front {
    http: reqwest::Client,
    url: String,
}

impl Front {
    pub(super) fn new(url: impl Into<String>) -> anyhow::Result<Self> {
        Ok(Self { http: client(ATTEMPT_LIMIT)?, url: url.into() })
    }

    /// Places an order, again and again until there is an answer: its id makes that harmless.
    pub(super) async fn place(&self, order: &PlaceOrder, patience: Duration) -> Answer {
        let mut last = "nothing was tried".to_owned();
        let insisting = async {
            loop {
                match self.try_once(order).await {
                    Ok(answer) => return answer,
                    Err(error) => last = format!("{error:#}"),
                }
                tokio::time::sleep(AGAIN.mul_f64(0.5 + fastrand::f64())).await;
            }
        };
        match tokio::time::timeout(patience, insisting).await {
            Ok(answer) => answer,
            Err(_) => Answer::Unanswered(last),
        }
    }

    async fn try_once(&self, order: &PlaceOrder) -> anyhow::Result<Answer> {
        let answer = self.http.post(format!("{}/orders", self.url)).json(order).send().await?;
        let status = answer.status();
        if status == StatusCode::ACCEPTED {
            return Ok(Answer::Accepted);
        }
        let body: Value = answer.json().await.unwrap_or_default();
        let why = body.get("error").and_then(Value::as_str).unwrap_or("no reason given").to_owned();
        anyhow::ensure!(status.is_client_error(), "{status}: {why}");
        Ok(Answer::Refused(why))
    }

    /// What became of an order, and why.
    pub(super) async fn see(&self, order_id: &str) -> anyhow::Result<(Fate, Option<String>)> {
        let answer = self.http.get(format!("{}/orders/{order_id}", self.url)).send().await?.error_for_status()?;
        let body: Value = answer.json().await?;
        let state =
            body.get("state").and_then(Value::as_str).and_then(Fate::parse).context("an order without a state")?;
        Ok((state, body.get("reason").and_then(Value::as_str).map(str::to_owned)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_orders_and_all_of_them_can_be_priced() {
        let (mut one, mut other) = (Orders::new("o", 7), Orders::new("o", 7));
        for number in 1..=200 {
            let order = one.next();
            assert_eq!(order, other.next());
            assert_eq!(order.order_id.as_deref(), Some(format!("o-{number:05}").as_str()));
            crate::catalogue::price(&order.lines).unwrap();
        }
    }
}
