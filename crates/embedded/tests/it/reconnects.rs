//! A broker that goes away and comes back, over a real socket and within the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use embedded::Embedded;
use sdk::transport::posthouse::{Backoff, Posthouse, PosthouseOptions};
use sdk::transport::{Connection, PublishError, QueueSpec, Settle, StartAt, Transport, TransportError};

use crate::kit::{consume, log, next, publish, queue, soon, text, texts, to_queue, to_topic};

fn quick() -> PosthouseOptions {
    let backoff = Backoff { initial: Duration::from_millis(5), cap: Duration::from_millis(50) };
    PosthouseOptions { backoff, ..PosthouseOptions::default() }
}

async fn over_a_socket() -> (Embedded, Posthouse) {
    let broker = Embedded::builder().listen_grpc().start().await.unwrap();
    let transport = Posthouse::connect(&broker.grpc_url().unwrap(), quick()).await.unwrap();
    (broker, transport)
}

/// Publishes without a pause until told to stop; gives the numbers that were confirmed.
async fn publish_until(transport: Posthouse, stop: Arc<AtomicBool>) -> Vec<u32> {
    let (mut confirmed, mut number) = (Vec::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        let numbers: Vec<_> = (number..number + 5).collect();
        number += 5;
        let ends = transport.publish(numbers.iter().map(|n| to_queue("q", &n.to_string())).collect()).await;
        for (number, end) in numbers.into_iter().zip(ends) {
            end.expect("a broker that comes back loses nothing");
            confirmed.push(number);
        }
    }
    confirmed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_confirmed_is_lost_and_consumers_go_on_when_the_broker_restarts() {
    let (broker, transport) = over_a_socket().await;
    queue(&transport, QueueSpec::new("q")).await;
    let stop = Arc::new(AtomicBool::new(false));
    let publishing = tokio::spawn(publish_until(transport.clone(), Arc::clone(&stop)));
    let mut consumer = consume(&transport, "q").await;
    let settler = consumer.settler();
    let (seen, mut counts) = tokio::sync::mpsc::channel(100_000);
    let consuming = tokio::spawn(async move {
        while let Ok(Some(deliveries)) = consumer.next().await {
            for delivery in &deliveries {
                seen.send(text(&delivery.message)).await.ok();
            }
            settler.settle(deliveries.iter().map(|delivery| (delivery.tag, Settle::Ack)).collect());
        }
    });
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..3 {
        let enough = found.len() + 50;
        while found.len() < enough {
            *found.entry(soon(counts.recv()).await.unwrap()).or_default() += 1;
        }
        broker.stop().await;
        assert_eq!(*transport.connection().wait_for(|now| *now == Connection::Down).await.unwrap(), Connection::Down);
        broker.start_again().await.unwrap();
    }
    soon(transport.connection().wait_for(|now| *now == Connection::Up)).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let confirmed = soon(publishing).await.unwrap();
    assert!(confirmed.len() >= 150);
    let missing =
        |found: &BTreeMap<String, usize>| confirmed.iter().filter(|n| !found.contains_key(&n.to_string())).count();
    while missing(&found) > 0 {
        *found.entry(soon(counts.recv()).await.unwrap()).or_default() += 1;
    }
    soon(transport.close()).await;
    soon(consuming).await.unwrap();
    let broker = broker.transport();
    assert_eq!(soon(broker.queue_len("q")).await.unwrap(), 0, "all of it was acknowledged");
}

#[tokio::test]
async fn a_settlement_for_a_lost_connection_is_passed_over_and_its_message_comes_again() {
    let (broker, transport) = over_a_socket().await;
    queue(&transport, QueueSpec::new("q")).await;
    publish(&transport, vec![to_queue("q", "a"), to_queue("q", "b")]).await;
    let mut consumer = consume(&transport, "q").await;
    let before = next(&mut *consumer, 2).await;
    broker.start_again().await.unwrap();
    let after = next(&mut *consumer, 2).await;
    assert_eq!(texts(&after), ["a", "b"]);
    assert!(after.iter().all(|delivery| delivery.redelivered && before.iter().all(|old| old.tag != delivery.tag)));
    let settler = consumer.settler();
    settler.settle(before.iter().map(|old| (old.tag, Settle::Ack)).collect());
    assert_eq!(soon(settler.ack_and_publish(before[0].tag, Vec::new())).await, Err(PublishError::LeaseLost));
    soon(settler.flush()).await;
    assert_eq!(transport.queue_len("q").await.unwrap(), 2, "old tags settle nothing");
    settler.settle(after.iter().map(|new| (new.tag, Settle::Ack)).collect());
    soon(settler.flush()).await;
    assert_eq!(transport.queue_len("q").await.unwrap(), 0);
}

#[tokio::test]
async fn a_publish_waits_for_the_broker_and_says_so_when_it_waited_long_enough() {
    let broker = Embedded::builder().start().await.unwrap();
    let waits = Duration::from_millis(300);
    let patient = broker.posthouse(quick());
    let hasty = broker.posthouse(PosthouseOptions { confirm_timeout: waits, max_pending_messages: 2, ..quick() });
    queue(&hasty, QueueSpec::new("q")).await;
    publish(&patient, vec![to_queue("q", "first")]).await;
    broker.stop().await;
    let waiting = {
        let patient = patient.clone();
        tokio::spawn(async move { patient.publish(vec![to_queue("q", "a"), to_queue("q", "b")]).await })
    };
    let (full, lost) = {
        let late = hasty.clone();
        let late = tokio::spawn(async move { late.publish(vec![to_queue("q", "x"), to_queue("q", "y")]).await });
        tokio::task::yield_now().await;
        (hasty.publish(vec![to_queue("q", "z")]).await, soon(late).await.unwrap())
    };
    assert_eq!(full[0], Err(PublishError::TooManyPending { waiting: 2, limit: "max_pending_messages" }));
    assert!(
        lost.iter().all(|end| matches!(end, Err(PublishError::Unconfirmed { waited }) if *waited >= waits)),
        "{lost:?}"
    );
    broker.start_again().await.unwrap();
    assert!(soon(waiting).await.unwrap().iter().all(Result::is_ok));
    publish(&hasty, vec![to_queue("q", "last")]).await;
    let mut consumer = consume(&patient, "q").await;
    assert_eq!(
        texts(&next(&mut *consumer, 4).await),
        ["first", "a", "b", "last"],
        "what was given up is not sent later"
    );
}

#[tokio::test]
async fn a_reader_goes_on_where_it_was() {
    let (broker, transport) = over_a_socket().await;
    log(&transport, "t", 2).await;
    let append = |range: std::ops::Range<u32>| {
        let messages = range.map(|n| to_topic("t", crate::kit::keyed(&n.to_string(), &n.to_string()))).collect();
        publish(&transport, messages)
    };
    append(0..20).await;
    let mut reader = transport.read("t", StartAt::Earliest, true).await.unwrap();
    let mut found = Vec::new();
    while found.len() < 20 {
        found.extend(soon(reader.next()).await.unwrap().unwrap());
    }
    broker.start_again().await.unwrap();
    append(20..40).await;
    while found.len() < 40 {
        found.extend(soon(reader.next()).await.unwrap().unwrap());
    }
    let mut numbers: Vec<u32> = found.iter().map(|record| text(&record.message).parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_connection_that_cannot_be_had_is_an_error_that_says_why() {
    let broker = Embedded::builder().listen_grpc().start().await.unwrap();
    let url = broker.grpc_url().unwrap();
    broker.stop().await;
    let options = PosthouseOptions { connect_timeout: Duration::from_millis(200), ..quick() };
    let error = soon(Posthouse::connect(&url, options.clone())).await.unwrap_err();
    assert!(matches!(&error, TransportError::Unavailable { address, .. } if url.ends_with(address)), "{error}");
    broker.start_again().await.unwrap();
    let error = soon(Posthouse::connect(&format!("{url}/nowhere"), quick())).await.unwrap_err();
    assert!(matches!(&error, TransportError::NotFound(what) if what.contains("nowhere")), "{error}");
    let stranger = url.replace("://", "://ann:wrong@");
    let error = soon(Posthouse::connect(&stranger, quick())).await.unwrap_err();
    assert!(matches!(&error, TransportError::Denied(_)), "{error}");
    let transport = soon(Posthouse::connect(&url, options)).await.unwrap();
    let missing = sdk::transport::Consume { queue: "nowhere".to_owned(), name: String::new(), credit: 1, lease: None };
    assert!(matches!(transport.consume(missing).await, Err(TransportError::NotFound(_))));
}
