//! AMQP 0-9-1 beside RabbitMQ's classic and quorum queues: one load generator for all three, and what a bare relay gives.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::cases::{Lab, MIB, middle, speed};
use super::figure::{Figure, Goal, number, rate, short};
use super::peers::RabbitMq;
use super::process::{Posthouse, memory_bytes};

/// In flight end to end, where nothing is confirmed and nothing acknowledged.
const THROUGH_WINDOW: u32 = 10_000;
/// Messages that wait while the memory is looked at.
const WAITING: u32 = 1_000_000;
/// Messages that RabbitMQ's consume takes for each that ours takes, so that both take about as long.
const CONSUME_SHARE: u64 = 2;

/// A server of the comparison.
enum Server {
    Posthouse(Posthouse),
    RabbitMq(RabbitMq),
}

impl Server {
    fn pid(&self) -> u32 {
        match self {
            Self::Posthouse(server) => server.pid(),
            Self::RabbitMq(server) => server.pid(),
        }
    }

    /// `127.0.0.1:5672`.
    fn address(&self) -> anyhow::Result<String> {
        match self {
            Self::Posthouse(server) => {
                Ok(server.place("amqp://")?.trim_start_matches("amqp://").trim_end_matches('/').to_owned())
            }
            Self::RabbitMq(server) => Ok(format!("127.0.0.1:{}", server.port())),
        }
    }

    /// Runs a command of the load generator against it.
    fn run(&self, lab: &Lab, line: &str) -> anyhow::Result<Value> {
        lab.peer(&format!("{line} --address {} --pid {}", self.address()?, self.pid()))
    }
}

/// A directory that no other start of this run has.
fn directory(lab: &Lab, name: &str) -> PathBuf {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    lab.directory.join(format!("{name}-{}", STARTED.fetch_add(1, Ordering::Relaxed)))
}

fn posthouse(lab: &Lab) -> anyhow::Result<Server> {
    let program = lab.posthouse.program();
    let listeners = "--http off --grpc off --management off --amqp 127.0.0.1:0";
    Ok(Server::Posthouse(Posthouse::start(program, &directory(lab, "posthouse-amqp"), listeners)?))
}

fn rabbitmq(lab: &Lab) -> anyhow::Result<Server> {
    Ok(Server::RabbitMq(RabbitMq::start(&directory(lab, "rabbitmq"))?))
}

/// One turn: ours, and RabbitMQ's with either kind of queue.
struct Turn {
    ours: Value,
    classic: Value,
    quorum: Value,
}

impl Turn {
    /// RabbitMQ's better one.
    fn best(&self, of: impl Fn(&Value) -> anyhow::Result<f64>, better: fn(f64, f64) -> f64) -> anyhow::Result<f64> {
        Ok(better(of(&self.classic)?, of(&self.quorum)?))
    }
}

/// Turns of a command, which takes the kind of queue. RabbitMQ runs for as long as the turns do and no longer: it is not still when it has
/// nothing to do.
fn turns(lab: &Lab, ours_line: &str, line: &str) -> anyhow::Result<Vec<Turn>> {
    let (ours, peer) = (posthouse(lab)?, rabbitmq(lab)?);
    lab.turns(|| {
        Ok(Turn {
            ours: ours.run(lab, ours_line)?,
            classic: peer.run(lab, &format!("{line} --queue-type classic"))?,
            quorum: peer.run(lab, &format!("{line} --queue-type quorum"))?,
        })
    })
}

fn speeds(turns: &[Turn]) -> anyhow::Result<String> {
    Ok(format!(
        "{}; classic {}, quorum {}",
        speed(turns, |turn| &turn.ours)?,
        speed(turns, |turn| &turn.classic)?,
        speed(turns, |turn| &turn.quorum)?
    ))
}

/// How many times as fast as RabbitMQ's faster kind of queue.
fn faster(what: &str, turns: &[Turn], goal: f64) -> anyhow::Result<Figure> {
    let ratio = middle(turns, |turn| Ok(rate(&turn.ours)? / turn.best(rate, f64::max)?))?;
    Ok(Figure::new(what, ratio, " ×", Goal::AtLeast(goal), speeds(turns)?))
}

/// Processor time a million messages, beside RabbitMQ's thriftier kind of queue.
fn thriftier(what: &str, turns: &[Turn]) -> anyhow::Result<Figure> {
    let cpu = |report: &Value| number(report, "/cpu_seconds_per_million");
    let ratio = middle(turns, |turn| Ok(cpu(&turn.ours)? / turn.best(cpu, f64::min)?))?;
    let each = |of: fn(&Turn) -> &Value| Ok::<_, anyhow::Error>(short(middle(turns, |turn| cpu(of(turn)))?));
    let from = format!(
        "{} s; classic {} s, quorum {} s",
        each(|turn| &turn.ours)?,
        each(|turn| &turn.classic)?,
        each(|turn| &turn.quorum)?
    );
    Ok(Figure::new(what, ratio, " ×", Goal::AtMost(0.2), from))
}

fn duration(lab: &Lab) -> String {
    format!("--duration {}", lab.plan.seconds)
}

pub(super) fn publish(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let line = format!("amqp-publish --window 1000 {}", duration(lab));
    let turns = turns(lab, &line, &line)?;
    let what = "AMQP publish with confirms, 1 KiB, persistent, durable queue, window 1,000";
    Ok(vec![
        faster(&format!("{what}, beside the better of RabbitMQ's classic and quorum queue"), &turns, 4.0)?,
        thriftier("processor time of the broker a million of these", &turns)?,
    ])
}

pub(super) fn consume(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let line = |count| format!("amqp-consume --prefetch 1000 --count {count}");
    let turns = turns(lab, &line(lab.plan.consume), &line(lab.plan.consume / CONSUME_SHARE))?;
    Ok(vec![
        faster("AMQP consume with acknowledgements, 1 KiB, prefetch 1,000, beside RabbitMQ", &turns, 2.5)?,
        thriftier("processor time of the broker a million of these", &turns)?,
    ])
}

pub(super) fn fanout(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let line = format!("amqp-publish --window 1000 --fanout 5 {}", duration(lab));
    let turns = turns(lab, &line, &line)?;
    Ok(vec![
        faster("AMQP publish with confirms to a fanout of 5 durable queues, 1 KiB, beside RabbitMQ", &turns, 8.0)?,
        thriftier("processor time of the broker a million of these", &turns)?,
    ])
}

/// Messages that touch no disk are in RabbitMQ's classic queues; a bare relay of the same bytes is measured beside.
struct Live {
    ours: Value,
    peer: Value,
    relay: Value,
}

fn live(lab: &Lab, line: &str, traffic: &str) -> anyhow::Result<Vec<Live>> {
    let (ours, peer) = (posthouse(lab)?, rabbitmq(lab)?);
    lab.turns(|| {
        Ok(Live {
            ours: ours.run(lab, &format!("amqp-{traffic} {line}"))?,
            peer: peer.run(lab, &format!("amqp-{traffic} {line}"))?,
            relay: lab.peer(&format!("amqp-relay --traffic {traffic} {line}"))?,
        })
    })
}

pub(super) fn through(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let turns = live(lab, &format!("--size 16 --window {THROUGH_WINDOW} {}", duration(lab)), "through")?;
    let from = format!(
        "{}; RabbitMQ {}; bare relay {}",
        speed(&turns, |turn| &turn.ours)?,
        speed(&turns, |turn| &turn.peer)?,
        speed(&turns, |turn| &turn.relay)?
    );
    let cpu = |report: &Value| number(report, "/cpu_seconds_per_million");
    Ok(vec![
        Figure::new(
            "AMQP end to end, transient, 16 B, no acknowledgements, beside RabbitMQ",
            middle(&turns, |turn| Ok(rate(&turn.ours)? / rate(&turn.peer)?))?,
            " ×",
            Goal::AtLeast(5.0),
            from,
        ),
        Figure::new(
            "processor time of the broker a million of these",
            middle(&turns, |turn| Ok(cpu(&turn.ours)? / cpu(&turn.peer)?))?,
            " ×",
            Goal::AtMost(0.2),
            format!(
                "{} s; RabbitMQ {} s",
                short(middle(&turns, |turn| cpu(&turn.ours))?),
                short(middle(&turns, |turn| cpu(&turn.peer))?)
            ),
        ),
    ])
}

pub(super) fn request(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    [(1, 0.7), (64, 0.3)]
        .into_iter()
        .map(|(window, goal)| {
            let turns = live(lab, &format!("--size 16 --window {window} {}", duration(lab)), "request")?;
            let p50 = |report: &Value| number(report, "/latency/p50_us");
            let each = |of: fn(&Live) -> &Value| Ok::<_, anyhow::Error>(short(middle(&turns, |turn| p50(of(turn)))?));
            Ok(Figure::new(
                format!("AMQP request by direct reply-to, 16 B, {window} in flight: p50, beside RabbitMQ"),
                middle(&turns, |turn| Ok(p50(&turn.ours)? / p50(&turn.peer)?))?,
                " ×",
                Goal::AtMost(goal),
                format!(
                    "{} µs; RabbitMQ {} µs; bare relay {} µs",
                    each(|turn| &turn.ours)?,
                    each(|turn| &turn.peer)?,
                    each(|turn| &turn.relay)?
                ),
            ))
        })
        .collect()
}

/// The memory of a server that was started for it, with messages waiting in one queue.
fn waiting(lab: &Lab, server: &Server, kind: &str) -> anyhow::Result<f64> {
    server.run(lab, &format!("amqp-fill --count {WAITING} --queue-type {kind}"))?;
    #[allow(clippy::cast_precision_loss, reason = "a measurement for people")]
    let mib = memory_bytes(server.pid()).map_or(f64::NAN, |(resident, _)| resident as f64 / MIB);
    Ok(mib)
}

pub(super) fn memory(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let ours = waiting(lab, &posthouse(lab)?, "classic")?;
    let classic = waiting(lab, &rabbitmq(lab)?, "classic")?;
    let quorum = waiting(lab, &rabbitmq(lab)?, "quorum")?;
    let from =
        format!("RabbitMQ with a classic queue {} MiB, with a quorum queue {} MiB", short(classic), short(quorum));
    Ok(vec![Figure::new(
        "the broker's resident memory with a million messages of 1 KiB waiting in a durable queue, over AMQP",
        ours,
        " MiB",
        Goal::AtMost(200.0),
        from,
    )])
}
