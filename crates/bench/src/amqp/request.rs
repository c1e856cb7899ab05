//! Requests that are answered through the direct reply-to.

use std::cell::RefCell;
use std::time::Instant;

use anyhow::Context;
use clap::Args;
use tokio::sync::Notify;

use super::wire::{self, BODY, HEADER, Properties, Wire};
use super::{Load, Server, declare_exclusive, start_consumer};
use crate::measure::{Meter, Report, WARMUP, body, now, runtime};

const QUEUE: &str = "bench-requests";
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// `--window` is how many requests are in flight.
#[derive(Args, Debug)]
pub(crate) struct Request {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    load: Load,
}

pub(crate) fn run(request: Request) -> anyhow::Result<Report> {
    runtime(1)?.block_on(async {
        let Request { server, load } = request;
        let mut responder = Wire::open(server.address).await?;
        declare_exclusive(&mut responder, QUEUE).await?;
        start_consumer(&mut responder, QUEUE, true).await?;
        let mut requester = Wire::open(server.address).await?;
        start_consumer(&mut requester, REPLY_TO, true).await?;
        let meter = RefCell::new(Meter::new(WARMUP, load.duration, server.pid)?);
        let body = body(load.size);
        let over = Notify::new();
        let asked = async {
            ask(&mut requester, load.window, &body, &meter).await?;
            over.notify_one();
            anyhow::Ok(())
        };
        let answered = async {
            tokio::select! {
                () = over.notified() => Ok(()),
                failed = answer(&mut responder, &body) => failed,
            }
        };
        tokio::try_join!(asked, answered)?;
        meter.into_inner().finish("amqp-request")
    })
}

/// Keeps so many requests in flight. The correlation id is a request's place among them.
async fn ask(wire: &mut Wire, window: usize, body: &[u8], meter: &RefCell<Meter>) -> anyhow::Result<()> {
    let requests: Vec<Vec<u8>> = (0..window)
        .map(|place| {
            let correlation = place.to_string();
            let reply_to = REPLY_TO.as_bytes();
            let properties = Properties { persistent: false, correlation: correlation.as_bytes(), reply_to };
            wire::publish("", QUEUE.as_bytes(), properties, body)
        })
        .collect();
    let mut sent: Vec<Option<Instant>> = vec![Some(now()); window];
    wire.send(&requests.concat()).await?;
    let (mut out, mut in_flight) = (Vec::new(), window);
    while in_flight > 0 {
        wire.receive().await?;
        out.clear();
        let at = now();
        wire.drain(|kind, payload| {
            if kind != HEADER {
                return Ok(());
            }
            let (correlation, _) = wire::correlation_and_reply_to(payload).context("a header is cut off")?;
            let place: usize = std::str::from_utf8(correlation)?.parse().context("a reply is to no request")?;
            let slot = sent.get_mut(place).context("a reply is to no request")?;
            let since = slot.take().context("a request is answered twice")?;
            let mut meter = meter.borrow_mut();
            meter.note(since, at, 1);
            if meter.is_over(at) {
                in_flight -= 1;
            } else {
                *slot = Some(at);
                out.extend_from_slice(&requests[place]);
            }
            Ok(())
        })?;
        if !out.is_empty() {
            wire.send(&out).await?;
        }
    }
    Ok(())
}

/// Answers each request with the same body.
async fn answer(wire: &mut Wire, body: &[u8]) -> anyhow::Result<()> {
    let (mut reply, mut out) = (Vec::new(), Vec::new());
    loop {
        wire.receive().await?;
        out.clear();
        wire.drain(|kind, payload| {
            match kind {
                HEADER => {
                    let (correlation, reply_to) =
                        wire::correlation_and_reply_to(payload).context("a header is cut off")?;
                    let properties = Properties { persistent: false, correlation, reply_to: b"" };
                    reply = wire::publish("", reply_to, properties, body);
                }
                BODY => out.extend_from_slice(&reply),
                _ => {}
            }
            Ok(())
        })?;
        if !out.is_empty() {
            wire.send(&out).await?;
        }
    }
}
