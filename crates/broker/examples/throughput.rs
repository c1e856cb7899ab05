//! What the broker's core carries on this machine, without a network: `cargo run --release -p broker --example throughput DIR [CASE...]`.
//!
//! Each case prints messages a second and CPU seconds a million messages, the case's own client included.
#![allow(clippy::print_stdout, reason = "a measurement for people")]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use broker::definitions::{BindingConfig, BindingTarget, QueueConfig, TopicConfig};
use broker::queue::{ConsumerRules, Credit, Settle};
use broker::{
    Broker, BrokerOptions, ConsumerOptions, Credentials, PublishOptions, PublishTo, Publishes, Receipt, Session,
    Started,
};
use log::{EmbeddedLog, EmbeddedOptions, FileDisk};
use tokio::time::Instant;
use types::clock::SystemClock;
use types::{Filter, Message};

type Failure = Box<dyn std::error::Error>;

const BODY_BYTES: usize = 1024;
const RUN: Duration = Duration::from_secs(4);
/// The bound of messages that a case leaves in its queue before it drains it.
const MAX_WAITING: u64 = 3_000_000;
const QUEUES: usize = 1_000;
const FAN_OUT: usize = 10;
/// Why a publish did not begin.
const MEMORY: &str = "the broker is short of memory";

const CASES: [(&str, &str); 11] = [
    ("batch1000", "publish, 1,000 a call, 4 calls under way"),
    ("batch100", "publish, 100 a call, 10 calls under way"),
    ("each1000", "publish_each, 1,000 a call, 2 calls under way"),
    ("single", "publish, 1 a call, 1,000 calls under way"),
    ("appenders", "publish, 64 tasks that each wait for one message"),
    ("queues", "publish, 1 a call to 1,000 queues in turn, 1,000 calls under way"),
    ("eachto", "publish_each, 1,000 messages to 1,000 queues a call, 2 calls under way"),
    ("fanout", "publish through a topic to 10 queues, 1,000 a call, 4 calls under way"),
    ("consume", "consume and settle, credit 1,000"),
    ("backlog", "the same of a backlog that is in segments"),
    ("both", "publish 1,000 a call beside consume and settle"),
];

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().ok_or("usage: throughput DIR [CASE...]")?;
    let wanted: Vec<String> = arguments.collect();
    for (name, what) in CASES {
        if !wanted.is_empty() && !wanted.iter().any(|case| case == name) {
            continue;
        }
        let path = Path::new(&root).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path)?;
        let bench = Bench::open(&path).await?;
        let result = run(&bench, name).await;
        bench.broker.close().await;
        drop(bench);
        std::fs::remove_dir_all(&path)?;
        println!("{name:10} {} ({what})", result?);
    }
    Ok(())
}

/// A broker in its own directory.
struct Bench {
    broker: Broker,
    session: Session,
    body: bytes::Bytes,
}

impl Bench {
    async fn open(path: &Path) -> Result<Self, Failure> {
        let disk = Arc::new(FileDisk::open(path)?);
        let log = EmbeddedLog::open(disk, EmbeddedOptions::default())?;
        let broker = Broker::open(Arc::new(log), Arc::new(SystemClock::new()), BrokerOptions::default())?;
        let session = broker.session(&broker.authenticate(&Credentials::Anonymous)?, "default")?;
        session.declare_queue("q", QueueConfig::default(), false).await?;
        let ticker = broker.clone();
        tokio::spawn(async move {
            while ticker.not_ready().is_none() {
                let rest = ticker.tick().await;
                let _ = tokio::time::timeout(rest, ticker.tick_due()).await;
            }
        });
        // The write-ahead log fills its spare files in this time.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        Ok(Self { broker, session, body: vec![b'x'; BODY_BYTES].into() })
    }

    fn messages(&self, count: usize) -> Vec<Message> {
        (0..count).map(|_| Message::new("orders.created", self.body.clone())).collect()
    }
}

async fn run(bench: &Bench, name: &str) -> Result<Figure, Failure> {
    let queue = PublishTo::Queue("q".to_owned());
    match name {
        "batch1000" => publish(bench, |_| &queue, 1_000, 4).await,
        "batch100" => publish(bench, |_| &queue, 100, 10).await,
        "single" => publish(bench, |_| &queue, 1, 1_000).await,
        "each1000" => publish_each(bench, || Publishes::to(queue.clone(), bench.messages(1_000))).await,
        "appenders" => appenders(bench, &queue).await,
        "queues" | "eachto" => {
            let mut all = Vec::with_capacity(QUEUES);
            for number in 0..QUEUES {
                let name = format!("q-{number}");
                bench.session.declare_queue(&name, QueueConfig::default(), false).await?;
                all.push(PublishTo::Queue(name));
            }
            if name == "queues" {
                return publish(bench, |number| all.get(number % QUEUES).unwrap_or(&queue), 1, 1_000).await;
            }
            let all: Vec<_> = all.into_iter().map(Arc::new).collect();
            let publishes = || {
                let mut publishes = Publishes::with_capacity(QUEUES);
                all.iter().zip(bench.messages(QUEUES)).for_each(|(to, message)| publishes.push(to, message));
                publishes
            };
            publish_each(bench, publishes).await
        }
        "fanout" => {
            bench.session.declare_topic("t", TopicConfig::default(), false).await?;
            for number in 0..FAN_OUT {
                let name = format!("f-{number}");
                bench.session.declare_queue(&name, QueueConfig::default(), false).await?;
                let binding = BindingConfig {
                    topic: "t".to_owned(),
                    target: BindingTarget::Queue(name),
                    filter: Filter::All.into(),
                    weight: None,
                    arguments: Default::default(),
                };
                bench.session.bind(binding).await?;
            }
            let topic = PublishTo::Topic("t".to_owned());
            publish(bench, |_| &topic, 1_000, 4).await
        }
        "consume" => drain(bench, &queue, 400_000).await,
        "backlog" => drain(bench, &queue, 2_000_000).await,
        "both" => {
            let session = bench.session.clone();
            let consumer = tokio::spawn(async move { consume(&session, u64::MAX).await.map_err(|e| e.to_string()) });
            let figure = publish(bench, |_| &queue, 1_000, 4).await;
            consumer.abort();
            figure
        }
        other => Err(format!("no case {other}").into()),
    }
}

/// Publishes `batch` messages a call with `window` calls under way.
async fn publish<'a>(
    bench: &Bench,
    to: impl Fn(usize) -> &'a PublishTo,
    batch: usize,
    window: usize,
) -> Result<Figure, Failure> {
    let meter = Meter::start(bench);
    let (mut under_way, mut number, mut count) = (VecDeque::with_capacity(window), 0, 0);
    while meter.is_running(count) {
        while under_way.len() < window {
            let options = PublishOptions::default();
            let begun = bench.session.start_publish(Arc::new(to(number).clone()), bench.messages(batch), options);
            under_way.push_back(begun.map_err(|_| MEMORY)?);
            number += 1;
        }
        count += next(&mut under_way).await??.len() as u64;
    }
    let figure = meter.stop(count);
    for rest in under_way {
        rest.await?;
    }
    Ok(figure)
}

async fn next<T>(under_way: &mut VecDeque<Started<T>>) -> Result<T, Failure> {
    Ok(under_way.pop_front().ok_or("nothing is under way")?.await)
}

async fn publish_each(bench: &Bench, publishes: impl Fn() -> Publishes) -> Result<Figure, Failure> {
    let meter = Meter::start(bench);
    let (mut under_way, mut count) = (VecDeque::new(), 0);
    while meter.is_running(count) {
        while under_way.len() < 2 {
            let begun = bench.session.start_publish_each(publishes(), PublishOptions::default());
            under_way.push_back(begun.map_err(|_| MEMORY)?);
        }
        for end in next(&mut under_way).await? {
            end?;
            count += 1;
        }
    }
    let figure = meter.stop(count);
    for rest in under_way {
        rest.await;
    }
    Ok(figure)
}

async fn appenders(bench: &Bench, to: &PublishTo) -> Result<Figure, Failure> {
    let meter = Arc::new(Meter::start(bench));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (meter, session, to, body) = (meter.clone(), bench.session.clone(), to.clone(), bench.body.clone());
        tasks.spawn(async move {
            let mut count = 0;
            while meter.is_running(0) {
                let message = Message::new("orders.created", body.clone());
                session.publish(&to, vec![message], PublishOptions::default()).await.map_err(|e| e.to_string())?;
                count += 1;
            }
            Ok::<u64, String>(count)
        });
    }
    let counts: Result<Vec<u64>, String> = tasks.join_all().await.into_iter().collect();
    Ok(meter.stop(counts?.iter().sum()))
}

/// Publishes `count` messages, then measures how they are consumed.
async fn drain(bench: &Bench, queue: &PublishTo, count: u64) -> Result<Figure, Failure> {
    let mut under_way = VecDeque::new();
    for _ in 0..count / 1_000 {
        let begun =
            bench.session.start_publish(Arc::new(queue.clone()), bench.messages(1_000), PublishOptions::default());
        under_way.push_back(begun.map_err(|_| MEMORY)?);
        if under_way.len() == 4 {
            next(&mut under_way).await??;
        }
    }
    for rest in under_way {
        rest.await?;
    }
    let meter = Meter::start(bench);
    let count = consume(&bench.session, count).await?;
    Ok(meter.stop(count))
}

/// Takes and acknowledges `count` messages, settling one crowd while the next is taken.
async fn consume(session: &Session, count: u64) -> Result<u64, Failure> {
    let rules = ConsumerRules { exclusive: false, priority: 0, lease: None, auto_ack: false };
    let mut consumer = session.consume("q", ConsumerOptions { name: "bench".to_owned(), rules })?;
    let mut settling: VecDeque<Started<Vec<Result<(), broker::SettleError>>>> = VecDeque::new();
    let mut done = 0;
    while done < count {
        let crowd = consumer.next(Credit { messages: 1_000, bytes: u64::MAX }).await?;
        done += crowd.len() as u64;
        let receipts: Vec<(Receipt, Settle)> = crowd.iter().map(|delivered| (delivered.receipt, Settle::Ack)).collect();
        settling.push_back(session.start_settle(receipts));
        if settling.len() >= 4 {
            next(&mut settling).await?.into_iter().collect::<Result<Vec<()>, _>>()?;
        }
    }
    for rest in settling {
        rest.await.into_iter().collect::<Result<Vec<()>, _>>()?;
    }
    Ok(done)
}

struct Meter {
    started: Instant,
    cpu: f64,
    broker: Broker,
    written: u64,
    rounds: u64,
}

impl Meter {
    fn start(bench: &Bench) -> Self {
        let state = bench.broker.engine_state();
        let broker = bench.broker.clone();
        Self { started: Instant::now(), cpu: cpu_seconds(), broker, written: state.written_bytes, rounds: state.rounds }
    }

    fn is_running(&self, count: u64) -> bool {
        self.started.elapsed() < RUN && count < MAX_WAITING
    }

    fn stop(&self, count: u64) -> Figure {
        let state = self.broker.engine_state();
        let seconds = self.started.elapsed().as_secs_f64();
        Figure {
            rate: count as f64 / seconds,
            cpu: (cpu_seconds() - self.cpu) * 1e6 / count as f64,
            written: (state.written_bytes - self.written) as f64 / count as f64,
            rounds: (state.rounds - self.rounds) as f64 / seconds,
        }
    }
}

struct Figure {
    rate: f64,
    cpu: f64,
    written: f64,
    rounds: f64,
}

impl std::fmt::Display for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>9.0} msg/s  {:>6.2} CPU s a million  {:>6.0} bytes written a message  {:>6.0} rounds/s",
            self.rate, self.cpu, self.written, self.rounds
        )
    }
}

/// CPU time of this process, in seconds: user and system, in ticks of a hundredth.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}
