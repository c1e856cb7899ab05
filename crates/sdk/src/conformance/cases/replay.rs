//! Reading a topic's log again, and where reading goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{cases, has};
use crate::Envelope;
use crate::conformance::ground::{Failure, Ground, Proof, check, message, same, text_of, texts, to_topic};
use crate::transport::{Position, Reader, Record, RetentionSpec, StartAt, TransportError};

cases! {
    has("replay") => a_log_is_read_from_its_beginning_to_its_end,
    has("replay") => a_published_message_is_where_the_answer_says,
    has("replay") => a_log_is_read_from_a_position,
    has("replay") => a_log_is_read_from_a_time,
    has("replay") => a_log_is_read_from_its_end,
    has("replay") => a_reader_that_follows_gets_what_is_published_later,
    has("replay") => a_log_of_several_partitions_keeps_the_order_of_each_key,
    has("replay") => a_log_does_not_depend_on_its_queues,
    has("replay") => a_missing_topic_is_told_to_its_reader,
    has("replay") => committed_offsets_are_kept_by_name,
}

/// A topic that keeps everything.
async fn log(ground: &Ground<'_>, partitions: u32) -> Proof<String> {
    ground
        .topic("log", |topic| {
            topic.retention = Some(RetentionSpec::default());
            topic.partitions = partitions;
        })
        .await
}

/// Publishes these bodies; where they are.
async fn publish(ground: &Ground<'_>, topic: &str, bodies: &[&str]) -> Proof<Vec<Option<Position>>> {
    let messages = bodies.iter().map(|body| to_topic(topic, message("orders.created", (*body).to_owned()))).collect();
    Ok(ground.publish(messages).await?.iter().map(|published| published.position).collect())
}

async fn reader(ground: &Ground<'_>, topic: &str, from: StartAt, follow: bool) -> Proof<Box<dyn Reader>> {
    Ok(ground.soon("a reader", ground.transport.read(topic, from, follow)).await??)
}

/// The next so many records.
async fn next(ground: &Ground<'_>, reader: &mut Box<dyn Reader>, count: usize) -> Proof<Vec<Record>> {
    let mut records = Vec::new();
    while records.len() < count {
        match ground.soon("a record", reader.next()).await?? {
            Some(more) => records.extend(more),
            None => {
                let came = texts(records.iter().map(|record| &record.message));
                return Err(Failure(format!("expected {count} records, and {came:?} came before the reading ended")));
            }
        }
    }
    Ok(records)
}

/// All records up to the end.
async fn all(ground: &Ground<'_>, topic: &str, from: StartAt) -> Proof<Vec<Record>> {
    let mut reader = reader(ground, topic, from, false).await?;
    let mut records = Vec::new();
    while let Some(more) = ground.soon("a record or the end", reader.next()).await?? {
        records.extend(more);
    }
    Ok(records)
}

fn words(records: &[Record]) -> Vec<String> {
    texts(records.iter().map(|record| &record.message))
}

fn owned(bodies: &[&str]) -> Vec<String> {
    bodies.iter().map(|body| (*body).to_owned()).collect()
}

async fn a_log_is_read_from_its_beginning_to_its_end(ground: &Ground<'_>) -> Proof {
    let topic = log(ground, 1).await?;
    same("an empty log", words(&all(ground, &topic, StartAt::Earliest).await?), Vec::new())?;
    let bodies: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    publish(ground, &topic, &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    for _ in 0..2 {
        same("the log, as often as it is read", words(&all(ground, &topic, StartAt::Earliest).await?), bodies.clone())?;
    }
    Ok(())
}

async fn a_published_message_is_where_the_answer_says(ground: &Ground<'_>) -> Proof {
    let topic = log(ground, 1).await?;
    let told = publish(ground, &topic, &["1", "2", "3"]).await?;
    let there: Vec<Position> =
        all(ground, &topic, StartAt::Earliest).await?.iter().map(|record| record.position).collect();
    for (told, there) in told.iter().zip(&there) {
        check(told.is_none_or(|told| told == *there), || {
            format!("expected the record at {told:?} as its publisher was told, and it is at {there:?}")
        })?;
    }
    same("how many records there are", there.len(), 3)
}

async fn a_log_is_read_from_a_position(ground: &Ground<'_>) -> Proof {
    let topic = log(ground, 1).await?;
    publish(ground, &topic, &["1", "2", "3", "4"]).await?;
    let records = all(ground, &topic, StartAt::Earliest).await?;
    for (at, record) in records.iter().enumerate() {
        let rest = all(ground, &topic, StartAt::Positions(vec![record.position])).await?;
        same("from a record on", words(&rest), words(records.get(at..).unwrap_or_default()))?;
    }
    same("without a position", words(&all(ground, &topic, StartAt::Positions(Vec::new())).await?).len(), 4)
}

async fn a_log_is_read_from_a_time(ground: &Ground<'_>) -> Proof {
    let topic = log(ground, 1).await?;
    publish(ground, &topic, &["1", "2"]).await?;
    ground.pass(Duration::from_millis(100)).await;
    let between = ground.transport.now();
    ground.pass(Duration::from_millis(100)).await;
    publish(ground, &topic, &["3", "4"]).await?;
    same("from a time", words(&all(ground, &topic, StartAt::Time(between)).await?), owned(&["3", "4"]))?;
    let future = between.after(Duration::from_secs(3600));
    same("from the future", words(&all(ground, &topic, StartAt::Time(future)).await?), Vec::new())
}

async fn a_log_is_read_from_its_end(ground: &Ground<'_>) -> Proof {
    let topic = log(ground, 1).await?;
    publish(ground, &topic, &["1", "2"]).await?;
    same("behind the newest", words(&all(ground, &topic, StartAt::Latest).await?), Vec::new())?;
    let mut reader = reader(ground, &topic, StartAt::Latest, true).await?;
    publish(ground, &topic, &["3"]).await?;
    same("what comes after", words(&next(ground, &mut reader, 1).await?), owned(&["3"]))
}

async fn a_reader_that_follows_gets_what_is_published_later(ground: &Ground<'_>) -> Proof {
    let topic = log(ground, 1).await?;
    publish(ground, &topic, &["1", "2"]).await?;
    let mut reader = reader(ground, &topic, StartAt::Earliest, true).await?;
    same("what was there", words(&next(ground, &mut reader, 2).await?), owned(&["1", "2"]))?;
    let more = tokio::time::timeout(ground.quiet(), reader.next()).await;
    check(more.is_err(), || format!("expected a reader that waits, and {more:?} came"))?;
    for body in ["3", "4", "5"] {
        publish(ground, &topic, &[body]).await?;
        same("what came later", words(&next(ground, &mut reader, 1).await?), owned(&[body]))?;
    }
    Ok(())
}

async fn a_log_of_several_partitions_keeps_the_order_of_each_key(ground: &Ground<'_>) -> Proof {
    let topic = log(ground, 4).await?;
    let keys = ["a", "b", "c", "d", "e", "f"];
    let messages = (0..60).zip(keys.iter().cycle()).map(|(n, key)| {
        let key = Some(Bytes::from_static(key.as_bytes()));
        to_topic(&topic, Envelope { key, ..message("orders.created", n.to_string()) })
    });
    ground.publish(messages.collect()).await?;
    let records = all(ground, &topic, StartAt::Earliest).await?;
    same("how many records there are", records.len(), 60)?;
    let mut last: BTreeMap<Bytes, (Position, u32)> = BTreeMap::new();
    for record in &records {
        let key = record.message.key.clone().unwrap_or_default();
        let n = text_of(&record.message).parse().unwrap_or(u32::MAX);
        if let Some((position, before)) = last.insert(key.clone(), (record.position, n)) {
            let in_order = position.partition == record.position.partition && position < record.position && before < n;
            check(in_order, || {
                format!(
                    "expected key {key:?} in order in one partition, and {n} at {:?} came after {before} at {position:?}",
                    record.position
                )
            })?;
        }
    }
    Ok(())
}

async fn a_log_does_not_depend_on_its_queues(ground: &Ground<'_>) -> Proof {
    let topic = log(ground, 1).await?;
    let queue = ground.queue("q", |_| ()).await?;
    ground.bind(&topic, &queue, "orders.*").await?;
    publish(ground, &topic, &["1", "2"]).await?;
    same("in the queue", ground.drain(&queue, 2).await?, owned(&["1", "2"]))?;
    same("in the log", words(&all(ground, &topic, StartAt::Earliest).await?), owned(&["1", "2"]))
}

async fn a_missing_topic_is_told_to_its_reader(ground: &Ground<'_>) -> Proof {
    let missing = ground.name("missing");
    let started = ground.soon("a reader", ground.transport.read(&missing, StartAt::Earliest, false)).await?;
    // Some brokers tell it with the first records.
    let told = match started {
        Err(error) => Err(error),
        Ok(mut reader) => ground.soon("a record or an error", reader.next()).await?.map(drop),
    };
    check(matches!(told, Err(TransportError::NotFound(_))), || {
        format!("a reader of a missing topic: expected NotFound, and {told:?} came")
    })
}

async fn committed_offsets_are_kept_by_name(ground: &Ground<'_>) -> Proof {
    let topic = log(ground, 2).await?;
    let name = ground.name("projection");
    let committed = async |name: &str| -> Proof<Vec<Position>> {
        let mut positions = ground.soon("committed offsets", ground.transport.committed(&topic, name)).await??;
        positions.sort();
        Ok(positions)
    };
    let commit = async |name: &str, positions: &[Position]| -> Proof {
        Ok(ground.soon("a commit's end", ground.transport.commit(&topic, name, positions.to_vec())).await??)
    };
    let at = |partition, offset| Position { partition, offset };
    publish(ground, &topic, &["1", "2", "3", "4", "5", "6", "7", "8"]).await?;
    same("under a new name", committed(&name).await?, Vec::new())?;
    commit(&name, &[at(0, 1), at(1, 2)]).await?;
    same("what was committed", committed(&name).await?, vec![at(0, 1), at(1, 2)])?;
    commit(&name, &[at(0, 2)]).await?;
    same("one partition later", committed(&name).await?, vec![at(0, 2), at(1, 2)])?;
    commit(&name, &[at(0, 0)]).await?;
    same("back again, for a rebuild", committed(&name).await?, vec![at(0, 0), at(1, 2)])?;
    same("under another name", committed(&ground.name("other")).await?, Vec::new())
}
