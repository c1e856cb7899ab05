//! One run: what it needs is made, measured, reported and removed.

use std::cell::Cell;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::try_join_all;

use super::broker::{Cost, Counters};
use super::clock::now;
use super::disk::{self, DiskReport, DiskRun};
use super::driver::{Driver, Receiver, Target};
use super::entities::Entities;
use super::lane::{self, Lane, RoundTrip};
use super::options::Load;
use super::progress::{all, watch};
use super::recorder::{Measured, Recorder, STALL};
use super::report::{Latency, Report};
use crate::client::Client;
use crate::failure::{Exit, Failure};

/// Messages that a consume run publishes first, if nothing says how many to measure.
const FILL: u64 = 500_000;
/// Messages and bytes of a request of that.
const FILL_BATCH: u32 = 1000;
const FILL_BYTES: u64 = 4 * 1024 * 1024;
/// How long each rhythm of the disk is measured before a run, and after it.
const DISK_PART: Duration = Duration::from_millis(1500);
/// How long stalled consumers may take to get what they hold.
const STALL_WAIT: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Publish { queues: u32 },
    FanOut { queues: u32 },
    EndToEnd { queues: u32 },
    Consume { queues: u32, stalled: u32 },
    RequestReply,
}

impl Work {
    const fn name(self) -> &'static str {
        match self {
            Self::Publish { .. } => "publish",
            Self::FanOut { .. } => "fan-out",
            Self::EndToEnd { .. } => "end-to-end",
            Self::Consume { .. } => "consume",
            Self::RequestReply => "request-reply",
        }
    }

    const fn queues(self) -> u32 {
        match self {
            Self::Publish { queues } | Self::FanOut { queues } | Self::EndToEnd { queues } => queues,
            Self::Consume { queues, .. } => queues,
            Self::RequestReply => 0,
        }
    }

    /// What a latency is the time between.
    const fn measured(self, open_loop: bool) -> &'static str {
        match (self, open_loop) {
            (Self::Publish { .. } | Self::FanOut { .. }, false) => {
                "from sending to confirmation, closed loop (waits for room in the window are not in it)"
            }
            (Self::Publish { .. } | Self::FanOut { .. }, true) => "from when a message was due to its confirmation",
            (Self::EndToEnd { .. }, false) => {
                "from sending to receipt by a consumer, closed loop (waits for room in the window are not in it)"
            }
            (Self::EndToEnd { .. }, true) => "from when a message was due to its receipt by a consumer",
            (Self::Consume { .. }, _) => "from sending an acknowledgement to its confirmation",
            (Self::RequestReply, false) => "from sending a request to its answer, closed loop",
            (Self::RequestReply, true) => "from when a request was due to its answer",
        }
    }
}

/// A run's outcome, before it is written.
struct Outcome {
    measured: Measured,
    interrupted: bool,
    cost: Cost,
    stored: Option<u64>,
}

/// Measures, and writes the result.
///
/// # Errors
/// If it cannot be measured, or messages failed.
pub(super) async fn measure<D: Driver>(driver: &D, client: &Client, work: Work, mut load: Load) -> Result<(), Failure> {
    load.check()?;
    if matches!(work, Work::Consume { .. }) && load.rate.is_some() {
        return Err(Failure::usage("a consumer takes what there is: --rate does not go with consume"));
    }
    if matches!(work, Work::RequestReply) && load.window.is_none() {
        load.window = Some(load.batch);
    }
    let mut disk = match &load.with_disk {
        Some(dir) => disk::measure(dir, &disk::SYNC_BYTES, DISK_PART).await?,
        None => Vec::new(),
    };
    let heard = Cell::new(false);
    let mut bench =
        Bench { driver, client, entities: Entities::new(client.clone(), load.durability), load: &load, heard: &heard };
    let outcome = tokio::select! {
        biased;
        outcome = bench.run(work) => outcome,
        () = interrupted(&heard) => Err(Failure::new(Exit::Failed, "interrupted")),
    };
    bench.entities.remove().await;
    let outcome = outcome?;
    if let Some(dir) = &load.with_disk {
        for (run, part) in disk.iter_mut().zip(disk::measure(dir, &disk::SYNC_BYTES, DISK_PART).await?) {
            run.add(&part);
        }
    }
    report(work, &load, outcome, &disk).write(client.format)
}

/// Waits for Ctrl-C, unless whoever runs the measurement hears it, and so shows what was measured until then.
async fn interrupted(heard: &Cell<bool>) {
    loop {
        if tokio::signal::ctrl_c().await.is_err() {
            return std::future::pending().await;
        }
        if !heard.get() {
            return;
        }
    }
}

/// What a run works with.
struct Bench<'b, D> {
    driver: &'b D,
    client: &'b Client,
    entities: Entities,
    load: &'b Load,
    /// Whether Ctrl-C is heard by the measurement.
    heard: &'b Cell<bool>,
}

impl<D: Driver> Bench<'_, D> {
    async fn run(&mut self, work: Work) -> Result<Outcome, Failure> {
        match work {
            Work::Publish { queues } => {
                let names = self.entities.queues(queues).await?;
                let targets: Vec<Target> = names.into_iter().map(Target::Queue).collect();
                self.publish(&targets, 1).await
            }
            Work::FanOut { queues } => {
                let names = self.entities.queues(queues).await?;
                let topic = self.entities.topic(&names).await?;
                self.publish(&[Target::Topic(topic)], queues).await
            }
            Work::Consume { queues, stalled } => self.consume(queues, stalled).await,
            Work::EndToEnd { queues } => self.end_to_end(queues).await,
            Work::RequestReply => self.ask().await,
        }
    }

    /// Watches a run to its end, and adds up what it cost the broker.
    async fn watch(
        &self,
        recorder: &Recorder,
        before: &Counters,
        work: impl Future<Output = ()>,
    ) -> Result<Outcome, Failure> {
        self.heard.set(true);
        let stopped = watch(work, recorder, self.load, self.client.format).await?;
        if stopped.is_none() {
            self.heard.set(false);
        }
        let after = Counters::read(self.client, self.load.broker_pid).await?;
        let cost = after.cost(before, recorder.answered());
        Ok(Outcome { measured: recorder.finish(stopped), interrupted: stopped.is_some(), cost, stored: None })
    }

    /// Publishes from all connections; each message ends in so many queues.
    async fn publish(&self, targets: &[Target], copies: u32) -> Result<Outcome, Failure> {
        let senders = try_join_all((0..self.load.concurrency).map(|_| self.driver.publisher(targets))).await?;
        let before = Counters::read(self.client, self.load.broker_pid).await?;
        let recorder = Recorder::new(self.load)?;
        let start = now();
        let lanes = (0..)
            .zip(senders)
            .map(|(at, sender)| Lane::new(self.load, &recorder, at, targets.len(), start).send(sender).boxed_local());
        let lanes: Vec<_> = lanes.collect();
        let mut outcome = self.watch(&recorder, &before, all(lanes, &recorder)).await?;
        if !outcome.interrupted {
            let depths = self.entities.depths().await?;
            let stored = depths.iter().sum::<u64>();
            outcome.stored = Some(stored);
            let wanted = outcome.cost.messages.saturating_sub(outcome.measured.failed) * u64::from(copies);
            if stored < wanted {
                let what = format!("{wanted} messages were confirmed, but the queues hold only {stored}");
                return Err(Failure::new(Exit::Failed, what));
            }
        }
        Ok(outcome)
    }

    /// Publishes so many messages into these queues in turn, as fast as it goes; nothing of it is measured.
    async fn fill(&self, queues: &[String], count: u64) -> Result<(), Failure> {
        let fit = u32::try_from(FILL_BYTES / self.load.size).unwrap_or(u32::MAX);
        let batch = FILL_BATCH.min(fit).max(1);
        let load = self.load.filling(count, batch);
        let targets: Vec<Target> = queues.iter().cloned().map(Target::Queue).collect();
        let sender = self.driver.publisher(&targets).await?;
        let recorder = Recorder::new(&load)?;
        let lane = Lane::new(&load, &recorder, 0, targets.len(), now()).send(sender);
        let lane = [lane.boxed_local()];
        if watch(all(lane, &recorder), &recorder, &load, self.client.format).await?.is_some() {
            return Err(Failure::new(Exit::Failed, "interrupted"));
        }
        let filled = recorder.finish(None);
        match filled.first_failure {
            Some(why) => Err(Failure::new(Exit::Failed, format!("the queues could not be filled: {why}"))),
            None => Ok(()),
        }
    }

    async fn consume(&mut self, queues: u32, stalled: u32) -> Result<Outcome, Failure> {
        let names = self.entities.queues(queues).await?;
        let (load, driver) = (self.load, self.driver);
        let count = load.count.unwrap_or(FILL);
        let held = u64::from(stalled) * u64::from(load.window());
        self.fill(&names, count + held).await?;
        let credit = load.window();
        let connect = |at: u32| {
            let queue = names.get(at as usize % names.len().max(1)).cloned().unwrap_or_default();
            async move { driver.consumer(&queue, credit).await }
        };
        // They keep what they got, and are neither read nor answered any more, until the run is over.
        let mut holders = try_join_all((0..stalled).map(connect)).await?;
        for holder in &mut holders {
            let _ = tokio::time::timeout(STALL_WAIT, holder.next(&mut |_| {})).await;
        }
        let before = Counters::read(self.client, load.broker_pid).await?;
        let receivers = try_join_all((0..load.concurrency).map(connect)).await?;
        let recorder = Recorder::new(load)?;
        let lanes = receivers.into_iter().map(|receiver| lane::consume(receiver, &recorder, count).boxed_local());
        let lanes: Vec<_> = lanes.collect();
        self.watch(&recorder, &before, all(lanes, &recorder)).await
    }

    async fn end_to_end(&mut self, queues: u32) -> Result<Outcome, Failure> {
        let names = self.entities.queues(queues).await?;
        let (load, driver) = (self.load, self.driver);
        let targets: Vec<Target> = names.iter().cloned().map(Target::Queue).collect();
        let senders = try_join_all((0..load.concurrency).map(|_| driver.publisher(&targets))).await?;
        // Each queue has a consumer at least, and each connection that publishes has one that takes.
        let consumers = (0..load.concurrency.max(queues)).map(|at| {
            let queue = names.get(at as usize % names.len().max(1)).cloned().unwrap_or_default();
            async move { driver.consumer(&queue, load.window()).await }
        });
        let receivers = try_join_all(consumers).await?;
        let before = Counters::read(self.client, load.broker_pid).await?;
        let recorder = Recorder::new(load)?;
        let start = now();
        let trip = RoundTrip::new(load, start);
        let sending = (0..).zip(senders).map(|(at, sender)| {
            Lane::new(load, &recorder, at, targets.len(), start).send_for(sender, &trip).boxed_local()
        });
        let receiving = receivers.into_iter().map(|receiver| trip.receive(receiver, &recorder).boxed_local());
        let (sending, receiving): (Vec<_>, Vec<_>) = (sending.collect(), receiving.collect());
        let sent = async {
            all(sending, &recorder).await;
            while !trip.is_empty() {
                recorder.room.notified().await;
            }
        };
        let work = async {
            tokio::select! {
                () = sent => {}
                // Consumers have no end of their own: they are all lost.
                () = all(receiving, &recorder) => {}
            }
        };
        let outcome = self.watch(&recorder, &before, work).await?;
        if !outcome.interrupted && trip.received.get() < trip.confirmed.get() {
            let what =
                format!("{} messages were confirmed, but only {} came", trip.confirmed.get(), trip.received.get());
            return Err(Failure::new(Exit::Failed, what));
        }
        Ok(outcome)
    }

    async fn ask(&mut self) -> Result<Outcome, Failure> {
        let (load, driver) = (self.load, self.driver);
        let subject = format!("{}.ask", self.entities.prefix);
        let (ready, is_ready) = tokio::sync::oneshot::channel();
        let mut answering = driver.answer(&subject, ready).boxed_local();
        tokio::select! {
            ended = &mut answering => ended?,
            _ = is_ready => {}
            () = tokio::time::sleep(STALL) => {
                return Err(Failure::new(Exit::Timeout, "the one who answers could not be attached in time"));
            }
        }
        let askers = try_join_all((0..load.concurrency).map(|_| driver.asker(&subject))).await?;
        let before = Counters::read(self.client, load.broker_pid).await?;
        let recorder = Recorder::new(load)?;
        let start = now();
        let lanes =
            (0..).zip(askers).map(|(at, asker)| Lane::new(load, &recorder, at, 1, start).send(asker).boxed_local());
        let lanes: Vec<_> = lanes.collect();
        let work = async {
            tokio::select! {
                () = all(lanes, &recorder) => {}
                ended = answering => {
                    if let Err(failure) = ended {
                        recorder.broken(&failure);
                    }
                }
            }
        };
        self.watch(&recorder, &before, work).await
    }
}

#[allow(clippy::cast_precision_loss, reason = "a measurement, exact up to 2^53")]
fn report(work: Work, load: &Load, outcome: Outcome, disk: &[DiskRun]) -> Report {
    let Outcome { measured, interrupted, cost, stored } = outcome;
    let seconds = measured.took.as_secs_f64();
    let rate = if seconds > 0.0 { measured.done as f64 / seconds } else { 0.0 };
    let mib_per_second = rate * load.size as f64 / (1 << 20) as f64;
    let disk = disk.iter().map(|run| {
        let report = run.report();
        DiskReport { ratio: Some(mib_per_second / report.mib_per_second), ..report }
    });
    Report {
        bench: work.name(),
        protocol: load.protocol.name(),
        size_bytes: load.size,
        concurrency: load.concurrency,
        window: load.window(),
        batch: load.batch,
        coalesce: load.coalesce,
        queues: work.queues(),
        rate: load.rate,
        durability: load.durability,
        interrupted,
        messages: measured.done,
        errors: measured.failed,
        first_error: measured.first_failure,
        stored,
        seconds,
        messages_per_second: rate,
        mib_per_second,
        latency: Latency::new(work.measured(load.rate.is_some()), &measured.latency),
        broker: cost,
        disk: disk.collect(),
    }
}
