//! Confirmed publishes to a durable queue, or through a fanout exchange to several.

use std::cell::RefCell;
use std::time::Duration;

use clap::Args;

use super::wire::{self, Properties, Wire};
use super::{Load, QUEUE, Server, confirms, copies, delete};
use crate::measure::{Meter, Report, WARMUP, body, now, runtime};

const EXCHANGE: &str = "bench-fanout";

#[derive(Args, Debug)]
pub(crate) struct Publish {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    load: Load,
    /// Durable queues behind a fanout exchange; without it one queue, through the default exchange.
    #[arg(long)]
    fanout: Option<usize>,
}

#[derive(Args, Debug)]
pub(crate) struct Fill {
    #[command(flatten)]
    server: Server,
    /// Size of a message, in bytes.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Messages, which stay in the queue.
    #[arg(long, default_value_t = 1_000_000)]
    count: usize,
}

pub(crate) fn run(publish: Publish) -> anyhow::Result<Report> {
    runtime(1)?.block_on(async {
        let Publish { server, load, fanout } = publish;
        let mut wire = Wire::open(server.address).await?;
        let queues: Vec<String> = (0..fanout.unwrap_or(1)).map(|at| format!("{QUEUE}-{at}")).collect();
        for queue in &queues {
            server.declare(&mut wire, queue).await?;
        }
        let (exchange, routing_key) = if fanout.is_some() { (EXCHANGE, "") } else { ("", queues[0].as_str()) };
        if fanout.is_some() {
            bind(&mut wire, &queues).await?;
        }
        let properties = Properties { persistent: true, ..Properties::default() };
        let message = wire::publish(exchange, routing_key.as_bytes(), properties, &body(load.size));
        let meter = RefCell::new(Meter::new(WARMUP, load.duration, server.pid)?);
        let more = |room| if meter.borrow().is_over(now()) { 0 } else { room };
        let confirmed = |since| meter.borrow_mut().note(since, now(), 1);
        confirms::publish(&mut wire, &copies(&message), load.window, more, confirmed).await?;
        let report = meter.into_inner().finish("amqp-publish")?;
        for queue in &queues {
            delete(&mut wire, queue).await?;
        }
        Ok(report)
    })
}

/// A fresh fanout exchange to all the queues.
async fn bind(wire: &mut Wire, queues: &[String]) -> anyhow::Result<()> {
    let named = |to: &mut Vec<u8>, name: &str| {
        to.extend_from_slice(&[0, 0]);
        wire::short(to, name.as_bytes());
    };
    let delete = |to: &mut Vec<u8>| {
        named(to, EXCHANGE);
        to.push(0);
    };
    wire.call(wire::EXCHANGE_DELETE, delete).await?;
    let declare = |to: &mut Vec<u8>| {
        named(to, EXCHANGE);
        wire::short(to, b"fanout");
        to.push(0b10);
        wire::long(to, &[]);
    };
    wire.call(wire::EXCHANGE_DECLARE, declare).await?;
    for queue in queues {
        let arguments = |to: &mut Vec<u8>| {
            named(to, queue);
            wire::short(to, EXCHANGE.as_bytes());
            wire::short(to, b"");
            to.push(0);
            wire::long(to, &[]);
        };
        wire.call(wire::QUEUE_BIND, arguments).await?;
    }
    Ok(())
}

/// Longest that a count may take.
const LONG: Duration = Duration::from_secs(3600);

pub(crate) fn fill(fill: Fill) -> anyhow::Result<Report> {
    runtime(1)?.block_on(async {
        let mut wire = Wire::open(fill.server.address).await?;
        fill.server.declare(&mut wire, QUEUE).await?;
        let mut meter = Meter::new(Duration::ZERO, LONG, fill.server.pid)?;
        put(&mut wire, fill.size, fill.count, |since| meter.note(since, now(), 1)).await?;
        meter.finish("amqp-fill")
    })
}

/// Puts so many persistent messages into the queue, each confirmed.
pub(super) async fn put(
    wire: &mut Wire,
    size: usize,
    count: usize,
    confirmed: impl FnMut(std::time::Instant),
) -> anyhow::Result<()> {
    let properties = Properties { persistent: true, ..Properties::default() };
    let message = wire::publish("", QUEUE.as_bytes(), properties, &body(size));
    let mut left = count;
    let more = |room: usize| {
        let send = room.min(left);
        left -= send;
        send
    };
    confirms::publish(wire, &copies(&message), 2000, more, confirmed).await
}
