//! Waits until nothing happens any more.

use std::time::Duration;

use sdk::transport::Transport;
use tokio::time::Instant;

use super::dead_letters;
use crate::books::{ServiceCounts, counts};
use crate::services::{event_dead_letter_queues, queues};
use crate::supervise::Shop;

/// How long the shop has to become still.
const LIMIT: Duration = Duration::from_secs(240);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);
/// Looks in a row that have to find it still: a message may be on its way from one place to the next.
const IN_A_ROW: u32 = 4;

/// Waits. What is not still after all that time, if anything: the books will tell what that means.
pub(super) async fn wait_until_still(
    shop: &mut Shop,
    transport: &dyn Transport,
    poison: usize,
    mut show: impl FnMut(String),
) -> anyhow::Result<Option<String>> {
    let end = Instant::now() + LIMIT;
    let (mut still, mut last) = (0, ServiceCounts::default());
    loop {
        if let Some(died) = shop.died() {
            anyhow::bail!("{died}");
        }
        let counts = counts(shop.layout()).await?;
        let waits = waiting(transport, &counts, poison).await;
        // Whatever changed, it is not still.
        still = if waits.is_empty() && counts == last { still + 1 } else { 0 };
        last = counts;
        if still >= IN_A_ROW {
            return Ok(None);
        }
        if Instant::now() >= end {
            return Ok(Some(if waits.is_empty() { "it never came to rest".to_owned() } else { waits.join(", ") }));
        }
        show(if waits.is_empty() {
            "looking whether it is still".to_owned()
        } else {
            format!("waiting for {}", waits.join(", "))
        });
        tokio::time::sleep(LOOK).await;
    }
}

/// What there is still to wait for.
async fn waiting(transport: &dyn Transport, counts: &ServiceCounts, poison: usize) -> Vec<String> {
    let mut waits = Vec::new();
    if counts.pending > 0 {
        waits.push(format!("{} pending orders", counts.pending));
    }
    if counts.outbox > 0 {
        waits.push(format!("{} messages in the outbox", counts.outbox));
    }
    for (what, rows) in [("notifications", counts.notifications), ("awards", counts.awards), ("sales", counts.sales)] {
        if rows < counts.confirmed {
            waits.push(format!("{} {what}", counts.confirmed - rows));
        }
    }
    for queue in queues(transport.capabilities().replay.is_there()) {
        match transport.queue_len(queue).await {
            Ok(0) => {}
            Ok(length) => waits.push(format!("{length} messages in {queue}")),
            Err(error) => waits.push(format!("the length of {queue} ({error})")),
        }
    }
    let poisoned = event_dead_letter_queues();
    for queue in dead_letters::queues() {
        let wanted = if poisoned.contains(&queue) { poison as u64 } else { 0 };
        match transport.queue_len(&queue).await {
            Ok(length) if length >= wanted => {}
            Ok(length) => waits.push(format!("{} dead letters in {queue}", wanted - length)),
            Err(error) => waits.push(format!("the length of {queue} ({error})")),
        }
    }
    waits
}
