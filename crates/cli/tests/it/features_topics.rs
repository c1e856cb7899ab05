//! What topics with a log do: versions, keys, producers, groups, replay by time, and what an acknowledgement publishes.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::features::{Api, texts};
use crate::harness::Server;
use crate::ws::Ws;

#[test]
fn a_key_is_read_back_and_written_only_at_its_expected_version() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("topic create prices --retain forever --key-index");
    let price = |key: &str, text: &str| [json!({"key": key, "subject": format!("prices.{key}"), "text": text})];
    let version = |published: Vec<Value>| published[0]["position"]["offset"].as_u64().unwrap();

    // First one: there must be none yet.
    let first = version(api.publish("topics/prices?expect_key_version=none", &price("a", "1")));
    let problem = api.publish_refused(412, "wrong-version", "topics/prices?expect_key_version=none", &price("a", "2"));
    assert_eq!(problem["actual_version"], json!(first), "{problem}");
    let second = version(api.publish(&format!("topics/prices?expect_key_version={first}"), &price("a", "2")));
    api.publish_refused(412, "wrong-version", &format!("topics/prices?expect_key_version={first}"), &price("a", "3"));
    api.publish("topics/prices", &price("b", "9"));
    assert_eq!(api.get("topics/prices/keys/a")["message"]["text"], json!("2"));
    assert_eq!(api.get("topics/prices/keys/a")["position"]["offset"], json!(second));
    assert_eq!(texts(&api.get("topics/prices/keys/a/messages")["records"]), ["1", "2"]);
    assert_eq!(texts(&api.get("topics/prices/keys/YQ/messages?base64=true")["records"]), ["1", "2"]);
    api.refused(404, "not-found", "GET", "topics/prices/keys/none", &Value::Null);

    // The same by the command line.
    assert_eq!(server.run("topic get prices a --body"), "2\n");
    assert_eq!(server.run("topic get prices a --all --body"), "1\n2\n");
    assert_eq!(server.run("topic get prices a -o json").lines().count(), 1);
    assert!(server.fails(3, "topic get prices nothing").contains("no record"));
    let said = server.fails(4, &format!("publish prices.a 3 --key a --expect-version {first}"));
    assert!(said.contains("read the current value"), "{said}");
    server.run("publish prices.c 1 --key c --expect-version none");
    server.run("publish prices.series 1 --expect-version none");
    server.fails(4, "publish prices.series 2 --expect-version none");

    // A message without a key has its subject as its series.
    let event = |text: &str| [json!({"subject": "prices.log", "text": text})];
    let first = version(api.publish("topics/prices?expect_subject_version=none", &event("1")));
    api.publish_refused(412, "wrong-version", "topics/prices?expect_subject_version=none", &event("2"));
    api.publish(&format!("topics/prices?expect_subject_version={first}"), &event("2"));

    // Of two that race for a version, one wins.
    let race = |n: u32| {
        let (url, path) = (&server, "topics/prices?expect_key_version=none");
        let mut api = Api::new(url);
        api.http_status(path, &price("race", &n.to_string()))
    };
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8).map(|n| scope.spawn(move || race(n))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 412)), "{statuses:?}");

    server.run("topic create plain --retain forever");
    let problem = api.publish_refused(400, "invalid-value", "topics/plain?expect_key_version=none", &price("a", "1"));
    assert!(problem["detail"].as_str().unwrap().contains("key_index"), "{problem}");
    api.refused(409, "no-key-index", "GET", "topics/plain/keys/a", &Value::Null);
    server.run("topic create logless");
    api.refused(409, "no-log", "GET", "topics/logless/messages", &Value::Null);

    // After a restart the versions are what they were.
    server.signal("KILL");
    server.wait();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    assert_eq!(api.get("topics/prices/keys/a")["message"]["text"], json!("2"));
    api.publish_refused(412, "wrong-version", "topics/prices?expect_key_version=none", &price("a", "3"));
    api.publish(&format!("topics/prices?expect_key_version={second}"), &price("a", "3"));
}

#[test]
fn an_idempotent_producer_is_stored_once_in_sequence_and_fenced_by_a_newer_one() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("topic create log --retain forever");
    let stamp = |epoch: u32, sequence: u32| {
        format!("topics/log?producer_id=p&producer_epoch={epoch}&producer_sequence={sequence}")
    };
    let two = |from: u32| [from, from + 1].map(|n| json!({"text": n.to_string()}));
    assert_eq!(api.publish(&stamp(0, 0), &two(0))[1]["position"]["offset"], json!(1));
    let again = api.publish(&stamp(0, 0), &two(0));
    assert!(again.iter().all(|one| one["duplicate"] == json!(true)), "{again:?}");
    assert_eq!(
        [0, 1].map(|at| again[at]["position"]["offset"].as_u64()),
        [Some(0), Some(1)],
        "where the first ones are"
    );
    let problem = api.publish_refused(409, "out-of-sequence", &stamp(0, 4), &two(4));
    assert_eq!(problem["expected"], json!(2), "{problem}");
    api.publish(&stamp(0, 2), &two(2));
    server.signal("KILL");
    server.wait();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    assert_eq!(api.publish(&stamp(0, 2), &two(2))[0]["duplicate"], json!(true), "it is known after a kill");
    api.publish(&stamp(1, 0), &two(4));
    let problem = api.publish_refused(409, "producer-fenced", &stamp(0, 4), &two(9));
    assert_eq!(problem["expected"], json!(1), "the epoch in force: {problem}");
    assert_eq!(texts(&api.get("topics/log/messages")["records"]), ["0", "1", "2", "3", "4", "5"]);
    api.refused(400, "invalid-value", "POST", "topics/log/messages?producer_id=p", &json!({}));
}

#[test]
fn a_topic_takes_a_dedup_id_once_and_a_duplicate_is_told_where_the_first_one_is() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("topic create once --retain forever --partitions 3 --dedup-window 1h");
    server.run("queue create copy");
    server.run("binding create once copy");
    let message = |id: &str| [json!({"dedup_id": id, "key": id, "text": id})];
    api.publish("topics/once", &message("b"));
    let first = api.publish("topics/once", &message("a"))[0].clone();
    let again = api.publish("topics/once", &message("a"))[0].clone();
    assert_eq!(again["duplicate"], json!(true));
    assert_eq!(again["position"], first["position"], "it is told where the first one is");
    assert_eq!(api.drain("copy"), ["b", "a"]);
    // In one batch too the second is a duplicate, and the others are where they would be without it.
    let batch = [json!({"dedup_id": "c", "text": "c"}), json!({"dedup_id": "c", "text": "d"}), json!({"text": "e"})];
    let published = api.publish("topics/once?partition=1", &batch);
    assert_eq!(
        [&published[0], &published[1], &published[2]].map(|one| one["duplicate"] == json!(true)),
        [false, true, false]
    );
    let offset = |at: usize| published[at]["position"]["offset"].as_u64().unwrap();
    assert_eq!(offset(2), offset(0) + 1);
    // The id is known after a kill.
    server.signal("KILL");
    server.wait();
    let server = Server::start(data.path());
    assert_eq!(Api::new(&server).publish("topics/once", &message("a"))[0]["duplicate"], json!(true));
}

#[test]
fn a_log_is_read_from_an_offset_or_a_time_and_says_what_is_not_there_any_more() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    let now = || i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    server.run("topic create log --retain forever");
    server.run_with("publish log.line --lines -", "0\n1\n2\n");
    // The next record is appended in a later millisecond.
    let last = api.get("topics/log/messages?from=2")["records"][0]["appended_ms"].as_i64().unwrap();
    while now() <= last {}
    let middle = now();
    server.run_with("publish log.line --lines -", "3\n4\n");
    let from = |api: &mut Api, from: &str| texts(&api.get(&format!("topics/log/messages?from={from}"))["records"]);
    assert_eq!(from(&mut api, "3"), ["3", "4"]);
    assert_eq!(from(&mut api, &format!("@{middle}")), ["3", "4"]);
    assert_eq!(from(&mut api, "latest"), [""; 0]);
    let problem = api.refused(416, "offset-out-of-range", "GET", "topics/log/messages?from=6", &Value::Null);
    assert_eq!((&problem["start"], &problem["end"]), (&json!(0), &json!(5)));
    let page = api.get("topics/log/messages?max=2");
    assert_eq!((&page["next"], &page["end"]), (&json!(2), &json!(5)));

    // What retention took is not passed over in silence.
    server.run("topic update log --retain-records 2");
    api.until("topics/log", |topic| topic["partitions"][0]["start"] == json!(3));
    let problem = api.refused(416, "offset-out-of-range", "GET", "topics/log/messages?from=2", &Value::Null);
    assert_eq!((&problem["start"], &problem["end"]), (&json!(3), &json!(5)), "{problem}");
    assert!(server.fails(4, "consume --topic log --from 2 --wait 0s").contains("earliest"));
    assert_eq!(from(&mut api, "earliest"), ["3", "4"]);
    assert_eq!(from(&mut api, "@0"), ["3", "4"], "a time is answered by what there is");
    let mut follower = Ws::new(&server);
    follower.send(&json!({"tail": {"id": "t", "topic": "log", "from": "0", "credit": 1}}));
    assert_eq!(follower.next()["failed"]["problem"]["start"], json!(3));

    // A group is moved by offset and by time.
    server.run("group create audit --topic log");
    // A seek is a change that members must hear of: they join again.
    let fetch = |api: &mut Api| {
        let generation = api.post("groups/audit/join", &json!({"member": "m"}))["generation"].clone();
        texts(&api.post("groups/audit/fetch", &json!({"member": "m", "generation": generation}))["records"])
    };
    assert_eq!(fetch(&mut api), ["3", "4"]);
    api.post("groups/audit/seek", &json!({"to": "latest"}));
    assert_eq!(fetch(&mut api), [""; 0]);
    api.post("groups/audit/seek", &json!({"to": format!("@{middle}")}));
    assert_eq!(fetch(&mut api), ["3", "4"]);
    api.post("groups/audit/seek", &json!({"to": "4"}));
    assert_eq!(fetch(&mut api), ["4"]);
    server.run("group seek audit earliest");
    assert_eq!(api.get("groups/audit")["partitions"][0]["lag"], json!(2));
    api.refused(416, "offset-out-of-range", "POST", "groups/audit/seek", &json!({"to": "2"}));
    api.refused(416, "offset-out-of-range", "POST", "groups/audit/seek", &json!({"to": "6"}));
}

#[test]
fn members_of_a_group_share_its_partitions_by_presence_leases() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("topic create log --retain forever --partitions 4");
    api.put("groups/g", &json!({"topic": "log", "session_ms": 1000}));
    let join = |api: &mut Api, member: &str| api.post("groups/g/join", &json!({"member": member}));
    assert_eq!(join(&mut api, "a")["partitions"], json!([0, 1, 2, 3]));
    let second = join(&mut api, "b");
    let first = join(&mut api, "a");
    assert_eq!(first["generation"], second["generation"]);
    let count = |answer: &Value| answer["partitions"].as_array().unwrap().len();
    assert_eq!((count(&first), count(&second)), (2, 2), "{first} {second}");

    // A member reads its own partitions, and commits with its generation only.
    api.publish("topics/log", &(0..40).map(|n| json!({"key": format!("k{n}"), "text": "x"})).collect::<Vec<_>>());
    join(&mut api, "a");
    join(&mut api, "b");
    let current = join(&mut api, "b");
    let fetched = api.post("groups/g/fetch", &json!({"member": "b", "generation": current["generation"]}));
    let mine = current["partitions"].as_array().unwrap().clone();
    let records = fetched["records"].as_array().unwrap();
    assert!(
        !records.is_empty() && records.iter().all(|record| mine.contains(&record["position"]["partition"])),
        "{fetched}"
    );
    let old = json!({"member": "b", "generation": 0, "offsets": [{"partition": mine[0], "offset": 1}]});
    api.refused(409, "not-a-member", "POST", "groups/g/commit", &old);

    // Who gives no sign of life loses its partitions to those who do.
    let all = loop {
        let answer = join(&mut api, "b");
        if count(&answer) == 4 {
            break answer;
        }
    };
    assert!(all["generation"].as_u64() > current["generation"].as_u64());
    let commit = json!({"member": "b", "generation": all["generation"], "offsets": [{"partition": 0, "offset": 1}]});
    api.post("groups/g/commit", &commit);
    assert_eq!(api.get("groups/g")["partitions"][0]["committed"], json!(1));
    api.refused(
        409,
        "not-a-member",
        "POST",
        "groups/g/fetch",
        &json!({"member": "a", "generation": all["generation"]}),
    );
    api.post("groups/g/leave", &json!({"member": "b"}));
    assert_eq!(api.get("groups/g")["members"], json!([]));
    api.refused(409, "not-a-member", "POST", "groups/g/leave", &json!({"member": "b"}));
    api.refused(404, "not-found", "PUT", "groups/h", &json!({"topic": "nothing"}));
    server.run("topic create logless");
    let problem = api.refused(400, "invalid-value", "PUT", "groups/h", &json!({"topic": "logless"}));
    assert!(problem["detail"].as_str().unwrap().contains("retention"), "{problem}");
}

#[test]
fn an_acknowledgement_and_what_it_led_to_are_one_commit() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("queue create work");
    server.run("queue create tiny --max-messages 1 --overflow reject");
    server.run("topic create done --retain forever");
    api.text("queues/work", "order");
    let taken = api.next("work");
    let publishes = |to: Value| {
        json!({"receipt": taken["receipt"], "publishes": [
            {"to": {"topic": "done"}, "messages": [{"text": "paid"}]},
            {"to": to, "messages": [{"text": "1"}, {"text": "2"}]},
        ]})
    };
    // One part that fails leaves all as it was: the delivery is still out.
    let path = "queues/work/ack-and-publish";
    api.refused(429, "queue-full", "POST", path, &publishes(json!({"queue": "tiny"})));
    api.refused(404, "not-found", "POST", path, &publishes(json!({"queue": "nothing"})));
    assert_eq!(api.get("topics/done/messages")["records"], json!([]));
    assert_eq!(api.get("queues/work")["depth"]["in_flight"], json!(1));
    server.run("queue create next");
    let answer = api.post(path, &publishes(json!({"queue": "next"})));
    assert_eq!(answer["published"].as_array().unwrap().len(), 3, "{answer}");
    assert_eq!(api.get("queues/work")["depth"]["in_flight"], json!(0));
    assert_eq!(api.drain("next"), ["1", "2"]);
    api.refused(410, "unknown-delivery", "POST", path, &publishes(json!({"queue": "next"})));
    assert_eq!(texts(&api.get("topics/done/messages")["records"]), ["paid"], "once");
}
