//! `shop chaos`: kills everything at random under load, and proves the books.

mod dead_letters;
mod drain;
mod kills;
mod load;
mod poison;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use sdk::transport::Transport;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::load::Tally;
use super::{What, asked_to_stop};
use crate::books::{self, Audit, Books, Poison, audit};
use crate::faults::Faults;
use crate::output;
use crate::services::event_dead_letter_queues;
use crate::settings::{connect, read_span};
use crate::supervise::{Databases, Plan, Shop, Victim, build_services, drop_schemas};

/// How the shop is broken.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// How long it is broken under load.
    #[arg(long, value_name = "SPAN", default_value = "5m", value_parser = read_span)]
    duration: Duration,
    /// Repeats what is left to chance: orders, faults, the order of kills. Made up without it, and shown.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Orders a second.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rate: u32,
    /// The mean time between kills.
    #[arg(long, value_name = "SPAN", default_value = "3s", value_parser = read_span)]
    kill_every: Duration,
    /// Where everything is kept: a directory that is empty or missing. A temporary one without it, which is kept if the books do not balance.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    what: What,
    /// Pieces of each article in the beginning. Without it, somewhat less than will be asked for.
    #[arg(long, value_name = "COUNT")]
    stock: Option<u32>,
}

/// What happened.
struct Outcome {
    kills: BTreeMap<Victim, u32>,
    tally: Tally,
    poison: Vec<Poison>,
    /// What was not still when the time to become so was over.
    restless: Option<String>,
    books: Books,
    audit: Audit,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    build_services().await?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let (directory, temporary) = directory(options.data.as_ref())?;
    let schemas = format!("chaos_{}_{seed}", std::process::id());
    let stock = options.stock.unwrap_or_else(|| scarce(options.rate, options.duration));
    let plan = options.what.plan(directory.clone(), &schemas, Faults::chaos(seed), stock);
    output::line(format!(
        "chaos for {:?}, seed {seed}, transport {}, everything in {}",
        options.duration,
        plan.carrier.as_str(),
        directory.display()
    ));
    let outcome = tokio::select! {
        outcome = break_it(&plan, &options, seed) => outcome,
        () = asked_to_stop() => Err(anyhow::anyhow!("interrupted; everything that was started is ended")),
    };
    let balances = outcome.as_ref().is_ok_and(|outcome| outcome.audit.balances() && outcome.restless.is_none());
    let kept = !(balances && temporary);
    match &outcome {
        Ok(outcome) => report::show(outcome, seed, options.duration),
        Err(error) => output::remark(format!("error: {error:#} (seed {seed})")),
    }
    if kept {
        output::line(format!("databases and logs: {}", directory.display()));
    } else {
        std::fs::remove_dir_all(&directory).with_context(|| format!("removing {}", directory.display()))?;
    }
    if let (true, Databases::Postgres { url, prefix }) = (balances, &plan.databases) {
        drop_schemas(url, prefix).await?;
    }
    Ok(if balances { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// So few pieces of each article that some run out before the end: an order asks for half a piece of each in the mean.
fn scarce(rate: u32, duration: Duration) -> u32 {
    let asked = duration.as_secs().saturating_mul(u64::from(rate)) / 2;
    u32::try_from(asked.saturating_mul(4) / 5).unwrap_or(u32::MAX).max(20)
}

/// The directory, and whether it is to go away when all is well.
fn directory(given: Option<&PathBuf>) -> anyhow::Result<(PathBuf, bool)> {
    let Some(given) = given else {
        let made = tempfile::Builder::new().prefix("shop-chaos-").tempdir().context("making a temporary directory")?;
        return Ok((made.keep(), true));
    };
    // What is in there from another run would be in the books of this one.
    let empty = std::fs::read_dir(given).map_or(true, |mut entries| entries.next().is_none());
    ensure!(empty, "{} is not empty; chaos begins with nothing", given.display());
    Ok((given.clone(), false))
}

async fn break_it(plan: &Plan, options: &Options, seed: u64) -> anyhow::Result<Outcome> {
    let mut shop = Shop::start(plan).await?;
    let transport = connect(plan.carrier, shop.layout().broker_url()).await?;
    let bar = ProgressBar::new(options.duration.as_secs());
    bar.set_style(ProgressStyle::with_template("{bar:40} {elapsed} of chaos: {msg}")?);
    let (stop, seen) = (CancellationToken::new(), Arc::new(load::Seen::default()));
    // Ended with this function, however it ends.
    let (mut customers, mut poisoner) = (JoinSet::new(), JoinSet::new());
    let front = format!("http://{}", shop.layout().http(crate::services::Name::Order));
    customers.spawn(load::customers(front, options.rate, seed, stop.clone(), Arc::clone(&seen)));
    poisoner.spawn(poison::poisoner(Arc::clone(&transport), seed, stop.clone()));
    let kills = kills::kill_at_random(&mut shop, options.duration, options.kill_every, seed, |kills| {
        bar.set_message(format!("{} orders accepted, {kills} kills", seen.accepted()));
        bar.tick();
    });
    let kills = kills.await?;
    stop.cancel();
    bar.set_style(ProgressStyle::with_template("{spinner} {elapsed} {msg}")?);
    bar.set_message("waiting for the last answers");
    let tally = customers.join_next().await.context("no customers")???;
    let poison = poisoner.join_next().await.context("no poisoner")??;
    let restless = drain::wait_until_still(&mut shop, &*transport, poison.len(), |now| {
        bar.set_message(now);
        bar.tick();
    });
    let restless = restless.await?;
    bar.finish_and_clear();
    shop.stop_services().await?;
    let books = collect(&shop, &transport, &tally, &poison).await?;
    transport.close().await;
    shop.stop().await?;
    let audit = audit(&books);
    Ok(Outcome { kills, tally, poison, restless, books, audit })
}

/// The books: the services' databases, the dead-letter queues, and what is known here.
async fn collect(
    shop: &Shop,
    transport: &Arc<dyn Transport>,
    tally: &Tally,
    poison: &[Poison],
) -> anyhow::Result<Books> {
    let databases = books::read(shop.layout()).await.context("reading the books")?;
    let dead_letters = dead_letters::read(&**transport).await.context("reading the dead letters")?;
    let poisoned_queues = event_dead_letter_queues();
    Ok(Books { accepted: tally.accepted.clone(), poison: poison.to_vec(), poisoned_queues, dead_letters, ..databases })
}
