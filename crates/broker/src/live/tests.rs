use std::collections::{BTreeMap, BTreeSet};

use types::{SubjectPattern, Text};

use super::{LiveSubscriptions, SubjectTrie, SubscriberId};
use crate::seeds::for_seeds;

fn random_pattern(rng: &mut fastrand::Rng) -> SubjectPattern {
    let mut words: Vec<&str> = (0..rng.usize(0..5)).map(|_| ["a", "b", "*", "#", "c"][rng.usize(0..5)]).collect();
    if rng.u8(0..4) == 0 {
        words.push(">");
    }
    SubjectPattern::parse(&words.join(".")).unwrap()
}

fn random_subject(rng: &mut fastrand::Rng) -> String {
    let words: Vec<&str> = (0..rng.usize(0..6)).map(|_| ["a", "b", "c", ""][rng.usize(0..4)]).collect();
    words.join(".")
}

#[test]
fn trie_agrees_with_linear_matching_and_gives_its_nodes_back() {
    for_seeds(300, |rng| {
        let mut trie = SubjectTrie::new();
        let mut list: Vec<(SubjectPattern, u64)> = Vec::new();
        for serial in 0..rng.u64(1..120) {
            if !list.is_empty() && rng.u8(0..3) == 0 {
                let (pattern, value) = list.swap_remove(rng.usize(0..list.len()));
                assert_eq!(trie.remove(&pattern, |have| *have == value), Some(value));
                assert_eq!(trie.remove(&pattern, |have| *have == value), None);
            } else {
                let pattern = random_pattern(rng);
                trie.insert(&pattern, serial);
                list.push((pattern, serial));
            }
            assert_eq!(trie.len(), list.len());
            let subject = random_subject(rng);
            let mut found = Vec::new();
            trie.for_matches(subject.as_bytes(), |value| found.push(*value));
            found.sort_unstable();
            let mut want: Vec<u64> = list
                .iter()
                .filter(|(pattern, _)| pattern.matches(subject.as_bytes()))
                .map(|(_, value)| *value)
                .collect();
            want.sort_unstable();
            assert_eq!(found, want, "subject {subject:?}");
        }
        for (pattern, value) in list {
            trie.remove(&pattern, |have| *have == value);
        }
        assert!(trie.is_empty());
        assert_eq!(trie.nodes_in_use(), 1, "only the root is left");
    });
}

#[test]
fn many_wildcards_in_a_long_subject_do_not_explode() {
    let mut trie = SubjectTrie::new();
    trie.insert(&SubjectPattern::parse(&vec!["#.a"; 120].join(".")).unwrap(), ());
    let mut found = 0;
    trie.for_matches(vec!["a"; 2000].join(".").as_bytes(), |()| found += 1);
    assert_eq!(found, 1);
}

fn pattern(text: &str) -> SubjectPattern {
    SubjectPattern::parse(text).unwrap()
}

#[test]
fn a_queue_group_gets_a_message_once_whatever_its_patterns() {
    let mut live = LiveSubscriptions::new();
    live.subscribe(SubscriberId(1), pattern("orders.*"), None);
    live.subscribe(SubscriberId(2), pattern("orders.*"), Some("g".into()));
    live.subscribe(SubscriberId(3), pattern("orders.eu"), Some("g".into()));
    live.subscribe(SubscriberId(4), pattern("orders.eu"), Some("g".into()));
    live.subscribe(SubscriberId(5), pattern(">"), Some("other".into()));
    let mut rng = fastrand::Rng::with_seed(7);
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    for _ in 0..3000 {
        let mut out = Vec::new();
        live.matches([&b"orders.eu"[..]].into_iter(), &mut rng, &mut out);
        assert_eq!(out.len(), 3, "the plain one, one of g, one of other: {out:?}");
        for id in out {
            *counts.entry(id.0).or_default() += 1;
        }
    }
    assert_eq!((counts.get(&1), counts.get(&5)), (Some(&3000), Some(&3000)));
    for member in [2, 3, 4] {
        assert!((800..1200).contains(&counts[&member]), "members are drawn evenly: {counts:?}");
    }
    let mut out = Vec::new();
    live.matches([&b"orders.us"[..], b"orders.eu", b"orders.us", b"x"].into_iter(), &mut rng, &mut out);
    assert_eq!(out.len(), 3, "the same of several subjects: {out:?}");
    assert!(live.has_interest(b"x"));
    assert!(live.unsubscribe(SubscriberId(5)) && !live.unsubscribe(SubscriberId(5)));
    assert!(!live.has_interest(b"x") && live.has_interest(b"orders.us"));
}

#[test]
fn subscriptions_agree_with_a_list() {
    for_seeds(300, |rng| {
        let mut live = LiveSubscriptions::new();
        let mut list: BTreeMap<SubscriberId, (SubjectPattern, Option<Text>)> = BTreeMap::new();
        for _ in 0..rng.usize(1..80) {
            let id = SubscriberId(rng.u64(0..20));
            if rng.u8(0..3) == 0 {
                assert_eq!(live.unsubscribe(id), list.remove(&id).is_some());
            } else {
                let group = rng.bool().then(|| Text::from(["g", "h"][rng.usize(0..2)]));
                let pattern = random_pattern(rng);
                live.subscribe(id, pattern.clone(), group.clone());
                list.insert(id, (pattern, group));
            }
            let subject = random_subject(rng);
            let fits = |(pattern, _): &(SubjectPattern, Option<Text>)| pattern.matches(subject.as_bytes());
            let mut out = Vec::new();
            live.matches([subject.as_bytes()].into_iter(), rng, &mut out);
            assert_eq!(live.has_interest(subject.as_bytes()), !out.is_empty());
            let (grouped, plain): (Vec<_>, Vec<_>) = out.iter().partition(|id| list[id].1.is_some());
            let want_plain: BTreeSet<_> =
                list.iter().filter(|(_, sub)| sub.1.is_none() && fits(sub)).map(|(id, _)| *id).collect();
            assert_eq!(plain.len(), want_plain.len());
            assert_eq!(plain.into_iter().collect::<BTreeSet<_>>(), want_plain);
            let want_groups: BTreeSet<_> =
                list.values().filter(|sub| fits(sub)).filter_map(|sub| sub.1.clone()).collect();
            assert_eq!(grouped.len(), want_groups.len());
            assert_eq!(grouped.iter().filter_map(|id| list[id].1.clone()).collect::<BTreeSet<_>>(), want_groups);
            assert!(grouped.iter().all(|id| fits(&list[id])));
        }
        assert_eq!(live.len(), list.len());
    });
}
