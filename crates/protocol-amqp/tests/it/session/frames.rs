//! Frames that are none, or that come where they should not.

use amq_protocol::protocol::{AMQPClass, basic, channel};
use amq_protocol::types::{AMQPValue, FieldArray, FieldTable};

use super::harness::{
    Client, Close, Server, basic_method, body_bytes, declare, header_bytes, method_bytes, publish_bytes,
    publish_method, raw_frame,
};

/// What bytes on a connection with the channel 1 lead to, while another connection and another channel of the server go on.
async fn closes_the_connection(bytes: &[u8], expected: Close) {
    let server = Server::start().await;
    let mut neighbour = server.client().await;
    neighbour.declare(1, "n").await;
    let mut client = server.client().await;
    client.send_bytes(bytes).await;
    assert_eq!(client.closed().await, expected);
    neighbour.works("n").await;
    server.is_well().await;
}

/// The same for a channel: its own connection goes on, and the number can be used again.
async fn closes_the_channel(bytes: &[u8], expected: Close) {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.open_channel(2).await;
    client.send_bytes(bytes).await;
    assert_eq!(client.channel_closed(1).await, expected);
    client.works_on(2, "n").await;
    client.open_channel(1).await;
    client.works_on(1, "n").await;
    server.is_well().await;
}

#[tokio::test]
async fn what_is_no_frame_closes_the_connection_with_501() {
    let mut wrong_end = raw_frame(8, 0, &[]);
    *wrong_end.last_mut().unwrap() = 0;
    let oversize = [1, 0, 1, 0, 2, 0, 0];
    for bytes in [&raw_frame(4, 1, b"x")[..], &raw_frame(0, 0, &[]), &wrong_end, &oversize, b"GET / HTTP/1.1\r\n\r\n"] {
        closes_the_connection(bytes, (501, 0, 0)).await;
    }
    closes_the_connection(&raw_frame(8, 1, &[]), (501, 0, 0)).await;
}

#[tokio::test]
async fn a_frame_of_more_than_was_agreed_on_is_refused_before_it_has_come() {
    let server = Server::start().await;
    let mut client = server.open(super::harness::Tune { frame_max: 4096, ..Default::default() }).await;
    client.open_channel(1).await;
    client.declare(1, "q").await;
    // Exactly the agreed size passes.
    client.send_bytes(&publish_bytes(1, "", "q", &[b'x'; 4088])).await;
    assert_eq!(client.get(1, "q").await.unwrap().body.len(), 4088);
    let mut head = vec![3, 0, 1];
    head.extend(4089u32.to_be_bytes());
    client.send_bytes(&head).await;
    assert_eq!(client.closed().await, (501, 0, 0));
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_a_frame_leaves_nothing_behind() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare(1, "q").await;
    client.publish(1, "", "q", "whole").await;
    let bytes = publish_bytes(1, "", "q", b"half");
    for len in [1, 6, 7, 20, bytes.len() - 1] {
        let mut other = server.client().await;
        other.send_bytes(&bytes[..len]).await;
        other.end_sending().await;
        assert_eq!(other.frame().await, None);
    }
    server.has("q", 1, 0).await;
}

#[tokio::test]
async fn what_comes_on_a_channel_that_is_not_open_closes_the_connection_with_504() {
    closes_the_connection(&publish_bytes(7, "", "q", b"x"), (504, 60, 40)).await;
    closes_the_connection(&header_bytes(7, 1), (504, 0, 0)).await;
    closes_the_connection(&body_bytes(7, b"x"), (504, 0, 0)).await;
    closes_the_connection(&method_bytes(7, declare("q", false, FieldTable::default())), (504, 50, 10)).await;
    let close = channel::Close { reply_code: 200, reply_text: "".into(), class_id: 0, method_id: 0 };
    closes_the_connection(&method_bytes(7, AMQPClass::Channel(channel::AMQPMethod::Close(close))), (504, 20, 40)).await;
    let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
    closes_the_connection(&method_bytes(1, open), (504, 20, 10)).await;
}

#[tokio::test]
async fn what_comes_on_a_channel_after_its_end_closes_the_connection_with_504() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.close_channel(1).await;
    client.publish(1, "", "q", "x").await;
    assert_eq!(client.closed().await, (504, 60, 40));
}

#[tokio::test]
async fn what_a_client_sent_before_it_heard_of_a_channels_end_is_passed_over() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare(1, "q").await;
    client.publish(1, "nowhere", "q", "x").await;
    for _ in 0..100 {
        client.publish(1, "", "q", "x").await;
    }
    client.send(1, declare("other", false, FieldTable::default())).await;
    assert_eq!(client.channel_closed(1).await, (404, 60, 40));
    client.open_channel(1).await;
    assert_eq!(client.get(1, "q").await, None);
    assert!(server.session().queue("other").is_err());
}

#[tokio::test]
async fn what_a_client_sent_behind_its_own_fault_is_not_published() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare(1, "q").await;
    client.open_channel(2).await;
    // A message that is half here when the connection is closed, and goes on behind that.
    let mut bytes = method_bytes(2, publish_method("", "q", false));
    bytes.extend(header_bytes(2, 1));
    bytes.extend(raw_frame(1, 1, &[0, 99, 0, 1]));
    bytes.extend(body_bytes(2, b"x"));
    bytes.extend(publish_bytes(1, "", "q", b"x"));
    client.send_bytes(&bytes).await;
    assert_eq!(client.closed().await, (540, 99, 1));
    server.has("q", 0, 0).await;
}

#[tokio::test]
async fn frames_of_a_message_out_of_their_turn_close_the_connection_with_505() {
    closes_the_connection(&header_bytes(1, 5), (505, 0, 0)).await;
    closes_the_connection(&body_bytes(1, b"x"), (505, 0, 0)).await;
    let publish = method_bytes(1, publish_method("", "q", false));
    let join = |parts: &[&[u8]]| parts.concat();
    closes_the_connection(&join(&[&publish, &publish]), (505, 60, 40)).await;
    closes_the_connection(&join(&[&publish, &body_bytes(1, b"x")]), (505, 60, 40)).await;
    closes_the_connection(&join(&[&publish, &header_bytes(1, 5), &header_bytes(1, 5)]), (505, 60, 40)).await;
    let qos = basic_method(basic::AMQPMethod::Qos(basic::Qos { prefetch_count: 1, global: false }));
    closes_the_connection(&join(&[&publish, &header_bytes(1, 5), &method_bytes(1, qos)]), (505, 60, 40)).await;
    closes_the_connection(&join(&[&publish, &header_bytes(1, 2), &body_bytes(1, b"xyz")]), (505, 60, 40)).await;
    // Of another class than basic.
    let mut other = header_bytes(1, 1);
    other[8] = 50;
    closes_the_connection(&join(&[&publish, &other]), (505, 60, 40)).await;
}

#[tokio::test]
async fn a_body_of_exactly_the_announced_size_is_taken_in_whatever_pieces() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.open_channel(2).await;
    client.declare(1, "q").await;
    let mut bytes = method_bytes(1, publish_method("", "q", false));
    bytes.extend(header_bytes(1, 6));
    for part in ["ab", "", "cde", "f"] {
        bytes.extend(body_bytes(1, part.as_bytes()));
        // Other channels may say something in between.
        bytes.extend(publish_bytes(2, "", "q", b"between"));
    }
    bytes.extend(publish_bytes(1, "", "q", b""));
    client.send_bytes(&bytes).await;
    let mut bodies = Vec::new();
    for _ in 0..6 {
        bodies.push(client.get(1, "q").await.unwrap().body);
    }
    assert_eq!(bodies, ["between", "between", "between", "abcdef", "between", ""]);
}

#[tokio::test]
async fn a_message_that_announces_too_much_closes_its_channel_with_406() {
    let mut bytes = method_bytes(1, publish_method("", "q", false));
    bytes.extend(header_bytes(1, 16 * 1024 * 1024 + 1));
    // What was on its way already counts no more.
    bytes.extend(body_bytes(1, &[0; 1000]));
    closes_the_channel(&bytes, (406, 60, 40)).await;
    let mut bytes = method_bytes(1, publish_method("", "q", false));
    bytes.extend(header_bytes(1, u64::MAX));
    closes_the_channel(&bytes, (406, 60, 40)).await;
}

#[tokio::test]
async fn half_messages_of_a_connection_have_a_bound_together() {
    let server = Server::start().await;
    let mut client = server.open(super::harness::Tune::default()).await;
    let part = vec![0; 131_064];
    // Five times 15 MB are more than 64 MiB.
    for number in 1..=5 {
        client.open_channel(number).await;
        client.send(number, publish_method("", "q", false)).await;
        client.send_bytes(&header_bytes(number, 16 * 1024 * 1024)).await;
        for _ in 0..120 {
            client.send_bytes(&body_bytes(number, &part)).await;
        }
    }
    assert_eq!(client.closed().await, (506, 60, 40));
    server.is_well().await;
}

#[tokio::test]
async fn methods_that_nobody_knows_or_that_cannot_be_read_close_the_connection() {
    for (class, method) in [(99, 1), (60, 99), (10, 90), (20, 30), (0, 0), (65_535, 65_535)] {
        let [c1, c0] = u16::to_be_bytes(class);
        let [m1, m0] = u16::to_be_bytes(method);
        closes_the_connection(&raw_frame(1, 1, &[c1, c0, m1, m0]), (540, class, method)).await;
    }
    closes_the_connection(&raw_frame(1, 1, &[0, 60, 0]), (502, 0, 0)).await;
    closes_the_connection(&raw_frame(1, 1, &[]), (502, 0, 0)).await;
    closes_the_connection(&raw_frame(1, 1, &[0, 60, 0, 40, 0, 0, 9]), (502, 60, 40)).await;
    closes_the_connection(&raw_frame(1, 1, &[0, 50, 0, 10, 0, 0, 200, b'q']), (502, 50, 10)).await;
    closes_the_connection(&raw_frame(1, 1, &[0, 60, 0, 80, 0, 0]), (502, 60, 80)).await;
    // Bytes behind the fields.
    let mut long = method_bytes(1, declare("q", false, FieldTable::default()));
    let payload: Vec<u8> = long.drain(7..long.len() - 1).chain([0]).collect();
    closes_the_connection(&raw_frame(1, 1, &payload), (502, 50, 10)).await;
}

fn nested(levels: usize) -> FieldTable {
    let mut value = AMQPValue::Void;
    for level in 0..levels {
        value = if level % 2 == 0 {
            AMQPValue::FieldArray(FieldArray::from(vec![value]))
        } else {
            let mut table = FieldTable::default();
            table.insert("x".into(), value);
            AMQPValue::FieldTable(table)
        };
    }
    let mut table = FieldTable::default();
    table.insert("deep".into(), value);
    table
}

#[tokio::test]
async fn tables_that_are_malformed_or_nest_too_deep_close_the_connection_with_502() {
    closes_the_connection(&method_bytes(1, declare("q", false, nested(100))), (502, 50, 10)).await;
    // As deep as a frame can hold: no parser may call itself for each of them.
    let mut deep: Vec<u8> = Vec::new();
    for _ in 0..20_000 {
        let inner = u32::try_from((20_000 * 5usize).saturating_sub(deep.len())).unwrap();
        deep.push(b'A');
        deep.extend(inner.to_be_bytes());
    }
    let mut table = vec![1, b'a'];
    table.extend(&deep);
    let mut payload = vec![0, 50, 0, 10, 0, 0, 1, b'q', 0];
    payload.extend(u32::try_from(table.len()).unwrap().to_be_bytes());
    payload.extend(&table);
    closes_the_connection(&raw_frame(1, 1, &payload), (502, 50, 10)).await;
    // In a content header.
    let mut header = vec![0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 0];
    header.extend(u32::try_from(table.len()).unwrap().to_be_bytes());
    header.extend(&table);
    let mut bytes = method_bytes(1, publish_method("", "q", false));
    bytes.extend(raw_frame(2, 1, &header));
    closes_the_connection(&bytes, (502, 60, 40)).await;
    for table in [&b"\0\0\0\x03\x01aZ"[..], b"\0\0\0\x09\x01aS\0\0\0\xffx", b"\0\0\0\x02\x09a", b"\xff\xff\xff\xff"] {
        let payload = [&[0, 50, 0, 10, 0, 0, 1, b'q', 0], table].concat();
        closes_the_connection(&raw_frame(1, 1, &payload), (502, 50, 10)).await;
    }
}

#[tokio::test]
async fn channel_0_is_the_connections_own() {
    closes_the_connection(&method_bytes(0, declare("q", false, FieldTable::default())), (503, 50, 10)).await;
    closes_the_connection(&publish_bytes(0, "", "q", b"x"), (504, 60, 40)).await;
    let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
    closes_the_connection(&method_bytes(0, open), (503, 20, 10)).await;
    use amq_protocol::protocol::connection::{AMQPMethod, Open, TuneOk};
    let open = AMQPClass::Connection(AMQPMethod::Open(Open { virtual_host: "/".into() }));
    closes_the_connection(&method_bytes(0, open.clone()), (503, 10, 40)).await;
    closes_the_connection(&method_bytes(3, open), (503, 10, 40)).await;
    let tune = AMQPClass::Connection(AMQPMethod::TuneOk(TuneOk { channel_max: 5, frame_max: 4096, heartbeat: 1 }));
    closes_the_connection(&method_bytes(0, tune), (503, 10, 31)).await;
    // What only a server says.
    let ok = basic_method(basic::AMQPMethod::GetEmpty(basic::GetEmpty {}));
    closes_the_connection(&method_bytes(1, ok), (503, 60, 72)).await;
}

#[tokio::test]
async fn a_drain_of_the_server_says_so_and_ends_the_connections() {
    let server = Server::start().await;
    let mut client: Client = server.client().await;
    drop(server);
    assert_eq!(client.closed().await, (320, 0, 0));
}
