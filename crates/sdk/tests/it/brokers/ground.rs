//! What the tests stand on: brokers, names, and a wire that can be cut.

#![allow(clippy::disallowed_methods, reason = "the brokers are real, and so is the time that they take")]

use std::sync::Arc;
use std::time::Duration;

use sdk::Envelope;
use sdk::transport::amqp::{Amqp, AmqpOptions};
use sdk::transport::{
    BindingSpec, Consume, Consumer, Delivery, Destination, Outgoing, QueueSpec, TopicSpec, Topology, Transport,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The address of a broker, from the environment. In CI it must be there: a check that was not made is not one that passed. The step that runs
/// all tests says by `SDK_BROKERS=check` that the check `sdk_amqp` runs these, with the brokers that it starts.
#[allow(clippy::print_stderr, reason = "whoever runs the tests by hand sees what was left out")]
pub(crate) fn broker(variable: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(url) => Some(url),
        Err(_) if std::env::var_os("CI").is_some() && std::env::var_os("SDK_BROKERS").is_none() => {
            panic!("{variable} must say where the broker is")
        }
        Err(_) => {
            eprintln!("left out: {variable} does not say where the broker is");
            None
        }
    }
}

/// The command that restarts this broker, and ends when it listens again at the same address, if the environment has one: that is the variable of
/// the address with `_RESTART` behind it. Other tests must not run at that time.
#[cfg(feature = "conformance")]
pub(crate) fn restart_command(url: &str) -> Option<String> {
    let variables = ["SDK_POSTHOUSE_AMQP_URL", "SDK_RABBITMQ_URL"];
    let variable = variables.into_iter().find(|variable| std::env::var(variable).is_ok_and(|have| have == url))?;
    std::env::var(format!("{variable}_RESTART")).ok()
}

/// A test for each broker.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => { $(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn posthouse() {
                if let Some(url) = $crate::brokers::ground::broker("SDK_POSTHOUSE_AMQP_URL") {
                    super::$name(&url).await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn rabbitmq() {
                if let Some(url) = $crate::brokers::ground::broker("SDK_RABBITMQ_URL") {
                    super::$name(&url).await;
                }
            }
        }
    )* };
}
pub(crate) use on_both;

pub(crate) fn options() -> AmqpOptions {
    AmqpOptions { reconnect_cap: Duration::from_millis(400), ..AmqpOptions::default() }
}

pub(crate) async fn connect(url: &str) -> Amqp {
    Amqp::connect(url, options()).await.unwrap()
}

/// A name that no other test has.
pub(crate) fn fresh(name: &str) -> String {
    format!("sdk-test-{name}-{:08x}", fastrand::u32(..))
}

/// A topic and a queue that all of it goes to.
pub(crate) async fn declare(amqp: &Amqp, topic: &str, queue: &str) {
    let topology = Topology {
        topics: vec![TopicSpec::new(topic)],
        queues: vec![QueueSpec::new(queue)],
        bindings: vec![BindingSpec { topic: topic.into(), queue: queue.into(), subject: "#".into() }],
    };
    amqp.declare(&topology).await.unwrap();
}

pub(crate) fn message(id: &str, subject: &str) -> Envelope {
    Envelope { id: Some(sdk_id(id)), ..Envelope::new(subject.to_owned(), id.to_owned()) }
}

fn sdk_id(id: &str) -> types::MessageId {
    types::MessageId::Text(id.into())
}

pub(crate) fn to_topic(topic: &str, message: Envelope) -> Outgoing {
    Outgoing { to: Destination::Topic(topic.into()), message }
}

pub(crate) fn to_queue(queue: &str, message: Envelope) -> Outgoing {
    Outgoing { to: Destination::Queue(queue.into()), message }
}

pub(crate) async fn consume(amqp: &Amqp, queue: &str, credit: u32) -> Box<dyn Consumer> {
    let consume = Consume { queue: queue.into(), name: fresh("consumer"), credit, lease: None };
    amqp.consume(consume).await.unwrap()
}

/// The next deliveries, so many at least.
pub(crate) async fn take(consumer: &mut dyn Consumer, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = tokio::time::timeout(PATIENCE, consumer.next()).await;
        let next = next.unwrap_or_else(|_| panic!("{count} deliveries were awaited, and {} came", taken.len()));
        taken.extend(next.unwrap().expect("the consumer has ended"));
    }
    taken
}

pub(crate) fn body(delivery: &Delivery) -> String {
    String::from_utf8(delivery.message.body.clone().unwrap_or_default().to_vec()).unwrap()
}

/// Waits until a queue has so many messages that are ready.
pub(crate) async fn until_len(amqp: &Amqp, queue: &str, len: u64) {
    let reached = tokio::time::timeout(PATIENCE, async {
        while amqp.queue_len(queue).await.unwrap() != len {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(reached.await.is_ok(), "{queue} has {:?}, not {len}", amqp.queue_len(queue).await);
}

/// A wire between a client and a broker.
pub(crate) struct Wire {
    url: String,
    whole: Arc<watch::Sender<bool>>,
}

impl Wire {
    pub(crate) async fn to(url: &str) -> Self {
        let mut parsed = url::Url::parse(url).unwrap();
        let broker = format!("{}:{}", parsed.host_str().unwrap(), parsed.port().unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        parsed.set_host(Some("127.0.0.1")).unwrap();
        parsed.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        let whole = Arc::new(watch::Sender::new(true));
        let state = Arc::clone(&whole);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = state.subscribe();
                let broker = broker.clone();
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    // The broker may be starting again.
                    let Ok(mut far) = TcpStream::connect(broker).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.wait_for(|whole| !whole) => {}
                    }
                });
            }
        });
        Self { url: parsed.to_string(), whole }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Waits until nothing goes through any more.
    pub(crate) async fn all_ended(&self) {
        while self.whole.receiver_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn mend(&self) {
        self.whole.send_replace(true);
    }
}
