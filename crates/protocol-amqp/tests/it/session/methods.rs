//! Methods that are refused, each with its own code, and what goes on beside them.

use std::time::Duration;

use amq_protocol::protocol::{AMQPClass, basic, confirm, exchange, queue, tx};
use amq_protocol::types::FieldTable;

use super::harness::{
    Client, Close, Server, basic_method, consume, declare, declare_exchange, publish_method, queue_method,
};

fn ack(delivery_tag: u64, multiple: bool) -> AMQPClass {
    basic_method(basic::AMQPMethod::Ack(basic::Ack { delivery_tag, multiple }))
}

async fn with_a_neighbour() -> (Server, Client) {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.open_channel(2).await;
    client.declare(1, "q").await;
    (server, client)
}

/// A method of channel 1 closes it, with this; channel 2 goes on.
async fn closes_the_channel(client: &mut Client, method: AMQPClass, expected: Close) {
    let said = format!("{method:?}");
    client.send(1, method).await;
    assert_eq!(client.channel_closed(1).await, expected, "{said}");
    client.works_on(2, "beside").await;
    client.open_channel(1).await;
}

#[tokio::test]
async fn a_publish_to_a_missing_exchange_closes_its_channel_only() {
    let (server, mut client) = with_a_neighbour().await;
    client.confirm(1).await;
    client.publish(1, "", "q", "before").await;
    assert_eq!(client.method(1).await, ack(1, false));
    client.publish(1, "", "q", "right before").await;
    client.publish(1, "nowhere", "q", "lost").await;
    // What came behind it is not published.
    client.publish(1, "", "q", "behind").await;
    assert_eq!(client.channel_closed(1).await, (404, 60, 40));
    client.works_on(2, "beside").await;
    server.has("q", 2, 0).await;
}

#[tokio::test]
async fn a_mandatory_message_that_reaches_nothing_comes_back_before_its_confirm() {
    let (_server, mut client) = with_a_neighbour().await;
    client.confirm(1).await;
    client.send(1, publish_method("", "nobody", true)).await;
    client.send_bytes(&super::harness::header_bytes(1, 4)).await;
    client.send_bytes(&super::harness::body_bytes(1, b"back")).await;
    let AMQPClass::Basic(basic::AMQPMethod::Return(returned)) = client.method(1).await else {
        panic!("a return was expected")
    };
    assert_eq!((returned.reply_code, returned.routing_key.as_str()), (312, "nobody"));
    assert_eq!(client.content(1).await, "back");
    assert_eq!(client.method(1).await, ack(1, false));
}

#[tokio::test]
async fn acknowledging_what_is_not_out_closes_the_channel_with_406() {
    let (_server, mut client) = with_a_neighbour().await;
    client.publish(1, "", "q", "x").await;
    let tag = client.get(1, "q").await.unwrap().tag;
    client.ack(1, tag).await;
    closes_the_channel(&mut client, ack(tag, false), (406, 60, 80)).await;
    closes_the_channel(&mut client, ack(99, false), (406, 60, 80)).await;
    closes_the_channel(&mut client, ack(99, true), (406, 60, 80)).await;
    closes_the_channel(&mut client, ack(0, false), (406, 60, 80)).await;
    let nack = basic::Nack { delivery_tag: 5, multiple: false, requeue: true };
    closes_the_channel(&mut client, basic_method(basic::AMQPMethod::Nack(nack)), (406, 60, 120)).await;
    let reject = basic::Reject { delivery_tag: 5, requeue: true };
    closes_the_channel(&mut client, basic_method(basic::AMQPMethod::Reject(reject)), (406, 60, 90)).await;
    // A tag is of its channel.
    client.publish(1, "", "q", "y").await;
    let tag = client.get(1, "q").await.unwrap().tag;
    client.send(2, ack(tag, false)).await;
    assert_eq!(client.channel_closed(2).await, (406, 60, 80));
    client.ack(1, tag).await;
    assert_eq!(client.get(1, "q").await, None);
}

#[tokio::test]
async fn all_that_is_out_may_be_none() {
    let (_server, mut client) = with_a_neighbour().await;
    client.send(1, ack(0, true)).await;
    client.works_on(1, "q").await;
}

#[tokio::test]
async fn a_channel_confirms_or_has_transactions() {
    let (_server, mut client) = with_a_neighbour().await;
    let select = || AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {}));
    let confirm = || AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }));
    client.confirm(1).await;
    client.confirm(1).await;
    closes_the_channel(&mut client, select(), (406, 90, 10)).await;
    client.send(1, select()).await;
    assert_eq!(client.method(1).await, AMQPClass::Tx(tx::AMQPMethod::SelectOk(tx::SelectOk {})));
    closes_the_channel(&mut client, confirm(), (406, 85, 10)).await;
    let commit = AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}));
    closes_the_channel(&mut client, commit, (406, 90, 20)).await;
    let rollback = AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {}));
    closes_the_channel(&mut client, rollback, (406, 90, 30)).await;
}

#[tokio::test]
async fn an_exclusive_queue_is_locked_for_other_connections_and_goes_with_its_own() {
    let (server, mut client) = with_a_neighbour().await;
    let mut owner = server.client().await;
    owner.declare_with(1, declare("mine", true, FieldTable::default())).await;
    closes_the_channel(&mut client, declare("mine", true, FieldTable::default()), (405, 50, 10)).await;
    closes_the_channel(&mut client, consume("mine", "c", false), (405, 60, 20)).await;
    let get = basic::Get { queue: "mine".into(), no_ack: true };
    closes_the_channel(&mut client, basic_method(basic::AMQPMethod::Get(get)), (405, 60, 70)).await;
    let purge = queue::Purge { queue: "mine".into(), nowait: false };
    closes_the_channel(&mut client, queue_method(queue::AMQPMethod::Purge(purge)), (405, 50, 30)).await;
    let delete = queue::Delete { queue: "mine".into(), if_unused: false, if_empty: false, nowait: false };
    closes_the_channel(&mut client, queue_method(queue::AMQPMethod::Delete(delete)), (405, 50, 40)).await;
    owner.works("mine2").await;
    drop(owner);
    server.until(|| server.session().queue("mine").is_err(), || "the exclusive queue stays".into()).await;
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_is_otherwise_is_406() {
    let (_server, mut client) = with_a_neighbour().await;
    closes_the_channel(&mut client, consume("nowhere", "c", false), (404, 60, 20)).await;
    let get = basic::Get { queue: "nowhere".into(), no_ack: true };
    closes_the_channel(&mut client, basic_method(basic::AMQPMethod::Get(get)), (404, 60, 70)).await;
    let bind = queue::Bind {
        queue: "q".into(),
        exchange: "nowhere".into(),
        routing_key: "".into(),
        nowait: false,
        arguments: FieldTable::default(),
    };
    closes_the_channel(&mut client, queue_method(queue::AMQPMethod::Bind(bind)), (404, 50, 20)).await;
    let mut other = FieldTable::default();
    other.insert("x-max-length".into(), amq_protocol::types::AMQPValue::LongInt(5));
    closes_the_channel(&mut client, declare("q", false, other), (406, 50, 10)).await;
    closes_the_channel(&mut client, declare("amq.mine", false, FieldTable::default()), (403, 50, 10)).await;
    client.send(1, declare_exchange("e", "fanout")).await;
    assert_eq!(client.method(1).await, AMQPClass::Exchange(exchange::AMQPMethod::DeclareOk(exchange::DeclareOk {})));
    closes_the_channel(&mut client, declare_exchange("e", "direct"), (406, 40, 10)).await;
}

#[tokio::test]
async fn a_consumers_tag_used_again_closes_the_connection_with_530() {
    let (server, mut client) = with_a_neighbour().await;
    client.consume(1, "q", "c").await;
    // A tag is of its channel.
    client.consume(2, "q", "c").await;
    client.send(1, consume("q", "c", false)).await;
    assert_eq!(client.closed().await, (530, 60, 20));
    server.is_well().await;
}

#[tokio::test]
async fn what_nobody_does_is_refused_with_540() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let publish = basic::Publish { exchange: "".into(), routing_key: "q".into(), mandatory: false, immediate: true };
    client.send(1, basic_method(basic::AMQPMethod::Publish(publish))).await;
    assert_eq!(client.closed().await, (540, 60, 40));
    let mut client = server.client().await;
    let recover = basic::Recover { requeue: false };
    client.send(1, basic_method(basic::AMQPMethod::Recover(recover))).await;
    assert_eq!(client.closed().await, (540, 60, 110));
}

#[tokio::test]
async fn a_delivery_that_stays_out_for_too_long_closes_its_channel_and_comes_back() {
    let server = Server::with(|options| options.consumer_timeout = Duration::from_millis(200)).await;
    let mut client = server.client().await;
    client.open_channel(2).await;
    client.declare(1, "q").await;
    client.publish(1, "", "q", "x").await;
    client.consume(1, "q", "c").await;
    assert!(!client.delivery(1).await.redelivered);
    assert_eq!(client.channel_closed(1).await, (406, 0, 0));
    let again = client.get(2, "q").await.unwrap();
    assert!(again.redelivered && again.body == "x", "{again:?}");
    client.ack(2, again.tag).await;
    client.works_on(2, "q").await;
}
