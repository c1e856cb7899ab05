//! Event sourcing, discovery, health and claim checks.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use schemars::JsonSchema;
use sdk::asyncapi::Server;
use sdk::claim_check::ClaimCheck;
use sdk::discovery::{Directory, EXPIRES_AFTER};
use sdk::event_sourcing::{Aggregate, EventLog, Repository, TopicLog};
use sdk::sql::Store;
use sdk::{Answer, Client, Error, Event, Message, Request, Service, State, Subscription};
use serde::{Deserialize, Serialize};

use crate::kit::{manual, soon};
use crate::shop::{CheckStock, OrderCreated, StockLevel, StockReserved};

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "account.changed", version = 1, topic = "accounts")]
enum AccountV1 {
    Deposited { euros: u64 },
}

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "account.changed", version = 2, topic = "accounts", upcast(1 = AccountV1))]
enum AccountEvent {
    Deposited { cents: u64 },
    Withdrawn { cents: u64 },
}

impl From<AccountV1> for AccountEvent {
    fn from(AccountV1::Deposited { euros }: AccountV1) -> Self {
        Self::Deposited { cents: euros * 100 }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Account {
    cents: u64,
}

impl Aggregate for Account {
    type Event = AccountEvent;

    fn apply(&mut self, event: AccountEvent) {
        match event {
            AccountEvent::Deposited { cents } => self.cents += cents,
            AccountEvent::Withdrawn { cents } => self.cents -= cents,
        }
    }
}

fn deposit(cents: u64) -> Result<Vec<AccountEvent>, Error> {
    Ok(vec![AccountEvent::Deposited { cents }])
}

#[tokio::test]
async fn an_aggregate_is_what_its_events_add_up_to_old_versions_among_them() {
    let directory = tempfile::tempdir().unwrap();
    let (_broker, transport) = manual().await;
    let bank = Service::new("bank").event_sourced::<Account>().start(Arc::clone(&transport)).await.unwrap();
    let client = bank.client().clone();
    let sqlite = Store::open(directory.path().join("bank.db")).await.unwrap();
    let logs: [Arc<dyn EventLog>; 2] =
        [Arc::new(TopicLog::new(&client, AccountEvent::TOPIC)), Arc::new(sqlite.event_log())];
    for log in logs {
        let old = sdk::contract::encode(&AccountV1::Deposited { euros: 3 }).unwrap();
        log.append("a-1", None, vec![old]).await.unwrap();
        let accounts: Repository<Account> = Repository::over(Arc::clone(&log)).snapshot_every(10);
        assert_eq!(accounts.load("a-1").await.unwrap().state, Account { cents: 300 });
        let refused = accounts.update("a-1", |account| {
            if account.cents < 1000 { Err(Error::terminal("too little")) } else { Ok(Vec::new()) }
        });
        assert!(Error::from(refused.await.unwrap_err()).is_terminal());
        // Those who append at the same time all get their turn.
        let all = (0..8).map(|_| {
            let accounts = accounts.clone();
            tokio::spawn(async move {
                for _ in 0..5 {
                    accounts.update("a-1", |_| deposit(10)).await.unwrap();
                }
            })
        });
        for task in all.collect::<Vec<_>>() {
            soon(task).await.unwrap();
        }
        let both = vec![AccountEvent::Withdrawn { cents: 100 }, AccountEvent::Deposited { cents: 1 }];
        let mut loaded = accounts.load("a-1").await.unwrap();
        let mut stale = loaded.clone();
        accounts.append(&mut loaded, both).await.unwrap();
        assert!(accounts.append(&mut stale, deposit(1).unwrap()).await.is_err(), "the version has moved on");
        let loaded = accounts.load("a-1").await.unwrap();
        assert_eq!((loaded.state.cents, loaded.events), (300 + 400 - 100 + 1, 1 + 40 + 2));
        assert!(log.snapshot("a-1").await.unwrap().is_some());
        let without: Repository<Account> = Repository::over(log);
        assert_eq!(without.load("a-1").await.unwrap().state, loaded.state, "a snapshot changes nothing");
    }
}

async fn check(Request(_): Request<CheckStock>) -> Answer<CheckStock> {
    Answer(StockLevel { left: 1, told_by: String::new() })
}

async fn reserve(Event(order): Event<OrderCreated>) -> StockReserved {
    StockReserved { order_id: order.order_id }
}

#[tokio::test]
async fn instances_are_found_and_gone_when_they_stop_or_die() {
    let (broker, transport) = manual().await;
    let service = || {
        let service = Service::new("inventory").version("1.2.3").endpoint("http", "http://127.0.0.1:8080");
        service.on(reserve).reply(check).publishes::<StockReserved>().start(Arc::clone(&transport))
    };
    let first = service().await.unwrap();
    let client = Client::new(Arc::clone(&transport));
    let mut directory = Directory::watch(&client).await.unwrap();
    let second = service().await.unwrap();
    let until = async |directory: &mut Directory, count: usize| {
        while directory.of("inventory").len() != count {
            soon(directory.changed()).await;
        }
    };
    until(&mut directory, 2).await;
    let instance = directory.of("inventory").remove(0);
    assert_eq!((instance.version.as_str(), instance.endpoints["http"].as_str()), ("1.2.3", "http://127.0.0.1:8080"));
    assert_eq!(
        (instance.consumes, instance.answers),
        (vec!["inventory.order.created".to_owned()], vec!["stock.check".to_owned()])
    );
    second.stop().await;
    until(&mut directory, 1).await;
    drop(first); // as a kill: it says goodbye, or is forgotten
    soon(async {
        while !directory.of("inventory").is_empty() {
            broker.advance(EXPIRES_AFTER / 8).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_service_is_ready_while_it_has_all_it_needs() {
    let (broker, transport) = manual().await;
    let database = Arc::new(Mutex::new(Ok::<(), String>(())));
    let there = Arc::clone(&database);
    let service = Service::new("s").check("database", move || std::future::ready(there.lock().clone()));
    let running = service.start(Arc::clone(&transport)).await.unwrap();
    soon(async {
        while !running.health().is_ready().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    *database.lock() = Err("connection refused".to_owned());
    assert_eq!(running.health().problems().await, ["database: connection refused"]);
    *database.lock() = Ok(());
    let health = running.health().clone();
    running.stop().await;
    assert_eq!(health.problems().await, ["it is stopping"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_large_body_travels_by_the_object_store() {
    #[derive(Serialize, Deserialize, JsonSchema, Message)]
    #[message(name = "report.made", topic = "reports")]
    struct Report {
        text: String,
    }
    async fn read(State(told): State<tokio::sync::mpsc::UnboundedSender<usize>>, Event(report): Event<Report>) {
        let _ = told.send(report.text.len());
    }
    let (_broker, transport) = manual().await;
    let store = Arc::new(object_store::memory::InMemory::new());
    let claims = ClaimCheck::new(store).threshold_bytes(1000);
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let service = Service::new("archive").state(tell).with(Subscription::new(read).claim_check(&claims));
    let _service = service.start(Arc::clone(&transport)).await.unwrap();
    let client = Client::new(Arc::clone(&transport));
    for len in [10, 100_000] {
        let publishing = claims.publishing(&Report { text: "x".repeat(len) }).await.unwrap();
        assert!(publishing.as_envelope().body.as_ref().unwrap().len() < 1000);
        client.send(publishing).await.unwrap();
        assert_eq!(soon(told.recv()).await, Some(len));
    }
    let lost = claims.publishing(&Report { text: "y".repeat(2000) }).await.unwrap();
    let later = types::Timestamp(i64::MAX / 2);
    assert_eq!(claims.clean_up(Duration::ZERO, later).await.unwrap(), 2);
    client.send(lost).await.unwrap();
    soon(async {
        while transport.queue_len("archive.report.made.dlq").await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_document_shows_what_a_service_does() {
    let service = Service::new("inventory").version("1.2.3").on(reserve).reply(check).publishes::<StockReserved>();
    let document = service.asyncapi(Some(Server { protocol: "grpc".to_owned(), host: "localhost:7071".to_owned() }));
    let text = document.to_string();
    for part in ["order.created", "stock.reserved", "stock.check", "stock.level", "inventory.order.created", "1.2.3"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}
