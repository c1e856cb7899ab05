//! The claim check: a large body goes through an object store, and the message carries the claim. docs/sdk/claim-check.md explains it.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::sync::Arc;

use embedded::Embedded;
use object_store::memory::InMemory;
use schemars::JsonSchema;
use sdk::claim_check::ClaimCheck;
use sdk::{Error, Event, Message, Service, State, Subscription};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

#[derive(Serialize, Deserialize, JsonSchema, Message)]
#[message(name = "scan.taken", topic = "scans")]
struct ScanTaken {
    pixels: String,
}

// Knows nothing of the store.
async fn read(State(done): State<mpsc::Sender<usize>>, Event(scan): Event<ScanTaken>) -> Result<(), Error> {
    Ok(done.send(scan.pixels.len()).await?)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Embedded::start().await?;
    let transport = broker.transport();
    let (done, mut told) = mpsc::channel(8);

    // In production S3 or a disk: any `ObjectStore`.
    let claims = ClaimCheck::new(Arc::new(InMemory::new())).threshold_bytes(64 * 1024);
    let subscription = Subscription::new(read).claim_check(&claims);
    let service = Service::new("reader").state(done).with(subscription).start(transport.clone()).await?;

    for pixels in [1000, 5_000_000] {
        let publishing = claims.publishing(&ScanTaken { pixels: "x".repeat(pixels) }).await?;
        let bytes = publishing.as_envelope().body.as_ref().map_or(0, |body| body.len());
        println!("a scan of {pixels} pixels is a message of {bytes} bytes");
        service.client().send(publishing).await?;
    }
    let mut read = [told.recv().await.unwrap_or_default(), told.recv().await.unwrap_or_default()];
    read.sort_unstable();
    service.stop().await;
    println!("done: read {read:?}");
    Ok(())
}
