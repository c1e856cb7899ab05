//! The publish stream, and its calls.

use api::grpc as g;
use api::grpc::publisher_client::PublisherClient;
use broker::definitions::{OverflowConfig, QueueConfig, RetentionConfig, TopicConfig};
use tonic::Code;

use crate::harness::{Server, body, by_subject, next, refusal, soon, text, to_queue, to_topic};

fn open(to: Option<g::Target>) -> Option<g::PublishOpen> {
    Some(g::PublishOpen { to, ..Default::default() })
}

/// Reads answers until so many messages are confirmed; gives all failures and results.
async fn until(
    answers: &mut tonic::Streaming<g::PublishConfirm>,
    count: u64,
) -> (Vec<g::PublishFailure>, Vec<g::Published>) {
    let (mut failures, mut published, mut last) = (Vec::new(), Vec::new(), 0);
    while last < count {
        let answer = next(answers).await;
        assert!(answer.confirmed >= last, "confirms go forward");
        last = answer.confirmed;
        failures.extend(answer.failures);
        published.extend(answer.published);
    }
    assert_eq!(last, count);
    (failures, published)
}

async fn bodies(server: &Server, queue: &str) -> Vec<String> {
    let (found, _) = server.session().browse(queue, types::Offset(0), 1000).unwrap();
    found.into_iter().map(|one| String::from_utf8(one.message.body.clone().unwrap().to_vec()).unwrap()).collect()
}

#[tokio::test]
async fn messages_are_confirmed_in_order() {
    let server = Server::start().await;
    server.queue("q").await;
    let (send, mut answers) = server.publishing().await;
    let messages = vec![text("0"), text("1")];
    send.send(g::PublishFrame { open: open(to_queue("q")), messages, ..Default::default() }).await.unwrap();
    let first = next(&mut answers).await;
    assert!(first.opened.unwrap().max_frame_bytes > 1024 * 1024);
    for number in 2..1000 {
        let messages = vec![text(&number.to_string())];
        send.send(g::PublishFrame { messages, ..Default::default() }).await.unwrap();
    }
    let (failures, _) = until(&mut answers, 1000).await;
    assert_eq!(failures, []);
    drop(send);
    assert_eq!(soon(answers.message()).await.unwrap(), None);
    assert_eq!(bodies(&server, "q").await, (0..1000).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_that_is_refused_does_not_end_the_stream() {
    let server = Server::start().await;
    server.queue("q").await;
    let (send, mut answers) = server.publishing().await;
    let too_long = || types::Message { subject: vec![b'a'; 5000].into(), ..types::Message::new("", "x") }.into();
    let mut twice: types::Message = types::Message::new("", "x");
    twice.not_before = Some(types::Timestamp(1));
    let mut twice = g::Message::from(twice);
    twice.delay_ms = Some(1);
    let messages = vec![text("0"), too_long(), text("2"), twice, text("4")];
    send.send(g::PublishFrame { open: open(to_queue("q")), messages, ..Default::default() }).await.unwrap();
    send.send(g::PublishFrame { to: to_queue("none"), messages: vec![text("5"), text("6")], ..Default::default() })
        .await
        .unwrap();
    // Unknown enum values are refused, not taken for the default.
    let options = Some(g::PublishOptions { durability: 77, ..Default::default() });
    send.send(g::PublishFrame { options, messages: vec![text("7")], ..Default::default() }).await.unwrap();
    send.send(g::PublishFrame { messages: vec![text("8")], ..Default::default() }).await.unwrap();
    let (failures, _) = until(&mut answers, 9).await;
    let told: Vec<_> = failures
        .iter()
        .map(|failure| {
            let problem = failure.problem.as_ref().unwrap();
            (failure.first, failure.count, problem.r#type.as_str(), problem.field.as_str(), problem.limit.as_str())
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, 1, "too-large", "", "MAX_SUBJECT_BYTES"),
            (3, 1, "invalid-value", "not_before_ms", ""),
            (5, 2, "not-found", "", ""),
            (7, 1, "invalid-value", "options.durability", ""),
        ]
    );
    assert_eq!(bodies(&server, "q").await, ["0", "2", "4", "8"]);
}

#[tokio::test]
async fn a_full_queue_takes_what_fits() {
    let server = Server::start().await;
    let config = QueueConfig { max_messages: Some(5), overflow: Some(OverflowConfig::Reject), ..Default::default() };
    server.queue_with("q", config).await;
    let (send, mut answers) = server.publishing().await;
    let messages = (0..8).map(|number| text(&number.to_string())).collect();
    send.send(g::PublishFrame { open: open(to_queue("q")), messages, ..Default::default() }).await.unwrap();
    let (failures, _) = until(&mut answers, 8).await;
    assert_eq!(failures.iter().map(|failure| failure.count).sum::<u64>(), 3, "{failures:?}");
    assert!(failures.iter().all(|failure| failure.problem.as_ref().unwrap().r#type == "queue-full"));
    assert_eq!(bodies(&server, "q").await, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn frames_to_many_queues_keep_each_queues_order_and_fail_each_for_itself() {
    let server = Server::start().await;
    for name in ["a", "b", "c"] {
        server.queue(name).await;
    }
    let config = QueueConfig { max_messages: Some(5), overflow: Some(OverflowConfig::Reject), ..Default::default() };
    server.queue_with("small", config).await;
    let (send, mut answers) = server.publishing().await;
    send.send(g::PublishFrame { open: open(None), ..Default::default() }).await.unwrap();
    let names = ["a", "b", "small", "c", "none"];
    for number in 0..5000 {
        let (to, messages) = (to_queue(names[number % 5]), vec![text(&number.to_string())]);
        send.send(g::PublishFrame { to, messages, ..Default::default() }).await.unwrap();
    }
    let (failures, _) = until(&mut answers, 5000).await;
    let failed = |word: &str| -> Vec<u64> {
        let of = |failure: &&g::PublishFailure| failure.problem.as_ref().unwrap().r#type == word;
        failures
            .iter()
            .filter(of)
            .inspect(|failure| assert_eq!(failure.count, 1))
            .map(|failure| failure.first)
            .collect()
    };
    assert_eq!(failed("not-found"), (0..1000).map(|turn| turn * 5 + 4).collect::<Vec<_>>());
    assert_eq!(failed("queue-full"), (5..1000).map(|turn| turn * 5 + 2).collect::<Vec<_>>());
    for (at, name) in names.iter().enumerate().take(4) {
        let count = if *name == "small" { 5 } else { 1000 };
        let expected: Vec<_> = (0..count).map(|turn| (turn * 5 + at).to_string()).collect();
        assert_eq!(bodies(&server, name).await, expected, "{name}");
    }
}

#[tokio::test]
async fn an_atomic_frame_is_stored_whole_or_not_at_all() {
    let server = Server::start().await;
    let config = QueueConfig { max_messages: Some(5), overflow: Some(OverflowConfig::Reject), ..Default::default() };
    server.queue_with("q", config).await;
    let (send, mut answers) = server.publishing().await;
    let messages = (0..8).map(|number| text(&number.to_string())).collect();
    let frame = g::PublishFrame { open: open(to_queue("q")), messages, atomic: true, ..Default::default() };
    send.send(frame).await.unwrap();
    let (failures, _) = until(&mut answers, 8).await;
    assert_eq!((failures.len(), failures[0].first, failures[0].count), (1, 0, 8));
    assert!(bodies(&server, "q").await.is_empty());
}

#[tokio::test]
async fn details_say_where_each_message_is() {
    let server = Server::start().await;
    let config = TopicConfig { retention: Some(RetentionConfig::default()), key_index: true, ..Default::default() };
    server.session().declare_topic("t", config, true).await.unwrap();
    let (send, mut answers) = server.publishing().await;
    let open = Some(g::PublishOpen { to: to_topic("t"), details: true, ..Default::default() });
    let keyed = |body: &str| {
        g::Message::from(types::Message { key: Some("k".into()), ..types::Message::new("t.a", body.to_owned()) })
    };
    send.send(g::PublishFrame { open, messages: vec![keyed("0"), keyed("1")], ..Default::default() }).await.unwrap();
    let expect = |version| {
        let expect = g::Expect { of: g::expect::Of::Key.into(), version };
        Some(g::PublishOptions { expect: Some(expect), ..Default::default() })
    };
    for version in [Some(0), Some(1)] {
        let frame = g::PublishFrame { options: expect(version), messages: vec![keyed("2")], ..Default::default() };
        send.send(frame).await.unwrap();
    }
    let stamp = |sequence| {
        let producer = g::Producer { id: "p".to_owned(), epoch: 1, sequence };
        Some(g::PublishOptions { producer: Some(producer), ..Default::default() })
    };
    for sequence in [0, 0] {
        let frame = g::PublishFrame { options: stamp(sequence), messages: vec![keyed("3")], ..Default::default() };
        send.send(frame).await.unwrap();
    }
    let (failures, published) = until(&mut answers, 6).await;
    assert_eq!(failures.len(), 1);
    let problem = failures[0].problem.clone().unwrap();
    assert_eq!((failures[0].first, problem.r#type.as_str()), (2, "wrong-version"));
    assert_eq!((problem.actual_version, Code::from(problem.code)), (Some(1), Code::Aborted));
    let told: Vec<_> =
        published.iter().map(|one| (one.position.map(|at| at.offset), one.duplicate, one.routed)).collect();
    let stored = |offset| (Some(offset), false, true);
    assert_eq!(
        told,
        [stored(0), stored(1), stored(2), stored(3), (Some(3), true, true)],
        "a duplicate is where the first is"
    );
}

#[tokio::test]
async fn the_first_frame_opens_and_no_other() {
    let server = Server::start().await;
    server.queue("q").await;
    let (send, mut answers) = server.publishing().await;
    send.send(g::PublishFrame { messages: vec![text("0")], ..Default::default() }).await.unwrap();
    let status = soon(answers.message()).await.unwrap_err();
    assert_eq!(refusal(&status), (Code::InvalidArgument, "invalid-value".to_owned(), "open".to_owned()));

    let (send, mut answers) = server.publishing().await;
    let frame = g::PublishFrame { open: open(to_queue("q")), messages: vec![text("0")], ..Default::default() };
    send.send(frame.clone()).await.unwrap();
    send.send(frame).await.unwrap();
    let status = loop {
        match soon(answers.message()).await {
            Ok(answer) => assert!(answer.unwrap().confirmed <= 1),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal(&status).2, "open");
    assert_eq!(bodies(&server, "q").await, ["0"]);
}

#[tokio::test]
async fn a_drain_confirms_what_was_taken_and_ends_the_stream() {
    let server = Server::start().await;
    server.queue("q").await;
    let (send, mut answers) = server.publishing().await;
    let frame = g::PublishFrame { open: open(to_queue("q")), messages: vec![text("0")], ..Default::default() };
    send.send(frame).await.unwrap();
    until(&mut answers, 1).await;
    server.drain.begin();
    let status = soon(answers.message()).await.unwrap_err();
    assert_eq!(refusal(&status).0, Code::Unavailable);
}

#[tokio::test]
async fn a_call_publishes_all_or_none() {
    let server = Server::start().await;
    server.queue("q").await;
    let mut client = PublisherClient::new(server.channel.clone());
    let request = g::PublishRequest { to: to_queue("q"), messages: vec![text("a"), text("b")], ..Default::default() };
    let published = client.publish(request).await.unwrap().into_inner().published;
    assert!(published.iter().all(|one| one.routed && one.queues == 1 && one.id.len() == 36));
    let bad = types::Message { subject: vec![b'a'; 5000].into(), ..types::Message::new("", "x") };
    let request = g::PublishRequest { to: to_queue("q"), messages: vec![text("c"), bad.into()], ..Default::default() };
    assert_eq!(client.publish(request).await.unwrap_err().code(), Code::InvalidArgument);
    let request = g::PublishRequest { messages: vec![text("c")], ..Default::default() };
    assert_eq!(refusal(&client.publish(request).await.unwrap_err()).2, "to");
    let request = g::PublishRequest { namespace: "none".to_owned(), to: by_subject(), ..Default::default() };
    assert_eq!(refusal(&client.publish(request).await.unwrap_err()).1, "no-such-namespace");
    assert_eq!(bodies(&server, "q").await, ["a", "b"]);
}

#[tokio::test]
async fn what_a_delivery_leads_to_is_published_with_its_acknowledgement() {
    use api::grpc::consumer_client::ConsumerClient;
    let server = Server::start().await;
    server.queue("in").await;
    server.queue("out").await;
    server.fill("in", &["order"]).await;
    let mut consumer = ConsumerClient::new(server.channel.clone());
    let request = g::ReceiveRequest { queue: "in".to_owned(), ..Default::default() };
    let taken = consumer.receive(request).await.unwrap().into_inner().deliveries.remove(0);
    assert_eq!(body(taken.message), "order");
    let mut client = PublisherClient::new(server.channel.clone());
    let request = g::AckAndPublishRequest {
        receipt: taken.receipt,
        publishes: vec![g::PublishTo { to: to_queue("out"), messages: vec![text("invoice")] }],
        ..Default::default()
    };
    client.ack_and_publish(request.clone()).await.unwrap();
    assert_eq!(refusal(&client.ack_and_publish(request).await.unwrap_err()).1, "unknown-delivery");
    assert_eq!(bodies(&server, "out").await, ["invoice"]);
    assert!(bodies(&server, "in").await.is_empty());
}
