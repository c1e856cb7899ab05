//! Where publishes go: exchanges and queues by name, remembered until a definition changes.

use std::collections::HashMap;
use std::sync::Arc;

use broker::access::Action;
use broker::live::INBOX_PREFIX;
use broker::{PublishTo, Session};
use bytes::Bytes;

use crate::entities::exchange::{self, Route};
use crate::entities::names::Kind;
use crate::entities::queue;
use crate::fault::Fault;

/// Most names that are remembered.
const MAX_TARGETS: usize = 16_384;

/// What names stand for.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// The number of the definitions that it goes by.
    number: u64,
    exchanges: HashMap<Bytes, Route>,
    queues: HashMap<Bytes, Option<Arc<PublishTo>>>,
    /// What was asked for last, which mostly is asked for next.
    last_exchange: Option<(Bytes, Route)>,
    last_queue: Option<(Bytes, Option<Arc<PublishTo>>)>,
    subject: Option<Arc<PublishTo>>,
}

impl Targets {
    /// What an exchange is; looked up if it is not remembered. The caller must be allowed to write to it.
    ///
    /// # Errors
    /// 403 and 404.
    pub(crate) fn exchange(&mut self, session: &Session, name: &Bytes) -> Result<Route, Fault> {
        self.refresh(session);
        let text = std::str::from_utf8(name)
            .map_err(|_| Fault::not_found("an exchange's name is UTF-8; what was published to is not"))?;
        // Permissions change without a definition.
        Kind::Exchange.may(session, Action::Write, text)?;
        if let Some((last, route)) = &self.last_exchange
            && last == name
        {
            return Ok(route.clone());
        }
        let route = match self.exchanges.get(name) {
            Some(route) => route.clone(),
            None => {
                let route = exchange::route(session, text)?;
                self.bounded();
                self.exchanges.insert(Bytes::copy_from_slice(name), route.clone());
                route
            }
        };
        self.last_exchange = Some((Bytes::copy_from_slice(name), route.clone()));
        Ok(route)
    }

    /// Where the default exchange leads a message of this routing key; `None` if nowhere.
    ///
    /// # Errors
    /// If the broker cannot say.
    pub(crate) fn queue(&mut self, session: &Session, key: &Bytes) -> Result<Option<Arc<PublishTo>>, Fault> {
        if key.starts_with(INBOX_PREFIX.as_bytes()) {
            return Ok(Some(Arc::clone(self.subject.get_or_insert_with(|| Arc::new(PublishTo::Subject)))));
        }
        self.refresh(session);
        if let Some((last, target)) = &self.last_queue
            && last == key
        {
            return Ok(target.clone());
        }
        if let Some((name, target)) = self.queues.get_key_value(key) {
            self.last_queue = Some((name.clone(), target.clone()));
            return Ok(target.clone());
        }
        let target = match std::str::from_utf8(key) {
            Ok(name) => queue::target(session, name)?.map(Arc::new),
            Err(_) => None,
        };
        self.bounded();
        self.queues.insert(Bytes::copy_from_slice(key), target.clone());
        Ok(target)
    }

    fn refresh(&mut self, session: &Session) {
        let number = session.broker().definitions_number();
        if number != self.number {
            self.number = number;
            self.exchanges.clear();
            self.queues.clear();
            (self.last_exchange, self.last_queue) = (None, None);
        }
    }

    fn bounded(&mut self) {
        if self.exchanges.len() + self.queues.len() >= MAX_TARGETS {
            self.exchanges.clear();
            self.queues.clear();
        }
    }
}
