//! What queues do: attempts, retries, dead letters, delays, bounds, order, consumers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::features::{Api, text, texts};
use crate::harness::Server;
use crate::ws::Ws;

#[test]
fn attempts_leases_and_retries_are_counted_and_end_in_a_dead_letter_with_its_story() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    let retry = json!({"max_attempts": 3, "initial_ms": 1, "cap_ms": 5, "non_retryable": ["broken"]});
    api.put("queues/work", &json!({"lease_ms": 60_000, "retry": retry}));
    assert_eq!(api.get("queues/work")["effective"]["dead_letter"], json!({"queue": "work.dlq"}));

    // A lease that ran out is an attempt, and its receipt is of no use any more.
    api.text("queues/work", "slow");
    let taken = api.post("queues/work/receive", &json!({"lease_ms": 30, "wait_ms": 5000}))["deliveries"][0].clone();
    assert_eq!((&taken["attempt"], &taken["redelivered"]), (&json!(1), &json!(false)));
    let again = api.next("work");
    assert_eq!((&again["attempt"], &again["redelivered"]), (&json!(2), &json!(true)));
    api.refused(410, "lease-expired", "POST", "queues/work/ack", &json!({"receipt": taken["receipt"]}));
    // Released, it does not count; extended, it stays out.
    api.settle("work", "release", &again);
    let again = api.next("work");
    assert_eq!(again["attempt"], json!(2));
    api.post("queues/work/extend", &json!({"receipt": again["receipt"], "by_ms": 120_000}));
    api.post("queues/work/nack", &json!({"receipt": again["receipt"], "error": "later", "after_ms": 0}));
    let last = api.next("work");
    assert_eq!(last["attempt"], json!(3));
    api.post("queues/work/nack", &json!({"receipt": last["receipt"], "error": "card declined"}));
    let dead = api.until("queues/work.dlq/messages", |answer| answer["messages"] != json!([]))["messages"][0].clone();
    let headers = &dead["message"]["headers"];
    assert_eq!(headers["ph-dead-letter-reason"], json!("max-attempts"), "{headers}");
    assert_eq!(headers["ph-dead-letter-queue"], json!("work"));
    assert_eq!(headers["ph-dead-letter-attempts"], json!(3));
    assert_eq!(headers["ph-dead-letter-error"], json!("card declined"));
    for time in ["ph-dead-letter-first-failed", "ph-dead-letter-last-failed", "ph-dead-letter-time"] {
        assert_eq!(headers[time]["type"], json!("timestamp"), "{time} in {headers}");
    }

    // A reason that is not retried, and a reject, go there at once.
    for (how, error, reason) in [("nack", "broken", "non-retryable"), ("reject", "no such order", "rejected")] {
        api.text("queues/work", how);
        let taken = api.next("work");
        api.post(&format!("queues/work/{how}"), &json!({"receipt": taken["receipt"], "error": error}));
        let there = |answer: &Value| answer["messages"].as_array().unwrap().iter().any(|one| text(one) == how);
        let dead = api.until("queues/work.dlq/messages", there);
        let dead = dead["messages"].as_array().unwrap().iter().find(|one| text(one) == how).unwrap().clone();
        assert_eq!(dead["message"]["headers"]["ph-dead-letter-reason"], json!(reason));
        assert_eq!(dead["message"]["headers"]["ph-dead-letter-attempts"], json!(1));
    }
    assert_eq!(api.get("queues/work")["counters"]["dead_lettered"], json!(3));
    api.refused(410, "unknown-delivery", "POST", "queues/work/ack", &json!({"receipt": last["receipt"]}));
    api.refused(400, "bad-receipt", "POST", "queues/work/ack", &json!({"receipt": "nonsense"}));

    // Attempts survive a kill.
    api.text("queues/work", "kept");
    let taken = api.next("work");
    api.post("queues/work/nack", &json!({"receipt": taken["receipt"], "after_ms": 0}));
    server.signal("KILL");
    server.wait();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    let again = api.next("work");
    assert!(again["attempt"].as_u64() >= Some(2) && again["redelivered"] == json!(true), "{again}");
    assert_eq!(api.get("queues/work.dlq")["depth"]["ready"], json!(3), "and so do dead letters");
}

#[test]
fn redrive_puts_dead_letters_back_at_a_rate_to_their_source_or_elsewhere() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    for queue in ["one", "two"] {
        api.put(&format!("queues/{queue}"), &json!({"dead_letter": {"queue": "dead"}}));
    }
    api.put("queues/repair", &json!({}));
    let fail = |api: &mut Api, queue: &str, count: usize| {
        let messages: Vec<Value> = (0..count).map(|n| json!({"text": format!("{queue}{n}")})).collect();
        api.publish(&format!("queues/{queue}"), &messages);
        for delivery in api.receive(queue, 1000, 5000) {
            api.settle(queue, "reject", &delivery);
        }
    };
    fail(&mut api, "one", 3);
    fail(&mut api, "two", 2);
    api.until("queues/dead", |queue| queue["depth"]["ready"] == json!(5));

    // Each goes to where it came from, without the story of its failure.
    assert_eq!(api.post("queues/dead/redrive", &json!({}))["total"], json!(5));
    let ended = api.until("queues/dead/redrive", |redrive| redrive["running"] == json!(false));
    assert_eq!((&ended["moved"], &ended["error"]), (&json!(5), &Value::Null));
    let back = api.receive("one", 10, 5000);
    assert_eq!(back.iter().map(text).collect::<Vec<_>>(), ["one0", "one1", "one2"]);
    assert_eq!((&back[0]["message"]["headers"], &back[0]["attempt"]), (&Value::Null, &json!(1)));
    assert_eq!(api.drain("two"), ["two0", "two1"]);
    for delivery in back {
        api.settle("one", "reject", &delivery);
    }

    // Elsewhere, at a rate, and stopped halfway.
    fail(&mut api, "one", 37);
    api.until("queues/dead", |queue| queue["depth"]["ready"] == json!(40));
    let begun = Instant::now();
    api.post("queues/dead/redrive", &json!({"to": "repair", "rate": 50, "max": 20}));
    api.refused(400, "invalid-value", "POST", "queues/dead/redrive", &json!({}));
    api.until("queues/dead/redrive", |redrive| redrive["running"] == json!(false));
    // The first comes at once; the other nineteen at fifty a second.
    assert!(begun.elapsed() >= Duration::from_millis(350), "{:?} for 20 at 50 a second", begun.elapsed());
    assert_eq!(api.get("queues/repair")["depth"]["ready"], json!(20));
    assert_eq!(api.get("queues/dead")["depth"]["ready"], json!(20));
    assert_eq!(server.run("dlq redrive dead --to repair --rate 1 --background").lines().count(), 1);
    server.run("dlq redrive dead --stop");
    let stopped = api.get("queues/dead/redrive");
    assert!(stopped["running"] == json!(false) && stopped["moved"].as_u64() < Some(20), "{stopped}");

    api.refused(404, "not-found", "POST", "queues/dead/redrive", &json!({"to": "nothing"}));
    api.refused(400, "invalid-value", "POST", "queues/dead/redrive", &json!({"to": "dead"}));
    api.refused(400, "invalid-value", "POST", "queues/dead/redrive", &json!({"rate": 0}));
    // What never was a dead letter has no source.
    api.text("queues/repair", "new");
    api.drain("repair");
    api.text("queues/repair", "new");
    api.post("queues/repair/redrive", &json!({}));
    let ended = api.until("queues/repair/redrive", |redrive| redrive["running"] == json!(false));
    assert!(ended["error"].as_str().unwrap().contains("name a target"), "{ended}");
    assert_eq!(api.drain("repair"), ["new"], "it stays");
}

#[test]
fn dead_letters_find_their_place_even_where_targets_lead_in_a_circle_or_nowhere() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    let target = |queue: &str| json!({"dead_letter": {"queue": queue}});
    let with = |mut config: Value, name: &str, value: Value| {
        config[name] = value;
        config
    };
    // Expiry round a circle: nobody touches the message, so it does not come back to where it was.
    api.put("queues/a", &with(target("b"), "ttl_ms", json!(20)));
    api.put("queues/b", &with(target("a"), "ttl_ms", json!(20)));
    api.text("queues/a", "round");
    let kept = api.until("queues/b.dlq", |queue| queue["depth"]["ready"] == json!(1));
    assert_eq!(kept["effective"]["dead_letter"], json!("none"), "it ends there");
    let headers = api.get("queues/b.dlq/messages")["messages"][0]["message"]["headers"].clone();
    assert_eq!(headers["ph-dead-letter-reason"], json!("cycle"), "{headers}");
    assert_eq!(headers["ph-dead-letter-path"], json!(["a", "b"]));
    // A queue that is its own target, and one that a topic leads back to.
    api.put("queues/self", &with(target("self"), "ttl_ms", json!(20)));
    api.text("queues/self", "x");
    api.until("queues/self.dlq", |queue| queue["depth"]["ready"] == json!(1));
    server.run("topic create failures");
    api.put("queues/again", &json!({"ttl_ms": 20, "dead_letter": {"topic": {"topic": "failures"}}}));
    server.run("binding create failures again");
    api.text("queues/again", "x");
    api.until("queues/again.dlq", |queue| queue["depth"]["ready"] == json!(1));
    // Where the topic leads elsewhere too, it goes there.
    server.run("queue create elsewhere");
    server.run("binding create failures elsewhere");
    api.text("queues/again", "y");
    assert_eq!(api.take("elsewhere", 1), ["y"]);
    assert_eq!(api.get("queues/again")["depth"]["ready"], json!(0));

    // No room anywhere in the circle.
    for (queue, to) in [("c", "d"), ("d", "c")] {
        let bounded = with(with(target(to), "max_messages", json!(1)), "overflow", json!("drop-oldest"));
        api.put(&format!("queues/{queue}"), &bounded);
    }
    for n in ["1", "2", "3"] {
        api.text("queues/c", n);
    }
    let held = |api: &mut Api| {
        let mut all: Vec<String> = Vec::new();
        for queue in ["c", "d", "c.dlq", "d.dlq"] {
            if api.get("queues")["items"].as_array().unwrap().iter().any(|one| one["name"] == json!(queue)) {
                all.extend(texts(&api.get(&format!("queues/{queue}/messages"))["messages"]));
            }
        }
        all.sort();
        all
    };
    api.until("queues/d.dlq", |queue| queue["depth"]["ready"] == json!(1));
    assert_eq!(held(&mut api), ["1", "2", "3"], "none is lost");

    // A consumer that rejects has touched the message: the classic pair of a work queue and a queue that delays its retries.
    api.put("queues/work", &target("wait"));
    api.put("queues/wait", &with(target("work"), "ttl_ms", json!(20)));
    api.text("queues/work", "again and again");
    for _ in 0..4 {
        let delivery = api.next("work");
        api.settle("work", "reject", &delivery);
    }
    assert_eq!(api.take("work", 1), ["again and again"]);

    // A topic that leads nowhere keeps nothing: the queue of last resort does. One that is not there is refused.
    server.run("topic create void");
    api.put("queues/careful", &json!({"dead_letter": {"topic": {"topic": "void"}}}));
    api.text("queues/careful", "precious");
    let delivery = api.next("careful");
    api.settle("careful", "reject", &delivery);
    let kept = api.until("queues/careful.dlq/messages", |answer| answer["messages"] != json!([]));
    assert_eq!(kept["messages"][0]["message"]["headers"]["ph-dead-letter-reason"], json!("rejected"));
    let missing = json!({"dead_letter": {"topic": {"topic": "nothing"}}});
    api.refused(404, "not-found", "PUT", "queues/careful", &missing);
    api.refused(404, "not-found", "PUT", "queues/new", &missing);
    assert!(server.fails(3, "queue create new --dead-letter topic:nothing").contains("nothing"));
    api.refused(409, "in-use", "DELETE", "topics/void", &Value::Null);
}

#[test]
fn delays_times_to_live_priorities_and_keys_decide_when_a_message_comes() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);

    // A delay: of a message, and of a queue.
    api.put("queues/later", &json!({}));
    let published = Instant::now();
    api.publish("queues/later", &[json!({"text": "late", "delay_ms": 300}), json!({"text": "now"})]);
    assert_eq!(api.get("queues/later")["depth"]["delayed"], json!(1));
    let waiting = api.get("queues/later/messages")["messages"].clone();
    assert_eq!((&waiting[0]["state"], &waiting[1]["state"]), (&json!("delayed"), &json!("ready")));
    assert_eq!(api.take("later", 2), ["now", "late"]);
    assert!(published.elapsed() >= Duration::from_millis(300));
    server.run("queue create slow --delay 200ms");
    let published = Instant::now();
    server.run("publish --queue slow x");
    assert_eq!(api.take("slow", 1), ["x"]);
    assert!(published.elapsed() >= Duration::from_millis(200));

    // A time to live: of a message and of a queue; what expires is a dead letter.
    server.run("queue create short --ttl 50ms");
    api.put("queues/patient", &json!({}));
    api.text("queues/short", "x");
    api.publish("queues/patient", &[json!({"text": "y", "ttl_ms": 50}), json!({"text": "stays"})]);
    for (queue, expired) in [("short", "x"), ("patient", "y")] {
        let dead = api.until(&format!("queues/{queue}.dlq/messages"), |answer| answer["messages"] != json!([]));
        assert_eq!(texts(&dead["messages"]), [expired]);
        assert_eq!(dead["messages"][0]["message"]["headers"]["ph-dead-letter-reason"], json!("expired"));
        assert_eq!(api.get(&format!("queues/{queue}"))["counters"]["expired"], json!(1));
    }
    assert_eq!(api.drain("patient"), ["stays"]);

    // Priorities: the highest first, in order within one; what is over the highest level is the highest.
    server.run("queue create ranked --priorities 10");
    let ranked = [("low", 0), ("high", 9), ("middle", 5), ("higher", 200), ("high2", 9), ("low2", 0)];
    api.publish("queues/ranked", &ranked.map(|(text, priority)| json!({"text": text, "priority": priority})));
    assert_eq!(api.drain("ranked"), ["high", "higher", "high2", "middle", "low", "low2"]);
    api.refused(400, "invalid-value", "PUT", "queues/bad", &json!({"priority_levels": 1}));

    // Per-key order: a key's next message waits for the one before, others pass.
    server.run("queue create ordered --keyed --retry-initial 20ms --retry-cap 20ms");
    let keyed = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")];
    api.publish("queues/ordered", &keyed.map(|(text, key)| json!({"text": text, "key": key})));
    let first = api.receive("ordered", 10, 5000);
    assert_eq!(first.iter().map(text).collect::<Vec<_>>(), ["a1", "b1"]);
    assert_eq!(api.get("queues/ordered")["depth"]["parked"], json!(2));
    api.settle("ordered", "nack", &first[0]);
    api.settle("ordered", "ack", &first[1]);
    assert_eq!(api.take("ordered", 3), ["a1", "a2", "a3"], "a failed one holds back its key");
}

#[test]
fn a_full_queue_rejects_or_drops_its_oldest_and_a_dedup_id_is_taken_once() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("queue create strict --max-messages 2 --overflow reject");
    server.run("queue create rolling --max-messages 2 --overflow drop-oldest");
    server.run("queue create roomy");
    server.run("topic create both");
    server.run("binding create both strict");
    server.run("binding create both roomy");
    let three = [json!({"text": "1"}), json!({"text": "2"}), json!({"text": "3"})];
    let problem = api.publish_refused(429, "queue-full", "queues/strict", &three);
    assert!(
        problem["detail"].as_str().unwrap().contains("max_messages") && problem["retry_after_ms"].is_u64(),
        "{problem}"
    );
    assert_eq!(api.get("queues/strict")["depth"]["ready"], json!(0), "a batch is taken all or none");
    api.publish("queues/strict", &three[..2]);
    api.publish_refused(429, "queue-full", "topics/both", &three[..1]);
    assert_eq!(api.get("queues/roomy")["depth"]["ready"], json!(0), "and so is a fan-out");
    let said = server.fails(4, "publish --queue strict x");
    assert!(said.contains("full"), "{said}");
    api.take("strict", 1);
    api.publish("topics/both", &three[2..]);
    assert_eq!((api.drain("strict"), api.drain("roomy")), (vec!["2".to_owned(), "3".to_owned()], vec!["3".to_owned()]));

    api.publish("queues/rolling", &three);
    let left = api.until("queues/rolling.dlq/messages", |answer| answer["messages"] != json!([]));
    assert_eq!(
        texts(&left["messages"]),
        ["1"],
        "what is dropped for room is a dead letter, unless the queue says none"
    );
    assert_eq!(left["messages"][0]["message"]["headers"]["ph-dead-letter-reason"], json!("overflow"));
    assert_eq!(api.drain("rolling"), ["2", "3"]);
    server.run("queue create small --max-bytes 100B --overflow reject --dead-letter none");
    api.publish_refused(429, "queue-full", "queues/small", &[json!({"text": "x".repeat(200)})]);

    // Dedup: by id, in a window, after a restart too.
    server.run("queue create once --dedup-window 1h");
    let copy = |id: &str, text: &str| json!({"dedup_id": id, "text": text});
    let published = api.publish("queues/once", &[copy("a", "1"), copy("a", "2"), copy("b", "3"), json!({"text": "4"})]);
    assert_eq!(
        published.iter().map(|one| one["duplicate"] == json!(true)).collect::<Vec<_>>(),
        [false, true, false, false]
    );
    assert!(server.run("publish --queue once again --dedup-id b").contains("it was there already"));
    server.signal("KILL");
    server.wait();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    assert_eq!(api.publish("queues/once", &[copy("a", "5")])[0]["duplicate"], json!(true));
    assert_eq!(api.drain("once"), ["1", "3", "4"]);
    // Once the window is over the id is free.
    server.run("queue create brief --dedup-window 50ms");
    api.publish("queues/brief", &[copy("a", "1")]);
    while api.publish("queues/brief", &[copy("a", "2")])[0]["duplicate"] == json!(true) {}
    assert_eq!(api.drain("brief"), ["1", "2"]);
}

#[test]
fn exclusive_single_active_and_prioritised_consumers_are_served_as_they_ask() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    let none = json!({});
    let (mut first, mut second) = (Ws::new(&server), Ws::new(&server));

    // Exclusive: nobody else, over any protocol's door.
    server.run("queue create mine");
    assert!(first.consume("mine", 10, &json!({"exclusive": true}))["opened"].is_object());
    let refused = second.consume("mine", 10, &none);
    assert_eq!(refused["failed"]["problem"]["type"], json!("urn:posthouse:problem:held-exclusively"), "{refused}");
    api.refused(409, "held-exclusively", "POST", "queues/mine/receive", &json!({}));
    api.text("queues/mine", "x");
    first.delivery();
    drop(first);
    // Its connection is gone: what was out comes back, and the queue is free.
    let mut first = Ws::new(&server);
    api.until("queues/mine", |queue| queue["consumers"] == json!(0));
    assert!(first.consume("mine", 10, &none)["opened"].is_object());
    assert_eq!(text(&first.delivery()), "x");

    // Single active: the second waits until the first goes.
    server.run("queue create lead --single-active");
    assert!(first.consume("lead", 10, &none)["opened"].is_object());
    assert!(second.consume("lead", 10, &none)["opened"].is_object());
    for n in ["1", "2"] {
        api.text("queues/lead", n);
        let delivery = first.delivery();
        assert_eq!(text(&delivery), n);
        first.settle("ack", &delivery);
    }
    second.quiet();
    assert_eq!(api.get("queues/lead")["consumers"], json!(2));
    first.send(&json!({"cancel": {"id": "lead"}}));
    assert_eq!(first.next()["ended"]["id"], json!("lead"));
    api.text("queues/lead", "3");
    assert_eq!(text(&second.delivery()), "3");

    // Priority: who asks for more is served first, while it has credit.
    server.run("queue create ranked");
    assert!(first.consume("ranked", 10, &none)["opened"].is_object());
    assert!(second.consume("ranked", 1, &json!({"priority": 5}))["opened"].is_object());
    api.text("queues/ranked", "a");
    assert_eq!(text(&second.delivery()), "a");
    api.text("queues/ranked", "b");
    assert_eq!(text(&first.delivery()), "b", "the other has no credit left");
    api.delete("queues/ranked");
    for client in [&mut first, &mut second] {
        let ended = client.next();
        assert_eq!(
            ended["ended"]["problem"]["status"],
            json!(410),
            "with credit or without, a consumer hears: {ended}"
        );
    }
}

#[test]
fn a_consumer_that_fails_too_often_is_paused_and_probed() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("queue create frail --breaker 0.5,4,150ms --max-attempts 0 --retry-initial 1ms --retry-cap 1ms");
    let messages: Vec<Value> = (0..6).map(|n| json!({"text": n.to_string()})).collect();
    api.publish("queues/frail", &messages);
    let mut consumer = Ws::new(&server);
    assert!(consumer.consume("frail", 1, &json!({}))["opened"].is_object());
    let more = json!({"credit": {"id": "frail", "messages": 1}});
    let mut last = Instant::now();
    for _ in 0..4 {
        let delivery = consumer.delivery();
        last = Instant::now();
        consumer.settle("nack", &delivery);
        consumer.send(&more);
    }
    let queue = api.until("queues/frail", |queue| queue["paused_consumers"] == json!(1));
    assert_eq!(queue["counters"]["failed"], json!(4), "no attempt is burnt while it is paused");
    assert_eq!(api.metric("posthouse_queue_paused_consumers{namespace=\"default\",queue=\"frail\"}"), 1.0);
    // Others are served meanwhile.
    let mut healthy = Ws::new(&server);
    healthy.consume("frail", 1, &json!({}));
    let delivery = healthy.delivery();
    healthy.settle("ack", &delivery);
    healthy.send(&json!({"cancel": {"id": "frail"}}));
    // The probe comes after the pause; it passes, and the consumer is served again.
    let probe = consumer.delivery();
    assert!(last.elapsed() >= Duration::from_millis(150), "{:?}", last.elapsed());
    consumer.settle("ack", &probe);
    assert_eq!(api.get("queues/frail")["paused_consumers"], json!(0));
    consumer.send(&more);
    consumer.delivery();
    api.refused(
        400,
        "invalid-value",
        "PUT",
        "queues/bad",
        &json!({"breaker": {"failure_ratio": 2, "window": 4, "pause_ms": 1}}),
    );
}

#[test]
fn a_queue_is_looked_at_purged_and_goes_when_unused() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("queue create work");
    api.publish("queues/work", &(0..5).map(|n| json!({"text": n.to_string()})).collect::<Vec<_>>());
    let out = api.next("work");
    let page = api.get("queues/work/messages?max=2");
    assert_eq!(texts(&page["messages"]), ["0", "1"]);
    assert_eq!((&page["messages"][0]["state"], &page["messages"][1]["state"]), (&json!("in-flight"), &json!("ready")));
    let rest = api.get(&format!("queues/work/messages?from={}", page["next"]));
    assert_eq!(texts(&rest["messages"]), ["2", "3", "4"]);
    let depth = api.get("queues/work")["depth"].clone();
    assert_eq!((&depth["ready"], &depth["in_flight"]), (&json!(4), &json!(1)), "a look takes nothing");
    assert_eq!(api.delete("queues/work/messages")["messages"], json!(4));
    api.settle("work", "ack", &out);
    let queue = api.get("queues/work");
    assert_eq!((&queue["depth"]["ready"], &queue["depth"]["in_flight"]), (&json!(0), &json!(0)));
    api.refused(404, "not-found", "DELETE", "queues/nothing/messages", &Value::Null);
    api.refused(404, "not-found", "GET", "queues/nothing/messages", &Value::Null);

    server.run("queue create brief --expires 50ms");
    let gone = Instant::now() + crate::harness::PATIENCE;
    while api.get("queues")["items"].as_array().unwrap().iter().any(|queue| queue["name"] == json!("brief")) {
        assert!(Instant::now() < gone, "an unused queue stays");
    }
    // One that goes with its last consumer, and a topic with its last binding, which was to that queue.
    server.run("queue create passing --auto-delete");
    server.run("topic create through --auto-delete --volatile");
    server.run("binding create through passing");
    api.text("queues/passing", "x");
    let out = api.next("passing");
    api.settle("passing", "ack", &out);
    assert_eq!(api.get("queues/passing")["config"]["auto_delete"], json!(true), "a receive is no standing consumer");
    let mut standing = Ws::new(&server);
    assert!(standing.consume("passing", 10, &json!({}))["opened"].is_object());
    drop(standing);
    let gone = Instant::now() + crate::harness::PATIENCE;
    while api.get("queues")["items"].as_array().unwrap().iter().any(|queue| queue["name"] == json!("passing")) {
        assert!(Instant::now() < gone, "a queue stays without its consumer");
    }
    api.refused(404, "not-found", "GET", "topics/through", &Value::Null);
    server.run("queue create fleeting --volatile");
    server.run("topic create lasting");
    server.run("topic create fleeting --volatile");
    api.text("queues/fleeting", "x");
    server.signal("TERM");
    server.wait();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    api.refused(404, "not-found", "GET", "queues/fleeting", &Value::Null);
    api.refused(404, "not-found", "GET", "topics/fleeting", &Value::Null);
    api.get("topics/lasting");
}
