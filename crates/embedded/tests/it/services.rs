//! Services on the real broker: what becomes of messages that are handled, and of those that are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use embedded::Embedded;
use parking_lot::Mutex;
use sdk::transport::{RetentionSpec, RetrySpec, Support, Transport};
use sdk::{
    Breaker, Client, Context, Envelope, Error, Event, Publishing, Replay, Service, ServiceError, State, Stopped,
    Subscription,
};
use tokio::sync::mpsc;

use crate::kit::{manual, soon, text};
use crate::shop::{OrderCreated, StockReserved};

/// Hands what a handler sees to the test.
type Seen<T> = mpsc::UnboundedSender<T>;

async fn reserve(Event(order): Event<OrderCreated>) -> StockReserved {
    StockReserved { order_id: order.order_id }
}

async fn note(State(seen): State<Seen<String>>, Event(stock): Event<StockReserved>, context: Context) {
    let caused_by = sdk::headers::text(context.envelope(), sdk::headers::CAUSATION).unwrap_or_default();
    assert!(!caused_by.is_empty());
    let _ = seen.send(format!("{} of {}", stock.order_id, context.correlation_id()));
}

#[tokio::test]
async fn what_a_handler_returns_is_published_and_belongs_to_the_same_conversation() {
    let (_broker, transport) = manual().await;
    let (seen, mut told) = mpsc::unbounded_channel();
    let inventory = Service::new("inventory").on(reserve).start(Arc::clone(&transport)).await.unwrap();
    let audit = Service::new("audit").state(seen).on(note).start(Arc::clone(&transport)).await.unwrap();
    let client = Client::new(transport);
    let order = Publishing::of(&OrderCreated::new("o-1", 2)).unwrap().id("first");
    assert_eq!(client.send(order).await.unwrap().routed, Some(true));
    assert_eq!(soon(told.recv()).await.unwrap(), "o-1 of first");
    assert_eq!(inventory.stop().await, Stopped::Finished);
    assert_eq!(audit.stop().await, Stopped::Finished);
}

/// Fails as often as it is told to, and tells each attempt.
#[derive(Clone)]
struct Flaky {
    failures: u32,
    attempts: Seen<u32>,
}

async fn flaky(
    State(flaky): State<Flaky>,
    Event(_): Event<OrderCreated>,
    context: Context,
) -> Result<(), std::io::Error> {
    let _ = flaky.attempts.send(context.attempt());
    if context.attempt() <= flaky.failures { Err(std::io::Error::other("the gateway is away")) } else { Ok(()) }
}

#[tokio::test]
async fn an_unknown_error_is_tried_again_after_an_hour_that_takes_no_time() {
    let (broker, transport) = manual().await;
    let (attempts, mut told) = mpsc::unbounded_channel();
    let retry = RetrySpec {
        initial: Duration::from_secs(3600),
        cap: Duration::from_secs(3600),
        jitter: false,
        ..RetrySpec::default()
    };
    let service = Service::new("payment")
        .state(Flaky { failures: 1, attempts })
        .with(Subscription::new(flaky).retry(retry))
        .start(Arc::clone(&transport))
        .await
        .unwrap();
    Client::new(Arc::clone(&transport)).publish(&OrderCreated::new("o-1", 2)).await.unwrap();
    assert_eq!(soon(told.recv()).await, Some(1));
    // The failure has to be with the broker before the time goes on.
    soon(settled(&*transport, &broker, &mut told, 2)).await;
    service.stop().await;
    assert_eq!(transport.queue_len("payment.order.created").await.unwrap(), 0);
    assert_eq!(transport.queue_len("payment.order.created.dlq").await.unwrap(), 0);
}

/// Moves the clock on by the hour until this attempt is made.
async fn settled(_: &dyn Transport, broker: &Embedded, told: &mut mpsc::UnboundedReceiver<u32>, wanted: u32) {
    loop {
        broker.advance(Duration::from_secs(3600)).await;
        match tokio::time::timeout(Duration::from_millis(50), told.recv()).await {
            Ok(attempt) if attempt == Some(wanted) => return,
            Ok(attempt) => panic!("attempt {attempt:?} instead of {wanted}"),
            Err(_) => {}
        }
    }
}

#[tokio::test]
async fn the_last_attempt_makes_a_dead_letter_and_nothing_is_dropped() {
    let (broker, transport) = manual().await;
    let (attempts, mut told) = mpsc::unbounded_channel();
    let _service = Service::new("payment")
        .state(Flaky { failures: u32::MAX, attempts })
        .with(Subscription::new(flaky).max_attempts(3))
        .start(Arc::clone(&transport))
        .await
        .unwrap();
    Client::new(Arc::clone(&transport)).publish(&OrderCreated::new("o-1", 2)).await.unwrap();
    assert_eq!(soon(told.recv()).await, Some(1));
    for attempt in [2, 3] {
        soon(settled(&*transport, &broker, &mut told, attempt)).await;
    }
    let dead = soon(dead_letters(&*transport, "payment.order.created.dlq", 1)).await;
    assert!(text(&dead[0]).contains("o-1"));
}

async fn dead_letters(transport: &dyn Transport, queue: &str, count: usize) -> Vec<Envelope> {
    loop {
        let dead = transport.browse(queue, 100).await.unwrap();
        if dead.len() >= count {
            return dead;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn refuse(Event(order): Event<OrderCreated>) -> Result<(), Error> {
    Err(Error::terminal(format!("there is no product for {}", order.order_id)))
}

#[tokio::test]
async fn a_terminal_error_an_unknown_version_and_nonsense_are_dead_letters_at_once_with_their_reasons() {
    let (_broker, transport) = manual().await;
    let _service = Service::new("stock").on(refuse).start(Arc::clone(&transport)).await.unwrap();
    let client = Client::new(Arc::clone(&transport));
    client.publish(&OrderCreated::new("o-1", 2)).await.unwrap();
    let newer = Publishing::of(&OrderCreated::new("o-2", 2)).unwrap();
    let mut envelope = newer.as_envelope().clone();
    sdk::headers::set(&mut envelope, sdk::headers::VERSION, "7");
    client.send(Publishing::envelope(newer.destination().clone(), envelope)).await.unwrap();
    let mut nonsense = newer.as_envelope().clone();
    nonsense.id = None;
    nonsense.body = Some("no JSON".into());
    client.send(Publishing::envelope(newer.destination().clone(), nonsense)).await.unwrap();
    let dead = soon(dead_letters(&*transport, "stock.order.created.dlq", 3)).await;
    let errors: Vec<String> = dead.iter().map(|letter| format!("{:?}", letter.headers)).collect();
    let wanted = ["there is no product for o-1", "version 7, and this service knows 1", "is no OrderCreated"];
    for wanted in wanted {
        assert!(errors.iter().any(|error| error.contains(wanted)), "{wanted}: {errors:#?}");
    }
}

#[tokio::test]
async fn a_panic_is_a_failure_like_any_other() {
    async fn panics(Event(_): Event<OrderCreated>, context: Context) {
        assert!(context.attempt() > 1, "it panics once");
    }
    let (broker, transport) = manual().await;
    let service = Service::new("risky").on(panics).start(Arc::clone(&transport)).await.unwrap();
    Client::new(Arc::clone(&transport)).publish(&OrderCreated::new("o-1", 2)).await.unwrap();
    soon(async {
        while transport.queue_len("risky.order.created").await.unwrap() > 0 {
            broker.advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(service.stop().await, Stopped::Finished);
    assert_eq!(transport.queue_len("risky.order.created.dlq").await.unwrap(), 0);
}

#[tokio::test]
async fn a_service_that_stops_finishes_what_it_is_at() {
    #[derive(Clone)]
    struct Gate(Arc<tokio::sync::Semaphore>, Seen<()>);
    async fn slow(State(gate): State<Gate>, Event(_): Event<OrderCreated>) {
        let _ = gate.1.send(());
        let _permit = gate.0.acquire().await;
    }
    let (_broker, transport) = manual().await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let (begun, mut told) = mpsc::unbounded_channel();
    let service = Service::new("slow")
        .state(Gate(Arc::clone(&gate), begun))
        .on(slow)
        .start(Arc::clone(&transport))
        .await
        .unwrap();
    Client::new(Arc::clone(&transport)).publish(&OrderCreated::new("o-1", 2)).await.unwrap();
    soon(told.recv()).await;
    let stopping = tokio::spawn(service.stop());
    tokio::task::yield_now().await;
    assert!(!stopping.is_finished());
    gate.add_permits(1);
    assert_eq!(soon(stopping).await.unwrap(), Stopped::Finished);
    assert_eq!(transport.queue_len("slow.order.created").await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_not_finished_in_time_goes_back_to_its_queue() {
    async fn never(State(seen): State<Seen<()>>, Event(_): Event<OrderCreated>) {
        let _ = seen.send(());
        std::future::pending::<()>().await;
    }
    let (_broker, transport) = manual().await;
    let (begun, mut told) = mpsc::unbounded_channel();
    let service = Service::new("never").state(begun).grace(Duration::from_millis(50)).on(never);
    let service = service.start(Arc::clone(&transport)).await.unwrap();
    Client::new(Arc::clone(&transport)).publish(&OrderCreated::new("o-1", 2)).await.unwrap();
    soon(told.recv()).await;
    assert_eq!(soon(service.stop()).await, Stopped::AtTheLimit);
    assert_eq!(transport.queue_len("never.order.created").await.unwrap(), 1);
}

#[tokio::test]
async fn workers_of_a_queue_share_its_tasks_and_several_of_a_key_stay_in_order() {
    type Log = Arc<Mutex<Vec<(String, u32)>>>;
    async fn work(State(log): State<Log>, Event(task): Event<OrderCreated>) {
        tokio::task::yield_now().await;
        log.lock().push((task.order_id, task.quantity));
    }
    let (_broker, transport) = manual().await;
    let log = Log::default();
    let worker = |name: &str| {
        let subscription = Subscription::worker("tasks", work).keyed().concurrency(4);
        Service::new(name).state(Arc::clone(&log)).with(subscription).start(Arc::clone(&transport))
    };
    let (one, two) = (worker("one").await.unwrap(), worker("two").await.unwrap());
    let tasks = (0..200).map(|n| {
        let task = OrderCreated::new(&format!("k-{}", n % 5), n);
        Publishing::of(&task).unwrap().to_queue("tasks")
    });
    for answer in Client::new(Arc::clone(&transport)).send_all(tasks.collect()).await {
        answer.unwrap();
    }
    soon(async {
        while log.lock().len() < 200 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    one.stop().await;
    two.stop().await;
    let log = log.lock();
    assert_eq!(log.len(), 200, "each is worked on once");
    for key in 0..5 {
        let of_key: Vec<u32> = log.iter().filter(|(id, _)| *id == format!("k-{key}")).map(|(_, n)| *n).collect();
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
}

#[tokio::test]
async fn a_replay_reads_from_the_beginning_and_goes_on_where_it_was_after_a_restart() {
    type Log = Arc<Mutex<Vec<u32>>>;
    async fn sum(State(log): State<Log>, Event(order): Event<OrderCreated>) {
        log.lock().push(order.quantity);
    }
    let (_broker, transport) = manual().await;
    let log = Log::default();
    let keeps = Service::new("order").keeps("orders", RetentionSpec::default()).publishes::<OrderCreated>();
    keeps.start(Arc::clone(&transport)).await.unwrap().stop().await;
    let client = Client::new(Arc::clone(&transport));
    let start = |version| {
        let replay = Replay::new("report", "orders").version(version).on(sum);
        Service::new("analytics").state(Arc::clone(&log)).replay(replay).start(Arc::clone(&transport))
    };
    let until = |len: usize| {
        let log = Arc::clone(&log);
        async move {
            while log.lock().len() < len {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    };
    for quantity in 1..=3 {
        client.publish(&OrderCreated::new("o", quantity)).await.unwrap();
    }
    let service = start(1).await.unwrap();
    soon(until(3)).await;
    service.stop().await;
    client.publish(&OrderCreated::new("o", 4)).await.unwrap();
    let service = start(1).await.unwrap();
    soon(until(4)).await;
    service.stop().await;
    assert_eq!(*log.lock(), [1, 2, 3, 4]);
    let service = start(2).await.unwrap();
    soon(until(8)).await;
    service.stop().await;
    assert_eq!(log.lock()[4..], [1, 2, 3, 4], "another version reads all of it again");
}

#[tokio::test]
async fn a_breaker_pauses_and_does_not_use_up_attempts() {
    #[derive(Clone)]
    struct Away(Arc<AtomicU32>);
    async fn away(State(calls): State<Away>, Event(_): Event<OrderCreated>) -> Result<(), Error> {
        calls.0.fetch_add(1, Ordering::SeqCst);
        Err(Error::retry_after("the database is away", Duration::ZERO))
    }
    let (broker, transport) = manual().await;
    let calls = Away(Arc::default());
    let breaker = Breaker { failure_ratio: 0.5, window: 4, pause: Duration::from_secs(60) };
    let subscription = Subscription::new(away).concurrency(1).max_attempts(1000).breaker(breaker);
    let service =
        Service::new("b").state(calls.clone()).with(subscription).start(Arc::clone(&transport)).await.unwrap();
    let client = Client::new(Arc::clone(&transport));
    for n in 0..20 {
        client.publish(&OrderCreated::new("o", n)).await.unwrap();
    }
    let count = || calls.0.load(Ordering::SeqCst);
    soon(async {
        while count() < 4 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let paused = count();
    assert!(paused <= 5, "{paused} calls before the pause");
    soon(async {
        while count() == paused {
            broker.advance(Duration::from_secs(60)).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(count(), paused + 1, "one message is tried");
    service.stop().await;
}

#[tokio::test]
async fn a_success_that_was_begun_before_a_pause_does_not_end_it() {
    #[derive(Clone)]
    struct Away(Arc<AtomicU32>, Arc<tokio::sync::Semaphore>);
    // The first message waits and succeeds in the end, all others fail at once.
    async fn away(State(away): State<Away>, Event(order): Event<OrderCreated>) -> Result<(), Error> {
        if order.quantity == 0 {
            let _permit = away.1.acquire().await;
            return Ok(());
        }
        away.0.fetch_add(1, Ordering::SeqCst);
        Err(Error::retry_after("the database is away", Duration::ZERO))
    }
    let (broker, transport) = manual().await;
    let away_ = Away(Arc::default(), Arc::new(tokio::sync::Semaphore::new(0)));
    let breaker = Breaker { failure_ratio: 0.5, window: 4, pause: Duration::from_secs(60) };
    let subscription = Subscription::new(away).concurrency(2).max_attempts(1000).breaker(breaker);
    let service =
        Service::new("b").state(away_.clone()).with(subscription).start(Arc::clone(&transport)).await.unwrap();
    let client = Client::new(Arc::clone(&transport));
    for n in 0..20 {
        client.publish(&OrderCreated::new("o", n)).await.unwrap();
    }
    let count = || away_.0.load(Ordering::SeqCst);
    let until = async |wanted: u32| {
        while count() < wanted {
            broker.advance(Duration::from_secs(1)).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(until(4)).await;
    let paused = count();
    away_.1.add_permits(1);
    // The message that is tried after the pause fails, and the next pause begins.
    soon(until(paused + 1)).await;
    for _ in 0..20 {
        broker.advance(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(count() <= paused + 2, "{} instead of one at a time", count() - paused);
    service.stop().await;
}

#[tokio::test]
async fn tower_layers_wrap_a_handler() {
    async fn slow(Event(_): Event<OrderCreated>, context: Context) {
        if context.attempt() == 1 {
            std::future::pending::<()>().await;
        }
    }
    let (broker, transport) = manual().await;
    let layers = tower::ServiceBuilder::new().concurrency_limit(2).timeout(Duration::from_millis(20));
    let service = Service::new("layered").with(Subscription::new(slow).layer(layers));
    let service = service.start(Arc::clone(&transport)).await.unwrap();
    let client = Client::new(Arc::clone(&transport));
    for n in 0..5 {
        client.publish(&OrderCreated::new("o", n)).await.unwrap();
    }
    soon(async {
        while transport.queue_len("layered.order.created").await.unwrap() > 0 {
            broker.advance(Duration::from_secs(5)).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    service.stop().await;
    assert_eq!(transport.queue_len("layered.order.created.dlq").await.unwrap(), 0);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_declared() {
    let (_broker, transport) = manual().await;
    async fn nothing() {}
    let service = Service::new("twice").on(reserve).on(refuse).with(Subscription::new(nothing));
    let error = service.start(Arc::clone(&transport)).await.unwrap_err();
    let ServiceError::Invalid { problems, .. } = &error else { panic!("{error}") };
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(transport.queue_len("twice.order.created").await.is_err());
    assert_eq!(transport.capabilities().keyed, Support::Broker);
}

#[tokio::test]
async fn the_calls_of_a_handler_that_a_test_names_fail() {
    async fn told(State(seen): State<Seen<u32>>, Event(_): Event<OrderCreated>, context: Context) {
        let _ = seen.send(context.attempt());
    }
    let (broker, transport) = manual().await;
    let (seen, mut attempts) = mpsc::unbounded_channel();
    let subscription = Subscription::new(told).layer(sdk::testkit::FailNth::calls([1, 2]));
    let service = Service::new("s").state(seen).with(subscription).start(Arc::clone(&transport)).await.unwrap();
    Client::new(Arc::clone(&transport)).publish(&OrderCreated::new("o", 1)).await.unwrap();
    soon(settled(&*transport, &broker, &mut attempts, 3)).await;
    service.stop().await;
}
