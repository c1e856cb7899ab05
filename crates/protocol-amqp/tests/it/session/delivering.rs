//! Where deliveries go when their client does.

use amq_protocol::protocol::basic;

use super::harness::{Client, Delivery, Server, basic_method};

const MESSAGES: u64 = 20;

fn bodies(from: u64, to: u64) -> Vec<String> {
    (from..to).map(|n| n.to_string()).collect()
}

async fn filled(client: &mut Client, queue: &str) {
    client.declare(1, queue).await;
    client.confirm(1).await;
    for body in bodies(0, MESSAGES) {
        client.publish(1, "", queue, &body).await;
    }
    let mut confirmed = 0;
    while confirmed < MESSAGES {
        match client.method(1).await {
            amq_protocol::protocol::AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => confirmed = ack.delivery_tag,
            other => panic!("{other:?}"),
        }
    }
}

async fn take(client: &mut Client, count: u64) -> Vec<Delivery> {
    let mut taken = Vec::new();
    for _ in 0..count {
        taken.push(client.delivery(1).await);
    }
    taken
}

fn of(taken: &[Delivery]) -> Vec<String> {
    taken.iter().map(|delivery| delivery.body.clone()).collect()
}

#[tokio::test]
async fn what_a_connection_had_comes_back_in_its_order_and_marked() {
    let server = Server::start().await;
    let mut gone = server.client().await;
    filled(&mut gone, "q").await;
    gone.qos(1, 10, false).await;
    gone.consume(1, "q", "c").await;
    let taken = take(&mut gone, 10).await;
    assert!(taken.iter().all(|delivery| !delivery.redelivered));
    // Some in between are done, and are followed by others.
    for delivery in &taken[3..6] {
        gone.ack(1, delivery.tag).await;
    }
    let more = take(&mut gone, 3).await;
    assert_eq!(of(&more), bodies(10, 13));
    drop(gone);
    server.has("q", MESSAGES - 3, 0).await;
    let mut client = server.client().await;
    client.consume(1, "q", "c").await;
    let again = take(&mut client, MESSAGES - 3).await;
    assert_eq!(of(&again), [bodies(0, 3), bodies(6, MESSAGES)].concat());
    let marked: Vec<bool> = again.iter().map(|delivery| delivery.redelivered).collect();
    let expected: Vec<bool> = (0..3).chain(6..MESSAGES).map(|n| n < 13).collect();
    assert_eq!(marked, expected, "what was handed out before is marked, and nothing else");
}

#[tokio::test]
async fn what_a_channel_had_comes_back_when_it_is_closed_and_another_channel_goes_on() {
    let server = Server::start().await;
    let mut client = server.client().await;
    filled(&mut client, "q").await;
    client.open_channel(2).await;
    client.qos(2, 5, false).await;
    client.consume(2, "q", "c").await;
    for n in 0..5 {
        assert_eq!(client.delivery(2).await.body, n.to_string());
    }
    client.close_channel(2).await;
    for n in 0..MESSAGES {
        let got = client.get(1, "q").await.unwrap();
        assert_eq!((got.body, got.redelivered), (n.to_string(), n < 5));
    }
}

#[tokio::test]
async fn gets_and_a_consumer_share_a_queue_and_a_channels_tags() {
    let server = Server::start().await;
    let mut client = server.client().await;
    filled(&mut client, "q").await;
    client.qos(1, 2, false).await;
    let first = client.get(1, "q").await.unwrap();
    client.consume(1, "q", "c").await;
    let consumed = take(&mut client, 2).await;
    // What was fetched does not count for the consumer, and the consumer's bound not for what is fetched.
    let last = client.get(1, "q").await.unwrap();
    let tags = [first.tag, consumed[0].tag, consumed[1].tag, last.tag];
    assert_eq!(
        (tags, [&first.body, &consumed[0].body, &consumed[1].body, &last.body].map(String::as_str)),
        ([1, 2, 3, 4], ["0", "1", "2", "3"])
    );
    client.ack(1, last.tag).await;
    client.ack(1, first.tag).await;
    server.has("q", MESSAGES - 4, 2).await;
    client.ack(1, consumed[0].tag).await;
    assert_eq!(client.delivery(1).await.body, "4");
    // Ended, the consumer keeps what it has.
    let cancel = basic::Cancel { consumer_tag: "c".into(), nowait: false };
    client.send(1, basic_method(basic::AMQPMethod::Cancel(cancel))).await;
    let ok = basic::CancelOk { consumer_tag: "c".into() };
    assert_eq!(client.method(1).await, basic_method(basic::AMQPMethod::CancelOk(ok)));
    client.ack(1, consumed[1].tag).await;
    server.has("q", MESSAGES - 5, 1).await;
    assert_eq!(client.get(1, "q").await.unwrap().body, "5");
    assert_eq!(server.session().queue("q").unwrap().consumers, 0);
}

#[tokio::test]
async fn a_requeued_message_goes_back_to_its_place() {
    let server = Server::start().await;
    let mut client = server.client().await;
    filled(&mut client, "q").await;
    let taken =
        [client.get(1, "q").await.unwrap(), client.get(1, "q").await.unwrap(), client.get(1, "q").await.unwrap()];
    for at in [2, 0] {
        let nack = basic::Nack { delivery_tag: taken[at].tag, multiple: false, requeue: true };
        client.send(1, basic_method(basic::AMQPMethod::Nack(nack))).await;
    }
    for (body, redelivered) in [("0", true), ("2", true), ("3", false)] {
        let got = client.get(1, "q").await.unwrap();
        assert_eq!((got.body.as_str(), got.redelivered), (body, redelivered));
    }
}
