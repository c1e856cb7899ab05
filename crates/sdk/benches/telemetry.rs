//! What watching a message costs: with nobody looking, and with spans that are made and thrown away.
#![allow(missing_docs, reason = "criterion's macros make functions without words")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use sdk::telemetry::{Providers, Source, Telemetry};
use sdk::transport::{Destination, PublishError};
use sdk::{Envelope, headers};

const WELL: Result<(), PublishError> = Ok(());

fn messages(criterion: &mut Criterion) {
    let to = Destination::Topic("orders".to_owned());
    let from = Source::Queue { queue: "payment", group: Some("payment") };
    let plain = Envelope::new("order.created", r#"{"total": 12}"#);
    let mut traced = plain.clone();
    headers::set(&mut traced, headers::TRACEPARENT, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    for (name, telemetry) in telemetries() {
        for (kind, envelope) in [("without context", &plain), ("with context", &traced)] {
            criterion.bench_function(&format!("send, {name}, {kind}"), |bencher| {
                let mut envelope = envelope.clone();
                bencher.iter(|| telemetry.producing(black_box(&mut envelope), &to).finish(&WELL));
            });
            criterion.bench_function(&format!("process, {name}, {kind}"), |bencher| {
                bencher.iter(|| telemetry.processing(black_box(envelope), &from).finish(&WELL));
            });
        }
    }
}

fn telemetries() -> Vec<(&'static str, Telemetry)> {
    #[allow(unused_mut, reason = "with the feature `otlp` there is another")]
    let mut telemetries = vec![("off", Telemetry::new(&Providers::global(), "posthouse", None))];
    #[cfg(feature = "otlp")]
    {
        use opentelemetry_sdk::{metrics::SdkMeterProvider, trace::SdkTracerProvider};
        let providers = Providers::new(&SdkTracerProvider::builder().build(), &SdkMeterProvider::builder().build());
        telemetries.push(("on", Telemetry::new(&providers, "posthouse", Some(("localhost", 7443)))));
    }
    telemetries
}

criterion_group!(benches, messages);
criterion_main!(benches);
