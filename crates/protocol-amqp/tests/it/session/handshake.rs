//! Connections that are not made, and heartbeats of those that are.

use std::time::Duration;

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, connection};
use amq_protocol::types::{AMQPValue, FieldTable};

use super::harness::{
    HEADER, Server, Tune, bytes_of, connection_method, declare, method_bytes, publish_bytes, raw_frame, start_ok,
};

#[tokio::test]
async fn who_speaks_another_protocol_is_told_which_one_is_spoken_here() {
    let server = Server::start().await;
    for wrong in [
        &b"AMQP\x00\x00\x09\x00"[..],
        b"AMQP\x03\x01\x00\x00",
        b"AMQP\x01\x01\x08\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\0\0\0",
    ] {
        let mut client = server.socket().await;
        client.send_bytes(wrong).await;
        assert_eq!(client.rest().await, HEADER, "{wrong:?}");
    }
    server.is_well().await;
}

#[tokio::test]
async fn who_says_nothing_or_not_enough_is_cut_off_in_time() {
    let server = Server::with(|options| options.handshake_timeout = Duration::from_millis(200)).await;
    let mut silent = server.socket().await;
    assert_eq!(silent.rest().await, b"");
    let mut half = server.socket().await;
    half.send_bytes(&HEADER[..5]).await;
    assert_eq!(half.rest().await, b"");
    let mut no_login = server.socket().await;
    no_login.send_bytes(HEADER).await;
    assert!(!no_login.rest().await.is_empty(), "it was greeted");
    let mut no_tune = server.socket().await;
    no_tune.start(start_ok("PLAIN", b"\0guest\0guest")).await;
    assert!(!no_tune.rest().await.is_empty(), "it was to tune");
}

#[tokio::test]
async fn a_login_that_is_refused_is_told_to_who_wants_to_hear_it() {
    let server = Server::start().await;
    for (mechanism, response) in [
        ("PLAIN", &b"\0guest\0wrong"[..]),
        ("PLAIN", b"nonsense"),
        ("AMQPLAIN", b"\xff\xff"),
        ("EXTERNAL", b""),
        ("SCRAM-SHA-1", b"x"),
    ] {
        let mut client = server.socket().await;
        client.start(start_ok(mechanism, response)).await;
        assert_eq!(client.closed().await, (403, 0, 0), "{mechanism}");
    }
    // Without the capability, the socket ends.
    let mut client = server.socket().await;
    let mut start_ok = start_ok("PLAIN", b"\0guest\0wrong");
    start_ok.client_properties = FieldTable::default();
    client.start(start_ok).await;
    assert_eq!(client.rest().await, b"");
    server.is_well().await;
}

#[tokio::test]
async fn the_other_ways_to_log_in_are_taken() {
    let server = Server::start().await;
    let mut table = FieldTable::default();
    table.insert("LOGIN".into(), AMQPValue::LongString("guest".into()));
    table.insert("PASSWORD".into(), AMQPValue::LongString("guest".into()));
    // A table without its length: written by a method that carries one, and cut out of it.
    let method = bytes_of(&AMQPFrame::Method(1, declare("", false, table)));
    let at = 7 + 4 + 2 + 1 + 1 + 4;
    let mut client = server.socket().await;
    client.start(start_ok("AMQPLAIN", &method[at..method.len() - 1])).await;
    client.tune(Tune::default()).await;
    client.open_vhost("/").await;
    client.method(0).await;
    client.open_channel(1).await;
    client.works("q").await;
}

#[tokio::test]
async fn what_was_not_offered_cannot_be_agreed_on() {
    let server = Server::start().await;
    for (channel_max, frame_max) in
        [(0, 131_072), (2048, 131_072), (65_535, 131_072), (10, 0), (10, 131_073), (10, 4095), (10, u32::MAX)]
    {
        let mut client = server.socket().await;
        client.start(start_ok("PLAIN", b"\0guest\0guest")).await;
        client.tune(Tune { channel_max, frame_max, heartbeat: 0 }).await;
        assert_eq!(client.closed().await, (530, 10, 31), "{channel_max}, {frame_max}");
    }
}

#[tokio::test]
async fn a_vhost_that_is_not_there_is_refused_with_530() {
    let server = Server::start().await;
    let mut client = server.socket().await;
    client.start(start_ok("PLAIN", b"\0guest\0guest")).await;
    client.tune(Tune::default()).await;
    client.open_vhost("nowhere").await;
    assert_eq!(client.closed().await, (530, 10, 40));
}

#[tokio::test]
async fn methods_before_the_connection_is_open_are_refused() {
    let server = Server::start().await;
    let open = connection_method(connection::AMQPMethod::Open(connection::Open { virtual_host: "/".into() }));
    let secret = connection::UpdateSecret { new_secret: "x".into(), reason: "".into() };
    let secret = connection_method(connection::AMQPMethod::UpdateSecret(secret));
    for (bytes, expected) in [
        (method_bytes(0, open), (503, 10, 40)),
        (method_bytes(0, secret), (503, 10, 70)),
        (method_bytes(0, declare("q", false, FieldTable::default())), (503, 50, 10)),
        (method_bytes(1, declare("q", false, FieldTable::default())), (504, 0, 0)),
        (publish_bytes(0, "", "q", b"x"), (503, 60, 40)),
        (raw_frame(2, 0, b"x"), (505, 0, 0)),
        (raw_frame(9, 0, b"x"), (501, 0, 0)),
        (raw_frame(1, 0, &[0, 10, 0, 11, 0, 0, 0, 3, 1, b'a', b'Z']), (502, 10, 11)),
    ] {
        let mut client = server.socket().await;
        client.send_bytes(HEADER).await;
        client.method(0).await;
        client.send_bytes(&bytes).await;
        assert_eq!(client.closed().await, expected);
    }
    server.is_well().await;
}

#[tokio::test]
async fn channels_beyond_what_was_agreed_on_are_refused_with_530() {
    let server = Server::start().await;
    let mut client = server.open(Tune { channel_max: 3, ..Tune::default() }).await;
    client.open_channel(3).await;
    let open =
        AMQPClass::Channel(amq_protocol::protocol::channel::AMQPMethod::Open(amq_protocol::protocol::channel::Open {}));
    client.send(4, open).await;
    assert_eq!(client.closed().await, (530, 20, 10));
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "how long a heartbeat takes is what is tested")]
async fn a_client_that_goes_silent_is_given_up_after_two_heartbeats_and_hears_ours_meanwhile() {
    let server = Server::start().await;
    let mut client = server.open(Tune { heartbeat: 1, ..Tune::default() }).await;
    client.open_channel(1).await;
    client.declare(1, "q").await;
    client.publish(1, "", "q", "x").await;
    client.get(1, "q").await.unwrap();
    let since = std::time::Instant::now();
    let mut beats = 0;
    loop {
        match client.frame().await {
            Some(AMQPFrame::Heartbeat) => beats += 1,
            None => break,
            other => panic!("{other:?}"),
        }
    }
    let took = since.elapsed();
    assert!(beats >= 1, "the server sends heartbeats of its own");
    assert!(took > Duration::from_millis(1900), "{took:?} is less than two heartbeats");
    // What it had is there again.
    server.has("q", 1, 0).await;
}

#[tokio::test]
async fn a_client_that_sends_heartbeats_stays() {
    let server = Server::start().await;
    let mut client = server.open(Tune { heartbeat: 1, ..Tune::default() }).await;
    client.open_channel(1).await;
    for _ in 0..10 {
        client.send_bytes(&bytes_of(&AMQPFrame::Heartbeat)).await;
        tokio::time::sleep(Duration::from_millis(350)).await;
    }
    client.send(1, declare("q", false, FieldTable::default())).await;
    while let Some(frame) = client.frame().await {
        if let AMQPFrame::Method(1, _) = frame {
            return;
        }
    }
    panic!("the connection was ended");
}
