//! The inbox, and the tables.

use std::sync::Arc;
use std::time::Duration;

use sdk::sql::{SqlError, Store};
use testkit::ManualClock;

use super::db::{Db, Place, eventually, number, run, run_alone};
use super::on_both;

on_both!(
    tables_are_made_once_by_many,
    later_tables_are_refused,
    a_message_is_seen_once_by_each_consumer,
    what_is_rolled_back_was_not_seen,
    the_second_of_two_waits_for_the_first,
    of_many_at_once_one_has_the_effect,
    what_is_older_than_the_window_is_forgotten,
);

async fn tables_are_made_once_by_many<DB: Db>(place: Place<DB>) {
    let stores = futures_util::future::join_all((0..6).map(|_| place.store())).await;
    for store in &stores {
        store.migrate().await.unwrap();
    }
    assert_eq!(number(&stores[0], "SELECT count(*) FROM svc_schema").await, 1);
}

async fn later_tables_are_refused<DB: Db>(place: Place<DB>) {
    let store = place.store().await;
    run_alone(&store, "UPDATE svc_schema SET version = 1000").await;
    let error = store.migrate().await.unwrap_err();
    assert!(matches!(error, SqlError::NewerTables { found: 1000, .. }), "{error}");
}

async fn a_message_is_seen_once_by_each_consumer<DB: Db>(place: Place<DB>) {
    let store = place.store().await;
    for (consumer, first) in [("a", true), ("a", false), ("b", true), ("b", false)] {
        let mut tx = store.begin().await.unwrap();
        assert_eq!(tx.first_time(consumer, "m-1").await.unwrap(), first, "{consumer}");
        tx.commit().await.unwrap();
    }
    let mut tx = store.begin().await.unwrap();
    assert!(tx.first_time("a", "m-2").await.unwrap());
    assert!(!tx.first_time("a", "m-2").await.unwrap(), "twice in one transaction");
}

async fn what_is_rolled_back_was_not_seen<DB: Db>(place: Place<DB>) {
    let store = place.store().await;
    let mut tx = store.begin().await.unwrap();
    assert!(tx.first_time("a", "m-1").await.unwrap());
    tx.rollback().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert!(tx.first_time("a", "m-1").await.unwrap());
    drop(tx);
    let mut tx = store.begin().await.unwrap();
    assert!(tx.first_time("a", "m-1").await.unwrap());
}

/// Takes the message as another process would, and says whether it was the first time.
async fn take<DB: Db>(store: Store<DB>) -> bool {
    let mut tx = store.begin().await.unwrap();
    let first = tx.first_time("a", "m-1").await.unwrap();
    tx.commit().await.unwrap();
    first
}

async fn the_second_of_two_waits_for_the_first<DB: Db>(place: Place<DB>) {
    let (one, other) = (place.store().await, place.store().await);
    for commits in [false, true] {
        let mut tx = one.begin().await.unwrap();
        assert!(tx.first_time("a", "m-1").await.unwrap());
        let mut second = tokio::spawn(take(other.clone()));
        let early = tokio::time::timeout(Duration::from_millis(300), &mut second).await;
        assert!(early.is_err(), "it answers {early:?} before it can know");
        if commits {
            tx.commit().await.unwrap();
            assert!(!second.await.unwrap());
        } else {
            tx.rollback().await.unwrap();
            assert!(second.await.unwrap(), "the first was not kept");
            run_alone(&one, "DELETE FROM svc_inbox").await;
        }
    }
}

async fn of_many_at_once_one_has_the_effect<DB: Db>(place: Place<DB>) {
    let stores = futures_util::future::join_all((0..4).map(|_| place.store())).await;
    run_alone(&stores[0], "CREATE TABLE effects (message_id TEXT)").await;
    let tasks: Vec<_> = (0..24)
        .map(|task| {
            let store = stores[task % 4].clone();
            tokio::spawn(async move {
                let mut tx = store.begin().await.unwrap();
                let first = tx.first_time("a", "m-1").await.unwrap();
                if first {
                    run(&mut tx, "INSERT INTO effects VALUES ('m-1')").await;
                }
                tx.commit().await.unwrap();
                first
            })
        })
        .collect();
    let mut first = 0;
    for task in tasks {
        first += usize::from(task.await.unwrap());
    }
    assert_eq!(first, 1);
    assert_eq!(number(&stores[0], "SELECT count(*) FROM effects").await, 1);
}

async fn what_is_older_than_the_window_is_forgotten<DB: Db>(place: Place<DB>) {
    let clock = Arc::new(ManualClock::new());
    let store = place.store().await.with_clock(clock.clone()).with_inbox_window(Duration::from_secs(3600));
    let see = async |id: &str| {
        let mut tx = store.begin().await.unwrap();
        let first = tx.first_time("a", id).await.unwrap();
        tx.commit().await.unwrap();
        first
    };
    // More than one statement of the cleanup takes.
    for number in 0..1100 {
        run_alone(
            &store,
            &format!("INSERT INTO svc_inbox (consumer, message_id, seen_ms) VALUES ('old', '{number}', 0)"),
        )
        .await;
    }
    assert!(see("m-1").await);
    clock.advance(Duration::from_secs(1800));
    assert!(see("m-2").await);
    assert_eq!(store.inbox().cleanup().await.unwrap(), 1100);
    clock.advance(Duration::from_secs(1801));
    let stop = tokio_util::sync::CancellationToken::new();
    let maintenance = tokio::spawn({
        let (store, stop) = (store.clone(), stop.clone());
        async move { store.maintain(stop).await }
    });
    eventually("the old one is forgotten", async || {
        (number(&store, "SELECT count(*) FROM svc_inbox").await == 1).then_some(())
    })
    .await;
    stop.cancel();
    maintenance.await.unwrap();
    assert!(!see("m-2").await, "it is within the window");
    assert!(see("m-1").await);
}
