//! Exchanges that are known to be there.
//!
//! A publish to a missing exchange closes the channel, and then those before it are sent again, since nobody knows which of them were stored. So that
//! a wrong name costs no copies, the broker is asked for a topic once before the first message goes there.

use std::collections::HashSet;

use lapin::ExchangeKind;
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::faults;
use super::link::Link;
use super::live;
use super::values::short;
use super::waits::unreached;
use crate::transport::PublishError;

/// Most names that are remembered; beyond it, all are forgotten and asked for again.
const MAX_REMEMBERED: usize = 10_000;

/// The exchanges.
#[derive(Default)]
pub(super) struct Known(Mutex<HashSet<String>>);

impl Known {
    /// Makes sure that a topic is there.
    ///
    /// # Errors
    /// It is not, or there is no connection in time.
    pub(super) async fn topic(&self, link: &Link, topic: &str, deadline: Instant) -> Result<(), PublishError> {
        self.exchange(link, topic, deadline, false).await
    }

    /// Makes sure that the exchange of live messages is there, by making it.
    ///
    /// # Errors
    /// It is not allowed, or there is no connection in time.
    pub(super) async fn live(&self, link: &Link, deadline: Instant) -> Result<(), PublishError> {
        self.exchange(link, live::EXCHANGE, deadline, true).await
    }

    /// It is gone.
    pub(super) fn forget(&self, exchange: &str) {
        self.0.lock().remove(exchange);
    }

    async fn exchange(&self, link: &Link, name: &str, deadline: Instant, make: bool) -> Result<(), PublishError> {
        if self.0.lock().contains(name) {
            return Ok(());
        }
        let exchange = short("the topic's name", name)?;
        loop {
            let channel = link.channel_by(deadline).await.map_err(|error| unreached(link, error))?;
            let asked = async {
                if make {
                    return live::declare_exchange(&channel).await;
                }
                let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
                channel.exchange_declare(exchange.clone(), ExchangeKind::Topic, passive, FieldTable::default()).await
            };
            match timeout_at(deadline, asked).await {
                Ok(Ok(())) => {
                    let mut known = self.0.lock();
                    if known.len() >= MAX_REMEMBERED {
                        known.clear();
                    }
                    known.insert(name.to_owned());
                    return Ok(());
                }
                Ok(Err(error)) if link.again(&error, deadline).await => {}
                Ok(Err(error)) if make || faults::is_not_found(&error) => {
                    return Err(faults::publish_error(&error, name));
                }
                // Who may not ask may publish for all that: the publish itself will tell.
                Ok(Err(error)) if faults::is_of_channel(&error) => return Ok(()),
                Ok(Err(_)) | Err(_) => {
                    return Err(PublishError::Unconfirmed { waited: link.options.confirm_timeout });
                }
            }
        }
    }
}
