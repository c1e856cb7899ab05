//! `shop up`: the whole shop on this machine.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{What, asked_to_stop};
use crate::faults::Faults;
use crate::output;
use crate::services::Name;
use crate::supervise::{Shop, build_services};

/// Where a shop that is up says where its front is.
const NOTE: &str = "shop.json";
/// Where a shop keeps everything unless told otherwise.
pub(super) const DEFAULT_DATA: &str = "shop-data";
/// How often it is looked whether everything still runs.
const LOOK: Duration = Duration::from_secs(1);

/// How the shop is started.
#[derive(Args, Debug)]
pub(super) struct Options {
    /// Where everything is kept: databases, logs, the broker's data.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA)]
    data: PathBuf,
    #[command(flatten)]
    what: What,
    /// Pieces of each article in the beginning.
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    stock: u32,
    #[command(flatten)]
    faults: Faults,
}

/// What others have to know of a shop that is up.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    front: String,
}

pub(super) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    build_services().await?;
    let plan = options.what.plan(options.data.clone(), "shop", options.faults, options.stock);
    output::remark("starting the broker and six services ...");
    let starting = Shop::start(&plan);
    let mut shop = tokio::select! {
        shop = starting => shop?,
        () = asked_to_stop() => return Ok(ExitCode::FAILURE),
    };
    let note = Note { front: format!("http://{}", shop.layout().http(Name::Order)) };
    let file = options.data.join(NOTE);
    std::fs::write(&file, serde_json::to_vec_pretty(&note)?).with_context(|| format!("writing {}", file.display()))?;
    describe(&shop, &note);
    let ended = watch(&mut shop).await;
    output::remark("stopping ...");
    let _ = std::fs::remove_file(file);
    shop.stop().await?;
    ended.map(|()| ExitCode::SUCCESS)
}

/// Ready when it is to stop, or when something has ended by itself.
async fn watch(shop: &mut Shop) -> anyhow::Result<()> {
    let stop = asked_to_stop();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(LOOK) => {
                if let Some(died) = shop.died() {
                    anyhow::bail!("{died}");
                }
            }
        }
    }
}

fn describe(shop: &Shop, note: &Note) {
    let layout = shop.layout();
    let mut rows = shop.describe_broker();
    for name in Name::ALL {
        let http = layout.http(name);
        let place = match name {
            Name::Order => format!("POST http://{http}/orders, GET http://{http}/orders/ID"),
            Name::Payment => format!("grpc://{} shop.payment.v1.Quotes", layout.quotes()),
            Name::Inventory => format!("POST http://{http}/stock/check"),
            Name::Notification => format!("http://{http}/readyz"),
            Name::Loyalty => format!("http://{http}/members/ID"),
            Name::Analytics => format!("http://{http}/report"),
        };
        rows.push((name.to_string(), place));
    }
    rows.push(("databases, logs".to_owned(), layout.directory().display().to_string()));
    let rows = rows.into_iter().map(|(what, place)| vec![what, place]);
    output::line(output::table(&["what", "where"], rows));
    output::line(format!(
        "\nTry:  curl -i {}/orders -H 'content-type: application/json' \\\n        -d '{{\"customer_id\":\"ann\",\"lines\":[{{\"sku\":\"teapot\",\"quantity\":1}}]}}'\n\
         or:   cargo run -p shop -- load --data {}\nCtrl-C stops everything.",
        note.front,
        layout.directory().display(),
    ));
}

/// The front of a shop that is up, by its directory.
pub(super) fn front_of(data: &Path) -> anyhow::Result<String> {
    let file = data.join(NOTE);
    let text = std::fs::read(&file).with_context(|| {
        format!(
            "no shop is up in {}: start one by `cargo run -p shop -- up`, or say where its front is by --front",
            data.display()
        )
    })?;
    let note: Note = serde_json::from_slice(&text).with_context(|| format!("reading {}", file.display()))?;
    Ok(note.front)
}
