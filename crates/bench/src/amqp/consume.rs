//! Consuming a full durable queue, with acknowledgements.

use std::time::Duration;

use clap::Args;

use super::wire::{self, BODY, Wire};
use super::{QUEUE, Server, delete, publish, start_consumer};
use crate::measure::{Meter, Report, now, runtime};

#[derive(Args, Debug)]
pub(crate) struct Consume {
    #[command(flatten)]
    server: Server,
    /// Size of a message, in bytes.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Messages that the server may send ahead.
    #[arg(long, default_value_t = 1000)]
    prefetch: u16,
    /// Messages that are acknowledged together, at least.
    #[arg(long, default_value_t = 100)]
    acks: u64,
    /// Messages, all published first.
    #[arg(long, default_value_t = 500_000)]
    count: usize,
}

pub(crate) fn run(consume: Consume) -> anyhow::Result<Report> {
    runtime(1)?.block_on(async {
        let server = &consume.server;
        let mut publisher = Wire::open(server.address).await?;
        server.declare(&mut publisher, QUEUE).await?;
        publish::put(&mut publisher, consume.size, consume.count, |_| {}).await?;
        let mut wire = Wire::open(server.address).await?;
        let prefetch = consume.prefetch.to_be_bytes();
        let qos = |to: &mut Vec<u8>| {
            to.extend_from_slice(&[0, 0, 0, 0]);
            to.extend_from_slice(&prefetch);
            to.push(0);
        };
        wire.call(wire::QOS, qos).await?;
        let mut meter = Meter::new(Duration::ZERO, Duration::from_secs(3600), server.pid)?;
        let report = take(&mut wire, &consume, &mut meter).await.map(|()| meter)?.finish("amqp-consume")?;
        delete(&mut publisher, QUEUE).await?;
        Ok(report)
    })
}

async fn take(wire: &mut Wire, consume: &Consume, meter: &mut Meter) -> anyhow::Result<()> {
    start_consumer(wire, QUEUE, false).await?;
    let (mut received, mut acknowledged, count) = (0_u64, 0_u64, u64::try_from(consume.count)?);
    while acknowledged < count {
        let before = received;
        wire.drain(|kind, _| {
            received += u64::from(kind == BODY);
            Ok(())
        })?;
        let at = now();
        meter.note(at, at, received - before);
        // Delivery tags count from 1.
        if received - acknowledged >= consume.acks || received == count {
            acknowledged = received;
            let ack = wire::method(wire::ACK, |to| {
                to.extend_from_slice(&received.to_be_bytes());
                to.push(1);
            });
            wire.send(&ack).await?;
        }
        if acknowledged < count {
            wire.receive().await?;
        }
    }
    // What is asked after the last acknowledgement is answered after it.
    let passive = |to: &mut Vec<u8>| {
        to.extend_from_slice(&[0, 0]);
        wire::short(to, QUEUE.as_bytes());
        to.push(1);
        wire::long(to, &[]);
    };
    wire.call(wire::QUEUE_DECLARE, passive).await
}
