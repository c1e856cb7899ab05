//! Messages that nobody can read, among those that everybody reads.

use std::sync::Arc;
use std::time::Duration;

use sdk::contract::{Message, encode};
use sdk::transport::{Destination, Transport};
use sdk::{Client, Envelope, Publishing, headers};
use tokio_util::sync::CancellationToken;
use types::Value;

use crate::books::{Ill, Poison};
use crate::contracts::{ORDERS, OrderConfirmed};

/// The longest pause between two.
const PAUSE: Duration = Duration::from_secs(4);
/// The pause before one is published again that was not confirmed.
const AGAIN: Duration = Duration::from_millis(200);
/// Most of them; they are all looked at in the end.
const MOST: usize = 300;

/// Puts them in until it is stopped; those that were surely published.
pub(super) async fn poisoner(transport: Arc<dyn Transport>, seed: u64, stop: CancellationToken) -> Vec<Poison> {
    let client = Client::new(transport);
    let mut random = fastrand::Rng::with_seed(seed);
    let mut poison = Vec::new();
    while poison.len() < MOST {
        let pause = PAUSE.mul_f64(random.f64());
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => break,
        }
        let ill = random.choice(Ill::ALL).unwrap_or(Ill::Garbled);
        let message_id = format!("poison-{seed}-{:03}", poison.len());
        // It is published for as long as it takes, so that its dead letters can be counted on.
        while let Err(error) = client.send(publishing(&message_id, ill)).await {
            tracing::debug!(%error, message_id, "not published yet");
            tokio::time::sleep(AGAIN).await;
        }
        poison.push(Poison { message_id, ill });
    }
    poison
}

fn publishing(message_id: &str, ill: Ill) -> Publishing {
    let order_id = message_id.to_owned();
    let confirmed = OrderConfirmed { order_id, customer_id: "nobody".to_owned(), lines: Vec::new(), total_cents: 100 };
    let mut message = encode(&confirmed).unwrap_or_else(|_| Envelope::new(OrderConfirmed::NAME, ""));
    match ill {
        Ill::Garbled => message.body = Some("an order, surely".into()),
        Ill::Incomplete => message.body = Some("{\"order_id\":\"incomplete\"}".into()),
        Ill::FromTheFuture => headers::set_value(&mut message, headers::VERSION, Value::int(99)),
        Ill::Foreign => message.content_type = Some("text/plain".into()),
    }
    Publishing::envelope(Destination::Topic(ORDERS.to_owned()), message).id(message_id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdk::contract::decode;

    #[test]
    fn nobody_can_read_them_and_the_reason_speaks_of_what_is_wrong() {
        for ill in Ill::ALL {
            let error = decode::<OrderConfirmed>(publishing("p-1", ill).as_envelope()).unwrap_err().to_string();
            assert!(error.contains(ill.symptom()), "{ill:?}: {error}");
        }
    }
}
