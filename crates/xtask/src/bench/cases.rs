//! The cases. To add one: a function from the lab to figures, and a row.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::figure::{Figure, Goal, median, number, rate, short};
use super::peers::{Peers, Programs};
use super::process::{self, Posthouse, memory_bytes};
use super::{Plan, amqp, sdk};

/// What the cases work with.
pub(super) struct Lab {
    pub(super) posthouse: Posthouse,
    pub(super) programs: Programs,
    pub(super) peers: Peers,
    /// On the file system that everything is measured on.
    pub(super) directory: PathBuf,
    pub(super) plan: Plan,
}

/// One comparison.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) run: fn(&Lab) -> anyhow::Result<Vec<Figure>>,
}

pub(super) const CASES: &[Case] = &[
    Case { name: "publish", about: "streams of publishes, beside JetStream and Redis", run: publish },
    Case { name: "consume", about: "consuming with acknowledgements, beside JetStream", run: consume },
    Case { name: "batches", about: "batched publishes, beside the disk", run: batches },
    Case { name: "appenders", about: "64 appenders to the log, beside the disk", run: appenders },
    Case { name: "queues", about: "1,000 queues in turn, beside one", run: queues },
    Case { name: "fan-out", about: "10 queues of a topic, beside one", run: fan_out },
    Case { name: "request", about: "request and reply, beside a bare echo", run: request },
    Case { name: "stalled", about: "a consumer beside one that stands still", run: stalled },
    Case { name: "amqp-publish", about: "confirmed publishes over AMQP, beside RabbitMQ", run: amqp::publish },
    Case {
        name: "amqp-consume",
        about: "consuming over AMQP with acknowledgements, beside RabbitMQ",
        run: amqp::consume,
    },
    Case { name: "amqp-through", about: "transient messages over AMQP, beside RabbitMQ", run: amqp::through },
    Case { name: "amqp-fanout", about: "a fanout to 5 durable queues over AMQP, beside RabbitMQ", run: amqp::fanout },
    Case { name: "amqp-request", about: "direct reply-to over AMQP, beside RabbitMQ", run: amqp::request },
    Case { name: "amqp-memory", about: "memory with a million messages waiting, beside RabbitMQ", run: amqp::memory },
    Case { name: "sdk", about: "a handler of the SDK, beside a loop written by hand", run: sdk::consume },
    Case { name: "proofs", about: "what is measured elsewhere", run: elsewhere },
];

/// A stream whose client puts what waits into frames.
const STREAM: &str = "publish --protocol grpc --window 1000 --batch 250 --coalesce";
/// The peers' clients in the shape in which they are fastest: JetStream's gets a second thread, and Redis, which syncs once for what its
/// connections sent since the last time, the same number of messages in flight over 16 connections.
const JETSTREAM_THREADS: u32 = 2;
const REDIS_SHAPE: &str = "--connections 16 --pipelines 2 --batch 32";
const KIB: f64 = 1024.0;
pub(super) const MIB: f64 = KIB * KIB;
/// The largest share of the body's size that a message may add to the write-ahead log for each further queue, and still be there once.
const BODIES_IN_LOG: f64 = 2.0;
/// The most memory that the broker may ever have taken by the end of the run.
const MEMORY_MIB: f64 = 512.0;

impl Lab {
    pub(super) fn timed(&self) -> String {
        format!("--duration {}s --warmup 1s", self.plan.seconds)
    }

    fn ours(&self, line: &str) -> anyhow::Result<Value> {
        process::settle_disk();
        self.posthouse.bench(line)
    }

    pub(super) fn peer(&self, line: &str) -> anyhow::Result<Value> {
        process::settle_disk();
        self.programs.run(line)
    }

    fn disk(&self, sync: &str) -> anyhow::Result<Value> {
        process::settle_disk();
        self.posthouse.bench_disk(&self.directory, &[sync], self.plan.seconds)
    }

    /// Several turns of the same; each measures everything once, so that what disturbs the machine disturbs all of it.
    pub(super) fn turns<T>(&self, turn: impl Fn() -> anyhow::Result<T>) -> anyhow::Result<Vec<T>> {
        (0..self.plan.turns).map(|_| turn()).collect()
    }
}

/// The median of a number of each turn.
pub(super) fn middle<T>(turns: &[T], of: impl Fn(&T) -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let values: anyhow::Result<Vec<f64>> = turns.iter().map(of).collect();
    Ok(median(values?))
}

/// `312,000 msg/s`, the median of the turns.
pub(super) fn speed<T>(turns: &[T], of: impl Fn(&T) -> &Value) -> anyhow::Result<String> {
    Ok(format!("{} msg/s", short(middle(turns, |turn| rate(of(turn)))?)))
}

/// One turn of publishing.
struct Publishes {
    ours: Value,
    single: Value,
    lazy: Value,
    always: Value,
    redis: Value,
    /// The disk, syncing after as many bytes as our stream did.
    disk: Value,
}

fn publish(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let turns = lab.turns(|| publishes(lab))?;
    let over = |of: fn(&Publishes) -> &Value| middle(&turns, |turn| Ok(rate(&turn.ours)? / rate(of(turn))?));
    let ours = speed(&turns, |turn| &turn.ours)?;
    let beside = |of: fn(&Publishes) -> &Value, name: &str| {
        Ok::<_, anyhow::Error>(format!("{ours}; {name} {}", speed(&turns, of)?))
    };
    let p99 = middle(&turns, |turn| number(&turn.ours, "/latency/p99_us"))?;
    let disk_p99 = middle(&turns, |turn| number(&turn.disk, "/disk/0/fdatasync_p99_us"))?;
    let p99_ratio = middle(&turns, |turn| {
        Ok(number(&turn.ours, "/latency/p99_us")? / number(&turn.disk, "/disk/0/fdatasync_p99_us")?)
    })?;
    let sync_bytes = middle(&turns, |turn| number(&turn.disk, "/disk/0/sync_bytes"))?;
    let cpu = middle(&turns, |turn| number(&turn.ours, "/broker/cpu_seconds_per_million"))?;
    let lazy_cpu = middle(&turns, |turn| number(&turn.lazy, "/cpu_seconds_per_million"))?;
    Ok(vec![
        Figure::new(
            "gRPC stream publish, 1 KiB, fsync, window 1,000, beside JetStream's asynchronous publish with its default sync",
            over(|turn| &turn.lazy)?,
            " ×",
            Goal::AtLeast(1.0),
            beside(|turn| &turn.lazy, "JetStream")?,
        ),
        Figure::new(
            "its p99 of confirmation, beside the disk's p99 of fdatasync in the same rhythm",
            p99_ratio,
            " ×",
            Goal::AtMost(4.0),
            format!("{} µs; disk {} µs at {} KiB a sync", short(p99), short(disk_p99), short(sync_bytes / KIB)),
        ),
        Figure::told(
            "the same, one message a frame",
            speed(&turns, |turn| &turn.single)?,
            beside(|turn| &turn.single, "one a frame")?,
        ),
        Figure::new(
            "the same stream, beside JetStream that syncs always",
            over(|turn| &turn.always)?,
            " ×",
            Goal::AtLeast(25.0),
            beside(|turn| &turn.always, "JetStream")?,
        ),
        Figure::new(
            "the same stream, beside Redis Streams that syncs always",
            over(|turn| &turn.redis)?,
            " ×",
            Goal::AtLeast(4.0),
            beside(|turn| &turn.redis, "Redis")?,
        ),
        Figure::new(
            "processor time of the broker a million messages, published and confirmed",
            cpu,
            " s",
            Goal::AtMost(3.0),
            format!("the same stream; JetStream {} s", short(lazy_cpu)),
        ),
    ])
}

fn publishes(lab: &Lab) -> anyhow::Result<Publishes> {
    let Peers { nats, nats_always, redis } = &lab.peers;
    let seconds = lab.plan.seconds;
    let jetstream = |(server, port): &(process::Server, u16)| {
        let pid = server.pid();
        lab.peer(&format!(
            "jetstream-publish --url nats://127.0.0.1:{port} --window 1000 --threads {JETSTREAM_THREADS} --duration {seconds} --pid {pid}"
        ))
    };
    let ours = lab.ours(&format!("{STREAM} {}", lab.timed()))?;
    let lazy = jetstream(nats)?;
    let round = number(&ours, "/broker/messages_per_round")? * number(&ours, "/broker/wal_bytes_per_message")?;
    // Whole blocks of the file system, as the write-ahead log writes them.
    let sync_kib = (round / KIB / 4.0).ceil() * 4.0;
    Ok(Publishes {
        single: lab.ours(&format!("publish --protocol grpc --window 1000 {}", lab.timed()))?,
        always: jetstream(nats_always)?,
        redis: lab.peer(&format!(
            "redis-publish --url redis://127.0.0.1:{} {REDIS_SHAPE} --duration {seconds} --pid {}",
            redis.1,
            redis.0.pid()
        ))?,
        disk: lab.disk(&format!("{sync_kib:.0}KiB"))?,
        ours,
        lazy,
    })
}

fn consume(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let (count, (server, port)) = (lab.plan.consume, &lab.peers.nats);
    let turns = lab.turns(|| {
        let ours = lab.ours(&format!("consume --protocol grpc --window 1000 --count {count}"))?;
        let line = format!(
            "jetstream-consume --url nats://127.0.0.1:{port} --window 1000 --threads {JETSTREAM_THREADS} --count {count} --pid {}",
            server.pid()
        );
        Ok((ours, lab.peer(&line)?))
    })?;
    Ok(vec![Figure::new(
        "gRPC consume with acknowledgements, 1 KiB, credit 1,000, beside JetStream's pull consumer with acknowledgements",
        middle(&turns, |(ours, peer)| Ok(rate(ours)? / rate(peer)?))?,
        " ×",
        Goal::AtLeast(1.0),
        format!("{}; JetStream {}", speed(&turns, |turn| &turn.0)?, speed(&turns, |turn| &turn.1)?),
    )])
}

fn batches(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let turns = lab.turns(|| {
        let line = format!("publish --protocol grpc --unary --batch 1000 --window 4000 {}", lab.timed());
        Ok((lab.ours(&line)?, lab.disk("1MiB")?))
    })?;
    let share =
        middle(&turns, |(ours, disk)| Ok(number(ours, "/mib_per_second")? / number(disk, "/disk/0/mib_per_second")?))?;
    let disk = middle(&turns, |(_, disk)| number(disk, "/disk/0/mib_per_second"))?;
    let from = format!("{}; disk {} MiB/s at 1 MiB a sync", speed(&turns, |turn| &turn.0)?, short(disk));
    let what = "gRPC batched publish, 1,000 × 1 KiB a request, four in flight, fsync";
    Ok(vec![
        Figure::new(format!("{what}, beside the disk"), share, " ×", Goal::AtLeast(0.6), from.clone()),
        Figure::new(what, middle(&turns, |(ours, _)| rate(ours))?, " msg/s", Goal::AtLeast(600_000.0), from),
    ])
}

fn appenders(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let (directory, seconds) = (lab.directory.display().to_string(), lab.plan.seconds);
    let turns = lab.turns(|| {
        let log = lab.peer(&format!("appenders --appenders 64 --size 1024 --duration {seconds} --dir {directory}"))?;
        let disk = lab.disk("64KiB")?;
        let network = lab.ours(&format!("publish --protocol grpc --concurrency 64 --window 1 {}", lab.timed()))?;
        Ok((log, disk, network))
    })?;
    let share =
        |report: &Value, disk: &Value| Ok(rate(report)? * KIB / (number(disk, "/disk/0/mib_per_second")? * MIB));
    let disk = middle(&turns, |(_, disk, _)| number(disk, "/disk/0/mib_per_second"))?;
    let beside = |speed: String| format!("{speed}; disk {} MiB/s at 64 KiB a sync", short(disk));
    let network = middle(&turns, |(_, disk, network)| share(network, disk))?;
    Ok(vec![
        Figure::new(
            "64 concurrent appenders of 1 KiB to the log, fsync, beside the disk at 64 KiB a sync",
            middle(&turns, |(log, disk, _)| share(log, disk))?,
            " ×",
            Goal::AtLeast(0.7),
            beside(speed(&turns, |turn| &turn.0)?),
        ),
        Figure::told(
            "the same over gRPC: 64 connections, one message in flight on each",
            format!("{} ×", short(network)),
            beside(speed(&turns, |turn| &turn.2)?),
        ),
    ])
}

fn queues(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let line = format!("publish --protocol grpc --window 1000 {}", lab.timed());
    let turns = lab.turns(|| Ok((lab.ours(&format!("{line} --queues 1000"))?, lab.ours(&line)?)))?;
    Ok(vec![Figure::new(
        "1,000 queues published to in turn, one message a frame, beside one queue",
        middle(&turns, |(many, one)| Ok(rate(many)? / rate(one)?))?,
        " ×",
        Goal::AtLeast(0.7),
        format!("{}; one queue {}", speed(&turns, |turn| &turn.0)?, speed(&turns, |turn| &turn.1)?),
    )])
}

fn fan_out(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let line = format!("fan-out --protocol grpc --window 1000 --batch 250 --coalesce {}", lab.timed());
    let turns =
        lab.turns(|| Ok((lab.ours(&format!("{line} --queues 10"))?, lab.ours(&format!("{line} --queues 1"))?)))?;
    let log = middle(&turns, |(ten, _)| Ok(number(ten, "/broker/wal_bytes_per_message")? / KIB))?;
    let log_one = middle(&turns, |(_, one)| Ok(number(one, "/broker/wal_bytes_per_message")? / KIB))?;
    Ok(vec![
        Figure::new(
            "what a message of 1 KiB costs that goes to 10 queues, beside one queue",
            middle(&turns, |(ten, one)| Ok(rate(one)? / rate(ten)?))?,
            " ×",
            Goal::AtMost(3.0),
            format!("{}; one queue {}", speed(&turns, |turn| &turn.0)?, speed(&turns, |turn| &turn.1)?),
        ),
        Figure::new(
            "bytes in the write-ahead log for it, beside its body",
            log,
            " ×",
            Goal::AtMost(BODIES_IN_LOG),
            format!("the body is there once; to one queue {} ×", short(log_one)),
        ),
    ])
}

fn request(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let turns = lab.turns(|| {
        let ours = lab.ours(&format!("request-reply --protocol grpc {}", lab.timed()))?;
        Ok((ours, lab.peer(&format!("grpc-echo --duration {}", lab.plan.seconds))?))
    })?;
    let p50 = |report: &Value| number(report, "/latency/p50_us");
    Ok(vec![Figure::new(
        "request and reply over gRPC, 1 KiB, one in flight: p50, beside a bare gRPC echo on loopback",
        middle(&turns, |(ours, echo)| Ok(p50(ours)? / p50(echo)?))?,
        " ×",
        Goal::AtMost(4.0),
        format!(
            "{} µs; echo {} µs",
            short(middle(&turns, |turn| p50(&turn.0))?),
            short(middle(&turns, |turn| p50(&turn.1))?)
        ),
    )])
}

fn stalled(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let line = format!("consume --protocol grpc --window 1000 --count {}", lab.plan.consume);
    let turns = lab.turns(|| Ok((lab.ours(&format!("{line} --stalled 1"))?, lab.ours(&line)?)))?;
    let (resident, most) = memory_bytes(lab.posthouse.pid()).unwrap_or_default();
    #[allow(clippy::cast_precision_loss, reason = "a measurement for people")]
    let mib = |bytes: u64| bytes as f64 / MIB;
    Ok(vec![
        Figure::new(
            "a consumer beside one that stands still with 1,000 messages, beside the consumer alone",
            middle(&turns, |(beside, alone)| Ok(rate(beside)? / rate(alone)?))?,
            " ×",
            Goal::AtLeast(0.9),
            format!("{}; alone {}", speed(&turns, |turn| &turn.0)?, speed(&turns, |turn| &turn.1)?),
        ),
        Figure::new(
            "the broker's memory at its most in this run, so far",
            mib(most),
            " MiB",
            Goal::AtMost(MEMORY_MIB),
            format!("{} MiB now", short(mib(resident))),
        ),
    ])
}

/// The rows of the set that take a process's whole life, or an hour.
fn elsewhere(_: &Lab) -> anyhow::Result<Vec<Figure>> {
    let row = |what: &str| Figure::told(what, "`cargo xtask proofs`".to_owned(), "docs/proofs.md".to_owned());
    Ok(vec![
        row("memory and start with millions of messages: waiting, delayed, in priorities, half acknowledged"),
        row("memory and start with 10,000 idle queues"),
        row("200 rounds of kill -9"),
    ])
}

impl Posthouse {
    /// What the disk of a directory gives, syncing after every so many bytes.
    ///
    /// # Errors
    /// If it cannot be measured.
    pub(super) fn bench_disk(&self, directory: &Path, syncs: &[&str], seconds: u32) -> anyhow::Result<Value> {
        let syncs: String = syncs.iter().map(|sync| format!(" --sync-bytes {sync}")).collect();
        self.bench_without_server(&format!("disk --duration {seconds}s{syncs} --dir {}", directory.display()))
    }
}
