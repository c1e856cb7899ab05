//! What one client may cost the others: little.

use amq_protocol::protocol::{AMQPClass, basic};

use super::harness::{
    Server, Tune, basic_method, body_bytes, consume, header_bytes, method_bytes, publish_bytes, publish_method,
};

/// Of a body, in bytes: a frame's worth.
const LARGE: usize = 64 * 1024;
/// What the system keeps of a connection that is not read, and what the server does; far less than is sent.
const KEPT_BYTES: usize = 128 * 1024 * 1024;

#[tokio::test]
async fn all_channels_opened_and_closed_leave_nothing_behind() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare(1, "q").await;
    client.close_channel(1).await;
    for _ in 0..2 {
        for number in 1..=2047 {
            client.open_channel(number).await;
            client.consume(number, "q", "c").await;
        }
        assert_eq!(server.session().queue("q").unwrap().consumers, 2047);
        for number in 1..=2047 {
            client.close_channel(number).await;
        }
        server.until(|| server.session().queue("q").unwrap().consumers == 0, || "consumers stay".into()).await;
    }
    for number in 1..=2047 {
        client.open_channel(number).await;
        client.consume(number, "q", "c").await;
        client.send(number, publish_method("", "q", false)).await;
        client.send_bytes(&header_bytes(number, 5000)).await;
    }
    // Dropped with all that is open on it.
    drop(client);
    server.until(|| server.session().queue("q").unwrap().consumers == 0, || "consumers stay".into()).await;
    server.is_well().await;
}

#[tokio::test]
async fn a_client_that_does_not_read_gets_a_bounded_share_and_gives_it_back() {
    let server = Server::start().await;
    let mut publisher = server.client().await;
    publisher.declare(1, "q").await;
    publisher.confirm(1).await;
    const MESSAGES: u64 = 1000;
    let body = "x".repeat(LARGE);
    for _ in 0..MESSAGES {
        publisher.publish(1, "", "q", &body).await;
    }
    let mut slow = server.client().await;
    slow.send(1, consume("q", "slow", false)).await;
    // It has what its socket and its share of memory hold, and no more.
    server.until(|| server.depth("q").1 > 0, || "nothing is handed out".into()).await;
    let mut before = 0;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let out = server.depth("q").1;
        if out == before {
            break;
        }
        before = out;
    }
    let held = usize::try_from(before).unwrap() * LARGE;
    assert!(held < 32 * 1024 * 1024, "{held} bytes are on their way to a client that does not read");
    // Others are served meanwhile, from the same queue too.
    let mut other = server.client().await;
    let got = other.get(1, "q").await.unwrap();
    assert_eq!(got.body.len(), LARGE);
    other.ack(1, got.tag).await;
    other.works("elsewhere").await;
    drop(slow);
    server.has("q", MESSAGES - 1, 0).await;
    assert!(other.get(1, "q").await.unwrap().redelivered);
}

#[tokio::test]
async fn a_publisher_that_floods_without_reading_is_held_back() {
    let server = Server::start().await;
    let mut flood = server.client().await;
    flood.confirm(1).await;
    // Comes back whole, and nobody reads it.
    let mut bytes = method_bytes(1, publish_method("", "nobody", true));
    bytes.extend(header_bytes(1, LARGE as u64));
    bytes.extend(body_bytes(1, &vec![b'x'; LARGE]));
    let sent = flood.flood(&bytes, 2 * KEPT_BYTES).await;
    assert!(sent < KEPT_BYTES, "the server took {sent} bytes whose returns nobody reads");
    server.is_well().await;
}

#[tokio::test]
async fn a_client_that_asks_without_reading_answers_is_held_back() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.declare(1, "q").await;
    client.send_bytes(&publish_bytes(1, "", "q", &vec![b'x'; LARGE])).await;
    server.has("q", 1, 0).await;
    // Fetched, put back, fetched again.
    let get = basic::Get { queue: "q".into(), no_ack: false };
    let nack = basic::Nack { delivery_tag: 0, multiple: true, requeue: true };
    let mut bytes = method_bytes(1, basic_method(basic::AMQPMethod::Get(get)));
    bytes.extend(method_bytes(1, basic_method(basic::AMQPMethod::Nack(nack))));
    let most = 4000 * bytes.len();
    // What the sockets keep of so small requests is much; that the server's memory is bounded is seen by how often it fetched.
    client.flood(&bytes, most).await;
    let delivered = server.session().queue("q").unwrap().counters.delivered;
    let held = usize::try_from(delivered).unwrap() * LARGE;
    assert!(held < KEPT_BYTES, "{held} bytes of answers wait for a client that does not read");
    server.is_well().await;
}

#[tokio::test]
async fn confirms_of_a_flood_that_is_read_late_all_come() {
    let server = Server::start().await;
    let mut client = server.open(Tune::default()).await;
    client.open_channel(1).await;
    client.declare(1, "q").await;
    client.confirm(1).await;
    const MESSAGES: u64 = 50_000;
    let mut bytes = Vec::new();
    for _ in 0..MESSAGES {
        bytes.extend(publish_bytes(1, "", "q", b"x"));
    }
    client.send_bytes(&bytes).await;
    let mut confirmed = 0;
    while confirmed < MESSAGES {
        match client.method(1).await {
            AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                assert!(ack.delivery_tag > confirmed && (ack.multiple || ack.delivery_tag == confirmed + 1));
                confirmed = ack.delivery_tag;
            }
            other => panic!("{other:?}"),
        }
    }
    server.has("q", MESSAGES, 0).await;
}
