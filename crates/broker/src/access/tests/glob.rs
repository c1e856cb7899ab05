use super::*;

fn check(pattern: &str, yes: &[&str], no: &[&str]) {
    let compiled = NamePattern::new(pattern).unwrap();
    for name in yes {
        assert!(compiled.matches(name), "{pattern:?} should match {name:?}");
    }
    for name in no {
        assert!(!compiled.matches(name), "{pattern:?} should not match {name:?}");
    }
    assert_eq!(compiled.as_str(), pattern);
}

#[test]
fn a_star_is_any_run_of_characters() {
    check("*", &["", "a", "orders.eu"], &[]);
    check("**", &["", "a"], &[]);
    check("orders", &["orders"], &["order", "orders2", "", "Orders"]);
    check("orders.*", &["orders.", "orders.eu", "orders.eu.1"], &["orders", "xorders.eu"]);
    check("*.dlq", &[".dlq", "orders.dlq"], &["orders.dlq2", "dlq"]);
    check("a*a", &["aa", "aba", "aaa"], &["a", "ab", "ba"]);
    check("a*b*c", &["abc", "axbxc", "abbcc"], &["ac", "acb", "abcd"]);
    check("*ab*ab*", &["abab", "xabxabx"], &["ab", "aab"]);
    check("é*ü", &["éü", "é-ü"], &["é", "ü"]);
    check("a?c", &["a?c"], &["abc"]);
    check("a.c", &["a.c"], &["abc"]);
    check("*", &["a*b"], &[]);
}

#[test]
fn a_pattern_that_no_name_fits_is_refused() {
    assert_eq!(NamePattern::new(""), Err(NamePatternError::Empty));
    assert_eq!(NamePattern::new("a\nb"), Err(NamePatternError::Control { at: 1 }));
    assert!(NamePattern::new(&"a".repeat(1024)).is_ok());
    assert_eq!(NamePattern::new(&"a".repeat(1025)), Err(NamePatternError::TooLong { len_bytes: 1025 }));
}

/// The textbook definition, by a table of prefixes.
fn model(pattern: &str, name: &str) -> bool {
    let name: Vec<char> = name.chars().collect();
    let mut fits: Vec<bool> = (0..=name.len()).map(|len| len == 0).collect();
    for wanted in pattern.chars() {
        let before = fits.clone();
        for len in 0..=name.len() {
            fits[len] = match wanted {
                '*' => before[..=len].contains(&true),
                literal => len > 0 && before[len - 1] && name[len - 1] == literal,
            };
        }
    }
    fits[name.len()]
}

#[test]
fn patterns_match_as_the_model_says() {
    let seed = 7;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut matched = 0;
    for round in 0..50_000 {
        let mut text = |letters: &[char], longest: usize| -> String {
            (0..random.usize(0..=longest)).map(|_| letters[random.usize(0..letters.len())]).collect()
        };
        let pattern = text(&['a', 'b', 'ß', '*', '*'], 8);
        let name = text(&['a', 'b', 'ß'], 10);
        let Ok(compiled) = NamePattern::new(&pattern) else {
            continue;
        };
        let expected = model(&pattern, &name);
        matched += u32::from(expected);
        assert_eq!(compiled.matches(&name), expected, "seed {seed}, round {round}: {pattern:?} on {name:?}");
    }
    assert!(matched > 5_000, "too few of the random names match to say much: {matched}");
}

/// A matcher that tries every way to share out the name would not end before the sun does.
#[test]
fn many_stars_cost_no_more_than_few() {
    let pattern = NamePattern::new(&format!("{}b", "a*".repeat(500))).unwrap();
    assert!(!pattern.matches(&"a".repeat(100_000)));
    assert!(pattern.matches(&format!("{}b", "a".repeat(100_000))));
}

#[test]
fn a_pattern_that_begins_so_is_a_regular_expression_that_fits_any_part() {
    check("regex:.*", &["", "a", "orders.eu"], &[]);
    check(r"regex:^(orders|mail)\..*$", &["orders.eu", "mail."], &["orders", "xorders.eu", "mails.x"]);
    check("regex:orders", &["orders", "my-orders.eu"], &["order", "", "Orders"]);
    check("regex:(?i)^orders$", &["Orders"], &["orders2"]);
    check("regex:^.$", &["é"], &["", "ab"]);
    check("regex:^amq\\.default$", &["amq.default"], &["", "amq-default"]);
    check("Regex:.*", &["Regex:.x", "Regex:."], &["a"]);
}

#[test]
fn an_expression_that_says_nothing_fits_the_empty_name_only() {
    check("regex:", &[""], &["a", "regex:"]);
    check("regex:^$", &[""], &["a"]);
}

#[test]
fn an_expression_that_cannot_be_read_says_why_in_one_line() {
    let why = |pattern: &str| NamePattern::new(pattern).unwrap_err().to_string();
    assert_eq!(why("regex:(a"), "the regular expression cannot be read: unclosed group");
    assert!(why("regex:^(?!amq)").contains("look-around"), "{}", why("regex:^(?!amq)"));
    assert!(why(r"regex:(a)\1").contains("backreferences"), "{}", why(r"regex:(a)\1"));
    assert_eq!(NamePattern::new(r"regex:\w{1000}{1000}"), Err(NamePatternError::RegexTooBig));
    assert!(NamePattern::new(&format!("regex:{}", "a".repeat(16 * 1024))).is_ok());
    let long = NamePattern::new(&format!("regex:{}", "a".repeat(16 * 1024 + 1)));
    assert_eq!(long, Err(NamePatternError::RegexTooLong { len_bytes: 16 * 1024 + 1 }));
}

/// A matcher that backtracks would not end before the sun does.
#[test]
fn an_expression_takes_time_in_proportion_to_the_name() {
    let pattern = NamePattern::new("regex:^(a*)*(a*)*b$").unwrap();
    assert!(!pattern.matches(&"a".repeat(10_000)));
}
