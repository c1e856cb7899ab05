//! `shop load`: orders, and what became of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};

use super::customer::{Answer, Front, Orders};
use super::up::{DEFAULT_DATA, front_of};
use super::{asked_to_stop, brief};
use crate::books::Fate;
use crate::output;
use crate::services::order::PlaceOrder;

/// How long a customer insists.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it is waited for the fate of what was accepted.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);
/// How often an order is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// Orders that are on their way at a time; a shop that is slower than the rate slows the load down.
const MAX_OPEN: usize = 512;

/// How much is sent where.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Orders to send.
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    orders: u64,
    /// Orders a second.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// The front: http://HOST:PORT. Without it, that of the shop that is up in --data.
    #[arg(long, value_name = "URL")]
    front: Option<String>,
    /// Where the shop keeps everything.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
    data: PathBuf,
    /// Makes up the same orders each time.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

/// What came of one order.
enum End {
    Confirmed,
    Cancelled(String),
    Refused(String),
    Unanswered(String),
    StillPending,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let front = match &options.front {
        Some(front) => front.trim_end_matches('/').to_owned(),
        None => front_of(&options.data)?,
    };
    let front = Front::new(front)?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut orders = Orders::new(format!("load-{:08x}", fastrand::u32(..)), seed);
    let bar = ProgressBar::new(options.orders);
    bar.set_style(ProgressStyle::with_template("{bar:40} {pos}/{len} orders settled, {elapsed} {msg}")?);
    let mut tick = tokio::time::interval(Duration::from_secs(1) / options.rate);
    let stop = asked_to_stop();
    tokio::pin!(stop);
    let (mut open, mut sent, mut ends) = (FuturesUnordered::new(), 0, Vec::new());
    let interrupted = loop {
        let more = sent < options.orders && open.len() < MAX_OPEN;
        tokio::select! {
            _ = tick.tick(), if more => {
                sent += 1;
                open.push(one(&front, orders.next()));
                bar.set_message(format!("({sent} sent)"));
            }
            Some(end) = open.next() => {
                ends.push(end);
                bar.inc(1);
                if ends.len() as u64 == options.orders {
                    break false;
                }
            }
            () = &mut stop => break true,
        }
    };
    bar.finish_and_clear();
    report(&ends, sent, seed);
    let settled = ends.iter().all(|end| !matches!(end, End::Unanswered(_) | End::StillPending));
    Ok(if settled && !interrupted { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One order from its placing to its fate.
async fn one(front: &Front, order: PlaceOrder) -> End {
    match front.place(&order, PATIENCE).await {
        Answer::Refused(why) => return End::Refused(why),
        Answer::Unanswered(why) => return End::Unanswered(why),
        Answer::Accepted => {}
    }
    let order_id = order.order_id.unwrap_or_default();
    let looking = async {
        loop {
            match front.see(&order_id).await {
                Ok((Fate::Confirmed, _)) => return End::Confirmed,
                Ok((Fate::Cancelled, why)) => return End::Cancelled(why.unwrap_or_default()),
                // A front that is away for a moment still has the order.
                Ok((Fate::Pending, _)) | Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    };
    tokio::time::timeout(SETTLE_LIMIT, looking).await.unwrap_or(End::StillPending)
}

fn report(ends: &[End], sent: u64, seed: u64) {
    let mut counts: BTreeMap<(u8, String), u64> = BTreeMap::new();
    for end in ends {
        let what = match end {
            End::Confirmed => (0, "confirmed".to_owned()),
            End::Cancelled(why) => (1, format!("cancelled: {}", brief(why))),
            End::Refused(why) => (2, format!("refused: {}", brief(why))),
            End::Unanswered(why) => (3, format!("no answer within {PATIENCE:?}: {why}")),
            End::StillPending => (4, format!("accepted, and still pending after {SETTLE_LIMIT:?}")),
        };
        *counts.entry(what).or_default() += 1;
    }
    let open = sent.saturating_sub(ends.len() as u64);
    let rows = counts.into_iter().map(|((_, what), count)| vec![what, count.to_string()]);
    let open = (open > 0).then(|| vec!["interrupted".to_owned(), open.to_string()]);
    output::line(output::table(&["what became of them", ">orders"], rows.chain(open)));
    output::line(format!("\n{sent} orders, seed {seed}"));
}
