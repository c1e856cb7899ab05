//! A program that is killed with SIGKILL between every two steps of its work, and started again: each effect is there once, and every event was
//! published at least once, under the one id it has.
//!
//! The program is this test binary, started again for the ignored test [`program`]. It says where it is, and stands still at the step where it is
//! to be killed, so that nothing depends on luck. What it takes from and publishes to is a directory: a message is a file there, an
//! acknowledgement deletes it, a publish appends a line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sdk::Envelope;
use sdk::sql::{RelayOptions, Store};
use sdk::transport::{Destination, Outgoing};

use super::broker::{Broker, Running, body};
use super::db::{Db, Place, eventually, number, run, run_alone};
use super::on_both;
use super::program::{Program, reached};

on_both!(killed_between_any_two_steps_it_comes_out_right);

/// The steps, in order. The program stands still *after* the step of the name.
const STEPS: [&str; 11] = [
    "started",
    "taken",
    "begun",
    "inbox",
    "effect",
    "outbox 1",
    "outbox 2",
    "committed",
    "acked",
    "published",
    "marked",
];
/// The same, where the relay is faster than the acknowledgement.
const RELAYED_FIRST: [&str; 11] = [
    "started",
    "taken",
    "begun",
    "inbox",
    "effect",
    "outbox 1",
    "outbox 2",
    "committed",
    "published",
    "marked",
    "acked",
];

const KIND: &str = "SDK_KILL_KIND";
const ADDRESS: &str = "SDK_KILL_ADDRESS";
const DIRECTORY: &str = "SDK_KILL_DIRECTORY";
const ORDER: &str = "SDK_KILL_ORDER";
const PROGRAM: &str = "sql::kill::program";

async fn killed_between_any_two_steps_it_comes_out_right<DB: Db>(place: Place<DB>) {
    let store = place.store().await;
    run_alone(&store, "CREATE TABLE effects (message_id TEXT)").await;
    for (order, steps) in [("ack", STEPS), ("relay", RELAYED_FIRST)] {
        for step in steps {
            let directory = tempfile::tempdir().unwrap();
            let id = format!("{order}-{step}");
            std::fs::write(directory.path().join("message"), &id).unwrap();
            let start = |at| {
                let directory = directory.path().to_str().unwrap();
                let world = [(KIND, DB::KIND), (ADDRESS, &*place.address), (DIRECTORY, directory), (ORDER, order)];
                Program::start(PROGRAM, &world, at)
            };
            start(Some(step)).kill_at(step);
            // Again at the same step, which some reach a second time and others not, and then to the end.
            start(Some(step)).kill_at_or_end(step);
            start(None).end();

            let effects = format!("SELECT count(*) FROM effects WHERE message_id = '{id}'");
            assert_eq!(number(&store, &effects).await, 1, "{id}: one effect");
            assert_eq!(store.outbox().backlog().await.unwrap(), sdk::sql::Backlog::default(), "{id}: nothing is left");
            assert!(!directory.path().join("message").exists(), "{id}: acknowledged");
            let published = published(directory.path());
            for event in ["first", "second"] {
                let of: Vec<_> = published.iter().filter(|(_, body)| body == event).collect();
                assert!(!of.is_empty(), "{id}: {event} was published");
                assert!(of.iter().all(|(id, _)| *id == of[0].0), "{id}: {event} always has one id: {of:?}");
            }
            assert_eq!(published[0].1, "first", "{id}: in order");
        }
    }
}

/// Ids and bodies of what was published, in order.
fn published(directory: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(directory.join("published")).unwrap();
    text.lines().map(|line| line.split_once(' ').unwrap()).map(|(id, body)| (id.to_owned(), body.to_owned())).collect()
}

/// The program. Not a test of its own.
#[test]
#[ignore = "the program that the test above starts and kills"]
fn program() {
    let Ok(kind) = std::env::var(KIND) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    match kind.as_str() {
        #[cfg(feature = "any")]
        "any" => runtime.block_on(serve::<sqlx::Any>()),
        "sqlite" => runtime.block_on(serve::<sqlx::Sqlite>()),
        _ => runtime.block_on(serve::<sqlx::Postgres>()),
    }
}

async fn serve<DB: Db>() {
    reached("started");
    let directory = PathBuf::from(std::env::var(DIRECTORY).unwrap());
    let store = DB::open(&std::env::var(ADDRESS).unwrap()).await;
    let acks_first = std::env::var(ORDER).unwrap() == "ack";
    let message = directory.join("message");
    if let Ok(id) = std::fs::read_to_string(&message) {
        reached("taken");
        handle(&store, &id).await;
        if acks_first {
            acknowledge(&message);
        }
    }
    relay(&store, &directory).await;
    if message.exists() {
        acknowledge(&message);
    }
}

async fn handle<DB: Db>(store: &Store<DB>, id: &str) {
    let mut tx = store.begin().await.unwrap();
    reached("begun");
    if tx.first_time("program", id).await.unwrap() {
        reached("inbox");
        run(&mut tx, &format!("INSERT INTO effects VALUES ('{id}')")).await;
        reached("effect");
        for (number, event) in ["first", "second"].into_iter().enumerate() {
            let message = Envelope::new("done", event);
            tx.send(Outgoing { to: Destination::Topic("done".to_owned()), message }).await.unwrap();
            reached(&format!("outbox {}", number + 1));
        }
    }
    tx.commit().await.unwrap();
    reached("committed");
}

fn acknowledge(message: &Path) {
    std::fs::remove_file(message).unwrap();
    reached("acked");
}

async fn relay<DB: Db>(store: &Store<DB>, directory: &Path) {
    let broker: Arc<Broker> = Broker::new();
    let path = directory.join("published");
    let mut published = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
    let mut left = store.outbox().pending().await.unwrap();
    broker.rule(move |outgoing| {
        let id = outgoing.message.id.as_ref().unwrap();
        assert_eq!(outgoing.message.dedup_id.as_deref(), Some(&*id.to_string()));
        published.write_all(format!("{id} {}\n", body(outgoing)).as_bytes()).unwrap();
        left -= 1;
        if left == 0 {
            reached("published");
        }
        Ok(())
    });
    let options =
        RelayOptions { poll: Duration::from_millis(5), lease: RelayOptions::MIN_LEASE, ..RelayOptions::default() };
    let running = Running::start(store, &broker, options);
    eventually("all is published", async || (store.outbox().pending().await.unwrap() == 0).then_some(())).await;
    reached("marked");
    running.stop().await;
}
