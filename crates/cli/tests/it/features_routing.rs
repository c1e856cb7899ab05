//! Where a message goes: filters, router kinds, topics bound to topics, alternates, partitions.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::features::Api;
use crate::harness::Server;

/// Messages that the filters are tried on; their texts name them.
fn messages() -> Vec<Value> {
    vec![
        json!({"text": "a", "subject": "orders.eu.created", "key": "c1", "headers": {"region": "eu", "tier": "gold", "price": 120, "file": "a.png"}}),
        json!({"text": "b", "subject": "orders.us.created", "headers": {"region": "us", "price": 99.5, "file": "b.jpg"}}),
        json!({"text": "c", "subject": "orders.eu.west.paid", "headers": {"region": "EU", "vip": true}}),
        json!({"text": "d", "subject": "orders", "headers": {"address": "10.1.2.3"}}),
    ]
}

#[test]
fn a_binding_lets_through_what_its_filter_says() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    api.put("topics/orders", &json!({}));
    let field = |name: &str, tests: Value| json!({"attribute": {"field": {"header": name}, "any_of": tests}});
    let headers = |matching: &str, wanted: Value| json!({"headers": {"match": matching, "wanted": wanted}});
    let cases = [
        ("all", json!("all"), "abcd"),
        ("exact", json!({"subject_exact": "orders.us.created"}), "b"),
        ("one-word", json!({"subject": "orders.*.created"}), "ab"),
        ("any-words", json!({"subject": "orders.#"}), "abcd"),
        ("any-words-inside", json!({"subject": "orders.#.paid"}), "c"),
        ("rest", json!({"subject": "orders.eu.>"}), "ac"),
        ("headers-all", headers("all", json!([{"name": "region", "value": "eu"}, {"name": "tier"}])), "a"),
        ("headers-any", headers("any", json!([{"name": "region", "value": "us"}, {"name": "vip"}])), "bc"),
        ("equals-number", field("price", json!([{"equals": 120.0}])), "a"),
        ("ignore-case", field("region", json!([{"equals_ignore_case": "eu"}])), "ac"),
        ("prefix", field("file", json!([{"prefix": "a."}])), "a"),
        ("suffix", field("file", json!([{"suffix": ".jpg"}, {"suffix": ".gif"}])), "b"),
        ("wildcard", field("file", json!([{"wildcard": "*.*g"}])), "ab"),
        ("anything-but", field("region", json!([{"anything_but": [{"equals": "eu"}]}])), "bc"),
        ("range", field("price", json!([{"range": {"gt": 99.5, "lte": 120}}])), "a"),
        ("exists", field("price", json!([{"exists": true}])), "ab"),
        ("missing", field("region", json!([{"exists": false}])), "d"),
        ("cidr", field("address", json!([{"cidr": "10.1.0.0/16"}])), "d"),
        ("key", json!({"attribute": {"field": "key", "any_of": [{"prefix": "c"}]}}), "a"),
        ("and", json!({"and": [{"subject": "orders.eu.#"}, {"not": field("tier", json!([{"exists": true}]))}]}), "c"),
        ("or", json!({"or": [{"subject_exact": "orders"}, field("tier", json!([{"equals": "gold"}]))]}), "ad"),
    ];
    for (queue, filter, _) in &cases {
        api.put(&format!("queues/{queue}"), &json!({}));
        api.post("bindings", &json!({"topic": "orders", "target": {"queue": queue}, "filter": filter}));
    }
    let published = api.publish("topics/orders", &messages());
    for (at, name) in ["a", "b", "c", "d"].iter().enumerate() {
        let wanted = cases.iter().filter(|(_, _, want)| want.contains(name)).count();
        assert_eq!(published[at]["queues"], json!(wanted), "queues of {name}");
    }
    for (queue, filter, want) in &cases {
        assert_eq!(api.drain(queue).concat(), *want, "{queue}: {filter}");
    }

    // A body's fields, and the same filters by the command line's flags.
    server.run("queue create dear");
    server.run("binding create orders dear --filter '{\"attribute\": {\"field\": {\"body\": [\"order\", \"total\"]}, \"any_of\": [{\"range\": {\"gte\": 1000}}]}}'");
    server.run("queue create flagged");
    server.run("binding create orders flagged --any-header vip:=true --any-header region=eu");
    server.run("publish orders.x '{\"order\": {\"total\": 1000}}' --header vip:=true");
    server.run("publish orders.x '{\"order\": {\"total\": 999.9}}'");
    assert_eq!(server.run("consume dear --wait 0s --body"), "{\"order\": {\"total\": 1000}}\n");
    assert_eq!(server.run("consume flagged --wait 0s --body"), "{\"order\": {\"total\": 1000}}\n");

    let bad = |filter: Value| json!({"topic": "orders", "target": {"queue": "all"}, "filter": filter});
    let two_lower = field("price", json!([{"range": {"gt": 1, "gte": 2}}]));
    assert_eq!(api.refused(400, "invalid-value", "POST", "bindings", &bad(two_lower))["field"], json!("filter"));
    api.refused(400, "invalid-value", "POST", "bindings", &bad(field("a", json!([{"cidr": "10.1.0.0/99"}]))));
    let problem = api.refused(400, "bad-json", "POST", "bindings", &bad(json!({"subjects": "a"})));
    assert_eq!(problem["did_you_mean"], json!("subject"), "{problem}");
    let nowhere = json!({"topic": "orders", "target": {"queue": "nothing"}});
    api.refused(404, "not-found", "POST", "bindings", &nowhere);
}

#[test]
fn a_router_kind_bounds_what_bindings_may_say_and_a_hash_divides_messages() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    for queue in ["one", "two", "three"] {
        api.put(&format!("queues/{queue}"), &json!({}));
    }
    let by_subject = json!({"subject": "a.*"});
    let by_header = json!({"headers": {"match": "all", "wanted": [{"name": "n", "value": 1}]}});
    let exact = json!({"subject_exact": "a.b"});
    for (kind, fits, others) in [
        ("exact", Some(&exact), vec![&by_subject, &by_header]),
        ("subject", Some(&by_subject), vec![&by_header]),
        ("headers", Some(&by_header), vec![&by_subject]),
        ("fanout", None, vec![&exact, &by_subject, &by_header]),
    ] {
        api.put(&format!("topics/{kind}"), &json!({"router": kind, "captures": [format!("{kind}.x")]}));
        let binding = |filter: &Value| json!({"topic": kind, "target": {"queue": "one"}, "filter": filter});
        for other in others {
            api.refused(400, "invalid-value", "POST", "bindings", &binding(other));
        }
        api.post("bindings", &binding(fits.unwrap_or(&json!("all"))));
        let message = json!({"text": kind, "subject": "a.b", "headers": {"n": 1}});
        assert_eq!(api.publish(&format!("topics/{kind}"), &[message])[0]["queues"], json!(1), "{kind}");
        assert_eq!(api.drain("one"), [kind]);
    }

    // Each message to one binding: all of a key to the same, and weights are shares.
    server.run("topic create spread --router consistent-hash");
    for (queue, weight) in [("one", 1), ("two", 1), ("three", 8)] {
        server.run(&format!("binding create spread {queue} --weight {weight}"));
    }
    let keyed = |n: usize| json!({"key": format!("k{}", n % 200), "text": format!("k{}", n % 200)});
    let published = api.publish("topics/spread", &(0..600).map(keyed).collect::<Vec<_>>());
    assert!(published.iter().all(|one| one["queues"] == json!(1)), "each goes to one queue");
    let mut homes: BTreeMap<String, &str> = BTreeMap::new();
    let mut shares = BTreeMap::new();
    for queue in ["one", "two", "three"] {
        let taken = api.drain(queue);
        shares.insert(queue, taken.len());
        for key in taken {
            assert_eq!(*homes.entry(key.clone()).or_insert(queue), queue, "{key} went to two queues");
        }
    }
    assert_eq!(homes.len(), 200);
    assert!(shares["one"] > 0 && shares["two"] > 0 && shares["three"] > 300, "{shares:?}");

    // By a header: the key says nothing then.
    server.run("topic create tenants --router consistent-hash:tenant");
    for queue in ["one", "two", "three"] {
        server.run(&format!("binding create tenants {queue}"));
    }
    let of_tenant = |n: usize| json!({"key": format!("k{n}"), "headers": {"tenant": "acme"}, "text": "x"});
    api.publish("topics/tenants", &(0..50).map(of_tenant).collect::<Vec<_>>());
    let mut taken = ["one", "two", "three"].map(|queue| api.drain(queue).len());
    taken.sort_unstable();
    assert_eq!(taken, [0, 0, 50]);
    let filtered = json!({"topic": "tenants", "target": {"queue": "one"}, "filter": by_subject});
    api.refused(400, "invalid-value", "POST", "bindings", &filtered);
}

#[test]
fn topics_lead_to_topics_round_a_cycle_once_and_an_alternate_takes_the_rest() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("topic create rest --retain forever");
    for topic in ["a", "b", "c"] {
        server.run(&format!("topic create {topic} --retain forever --alternate rest"));
        server.run(&format!("queue create at-{topic}"));
        server.run(&format!("binding create {topic} at-{topic} --subject 'go.#'"));
    }
    // a → b → c → a, and c → b besides.
    server.run("binding create a b --to-topic --subject 'go.#'");
    server.run("binding create b c --to-topic");
    server.run("binding create c a --to-topic");
    server.run("binding create c b --to-topic");

    let published = api.publish("topics/a", &[json!({"subject": "go.on", "text": "round"})]);
    assert_eq!(published[0]["queues"], json!(3), "every queue of the cycle, each once");
    for queue in ["at-a", "at-b", "at-c"] {
        assert_eq!(api.drain(queue), ["round"], "{queue}");
    }
    let records =
        |api: &mut Api, topic: &str| api.get(&format!("topics/{topic}/messages"))["records"].as_array().unwrap().len();
    assert_eq!(["a", "b", "c"].map(|topic| records(&mut api, topic)), [1, 1, 1], "each log has it once");
    assert_eq!(records(&mut api, "rest"), 0);

    // What no binding of `a` takes goes to the alternate.
    api.publish("topics/a", &[json!({"subject": "stay", "text": "left over"})]);
    assert_eq!(api.get("topics/rest/messages")["records"][0]["message"]["text"], json!("left over"));
    api.refused(404, "not-found", "PUT", "topics/d", &json!({"alternate": "missing"}));
    api.refused(409, "in-use", "DELETE", "topics/rest", &Value::Null);

    // Without an alternate nothing has it, and the publisher is told.
    server.run("topic create lonely");
    let published = api.text("topics/lonely", "x");
    assert_eq!((&published["routed"], &published["queues"]), (&json!(false), &json!(0)));
    assert_eq!(api.get("topics/lonely")["unrouted"], json!(1));

    // Only other topics feed an internal one.
    server.run("topic create inner --internal");
    server.run("binding create inner at-a");
    server.run("topic create outer");
    server.run("binding create outer inner --to-topic");
    api.publish_refused(400, "invalid-value", "topics/inner", &[json!({"text": "x"})]);
    api.text("topics/outer", "y");
    assert_eq!(api.drain("at-a"), ["y"]);
}

#[test]
fn a_key_leads_to_the_partition_that_kafkas_clients_choose_and_a_subject_to_its_topic() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let mut api = Api::new(&server);
    server.run("topic create parts --retain forever --partitions 10");
    // murmur2 as in UtilsTest of Kafka's Java client, made positive, modulo ten.
    let keys = [("21", 0), ("foobar", 6), ("abc", 7)];
    let published = api.publish("topics/parts", &keys.map(|(key, _)| json!({"key": key, "text": key})));
    for ((key, partition), published) in keys.iter().zip(&published) {
        assert_eq!(published["position"]["partition"], json!(partition), "{key}");
        let records = api.get(&format!("topics/parts/messages?partition={partition}"));
        assert_eq!(records["records"][0]["message"]["key"], json!(key));
    }
    let placed = api.publish("topics/parts?partition=3", &[json!({"key": "21", "text": "x"})]);
    assert_eq!(placed[0]["position"]["partition"], json!(3), "the publisher may choose");
    api.publish_refused(404, "not-found", "topics/parts?partition=10", &[json!({"text": "x"})]);
    api.refused(404, "not-found", "GET", "topics/parts/messages?partition=10", &Value::Null);

    // One subject space: a topic captures filters of it, two can't capture the same.
    server
        .run("topic create metrics --retain forever --capture 'sensors.*.temperature' --capture 'sensors.*.humidity'");
    let published = api.publish("subjects/sensors.kitchen.humidity", &[json!({"text": "61"})]);
    assert_eq!(published[0]["position"], json!({"partition": 0, "offset": 0}));
    assert_eq!(
        api.get("topics/metrics/messages")["records"][0]["message"]["subject"],
        json!("sensors.kitchen.humidity")
    );
    assert_eq!(api.text("subjects/sensors.kitchen.light", "x")["routed"], json!(false));
    let twice = json!({"captures": ["sensors.*.temperature"]});
    let problem = api.refused(400, "invalid-value", "PUT", "topics/other", &twice);
    assert_eq!(problem["field"], json!("captures"), "{problem}");
}
