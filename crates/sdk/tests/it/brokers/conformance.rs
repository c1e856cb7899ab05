//! The suite that every transport passes in what it declares.

use std::sync::Arc;
use std::time::Duration;

use sdk::conformance::{Options, run};

use super::ground::{Wire, connect, on_both, restart_command};

on_both!(the_conformance_suite_passes);

async fn the_conformance_suite_passes(url: &str) {
    let wire = Arc::new(Wire::to(url).await);
    let transport = Arc::new(connect(wire.url()).await);
    let command = restart_command(url);
    // RabbitMQ takes a quarter of a minute to start.
    let patience = Duration::from_secs(if command.is_some() { 45 } else { 10 });
    let options = Options::default().patience(patience).case_timeout(patience * 5).restart(move || {
        let (wire, command) = (Arc::clone(&wire), command.clone());
        Box::pin(async move {
            let Some(command) = command else {
                // To a client, a broker that starts again is a lost connection.
                wire.cut();
                wire.all_ended().await;
                wire.mend();
                return;
            };
            let ended = tokio::process::Command::new("sh").arg("-c").arg(&command).status().await;
            assert!(ended.is_ok_and(|status| status.success()), "{command}");
        })
    });
    let report = run(transport, options).await;
    #[allow(clippy::print_stdout, reason = "the table is what whoever runs this wants to see")]
    {
        println!("{report}");
    }
    report.assert_passed();
}
