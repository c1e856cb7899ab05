//! Effects that happen once, however often a message comes: by the service's own database, and by the broker alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sdk::sql::{Store, Transactional};
use sdk::testkit::chaos;
use sdk::transport::Transport;
use sdk::{
    Answer, Client, Error, Event, Publishing, Replay, Request, Responder, Running, Service, State, Subscription,
};
use sqlx::{Row, Sqlite};

use crate::kit::{manual, soon};
use crate::shop::{CheckStock, OrderCreated, StockLevel, StockReserved};

async fn reserve(mut tx: Transactional<Sqlite>, Event(order): Event<OrderCreated>) -> Result<StockReserved, Error> {
    let sql = "INSERT INTO reservations (order_id, quantity) VALUES ($1, $2)";
    sqlx::query(sql).bind(&order.order_id).bind(i64::from(order.quantity)).execute(tx.connection()).await?;
    if order.quantity == 0 {
        return Err(Error::terminal("an order of nothing"));
    }
    Ok(StockReserved { order_id: order.order_id })
}

async fn database(directory: &tempfile::TempDir) -> Store<Sqlite> {
    let store = Store::open(directory.path().join("inventory.db")).await.unwrap();
    let sql = "CREATE TABLE IF NOT EXISTS reservations (order_id TEXT NOT NULL, quantity BIGINT NOT NULL)";
    sqlx::query(sql).execute(store.pool()).await.unwrap();
    store
}

async fn reservations(store: &Store<Sqlite>) -> i64 {
    sqlx::query("SELECT COUNT(*) FROM reservations").fetch_one(store.pool()).await.unwrap().get(0)
}

async fn inventory(store: Store<Sqlite>, transport: Arc<dyn Transport>) -> Running {
    Service::new("inventory")
        .with(Subscription::new(reserve).idempotent(&store))
        .publishes::<StockReserved>()
        .outbox(&store)
        .start(transport)
        .await
        .unwrap()
}

fn orders(count: u32) -> Vec<Publishing> {
    let one = |n: u32| Publishing::of(&OrderCreated::new(&format!("o-{n}"), n + 1)).unwrap().id(format!("id-{n}"));
    (0..count).map(one).collect()
}

#[tokio::test]
async fn an_inbox_in_the_services_own_database_makes_a_handler_idempotent() {
    let directory = tempfile::tempdir().unwrap();
    let store = database(&directory).await;
    let (_broker, transport) = manual().await;
    // Who hears of what was reserved.
    let heard = Arc::new(AtomicU32::new(0));
    async fn count(State(heard): State<Arc<AtomicU32>>, Event(_): Event<StockReserved>) {
        heard.fetch_add(1, Ordering::SeqCst);
    }
    let _audit = Service::new("audit").state(Arc::clone(&heard)).on(count).start(Arc::clone(&transport)).await.unwrap();
    let start = |transport| inventory(store.clone(), transport);
    let found = chaos(transport, start, orders(20), || reservations(&store)).await;
    assert_eq!(found.once, 20);
    found.assert_idempotent();
    soon(async {
        while heard.load(Ordering::SeqCst) < 20 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(store.outbox().pending().await.unwrap(), 0);
    assert_eq!(heard.load(Ordering::SeqCst), 20, "each is published once");
}

#[tokio::test]
async fn chaos_finds_a_handler_that_is_not_idempotent() {
    async fn naive(State(calls): State<Arc<AtomicU32>>, Event(_): Event<OrderCreated>) {
        calls.fetch_add(1, Ordering::SeqCst);
    }
    let (_broker, transport) = manual().await;
    let calls = Arc::new(AtomicU32::new(0));
    let start = |transport| {
        let service = Service::new("naive").state(Arc::clone(&calls)).on(naive);
        async move { service.start(transport).await.unwrap() }
    };
    let effect = || std::future::ready(calls.load(Ordering::SeqCst));
    assert!(!chaos(transport, start, orders(5), effect).await.is_idempotent());
}

#[tokio::test]
async fn a_handler_that_fails_leaves_nothing_in_the_database() {
    let directory = tempfile::tempdir().unwrap();
    let store = database(&directory).await;
    let (_broker, transport) = manual().await;
    let service = inventory(store.clone(), Arc::clone(&transport)).await;
    Client::new(Arc::clone(&transport)).publish(&OrderCreated::new("o-0", 0)).await.unwrap();
    soon(async {
        while transport.queue_len("inventory.order.created.dlq").await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    service.stop().await;
    assert_eq!(reservations(&store).await, 0);
    assert_eq!(store.outbox().pending().await.unwrap(), 0);
}

#[tokio::test]
async fn the_broker_alone_takes_a_message_once_and_publishes_what_follows_with_the_acknowledgement() {
    async fn forward(Event(order): Event<OrderCreated>) -> StockReserved {
        StockReserved { order_id: order.order_id }
    }
    let (_broker, transport) = manual().await;
    let heard = Arc::new(AtomicU32::new(0));
    async fn count(State(heard): State<Arc<AtomicU32>>, Event(_): Event<StockReserved>) {
        heard.fetch_add(1, Ordering::SeqCst);
    }
    let _audit = Service::new("audit").state(Arc::clone(&heard)).on(count).start(Arc::clone(&transport)).await.unwrap();
    let start = |transport| {
        let service = Service::new("forward").with(Subscription::new(forward).once(Duration::from_secs(3600)));
        async move { service.publishes::<StockReserved>().start(transport).await.unwrap() }
    };
    let audited = Arc::clone(&transport);
    let effect = || {
        let (heard, audited) = (Arc::clone(&heard), Arc::clone(&audited));
        async move {
            while audited.queue_len("audit.stock.reserved").await.unwrap() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            heard.load(Ordering::SeqCst)
        }
    };
    let found = chaos(transport, start, orders(20), effect).await;
    assert_eq!(found.once, 20);
    found.assert_idempotent();
}

#[tokio::test]
async fn a_question_that_is_asked_again_gets_the_same_answer_and_is_worked_on_once() {
    async fn count(
        State(calls): State<Arc<AtomicU32>>,
        _tx: Transactional<Sqlite>,
        Request(_): Request<CheckStock>,
    ) -> Answer<CheckStock> {
        let left = calls.fetch_add(1, Ordering::SeqCst);
        Answer(StockLevel { left, told_by: "it".to_owned() })
    }
    let directory = tempfile::tempdir().unwrap();
    let store = database(&directory).await;
    let (_broker, transport) = manual().await;
    let calls = Arc::new(AtomicU32::new(0));
    let service =
        Service::new("inventory").state(Arc::clone(&calls)).responder(Responder::new(count).idempotent(&store));
    let _service = service.start(Arc::clone(&transport)).await.unwrap();
    let client = Client::new(transport);
    let question = CheckStock { product: "tea".to_owned() };
    for key in ["a", "a", "b", "a"] {
        let level = soon(client.request(&question).idempotency_key(key).into_future()).await.unwrap();
        assert_eq!(level.left, u32::from(key == "b"), "{key}");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_projection_with_its_checkpoint_in_the_database_counts_each_record_once() {
    async fn project(mut tx: Transactional<Sqlite>, Event(order): Event<OrderCreated>) -> Result<(), Error> {
        let sql = "INSERT INTO reservations (order_id, quantity) VALUES ($1, $2)";
        sqlx::query(sql).bind(&order.order_id).bind(i64::from(order.quantity)).execute(tx.connection()).await?;
        Ok(())
    }
    let directory = tempfile::tempdir().unwrap();
    let store = database(&directory).await;
    let (_broker, transport) = manual().await;
    let start = || {
        let replay = Replay::new("report", "orders").on(project).checkpoint_in(&store);
        Service::new("analytics").replay(replay).start(Arc::clone(&transport))
    };
    // Two instances read the same log.
    let (first, second) = (start().await.unwrap(), start().await.unwrap());
    let client = Client::new(Arc::clone(&transport));
    let until = async |count: i64| {
        while reservations(&store).await < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    for publishing in orders(10) {
        client.send(publishing).await.unwrap();
    }
    soon(until(10)).await;
    first.stop().await;
    second.stop().await;
    client.publish(&OrderCreated::new("last", 1)).await.unwrap();
    let third = start().await.unwrap();
    soon(until(11)).await;
    third.stop().await;
    assert_eq!(reservations(&store).await, 11);
    assert_eq!(store.checkpoints().load("report/1").await.unwrap().len(), 1);
}
