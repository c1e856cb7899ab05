//! The work that power cuts come into: a broker on the real engine and a disk that notes all that is asked of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use broker::definitions::{BindingConfig, BindingTarget, DurabilityConfig, QueueConfig, RetentionConfig, TopicConfig};
use broker::queue::Settle;
use broker::{Broker, BrokerOptions, Credentials, PublishOptions, PublishTo, Receive, Session};
use fastrand::Rng;
use futures_util::future::join_all;
use log::{EmbeddedLog, EmbeddedOptions};
use testkit::{DiskOperation, FaultDisk};
use types::clock::SystemClock;
use types::{Filter, Message};

/// One queue that is published into, and two that are bound to the topic.
pub(crate) const QUEUES: [&str; 3] = ["alone", "left", "right"];
/// Where their rejected messages go.
pub(crate) const DEAD: [&str; 3] = ["alone.dlq", "left.dlq", "right.dlq"];
/// Keeps what is published to it.
pub(crate) const TOPIC: &str = "events";
pub(crate) const PARTITIONS: u32 = 2;
/// So small that a short run fills, moves and recycles files, with checkpoints.
const WAL_FILE_BYTES: u64 = 32 * 1024;
/// Calls under way at a time: they share rounds.
const MOST_CALLS: usize = 5;
pub(crate) const MOST_MESSAGES: u32 = 5;
/// Bodies of up to a few pages, so that a cut tears them.
pub(crate) const MOST_BODY_BYTES: usize = 9_000;
pub(crate) const MOST_SETTLED: usize = 12;

/// A call. Its number is its place in the list; twice that number is the mark of its begin, and one more the mark of its end.
#[derive(Debug)]
pub(crate) enum Call {
    /// All queues, the topic and its bindings.
    Declare,
    /// Into these queues, through the topic if there are two. Calls of one turn, and of different clients, are under way together.
    Publish { client: usize, turn: usize, queues: Vec<usize>, messages: Range<u32> },
    /// Messages of a queue that were handed out.
    Settle { queue: usize, acked: Vec<u32>, rejected: Vec<u32> },
}

impl Call {
    /// Whether the topic's log keeps it too.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self, Self::Publish { queues, .. } if queues.len() > 1)
    }
}

/// What was asked of the disk, and of the broker.
pub(crate) struct Recording {
    pub(crate) operations: Vec<DiskOperation>,
    pub(crate) calls: Vec<Call>,
}

/// Works so many turns. Messages have this durability, or that of their queue, which is to be synced.
pub(crate) fn record(seed: u64, turns: usize, durability: Option<DurabilityConfig>) -> Recording {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let disk = FaultDisk::new();
    disk.record();
    let options = EmbeddedOptions {
        wal_file_bytes: WAL_FILE_BYTES,
        wal_files: 2,
        recent_bytes: 4096,
        own_segment_bytes: 8192,
        maintenance_interval: Duration::from_millis(5),
        ..EmbeddedOptions::default()
    };
    let log = Arc::new(EmbeddedLog::open(Arc::new(disk.clone()), options).unwrap());
    let calls = runtime.block_on(async {
        let broker = Broker::open(log, Arc::new(SystemClock::new()), BrokerOptions::default()).unwrap();
        let principal = broker.authenticate(&Credentials::Anonymous).unwrap();
        let session = broker.session(&principal, "default").unwrap();
        let mut load =
            Load { rng: Rng::with_seed(seed), disk: disk.clone(), session, calls: Vec::new(), next: 0, durability };
        load.declare().await;
        for turn in 0..turns {
            load.turn(turn).await;
            broker.tick().await;
        }
        broker.close().await;
        load.calls
    });
    Recording { operations: disk.take_recording(), calls }
}

struct Load {
    rng: Rng,
    disk: FaultDisk,
    session: Session,
    calls: Vec<Call>,
    /// The number of the next message.
    next: u32,
    durability: Option<DurabilityConfig>,
}

impl Load {
    /// Notes that a call begins; gives the mark of its end.
    fn begin(&mut self, call: Call) -> u64 {
        let begins = 2 * self.calls.len() as u64;
        self.calls.push(call);
        self.disk.mark(begins);
        begins + 1
    }

    async fn declare(&mut self) {
        let done = self.begin(Call::Declare);
        for queue in QUEUES {
            self.session.declare_queue(queue, QueueConfig::default(), false).await.unwrap();
        }
        let retention = Some(RetentionConfig::default());
        let config = TopicConfig { retention, partitions: Some(PARTITIONS), ..TopicConfig::default() };
        self.session.declare_topic(TOPIC, config, false).await.unwrap();
        for queue in &QUEUES[1..] {
            let target = BindingTarget::Queue((*queue).to_owned());
            let (topic, filter) = (TOPIC.to_owned(), Filter::All.into());
            let config = BindingConfig { topic, target, filter, weight: None, arguments: Default::default() };
            self.session.bind(config).await.unwrap();
        }
        self.disk.mark(done);
    }

    /// Some publishes, and often a settlement of what one queue hands out, all under way together.
    async fn turn(&mut self, turn: usize) {
        let settlement = if self.rng.u8(0..3) > 0 { Some(self.settlement().await) } else { None };
        let mut publishes = Vec::new();
        for _ in 0..self.rng.usize(1..MOST_CALLS) {
            publishes.push(self.publish(turn));
        }
        let (session, disk, durability) = (&self.session, &self.disk, self.durability);
        let publishes = publishes.into_iter().map(|(done, to, messages)| async move {
            let options = PublishOptions { durability, ..PublishOptions::default() };
            session.publish(&to, messages, options).await.unwrap();
            disk.mark(done);
        });
        let settle = async {
            if let Some((done, settlements)) = settlement {
                for result in session.settle(settlements).await {
                    result.unwrap();
                }
                disk.mark(done);
            }
        };
        futures_util::join!(join_all(publishes), settle);
    }

    fn publish(&mut self, turn: usize) -> (u64, PublishTo, Vec<Message>) {
        let (queues, to) = if self.rng.bool() {
            (vec![1, 2], PublishTo::Topic(TOPIC.to_owned()))
        } else {
            (vec![0], PublishTo::Queue(QUEUES[0].to_owned()))
        };
        let messages = self.next..self.next + self.rng.u32(1..=MOST_MESSAGES);
        self.next = messages.end;
        let made = messages.clone().map(|number| {
            let longest = if self.rng.bool() { 200 } else { MOST_BODY_BYTES };
            let mut message = Message::new("events.made", body_of(number, self.rng.usize(0..longest)));
            message.content_type = Some("text/plain".into());
            message
        });
        let made = made.collect();
        (self.begin(Call::Publish { client: 0, turn, queues, messages }), to, made)
    }

    /// Takes what a queue hands out, and says what becomes of it.
    async fn settlement(&mut self) -> (u64, Vec<(broker::Receipt, Settle)>) {
        let queue = self.rng.usize(0..QUEUES.len());
        let max = self.rng.usize(1..=MOST_SETTLED);
        let receive = Receive { max, max_bytes: u64::MAX, wait: Duration::ZERO, lease: None, auto_ack: false };
        let taken = self.session.receive(QUEUES[queue], receive).await.unwrap();
        let (mut acked, mut rejected, mut settlements) = (Vec::new(), Vec::new(), Vec::new());
        for one in taken {
            let body = String::from_utf8(one.message.body.as_ref().unwrap().to_vec()).unwrap();
            let number = number_of(&body);
            if self.rng.u8(0..8) == 0 {
                rejected.push(number);
                settlements.push((one.receipt, Settle::Reject { error: None }));
            } else {
                acked.push(number);
                settlements.push((one.receipt, Settle::Ack));
            }
        }
        (self.begin(Call::Settle { queue, acked, rejected }), settlements)
    }
}

/// A message's number, and noise of which no part looks like another.
pub(crate) fn body_of(number: u32, noise_bytes: usize) -> String {
    let mut rng = Rng::with_seed(u64::from(number));
    let noise: String = (0..noise_bytes).map(|_| rng.alphanumeric()).collect();
    format!("{number} {noise}")
}

/// The number of a message, whose whole body must be as it was published.
pub(crate) fn number_of(body: &str) -> u32 {
    let number = body.split(' ').next().and_then(|number| number.parse().ok());
    let number = number.unwrap_or_else(|| panic!("no message of ours: {body:?}"));
    let noise_bytes = body.len() - body.find(' ').unwrap() - 1;
    assert_eq!(body, body_of(number, noise_bytes), "the body of {number} is another");
    number
}
