//! Redis Streams, by the usual client.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::measure::{Meter, Report, WARMUP, body, now, runtime, seconds};

const STREAM: &str = "bench";

#[derive(Args, Debug)]
pub(crate) struct Publish {
    /// The server.
    #[arg(long)]
    url: String,
    /// Size of a message, in bytes.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Pipelines in flight on a connection.
    #[arg(long, default_value_t = 4)]
    pipelines: usize,
    /// Messages of a pipeline.
    #[arg(long, default_value_t = 250)]
    batch: usize,
    /// Measure for so many seconds.
    #[arg(long, value_parser = seconds, default_value = "5")]
    duration: Duration,
    /// The server's process.
    #[arg(long)]
    pid: Option<u32>,
}

pub(crate) fn publish(publish: Publish) -> anyhow::Result<Report> {
    runtime(1)?.block_on(async {
        let client = redis::Client::open(publish.url.as_str())?;
        let mut connections = Vec::new();
        for _ in 0..publish.connections.max(1) {
            let connect = client.get_multiplexed_async_connection();
            connections.push(connect.await.with_context(|| format!("{} cannot be reached", publish.url))?);
        }
        let mut pipeline = redis::pipe();
        let body = body(publish.size);
        for _ in 0..publish.batch {
            pipeline.cmd("XADD").arg(STREAM).arg("*").arg("b").arg(&body[..]).ignore();
        }
        let count = u64::try_from(publish.batch)?;
        let mut meter = Meter::new(WARMUP, publish.duration, publish.pid)?;
        let mut in_flight = FuturesUnordered::new();
        let send = |mut connection: redis::aio::MultiplexedConnection| {
            let (pipeline, since) = (&pipeline, now());
            async move {
                let answered: redis::RedisResult<()> = pipeline.query_async(&mut connection).await;
                (answered, since, connection)
            }
        };
        for connection in &connections {
            for _ in 0..publish.pipelines {
                in_flight.push(send(connection.clone()));
            }
        }
        while let Some((answered, since, connection)) = in_flight.next().await {
            answered?;
            let at = now();
            meter.note(since, at, count);
            if !meter.is_over(at) {
                in_flight.push(send(connection));
            }
        }
        let report = meter.finish("redis-publish")?;
        if let Some(connection) = connections.first_mut() {
            let _: i64 = redis::cmd("DEL").arg(STREAM).query_async(connection).await?;
        }
        Ok(report)
    })
}
