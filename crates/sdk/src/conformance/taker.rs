//! A standing consumer as cases use it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::ground::{Failure, Proof, check, text_of, texts};
use crate::transport::{Consumer, Delivery, Settle, Settler};

/// Of many deliveries that came, so many are shown.
const SHOWN: usize = 10;

/// Takes deliveries one by one or so many at a time, and waits for them only so long.
pub(super) struct Taker {
    consumer: Box<dyn Consumer>,
    settler: Arc<dyn Settler>,
    ready: VecDeque<Delivery>,
    pub(super) patience: Duration,
    quiet: Duration,
}

impl Taker {
    pub(super) fn new(consumer: Box<dyn Consumer>, patience: Duration, quiet: Duration) -> Self {
        let settler = consumer.settler();
        Self { consumer, settler, ready: VecDeque::new(), patience, quiet }
    }

    /// So many deliveries.
    pub(super) async fn take(&mut self, count: usize) -> Proof<Vec<Delivery>> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            if let Some(delivery) = self.ready.pop_front() {
                taken.push(delivery);
                continue;
            }
            let came = || {
                let last = bodies(taken.get(taken.len().saturating_sub(SHOWN)..).unwrap_or_default());
                format!("expected {count} deliveries, and {} came (the last: {last:?})", taken.len())
            };
            match tokio::time::timeout(self.patience, self.consumer.next()).await {
                Err(_) => return Err(Failure(format!("{} within {:?}", came(), self.patience))),
                Ok(Ok(None)) => return Err(Failure(format!("{} before the consumer ended", came()))),
                Ok(Ok(Some(more))) => {
                    check(!more.is_empty(), || "expected at least one delivery at a time, and none came".to_owned())?;
                    self.ready.extend(more);
                }
                Ok(Err(error)) => return Err(Failure(format!("{}, then the error: {error}", came()))),
            }
        }
        Ok(taken)
    }

    /// One delivery.
    pub(super) async fn one(&mut self) -> Proof<Delivery> {
        self.take(1).await?.pop().ok_or_else(|| Failure("expected a delivery".to_owned()))
    }

    /// One delivery with this body.
    pub(super) async fn one_with(&mut self, body: &str) -> Proof<Delivery> {
        let delivery = self.one().await?;
        let came = text_of(&delivery.message);
        check(came == body, || format!("expected the message {body:?}, and {came:?} came"))?;
        Ok(delivery)
    }

    /// Nothing must come. `what` is what it would be.
    pub(super) async fn nothing_more(&mut self, what: &str) -> Proof {
        if self.ready.is_empty() {
            match tokio::time::timeout(self.quiet, self.consumer.next()).await {
                Err(_) => return Ok(()),
                Ok(Ok(Some(more))) => self.ready.extend(more),
                Ok(Ok(None)) => return Err(Failure("expected a consumer that waits, and it ended".to_owned())),
                Ok(Err(error)) => return Err(error.into()),
            }
        }
        Err(Failure(format!("expected nothing, and {what} came: {:?}", bodies(self.ready.make_contiguous()))))
    }

    /// What it still hands out after it was stopped, until it ends.
    pub(super) async fn rest(&mut self) -> Proof<Vec<Delivery>> {
        let mut rest: Vec<Delivery> = self.ready.drain(..).collect();
        loop {
            match tokio::time::timeout(self.patience, self.consumer.next()).await {
                Err(_) => {
                    let waited = self.patience;
                    return Err(Failure(format!("expected a stopped consumer to end, and it waits after {waited:?}")));
                }
                Ok(next) => match next? {
                    Some(more) => rest.extend(more),
                    None => return Ok(rest),
                },
            }
        }
    }

    pub(super) fn stop(&mut self) {
        self.consumer.stop();
    }

    pub(super) fn consumer(&mut self) -> &mut dyn Consumer {
        &mut *self.consumer
    }

    pub(super) fn settler(&self) -> Arc<dyn Settler> {
        self.settler.clone()
    }

    pub(super) fn settle(&self, delivery: &Delivery, how: Settle) {
        self.settler.settle(vec![(delivery.tag, how)]);
    }

    pub(super) fn ack(&self, deliveries: &[Delivery]) {
        self.settler.settle(deliveries.iter().map(|delivery| (delivery.tag, Settle::Ack)).collect());
    }

    /// Acknowledges one with this body.
    pub(super) async fn ack_one(&mut self, body: &str) -> Proof {
        let delivery = self.one_with(body).await?;
        self.ack(&[delivery]);
        Ok(())
    }

    /// Fails one attempt, as the policy says or with a wait.
    pub(super) fn fail(&self, delivery: &Delivery, after: Option<Duration>, error: &str) {
        self.settle(delivery, Settle::Retry { after, error: error.to_owned() });
    }

    /// All settlements have reached the broker.
    pub(super) async fn flush(&mut self) -> Proof {
        let settler = self.settler.clone();
        let flushed = tokio::time::timeout(self.patience, settler.flush()).await;
        flushed.map_err(|_| Failure(format!("expected a flush to end, and it waits after {:?}", self.patience)))
    }
}

/// The bodies of deliveries as text.
pub(super) fn bodies(deliveries: &[Delivery]) -> Vec<String> {
    texts(deliveries.iter().map(|delivery| &delivery.message))
}
