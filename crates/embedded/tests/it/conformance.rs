//! Every transport that leads to Posthouse keeps what it declares. RabbitMQ is asked in the tests of `sdk`.

use std::sync::Arc;
use std::time::Duration;

use embedded::Embedded;
use futures_util::FutureExt;
use sdk::conformance::{Options, Outcome, Report, run};
use sdk::testkit::{Faulty, Plan};
use sdk::transport::amqp::{Amqp, AmqpOptions};
use sdk::transport::posthouse::{Posthouse, PosthouseOptions};

/// Restarts this broker, and moves its clock if it is one that is moved by hand.
fn options(broker: &Arc<Embedded>, is_manual: bool) -> Options {
    let restarted = Arc::clone(broker);
    let options = Options::default().quiet(Duration::from_millis(50)).restart(move || {
        let broker = Arc::clone(&restarted);
        async move { broker.start_again().await.unwrap() }.boxed()
    });
    if !is_manual {
        return options;
    }
    let advanced = Arc::clone(broker);
    options.advance(move |by| {
        let broker = Arc::clone(&advanced);
        async move { broker.advance(by).await }.boxed()
    })
}

/// Nothing was left out but what is supplied above the transport or refused.
#[track_caller]
fn assert_complete(report: &Report, capabilities: &sdk::transport::Capabilities) {
    report.assert_passed();
    let declares_all = capabilities.rows().iter().all(|(_, support)| support.is_there());
    let left_out = report.cases.iter().filter(|case| case.outcome == Outcome::NotDeclared);
    let refusals = left_out.filter(|case| !case.name.starts_with("without ")).collect::<Vec<_>>();
    assert!(!declares_all || refusals.is_empty(), "{refusals:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_broker_in_memory_by_a_manual_clock() {
    let broker = Arc::new(Embedded::builder().manual_clock().start().await.unwrap());
    let transport = broker.transport();
    let report = run(transport.clone(), options(&broker, true)).await;
    assert_complete(&report, transport.capabilities());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn posthouse_over_a_socket_on_a_disk() {
    let data = tempfile::tempdir().unwrap();
    let broker = Arc::new(Embedded::builder().data(data.path()).listen_grpc().start().await.unwrap());
    let url = broker.grpc_url().unwrap();
    let transport = Arc::new(Posthouse::connect(&url, PosthouseOptions::default()).await.unwrap());
    let capabilities = sdk::transport::Transport::capabilities(&*transport).clone();
    assert_complete(&run(transport, options(&broker, false)).await, &capabilities);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn amqp_to_posthouse() {
    let data = tempfile::tempdir().unwrap();
    let broker = Arc::new(Embedded::builder().data(data.path()).listen_amqp().start().await.unwrap());
    let url = broker.amqp_url().unwrap();
    let transport = Arc::new(Amqp::connect(&url, AmqpOptions::default()).await.unwrap());
    run(transport, options(&broker, false)).await.assert_passed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transport_with_a_plan_of_no_faults() {
    let broker = Arc::new(Embedded::builder().manual_clock().start().await.unwrap());
    let faulty = Faulty::new(broker.transport(), Plan::none());
    run(faulty, options(&broker, true)).await.assert_passed();
}
