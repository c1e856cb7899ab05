//! The suite that every transport passes in what it declares.

use std::sync::Arc;

use sdk::conformance::{Options, run};

use super::ground::{Wire, connect, on_both};

on_both!(the_conformance_suite_passes);

async fn the_conformance_suite_passes(url: &str) {
    let wire = Arc::new(Wire::to(url).await);
    let transport = Arc::new(connect(wire.url()).await);
    // To a client, a broker that starts again is a lost connection.
    let options = Options::default().restart(move || {
        let wire = Arc::clone(&wire);
        Box::pin(async move {
            wire.cut();
            wire.all_ended().await;
            wire.mend();
        })
    });
    let report = run(transport, options).await;
    #[allow(clippy::print_stdout, reason = "the table is what whoever runs this wants to see")]
    {
        println!("{report}");
    }
    report.assert_passed();
}
