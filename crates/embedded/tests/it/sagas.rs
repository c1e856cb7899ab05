//! Sagas: each step once, undone when it cannot be finished, resumed after a crash.

use std::sync::Arc;
use std::time::Duration;

use embedded::Embedded;
use parking_lot::Mutex;
use sdk::saga::{Data, Saga, SagaHandle, SagaInstance, SagaStatus, SagaStore, Sagas, Step, StepContext};
use sdk::sql::Store;
use sdk::transport::Transport;
use sdk::{Client, Error, Event, Publishing, Running, Service, State};
use serde::{Deserialize, Serialize};

use crate::kit::{manual, soon};
use crate::shop::StockReserved;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Checkout {
    order_id: String,
    reserved: bool,
    paid: bool,
}

/// What the steps do to the world, and how often they fail before they succeed.
#[derive(Clone, Default)]
struct World {
    done: Arc<Mutex<Vec<String>>>,
    pay_failures: Arc<Mutex<Vec<Error>>>,
    refund_failures: Arc<Mutex<Vec<Error>>>,
    confirm_failures: Arc<Mutex<Vec<Error>>>,
    reasons: Arc<Mutex<Vec<String>>>,
}

impl World {
    fn does(&self, what: &str, step: &StepContext) {
        self.done.lock().push(format!("{what} {}", step.idempotency_key()));
    }

    fn done(&self) -> Vec<String> {
        self.done.lock().clone()
    }
}

fn fail(failures: &Mutex<Vec<Error>>) -> Result<(), Error> {
    failures.lock().pop().map_or(Ok(()), Err)
}

async fn reserve(
    State(world): State<World>,
    Data(mut order): Data<Checkout>,
    step: StepContext,
) -> Result<Checkout, Error> {
    world.does("reserve", &step);
    step.emit(&StockReserved { order_id: order.order_id.clone() })?;
    order.reserved = true;
    Ok(order)
}

async fn release(
    State(world): State<World>,
    Data(mut order): Data<Checkout>,
    step: StepContext,
) -> Result<Checkout, Error> {
    world.does("release", &step);
    order.reserved = false;
    Ok(order)
}

async fn pay(
    State(world): State<World>,
    Data(mut order): Data<Checkout>,
    step: StepContext,
) -> Result<Checkout, Error> {
    assert!(order.reserved, "a step sees what the one before did");
    fail(&world.pay_failures)?;
    world.does("pay", &step);
    order.paid = true;
    Ok(order)
}

async fn refund(
    State(world): State<World>,
    Data(mut order): Data<Checkout>,
    step: StepContext,
) -> Result<Checkout, Error> {
    fail(&world.refund_failures)?;
    world.does("refund", &step);
    order.paid = false;
    Ok(order)
}

async fn confirm(
    State(world): State<World>,
    Data(order): Data<Checkout>,
    step: StepContext,
) -> Result<Checkout, Error> {
    fail(&world.confirm_failures)?;
    world.does("confirm", &step);
    Ok(order)
}

async fn cancelled(
    State(world): State<World>,
    Data(order): Data<Checkout>,
    step: StepContext,
) -> Result<Checkout, Error> {
    world.does("cancelled", &step);
    world.reasons.lock().push(step.failure().unwrap_or_default().to_owned());
    Ok(order)
}

fn checkout() -> Saga<Checkout, World> {
    Saga::new("checkout")
        .step(Step::new("reserve", reserve).compensate(release))
        .step(Step::new("pay", pay).compensate(refund))
        .step(Step::new("confirm", confirm))
        .on_compensated(cancelled)
        .stuck_after(2)
}

struct Lab {
    broker: Embedded,
    transport: Arc<dyn Transport>,
    world: World,
    sagas: Sagas,
    store: SagaStore,
    service: Option<Running>,
}

impl Lab {
    async fn start(store: SagaStore, saga: Saga<Checkout, World>) -> Self {
        let (broker, transport) = manual().await;
        let world = World::default();
        let sagas = Sagas::new(Client::new(Arc::clone(&transport)), "order", "checkout", &store);
        let mut lab = Self { broker, transport, world, sagas, store, service: None };
        lab.serve(saga).await;
        lab
    }

    async fn serve(&mut self, saga: Saga<Checkout, World>) {
        let service = Service::new("order").state(self.world.clone()).saga(saga, self.store.clone());
        self.service = Some(service.publishes::<StockReserved>().start(Arc::clone(&self.transport)).await.unwrap());
    }

    async fn begin(&self, id: &str) {
        let state = Checkout { order_id: id.to_owned(), reserved: false, paid: false };
        let start = SagaHandle::new("order", "checkout").start(id, &state).unwrap();
        Client::new(Arc::clone(&self.transport)).send(start).await.unwrap();
    }

    /// The saga once it is as wanted; the clock goes on meanwhile.
    async fn until(&self, id: &str, wanted: impl Fn(&SagaInstance) -> bool) -> SagaInstance {
        soon(async {
            loop {
                if let Some(instance) = self.sagas.get(id).await.unwrap()
                    && wanted(&instance)
                {
                    return instance;
                }
                self.broker.advance(Duration::from_secs(1)).await;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }

    async fn until_over(&self, id: &str) -> SagaInstance {
        self.until(id, |instance| instance.status.is_over()).await
    }
}

/// Where sagas can be kept. The directory is there for as long as the database is.
async fn stores() -> (Vec<SagaStore>, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let sqlite = Store::open(directory.path().join("service.db")).await.unwrap();
    (vec![SagaStore::topic(), sqlite.saga_store()], directory)
}

#[tokio::test]
async fn steps_follow_one_another_and_what_they_emit_is_published() {
    async fn heard(
        State(heard): State<tokio::sync::mpsc::UnboundedSender<String>>,
        Event(stock): Event<StockReserved>,
    ) {
        let _ = heard.send(stock.order_id);
    }
    let (stores, _directory) = stores().await;
    for store in stores {
        let lab = Lab::start(store, checkout()).await;
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let _audit = Service::new("audit").state(tell).on(heard).start(Arc::clone(&lab.transport)).await.unwrap();
        lab.begin("o-1").await;
        lab.begin("o-1").await; // a second start of the same id starts nothing
        let instance = lab.until_over("o-1").await;
        assert_eq!(instance.status, SagaStatus::Completed, "{instance:?}");
        assert_eq!(instance.state["paid"], true);
        let wanted = ["reserve checkout/o-1/reserve", "pay checkout/o-1/pay", "confirm checkout/o-1/confirm"];
        assert_eq!(lab.world.done(), wanted);
        assert_eq!(soon(told.recv()).await.unwrap(), "o-1");
        let completed = lab.sagas.list(SagaStatus::Completed, 10).await.unwrap();
        assert_eq!(completed.len(), 1);
        assert!(lab.sagas.list(SagaStatus::Running, 10).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_transient_failure_is_tried_again_and_a_terminal_one_undoes_what_was_done() {
    let (stores, _directory) = stores().await;
    for store in stores {
        let lab = Lab::start(store, checkout()).await;
        lab.world.pay_failures.lock().extend([Error::transient("timeout"), Error::transient("timeout")]);
        lab.begin("o-1").await;
        assert_eq!(lab.until_over("o-1").await.status, SagaStatus::Completed);

        lab.world.done.lock().clear();
        lab.world.pay_failures.lock().push(Error::terminal("the card was declined"));
        lab.begin("o-2").await;
        let instance = lab.until_over("o-2").await;
        assert_eq!(instance.status, SagaStatus::Compensated);
        assert_eq!(instance.error.as_deref(), Some("the card was declined"));
        assert_eq!(*lab.world.reasons.lock(), ["the card was declined"]);
        let wanted = [
            "reserve checkout/o-2/reserve",
            // The payment said at the first try that it did nothing, and is not refunded.
            "release checkout/o-2/reserve/undo",
            "cancelled checkout/o-2/compensated/undo",
        ];
        assert_eq!(lab.world.done(), wanted);

        lab.world.done.lock().clear();
        lab.world.pay_failures.lock().extend([Error::terminal("declined"), Error::transient("timeout")]);
        lab.begin("o-3").await;
        lab.until_over("o-3").await;
        let undone = lab.world.done();
        assert!(
            undone.contains(&"refund checkout/o-3/pay/undo".to_owned()),
            "a timeout may have been a payment: {undone:?}"
        );
    }
}

#[tokio::test]
async fn the_last_attempt_of_a_step_undoes_the_saga() {
    let lab = Lab::start(SagaStore::topic(), checkout()).await;
    lab.world.pay_failures.lock().extend((0..5).map(|_| Error::transient("away")));
    lab.begin("o-1").await;
    let instance = lab.until_over("o-1").await;
    assert_eq!((instance.status, instance.error.as_deref()), (SagaStatus::Compensated, Some("away")));
    assert_eq!(lab.world.done().iter().filter(|done| done.starts_with("pay")).count(), 0);
}

#[tokio::test]
async fn a_compensation_that_fails_shows_as_stuck_and_goes_on_and_a_halted_one_is_resumed() {
    let lab = Lab::start(SagaStore::topic(), checkout()).await;
    lab.world.pay_failures.lock().extend([Error::terminal("declined"), Error::transient("timeout")]);
    lab.world.refund_failures.lock().extend((0..4).map(|_| Error::transient("the bank is closed")));
    lab.begin("o-1").await;
    let stuck = lab.until("o-1", |instance| instance.status == SagaStatus::Stuck).await;
    assert!(stuck.error.as_deref().unwrap_or_default().contains("the bank is closed"), "{stuck:?}");
    assert!(!stuck.halted);
    assert_eq!(lab.until_over("o-1").await.status, SagaStatus::Compensated, "it goes on by itself");

    lab.world.pay_failures.lock().extend([Error::terminal("declined"), Error::transient("timeout")]);
    lab.world.refund_failures.lock().push(Error::terminal("no such account"));
    lab.begin("o-2").await;
    lab.until("o-2", |instance| instance.halted).await;
    assert_eq!(lab.sagas.list(SagaStatus::Stuck, 10).await.unwrap().len(), 1);
    lab.sagas.resume("o-2").await.unwrap();
    assert_eq!(lab.until_over("o-2").await.status, SagaStatus::Compensated);
}

#[tokio::test]
async fn a_deadline_undoes_what_takes_too_long() {
    let lab = Lab::start(SagaStore::topic(), checkout().deadline(Duration::from_secs(2))).await;
    lab.world.pay_failures.lock().extend((0..100).map(|_| Error::retry_after("away", Duration::from_secs(600))));
    lab.begin("o-1").await;
    let instance = lab.until_over("o-1").await;
    assert_eq!(instance.status, SagaStatus::Compensated);
    assert!(instance.error.as_deref().unwrap_or_default().contains("not completed within 2s"), "{instance:?}");
}

#[tokio::test]
async fn behind_its_pivot_a_saga_goes_forward_only() {
    async fn told(
        State(world): State<World>,
        Data(order): Data<Checkout>,
        step: StepContext,
    ) -> Result<Checkout, Error> {
        fail(&world.pay_failures)?;
        world.does("told", &step);
        Ok(order)
    }
    let saga = Saga::new("checkout")
        .step(Step::new("reserve", reserve).compensate(release))
        .step(Step::new("confirm", confirm).pivot())
        .step(Step::new("told", told))
        .on_compensated(cancelled)
        .deadline(Duration::from_secs(5));
    let lab = Lab::start(SagaStore::topic(), saga).await;
    // More failures than a step has attempts, and longer than the deadline.
    lab.world.confirm_failures.lock().extend((0..8).map(|_| Error::retry_after("away", Duration::from_secs(2))));
    lab.begin("o-1").await;
    assert_eq!(lab.until_over("o-1").await.status, SagaStatus::Completed);

    lab.world.confirm_failures.lock().push(Error::terminal("no such order"));
    lab.begin("o-2").await;
    assert_eq!(lab.until_over("o-2").await.status, SagaStatus::Compensated, "the pivot says that it did nothing");

    lab.world.pay_failures.lock().push(Error::terminal("no such address"));
    lab.begin("o-3").await;
    let stuck = lab.until("o-3", |instance| instance.halted).await;
    assert_eq!((stuck.status, stuck.forward), (SagaStatus::Stuck, true));
    lab.sagas.resume("o-3").await.unwrap();
    assert_eq!(lab.until_over("o-3").await.status, SagaStatus::Completed);
    assert!(lab.world.done().contains(&"told checkout/o-3/told".to_owned()));
}

#[tokio::test]
async fn a_crash_in_the_middle_resumes_at_the_step_it_was_at() {
    #[derive(Clone, Default)]
    struct Gate(Arc<tokio::sync::Notify>, Arc<Mutex<Vec<&'static str>>>);
    async fn first(State(gate): State<Gate>, Data(order): Data<Checkout>) -> Result<Checkout, Error> {
        gate.1.lock().push("first");
        Ok(order)
    }
    async fn second(State(gate): State<Gate>, Data(order): Data<Checkout>) -> Result<Checkout, Error> {
        gate.1.lock().push("second");
        gate.0.notify_one();
        if gate.1.lock().iter().filter(|step| **step == "second").count() == 1 {
            std::future::pending::<()>().await;
        }
        Ok(order)
    }
    let saga = || Saga::new("checkout").step(Step::new("first", first)).step(Step::new("second", second));
    let (broker, transport) = manual().await;
    let gate = Gate::default();
    let start = || {
        let service = Service::new("order").state(gate.clone()).grace(Duration::from_millis(1));
        service.saga(saga(), SagaStore::topic()).start(Arc::clone(&transport))
    };
    let service = start().await.unwrap();
    let state = Checkout { order_id: "o-1".to_owned(), reserved: false, paid: false };
    let handle: SagaHandle<Checkout> = SagaHandle::new("order", "checkout");
    let publishing: Publishing = handle.start("o-1", &state).unwrap();
    Client::new(Arc::clone(&transport)).send(publishing).await.unwrap();
    soon(gate.0.notified()).await;
    drop(service); // as a kill: nothing is finished
    let _service = start().await.unwrap();
    let sagas = Sagas::new(Client::new(Arc::clone(&transport)), "order", "checkout", &SagaStore::topic());
    soon(async {
        while sagas.get("o-1").await.unwrap().is_none_or(|instance| !instance.status.is_over()) {
            broker.advance(Duration::from_secs(1)).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(*gate.1.lock(), ["first", "second", "second"]);
}
