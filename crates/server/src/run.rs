//! The process: runtime, signals, and the way from start to end.

use std::io;

use net::Drained;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::{Server, StartError, logging};

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// After a drain.
    Drained,
    /// At once, by a second signal. What was confirmed is stored; the next start has more to replay.
    AtOnce,
}

/// Runs a server until SIGTERM or SIGINT, and drains it then. A second signal ends it at once. `ready` is called when it serves.
///
/// # Errors
/// See [`StartError`].
pub fn run(config: &Config, ready: impl FnOnce(&Server)) -> Result<Ended, StartError> {
    logging::start(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("posthouse")
        .build()
        .map_err(system("the threads cannot be started"))?;
    let ended = runtime.block_on(serve(config, ready));
    // Nothing that is left may hold up the end: what had to be finished was waited for.
    runtime.shutdown_background();
    ended
}

async fn serve(config: &Config, ready: impl FnOnce(&Server)) -> Result<Ended, StartError> {
    // Before anything that takes long, so that a signal during a recovery is not lost.
    let mut signals = Signals::new().map_err(system("signals cannot be listened for"))?;
    let server = tokio::select! {
        started = Server::start(config) => started?,
        () = signals.next() => return Ok(Ended::AtOnce),
    };
    let amqp = server.amqp_urls().join(" ");
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        http = server.http_url().as_deref().unwrap_or("off"),
        grpc = server.grpc_url().as_deref().unwrap_or("off"),
        amqp = if amqp.is_empty() { "off" } else { &amqp },
        data = %config.data.display(),
        "ready"
    );
    ready(&server);
    signals.next().await;
    tracing::info!(limit = ?config.shutdown_limit, "stopping");
    let drained = tokio::select! {
        drained = server.stop() => drained,
        () = signals.next() => {
            tracing::warn!("stopped at once by a second signal");
            return Ok(Ended::AtOnce);
        }
    };
    match drained {
        Drained::Quietly => tracing::info!("stopped"),
        Drained::Closed(connections) => tracing::warn!(connections, "stopped; connections were closed at the limit"),
    }
    Ok(Ended::Drained)
}

fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |error| StartError::System { what, error }
}

/// SIGTERM and SIGINT, which mean the same.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
