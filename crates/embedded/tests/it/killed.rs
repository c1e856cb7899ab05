//! The patterns in a database with the real broker: a service that is killed with SIGKILL between every two steps, and started again. Its broker is
//! in the process of the test, over a socket.

#[path = "../../../sdk/tests/it/sql/broker.rs"]
#[allow(dead_code, reason = "shared with the SDK's own tests, which use all of it")]
mod broker;
#[path = "../../../sdk/tests/it/sql/db.rs"]
#[allow(
    dead_code,
    unexpected_cfgs,
    reason = "shared with the SDK's own tests, which use all of it, by features of the SDK"
)]
mod db;
#[path = "../../../sdk/tests/it/sql/postgres.rs"]
mod postgres;
#[path = "../../../sdk/tests/it/sql/program.rs"]
mod program;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use embedded::Embedded;
use sdk::Envelope;
use sdk::sql::{RelayOptions, Store};
use sdk::transport::posthouse::{Posthouse, PosthouseOptions};
use sdk::transport::{Consume, Destination, Outgoing, QueueSpec, Settle, Topology, Transport};

use self::broker::{Broker, Running};
use self::db::{DEADLINE, Db, Place, eventually, number, run, run_alone};
use self::program::{Program, reached};

/// The steps, in order. The service stands still *after* the step of the name.
const STEPS: [&str; 10] =
    ["started", "taken", "begun", "inbox", "effect", "outbox", "committed", "acked", "published", "marked"];

const KIND: &str = "SDK_KILL_KIND";
const ADDRESS: &str = "SDK_KILL_ADDRESS";
const BROKER: &str = "SDK_KILL_BROKER";
const WORK: &str = "SDK_KILL_WORK";
const DONE: &str = "SDK_KILL_DONE";
const PROGRAM: &str = "killed::service";
/// How soon a message of a service that is gone comes again.
const LEASE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_on_sqlite_killed_between_any_two_steps_comes_out_right() {
    killed::<sqlx::Sqlite>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_on_postgres_killed_between_any_two_steps_comes_out_right() {
    killed::<sqlx::Postgres>().await;
}

async fn killed<DB: Db>() {
    let place = Place::<DB>::new().await;
    let store = place.store().await;
    run_alone(&store, "CREATE TABLE effects (message_id TEXT)").await;
    let broker = Embedded::builder().listen_grpc().start().await.unwrap();
    let transport = broker.transport();
    let url = broker.grpc_url().unwrap();
    for step in STEPS {
        let (work, done) = (format!("work-{step}"), format!("done-{step}"));
        let work_spec = QueueSpec { lease: LEASE, ..QueueSpec::new(&*work) };
        let done_spec = QueueSpec { dedup_window: Some(Duration::from_secs(3600)), ..QueueSpec::new(&*done) };
        let topology = Topology { queues: vec![work_spec, done_spec], ..Topology::default() };
        transport.declare(&topology).await.unwrap();
        let mut message = Envelope::new("work", step);
        message.id = Some(types::MessageId::Text(step.into()));
        let outgoing = Outgoing { to: Destination::Queue(work.clone()), message };
        transport.publish(vec![outgoing]).await.pop().unwrap().unwrap();

        let world = [(KIND, DB::KIND), (ADDRESS, &*place.address), (BROKER, &*url), (WORK, &*work), (DONE, &*done)];
        let life = |at: Option<&'static str>| {
            let program = Program::start(PROGRAM, &world, at);
            tokio::task::spawn_blocking(move || match at {
                Some(at) => program.kill_at_or_end(at),
                None => program.end(),
            })
        };
        let first = Program::start(PROGRAM, &world, Some(step));
        tokio::task::spawn_blocking(move || first.kill_at(step)).await.unwrap();
        // Again at the same step, which some reach a second time and others not, and then to the end.
        life(Some(step)).await.unwrap();
        life(None).await.unwrap();

        let effects = format!("SELECT count(*) FROM effects WHERE message_id = '{step}'");
        assert_eq!(number(&store, &effects).await, 1, "{step}: one effect");
        assert_eq!(store.outbox().backlog().await.unwrap(), sdk::sql::Backlog::default(), "{step}: nothing is left");
        assert_eq!(transport.queue_len(&work).await.unwrap(), 0, "{step}: acknowledged");
        // The queue has a dedup window, so what was published twice is there once.
        let mut events: HashMap<Vec<u8>, usize> = HashMap::new();
        for event in transport.browse(&done, 100).await.unwrap() {
            *events.entry(event.body.unwrap().to_vec()).or_default() += 1;
        }
        assert_eq!(events, [(b"first".to_vec(), 1), (b"second".to_vec(), 1)].into(), "{step}: each event");
    }
    broker.stop().await;
}

/// The service. Not a test of its own.
#[test]
#[ignore = "the service that the tests above start and kill"]
fn service() {
    let Ok(kind) = std::env::var(KIND) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    match kind.as_str() {
        "sqlite" => runtime.block_on(serve::<sqlx::Sqlite>()),
        _ => runtime.block_on(serve::<sqlx::Postgres>()),
    }
}

async fn serve<DB: Db>() {
    reached("started");
    let variable = |name| std::env::var(name).unwrap();
    let store = DB::open(&variable(ADDRESS)).await;
    let transport = Posthouse::connect(&variable(BROKER), PosthouseOptions::default()).await.unwrap();
    let transport: Arc<dyn Transport> = Arc::new(transport);
    let (work, done) = (variable(WORK), variable(DONE));
    if transport.queue_len(&work).await.unwrap() > 0 {
        let consume = Consume { queue: work, name: "service".to_owned(), credit: 1, lease: Some(LEASE) };
        let mut consumer = transport.consume(consume).await.unwrap();
        let delivery = tokio::time::timeout(DEADLINE, consumer.next()).await.expect("it comes again");
        let delivery = delivery.unwrap().unwrap().pop().unwrap();
        reached("taken");
        handle(&store, &delivery.message.id.as_ref().unwrap().to_string(), &done).await;
        let settler = consumer.settler();
        settler.settle(vec![(delivery.tag, Settle::Ack)]);
        settler.flush().await;
        reached("acked");
        consumer.stop();
    }
    let options =
        RelayOptions { poll: Duration::from_millis(5), lease: RelayOptions::MIN_LEASE, ..RelayOptions::default() };
    let relay = Running::start(&store, &Broker::before(transport.clone(), || reached("published")), options);
    eventually("all is published", async || (store.outbox().pending().await.unwrap() == 0).then_some(())).await;
    reached("marked");
    relay.stop().await;
    transport.close().await;
}

async fn handle<DB: Db>(store: &Store<DB>, id: &str, done: &str) {
    let mut tx = store.begin().await.unwrap();
    reached("begun");
    if tx.first_time("service", id).await.unwrap() {
        reached("inbox");
        run(&mut tx, &format!("INSERT INTO effects VALUES ('{id}')")).await;
        reached("effect");
        for event in ["first", "second"] {
            let mut message = Envelope::new("done", event);
            message.key = Some("order".into());
            tx.send(Outgoing { to: Destination::Queue(done.to_owned()), message }).await.unwrap();
        }
        reached("outbox");
    }
    tx.commit().await.unwrap();
    reached("committed");
}
