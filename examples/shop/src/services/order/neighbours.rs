//! The services that the front asks while the customer waits: the inventory by REST, the payment service by gRPC.

use std::time::Duration;

use tonic::metadata::MetadataMap;
use tonic::transport::Endpoint;
use tonic::{Code, Extensions, Request};
use tower::BoxError;

use super::super::inventory::{StockAnswer, StockCheck};
use super::super::payment::quotes::quotes_client::QuotesClient;
use super::super::payment::quotes::{Item, QuoteReply, QuoteRequest};
use crate::contracts::{Line, PricedLine};
use crate::http::client;
use crate::resilient::{ATTEMPT_LIMIT, CallError, Resilient};
use crate::traces;

/// Time to connect.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);

/// What a basket costs.
#[derive(Clone, Debug)]
pub(super) struct Quote {
    pub(super) lines: Vec<PricedLine>,
    pub(super) fee_cents: i64,
    pub(super) total_cents: i64,
}

/// Why there is no quote.
pub(super) enum NoQuote {
    /// There will be none for this basket.
    Refused(String),
    /// The payment service cannot be asked at the moment.
    Unanswered(CallError),
}

/// The services that are asked.
#[derive(Debug)]
pub(super) struct Neighbours {
    inventory: Resilient<StockCheck, StockAnswer>,
    payment: Resilient<QuoteRequest, Result<QuoteReply, String>>,
}

impl Neighbours {
    /// At these addresses. Nothing is connected yet.
    pub(super) fn new(inventory: &str, payment: &str) -> anyhow::Result<Self> {
        let http = client(ATTEMPT_LIMIT)?;
        let url = reqwest::Url::parse(inventory)?.join("/stock/check")?;
        let inventory = Resilient::new("inventory", move |ask: StockCheck| {
            let sent = http.post(url.clone()).headers(traces::headers()).json(&ask).send();
            async move { Ok(sent.await?.error_for_status()?.json().await?) }
        })?;
        let channel = Endpoint::from_shared(payment.to_owned())?.connect_timeout(CONNECT_LIMIT).connect_lazy();
        let payment = Resilient::new("payment", move |ask: QuoteRequest| {
            let mut client = QuotesClient::new(channel.clone());
            let ask = Request::from_parts(MetadataMap::from_headers(traces::headers()), Extensions::default(), ask);
            async move {
                match client.quote(ask).await {
                    Ok(quote) => Ok(Ok(quote.into_inner())),
                    // It was heard and understood: that is an answer, and no failure.
                    Err(status) if status.code() == Code::InvalidArgument => Ok(Err(status.message().to_owned())),
                    Err(status) => Err(BoxError::from(status)),
                }
            }
        })?;
        Ok(Self { inventory, payment })
    }

    /// What there is not enough of at the moment.
    pub(super) async fn missing(&self, lines: &[Line]) -> Result<Vec<String>, CallError> {
        Ok(self.inventory.call(StockCheck { lines: lines.to_vec() }).await?.missing)
    }

    /// What a basket costs.
    pub(super) async fn quote(&self, customer_id: &str, lines: &[Line]) -> Result<Quote, NoQuote> {
        let items = lines.iter().map(|line| Item { sku: line.sku.clone(), quantity: line.quantity }).collect();
        let ask = QuoteRequest { customer_id: customer_id.to_owned(), items };
        let quote = self.payment.call(ask).await.map_err(NoQuote::Unanswered)?.map_err(NoQuote::Refused)?;
        let lines = quote.items.into_iter().map(|item| PricedLine {
            sku: item.sku,
            quantity: item.quantity,
            price_cents: item.price_cents,
        });
        Ok(Quote { lines: lines.collect(), fee_cents: quote.fee_cents, total_cents: quote.total_cents })
    }
}
