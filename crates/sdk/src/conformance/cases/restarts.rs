//! What survives a restart of the broker, and what goes on by itself after one.

use super::retries::doubling;
use super::{CORE, cases, has};
use super::{PER_MESSAGE, broker};
use crate::Envelope;
use crate::conformance::ground::{Failure, Ground, Proof, message, same, text_of, texts, to_queue, to_topic};
use crate::transport::{Listener, Position, Reader, RetentionSpec, StartAt};

cases! {
    CORE.restarted() => confirmed_messages_survive_a_restart,
    CORE.restarted() => a_publish_waits_out_a_restart,
    CORE.restarted() => a_consumer_goes_on_after_a_restart,
    CORE.restarted() => acknowledged_messages_stay_gone_after_a_restart,
    PER_MESSAGE.restarted() => what_was_out_at_a_restart_comes_again,
    broker("retry").restarted() => a_wait_for_the_next_attempt_survives_a_restart,
    has("delay").restarted() => a_delay_survives_a_restart,
    has("live").restarted() => listeners_and_inboxes_go_on_after_a_restart,
    has("replay").restarted() => logs_and_committed_offsets_survive_a_restart,
    has("replay").restarted() => a_reader_that_follows_goes_on_after_a_restart,
}

async fn confirmed_messages_survive_a_restart(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let bodies: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    ground.publish(bodies.iter().map(|body| to_queue(&queue, message("", body.clone()))).collect()).await?;
    ground.restart().await;
    same("what was confirmed", ground.drain(&queue, 50).await?, bodies)
}

async fn a_publish_waits_out_a_restart(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let publishing = async {
        for n in 0..20 {
            ground.publish(vec![to_queue(&queue, message("", n.to_string()))]).await?;
            tokio::time::sleep(ground.quiet() / 10).await;
        }
        Proof::Ok(())
    };
    let (published, ()) = tokio::join!(publishing, ground.restart());
    published?;
    // One whose confirmation was lost with the connection was published again: at least once each.
    let mut taker = ground.consumer(&queue, 100).await?;
    let mut missing: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    while !missing.is_empty() {
        let delivery = taker.one().await.map_err(|Failure(why)| Failure(format!("{missing:?} are missing: {why}")))?;
        missing.retain(|body| *body != text_of(&delivery.message));
        taker.ack(&[delivery]);
    }
    Ok(())
}

async fn a_consumer_goes_on_after_a_restart(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    for round in ["1", "2", "3"] {
        ground.put(&queue, &[round]).await?;
        taker.ack_one(round).await?;
        taker.flush().await?;
        ground.restart().await;
    }
    ground.put(&queue, &["last"]).await?;
    taker.ack_one("last").await
}

async fn acknowledged_messages_stay_gone_after_a_restart(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1", "2"]).await?;
    ground.drain(&queue, 2).await?;
    ground.has_length(&queue, 0).await?;
    ground.restart().await;
    ground.drain(&queue, 0).await.map(drop)
}

async fn what_was_out_at_a_restart_comes_again(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1", "2"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let out = taker.take(2).await?;
    ground.restart().await;
    let again = taker.take(2).await?;
    same("what was out", texts(again.iter().map(|delivery| &delivery.message)), vec!["1".to_owned(), "2".to_owned()])?;
    // Tags from before the restart settle nothing.
    taker.ack(&out);
    taker.flush().await?;
    drop(taker);
    ground.drain(&queue, 2).await.map(drop)
}

async fn a_wait_for_the_next_attempt_survives_a_restart(ground: &Ground<'_>) -> Proof {
    let spec = crate::transport::RetrySpec { initial: ground.span() * 4, ..doubling(ground, None) };
    let queue = ground.queue("q", |queue| queue.retry = spec).await?;
    ground.put(&queue, &["1"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let first = taker.one().await?;
    let failed = ground.transport.now();
    taker.fail(&first, None, "the database is away");
    taker.flush().await?;
    ground.restart().await;
    let again = ground.arrives_after(&mut taker, failed, ground.span() * 4).await?;
    same("the attempt", again.attempt, 2)
}

async fn a_delay_survives_a_restart(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let since = ground.transport.now();
    let delay = ground.span() * 4;
    let delayed = Envelope { not_before: Some(since.after(delay)), ..message("", "later") };
    ground.publish(vec![to_queue(&queue, delayed)]).await?;
    ground.restart().await;
    let mut taker = ground.consumer(&queue, 5).await?;
    ground.arrives_after(&mut taker, since, delay).await?;
    taker.nothing_more("a second copy").await
}

/// Publishes again and again until the listener hears it, since what is published before it subscribed again is lost.
async fn heard_again(ground: &Ground<'_>, listener: &mut Box<dyn Listener>, subject: &str) -> Proof {
    let trying = async {
        loop {
            ground.publish_live(subject, "after").await?;
            let heard = tokio::time::timeout(ground.quiet(), listener.next()).await;
            if heard.is_ok_and(|heard| heard.is_some_and(|heard| text_of(&heard) == "after")) {
                return Ok(());
            }
        }
    };
    ground.soon("a listener that hears again", trying).await?
}

async fn listeners_and_inboxes_go_on_after_a_restart(ground: &Ground<'_>) -> Proof {
    let subject = ground.subject("tick");
    let mut listener = ground.listen(&subject, None).await?;
    let mut inbox = ground.soon("an inbox", ground.transport.open_inbox()).await??;
    let address = inbox.address();
    ground.restart().await;
    heard_again(ground, &mut listener, &subject).await?;
    let answering = async {
        loop {
            ground.transport.answer(&address, message("", "answer")).await?;
            if let Ok(Some(_)) = tokio::time::timeout(ground.quiet(), inbox.next()).await {
                return Ok(());
            }
        }
    };
    ground.soon("an inbox that gets answers again", answering).await?
}

async fn log(ground: &Ground<'_>) -> Proof<String> {
    ground.topic("log", |topic| topic.retention = Some(RetentionSpec::default())).await
}

async fn record(ground: &Ground<'_>, reader: &mut Box<dyn Reader>) -> Proof<Vec<String>> {
    let records = ground.soon("a record", reader.next()).await??.unwrap_or_default();
    Ok(texts(records.iter().map(|record| &record.message)))
}

async fn logs_and_committed_offsets_survive_a_restart(ground: &Ground<'_>) -> Proof {
    let topic = log(ground).await?;
    let name = ground.name("projection");
    ground.publish(["1", "2"].map(|body| to_topic(&topic, message("orders.created", body))).to_vec()).await?;
    let next = vec![Position { partition: 0, offset: 1 }];
    ground.transport.commit(&topic, &name, next.clone()).await?;
    ground.restart().await;
    let committed = ground.soon("committed offsets", ground.transport.committed(&topic, &name)).await??;
    same("what was committed", committed, next)?;
    let mut reader = ground.soon("a reader", ground.transport.read(&topic, StartAt::Earliest, false)).await??;
    let mut came = Vec::new();
    while let Some(records) = ground.soon("a record or the end", reader.next()).await?? {
        came.extend(texts(records.iter().map(|record| &record.message)));
    }
    same("the log", came, vec!["1".to_owned(), "2".to_owned()])
}

async fn a_reader_that_follows_goes_on_after_a_restart(ground: &Ground<'_>) -> Proof {
    let topic = log(ground).await?;
    let publish = |body: &'static str| ground.publish(vec![to_topic(&topic, message("orders.created", body))]);
    publish("1").await?;
    let mut reader = ground.soon("a reader", ground.transport.read(&topic, StartAt::Earliest, true)).await??;
    same("what was there", record(ground, &mut reader).await?, vec!["1".to_owned()])?;
    ground.restart().await;
    publish("2").await?;
    same("what came after, and nothing twice", record(ground, &mut reader).await?, vec!["2".to_owned()])
}
