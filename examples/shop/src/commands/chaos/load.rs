//! Customers who insist while everything around them dies.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::commands::brief;
use crate::commands::customer::{Answer, Front, Orders};
use crate::services::order::PlaceOrder;

/// How long a customer insists.
const PATIENCE: Duration = Duration::from_secs(90);
/// Orders that wait for their answer at a time. While the front is away, customers queue up to this, and no further.
const MAX_OPEN: usize = 256;

/// What the front said.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// 202.
    pub(super) accepted: BTreeSet<String>,
    /// Why others were refused, and how many.
    pub(super) refused: BTreeMap<String, u64>,
    /// Customers whose patience was over.
    pub(super) unanswered: u64,
}

/// How it goes, for the progress bar.
#[derive(Debug, Default)]
pub(super) struct Seen(AtomicU64);

impl Seen {
    pub(super) fn accepted(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Places orders until it is stopped, and waits for the answers to all of them.
pub(super) async fn customers(
    front: String,
    rate: u32,
    seed: u64,
    stop: CancellationToken,
    seen: Arc<Seen>,
) -> anyhow::Result<Tally> {
    let front = Front::new(front)?;
    let mut orders = Orders::new(format!("chaos-{seed}"), seed);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut open, mut tally) = (FuturesUnordered::new(), Tally::default());
    loop {
        let stopped = stop.is_cancelled();
        if stopped && open.is_empty() {
            return Ok(tally);
        }
        tokio::select! {
            _ = tick.tick(), if !stopped && open.len() < MAX_OPEN => open.push(place(&front, orders.next())),
            Some((order_id, answer)) = open.next() => match answer {
                Answer::Accepted => {
                    seen.0.fetch_add(1, Ordering::Relaxed);
                    tally.accepted.insert(order_id);
                }
                Answer::Refused(why) => *tally.refused.entry(brief(&why).to_owned()).or_default() += 1,
                Answer::Unanswered(_) => tally.unanswered += 1,
            },
            () = stop.cancelled(), if !stopped => {}
        }
    }
}

async fn place(front: &Front, order: PlaceOrder) -> (String, Answer) {
    let answer = front.place(&order, PATIENCE).await;
    (order.order_id.unwrap_or_default(), answer)
}
