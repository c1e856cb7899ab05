//! `bench`: measures a running broker from outside, through the protocols that its clients use.
//!
//! Everything runs on one thread, so that the clients take as little as they can from a broker on the same machine. A protocol is one
//! file that implements [`driver::Driver`].

mod broker;
mod clock;
mod disk;
mod driver;
mod entities;
mod grpc;
mod http;
mod lane;
mod options;
mod pace;
mod progress;
mod recorder;
mod report;
mod run;
mod text;
mod ws;

use clap::{Args, Subcommand};

use self::disk::DiskArgs;
use self::grpc::Grpc;
use self::http::Http;
use self::options::{Load, Protocol};
use self::run::Work;
use self::ws::Ws;
use crate::client::Client;
use crate::failure::Failure;

const PUBLISH_EXAMPLES: &str = "\
Examples:
  posthouse bench publish --concurrency 64 --window 1
  posthouse bench publish --protocol ws --batch 100 --window 1000 --with-disk /var/lib/posthouse
  posthouse bench publish --rate 5000 --duration 30s -o json

Latency counts from when a message is sent until its confirmation. A client that waits for room in its window sends less while the
broker is slow, and so hides how long messages would have waited (coordinated omission): --rate sends by the clock instead, and counts
from when a message was due.";

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Publish straight into queues.
    #[command(after_help = PUBLISH_EXAMPLES)]
    Publish(Spread<1>),
    /// Take and acknowledge messages that were published before.
    Consume(Consume),
    /// Publish and take at the same time: how long a message is on its way.
    EndToEnd(Spread<1>),
    /// Publish through a topic that many queues are bound to.
    FanOut(Spread<10>),
    /// Ask on a subject, and wait for the answer.
    RequestReply {
        #[command(flatten)]
        load: Load,
    },
    /// Measure what a disk gives a bare writer that syncs. Needs no server.
    Disk(DiskArgs),
}

/// A load on queues, so many unless said otherwise.
#[derive(Args, Debug)]
pub(crate) struct Spread<const QUEUES: u32> {
    #[command(flatten)]
    load: Load,
    /// Queues. Requests and frames go to them in turn, or, of a fan-out, to all of them.
    #[arg(long, value_name = "COUNT", default_value_t = QUEUES, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    queues: u32,
}

/// What is taken.
#[derive(Args, Debug)]
pub(crate) struct Consume {
    #[command(flatten)]
    spread: Spread<1>,
    /// Beside the consumers that are measured, so many that take what their window holds and do nothing more.
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    stalled: u32,
}

pub(crate) async fn run(client: Client, action: Action) -> Result<(), Failure> {
    let (work, load) = match action {
        Action::Disk(args) => return disk::run(client.format, args).await,
        Action::Publish(spread) => (Work::Publish { queues: spread.queues }, spread.load),
        Action::FanOut(spread) => (Work::FanOut { queues: spread.queues }, spread.load),
        Action::EndToEnd(spread) => (Work::EndToEnd { queues: spread.queues }, spread.load),
        Action::RequestReply { load } => (Work::RequestReply, load),
        Action::Consume(Consume { spread, stalled }) => (Work::Consume { queues: spread.queues, stalled }, spread.load),
    };
    match load.protocol {
        Protocol::Http => Box::pin(run::measure(&Http(client.clone()), &client, work, load)).await,
        Protocol::Grpc => {
            let driver = Grpc::new(&client, load.grpc.clone(), load.unary);
            Box::pin(run::measure(&driver, &client, work, load)).await
        }
        Protocol::Ws => Box::pin(run::measure(&Ws(client.clone()), &client, work, load)).await,
    }
}
