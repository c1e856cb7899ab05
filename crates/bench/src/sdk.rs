//! What the SDK costs: a handler that does nothing, beside the same loop written by hand on the transport's own client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use api::grpc::consumer_client::ConsumerClient;
use api::grpc::{ConsumeOpen, ConsumeRequest, DeliveryRange, SettleAction, StreamSettlement};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use sdk::transport::amqp::{Amqp, AmqpOptions};
use sdk::transport::posthouse::{Posthouse, PosthouseOptions};
use sdk::transport::{Destination, Outgoing, QueueSpec, Topology, Transport};
use sdk::{Envelope, Service, State, Subscription};
use tokio::sync::Notify;

use crate::measure::{Meter, Report, now, runtime};

/// Messages that are published at a time to fill the queue.
const FILL: usize = 2000;
/// Deliveries that the consumer may have.
const CREDIT: u16 = 1000;
/// Deliveries that a loop written by hand acknowledges together over AMQP.
const ACKS: u64 = 100;

#[derive(Args, Debug)]
pub(crate) struct Consume {
    /// The broker: `posthouse://host:port` or `amqp://user:password@host:port/vhost`.
    #[arg(long)]
    url: String,
    /// What consumes.
    #[arg(long, value_enum)]
    by: By,
    /// Size of a message, in bytes.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Messages, all published first.
    #[arg(long, default_value_t = 500_000)]
    count: u64,
    /// Threads of the consumer.
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// A loop on the transport's client.
    Hand,
    /// A handler of the SDK.
    Sdk,
}

pub(crate) fn consume(consume: Consume) -> anyhow::Result<Report> {
    runtime(consume.threads)?.block_on(async {
        let queue = format!("sdk-bench-{:?}-{}", consume.by, std::process::id()).to_lowercase();
        let transport = connect(&consume.url).await?;
        fill(&*transport, &queue, &consume).await?;
        let mut meter = Meter::new(Duration::ZERO, Duration::from_secs(3600), None)?;
        match consume.by {
            By::Sdk => by_sdk(transport, &queue, consume.count).await?,
            By::Hand if consume.url.starts_with("amqp") => by_lapin(&consume, &queue).await?,
            By::Hand => by_tonic(&consume, &queue).await?,
        }
        let at = now();
        meter.note(at, at, consume.count);
        meter.finish("sdk-consume")
    })
}

async fn connect(url: &str) -> anyhow::Result<Arc<dyn Transport>> {
    Ok(if url.starts_with("amqp") {
        Arc::new(Amqp::connect(url, AmqpOptions::default()).await?)
    } else {
        Arc::new(Posthouse::connect(url, PosthouseOptions::default()).await?)
    })
}

async fn fill(transport: &dyn Transport, queue: &str, consume: &Consume) -> anyhow::Result<()> {
    transport.declare(&Topology { queues: vec![QueueSpec::new(queue)], ..Topology::default() }).await?;
    let body = Bytes::from(vec![0; consume.size]);
    let mut left = usize::try_from(consume.count)?;
    while left > 0 {
        let batch = left.min(FILL);
        let one =
            || Outgoing { to: Destination::Queue(queue.to_owned()), message: Envelope::new("bench", body.clone()) };
        let messages = (0..batch).map(|_| one()).collect();
        for published in transport.publish(messages).await {
            published?;
        }
        left -= batch;
    }
    Ok(())
}

/// Tells when as many were handled as there are.
#[derive(Clone)]
struct Handled {
    left: Arc<AtomicU64>,
    all: Arc<Notify>,
}

async fn handle(State(handled): State<Handled>) {
    if handled.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        handled.all.notify_one();
    }
}

async fn by_sdk(transport: Arc<dyn Transport>, queue: &str, count: u64) -> anyhow::Result<()> {
    let handled = Handled { left: Arc::new(AtomicU64::new(count)), all: Arc::default() };
    let subscription = Subscription::worker(queue, handle).concurrency(usize::from(CREDIT) / 2);
    let service = Service::new("bench").state(handled.clone()).with(subscription).unannounced();
    let running = service.start(transport).await?;
    handled.all.notified().await;
    // The acknowledgements are part of it.
    running.stop().await;
    Ok(())
}

async fn by_tonic(consume: &Consume, queue: &str) -> anyhow::Result<()> {
    let address = consume.url.replace("posthouse://", "http://");
    let channel = tonic::transport::Endpoint::from_shared(address)?.connect().await?;
    let mut client = ConsumerClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
    let (requests, sent) = tokio::sync::mpsc::channel(64);
    let open = ConsumeOpen { queue: queue.to_owned(), ..ConsumeOpen::default() };
    let credit = u32::from(CREDIT);
    requests.send(ConsumeRequest { open: Some(open), credit_messages: credit, ..ConsumeRequest::default() }).await?;
    let sent = futures_util::stream::unfold(sent, async |mut sent| Some((sent.recv().await?, sent)));
    let mut answers = client.consume(sent).await?.into_inner();
    let (mut received, mut settlements, mut settled) = (0, 0, 0);
    while received < consume.count || settled < settlements {
        let answer = answers.message().await?.context("the broker ended the stream")?;
        settled = settled.max(answer.settled);
        let count = answer.deliveries.len() as u64;
        if count == 0 {
            continue;
        }
        received += count;
        settlements += 1;
        let range = DeliveryRange { first: answer.first, last: answer.first + count - 1 };
        let settlement =
            StreamSettlement { action: SettleAction::Ack.into(), ranges: vec![range], ..StreamSettlement::default() };
        let credit_messages = u32::try_from(count)?;
        let request = ConsumeRequest { credit_messages, settlements: vec![settlement], ..ConsumeRequest::default() };
        requests.send(request).await?;
    }
    Ok(())
}

async fn by_lapin(consume: &Consume, queue: &str) -> anyhow::Result<()> {
    let connection = Connection::connect(&consume.url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(CREDIT, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut consumer = channel.basic_consume(queue.into(), "bench".into(), options, FieldTable::default()).await?;
    for number in 1..=consume.count {
        let delivery = consumer.next().await.context("the broker ended the consumer")??;
        if number % ACKS == 0 || number == consume.count {
            delivery.ack(BasicAckOptions { multiple: true }).await?;
        }
    }
    // Answered after the last acknowledgement.
    channel.basic_qos(CREDIT, BasicQosOptions::default()).await?;
    connection.close(200, "done".into()).await?;
    Ok(())
}
