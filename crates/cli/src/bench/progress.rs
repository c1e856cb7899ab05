//! Runs lanes to their end, with a bar on a terminal.

use std::future::Future;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use indicatif::{ProgressBar, ProgressStyle};

use super::clock::now;
use super::options::Load;
use super::recorder::Recorder;
use crate::failure::Failure;
use crate::output::Format;

/// How often the bar is drawn.
const REDRAW: Duration = Duration::from_millis(250);

/// Runs until `work` is done. A bar shows what is done on the way.
///
/// # Errors
/// If nothing is answered any more.
pub(super) async fn watch(
    work: impl Future<Output = ()>,
    recorder: &Recorder,
    load: &Load,
    format: Format,
) -> Result<Option<Instant>, Failure> {
    let shown = format == Format::Table && std::io::stderr().is_terminal();
    let bar = shown.then(|| bar(load));
    let draw = async {
        let Some(bar) = &bar else { return std::future::pending().await };
        loop {
            tokio::time::sleep(REDRAW).await;
            let done = recorder.done();
            let elapsed = now().saturating_duration_since(recorder.begin());
            #[allow(clippy::cast_precision_loss, reason = "for people")]
            let rate = done as f64 / elapsed.as_secs_f64().max(REDRAW.as_secs_f64());
            bar.set_message(format!("{done} messages, {rate:.0}/s"));
            let at = match load.count {
                Some(_) => done,
                None => u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
            };
            bar.set_position(at);
        }
    };
    let ended = tokio::select! {
        () = work => Ok(None),
        failure = recorder.watch() => Err(failure),
        _ = tokio::signal::ctrl_c() => Ok(Some(now())),
        () = draw => Ok(None),
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    ended
}

fn bar(load: &Load) -> ProgressBar {
    let length = load.count.or_else(|| u64::try_from(load.duration()?.as_millis()).ok());
    let bar = ProgressBar::new(length.unwrap_or_default());
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent}% {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Runs connections to their ends; one that is lost is noted, and the others go on.
pub(super) async fn all<F>(lanes: impl IntoIterator<Item = F>, recorder: &Recorder)
where
    F: Future<Output = Result<(), Failure>>,
{
    let mut lanes: FuturesUnordered<F> = lanes.into_iter().collect();
    while let Some(ended) = lanes.next().await {
        if let Err(failure) = ended {
            recorder.broken(&failure);
        }
    }
}
