//! The consumer's stream, and its calls.

use api::grpc as g;
use api::grpc::consumer_client::ConsumerClient;
use broker::definitions::{QueueConfig, RetryConfig};
use tonic::{Code, Streaming};

use crate::harness::{Server, body, next, refusal, soon};

fn open(queue: &str) -> g::ConsumeRequest {
    let open = g::ConsumeOpen { queue: queue.to_owned(), ..Default::default() };
    g::ConsumeRequest { open: Some(open), ..Default::default() }
}

fn credit(messages: u32) -> g::ConsumeRequest {
    g::ConsumeRequest { credit_messages: messages, ..Default::default() }
}

fn settle(action: g::SettleAction, deliveries: &[u64]) -> g::StreamSettlement {
    g::StreamSettlement { action: action.into(), deliveries: deliveries.to_vec(), ..Default::default() }
}

fn settlements(settlements: Vec<g::StreamSettlement>) -> g::ConsumeRequest {
    g::ConsumeRequest { settlements, ..Default::default() }
}

/// The next deliveries, with their numbers, as bodies and attempts.
async fn take(answers: &mut Streaming<g::ConsumeResponse>, count: usize) -> Vec<(u64, String, u32)> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let answer = next(answers).await;
        for (number, delivery) in (answer.first..).zip(answer.deliveries) {
            taken.push((number, body(delivery.message), delivery.attempt));
        }
    }
    assert_eq!(taken.len(), count, "{taken:?}");
    taken
}

/// Reads until so many settlements are done; gives the failures.
async fn settled(answers: &mut Streaming<g::ConsumeResponse>, count: u64) -> Vec<g::StreamSettleFailure> {
    let mut failures = Vec::new();
    loop {
        let answer = next(answers).await;
        failures.extend(answer.failures);
        if answer.settled >= count {
            return failures;
        }
    }
}

fn depth(server: &Server, queue: &str) -> broker::queue::QueueDepth {
    server.session().queue(queue).unwrap().depth
}

#[tokio::test]
async fn deliveries_keep_to_the_credit_and_are_settled_by_number() {
    let server = Server::start().await;
    let retry = RetryConfig { initial_ms: Some(1), jitter: Some(false), ..Default::default() };
    server.queue_with("q", QueueConfig { retry: Some(retry), ..Default::default() }).await;
    server.fill("q", &["a", "b", "c", "d", "e"]).await;
    let (send, mut answers) = server.consuming().await;
    send.send(open("q")).await.unwrap();
    assert!(next(&mut answers).await.opened.is_some());
    send.send(credit(3)).await.unwrap();
    let taken = take(&mut answers, 3).await;
    assert_eq!(taken, [(1, "a".to_owned(), 1), (2, "b".to_owned(), 1), (3, "c".to_owned(), 1)]);
    assert_eq!((depth(&server, "q").ready, depth(&server, "q").in_flight), (2, 3));

    let mut nack = settle(g::SettleAction::Nack, &[2]);
    nack.after_ms = Some(0);
    nack.error = "later".to_owned();
    let mut extend = settle(g::SettleAction::Extend, &[3]);
    extend.extend_ms = Some(60_000);
    send.send(settlements(vec![settle(g::SettleAction::Ack, &[1]), nack, extend])).await.unwrap();
    assert_eq!(settled(&mut answers, 3).await, []);
    assert_eq!(depth(&server, "q").in_flight, 1);

    send.send(credit(3)).await.unwrap();
    let taken = take(&mut answers, 3).await;
    assert_eq!(taken.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [4, 5, 6]);
    assert!(taken.contains(&(4, "b".to_owned(), 2)), "{taken:?}");

    let range = g::StreamSettlement {
        action: g::SettleAction::Ack.into(),
        ranges: vec![g::DeliveryRange { first: 1, last: 6 }],
        ..Default::default()
    };
    send.send(settlements(vec![range])).await.unwrap();
    assert_eq!(settled(&mut answers, 4).await, []);
    assert_eq!(depth(&server, "q"), broker::queue::QueueDepth::default());
}

#[tokio::test]
async fn a_settlement_that_fails_is_told_and_the_stream_goes_on() {
    let server = Server::start().await;
    server.queue("q").await;
    server.fill("q", &["a", "b"]).await;
    let (send, mut answers) = server.consuming().await;
    let mut first = open("q");
    first.credit_messages = 10;
    first.open.as_mut().unwrap().lease_ms = Some(20);
    send.send(first).await.unwrap();
    take(&mut answers, 2).await;
    // The leases run out, and both come again.
    take(&mut answers, 2).await;
    let mut stray = settle(g::SettleAction::Ack, &[4]);
    stray.extend_ms = Some(1);
    let unknown = g::StreamSettlement { action: 99, deliveries: vec![4], ..Default::default() };
    let of = |action, deliveries: &[u64]| settle(action, deliveries);
    send.send(settlements(vec![of(g::SettleAction::Ack, &[1, 77]), stray, unknown, of(g::SettleAction::Reject, &[4])]))
        .await
        .unwrap();
    let failures = settled(&mut answers, 4).await;
    let mut told: Vec<_> = failures
        .iter()
        .map(|failure| {
            let problem = failure.problem.as_ref().unwrap();
            (failure.settlement, failure.delivery, problem.r#type.as_str(), problem.field.as_str())
        })
        .filter(|(settlement, ..)| *settlement < 3)
        .collect();
    told.sort_unstable();
    assert_eq!(
        told,
        [
            (0, 1, "lease-expired", ""),
            (0, 77, "unknown-delivery", ""),
            (1, 0, "invalid-value", "extend_ms"),
            (2, 0, "invalid-value", "action"),
        ]
    );
}

#[tokio::test]
async fn a_stream_that_ends_gives_its_deliveries_back() {
    let server = Server::start().await;
    server.queue("q").await;
    server.fill("q", &["a", "b"]).await;
    for how in ["closed", "dropped", "lost"] {
        let server_of = server.another().await;
        let (send, mut answers) = server_of.consuming().await;
        let mut first = open("q");
        first.credit_messages = 2;
        send.send(first).await.unwrap();
        take(&mut answers, 2).await;
        assert_eq!(depth(&server, "q").in_flight, 2);
        match how {
            "closed" => drop(send),
            "dropped" => drop((answers, send)),
            _ => drop((server_of, send, answers)),
        }
        soon(async {
            while depth(&server, "q").ready < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn bytes_count_once_they_are_given() {
    let server = Server::start().await;
    server.queue("q").await;
    let large = "x".repeat(100);
    server.fill("q", &[&large, &large, &large]).await;
    let (send, mut answers) = server.consuming().await;
    let mut first = open("q");
    (first.credit_messages, first.credit_bytes) = (10, 50);
    send.send(first).await.unwrap();
    take(&mut answers, 1).await;
    assert_eq!(depth(&server, "q").ready, 2);
    send.send(g::ConsumeRequest { credit_bytes: 50, ..Default::default() }).await.unwrap();
    take(&mut answers, 1).await;
    assert_eq!(depth(&server, "q").ready, 1);
}

#[tokio::test]
async fn what_cannot_be_opened_is_a_status() {
    let server = Server::start().await;
    server.queue("q").await;
    let status = |frame: g::ConsumeRequest| async {
        let (send, mut answers) = server.consuming().await;
        send.send(frame).await.unwrap();
        loop {
            match soon(answers.message()).await {
                Ok(answer) => drop(answer.expect("an error comes first")),
                Err(status) => return refusal(&status),
            }
        }
    };
    assert_eq!(status(credit(1)).await.2, "open");
    assert_eq!(status(open("none")).await.0, Code::NotFound);
    let mut bad = open("q");
    bad.open.as_mut().unwrap().lease_ms = Some(0);
    assert_eq!(status(bad).await.2, "open.lease_ms");
    let mut greedy = open("q");
    greedy.credit_messages = u32::MAX;
    assert_eq!(status(greedy).await.2, "credit_messages");
}

#[tokio::test]
async fn a_deleted_queue_ends_the_stream() {
    let server = Server::start().await;
    server.queue("q").await;
    let (send, mut answers) = server.consuming().await;
    send.send(open("q")).await.unwrap();
    next(&mut answers).await;
    server.session().delete_queue("q", false, false).await.unwrap();
    assert_eq!(refusal(&soon(answers.message()).await.unwrap_err()).1, "queue-deleted");
    drop(send);
}

#[tokio::test]
async fn messages_come_out_as_they_went_in() {
    use types::{Timestamp, Value};
    let server = Server::start().await;
    server.queue("q").await;
    let map = Value::Map(vec![("x".into(), Value::Null), ("x".into(), Value::List(vec![Value::Bool(true)]))]);
    let values = vec![
        Value::Null,
        Value::Bool(false),
        Value::int(-5),
        Value::Int { value: -3, width_bytes: 2 },
        Value::Uint { value: u64::MAX, width_bytes: 8 },
        Value::Uint { value: 200, width_bytes: 1 },
        Value::Float(0.5),
        Value::Double(-0.25),
        Value::Decimal { scale: 2, unscaled: -12345 },
        Value::from("text"),
        Value::Bytes(vec![0xff, 0].into()),
        Value::Timestamp(Timestamp(-7)),
        map,
    ];
    let sent = types::Message {
        subject: vec![0xff, 0xfe].into(),
        key: Some(bytes::Bytes::new()),
        headers: values.into_iter().map(|value| ("h".into(), value)).collect(),
        body: None,
        content_type: Some("text/plain".into()),
        timestamp: Some(Timestamp(-1)),
        correlation_id: Some("c".into()),
        reply_to: Some("r".into()),
        priority: Some(255),
        dedup_id: Some("d".into()),
        durable: false,
        id: Some(types::MessageId::Text("mine".into())),
        ..types::Message::new("", "")
    };
    let sent = types::Message { body: None, ..sent };
    let (send, mut answers) = server.publishing().await;
    let open = Some(g::PublishOpen { to: crate::harness::to_queue("q"), ..Default::default() });
    send.send(g::PublishFrame { open, messages: vec![sent.clone().into()], ..Default::default() }).await.unwrap();
    while next(&mut answers).await.confirmed < 1 {}
    let mut client = ConsumerClient::new(server.channel.clone());
    let request = g::ReceiveRequest { queue: "q".to_owned(), wait_ms: 5000, auto_ack: true, ..Default::default() };
    let mut taken = client.receive(request).await.unwrap().into_inner().deliveries;
    assert_eq!(crate::harness::read(taken.remove(0).message), sent);
}

#[tokio::test]
async fn deliveries_can_be_settled_from_elsewhere() {
    let server = Server::start().await;
    server.queue("q").await;
    server.fill("q", &["a", "b"]).await;
    let mut client = ConsumerClient::new(server.channel.clone());
    let request = g::ReceiveRequest { queue: "q".to_owned(), max: Some(2), ..Default::default() };
    let taken = client.receive(request).await.unwrap().into_inner().deliveries;
    let receipts: Vec<String> = taken.into_iter().map(|delivery| delivery.receipt).collect();
    let mut given = receipts.clone();
    given.push("nonsense".to_owned());
    let settlement = g::Settlement { receipts: given, action: g::SettleAction::Ack.into(), ..Default::default() };
    let request = g::SettleRequest { settlements: vec![settlement], ..Default::default() };
    let failures = client.settle(request).await.unwrap().into_inner().failures;
    assert_eq!((failures.len(), failures[0].receipt.as_str()), (1, "nonsense"));
    assert_eq!(depth(&server, "q"), broker::queue::QueueDepth::default());
}

#[tokio::test]
async fn ranges_are_of_what_the_stream_delivered() {
    let server = Server::start().await;
    server.queue("q").await;
    server.fill("q", &["a", "b", "c"]).await;
    let (send, mut answers) = server.consuming().await;
    send.send(open("q")).await.unwrap();
    send.send(credit(3)).await.unwrap();
    take(&mut answers, 3).await;
    let ack = |first: u64, last: u64| g::StreamSettlement {
        action: g::SettleAction::Ack.into(),
        ranges: vec![g::DeliveryRange { first, last }],
        ..Default::default()
    };
    let wrong = [(0, 1), (2, 1), (1, 4), (4, 4), (1, u64::MAX), (u64::MAX, u64::MAX)];
    send.send(settlements(wrong.iter().map(|(first, last)| ack(*first, *last)).collect())).await.unwrap();
    let failures = settled(&mut answers, wrong.len() as u64).await;
    assert_eq!(failures.len(), wrong.len(), "{failures:?}");
    assert!(failures.iter().all(|failure| failure.problem.as_ref().unwrap().field == "ranges"), "{failures:?}");
    assert_eq!(depth(&server, "q").in_flight, 3, "nothing of a wrong range is settled");
    // What is settled already may lie within a range.
    send.send(settlements(vec![ack(2, 2), ack(1, 3), ack(1, 3)])).await.unwrap();
    assert_eq!(settled(&mut answers, wrong.len() as u64 + 3).await, []);
    assert_eq!((depth(&server, "q").in_flight, depth(&server, "q").ready), (0, 0));
    // More than a frame may name.
    let many = g::StreamSettlement {
        action: g::SettleAction::Ack.into(),
        ranges: vec![g::DeliveryRange { first: 1, last: 1 }; protocol_grpc::limits::MAX_SETTLEMENTS],
        ..Default::default()
    };
    send.send(settlements(vec![many])).await.unwrap();
    let status = loop {
        match soon(answers.message()).await {
            Ok(answer) => assert!(answer.is_some(), "the stream ends with a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal(&status).1, "too-large");
}

#[tokio::test]
async fn a_consumer_that_does_not_read_is_reset_and_its_deliveries_come_back() {
    const COUNT: usize = 64;
    let server = Server::start().await;
    server.queue("q").await;
    let large = "x".repeat(64 * 1024);
    server.fill("q", &[large.as_str(); COUNT]).await;
    let (send, mut answers) = server.consuming().await;
    send.send(open("q")).await.unwrap();
    send.send(credit(1000)).await.unwrap();
    while depth(&server, "q").in_flight == 0 {
        tokio::task::yield_now().await;
    }
    // From here on nothing is read, and the clock is moved by hand.
    tokio::time::pause();
    let mut steps = 0;
    while depth(&server, "q").ready < COUNT as u64 {
        steps += 1;
        assert!(steps < 600, "after five minutes the deliveries are still out");
        tokio::time::advance(std::time::Duration::from_millis(500)).await;
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    assert!(steps > 60, "a client has 30 s: {steps}");
    tokio::time::resume();
    // What was on its way may be read; then the call is over, while the connection lives.
    while let Ok(answer) = soon(answers.message()).await {
        assert!(answer.is_some(), "the stream is reset, it does not end");
    }
    server.fill("q", &["y"]).await;
    let (send, mut answers) = server.consuming().await;
    send.send(open("q")).await.unwrap();
    assert!(next(&mut answers).await.opened.is_some());
    drop(send);
}
