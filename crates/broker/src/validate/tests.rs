use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::definitions::{BindingTarget, QueueConfig, RetentionConfig, TopicConfig, UserConfig, WebhookConfig};

/// Checks definitions as JSON: the good ones pass, and each bad one is refused with its field and a message that holds some words.
fn check<C: DeserializeOwned>(validate: fn(&C) -> Checked, good: &[Value], bad: &[(Value, &str, &str)]) {
    let read = |config: &Value| serde_json::from_value::<C>(config.clone()).unwrap();
    for config in good {
        assert_eq!(validate(&read(config)), Ok(()), "{config}");
    }
    for (config, expected_field, words) in bad {
        match validate(&read(config)) {
            Err(DeclareError::Invalid { field, why }) => {
                assert_eq!(field, *expected_field, "{config}: {why}");
                assert!(why.contains(words), "{config}: {why:?} should hold {words:?}");
            }
            other => panic!("{config}: {other:?}"),
        }
    }
}

#[test]
fn queues() {
    let many: Vec<String> = (0..65).map(|number| number.to_string()).collect();
    let arguments: serde_json::Map<String, Value> = (0..257).map(|number| (number.to_string(), json!(1))).collect();
    check::<QueueConfig>(
        validate_queue,
        &[
            json!({}),
            json!({"lease_ms": 0, "ttl_ms": 0, "delay_ms": 0, "expires_ms": 0, "dedup_window_ms": 0, "max_messages": 0}),
            json!({"priority_levels": 2}),
            json!({"priority_levels": 256}),
            json!({"lease_ms": 604_800_000u64, "ttl_ms": 315_360_000_000u64}),
            json!({"retry": {"max_attempts": 0, "initial_ms": 5, "cap_ms": 5, "factor": 1.0}}),
            json!({"dead_letter": {"queue": "orders.dlq"}}),
            json!({"dead_letter": {"topic": {"topic": "dead", "subject": null}}}),
            json!({"volatile": true}),
            json!({"volatile": true, "durability": "memory"}),
            json!({"auto_delete": true, "volatile": true, "expires_ms": 5}),
            json!({"breaker": {"failure_ratio": 1.0, "window": 1, "pause_ms": 1}}),
        ],
        &[
            (json!({"description": "d".repeat(4097)}), "description", "at most 4096"),
            (json!({"lease_ms": 604_800_001u64}), "lease_ms", "use 0 to 604800000; 0 is until the consumer goes"),
            (json!({"ttl_ms": 315_360_000_001u64}), "ttl_ms", "leave it out for no end"),
            (json!({"delay_ms": u64::MAX}), "delay_ms", "0 is none"),
            (json!({"expires_ms": u64::MAX}), "expires_ms", "0 is never"),
            (json!({"dedup_window_ms": 604_800_001u64}), "dedup_window_ms", "use 0 to 604800000"),
            (json!({"auto_delete": true, "webhook": {"url": "http://x/"}}), "auto_delete", "leave one of both out"),
            (json!({"priority_levels": 1}), "priority_levels", "use 2 to 256, or leave it out"),
            (json!({"priority_levels": 257}), "priority_levels", "use 2 to 256"),
            (json!({"retry": {"factor": 0.5}}), "retry.factor", "use 1 to 100"),
            (json!({"retry": {"factor": 100.5}}), "retry.factor", "use 1 to 100"),
            (json!({"retry": {"initial_ms": 6, "cap_ms": 5}}), "retry.cap_ms", "below initial_ms"),
            (json!({"retry": {"cap_ms": u64::MAX}}), "retry.cap_ms", "use 0 to"),
            (json!({"retry": {"non_retryable": [""]}}), "retry.non_retryable", "empty"),
            (json!({"retry": {"non_retryable": many}}), "retry.non_retryable", "at most 64"),
            (json!({"dead_letter": {"queue": ""}}), "dead_letter.queue", "empty"),
            (json!({"dead_letter": {"topic": {"topic": "a\nb", "subject": null}}}), "dead_letter.topic", "control"),
            (
                json!({"dead_letter": {"topic": {"topic": "a", "subject": "s".repeat(4097)}}}),
                "dead_letter.subject",
                "4096",
            ),
            (
                json!({"breaker": {"failure_ratio": 0.0, "window": 1, "pause_ms": 1}}),
                "breaker.failure_ratio",
                "above 0",
            ),
            (
                json!({"breaker": {"failure_ratio": 1.1, "window": 1, "pause_ms": 1}}),
                "breaker.failure_ratio",
                "up to 1",
            ),
            (
                json!({"breaker": {"failure_ratio": 0.5, "window": 0, "pause_ms": 1}}),
                "breaker.window",
                "use 1 to 10000",
            ),
            (json!({"breaker": {"failure_ratio": 0.5, "window": 1, "pause_ms": 0}}), "breaker.pause_ms", "use 1 to"),
            (json!({"webhook": {"url": "ftp://a"}}), "webhook.url", "use http or https"),
            (json!({"volatile": true, "durability": "fsync"}), "durability", "use \"memory\""),
            (json!({"arguments": arguments}), "arguments", "at most 256"),
            (json!({"arguments": {"a": "x".repeat(70_000)}}), "arguments", "at most 65536"),
        ],
    );
}

#[test]
fn numbers_that_are_none_are_refused() {
    let retry = crate::definitions::RetryConfig { factor: Some(f64::NAN), ..Default::default() };
    assert!(validate_retry(&retry).is_err());
    for failure_ratio in [f64::NAN, f64::INFINITY, -0.5] {
        let breaker = crate::definitions::BreakerConfig { failure_ratio, window: 1, pause_ms: 1 };
        assert!(validate_breaker(&breaker).is_err(), "{failure_ratio}");
    }
}

#[test]
fn topics() {
    let many: Vec<String> = (0..257).map(|number| number.to_string()).collect();
    check::<TopicConfig>(
        validate_topic,
        &[
            json!({}),
            json!({"partitions": 1024, "captures": [], "retention": {}}),
            json!({"captures": ["orders.>", "a.*.#"], "max_body_bytes": 134_217_728}),
            json!({"retention": {"compact": true, "tombstone_ms": 0}}),
            json!({"router": {"kind": "consistent-hash", "header": "user"}}),
            json!({"volatile": true, "auto_delete": true}),
            json!({"volatile": true, "retention": {}, "durability": "memory"}),
        ],
        &[
            (
                json!({"volatile": true, "retention": {}}),
                "retention",
                "set durability to \"memory\", or leave retention out",
            ),
            (json!({"volatile": true, "retention": {}, "durability": "os"}), "retention", "set durability"),
            (json!({"partitions": 0}), "partitions", "use 1 to 1024"),
            (json!({"partitions": 1025}), "partitions", "use 1 to 1024"),
            (json!({"alternate": ""}), "alternate", "empty"),
            (json!({"captures": [">.a"]}), "captures", "last word"),
            (json!({"captures": many}), "captures", "at most 256"),
            (json!({"max_body_bytes": 0}), "max_body_bytes", "use 1 to 134217728"),
            (json!({"max_body_bytes": 134_217_729}), "max_body_bytes", "use 1 to 134217728"),
            (json!({"dedup_window_ms": u64::MAX}), "dedup_window_ms", "0 is none"),
            (json!({"retention": {"max_age_ms": 0}}), "retention.max_age_ms", "leave it out to keep for ever"),
            (json!({"retention": {"max_bytes": 0}}), "retention.max_bytes", "leave it out"),
            (json!({"retention": {"max_records": 0}}), "retention.max_records", "leave it out"),
            (json!({"router": {"kind": "consistent-hash", "header": ""}}), "router.header", "empty"),
            (json!({"description": "d".repeat(4097)}), "description", "at most 4096"),
        ],
    );
    check::<RetentionConfig>(
        validate_retention,
        &[json!({"max_age_ms": 1, "max_bytes": 1, "max_records": 1})],
        &[(json!({"tombstone_ms": 5}), "tombstone_ms", "set compact")],
    );
}

#[test]
fn bindings() {
    let field = |checked: Checked| match checked {
        Err(DeclareError::Invalid { field, .. }) => Some(field),
        Ok(()) => None,
        other => panic!("{other:?}"),
    };
    let queue = |name: &str| BindingTarget::Queue(name.to_owned());
    assert_eq!(topic::ends("orders", &queue("email")), Ok(()));
    assert_eq!(field(topic::ends("", &queue("email"))).as_deref(), Some("topic"));
    assert_eq!(field(topic::ends("orders", &queue(""))).as_deref(), Some("target.queue"));
    assert_eq!(field(topic::ends("orders", &BindingTarget::Topic(String::new()))).as_deref(), Some("target.topic"));
    assert_eq!([None, Some(1), Some(256)].map(topic::weight), [Ok(()), Ok(()), Ok(())]);
    assert_eq!(
        [Some(0), Some(257)].map(|weight| field(topic::weight(weight))),
        [(); 2].map(|()| Some("weight".to_owned()))
    );
}

#[test]
fn groups() {
    check::<GroupConfig>(
        validate_group,
        &[json!({"topic": "orders"}), json!({"topic": "orders", "session_ms": 100})],
        &[
            (json!({"topic": ""}), "topic", "empty"),
            (json!({"topic": "orders", "session_ms": 99}), "session_ms", "use 100 to 3600000"),
            (json!({"topic": "orders", "session_ms": 3_600_001}), "session_ms", "use 100 to 3600000"),
        ],
    );
}

#[test]
fn namespaces() {
    check::<NamespaceConfig>(
        validate_namespace,
        &[json!({}), json!({"quota": {"max_topics": 0, "max_publish_rate": 0, "max_body_bytes": 1}})],
        &[
            (json!({"quota": {"max_body_bytes": 0}}), "quota.max_body_bytes", "use 1 to"),
            (json!({"description": "d".repeat(4097)}), "description", "at most 4096"),
        ],
    );
}

#[test]
fn policies() {
    let with = |part: &str, values: Value| json!({"pattern": "*", "applies_to": "all", part: values});
    check::<PolicyConfig>(
        validate_policy,
        &[
            json!({"pattern": "regex:", "applies_to": "queues", "layer": "operator"}),
            with("bounds", json!({"ttl_ms": 0, "max_messages": 0, "expires_ms": 1, "max_attempts": 1})),
            with("only_arguments", json!({"x": [null]})),
            with("defaults", json!({})),
            with("overrides", json!({"lease_ms": 0, "retry": {"max_attempts": 3}})),
        ],
        &[
            (json!({"pattern": "", "applies_to": "all"}), "pattern", "`*` stands for every name"),
            (json!({"pattern": "regex:(", "applies_to": "all"}), "pattern", "unclosed group"),
            (with("bounds", json!({"expires_ms": 0})), "bounds.expires_ms", "use 1 to"),
            (with("bounds", json!({"max_attempts": 0})), "bounds.max_attempts", "use 1 to"),
            (with("bounds", json!({"ttl_ms": u64::MAX})), "bounds.ttl_ms", "use 0 to"),
            (with("only_arguments", json!({"x": []})), "only_arguments.x", "lists no value"),
            (with("arguments", json!({"x": "y".repeat(65_536)})), "arguments", "at most 65536"),
            (with("defaults", json!({"lease_ms": u64::MAX})), "defaults.lease_ms", "use 0 to"),
            (with("overrides", json!({"retry": {"factor": 0}})), "overrides.retry.factor", "use 1 to"),
            (with("overrides", json!({"dead_letter": {"queue": ""}})), "overrides.dead_letter.queue", "empty"),
            (with("defaults", json!({"retention": {"max_bytes": 0}})), "defaults.retention.max_bytes", "leave it out"),
            (with("defaults", json!({"alternate": ""})), "defaults.alternate", "empty"),
            (with("defaults", json!({"max_body_bytes": 0})), "defaults.max_body_bytes", "use 1 to"),
            (with("defaults", json!({"dedup_window_ms": u64::MAX})), "defaults.dedup_window_ms", "0 is none"),
            (
                with("defaults", json!({"breaker": {"failure_ratio": 2, "window": 1, "pause_ms": 1}})),
                "defaults.breaker.failure_ratio",
                "up to 1",
            ),
        ],
    );
}

#[test]
fn webhooks() {
    let with = |part: &str, value: Value| json!({"url": "https://hooks.example/in", part: value});
    let many: serde_json::Map<String, Value> = (0..65).map(|number| (format!("x-{number}"), json!("1"))).collect();
    check::<WebhookConfig>(
        validate_webhook,
        &[
            json!({"url": "http://localhost:8080/in?x=1"}),
            json!({"url": "https://[::1]/"}),
            with("headers", json!({"authorization": "Bearer x", "X-Team": "a b"})),
            with("secret", json!("k")),
            with("secret", json!("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")),
        ],
        &[
            (json!({"url": ""}), "url", "use http://HOST/PATH"),
            (json!({"url": "hooks.example/in"}), "url", "use http://HOST/PATH"),
            (json!({"url": "https://"}), "url", "use http://HOST/PATH"),
            (json!({"url": "file:///etc/passwd"}), "url", "use http or https"),
            (json!({"url": "https://u:p@hooks.example/"}), "url", "authorization"),
            (json!({"url": "https://hooks.example/#a"}), "url", "leave out `#`"),
            (json!({"url": format!("https://hooks.example/{}", "a".repeat(4096))}), "url", "at most 4096"),
            (with("secret", json!("")), "secret", "leave it out"),
            (with("secret", json!("k".repeat(1025))), "secret", "at most 1024"),
            (with("secret", json!("whsec_a b")), "secret", "not base64"),
            (with("secret", json!("whsec_")), "secret", "not base64"),
            (with("headers", json!({"Webhook-Id": "1"})), "headers.Webhook-Id", "use another name"),
            (with("concurrency", json!(0)), "concurrency", "use 1 to 256"),
            (with("concurrency", json!(257)), "concurrency", "use 1 to 256"),
            (with("timeout_ms", json!(0)), "timeout_ms", "use 1 to 600000"),
            (with("headers", json!({"a b": "1"})), "headers.a b", "no header name"),
            (with("headers", json!({"": "1"})), "headers.", "no header name"),
            (with("headers", json!({"Host": "1"})), "headers.Host", "use another name"),
            (with("headers", json!({"Posthouse-Id": "1"})), "headers.Posthouse-Id", "use another name"),
            (with("headers", json!({"x": "a\r\nb: c"})), "headers.x", "line break"),
            (with("headers", json!({"x": "é"})), "headers.x", "not ASCII"),
            (with("headers", json!(many)), "headers", "at most 64"),
        ],
    );
}

#[test]
fn users() {
    let phc = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let password = json!({"kind": "argon2", "phc": phc});
    let token = |id: &str, sha256: &str| json!({"kind": "token", "id": id, "description": "", "sha256": sha256, "expires_at": null});
    let sha256 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let dear = phc.replace("m=256", "m=4000000");
    let salted = |algorithm: &str, salt: &str, hash: &str| json!({"kind": "salted-hash", "algorithm": algorithm, "salt": salt, "hash": hash});
    let subjects = |part: &str, pattern: &str| json!({"permissions": {"shop": {"subjects": {"t": {part: [pattern]}}}}});
    check::<UserConfig>(
        validate_user,
        &[
            json!({}),
            json!({"credentials": [password, token("a1", sha256), token("a2", sha256)], "tags": ["management"]}),
            json!({"permissions": {"default": {"configure": [], "write": ["*"], "read": ["orders.*"]}}}),
            json!({"credentials": [salted("sha256", "AQIDBA==", sha256)], "loopback_only": true}),
            subjects("write", "regex:^{username}\\.{namespace}\\.{client_id}\\.[a-z]{2}$"),
            json!({"limits": {"max_connections": 0, "max_channels": 5}}),
        ],
        &[
            (json!({"credentials": [password, password]}), "credentials", "one at most"),
            (
                json!({"credentials": [{"kind": "argon2", "phc": "secret"}]}),
                "credentials.phc",
                "use an argon2id PHC string",
            ),
            (json!({"credentials": [{"kind": "argon2", "phc": dear}]}), "credentials.phc", "costs too much"),
            (json!({"credentials": [token("a_1", sha256)]}), "credentials.id", "letters and digits"),
            (json!({"credentials": [token("a1", "AAAA")]}), "credentials.sha256", "32 bytes"),
            (json!({"credentials": [token("a1", sha256), token("a1", sha256)]}), "credentials.id", "twice"),
            (json!({"credentials": [salted("sha256", "", sha256)]}), "credentials.hash", "1 to 64 bytes"),
            (json!({"credentials": [salted("sha256", "AQIDBA==", "AAAA")]}), "credentials.hash", "32 bytes"),
            (json!({"credentials": [salted("sha512", "AQIDBA==", sha256)]}), "credentials.hash", "64"),
            (json!({"credentials": [salted("sha256", "!", sha256)]}), "credentials.hash", "base64"),
            (json!({"credentials": [password, salted("sha256", "AQIDBA==", sha256)]}), "credentials", "one at most"),
            (subjects("write", "regex:(?=a)"), "permissions.shop.subjects.t.write", "look-around"),
            (subjects("read", ""), "permissions.shop.subjects.t.read", "every name"),
            (subjects("read", "regex:^{vhost}"), "permissions.shop.subjects.t.read", "cannot be read"),
            (json!({"permissions": {"shop": {"subjects": {"": {}}}}}), "permissions.shop.subjects", "empty"),
            (json!({"permissions": {"": {}}}), "permissions", "empty"),
            (json!({"permissions": {"shop": {"write": [""]}}}), "permissions.shop.write", "every name"),
            (json!({"permissions": {"shop": {"read": vec!["*"; 257]}}}), "permissions.shop.read", "at most 256"),
            (json!({"tags": vec!["t"; 65]}), "tags", "at most 64"),
            (json!({"tags": ["t".repeat(256)]}), "tags", "at most 255"),
        ],
    );
    let refused =
        validate_user(&serde_json::from_value(json!({"credentials": [{"kind": "argon2", "phc": "secret"}]})).unwrap());
    assert!(!format!("{refused:?}").contains("secret"));
}
