//! Messages of higher priority first.

use super::{cases, has};
use crate::Envelope;
use crate::conformance::ground::{Ground, Proof, message, same, texts, to_queue};

cases! {
    has("priority") => higher_priorities_come_first_and_equal_ones_in_order,
}

async fn higher_priorities_come_first_and_equal_ones_in_order(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |queue| queue.priority_levels = Some(10)).await?;
    let with =
        |priority, body: &str| to_queue(&queue, Envelope { priority: Some(priority), ..message("", body.to_owned()) });
    ground.publish(vec![with(0, "e"), with(5, "c"), with(9, "a"), with(5, "d"), with(9, "b")]).await?;
    ground.publish(vec![to_queue(&queue, message("", "f"))]).await?;
    // One at a time, so that the client has no choice.
    let mut taker = ground.consumer(&queue, 1).await?;
    let mut came = Vec::new();
    for _ in 0..6 {
        let delivery = taker.one().await?;
        came.extend(texts([&delivery.message]));
        taker.ack(&[delivery]);
    }
    same("the order", came, ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec())
}
