//! kill -9 under load through AMQP: four connections that publish with confirms, into a classic and a quorum queue and through a fanout
//! exchange, and a consumer on each queue.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use futures_util::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, ExchangeKind};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::amqp::{connect, connect_confirming, declare, persistent};
use crate::harness::{PATIENCE, Server};

/// Queues and their types. The last two are bound to the exchange.
const QUEUES: [(&str, &str); 4] =
    [("classic", "classic"), ("quorum", "quorum"), ("spread.classic", "classic"), ("spread.quorum", "quorum")];
const EXCHANGE: &str = "spread";
/// Exchange, routing key, and the queues that it leads to, of each publisher.
const PUBLISHERS: [(&str, &str, &[usize]); 4] =
    [("", "classic", &[0]), ("", "quorum", &[1]), (EXCHANGE, "", &[2, 3]), (EXCHANGE, "x", &[2, 3])];
/// Publishes of a connection that wait for their confirms.
const WINDOW: usize = 100;
const PREFETCH: u16 = 50;
/// A consumer asks after so many acknowledgements for something that is answered behind them.
const ACKS: usize = 30;
/// Publishers wait while so many messages wait, or most would never be seen.
const MAX_WAITING: usize = 5000;
const MAX_ROUND_MS: u64 = 700;

/// What is known of a queue from outside.
#[derive(Default)]
struct Ledger {
    /// Confirmed, and not seen yet, by publisher.
    waiting: BTreeMap<u64, BTreeSet<u64>>,
    seen: BTreeSet<(u64, u64)>,
    /// Acknowledged, and something behind the acknowledgement was answered.
    acked: BTreeSet<(u64, u64)>,
    /// The last of each publisher that was delivered since the start.
    last: BTreeMap<u64, u64>,
    again: u64,
}

impl Ledger {
    fn confirm(&mut self, (publisher, n): (u64, u64)) {
        if !self.seen.contains(&(publisher, n)) {
            self.waiting.entry(publisher).or_default().insert(n);
        }
    }

    fn deliver(&mut self, queue: &str, (publisher, n): (u64, u64), redelivered: bool) {
        let id = (publisher, n);
        assert!(!self.acked.contains(&id), "{queue}: {id:?} was acknowledged and came back");
        let waiting = self.waiting.entry(publisher).or_default();
        let passed = waiting.range(..n).next();
        assert!(passed.is_none(), "{queue}: {id:?} came before {passed:?} of the same channel");
        waiting.remove(&n);
        let last = self.last.insert(publisher, n);
        assert!(last.is_none_or(|last| last < n), "{queue}: {id:?} came after {last:?} of the same channel");
        if !self.seen.insert(id) {
            self.again += 1;
            assert!(redelivered, "{queue}: {id:?} comes again without saying so");
        }
    }

    fn waits(&self) -> usize {
        self.waiting.values().map(BTreeSet::len).sum()
    }
}

/// What all clients share.
#[derive(Default)]
struct Shared {
    ledgers: [Mutex<Ledger>; 4],
    confirmed: Mutex<u64>,
    is_over: AtomicBool,
}

#[test]
fn a_kill_while_amqp_clients_publish_loses_nothing_that_was_confirmed() {
    run(4);
}

#[test]
#[ignore = "long: `cargo xtask proofs kill-9-amqp`"]
fn kill_minus_nine_amqp_long() {
    run(std::env::var("POSTHOUSE_PROOF_KILLS").map_or(200, |kills| kills.parse().unwrap()));
}

fn run(kills: u64) {
    let seed = std::env::var("POSTHOUSE_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("POSTHOUSE_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let shared = Arc::new(Shared::default());
    runtime.block_on(async {
        declare_all(data.path()).await;
        let mut next = [0; 4];
        for kill in 0..kills {
            let load = Duration::from_millis(rng.u64(50..MAX_ROUND_MS));
            next = round(data.path(), &shared, next, load).await;
            if kill % 20 == 19 {
                println!("kill {}: {}", kill + 1, sums(&shared));
            }
        }
        finish(data.path(), &shared).await;
    });
    println!("{kills} kills: {}", sums(&shared));
    for (queue, ledger) in QUEUES.iter().zip(&shared.ledgers) {
        let ledger = ledger.lock().unwrap();
        assert!(!ledger.acked.is_empty(), "{queue:?}: without work nothing is proved");
    }
}

fn sums(shared: &Shared) -> String {
    let confirmed = *shared.confirmed.lock().unwrap();
    let queues: Vec<String> = QUEUES
        .iter()
        .zip(&shared.ledgers)
        .map(|((queue, _), ledger)| {
            let ledger = ledger.lock().unwrap();
            let (seen, acked, again) = (ledger.seen.len(), ledger.acked.len(), ledger.again);
            format!("{queue}: {seen} came, {acked} acknowledged for good, {again} came again, all marked")
        })
        .collect();
    format!("{confirmed} confirmed; {}", queues.join("; "))
}

fn start(data: &Path) -> Server {
    Server::start_with(data, &["--http", "127.0.0.1:0", "--amqp", "127.0.0.1:0"], &[])
}

async fn declare_all(data: &Path) {
    let server = start(data);
    let (_connection, channel) = connect(&server).await.unwrap();
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(EXCHANGE.into(), ExchangeKind::Fanout, durable, FieldTable::default()).await.unwrap();
    for (queue, kind) in QUEUES {
        declare(&channel, queue, kind).await;
    }
    for (queue, _) in &QUEUES[2..] {
        let bound = channel.queue_bind(
            (*queue).into(),
            EXCHANGE.into(),
            "".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bound.await.unwrap();
    }
    server.signal("KILL");
    server.wait();
}

/// Starts, works, is killed. Takes and gives the publishers' next numbers.
async fn round(data: &Path, shared: &Arc<Shared>, next: [u64; 4], load: Duration) -> [u64; 4] {
    let server = Arc::new(start(data));
    shared.is_over.store(false, Ordering::Relaxed);
    shared.ledgers.iter().for_each(|ledger| ledger.lock().unwrap().last.clear());
    let mut publishers = JoinSet::new();
    for (number, from) in (0..).zip(next) {
        let (server, shared) = (Arc::clone(&server), Arc::clone(shared));
        publishers.spawn(async move {
            let mut next = from;
            // The error of a client is the kill.
            let _ = publish(&server, &shared, number, &mut next).await;
            (number, next)
        });
    }
    let mut consumers = JoinSet::new();
    for queue in 0..QUEUES.len() {
        let (server, shared) = (Arc::clone(&server), Arc::clone(shared));
        consumers.spawn(async move {
            let _ = consume(&server, &shared, queue, false).await;
        });
    }
    tokio::time::sleep(load).await;
    server.signal("KILL");
    shared.is_over.store(true, Ordering::Relaxed);
    let mut after = next;
    let ended = async {
        while let Some(ended) = publishers.join_next().await {
            let (number, next) = ended.unwrap();
            after[usize::try_from(number).unwrap()] = next;
        }
        while let Some(ended) = consumers.join_next().await {
            ended.unwrap();
        }
    };
    timeout(PATIENCE, ended).await.expect("clients do not notice that the server is gone");
    Arc::into_inner(server).expect("the clients are gone").wait();
    after
}

async fn publish(server: &Server, shared: &Shared, number: u64, next: &mut u64) -> lapin::Result<()> {
    let (exchange, key, queues) = PUBLISHERS[usize::try_from(number).unwrap()];
    let (_connection, channel) = connect_confirming(server).await?;
    let mut open = VecDeque::new();
    loop {
        while open.len() < WINDOW
            && queues.iter().all(|queue| shared.ledgers[*queue].lock().unwrap().waits() < MAX_WAITING)
        {
            let n = *next;
            *next += 1;
            let body = format!("{number} {n}");
            let sent = channel.basic_publish(
                exchange.into(),
                key.into(),
                BasicPublishOptions::default(),
                body.as_bytes(),
                persistent(),
            );
            open.push_back((n, sent.await?));
        }
        let Some((n, confirm)) = open.pop_front() else {
            if shared.is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        assert!(confirm.await?.is_ack(), "nothing here is refused");
        *shared.confirmed.lock().unwrap() += 1;
        for queue in queues {
            shared.ledgers[*queue].lock().unwrap().confirm((number, n));
        }
    }
}

/// Takes and acknowledges, until the server is gone; with `to_the_end` until the queue is empty.
async fn consume(server: &Server, shared: &Shared, queue: usize, to_the_end: bool) -> lapin::Result<()> {
    let name = QUEUES[queue].0;
    let (_connection, channel) = connect(server).await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let tag = name.into();
    let mut deliveries =
        channel.basic_consume(name.into(), tag, BasicConsumeOptions::default(), FieldTable::default()).await?;
    let mut acked = Vec::new();
    loop {
        let wait = if to_the_end { Duration::from_millis(300) } else { PATIENCE };
        match timeout(wait, deliveries.next()).await {
            Ok(Some(delivery)) => {
                let delivery = delivery?;
                let id = id_of(&delivery.data);
                shared.ledgers[queue].lock().unwrap().deliver(name, id, delivery.redelivered);
                channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await?;
                acked.push(id);
                if acked.len() >= ACKS {
                    settle(&channel, shared, queue, &mut acked).await?;
                }
            }
            Ok(None) => return Ok(()),
            Err(_) => {
                let left = settle(&channel, shared, queue, &mut acked).await?;
                if to_the_end && left == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// A queue's depth is told behind what was acknowledged before, which is on the disk then. Gives the depth.
async fn settle(channel: &Channel, shared: &Shared, queue: usize, acked: &mut Vec<(u64, u64)>) -> lapin::Result<u32> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let found = channel.queue_declare(QUEUES[queue].0.into(), passive, FieldTable::default()).await?;
    shared.ledgers[queue].lock().unwrap().acked.extend(acked.drain(..));
    Ok(found.message_count())
}

fn id_of(body: &[u8]) -> (u64, u64) {
    let text = std::str::from_utf8(body).unwrap();
    let (publisher, n) = text.split_once(' ').unwrap();
    (publisher.parse().unwrap(), n.parse().unwrap())
}

/// After the last kill: all that is left is taken, and nothing that was confirmed is missing.
async fn finish(data: &Path, shared: &Arc<Shared>) {
    let server = start(data);
    shared.ledgers.iter().for_each(|ledger| ledger.lock().unwrap().last.clear());
    for (queue, (name, _)) in QUEUES.iter().enumerate() {
        consume(&server, shared, queue, true).await.unwrap();
        let missing = shared.ledgers[queue].lock().unwrap().waiting.clone();
        assert!(missing.values().all(BTreeSet::is_empty), "{name}: confirmed and lost: {missing:?}");
    }
}
