//! A broker on a manual clock, and the calls that tests make over and over.

use std::sync::Arc;
use std::time::Duration;

use broker::definitions::{BindingConfig, BindingTarget, QueueConfig, TopicConfig};
use broker::queue::{ConsumerRules, Credit, Settle};
use broker::views::{Delivered, Published};
use broker::{
    Broker, BrokerOptions, ConsumerOptions, Credentials, PublishOptions, PublishTo, Receive, Session, SettleError,
};
use log::MemoryLog;
use testkit::ManualClock;
use types::{Filter, Message};

pub(crate) struct Bench {
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) broker: Broker,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::on(Arc::new(MemoryLog::new()), Arc::new(ManualClock::new()))
    }

    pub(crate) fn on(log: Arc<MemoryLog>, clock: Arc<ManualClock>) -> Self {
        Self::with(log, clock, BrokerOptions::default())
    }

    pub(crate) fn with(log: Arc<MemoryLog>, clock: Arc<ManualClock>, options: BrokerOptions) -> Self {
        let broker = Broker::open(log.clone(), clock.clone(), options).expect("opens");
        Self { log, clock, broker }
    }

    /// The same content in a new process.
    pub(crate) fn restart(self) -> Self {
        let log = Arc::new(self.log.reopen());
        let clock = self.clock.clone();
        drop(self);
        Self::on(log, clock)
    }

    pub(crate) fn session(&self) -> Session {
        let principal = self.broker.authenticate(&Credentials::Anonymous).expect("anonymous");
        self.broker.session(&principal, "default").expect("default")
    }

    /// Moves the clock and does what is due, in steps, so that what one tick leads to is done as well.
    pub(crate) async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        for _ in 0..8 {
            self.broker.tick().await;
        }
    }
}

pub(crate) async fn queue(session: &Session, name: &str, config: QueueConfig) {
    session.declare_queue(name, config, false).await.expect("declares");
}

pub(crate) async fn topic(session: &Session, name: &str, config: TopicConfig) {
    session.declare_topic(name, config, false).await.expect("declares");
}

pub(crate) async fn bind(session: &Session, topic: &str, queue: &str, filter: Filter) {
    let target = BindingTarget::Queue(queue.to_owned());
    let config = BindingConfig {
        topic: topic.to_owned(),
        target,
        filter: filter.into(),
        weight: None,
        arguments: Default::default(),
    };
    session.bind(config).await.expect("binds");
}

pub(crate) async fn publish(session: &Session, to: PublishTo, messages: Vec<Message>) -> Vec<Published> {
    session.publish(&to, messages, PublishOptions::default()).await.expect("publishes")
}

pub(crate) async fn receive(session: &Session, queue: &str, max: usize) -> Vec<Delivered> {
    let receive = Receive { max, max_bytes: u64::MAX, wait: Duration::ZERO, lease: None, auto_ack: false };
    session.receive(queue, receive).await.expect("receives")
}

pub(crate) fn bodies(delivered: &[Delivered]) -> Vec<String> {
    delivered
        .iter()
        .map(|delivered| String::from_utf8_lossy(delivered.message.body.as_deref().unwrap_or_default()).into_owned())
        .collect()
}

pub(crate) fn to(queue: &str) -> PublishTo {
    PublishTo::Queue(queue.to_owned())
}

/// Publishes these bodies into a queue, in one call.
pub(crate) async fn many(session: &Session, queue: &str, bodies: &[&str]) {
    let messages = bodies.iter().map(|body| Message::new("", body.to_string())).collect();
    publish(session, to(queue), messages).await;
}

pub(crate) async fn settle(session: &Session, delivered: &Delivered, how: Settle) -> Result<(), SettleError> {
    session.settle(vec![(delivered.receipt, how)]).await.remove(0)
}

/// A failed attempt.
pub(crate) fn nack(after: Option<Duration>) -> Settle {
    Settle::Nack { after, error: Some("no".into()), counts: true }
}

/// Ready, delayed, parked, in flight.
pub(crate) fn depth(session: &Session, queue: &str) -> (u64, u64, u64, u64) {
    let depth = session.queue(queue).expect("there").depth;
    (depth.ready, depth.delayed, depth.parked, depth.in_flight)
}

pub(crate) fn consumer(exclusive: bool, priority: i32) -> ConsumerOptions {
    let rules = ConsumerRules { exclusive, priority, lease: None, auto_ack: false };
    ConsumerOptions { name: "test".to_owned(), rules }
}

pub(crate) fn credit(messages: usize) -> Credit {
    Credit { messages, bytes: u64::MAX }
}

/// A refusal that the next commit ends in.
pub(crate) fn disk_full() -> log::Refusal {
    log::Refusal::DiskFull { free_bytes: 0, reserve_bytes: 1 }
}
