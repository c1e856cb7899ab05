//! Entities through a session, over the in-memory engine.

use std::sync::Arc;

use broker::definitions::{DeadLetterConfig, OverflowConfig, Permissions};
use broker::{Broker, BrokerOptions, Credentials, PublishOptions, PublishTo, Session, UserChange};
use log::MemoryLog;
use testkit::ManualClock;
use types::{Headers, Message, Value};

use super::binding::{self, Binding, Destination};
use super::exchange::{self, RouteTo};
use super::queue::{self, Found};
use super::{kind, stream};
use crate::fault::Fault;

fn broker() -> Broker {
    Broker::open(Arc::new(MemoryLog::new()), Arc::new(ManualClock::new()), BrokerOptions::default()).unwrap()
}

fn session() -> Session {
    let broker = broker();
    let principal = broker.authenticate(&Credentials::Anonymous).unwrap();
    broker.session(&principal, "default").unwrap()
}

fn table(entries: &[(&str, Value)]) -> Headers {
    entries.iter().map(|(name, value)| ((*name).into(), value.clone())).collect()
}

fn exchange<'a>(name: &'a str, kind: &'a str) -> exchange::Declare<'a> {
    exchange::Declare { name, kind, durable: true, auto_delete: false, internal: false, arguments: Headers::new() }
}

fn queue(name: &str) -> queue::Declare<'_> {
    queue::Declare { name, durable: true, exclusive: false, auto_delete: false, arguments: Headers::new() }
}

fn queue_with<'a>(name: &'a str, arguments: &[(&str, Value)]) -> queue::Declare<'a> {
    queue::Declare { arguments: table(arguments), ..queue(name) }
}

fn to_queue<'a>(queue: &'a str, source: &'a str, key: &'a str) -> Binding<'a> {
    Binding { destination: Destination::Queue(queue), source, key, arguments: Headers::new() }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Fault>, code: u16, text: &str) {
    let fault = result.unwrap_err();
    assert_eq!((fault.code, fault.text.as_str()), (code, text));
}

/// Publishes as a channel does; gives how many queues have it.
async fn publish(session: &Session, exchange: &str, key: &str, headers: Headers) -> u32 {
    let to = match exchange::route(session, exchange).unwrap().to {
        RouteTo::Exchange(to) => to,
        RouteTo::Default => Arc::new(queue::target(session, key).unwrap().unwrap()),
    };
    let message = Message { headers, ..Message::new(key.to_owned(), "body") };
    session.publish(&to, vec![message], PublishOptions::default()).await.unwrap()[0].queues
}

#[tokio::test]
async fn every_vhost_has_the_predeclared_exchanges() {
    let session = session();
    for _ in 0..2 {
        exchange::ensure_predeclared(&session).await.unwrap();
    }
    let kinds =
        [("direct", "direct"), ("fanout", "fanout"), ("topic", "topic"), ("headers", "headers"), ("match", "headers")];
    for (name, kind) in kinds {
        let name = format!("amq.{name}");
        exchange::check(&session, &name).unwrap();
        exchange::declare(&session, exchange(&name, kind)).await.unwrap();
    }
    let refusal = "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed";
    refused(exchange::delete(&session, "amq.direct", false).await, 403, refusal);
    let refusal = "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'";
    refused(exchange::route(&session, "amq.rabbitmq.trace"), 403, refusal);
    let refusal = "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'";
    refused(exchange::declare(&session, exchange("amq.mine", "direct")).await, 403, refusal);
}

#[tokio::test]
async fn an_exchange_is_declared_again_only_as_it_is() {
    let session = session();
    exchange::declare(&session, exchange("x", "direct")).await.unwrap();
    exchange::declare(&session, exchange("x", "direct")).await.unwrap();
    let text = |arg: &str, rest: &str| {
        format!("PRECONDITION_FAILED - inequivalent arg '{arg}' for exchange 'x' in vhost '/': {rest}")
    };
    let other = exchange::declare(&session, exchange("x", "fanout")).await;
    refused(other, 406, &text("type", "received 'fanout' but current is 'direct'"));
    let other = exchange::Declare { durable: false, ..exchange("x", "direct") };
    refused(exchange::declare(&session, other).await, 406, &text("durable", "received 'false' but current is 'true'"));
    let other = exchange::Declare { auto_delete: true, ..exchange("x", "direct") };
    let refusal = text("auto_delete", "received 'true' but current is 'false'");
    refused(exchange::declare(&session, other).await, 406, &refusal);
    let arguments = table(&[("alternate-exchange", Value::from("y"))]);
    let other = exchange::Declare { arguments, ..exchange("x", "direct") };
    let refusal = text("alternate-exchange", "received the value 'y' of type 'longstr' but current is none");
    refused(exchange::declare(&session, other).await, 406, &refusal);
}

#[tokio::test]
async fn what_is_no_exchange_is_said_so() {
    let session = session();
    refused(exchange::check(&session, "x"), 404, "NOT_FOUND - no exchange 'x' in vhost '/'");
    refused(exchange::route(&session, "x"), 404, "NOT_FOUND - no exchange 'x' in vhost '/'");
    exchange::delete(&session, "x", false).await.unwrap();
    let default = "ACCESS_REFUSED - operation not permitted on the default exchange";
    refused(exchange::check(&session, ""), 403, default);
    refused(exchange::declare(&session, exchange("", "direct")).await, 403, default);
    refused(exchange::delete(&session, "", false).await, 403, default);
    queue::declare(&session, queue("q")).await.unwrap();
    refused(binding::bind(&session, to_queue("q", "", "k")).await, 403, default);
    let unknown = exchange::declare(&session, exchange("x", "round-robin")).await;
    refused(unknown, 406, "PRECONDITION_FAILED - unknown exchange type 'round-robin'");
}

#[tokio::test]
async fn names_below_one_another_are_no_obstacle() {
    let session = session();
    for name in ["a", "a.b", "a.b.c"] {
        exchange::declare(&session, exchange(name, "topic")).await.unwrap();
    }
}

#[tokio::test]
async fn each_kind_of_exchange_routes_by_its_own_rule() {
    let session = session();
    for kind in ["direct", "fanout", "topic", "headers"] {
        exchange::declare(&session, exchange(kind, kind)).await.unwrap();
        queue::declare(&session, queue(kind)).await.unwrap();
    }
    binding::bind(&session, to_queue("direct", "direct", "a.b")).await.unwrap();
    binding::bind(&session, to_queue("fanout", "fanout", "ignored")).await.unwrap();
    binding::bind(&session, to_queue("topic", "topic", "a.*.>")).await.unwrap();
    let arguments = table(&[("x-match", Value::from("any")), ("a", Value::int(1)), ("x-b", Value::int(2))]);
    let headers = Binding { arguments, ..to_queue("headers", "headers", "") };
    binding::bind(&session, headers).await.unwrap();
    let none = Headers::new;
    assert_eq!(publish(&session, "direct", "a.b", none()).await, 1);
    assert_eq!(publish(&session, "direct", "a.c", none()).await, 0);
    assert_eq!(publish(&session, "fanout", "anything", none()).await, 1);
    // `>` is a word like any other.
    assert_eq!(publish(&session, "topic", "a.b.>", none()).await, 1);
    assert_eq!(publish(&session, "topic", "a.b.c", none()).await, 0);
    assert_eq!(publish(&session, "headers", "", table(&[("a", Value::int(1))])).await, 1);
    // Names that begin with x- count only if the binding says so.
    assert_eq!(publish(&session, "headers", "", table(&[("x-b", Value::int(2))])).await, 0);
    assert_eq!(publish(&session, "", "direct", none()).await, 1);
}

#[tokio::test]
async fn headers_with_x_count_if_asked_for_and_a_null_asks_for_presence() {
    let session = session();
    exchange::declare(&session, exchange("h", "headers")).await.unwrap();
    queue::declare(&session, queue("q")).await.unwrap();
    let arguments = table(&[("x-match", Value::from("all-with-x")), ("x-a", Value::int(1)), ("b", Value::Null)]);
    binding::bind(&session, Binding { arguments, ..to_queue("q", "h", "") }).await.unwrap();
    assert_eq!(publish(&session, "h", "", table(&[("x-a", Value::int(1)), ("b", Value::from("any"))])).await, 1);
    assert_eq!(publish(&session, "h", "", table(&[("b", Value::from("any"))])).await, 0);
    let arguments = table(&[("x-match", Value::from("some"))]);
    let bad = binding::bind(&session, Binding { arguments, ..to_queue("q", "h", "") }).await;
    assert!(bad.unwrap_err().text.starts_with("PRECONDITION_FAILED - Invalid x-match field value"));
}

#[tokio::test]
async fn a_binding_is_known_by_its_key_and_arguments() {
    let session = session();
    exchange::declare(&session, exchange("f", "fanout")).await.unwrap();
    queue::declare(&session, queue("q")).await.unwrap();
    for key in ["a", "b", "a"] {
        binding::bind(&session, to_queue("q", "f", key)).await.unwrap();
    }
    let keys = |session: &Session| -> Vec<String> {
        let all = session.bindings(None, None).unwrap();
        let mut keys: Vec<String> = all.iter().map(|binding| binding::key_of(&binding.config)).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&session), ["a", "b"]);
    binding::unbind(&session, to_queue("q", "f", "a")).await.unwrap();
    binding::unbind(&session, to_queue("q", "f", "never bound")).await.unwrap();
    assert_eq!(keys(&session), ["b"]);
    let missing = binding::bind(&session, to_queue("none", "f", "")).await;
    refused(missing, 404, "NOT_FOUND - no queue 'none' in vhost '/'");
    let missing = binding::unbind(&session, to_queue("q", "none", "")).await;
    refused(missing, 404, "NOT_FOUND - no exchange 'none' in vhost '/'");
}

#[tokio::test]
async fn exchanges_feed_exchanges_and_hashes_weigh_their_bindings() {
    let session = session();
    exchange::declare(&session, exchange("in", "direct")).await.unwrap();
    exchange::declare(&session, exchange("hash", "x-consistent-hash")).await.unwrap();
    queue::declare(&session, queue("q")).await.unwrap();
    let onward = Binding { destination: Destination::Exchange("hash"), ..to_queue("", "in", "k") };
    binding::bind(&session, onward).await.unwrap();
    let bad = binding::bind(&session, to_queue("q", "hash", "much")).await;
    refused(bad, 406, "PRECONDITION_FAILED - The binding key must be an integer: <<\"much\">>");
    let bad = binding::bind(&session, to_queue("q", "hash", "0")).await;
    refused(bad, 406, "PRECONDITION_FAILED - The binding key must be greater than 0");
    binding::bind(&session, to_queue("q", "hash", "10")).await.unwrap();
    assert_eq!(publish(&session, "in", "k", Headers::new()).await, 1);
    let used = exchange::delete(&session, "hash", true).await;
    refused(used, 406, "PRECONDITION_FAILED - exchange 'hash' in vhost '/' in use");
    exchange::delete(&session, "hash", false).await.unwrap();
}

#[tokio::test]
async fn a_delayed_exchange_routes_as_its_inner_type_and_says_that_it_delays() {
    let session = session();
    let bare = exchange::declare(&session, exchange("later", "x-delayed-message")).await;
    assert_eq!(bare.unwrap_err().code, 406);
    let arguments = table(&[("x-delayed-type", Value::from("direct"))]);
    let declare = exchange::Declare { arguments, ..exchange("later", "x-delayed-message") };
    exchange::declare(&session, declare.clone()).await.unwrap();
    exchange::declare(&session, declare).await.unwrap();
    assert!(exchange::route(&session, "later").unwrap().delayed);
    assert_eq!(kind::of(&exchange::find(&session, "later").unwrap().config), "x-delayed-message");
    let other = exchange::declare(&session, exchange("later", "direct")).await;
    let text = "inequivalent arg 'type' for exchange 'later' in vhost '/': received 'direct' but current is 'x-delayed-message'";
    refused(other, 406, &format!("PRECONDITION_FAILED - {text}"));
}

#[tokio::test]
async fn a_queue_is_declared_again_only_as_it_is() {
    let session = session();
    let ttl = |ms| queue_with("q", &[("x-message-ttl", Value::int(ms)), ("x-mine", Value::from("shown"))]);
    queue::declare(&session, ttl(1000)).await.unwrap();
    queue::declare(&session, ttl(1000)).await.unwrap();
    let text = |arg: &str, rest: &str| {
        format!("PRECONDITION_FAILED - inequivalent arg '{arg}' for queue 'q' in vhost '/': {rest}")
    };
    let refusal = text("x-message-ttl", "received '2000' but current is '1000'");
    refused(queue::declare(&session, ttl(2000)).await, 406, &refusal);
    let refusal = text("x-message-ttl", "received none but current is the value '1000' of type 'signedint'");
    refused(queue::declare(&session, queue("q")).await, 406, &refusal);
    let other = queue::Declare { durable: false, ..ttl(1000) };
    refused(queue::declare(&session, other).await, 406, &text("durable", "received 'false' but current is 'true'"));
    let other = queue_with("q", &[("x-message-ttl", Value::int(1000)), ("x-queue-type", Value::from("quorum"))]);
    let refusal = text("x-queue-type", "received 'quorum' but current is 'classic'");
    refused(queue::declare(&session, other).await, 406, &refusal);
    // What nobody acts on is not compared, and saying the default type says nothing.
    let same = queue_with("q", &[("x-message-ttl", Value::int(1000)), ("x-queue-type", Value::from("classic"))]);
    queue::declare(&session, same).await.unwrap();
}

#[tokio::test]
async fn an_exclusive_queue_is_its_connections_alone_and_goes_with_it() {
    let mine = session().with_owner();
    let theirs = mine.with_owner();
    let exclusive = queue::Declare { exclusive: true, ..queue("q") };
    queue::declare(&mine, exclusive.clone()).await.unwrap();
    queue::declare(&mine, exclusive.clone()).await.unwrap();
    queue::passive(&mine, "q").unwrap();
    let refusal = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally declared on \
                   another connection or the exclusive property value does not match that of the original declaration.";
    refused(queue::declare(&theirs, exclusive).await, 405, refusal);
    refused(queue::passive(&theirs, "q"), 405, refusal);
    refused(queue::purge(&theirs, "q").await, 405, refusal);
    refused(queue::delete(&theirs, "q", false, false).await, 405, refusal);
    exchange::declare(&mine, exchange("x", "fanout")).await.unwrap();
    refused(binding::bind(&theirs, to_queue("q", "x", "")).await, 405, refusal);
    binding::bind(&mine, to_queue("q", "x", "")).await.unwrap();
    // Not declared as exclusive, it is another queue even to its own connection.
    refused(queue::declare(&mine, queue("q")).await, 405, refusal);
    mine.delete_owned().await.unwrap();
    refused(queue::passive(&theirs, "q"), 404, "NOT_FOUND - no queue 'q' in vhost '/'");
}

#[tokio::test]
async fn an_exchange_may_name_an_alternate_that_is_not_there_yet_and_goes_with_its_last_binding() {
    let session = session();
    let arguments = table(&[("alternate-exchange", Value::from("rest"))]);
    let declare = exchange::Declare { arguments, auto_delete: true, ..exchange("x", "direct") };
    exchange::declare(&session, declare).await.unwrap();
    exchange::declare(&session, exchange("rest", "fanout")).await.unwrap();
    queue::declare(&session, queue("q")).await.unwrap();
    binding::bind(&session, to_queue("q", "rest", "")).await.unwrap();
    assert_eq!(publish(&session, "x", "nobody", Headers::new()).await, 1);
    exchange::delete(&session, "rest", false).await.unwrap();
    binding::bind(&session, to_queue("q", "x", "k")).await.unwrap();
    binding::unbind(&session, to_queue("q", "x", "k")).await.unwrap();
    assert_eq!(exchange::check(&session, "x").unwrap_err().code, 404);
}

#[tokio::test]
async fn a_server_named_queue_has_a_name_like_rabbitmqs() {
    let session = session();
    let declared = queue::declare(&session, queue("")).await.unwrap();
    let random = declared.name.strip_prefix("amq.gen-").unwrap();
    assert_eq!(random.len(), 22);
    let refusal = format!("ACCESS_REFUSED - queue name '{}' contains reserved prefix 'amq.*'", declared.name);
    refused(queue::declare(&session, queue(&declared.name)).await, 403, &refusal);
    queue::passive(&session, &declared.name).unwrap();
    let quorum = queue::declare(&session, queue_with("", &[("x-queue-type", Value::from("quorum"))])).await;
    let refusal = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue";
    refused(quorum, 406, refusal);
}

#[tokio::test]
async fn arguments_come_to_what_the_queue_does() {
    let session = session();
    exchange::declare(&session, exchange("dlx", "direct")).await.unwrap();
    let arguments = [
        ("x-queue-type", Value::from("quorum")),
        ("x-delivery-limit", Value::int(3)),
        ("x-max-length", Value::int(10)),
        ("x-dead-letter-exchange", Value::from("dlx")),
        ("x-dead-letter-routing-key", Value::from("k")),
        ("x-single-active-consumer", Value::Bool(true)),
        ("x-expires", Value::int(60_000)),
    ];
    queue::declare(&session, queue_with("q", &arguments)).await.unwrap();
    let Found::Queue(info) = queue::find(&session, "q").unwrap() else { panic!("a stream") };
    let config = info.config;
    assert_eq!(config.retry.unwrap().max_attempts, Some(4));
    assert_eq!((config.max_messages, config.overflow), (Some(10), Some(OverflowConfig::DropOldest)));
    let to = DeadLetterConfig::Topic { topic: "dlx".into(), subject: Some("k".into()), or_drop: true };
    assert_eq!((config.dead_letter, config.single_active, config.expires_ms), (Some(to), Some(true), Some(60_000)));
    assert!(!config.volatile);
    queue::declare(&session, queue_with("p", &[("x-max-priority", Value::int(10))])).await.unwrap();
    let Found::Queue(info) = queue::find(&session, "p").unwrap() else { panic!("a stream") };
    assert_eq!((info.config.priority_levels, info.config.retry.unwrap().max_attempts), (Some(11), Some(0)));
    let transient = queue::Declare { durable: false, ..queue("t") };
    queue::declare(&session, transient.clone()).await.unwrap();
    queue::declare(&session, transient).await.unwrap();
    let Found::Queue(info) = queue::find(&session, "t").unwrap() else { panic!("a stream") };
    assert!(info.config.volatile);
}

#[tokio::test]
async fn purging_and_deleting_count_messages_and_respect_conditions() {
    let session = session();
    queue::declare(&session, queue("q")).await.unwrap();
    for _ in 0..3 {
        publish(&session, "", "q", Headers::new()).await;
    }
    assert_eq!(queue::passive(&session, "q").unwrap().messages, 3);
    let full = queue::delete(&session, "q", false, true).await;
    refused(full, 406, "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty");
    assert_eq!(queue::purge(&session, "q").await.unwrap(), 3);
    publish(&session, "", "q", Headers::new()).await;
    assert_eq!(queue::delete(&session, "q", true, false).await.unwrap(), 1);
    assert_eq!(queue::delete(&session, "q", false, false).await.unwrap(), 0);
    refused(queue::purge(&session, "q").await, 404, "NOT_FOUND - no queue 'q' in vhost '/'");
    refused(queue::passive(&session, "q"), 404, "NOT_FOUND - no queue 'q' in vhost '/'");
}

#[tokio::test]
async fn a_stream_is_a_topic_with_a_log_and_bound_like_a_queue() {
    let session = session();
    exchange::declare(&session, exchange("x", "direct")).await.unwrap();
    let arguments = [
        ("x-queue-type", Value::from("stream")),
        ("x-max-age", Value::from("7D")),
        ("x-max-length-bytes", Value::int(1 << 30)),
        ("x-stream-max-segment-size-bytes", Value::int(1 << 20)),
    ];
    for _ in 0..2 {
        queue::declare(&session, queue_with("s", &arguments)).await.unwrap();
    }
    binding::bind(&session, to_queue("s", "x", "k")).await.unwrap();
    publish(&session, "x", "k", Headers::new()).await;
    publish(&session, "", "s", Headers::new()).await;
    assert_eq!(queue::target(&session, "s").unwrap(), Some(PublishTo::Topic("stream.s".into())));
    let Found::Stream(topic) = queue::find(&session, "s").unwrap() else { panic!("a queue") };
    assert_eq!((queue::records(&topic), stream::queue_of(&topic.name, &topic.config)), (2, Some("s")));
    let retention = topic.config.retention.unwrap();
    assert_eq!((retention.max_age_ms, retention.max_bytes), (Some(7 * 86_400_000), Some(1 << 30)));
    // A stream's log is no exchange.
    refused(exchange::check(&session, "stream.s"), 404, "NOT_FOUND - no exchange 'stream.s' in vhost '/'");
    assert_eq!(exchange::declare(&session, exchange("stream.s", "fanout")).await.unwrap_err().code, 406);
    let fleeting = queue::Declare { durable: false, ..queue_with("f", &arguments) };
    let refusal = "PRECONDITION_FAILED - invalid property 'non-durable' for queue 'f' in vhost '/'";
    refused(queue::declare(&session, fleeting).await, 406, refusal);
    assert_eq!(queue::purge(&session, "s").await.unwrap_err().code, 540);
    assert_eq!(queue::delete(&session, "s", true, true).await.unwrap(), 0);
    assert_eq!(queue::find(&session, "s").unwrap_err().code, 404);
}

#[tokio::test]
async fn whoever_may_not_is_told_in_rabbitmqs_words() {
    let broker = broker();
    let anonymous = broker.authenticate(&Credentials::Anonymous).unwrap();
    broker.session(&anonymous, "default").unwrap();
    let permissions = Permissions {
        configure: vec!["mine*".into()],
        write: vec![],
        read: vec!["mine*".into()],
        ..Permissions::default()
    };
    let change =
        |admin| UserChange { admin: Some(admin), password: Some("secret secret".into()), ..UserChange::default() };
    broker.put_user(&anonymous, "root", change(true)).await.unwrap();
    let login = |name: &str| Credentials::Password { user: name.into(), password: "secret secret".into() };
    let root = broker.authenticate(&login("root")).unwrap();
    let ada = UserChange { permissions: vec![("default".into(), Some(permissions))], ..change(false) };
    broker.put_user(&root, "ada", ada).await.unwrap();
    let session = broker.session(&broker.authenticate(&login("ada")).unwrap(), "default").unwrap();
    queue::declare(&session, queue("mine")).await.unwrap();
    let refusal = "ACCESS_REFUSED - configure access to queue 'theirs' in vhost '/' refused for user 'ada'";
    refused(queue::declare(&session, queue("theirs")).await, 403, refusal);
    refused(queue::passive(&session, "theirs"), 403, refusal);
    let dead = queue_with("mine.too", &[("x-dead-letter-exchange", Value::from("dlx"))]);
    let refusal = "ACCESS_REFUSED - write access to exchange 'dlx' in vhost '/' refused for user 'ada'";
    refused(queue::declare(&session, dead).await, 403, refusal);
    let refusal = "ACCESS_REFUSED - write access to queue 'mine' in vhost '/' refused for user 'ada'";
    refused(binding::bind(&session, to_queue("mine", "mine", "")).await, 403, refusal);
}
