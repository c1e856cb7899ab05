//! Sagas and checkpoints.

use std::sync::Arc;
use std::time::Duration;

use sdk::saga::SagaStore;
use sdk::sql::{CheckpointError, SagaError, SagaRow};
use sdk::transport::Position;
use testkit::ManualClock;
use types::Timestamp;

use super::db::{Db, Place, number, run, run_alone};
use super::on_both;

on_both!(
    a_saga_is_saved_by_one_of_two,
    sagas_are_listed_by_status_in_pages_and_by_deadline,
    a_checkpoint_moves_with_what_was_made_of_the_records,
    of_two_projections_of_a_name_one_gets_through,
    orchestrated_sagas_fit_into_it,
);

fn saga(id: &str) -> SagaRow {
    SagaRow {
        saga: "checkout".to_owned(),
        id: id.to_owned(),
        version: 0,
        status: "running".to_owned(),
        state: br#"{"order":1}"#.to_vec(),
        step: "reserve".to_owned(),
        attempts: 0,
        error: None,
        updated: Timestamp(0),
        deadline: None,
    }
}

async fn a_saga_is_saved_by_one_of_two<DB: Db>(place: Place<DB>) {
    let (one, other) = (place.store().await, place.store().await);
    let mut tx = one.begin().await.unwrap();
    let mut row = saga("o-1");
    one.sagas().save(&mut tx, &mut row).await.unwrap();
    assert_eq!(row.version, 1);
    tx.commit().await.unwrap();

    // Both load the same version, one after the other they save.
    let mut first = one.sagas().get("checkout", "o-1").await.unwrap().unwrap();
    assert_eq!(first, row);
    let mut second = first.clone();
    first.status = "compensating".to_owned();
    first.error = Some("no money".to_owned());
    first.deadline = Some(Timestamp(5));
    let mut tx = one.begin().await.unwrap();
    one.sagas().save(&mut tx, &mut first).await.unwrap();
    let racing = tokio::spawn(async move {
        let mut tx = other.begin().await.unwrap();
        let saved = other.sagas().save(&mut tx, &mut second).await;
        assert_eq!(second.version, 1, "as it was loaded");
        saved
    });
    tx.commit().await.unwrap();
    let conflict = racing.await.unwrap().unwrap_err();
    assert!(matches!(conflict, SagaError::Conflict { expected: 1, .. }), "{conflict}");

    let mut tx = one.begin().await.unwrap();
    assert_eq!(one.sagas().load(&mut tx, "checkout", "o-1").await.unwrap(), Some(first));
    let again = one.sagas().save(&mut tx, &mut saga("o-1")).await.unwrap_err();
    assert!(matches!(again, SagaError::Conflict { expected: 0, .. }), "it is there already");
    assert_eq!(one.sagas().load(&mut tx, "checkout", "o-2").await.unwrap(), None);
    assert!(!one.sagas().delete(&mut tx, "checkout", "o-1", 1).await.unwrap());
    assert!(one.sagas().delete(&mut tx, "checkout", "o-1", 2).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(number(&one, "SELECT count(*) FROM svc_sagas").await, 0);
}

async fn sagas_are_listed_by_status_in_pages_and_by_deadline<DB: Db>(place: Place<DB>) {
    let clock = Arc::new(ManualClock::new());
    let store = place.store().await.with_clock(clock.clone());
    for (id, status, deadline) in
        [("c", "stuck", Some(30)), ("b", "stuck", None), ("a", "stuck", Some(10)), ("d", "running", Some(20))]
    {
        let mut row = SagaRow { status: status.to_owned(), deadline: deadline.map(Timestamp), ..saga(id) };
        let mut tx = store.begin().await.unwrap();
        store.sagas().save(&mut tx, &mut row).await.unwrap();
        tx.commit().await.unwrap();
        clock.advance(Duration::from_millis(if id == "c" { 0 } else { 1 }));
    }
    let ids = |rows: &[SagaRow]| rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>();
    let first = store.sagas().list("checkout", "stuck", None, 2).await.unwrap();
    assert_eq!(ids(&first), ["b", "c"]);
    let rest = store.sagas().list("checkout", "stuck", first.last(), 2).await.unwrap();
    assert_eq!(ids(&rest), ["a"]);
    assert!(store.sagas().list("other", "stuck", None, 2).await.unwrap().is_empty());
    assert_eq!(ids(&store.sagas().due("checkout", Timestamp(20), 10).await.unwrap()), ["a", "d"]);
    assert_eq!(ids(&store.sagas().due("checkout", Timestamp(99), 2).await.unwrap()), ["a", "d"]);
}

const fn at(partition: u32, offset: u64) -> Position {
    Position { partition, offset }
}

async fn a_checkpoint_moves_with_what_was_made_of_the_records<DB: Db>(place: Place<DB>) {
    let store = place.store().await;
    run_alone(&store, "CREATE TABLE applied (record BIGINT)").await;
    assert!(store.checkpoints().load("sales").await.unwrap().is_empty());

    let mut tx = store.begin().await.unwrap();
    run(&mut tx, "INSERT INTO applied VALUES (1)").await;
    store.checkpoints().advance(&mut tx, "sales", 0, at(1, 5)).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(store.checkpoints().load("sales").await.unwrap().is_empty());

    let mut tx = store.begin().await.unwrap();
    run(&mut tx, "INSERT INTO applied VALUES (1)").await;
    store.checkpoints().advance(&mut tx, "sales", 0, at(1, 5)).await.unwrap();
    store.checkpoints().advance(&mut tx, "sales", 0, at(0, 7)).await.unwrap();
    store.checkpoints().advance(&mut tx, "sales", 5, at(1, 9)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(store.checkpoints().load("sales").await.unwrap(), [at(0, 7), at(1, 9)]);
    assert!(store.checkpoints().load("other").await.unwrap().is_empty());

    let mut tx = store.begin().await.unwrap();
    run(&mut tx, "DELETE FROM applied").await;
    store.checkpoints().reset(&mut tx, "sales").await.unwrap();
    tx.commit().await.unwrap();
    assert!(store.checkpoints().load("sales").await.unwrap().is_empty());
}

async fn of_two_projections_of_a_name_one_gets_through<DB: Db>(place: Place<DB>) {
    let stores = [place.store().await, place.store().await];
    run_alone(&stores[0], "CREATE TABLE applied (record BIGINT)").await;
    // Each applies the records 0 to 19, in steps of one, as if it were alone.
    let project = |store: sdk::sql::Store<DB>| async move {
        loop {
            let next = store.checkpoints().load("sales").await.unwrap().first().map_or(0, |position| position.offset);
            if next == 20 {
                return;
            }
            let mut tx = store.begin().await.unwrap();
            run(&mut tx, &format!("INSERT INTO applied VALUES ({next})")).await;
            match store.checkpoints().advance(&mut tx, "sales", next, at(0, next + 1)).await {
                Ok(()) => tx.commit().await.unwrap(),
                Err(CheckpointError::Moved { expected, .. }) => assert_eq!(expected, next),
                Err(error) => panic!("{error}"),
            }
        }
    };
    let [one, other] = stores.clone().map(|store| tokio::spawn(project(store)));
    one.await.unwrap();
    other.await.unwrap();
    assert_eq!(number(&stores[0], "SELECT count(*) FROM applied").await, 20);
    assert_eq!(number(&stores[0], "SELECT count(DISTINCT record) FROM applied").await, 20);
}

/// What the service builder does with it is tested with sagas; here, that the store is one.
async fn orchestrated_sagas_fit_into_it<DB: Db>(place: Place<DB>) {
    let store: SagaStore = place.store().await.saga_store();
    assert!(format!("{store:?}").contains("topic: false"));
}
