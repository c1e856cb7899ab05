//! A broker under random use of one queue, its dead letters and its results, with refused commits, commits of unknown end and
//! restarts, held against what was confirmed. `POSTHOUSE_SEEDS` says how many seeds, `POSTHOUSE_SEED` replays one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use broker::definitions::{QueueConfig, RetryConfig};
use broker::queue::Settle;
use broker::views::Delivered;
use broker::{PublishError, PublishOptions, Receive, Redrive, Session, SettleError, StorageError};
use fastrand::Rng;
use types::{Message, Offset};

use crate::harness::{Bench, disk_full, queue, to};

const LEASE: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;

/// What may be said of the failures of a message of the queue: at least those that were confirmed, at most those that happened.
#[derive(Clone, Copy, Default)]
struct Failures {
    least: u32,
    most: u32,
}

/// What was confirmed.
#[derive(Default)]
struct Model {
    next: u32,
    keys: BTreeMap<u32, Option<u8>>,
    /// Must be found, unless acknowledged.
    stored: BTreeSet<u32>,
    /// May be found: their publish ended unknown.
    maybe: BTreeSet<u32>,
    /// Must not come back.
    acked: BTreeSet<u32>,
    /// May come back: their acknowledgement ended unknown.
    maybe_acked: BTreeSet<u32>,
    /// By place in the queue: a message that was redriven begins anew.
    failures: BTreeMap<Offset, Failures>,
    held: Vec<Delivered>,
}

impl Model {
    fn message(&mut self, rng: &mut Rng) -> (u32, Message) {
        let number = self.next;
        self.next += 1;
        let key = (rng.u8(..) < 170).then(|| rng.u8(0..3));
        self.keys.insert(number, key);
        let key = key.map(|key| vec![b'k', key].into());
        (number, Message { key, ..Message::new("", number.to_string()) })
    }

    fn delivered(&self, one: &Delivered) -> u32 {
        let number = number(one);
        assert!(self.stored.contains(&number) || self.maybe.contains(&number), "{number} was never confirmed");
        assert!(!self.acked.contains(&number), "{number} was acknowledged, and comes back");
        number
    }

    fn failed(&mut self, one: &Delivered, confirmed: bool) {
        let failures = self.failures.entry(one.receipt.lease.offset).or_default();
        failures.most += 1;
        failures.least += u32::from(confirmed);
    }
}

fn number(one: &Delivered) -> u32 {
    std::str::from_utf8(one.message.body.as_deref().unwrap_or_default()).expect("text").parse().expect("a number")
}

struct Run {
    bench: Option<Bench>,
    session: Session,
    model: Model,
    rng: Rng,
}

impl Run {
    async fn new(rng: Rng) -> Self {
        let bench = Bench::new();
        let session = bench.session();
        let retry = RetryConfig { max_attempts: Some(ATTEMPTS), initial_ms: Some(700), ..Default::default() };
        let lease_ms = Some(u64::try_from(LEASE.as_millis()).expect("small"));
        let config = QueueConfig { keyed: Some(true), retry: Some(retry), lease_ms, ..QueueConfig::default() };
        queue(&session, "q", config).await;
        queue(&session, "out", QueueConfig::default()).await;
        Self { bench: Some(bench), session, model: Model::default(), rng }
    }

    fn bench(&self) -> &Bench {
        self.bench.as_ref().expect("runs")
    }

    async fn step(&mut self) {
        if self.rng.u8(..) < 40 {
            self.bench().log.fail_next(disk_full());
        }
        match self.rng.u8(0..100) {
            0..30 => self.publish().await,
            30..55 => self.receive().await,
            55..75 => self.settle().await,
            75..80 => self.pass_on().await,
            80..90 => {
                let time = Duration::from_millis(self.rng.u64(0..4_000));
                self.bench().pass(time).await;
            }
            90..93 => {
                let rate = self.rng.bool().then_some(5.0);
                let _ = self.session.redrive("q.dlq", Redrive { rate, ..Redrive::default() });
            }
            93..95 => drop(self.session.stop_redrive("q.dlq")),
            95..98 => self.restart(),
            _ => self.end_unknown().await,
        }
        self.check_depth();
    }

    /// Everything that the log holds and that is not on its way out is counted once.
    fn check_depth(&self) {
        for name in ["q", "q.dlq", "out"] {
            let depth = self.session.queue(name).expect("there").depth;
            let seen = self.session.browse(name, Offset(0), 1_000).expect("browses").0.len() as u64;
            assert_eq!(depth.ready + depth.delayed + depth.parked + depth.in_flight, seen, "{name}: {depth:?}");
        }
    }

    async fn publish(&mut self) {
        let count = self.rng.usize(1..4);
        let (numbers, messages): (Vec<u32>, Vec<Message>) =
            (0..count).map(|_| self.model.message(&mut self.rng)).unzip();
        match self.session.publish(&to("q"), messages, PublishOptions::default()).await {
            Ok(_) => self.model.stored.extend(numbers),
            Err(PublishError::Storage(StorageError::Full(_))) => {}
            Err(error) => panic!("{error}"),
        }
    }

    async fn receive(&mut self) {
        let receive = Receive {
            max: self.rng.usize(1..5),
            max_bytes: u64::MAX,
            wait: Duration::ZERO,
            lease: None,
            auto_ack: self.rng.u8(..) < 10,
        };
        for one in self.session.receive("q", receive).await.expect("receives") {
            let number = self.model.delivered(&one);
            // An earlier delivery of it must have run out.
            while let Some(at) =
                self.model.held.iter().position(|held| held.receipt.lease.offset == one.receipt.lease.offset)
            {
                let old = self.model.held.swap_remove(at);
                self.model.failed(&old, false);
            }
            let failures = self.model.failures.get(&one.receipt.lease.offset).copied().unwrap_or_default();
            let attempts = one.attempt - 1;
            assert!(
                (failures.least..=failures.most).contains(&attempts),
                "{number}: {attempts} attempts, {} to {} expected",
                failures.least,
                failures.most
            );
            if receive.auto_ack {
                // Deleted in the background: whether that succeeds is not said.
                self.model.maybe_acked.insert(number);
            } else {
                self.check_order(&one);
                self.model.held.push(one);
            }
        }
    }

    /// No earlier message of its key is in the queue.
    fn check_order(&self, one: &Delivered) {
        let Some(key) = &one.message.key else { return };
        let earlier = self.session.browse("q", Offset(0), 1_000).expect("browses").0;
        let earlier = earlier.iter().take_while(|other| other.offset < one.receipt.lease.offset);
        let same: Vec<_> = earlier.filter(|other| other.message.key.as_ref() == Some(key)).collect();
        assert!(same.is_empty(), "{} came before {same:?}", number(one));
    }

    fn pick(&mut self) -> Option<Delivered> {
        (!self.model.held.is_empty())
            .then(|| self.rng.usize(0..self.model.held.len()))
            .map(|at| self.model.held.swap_remove(at))
    }

    async fn settle(&mut self) {
        let Some(one) = self.pick() else { return };
        let how = match self.rng.u8(0..10) {
            0..5 => Settle::Ack,
            5..8 => Settle::Nack { after: None, error: Some("no".into()), counts: true },
            8 => Settle::Reject { error: None },
            _ => Settle::Release,
        };
        let result = self.session.settle(vec![(one.receipt, how.clone())]).await.remove(0);
        match (&how, &result) {
            (_, Err(SettleError::Lease(_))) => self.model.failed(&one, false),
            (Settle::Ack, Ok(())) => drop(self.model.acked.insert(number(&one))),
            (Settle::Nack { .. } | Settle::Reject { .. }, _) => self.model.failed(&one, result.is_ok()),
            (_, Ok(()) | Err(SettleError::Storage(StorageError::Full(_)))) => {}
            (_, Err(error)) => panic!("{error}"),
        }
    }

    /// Acknowledges with a result.
    async fn pass_on(&mut self) {
        let Some(one) = self.pick() else { return };
        let (result, message) = self.model.message(&mut self.rng);
        match self.session.ack_and_publish(one.receipt, vec![(to("out"), vec![message])]).await {
            Ok(_) => {
                self.model.acked.insert(number(&one));
                self.model.stored.insert(result);
            }
            Err(SettleError::Lease(_)) => self.model.failed(&one, false),
            Err(SettleError::Storage(StorageError::Full(_))) => self.model.held.push(one),
            Err(error) => panic!("{error}"),
        }
    }

    fn restart(&mut self) {
        // A lease that ran out before may have been counted or not.
        for one in std::mem::take(&mut self.model.held) {
            self.model.failed(&one, false);
        }
        let bench = self.bench.take().expect("runs").restart();
        self.session = bench.session();
        self.bench = Some(bench);
    }

    /// Something ends unknown; nothing goes on until a restart.
    async fn end_unknown(&mut self) {
        self.clear_faults().await;
        match self.rng.bool() {
            true => self.bench().log.end_unknown(),
            false => self.bench().log.end_unknown_found_later(),
        }
        let picked = if self.rng.bool() { self.pick() } else { None };
        match picked {
            Some(one) => match self.session.settle(vec![(one.receipt, Settle::Ack)]).await.remove(0) {
                Err(SettleError::Storage(StorageError::Unknown(_))) => {
                    self.model.maybe_acked.insert(number(&one));
                }
                Err(SettleError::Lease(_)) => self.model.failed(&one, false),
                other => panic!("{other:?}"),
            },
            None => {
                let (number, message) = self.model.message(&mut self.rng);
                let result = self.session.publish(&to("q"), vec![message], PublishOptions::default()).await;
                assert!(matches!(result, Err(PublishError::Storage(StorageError::Unknown(_)))), "{result:?}");
                self.model.maybe.insert(number);
            }
        }
        self.restart();
    }

    /// Takes up the refusals that no commit has met yet.
    async fn clear_faults(&mut self) {
        loop {
            let (number, message) = self.model.message(&mut self.rng);
            if self.session.publish(&to("out"), vec![message], PublishOptions::default()).await.is_ok() {
                self.model.stored.insert(number);
                return;
            }
        }
    }

    /// Everything that was confirmed and not acknowledged is somewhere, once.
    async fn finish(mut self) {
        self.clear_faults().await;
        if self.rng.bool() {
            self.restart();
        }
        let _ = self.session.stop_redrive("q.dlq");
        let mut found = BTreeSet::new();
        for _ in 0..60 {
            self.bench().pass(Duration::from_secs(5)).await;
            for name in ["q", "q.dlq", "out"] {
                let taken = crate::harness::receive(&self.session, name, 1_000).await;
                for one in &taken {
                    assert!(found.insert(self.model.delivered(one)), "{} is there twice", number(one));
                }
                let acks = taken.iter().map(|one| (one.receipt, Settle::Ack)).collect();
                assert!(self.session.settle(acks).await.iter().all(Result::is_ok));
            }
        }
        let model = &self.model;
        let lost: Vec<_> = model
            .stored
            .iter()
            .filter(|number| !model.acked.contains(number) && !model.maybe_acked.contains(number))
            .filter(|number| !found.contains(number))
            .collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        for name in ["q", "q.dlq", "out"] {
            let depth = self.session.queue(name).expect("there").depth;
            assert_eq!(depth, broker::queue::QueueDepth::default(), "{name}");
        }
        assert!(self.bench().broker.tick().await >= Duration::from_millis(100), "there is nothing left to do");
    }
}

#[test]
#[allow(clippy::print_stderr, reason = "the seed is shown only when the test fails")]
fn nothing_confirmed_is_lost_and_nothing_acknowledged_comes_back() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("POSTHOUSE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("POSTHOUSE_SEEDS").unwrap_or(100),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for seed in seeds {
        eprintln!("POSTHOUSE_SEED={seed}");
        runtime.block_on(async {
            let mut run = Run::new(Rng::with_seed(seed)).await;
            for _ in 0..150 {
                run.step().await;
            }
            run.finish().await;
        });
    }
}
