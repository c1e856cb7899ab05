use bytes::Bytes;

use super::{PatternError, SubjectPattern, Word, subject_words};
use crate::limits::{MAX_PATTERN_WORDS, MAX_SUBJECT_BYTES};
use crate::seeds::for_seeds;

fn pattern(text: &str) -> SubjectPattern {
    SubjectPattern::parse(text).unwrap()
}

/// Patterns straight from their definition, exponential and obviously right.
fn naive(pattern: &[Word], subject: &[&[u8]]) -> bool {
    match (pattern.split_first(), subject.split_first()) {
        (None, None) => true,
        (None, Some(_)) => false,
        (Some((Word::Any, rest)), None) => naive(rest, subject),
        (Some((Word::Any, rest)), Some((_, after))) => naive(rest, subject) || naive(pattern, after),
        (Some((Word::Rest, _)), Some(_)) => true,
        (Some((Word::One, rest)), Some((_, after))) => naive(rest, after),
        (Some((Word::Literal(word), rest)), Some((have, after))) => word == have && naive(rest, after),
        (Some(_), None) => false,
    }
}

fn random_pattern(rng: &mut fastrand::Rng) -> SubjectPattern {
    let mut words: Vec<Word> = (0..rng.usize(0..6))
        .map(|_| match rng.u8(0..6) {
            0 => Word::One,
            1 => Word::Any,
            2 => Word::Literal(Bytes::new()),
            _ => Word::Literal(Bytes::from_static(if rng.bool() { b"a" } else { b"b" })),
        })
        .collect();
    if rng.u8(0..4) == 0 {
        words.push(Word::Rest);
    }
    SubjectPattern::from_words(words).unwrap()
}

/// All subjects of up to `len` words of a, b and the empty word.
fn all_subjects(len: usize) -> Vec<Vec<u8>> {
    let mut all = vec![Vec::new()];
    let mut last: Vec<Vec<&str>> = vec![Vec::new()];
    for _ in 0..len {
        last = last.iter().flat_map(|head| ["a", "b", ""].map(|word| [head.as_slice(), &[word]].concat())).collect();
        all.extend(last.iter().map(|words| words.join(".").into_bytes()));
    }
    all
}

#[test]
fn patterns_select_what_their_notation_says() {
    let check = |text: &str, yes: &[&str], no: &[&str]| {
        for subject in yes {
            assert!(pattern(text).matches(subject.as_bytes()), "{text} should select {subject:?}");
        }
        for subject in no {
            assert!(!pattern(text).matches(subject.as_bytes()), "{text} should not select {subject:?}");
        }
    };
    check("orders.*.created", &["orders.eu.created", "orders..created"], &["orders.created", "orders.a.b.created"]);
    check("orders.#", &["orders", "orders.a", "orders.a.b"], &["order", "", "ordersx.a"]);
    check("orders.>", &["orders.a", "orders.a.b", "orders."], &["orders", "", "orderss"]);
    check("#", &["", "a", "a.b", ".", "..."], &[]);
    check("*", &["a", "*"], &["", "a.b", "."]);
    check(">", &["a", "a.b", "."], &[""]);
    check("", &[""], &["a", "."]);
    check("#.b.#", &["b", "a.b", "b.a", "a.b.a", "b.b"], &["", "a", "ab"]);
    check("#.*", &["a", "a.b.c"], &[""]);
    check("a.#.b.#.c", &["a.b.c", "a.x.b.c", "a.b.b.x.c.c"], &["a.c", "a.b", "a.c.b"]);
    check("\\*.\\#", &["*.#"], &["a.b"]);
    check("\\\\*", &["\\*"], &["*", "a"]);
    check("a*.#b", &["a*.#b"], &["ab.b", "a*"]);
}

#[test]
fn many_wildcards_cost_no_backtracking() {
    let text = vec!["#.a"; 120].join(".");
    let subject = [vec!["a"; 2000].join("."), ".b".to_owned()].concat();
    assert!(!pattern(&text).matches(subject.as_bytes()));
    assert!(pattern(&format!("{text}.b")).matches(subject.as_bytes()));
}

#[test]
fn bad_patterns_are_refused() {
    assert_eq!(SubjectPattern::parse("a.>.b"), Err(PatternError::RestNotLast));
    assert_eq!(SubjectPattern::parse(&"a".repeat(MAX_SUBJECT_BYTES + 1)), Err(PatternError::TooLong));
    assert!(SubjectPattern::parse(&"a".repeat(MAX_SUBJECT_BYTES)).is_ok());
    assert_eq!(SubjectPattern::parse(&vec!["a"; MAX_PATTERN_WORDS + 1].join(".")), Err(PatternError::TooManyWords));
    let long = Bytes::from(vec![b'x'; MAX_SUBJECT_BYTES + 1]);
    assert_eq!(SubjectPattern::literal(&long), Err(PatternError::TooLong));
}

#[test]
fn subjects_of_any_bytes_can_be_selected() {
    let subject = Bytes::from_static(b"\xff.\x00.>");
    let literal = SubjectPattern::literal(&subject).unwrap();
    assert!(literal.matches(&subject) && !literal.matches(b"\xff.\x00.a"));
    assert_eq!(literal.as_literal(), Some(subject));
    assert_eq!(literal.words().len(), 3);
    assert_eq!(pattern("a.*").as_literal(), None);
}

#[test]
fn notation_is_read_back() {
    for text in ["", "a", "a.b", "*.#.>", "\\*.\\#.\\>", "\\\\\\#", "a..b", ".", "\\a", "\\"] {
        assert_eq!(pattern(text).to_string(), text);
    }
    for_seeds(2000, |rng| {
        let pattern = random_pattern(rng);
        assert_eq!(SubjectPattern::parse(&pattern.to_string()), Ok(pattern));
    });
}

#[test]
fn matching_agrees_with_the_definition() {
    let subjects = all_subjects(5);
    for_seeds(500, |rng| {
        let pattern = random_pattern(rng);
        for subject in &subjects {
            let words: Vec<&[u8]> = subject_words(subject).collect();
            let shown = String::from_utf8_lossy(subject);
            assert_eq!(pattern.matches(subject), naive(pattern.words(), &words), "{pattern} on {shown:?}");
        }
    });
}

#[test]
fn overlap_agrees_with_searching_a_common_subject() {
    // A common subject needs no more words than both patterns have together, and no word but theirs; the search space
    // is kept small by short patterns.
    let subjects = all_subjects(6);
    for_seeds(1500, |rng| {
        let (left, right) = (random_pattern(rng), random_pattern(rng));
        if left.plain_words().len() + right.plain_words().len() > 7 {
            return;
        }
        let empty_word: &[&[u8]] = &[b""];
        let common = subjects.iter().any(|subject| left.matches(subject) && right.matches(subject))
            || naive(left.words(), empty_word) && naive(right.words(), empty_word);
        assert_eq!(left.overlaps(&right), common, "{left} and {right}");
        assert_eq!(right.overlaps(&left), common, "{right} and {left}");
    });
}

#[test]
fn patterns_overlap_as_expected() {
    let check = |left: &str, right: &str, want: bool| {
        assert_eq!(pattern(left).overlaps(&pattern(right)), want, "{left} and {right}");
    };
    check("orders", "orders.>", false);
    check("orders.#", "orders", true);
    check("orders.*", "*.created", true);
    check("a.>", "b.>", false);
    check("#.x", "y.#", true);
    check("", "#", true);
    check("", ">", false);
}
