//! Records of one key: read without the others, and written if their version is the expected one.

use bytes::Bytes;

use super::{cases, has};
use crate::Envelope;
use crate::conformance::ground::{Failure, Ground, Proof, check, message, same, texts, to_topic};
use crate::transport::{Expected, PublishError, Published, Record, RetentionSpec, StartAt, Support};

cases! {
    has("key_index") => records_of_a_key_are_read_page_by_page,
    has("key_index") => the_last_record_of_a_key_is_found,
    has("expected_version") => a_series_begins_only_once,
    has("expected_version") => a_series_goes_on_only_from_its_version,
    has("expected_version") => several_messages_are_stored_all_or_none,
    has("expected_version") => of_two_writers_at_a_time_one_wins,
    has("expected_version") => messages_of_two_keys_are_refused,
}

async fn topic(ground: &Ground<'_>) -> Proof<String> {
    let capabilities = ground.transport.capabilities();
    let (index, log) = (capabilities.key_index.is_there(), capabilities.replay != Support::No);
    ground
        .topic("series", |topic| {
            topic.key_index = index;
            topic.retention = log.then(RetentionSpec::default);
            topic.partitions = 3;
        })
        .await
}

fn of_key(key: &str, body: &str) -> Envelope {
    Envelope { key: Some(Bytes::copy_from_slice(key.as_bytes())), ..message("orders.event", body.to_owned()) }
}

fn words(records: &[Record]) -> Vec<String> {
    texts(records.iter().map(|record| &record.message))
}

async fn records_of_a_key_are_read_page_by_page(ground: &Ground<'_>) -> Proof {
    let topic = topic(ground).await?;
    let bodies: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    let messages = bodies.iter().flat_map(|body| [of_key("mine", body), of_key("other", "noise")]);
    ground.publish(messages.map(|message| to_topic(&topic, message)).collect()).await?;
    let page = async |key: &'static [u8], from, max| -> Proof<Vec<Record>> {
        Ok(ground.soon("records of a key", ground.transport.read_key(&topic, key, from, max)).await??)
    };
    let mut came = Vec::new();
    let mut from = 0;
    for expected in [10, 10, 5] {
        let records = page(b"mine", from, 10).await?;
        same("the length of a page", records.len(), expected)?;
        from = records.last().map_or(from, |record| record.position.offset + 1);
        came.extend(words(&records));
    }
    same("all pages", came, bodies)?;
    same("after the last", page(b"mine", from, 10).await?, Vec::new())?;
    same("of a key that is not there", page(b"nobody", 0, 10).await?, Vec::new())
}

async fn the_last_record_of_a_key_is_found(ground: &Ground<'_>) -> Proof {
    let topic = topic(ground).await?;
    let last = async |key: &'static [u8]| -> Proof<Option<Record>> {
        Ok(ground.soon("the last record of a key", ground.transport.last_of_key(&topic, key)).await??)
    };
    same("of a key that is not there", last(b"mine").await?, None)?;
    for body in ["1", "2", "3"] {
        let messages = vec![to_topic(&topic, of_key("mine", body)), to_topic(&topic, of_key("other", "noise"))];
        ground.publish(messages).await?;
        same(
            "the last one",
            last(b"mine").await?.as_ref().map(|record| words(std::slice::from_ref(record))),
            Some(vec![body.to_owned()]),
        )?;
    }
    Ok(())
}

async fn append(
    ground: &Ground<'_>,
    topic: &str,
    bodies: &[&str],
    expected: Expected,
) -> Proof<Result<Vec<Published>, PublishError>> {
    let messages = bodies.iter().map(|body| of_key("order-1", body)).collect();
    ground.soon("a conditional publish's end", ground.transport.publish_expecting(topic, messages, expected)).await
}

/// The series' version after a publish that must succeed.
async fn appended(ground: &Ground<'_>, topic: &str, bodies: &[&str], expected: Expected) -> Proof<u64> {
    let published = append(ground, topic, bodies, expected).await??;
    same("answers", published.len(), bodies.len())?;
    let position = published.last().and_then(|published| published.position);
    Ok(position.ok_or_else(|| Failure("expected the position of the last record, and none came".to_owned()))?.offset)
}

fn wrong_version(came: &Result<Vec<Published>, PublishError>, actual: Option<u64>) -> Proof {
    check(*came == Err(PublishError::WrongVersion { actual }), || {
        format!("another version than in force: expected WrongVersion with {actual:?}, and {came:?} came")
    })
}

/// What the series holds.
async fn holds(ground: &Ground<'_>, topic: &str, expected: &[&str]) -> Proof {
    let expected: Vec<String> = expected.iter().map(|body| (*body).to_owned()).collect();
    let capabilities = ground.transport.capabilities();
    if capabilities.key_index.is_there() {
        let records = ground.transport.read_key(topic, b"order-1", 0, 100).await?;
        return same("what the series holds", words(&records), expected);
    }
    if capabilities.replay.is_there() {
        let mut reader = ground.transport.read(topic, StartAt::Earliest, false).await?;
        let mut records = Vec::new();
        while let Some(more) = ground.soon("a record or the end", reader.next()).await?? {
            records.extend(more);
        }
        return same("what the log holds", words(&records), expected);
    }
    Ok(())
}

async fn a_series_begins_only_once(ground: &Ground<'_>) -> Proof {
    let topic = topic(ground).await?;
    wrong_version(&append(ground, &topic, &["lost"], Expected::Version(0)).await?, None)?;
    let version = appended(ground, &topic, &["1"], Expected::Nothing).await?;
    wrong_version(&append(ground, &topic, &["lost"], Expected::Nothing).await?, Some(version))?;
    holds(ground, &topic, &["1"]).await
}

async fn a_series_goes_on_only_from_its_version(ground: &Ground<'_>) -> Proof {
    let topic = topic(ground).await?;
    let first = appended(ground, &topic, &["1"], Expected::Nothing).await?;
    // Records of other keys do not change the version of this one.
    ground.publish(vec![to_topic(&topic, of_key("order-2", "noise"))]).await?;
    let second = appended(ground, &topic, &["2"], Expected::Version(first)).await?;
    check(second > first, || format!("expected versions to grow, and {second} came after {first}"))?;
    wrong_version(&append(ground, &topic, &["lost"], Expected::Version(first)).await?, Some(second))?;
    let third = appended(ground, &topic, &["3"], Expected::Version(second)).await?;
    check(third > second, || format!("expected versions to grow, and {third} came after {second}"))?;
    if ground.transport.capabilities().key_index.is_there() {
        holds(ground, &topic, &["1", "2", "3"]).await?;
    }
    Ok(())
}

async fn several_messages_are_stored_all_or_none(ground: &Ground<'_>) -> Proof {
    let topic = topic(ground).await?;
    let version = appended(ground, &topic, &["1", "2", "3"], Expected::Nothing).await?;
    wrong_version(&append(ground, &topic, &["lost", "too"], Expected::Nothing).await?, Some(version))?;
    holds(ground, &topic, &["1", "2", "3"]).await?;
    appended(ground, &topic, &["4", "5"], Expected::Version(version)).await?;
    wrong_version(
        &append(ground, &topic, &["lost"], Expected::Version(version)).await?,
        Some(version_of(ground, &topic, version).await?),
    )?;
    holds(ground, &topic, &["1", "2", "3", "4", "5"]).await
}

/// The version in force, as a publish that expects an older one is told.
async fn version_of(ground: &Ground<'_>, topic: &str, old: u64) -> Proof<u64> {
    match append(ground, topic, &["lost"], Expected::Version(old)).await? {
        Err(PublishError::WrongVersion { actual: Some(actual) }) if actual > old => Ok(actual),
        other => Err(Failure(format!("expected WrongVersion with one that is later than {old}, and {other:?} came"))),
    }
}

async fn of_two_writers_at_a_time_one_wins(ground: &Ground<'_>) -> Proof {
    let topic = topic(ground).await?;
    let mut version = appended(ground, &topic, &["begins"], Expected::Nothing).await?;
    for _ in 0..10 {
        let (one, two) = tokio::join!(
            append(ground, &topic, &["one"], Expected::Version(version)),
            append(ground, &topic, &["two"], Expected::Version(version))
        );
        let (one, two) = (one?, two?);
        let (winner, loser) = if one.is_ok() { (one, two) } else { (two, one) };
        let position = winner?.last().and_then(|published| published.position);
        version = position.ok_or_else(|| Failure("expected a position, and none came".to_owned()))?.offset;
        wrong_version(&loser, Some(version))?;
    }
    Ok(())
}

async fn messages_of_two_keys_are_refused(ground: &Ground<'_>) -> Proof {
    let topic = topic(ground).await?;
    let messages = vec![of_key("order-1", "1"), of_key("order-2", "2")];
    let came = ground.transport.publish_expecting(&topic, messages, Expected::Nothing).await;
    check(matches!(came, Err(PublishError::Refused(_))), || {
        format!("messages of two keys: expected Refused, and {came:?} came")
    })?;
    holds(ground, &topic, &[]).await
}
