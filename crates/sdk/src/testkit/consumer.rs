//! A consumer whose deliveries come twice, late, or in another order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Either, pending, select};
use tokio::time::Instant;
use types::Timestamp;

use super::faulty::Fate;
use super::plan::Fault;
use super::settler::FaultySettler;
use crate::transport::{Consumer, Delivery, Settle, Settler, Transport, TransportError};

/// How long a delivery waits for another to overtake it, in real time.
const OVERTAKEN_WITHIN: Duration = Duration::from_millis(20);

/// Why a delivery is held back.
enum Held {
    /// Until this time of the transport's clock.
    Until(Timestamp),
    /// Until another was handed out, or until this moment of real time.
    UntilOvertaken(Instant),
}

pub(super) struct FaultyConsumer {
    inner: Box<dyn Consumer>,
    transport: Arc<dyn Transport>,
    fate: Arc<Fate>,
    settler: Arc<FaultySettler>,
    ready: VecDeque<Delivery>,
    /// At most what the consumer's credit lets out.
    held: Vec<(Held, Delivery)>,
    ended: bool,
}

impl FaultyConsumer {
    pub(super) fn new(inner: Box<dyn Consumer>, transport: Arc<dyn Transport>, fate: Arc<Fate>) -> Self {
        let settler = Arc::new(FaultySettler::new(inner.settler(), fate.clone()));
        Self { inner, transport, fate, settler, ready: VecDeque::new(), held: Vec::new(), ended: false }
    }

    /// Decides what becomes of what the broker delivered.
    fn take_in(&mut self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let copies = if self.fate.strikes(Fault::Duplicate) { 2 } else { 1 };
            for copy in self.settler.enter(delivery, copies) {
                if self.fate.strikes(Fault::Delay) {
                    let until = self.transport.now().after(self.fate.delay());
                    self.held.push((Held::Until(until), copy));
                } else if self.fate.strikes(Fault::Reorder) {
                    self.held.push((Held::UntilOvertaken(Instant::now() + OVERTAKEN_WITHIN), copy));
                } else {
                    self.ready.push_back(copy);
                }
            }
        }
    }

    /// What is ready, and behind it what it overtook.
    fn hand_out(&mut self) -> Option<Vec<Delivery>> {
        let (now, moment) = (self.transport.now(), Instant::now());
        self.release_held(|held| match held {
            Held::Until(time) => *time <= now,
            Held::UntilOvertaken(latest) => *latest <= moment,
        });
        if self.ready.is_empty() {
            return None;
        }
        self.release_held(|held| matches!(held, Held::UntilOvertaken(_)));
        Some(self.ready.drain(..).collect())
    }

    fn release_held(&mut self, due: impl Fn(&Held) -> bool) {
        let (released, held): (Vec<_>, Vec<_>) = self.held.drain(..).partition(|(held, _)| due(held));
        self.held = held;
        self.ready.extend(released.into_iter().map(|(_, delivery)| delivery));
    }

    /// Ready when something that is held back may go.
    fn next_due(&self) -> BoxFuture<'static, ()> {
        let mut time: Option<Timestamp> = None;
        let mut moment: Option<Instant> = None;
        for (held, _) in &self.held {
            match held {
                Held::Until(due) => time = Some(time.map_or(*due, |time| time.min(*due))),
                Held::UntilOvertaken(latest) => moment = Some(moment.map_or(*latest, |moment| moment.min(*latest))),
            }
        }
        let time = time.map_or_else(|| pending().boxed(), |due| self.transport.sleep(due.since(self.transport.now())));
        let moment = moment.map_or_else(|| pending().boxed(), |latest| tokio::time::sleep_until(latest).boxed());
        select(time, moment).map(drop).boxed()
    }
}

impl Consumer for FaultyConsumer {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<Delivery>>, TransportError>> {
        // Whatever was taken from the broker is in `self` before anything is waited for, so that this may be dropped at any time.
        async move {
            loop {
                if let Some(deliveries) = self.hand_out() {
                    return Ok(Some(deliveries));
                }
                if self.ended && self.held.is_empty() {
                    return Ok(None);
                }
                if self.ended {
                    self.next_due().await;
                    continue;
                }
                let due = self.next_due();
                let came = match select(self.inner.next(), due).await {
                    Either::Left((next, _)) => Some(next?),
                    Either::Right(((), _)) => None,
                };
                match came {
                    Some(Some(deliveries)) => self.take_in(deliveries),
                    Some(None) => self.ended = true,
                    None => {}
                }
            }
        }
        .boxed()
    }

    fn settler(&self) -> Arc<dyn Settler> {
        self.settler.clone()
    }

    fn stop(&mut self) {
        // What waits here goes back to the queue, as what waits in the transport does.
        let held = std::mem::take(&mut self.held).into_iter().map(|(_, delivery)| delivery);
        let waiting = self.ready.drain(..).chain(held).map(|delivery| (delivery.tag, Settle::Release)).collect();
        self.settler.settle_as_told(waiting);
        self.inner.stop();
    }
}
