//! Settlements of a consumer's stream: many frames a call, results in order.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use api::grpc as g;
use broker::queue::Settle;
use broker::{Receipt, Session, SettleError, Started};

use super::unsettled::Unsettled;
use crate::failure::Failure;
use crate::input::{self, How};
use crate::limits::{MAX_SETTLEMENTS, MAX_UNSETTLED};

/// Settlements that are made durable in one call.
pub(super) struct Batch {
    /// Number of the settlement after the last one that is in it.
    next: u64,
    receipts: Vec<(Receipt, Settle)>,
    /// Settlement and delivery of each receipt.
    numbers: Vec<(u64, u64)>,
    failures: Vec<g::StreamSettleFailure>,
}

/// What became of a batch.
pub(super) struct Settled {
    /// All settlements below this one are done.
    pub(super) through: u64,
    pub(super) failures: Vec<g::StreamSettleFailure>,
}

/// What settlements name: themselves, deliveries and ranges.
pub(super) fn entries(settlements: &[g::StreamSettlement]) -> usize {
    settlements.iter().map(|given| 1 + given.deliveries.len() + given.ranges.len()).sum()
}

impl Batch {
    /// Begins with the settlement of this number.
    pub(super) fn new(next: u64) -> Self {
        Self { next, receipts: Vec::new(), numbers: Vec::new(), failures: Vec::new() }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Whether it is as large as one call should be.
    pub(super) fn is_full(&self) -> bool {
        self.receipts.len() + self.failures.len() >= MAX_SETTLEMENTS
    }

    /// Adds a frame's settlements. Leases are extended at once.
    ///
    /// # Errors
    /// If the frame names too many deliveries; nothing of it was done.
    pub(super) fn add(
        &mut self,
        settlements: Vec<g::StreamSettlement>,
        unsettled: &mut Unsettled,
        session: &Session,
    ) -> Result<(), Failure> {
        if entries(&settlements) > MAX_SETTLEMENTS {
            let why = format!("a frame names at most {MAX_SETTLEMENTS} deliveries and ranges (MAX_SETTLEMENTS)");
            return Err(Failure::too_large(why, "MAX_SETTLEMENTS"));
        }
        // Ranges may lie over each other; all of them together are looked at as often as there may be deliveries.
        let mut left = MAX_UNSETTLED as u64;
        for given in settlements {
            let number = self.next;
            self.next += 1;
            let g::StreamSettlement { action, deliveries, ranges, after_ms, error, extend_ms } = given;
            let how = match input::how(action, after_ms, error, extend_ms) {
                Ok(how) => how,
                Err(failure) => {
                    self.fail(number, 0, failure);
                    continue;
                }
            };
            for delivery in deliveries {
                self.one(number, delivery, &how, unsettled, session, false);
            }
            for range in ranges {
                if range.first == 0 || range.first > range.last || range.last >= unsettled.next() {
                    let why = "a range is of deliveries of this stream, the first not behind the last";
                    self.fail(number, range.last, Failure::invalid("ranges", why));
                    continue;
                }
                let within = unsettled.within(range.first, range.last);
                let len = within.end.saturating_sub(within.start);
                if len > left {
                    let why = format!("the ranges of a frame span at most {MAX_UNSETTLED} deliveries (MAX_UNSETTLED)");
                    self.fail(number, range.last, Failure::too_large(why, "MAX_UNSETTLED").field("ranges"));
                    continue;
                }
                left -= len;
                for delivery in within {
                    self.one(number, delivery, &how, unsettled, session, true);
                }
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        number: u64,
        delivery: u64,
        how: &How,
        unsettled: &mut Unsettled,
        session: &Session,
        may_be_gone: bool,
    ) {
        let unknown = || Failure::from(SettleError::Lease(broker::queue::LeaseError::Unknown));
        match how {
            How::Settle(settle) => match unsettled.take(delivery) {
                Some(receipt) => {
                    self.receipts.push((receipt, settle.clone()));
                    self.numbers.push((number, delivery));
                }
                None if may_be_gone => {}
                None => self.fail(number, delivery, unknown()),
            },
            How::Extend(by) => match unsettled.get(delivery) {
                Some(receipt) => {
                    if let Err(error) = session.extend(receipt, *by) {
                        self.fail(number, delivery, error.into());
                    }
                }
                None if may_be_gone => {}
                None => self.fail(number, delivery, unknown()),
            },
        }
    }

    fn fail(&mut self, settlement: u64, delivery: u64, failure: Failure) {
        self.failures.push(g::StreamSettleFailure { settlement, delivery, problem: Some(failure.problem()) });
    }

    /// Begins to make it durable. What has nothing to wait for, such as leases that were extended, is done at once.
    pub(super) fn settle(self, session: &Session) -> Settling {
        let Self { next, receipts, numbers, failures } = self;
        let ends = (!receipts.is_empty()).then(|| session.start_settle(receipts));
        Settling { ends, next, numbers, failures }
    }
}

/// A batch under way. It began when it was made, so that settlements enter the broker in the order of their frames.
pub(super) struct Settling {
    ends: Option<Started<Vec<Result<(), SettleError>>>>,
    next: u64,
    numbers: Vec<(u64, u64)>,
    failures: Vec<g::StreamSettleFailure>,
}

impl Future for Settling {
    type Output = Settled;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Settled> {
        let results = match &mut self.ends {
            None => Vec::new(),
            Some(ends) => match Pin::new(ends).poll(context) {
                Poll::Ready(results) => results,
                Poll::Pending => return Poll::Pending,
            },
        };
        let (numbers, mut failures) = (std::mem::take(&mut self.numbers), std::mem::take(&mut self.failures));
        for ((settlement, delivery), result) in numbers.into_iter().zip(results) {
            if let Err(error) = result {
                let problem = Some(Failure::from(error).problem());
                failures.push(g::StreamSettleFailure { settlement, delivery, problem });
            }
        }
        Poll::Ready(Settled { through: self.next, failures })
    }
}
