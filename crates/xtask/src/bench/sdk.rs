//! What the SDK costs: a handler that does nothing, beside the same loop written by hand on the transport's client.

use serde_json::Value;

use super::cases::{Lab, middle, speed};
use super::figure::{Figure, Goal, rate};
use super::process::Posthouse;

/// Of messages that a gRPC consumer takes in a measurement, those that an AMQP consumer takes, so that both take about as long.
const AMQP_SHARE: u64 = 2;
/// Threads of the consumer.
const THREADS: u32 = 2;

pub(super) fn consume(lab: &Lab) -> anyhow::Result<Vec<Figure>> {
    let listeners = "--http off --management off --grpc 127.0.0.1:0 --amqp 127.0.0.1:0";
    let server = Posthouse::start(lab.posthouse.program(), &lab.directory.join("posthouse-sdk"), listeners)?;
    let address = |scheme: &str| {
        let place = server.place(scheme)?;
        anyhow::Ok(place.trim_start_matches(scheme).trim_end_matches(['/', ',']).to_owned())
    };
    let count = lab.plan.consume;
    let grpc = format!("--url posthouse://{} --count {count}", address("grpc://")?);
    let amqp = format!("--url amqp://guest:guest@{}/%2f --count {}", address("amqp://")?, count / AMQP_SHARE);
    let measure = |what: &str, client: &str, line: &str| {
        let by = |by: &str| lab.peer(&format!("sdk-consume --by {by} --threads {THREADS} {line}"));
        let turns: Vec<(Value, Value)> = lab.turns(|| Ok((by("sdk")?, by("hand")?)))?;
        let from = format!("{}; {client} {}", speed(&turns, |turn| &turn.0)?, speed(&turns, |turn| &turn.1)?);
        let ratio = middle(&turns, |(sdk, hand)| Ok(rate(sdk)? / rate(hand)?))?;
        anyhow::Ok(Figure::new(what, ratio, " ×", Goal::AtLeast(0.7), from))
    };
    Ok(vec![
        measure("a no-op handler of the SDK over gRPC, 1 KiB, beside a loop written by hand", "tonic", &grpc)?,
        measure("a no-op handler of the SDK over AMQP, 1 KiB, beside a loop written by hand", "lapin", &amqp)?,
    ])
}
