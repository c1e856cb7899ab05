//! What a user may publish, and under which routing keys.

use amq_protocol::protocol::{AMQPClass, basic, confirm, connection, tx};
use broker::definitions::{Permissions, RouterConfig, SubjectPermissions, TopicConfig};
use broker::{Credentials, UserChange};

use super::harness::{
    Client, Server, Tune, basic_method, connection_method, publish_bytes, publish_method, raw_frame, start_ok,
};

const PUBLISH: (u16, u16, u16) = (403, 60, 40);

/// A server on which `ada` may write to the default exchange, to `rates` under keys that begin with `eu.`, and to no queue by its name.
async fn server_of_ada() -> Server {
    let server = Server::start().await;
    let session = server.session();
    session.declare_queue("q", broker::definitions::QueueConfig::default(), false).await.unwrap();
    let by_key = TopicConfig { router: RouterConfig::Subject, captures: Some(Vec::new()), ..TopicConfig::default() };
    session.declare_topic("rates", by_key, false).await.unwrap();
    let anonymous = server.broker.authenticate(&Credentials::Anonymous).unwrap();
    let change =
        |admin| UserChange { admin: Some(admin), password: Some("secret secret".into()), ..UserChange::default() };
    server.broker.put_user(&anonymous, "root", change(true)).await.unwrap();
    let subjects = SubjectPermissions { write: vec!["eu.*".into()], read: Vec::new() };
    let permissions = Permissions {
        write: vec!["amq.default".into(), "rates".into()],
        subjects: [("rates".into(), subjects)].into(),
        ..Permissions::default()
    };
    let ada = UserChange { permissions: vec![("default".into(), Some(permissions))], ..change(false) };
    let root = Credentials::Password { user: "root".into(), password: "secret secret".into() };
    let root = server.broker.authenticate(&root).unwrap();
    server.broker.put_user(&root, "ada", ada).await.unwrap();
    server
}

async fn ada(server: &Server) -> Client {
    let mut client = server.socket().await;
    client.start(start_ok("PLAIN", b"\0ada\0secret secret")).await;
    client.tune(Tune::default()).await;
    client.open_vhost("/").await;
    assert_eq!(client.method(0).await, connection_method(connection::AMQPMethod::OpenOk(connection::OpenOk {})));
    client.open_channel(1).await;
    client
}

async fn select_tx(client: &mut Client) {
    client.send(1, AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {}))).await;
    assert_eq!(client.method(1).await, AMQPClass::Tx(tx::AMQPMethod::SelectOk(tx::SelectOk {})));
}

#[tokio::test]
async fn whoever_may_write_to_the_default_exchange_publishes_to_queues_in_a_transaction_as_well() {
    let server = server_of_ada().await;
    let mut client = ada(&server).await;
    client.send(1, AMQPClass::Confirm(confirm::AMQPMethod::Select(confirm::Select { nowait: false }))).await;
    client.method(1).await;
    client.publish(1, "", "q", "one").await;
    let ack = basic::Ack { delivery_tag: 1, multiple: false };
    assert_eq!(client.method(1).await, basic_method(basic::AMQPMethod::Ack(ack)));
    client.close_channel(1).await;
    client.open_channel(1).await;
    select_tx(&mut client).await;
    client.publish(1, "", "q", "two").await;
    client.send(1, AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}))).await;
    assert_eq!(client.method(1).await, AMQPClass::Tx(tx::AMQPMethod::CommitOk(tx::CommitOk {})));
    server.has("q", 2, 0).await;
}

#[tokio::test]
async fn a_routing_key_that_is_not_permitted_is_refused_wherever_it_stands() {
    let server = server_of_ada().await;
    let mut client = ada(&server).await;
    client.publish(1, "rates", "eu.eur", "fine").await;
    client.publish(1, "rates", "us.usd", "not").await;
    assert_eq!(client.channel_closed(1).await, PUBLISH);
    client.open_channel(1).await;
    select_tx(&mut client).await;
    client.send_bytes(&publish_bytes(1, "rates", "us.usd", b"not")).await;
    assert_eq!(client.channel_closed(1).await, PUBLISH);
    client.open_channel(1).await;
    // Headers with `CC`: one further key.
    let key = b"us.usd";
    let mut list = vec![b'S'];
    list.extend((key.len() as u32).to_be_bytes());
    list.extend(key);
    let mut table = vec![2, b'C', b'C', b'A'];
    table.extend((list.len() as u32).to_be_bytes());
    table.extend(list);
    let mut header = vec![0, 60, 0, 0];
    header.extend(0u64.to_be_bytes());
    header.extend(0x2000u16.to_be_bytes());
    header.extend((table.len() as u32).to_be_bytes());
    header.extend(table);
    client.send(1, publish_method("rates", "eu.eur", false)).await;
    client.send_bytes(&raw_frame(2, 1, &header)).await;
    assert_eq!(client.channel_closed(1).await, PUBLISH);
    assert_eq!(server.session().topic("rates").unwrap().published, 1);
}
