use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use types::limits::{MAX_BINDING_WEIGHT, MAX_ROUTE_TOPICS, MAX_TOPIC_CAPTURES};
use types::{AttributeTest, EntityId, Field, Filter, HeaderMatch, Message, SubjectPattern, Text, Value};

use super::*;
use crate::seeds::for_seeds;

fn id(id: u64) -> EntityId {
    EntityId(id)
}

fn topic(number: u64) -> RouterTopic {
    RouterTopic { id: id(number), kind: RouterKind::Any, alternate: None, has_log: false }
}

fn binding(number: u64, source: u64, target: RouteTarget, filter: Filter) -> RouterBinding {
    RouterBinding { id: id(number), source: id(source), target, filter, weight: 1 }
}

fn queue(number: u64) -> RouteTarget {
    RouteTarget::Queue(id(number))
}

fn subject(text: &str) -> Filter {
    Filter::Subject(SubjectPattern::parse(text).unwrap())
}

fn message(subject: &str) -> Message {
    Message { subject: Bytes::copy_from_slice(subject.as_bytes()), ..Message::default() }
}

/// Ids of queues and logs, in order, that a message of this subject published to topic 1 reaches.
fn routed(router: &Router, subject: &str) -> (Vec<u64>, Vec<u64>) {
    let mut out = Routes::default();
    router.route(id(1), &message(subject), &mut out).unwrap();
    let mut queues: Vec<u64> = out.queues.iter().map(|routed| routed.queue.0).collect();
    queues.sort_unstable();
    (queues, out.logs.iter().map(|topic| topic.0).collect())
}

#[test]
fn cycles_of_topics_end_and_give_each_queue_one_copy() {
    let topics = [RouterTopic { has_log: true, ..topic(1) }, topic(2), RouterTopic { has_log: true, ..topic(3) }];
    let to = |topic| RouteTarget::Topic(id(topic));
    let bindings = [
        binding(10, 1, to(2), Filter::All),
        binding(11, 2, to(3), subject("a.#")),
        binding(12, 3, to(1), Filter::All),
        binding(13, 1, to(1), Filter::All),
        binding(14, 1, queue(1), Filter::All),
        binding(15, 3, queue(1), Filter::All),
        binding(16, 3, queue(2), Filter::SubjectExact("a.b".into())),
    ];
    let router = Router::build(topics, bindings).unwrap();
    assert_eq!(routed(&router, "a.b"), (vec![1, 2], vec![1, 3]));
    assert_eq!(routed(&router, "a"), (vec![1], vec![1, 3]));
    assert_eq!(routed(&router, "b"), (vec![1], vec![1]));
}

#[test]
fn alternates_get_what_no_binding_took() {
    let to = |alternate, number| RouterTopic { alternate: Some(id(alternate)), ..topic(number) };
    // 1 → 2 → 3 → 1: alternates may form a cycle too. 9 is not there.
    let mut router = Router::build([to(2, 1), to(3, 2), RouterTopic { has_log: true, ..to(1, 3) }], []).unwrap();
    assert_eq!(routed(&router, "x"), (vec![], vec![3]));
    router.add_binding(binding(10, 1, queue(1), subject("a.*"))).unwrap();
    assert_eq!(routed(&router, "a.b"), (vec![1], vec![]));
    router.add_binding(binding(11, 2, queue(2), Filter::All)).unwrap();
    assert_eq!(routed(&router, "x"), (vec![2], vec![]));
    router.add_binding(binding(12, 1, RouteTarget::Topic(id(9)), Filter::All)).unwrap();
    assert_eq!(routed(&router, "x"), (vec![2], vec![]), "a binding that leads nowhere takes nothing");
    router.update_topic(to(9, 1)).unwrap();
    assert_eq!(routed(&router, "x"), (vec![], vec![]));
}

#[test]
fn too_long_a_way_is_an_error() {
    let count = MAX_ROUTE_TOPICS as u64;
    let chain = |count: u64| {
        let hop = |at| binding(1000 + at, at, RouteTarget::Topic(id(at + 1)), Filter::All);
        Router::build((1..=count).map(topic), (1..count).map(hop)).unwrap()
    };
    let mut out = Routes::default();
    assert_eq!(chain(count).route(id(1), &message("x"), &mut out), Ok(()));
    assert_eq!(out.topics.len(), MAX_ROUTE_TOPICS);
    assert_eq!(chain(count + 1).route(id(1), &message("x"), &mut out), Err(RouteError::TooManyTopics));
    assert!(out.is_empty() && out.topics.is_empty());
    assert_eq!(chain(1).route(id(7), &message("x"), &mut out), Err(RouteError::UnknownTopic(id(7))));
}

#[test]
fn the_table_refuses_what_it_has_and_what_it_lacks() {
    let mut router = Router::build([topic(1)], [binding(10, 1, queue(1), Filter::All)]).unwrap();
    assert_eq!(router.add_topic(topic(1)), Err(RouterError::DuplicateTopic(id(1))));
    assert_eq!(router.add_binding(binding(10, 1, queue(2), Filter::All)), Err(RouterError::DuplicateBinding(id(10))));
    assert_eq!(router.add_binding(binding(11, 2, queue(2), Filter::All)), Err(RouterError::UnknownTopic(id(2))));
    assert_eq!(router.update_topic(topic(2)), Err(RouterError::UnknownTopic(id(2))));
    assert!(router.remove_binding(id(11)).is_none() && router.remove_topic(id(2)).is_empty());
    assert_eq!(router.bindings_to(queue(1)).count(), 1);
    assert_eq!(router.remove_queue(id(1)).len(), 1);
    assert_eq!(router.bindings_from(id(1)).count(), 0);
    assert_eq!(routed(&router, "x"), (vec![], vec![]));
}

fn random_filter(rng: &mut fastrand::Rng, depth: u8) -> Filter {
    let patterns = ["a", "a.b", "a.*", "a.#", "#", "*", "*.b", "a.>", "#.b"];
    let many = |rng: &mut fastrand::Rng| (0..rng.usize(0..4)).map(|_| random_filter(rng, depth - 1)).collect();
    match rng.u8(0..if depth == 0 { 5 } else { 8 }) {
        0 => Filter::All,
        1 => Filter::SubjectExact(Bytes::from(["a", "b", "a.b", ""][rng.usize(0..4)])),
        2 | 3 => subject(patterns[rng.usize(0..patterns.len())]),
        4 if rng.bool() => {
            Filter::Headers { matching: HeaderMatch::All, wanted: vec![("h".into(), Some(Value::int(rng.i64(0..2))))] }
        }
        4 => Filter::Attribute { field: Field::Header("h".into()), any_of: vec![AttributeTest::Exists(rng.bool())] },
        5 => Filter::And(many(rng)),
        6 => Filter::Or(many(rng)),
        _ => Filter::Not(Box::new(random_filter(rng, depth - 1))),
    }
}

/// Routing by asking every binding, topic by topic.
fn naive(
    topics: &BTreeMap<EntityId, RouterTopic>,
    bindings: &BTreeMap<EntityId, RouterBinding>,
    message: &Message,
) -> (BTreeSet<EntityId>, BTreeSet<EntityId>) {
    let (mut queues, mut visited, mut todo) = (BTreeSet::new(), BTreeSet::new(), vec![id(1)]);
    while let Some(at) = todo.pop() {
        let Some(topic) = topics.get(&at) else { continue };
        if !visited.insert(at) {
            continue;
        }
        let leads = |target: &RouteTarget| !matches!(target, RouteTarget::Topic(to) if !topics.contains_key(to));
        let taking: Vec<_> =
            bindings.values().filter(|b| b.source == at && leads(&b.target) && b.filter.matches(message)).collect();
        for binding in &taking {
            match binding.target {
                RouteTarget::Queue(queue) => drop(queues.insert(queue)),
                RouteTarget::Topic(topic) => todo.push(topic),
            }
        }
        todo.extend(topic.alternate.filter(|_| taking.is_empty()));
    }
    visited.retain(|at| topics[at].has_log);
    (queues, visited)
}

#[test]
fn routing_agrees_with_asking_every_binding_through_all_changes() {
    for_seeds(400, |rng| {
        let mut topics: BTreeMap<EntityId, RouterTopic> = BTreeMap::new();
        let mut bindings: BTreeMap<EntityId, RouterBinding> = BTreeMap::new();
        let mut router = Router::new();
        let mut out = Routes::default();
        for serial in 100..100 + rng.u64(1..150) {
            let number = rng.u64(1..6);
            match rng.u8(0..10) {
                0 if topics.contains_key(&id(number)) => {
                    router.remove_topic(id(number));
                    topics.remove(&id(number));
                    bindings.retain(|_, b| b.source != id(number) && b.target != RouteTarget::Topic(id(number)));
                }
                0 | 1 => {
                    let alternate = rng.bool().then(|| id(rng.u64(1..6)));
                    let topic = RouterTopic { alternate, has_log: rng.bool(), ..topic(number) };
                    if topics.insert(topic.id, topic.clone()).is_some() {
                        router.update_topic(topic).unwrap();
                    } else {
                        router.add_topic(topic).unwrap();
                    }
                }
                2 | 3 if !bindings.is_empty() => {
                    let (victim, want) =
                        bindings.iter().nth(rng.usize(0..bindings.len())).map(|(id, b)| (*id, b.clone())).unwrap();
                    assert_eq!(router.remove_binding(victim), Some(want));
                    bindings.remove(&victim);
                }
                _ => {
                    let target = if rng.bool() { queue(rng.u64(1..8)) } else { RouteTarget::Topic(id(rng.u64(1..6))) };
                    let binding = binding(serial, number, target, random_filter(rng, 2));
                    let added = router.add_binding(binding.clone());
                    assert_eq!(added.is_ok(), topics.contains_key(&binding.source));
                    if added.is_ok() {
                        bindings.insert(binding.id, binding);
                    }
                }
            }
            if !topics.contains_key(&id(1)) {
                continue;
            }
            let header = rng.bool().then(|| (Text::from("h"), Value::int(rng.i64(0..2))));
            let subject = Bytes::from(["", "a", "b", "a.b", "a.b.c", "c.b"][rng.usize(0..6)]);
            let message = Message { subject, headers: header.into_iter().collect(), ..Message::default() };
            router.route(id(1), &message, &mut out).unwrap();
            let (queues, logs) = naive(&topics, &bindings, &message);
            assert_eq!(out.queues.iter().map(|routed| routed.queue).collect::<BTreeSet<_>>(), queues);
            assert_eq!(out.queues.len(), queues.len(), "each queue once");
            assert_eq!(out.logs.iter().copied().collect::<BTreeSet<_>>(), logs);
            assert_eq!(out.logs.len(), logs.len(), "each log once");
            for routed in &out.queues {
                let by = &bindings[&routed.binding];
                assert!(by.target == RouteTarget::Queue(routed.queue) && by.filter.matches(&message));
            }
        }
        let rebuilt = Router::build(topics.values().cloned(), bindings.values().cloned()).unwrap();
        assert_eq!(rebuilt.bindings.len(), router.bindings.len());
    });
}

#[test]
fn kinds_restrict_what_bindings_filter_on() {
    let exact = Filter::SubjectExact("a".into());
    let headers = Filter::Headers { matching: HeaderMatch::All, wanted: vec![] };
    let attribute = Filter::Attribute { field: Field::Key, any_of: vec![AttributeTest::Exists(true)] };
    let both = Filter::And(vec![attribute.clone(), Filter::Not(Box::new(attribute.clone()))]);
    let mixed = Filter::And(vec![attribute.clone(), exact.clone()]);
    let all = [Filter::All, exact, subject("a"), subject("a.*"), headers, attribute, both, mixed];
    let allowed =
        |kind: RouterKind| all.iter().map(|filter| u8::from(check(&kind, filter, 1).is_ok())).collect::<Vec<_>>();
    assert_eq!(allowed(RouterKind::Any), [1, 1, 1, 1, 1, 1, 1, 1]);
    assert_eq!(allowed(RouterKind::Exact), [0, 1, 1, 0, 0, 0, 0, 0]);
    assert_eq!(allowed(RouterKind::Fanout), [1, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(allowed(RouterKind::Subject), [1, 1, 1, 1, 0, 0, 0, 0]);
    assert_eq!(allowed(RouterKind::Headers), [1, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(allowed(RouterKind::Attribute), [1, 0, 0, 0, 0, 1, 1, 0]);
    assert_eq!(allowed(RouterKind::ConsistentHash(HashOn::Key)), [1, 0, 0, 0, 0, 0, 0, 0]);
    let heavy = check(&RouterKind::ConsistentHash(HashOn::Key), &Filter::All, MAX_BINDING_WEIGHT + 1);
    assert_eq!(heavy, Err(KindError::TooHeavy));
}

fn hashing(on: HashOn, weights: &[(u64, u32)]) -> Router {
    let kind = RouterKind::ConsistentHash(on);
    let bindings = weights
        .iter()
        .map(|(n, weight)| RouterBinding { weight: *weight, ..binding(100 + n, 1, queue(*n), Filter::All) });
    Router::build([RouterTopic { kind, ..topic(1) }], bindings).unwrap()
}

#[test]
fn consistent_hash_spreads_by_weight_and_moves_little() {
    let subjects: Vec<String> = (0..4000).map(|n| format!("customer.{n}")).collect();
    let place = |router: &Router| -> Vec<u64> {
        let one = |subject: &String| match routed(router, subject).0.as_slice() {
            [queue] => *queue,
            other => panic!("one queue, not {other:?}"),
        };
        subjects.iter().map(one).collect()
    };
    let mut router = hashing(HashOn::Subject, &[(1, 10), (2, 10), (3, 20), (4, 0)]);
    let before = place(&router);
    let share = |queue: u64| before.iter().filter(|at| **at == queue).count();
    assert!((800..1200).contains(&share(1)) && (800..1200).contains(&share(2)), "{} {}", share(1), share(2));
    assert!((1700..2300).contains(&share(3)) && share(4) == 0, "{} {}", share(3), share(4));
    router.remove_binding(id(102));
    let after = place(&router);
    assert!(
        before.iter().zip(&after).all(|(before, after)| before == after || *before == 2),
        "only queue 2's messages move"
    );
    router.add_binding(RouterBinding { weight: 10, ..binding(102, 1, queue(2), Filter::All) }).unwrap();
    assert_eq!(place(&router), before);
}

#[test]
fn consistent_hash_is_the_same_after_a_restart() {
    // Fixed: another outcome here would send messages another way after an upgrade.
    let router = hashing(HashOn::Subject, &[(1, 1), (2, 1), (3, 1)]);
    let places: Vec<u64> = (0..12).map(|n| routed(&router, &format!("s{n}")).0[0]).collect();
    expect_test::expect!["[2, 1, 2, 3, 3, 1, 3, 3, 1, 2, 3, 1]"].assert_eq(&format!("{places:?}"));
}

#[test]
fn consistent_hash_looks_at_the_key_or_a_header() {
    let queue_of = |router: &Router, message: &Message| {
        let mut out = Routes::default();
        router.route(id(1), message, &mut out).unwrap();
        out.queues[0].queue
    };
    let by_key = hashing(HashOn::Key, &[(1, 5), (2, 5), (3, 5)]);
    let by_header = hashing(HashOn::Header("h".into()), &[(1, 5), (2, 5), (3, 5)]);
    let mut seen = BTreeSet::new();
    for n in 0..40 {
        let keyed = Message { key: Some(Bytes::from(format!("k{n}"))), ..message(&n.to_string()) };
        let headed = Message { headers: vec![("h".into(), Value::from(format!("k{n}").as_str()))], ..message("x") };
        assert_eq!(queue_of(&by_key, &keyed), queue_of(&by_header, &headed));
        seen.insert(queue_of(&by_key, &keyed));
    }
    assert_eq!(seen.len(), 3);
    let bare = Message { key: Some(Bytes::new()), ..message("a") };
    assert_eq!(queue_of(&by_key, &bare), queue_of(&by_header, &message("b")), "neither has what is hashed");
    for n in 0..40 {
        let headed = Message { headers: vec![("h".into(), Value::from(format!("k{n}").as_str()))], ..message("x") };
        let keyless = message(&format!("k{n}"));
        assert_eq!(queue_of(&by_key, &keyless), queue_of(&by_header, &headed), "without a key it is the subject");
    }
}

#[test]
fn captures_prefer_patterns_then_longer_names() {
    let patterns =
        |texts: &[&str]| CaptureRule::Patterns(texts.iter().map(|t| SubjectPattern::parse(t).unwrap()).collect());
    let mut captures = Captures::new();
    captures.declare(id(1), CaptureRule::Name("orders".into())).unwrap();
    captures.declare(id(2), CaptureRule::Name("orders.eu".into())).unwrap();
    captures.declare(id(3), patterns(&["orders.us.>", "audit.#"])).unwrap();
    for (subject, want) in [
        ("orders", Some(1)),
        ("orders.x", Some(1)),
        ("orders.eu", Some(2)),
        ("orders.eu.x.y", Some(2)),
        ("orders.europe", Some(1)),
        ("orders.us", Some(1)),
        ("orders.us.x", Some(3)),
        ("audit", Some(3)),
        ("ordersx", None),
        ("", None),
    ] {
        assert_eq!(captures.capture(subject.as_bytes()), want.map(id), "{subject}");
    }
    let refused = captures.declare(id(4), patterns(&["x", "*.us.east"]));
    assert!(matches!(refused, Err(CaptureError::Overlap { other: EntityId(3), .. })), "{refused:?}");
    assert_eq!(captures.capture(b"x"), None, "nothing changed");
    let taken = captures.declare(id(4), CaptureRule::Name("orders".into()));
    assert_eq!(taken, Err(CaptureError::NameTaken { name: "orders".into(), other: id(1) }));
    assert_eq!(captures.declare(id(4), patterns(&["x"; MAX_TOPIC_CAPTURES + 1])), Err(CaptureError::TooMany));
    captures.declare(id(3), patterns(&["orders.us.east"])).unwrap();
    assert_eq!(captures.capture(b"orders.us.x"), Some(id(1)));
    captures.remove(id(1));
    assert_eq!(captures.capture(b"orders"), None);
}

#[test]
fn ten_thousand_bindings_come_and_go_one_by_one() {
    let mut router = Router::build([topic(1)], []).unwrap();
    let filter = |n: u64| match n % 3 {
        0 => Filter::SubjectExact(Bytes::from(format!("orders.{n}"))),
        1 => subject(&format!("orders.{n}.*")),
        _ => Filter::And(vec![
            subject(&format!("*.{n}")),
            Filter::Headers { matching: HeaderMatch::All, wanted: vec![("h".into(), None)] },
        ]),
    };
    for n in 0..10_000 {
        router.add_binding(binding(n + 10, 1, queue(n), filter(n))).unwrap();
    }
    for n in (0..10_000).step_by(3) {
        assert_eq!(routed(&router, &format!("orders.{n}")).0, [n]);
    }
    for n in 0..10_000 {
        assert!(router.remove_binding(id(n + 10)).is_some());
    }
    assert_eq!(routed(&router, "orders.0"), (vec![], vec![]));
}
