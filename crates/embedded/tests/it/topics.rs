//! Logs: replay, keys, positions, expected versions.

use sdk::transport::{Expected, Position, PublishError, Reader, Record, StartAt, TransportError};

use crate::kit::{keyed, log, manual, message, publish, soon, text, to_topic};

async fn all(reader: &mut dyn Reader) -> Vec<Record> {
    let mut found = Vec::new();
    while let Some(records) = soon(reader.next()).await.unwrap() {
        found.extend(records);
    }
    found
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| text(&record.message)).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn a_log_is_read_from_anywhere_and_followed() {
    let (_broker, transport) = manual().await;
    log(&*transport, "t", 1).await;
    let append = |range: std::ops::Range<u32>| {
        let messages = range.map(|n| to_topic("t", message("t.x", &n.to_string()))).collect();
        publish(&*transport, messages)
    };
    assert!(all(&mut *transport.read("t", StartAt::Earliest, false).await.unwrap()).await.is_empty());
    let published = append(0..3000).await;
    assert_eq!(published[7].position, Some(Position { partition: 0, offset: 7 }));
    let read = |from| transport.read("t", from, false);
    assert_eq!(texts(&all(&mut *read(StartAt::Earliest).await.unwrap()).await), numbers(0..3000));
    let at = StartAt::Positions(vec![Position { partition: 0, offset: 2990 }]);
    assert_eq!(texts(&all(&mut *read(at).await.unwrap()).await), numbers(2990..3000));
    assert!(all(&mut *read(StartAt::Latest).await.unwrap()).await.is_empty());
    let time = StartAt::Time(transport.now());
    assert_eq!(all(&mut *read(time).await.unwrap()).await.len(), 3000);
    let mut following = transport.read("t", StartAt::Latest, true).await.unwrap();
    append(3000..3010).await;
    let mut found = Vec::new();
    while found.len() < 10 {
        found.extend(soon(following.next()).await.unwrap().unwrap());
    }
    assert_eq!(texts(&found), numbers(3000..3010));
    assert!(matches!(transport.read("nowhere", StartAt::Latest, false).await, Err(TransportError::NotFound(_))));
}

#[tokio::test]
async fn a_name_remembers_where_reading_goes_on_in_each_partition() {
    let (broker, transport) = manual().await;
    log(&*transport, "t", 3).await;
    publish(&*transport, (0..30).map(|n| to_topic("t", keyed(&format!("k{n}"), &n.to_string()))).collect()).await;
    assert!(transport.committed("t", "report").await.unwrap().is_empty());
    let found = all(&mut *transport.read("t", StartAt::Earliest, false).await.unwrap()).await;
    assert_eq!(found.len(), 30);
    let next: Vec<_> = (0..3)
        .map(|partition| {
            let offsets = found.iter().map(|record| record.position).filter(|at| at.partition == partition);
            Position { partition, offset: offsets.map(|at| at.offset + 1).max().unwrap_or(0) }
        })
        .collect();
    transport.commit("t", "report", next.clone()).await.unwrap();
    transport.commit("t", "other", vec![next[0]]).await.unwrap();
    broker.start_again().await.unwrap();
    assert_eq!(soon(transport.committed("t", "report")).await.unwrap(), next);
    publish(&*transport, vec![to_topic("t", keyed("k1", "new"))]).await;
    let rest = all(&mut *transport.read("t", StartAt::Positions(next), false).await.unwrap()).await;
    assert_eq!(texts(&rest), ["new"]);
}

#[tokio::test]
async fn a_key_of_any_length_is_read_in_order() {
    let (_broker, transport) = manual().await;
    log(&*transport, "t", 2).await;
    assert_eq!(transport.last_of_key("t", b"k").await.unwrap(), None);
    let messages = (0..2500).flat_map(|n| [keyed("k", &n.to_string()), keyed("other", "x")]);
    publish(&*transport, messages.map(|message| to_topic("t", message)).collect()).await;
    let found = transport.read_key("t", b"k", 0, u32::MAX).await.unwrap();
    assert_eq!(texts(&found), numbers(0..2500));
    let from = found[2400].position.offset;
    assert_eq!(texts(&transport.read_key("t", b"k", from, 50).await.unwrap()), numbers(2400..2450));
    assert_eq!(text(&transport.last_of_key("t", b"k").await.unwrap().unwrap().message), "2499");
    assert!(matches!(transport.last_of_key("nowhere", b"k").await, Err(TransportError::NotFound(_))));
}

#[tokio::test]
async fn several_events_are_appended_at_the_expected_version_or_none_is() {
    let (_broker, transport) = manual().await;
    log(&*transport, "t", 4).await;
    let events = |range: std::ops::Range<u32>| range.map(|n| keyed("cart-1", &n.to_string())).collect::<Vec<_>>();
    let append = |range, expected| transport.publish_expecting("t", events(range), expected);
    let first = append(0..3, Expected::Nothing).await.unwrap();
    let version = first.last().unwrap().position.unwrap().offset;
    for wrong in [Expected::Nothing, Expected::Version(version - 1), Expected::Version(version + 1)] {
        assert_eq!(append(9..11, wrong).await, Err(PublishError::WrongVersion { actual: Some(version) }));
    }
    append(3..5, Expected::Version(version)).await.unwrap();
    assert_eq!(texts(&transport.read_key("t", b"cart-1", 0, 100).await.unwrap()), numbers(0..5));
    let mixed = vec![keyed("a", "1"), keyed("b", "2")];
    assert!(matches!(transport.publish_expecting("t", mixed, Expected::Nothing).await, Err(PublishError::Refused(_))));
}
