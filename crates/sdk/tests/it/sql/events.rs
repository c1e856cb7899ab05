//! The event store.

use std::collections::HashSet;

use sdk::event_sourcing::{AppendError as LogAppendError, EventLog};
use sdk::headers;
use sdk::sql::{AppendError, NewEvent, Snapshot, Store};
use types::Value;

use super::db::{DEADLINE, Db, Place};
use super::on_both;

on_both!(
    events_come_back_as_they_were_appended,
    another_version_is_refused_and_nothing_appended,
    of_many_writers_of_a_version_one_appends,
    whoever_reads_all_misses_none_that_is_committed_late,
    a_snapshot_is_replaced_by_a_newer_one,
    aggregates_are_kept_in_it,
);

fn event(name: &str) -> NewEvent {
    NewEvent {
        id: format!("id of {name}"),
        event_type: name.to_owned(),
        event_version: 2,
        content_type: "application/json".to_owned(),
        headers: vec![("traceparent".into(), Value::from("00-1")), ("n".into(), Value::int(1))],
        body: b"\0{}".to_vec(),
    }
}

async fn append<DB: Db>(store: &Store<DB>, stream: &str, expected: u64, names: &[&str]) -> Result<u64, AppendError> {
    let events: Vec<_> = names.iter().map(|name| event(name)).collect();
    let mut tx = store.begin().await?;
    let version = store.events().append(&mut tx, stream, expected, &events).await?;
    tx.commit().await?;
    Ok(version)
}

async fn events_come_back_as_they_were_appended<DB: Db>(place: Place<DB>) {
    let store = place.store().await;
    assert_eq!(append(&store, "o-1", 0, &["created", "paid"]).await.unwrap(), 2);
    assert_eq!(append(&store, "o-2", 0, &["created"]).await.unwrap(), 1);
    assert_eq!(append(&store, "o-1", 2, &["sent"]).await.unwrap(), 3);
    let mut tx = store.begin().await.unwrap();
    let read = store.events().read(&mut tx, "o-1", 0, 100).await.unwrap();
    assert_eq!(read.iter().map(|read| read.version).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(read[1].event, event("paid"));
    assert_eq!(store.events().read(&mut tx, "o-1", 1, 1).await.unwrap()[..], read[1..2]);
    assert_eq!(store.events().version(&mut tx, "o-1").await.unwrap(), 3);
    assert_eq!(store.events().version(&mut tx, "o-3").await.unwrap(), 0);
    drop(tx);
    let all = store.events().read_all(0, 100).await.unwrap();
    let names: Vec<_> = all.iter().map(|one| (one.stream.as_str(), one.event.event_type.as_str())).collect();
    assert_eq!(names, [("o-1", "created"), ("o-1", "paid"), ("o-2", "created"), ("o-1", "sent")]);
    assert_eq!(store.events().read_all(all[1].position, 1).await.unwrap()[..], all[2..3]);
}

async fn another_version_is_refused_and_nothing_appended<DB: Db>(place: Place<DB>) {
    let store = place.store().await;
    append(&store, "o-1", 0, &["created"]).await.unwrap();
    for expected in [0, 2] {
        let error = append(&store, "o-1", expected, &["paid", "sent"]).await.unwrap_err();
        assert!(matches!(error, AppendError::WrongVersion { actual: 1, .. }), "{error}");
    }
    assert_eq!(store.events().read_all(0, 100).await.unwrap().len(), 1);
}

async fn of_many_writers_of_a_version_one_appends<DB: Db>(place: Place<DB>) {
    let store = place.store().await;
    let tasks: Vec<_> = (0..12)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { append(&store, "o-1", 0, &["created"]).await })
        })
        .collect();
    let mut appended = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(version) => {
                assert_eq!(version, 1);
                appended += 1;
            }
            Err(AppendError::WrongVersion { expected: 0, actual: 1, .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(appended, 1);
}

async fn whoever_reads_all_misses_none_that_is_committed_late<DB: Db>(place: Place<DB>) {
    const WRITERS: usize = 6;
    const EACH: u64 = 15;
    let store = place.store().await;
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for version in 0..EACH {
                    let mut tx = store.begin().await.unwrap();
                    let stream = format!("s-{writer}");
                    store.events().append(&mut tx, &stream, version, &[event("e")]).await.unwrap();
                    // Some commit later than others.
                    if writer % 2 == 0 {
                        tokio::task::yield_now().await;
                        store.events().version(&mut tx, &stream).await.unwrap();
                    }
                    tx.commit().await.unwrap();
                }
            })
        })
        .collect();
    let reading = async {
        let (mut position, mut seen) = (0, HashSet::new());
        while seen.len() < WRITERS * usize::try_from(EACH).unwrap() {
            for read in store.events().read_all(position, 7).await.unwrap() {
                position = read.position;
                assert!(seen.insert((read.stream, read.version)));
            }
        }
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("every event is read, none is passed over");
    for writer in writers {
        writer.await.unwrap();
    }
}

async fn a_snapshot_is_replaced_by_a_newer_one<DB: Db>(place: Place<DB>) {
    let store = place.store().await;
    let snapshot = |version, state_version| Snapshot {
        version,
        state_version,
        content_type: "application/json".to_owned(),
        body: version.to_string().into_bytes(),
    };
    assert_eq!(store.events().snapshot("o-1").await.unwrap(), None);
    // An older one that comes late replaces nothing; one of another type does.
    for (saved, kept) in [((5, 1), (5, 1)), ((9, 1), (9, 1)), ((7, 1), (9, 1)), ((8, 2), (8, 2))] {
        let mut tx = store.begin().await.unwrap();
        store.events().save_snapshot(&mut tx, "o-1", &snapshot(saved.0, saved.1)).await.unwrap();
        tx.commit().await.unwrap();
        let found = store.events().snapshot("o-1").await.unwrap();
        assert_eq!(found, Some(snapshot(kept.0, kept.1)));
    }
}

async fn aggregates_are_kept_in_it<DB: Db>(place: Place<DB>) {
    let log = place.store().await.event_log();
    let event = |number: u64| {
        let mut event = sdk::Envelope::new("account.changed", number.to_string());
        event.id = Some(types::MessageId::Text(format!("e-{number}").into()));
        event.content_type = Some("application/json".into());
        headers::set_value(&mut event, headers::VERSION, Value::int(3));
        event
    };
    assert_eq!(log.append("a-1", None, vec![event(1), event(2)]).await.unwrap(), 2);
    assert!(matches!(log.append("a-1", None, vec![event(9)]).await, Err(LogAppendError::Conflict)));
    assert!(matches!(log.append("a-1", Some(3), vec![event(9)]).await, Err(LogAppendError::Conflict)));
    assert_eq!(log.append("a-1", Some(2), (3..=1200).map(event).collect()).await.unwrap(), 1200);
    let all = log.read("a-1", None, 5000).await.unwrap();
    assert_eq!(all.len(), 1200);
    let (version, last) = &log.read("a-1", Some(1199), 10).await.unwrap()[0];
    assert_eq!(*version, 1200);
    let mut whole = event(1200);
    whole.key = Some("a-1".into());
    whole.timestamp = last.timestamp;
    assert_eq!(*last, whole);
    assert_eq!(log.read("a-1", Some(3), 2).await.unwrap()[..], all[3..5]);

    assert_eq!(log.snapshot("a-1").await.unwrap(), None);
    for snapshot in ["first", "second"] {
        log.keep_snapshot("a-1", snapshot.into()).await.unwrap();
        assert_eq!(log.snapshot("a-1").await.unwrap(), Some(snapshot.into()));
    }
}
