//! NATS JetStream, by its own client.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Context;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use clap::Args;
use futures_util::{FutureExt, StreamExt};

use crate::measure::{Meter, Report, WARMUP, body, now, runtime, seconds};

const STREAM: &str = "bench";
const SUBJECT: &str = "bench";
/// Acknowledgements that may be missing before the server sends no more: more than a consumer's credit, so that it never waits for them.
const MAX_ACK_PENDING: i64 = 20_000;
/// How long a consumer waits for the next message before it takes the stream for empty.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args, Debug)]
pub(crate) struct Publish {
    /// The server.
    #[arg(long)]
    url: String,
    /// Size of a message, in bytes.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Messages in flight.
    #[arg(long, default_value_t = 1000)]
    window: usize,
    /// Measure for so many seconds.
    #[arg(long, value_parser = seconds, default_value = "5")]
    duration: Duration,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The server's process.
    #[arg(long)]
    pid: Option<u32>,
}

#[derive(Args, Debug)]
pub(crate) struct Consume {
    /// The server.
    #[arg(long)]
    url: String,
    /// Size of a message, in bytes.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Messages that the server may send ahead.
    #[arg(long, default_value_t = 1000)]
    window: usize,
    /// Messages, all published first.
    #[arg(long, default_value_t = 500_000)]
    count: u64,
    /// Threads of the client.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The server's process.
    #[arg(long)]
    pid: Option<u32>,
}

/// A fresh stream on disk, without bounds.
async fn connect(url: &str) -> anyhow::Result<(jetstream::Context, stream::Stream)> {
    let client = async_nats::connect(url).await.with_context(|| format!("{url} cannot be reached"))?;
    let context = jetstream::new(client);
    let _ = context.delete_stream(STREAM).await;
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        storage: stream::StorageType::File,
        ..stream::Config::default()
    };
    let stream = context.create_stream(config).await?;
    Ok((context, stream))
}

/// Publishes until the meter, or a count, says that it is enough.
async fn send(
    context: &jetstream::Context,
    size: usize,
    window: usize,
    mut more: impl FnMut() -> bool,
    mut done: impl FnMut(std::time::Instant),
) -> anyhow::Result<()> {
    let body = body(size);
    let subject = async_nats::Subject::from_static(SUBJECT);
    let mut in_flight = VecDeque::with_capacity(window);
    let mut sending = true;
    loop {
        while sending && in_flight.len() < window {
            sending = more();
            if sending {
                let since = now();
                let acknowledgement = context.publish(subject.clone(), body.clone()).await?;
                in_flight.push_back((since, std::future::IntoFuture::into_future(acknowledgement)));
            }
        }
        let Some((since, acknowledgement)) = in_flight.pop_front() else { return Ok(()) };
        acknowledgement.await?;
        done(since);
        // What else was acknowledged meanwhile makes room too.
        while let Some((since, acknowledgement)) = in_flight.front_mut() {
            let Some(answer) = acknowledgement.now_or_never() else { break };
            answer?;
            done(*since);
            in_flight.pop_front();
        }
    }
}

pub(crate) fn publish(publish: Publish) -> anyhow::Result<Report> {
    runtime(publish.threads)?.block_on(async {
        let (context, _) = connect(&publish.url).await?;
        let meter = std::cell::RefCell::new(Meter::new(WARMUP, publish.duration, publish.pid)?);
        let more = || !meter.borrow().is_over(now());
        send(&context, publish.size, publish.window, more, |since| meter.borrow_mut().note(since, now(), 1)).await?;
        let report = meter.into_inner().finish("jetstream-publish")?;
        context.delete_stream(STREAM).await?;
        Ok(report)
    })
}

pub(crate) fn consume(consume: Consume) -> anyhow::Result<Report> {
    runtime(consume.threads)?.block_on(async {
        let (context, stream) = connect(&consume.url).await?;
        let mut left = consume.count;
        let more = || {
            left = left.saturating_sub(1);
            left > 0
        };
        send(&context, consume.size, 1000, more, |_| {}).await?;
        let filled = stream.get_info().await?.state.messages;
        let config = pull::Config {
            durable_name: Some(STREAM.to_owned()),
            ack_policy: AckPolicy::Explicit,
            max_ack_pending: MAX_ACK_PENDING,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let mut messages = consumer.stream().max_messages_per_batch(consume.window).messages().await?;
        let mut meter = Meter::new(Duration::ZERO, Duration::from_secs(3600), consume.pid)?;
        for _ in 0..filled {
            let next = tokio::time::timeout(PATIENCE, messages.next()).await.context("no message came")?;
            let message = next.context("the consumer ended")??;
            let since = now();
            message.ack().await.map_err(|error| anyhow::anyhow!("an acknowledgement failed: {error}"))?;
            meter.note(since, now(), 1);
        }
        // The last acknowledgements are on their way: what is asked after them is answered after them.
        let _ = stream.get_info().await?;
        let report = meter.finish("jetstream-consume")?;
        context.delete_stream(STREAM).await?;
        Ok(report)
    })
}
