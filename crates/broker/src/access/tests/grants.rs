use super::*;
use crate::definitions::SubjectPermissions;
use crate::errors::AccessError;

fn principal(users: &Users, name: &str) -> Principal {
    users.authenticate(&Credentials::Certificate { common_name: name.to_owned() }, at(0)).unwrap()
}

#[test]
fn a_user_may_do_what_the_namespaces_patterns_say() {
    let users = users(options());
    let shop = permissions(&[], &["orders", "orders.*"], &["*"]);
    users.put("ada", UserConfig { permissions: [("shop".to_owned(), shop)].into(), ..UserConfig::default() });
    let ada = principal(&users, "ada");
    let grants = users.grants(&ada, "shop").unwrap();
    for (action, name, allowed) in [
        (Action::Configure, "orders", false),
        (Action::Write, "orders", true),
        (Action::Write, "orders.eu", true),
        (Action::Write, "invoices", false),
        (Action::Read, "invoices", true),
    ] {
        assert_eq!(grants.allows(action, name), allowed, "{action:?} {name}");
        assert_eq!(grants.require(action, "topic", name).is_ok(), allowed);
    }
    assert!(grants.sees_namespace() && !grants.administers());
    let elsewhere = users.grants(&ada, "default").unwrap();
    assert!(!elsewhere.sees_namespace() && !elsewhere.allows(Action::Read, "orders"));
}

#[test]
fn a_refusal_says_who_may_not_do_what_where() {
    let users = users(options());
    users.put("ada", UserConfig::default());
    let grants = users.grants(&principal(&users, "ada"), "shop").unwrap();
    let error = grants.require(Action::Write, "queue", "orders").unwrap_err();
    assert_eq!(error.to_string(), r#"user "ada" may not write queue "orders" in namespace "shop""#);
    let error = grants.require_admin("users").unwrap_err();
    assert!(matches!(error, AccessError::Forbidden { action: "administer", .. }), "{error}");
}

#[test]
fn an_administrator_may_do_everything_everywhere() {
    let users = users(options());
    users.put("root", UserConfig { admin: true, ..UserConfig::default() });
    let grants = users.grants(&principal(&users, "root"), "whatever").unwrap();
    assert!([Action::Configure, Action::Write, Action::Read].iter().all(|action| grants.allows(*action, "x")));
    assert!(grants.administers() && grants.sees_namespace() && grants.require_admin("users").is_ok());
}

#[test]
fn a_pattern_that_cannot_be_read_permits_nothing() {
    let users = users(options());
    let shop = permissions(&["", "a\nb"], &[], &[]);
    users.put("ada", UserConfig { permissions: [("shop".to_owned(), shop)].into(), ..UserConfig::default() });
    let grants = users.grants(&principal(&users, "ada"), "shop").unwrap();
    assert!(!grants.allows(Action::Configure, "") && !grants.allows(Action::Configure, "a\nb"));
}

#[test]
fn the_generation_says_when_to_ask_again() {
    let users = users(options());
    let mut seen = users.generation();
    let mut grew = |what: &str| {
        assert!(users.generation() > seen, "{what}");
        seen = users.generation();
    };
    assert_eq!(users.put("ada", UserConfig::default()), None);
    grew("insert");
    let ada = principal(&users, "ada");
    let writer = permissions(&[], &["*"], &[]);
    let config = UserConfig { permissions: [("shop".to_owned(), writer)].into(), ..UserConfig::default() };
    assert_eq!(users.put("ada", config.clone()), Some(UserConfig::default()));
    grew("replace");
    assert!(users.grants(&ada, "shop").unwrap().allows(Action::Write, "orders"), "the same user, with more rights");
    assert_eq!(users.get("ada"), Some(config.clone()));
    assert_eq!(users.list(), [("ada".to_owned(), config.clone())]);
    assert_eq!(users.remove("ada"), Some(config));
    grew("remove");
    assert!(users.grants(&ada, "shop").is_none());
    assert_eq!(users.remove("ada"), None);
    let now = users.generation();
    assert_eq!(users.generation(), now, "nothing changed");
    assert!(users.is_empty());
}

#[test]
fn a_user_made_again_under_an_old_name_is_another_one() {
    let users = users(options());
    users.put("ada", UserConfig { admin: true, ..UserConfig::default() });
    let old = principal(&users, "ada");
    users.remove("ada");
    users.put("ada", UserConfig { admin: true, ..UserConfig::default() });
    assert!(users.grants(&old, "default").is_none());
    assert!(users.grants(&principal(&users, "ada"), "default").is_some());
}

/// What of a subject is allowed in namespace `shop` for a user of this name, with these patterns on topic `t` for writing.
fn writes(user: &str, client: Option<&str>, patterns: &[&str], subject: &[u8]) -> bool {
    let users = users(options());
    let write = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
    let subjects = [("t".to_owned(), SubjectPermissions { write, read: Vec::new() })].into();
    let shop = Permissions { subjects, ..permissions(&[], &["*"], &["*"]) };
    users.put(user, UserConfig { permissions: [("shop".to_owned(), shop)].into(), ..UserConfig::default() });
    let grants = users.grants(&principal(&users, user), "shop").unwrap();
    let grants = client.map_or_else(|| grants.clone(), |client| grants.clone().for_client(client));
    assert!(grants.subjects_of("other").is_none(), "other topics are not restricted");
    let restricted = grants.subjects_of("t").expect("it is restricted");
    assert!(restricted.require(Action::Read, subject).is_err(), "nothing is said of reading");
    restricted.require(Action::Write, subject).is_ok()
}

#[test]
fn subjects_are_restricted_by_patterns_that_speak_of_the_session() {
    for (patterns, yes, no) in [
        (&["orders.*"][..], &["orders.", "orders.eu.1"][..], &["orders", "x.orders.1", ""][..]),
        (&["a", "b"], &["a", "b"], &["c", "ab"]),
        (&["regex:^eu\\."], &["eu.1"], &["a.eu.1"]),
        (&["regex:"], &[""], &["a"]),
        (&[], &[], &["", "a"]),
        (&["{namespace}.{username}.*"], &["shop.ada.x"], &["shop.bob.x", "{namespace}.{username}.x"]),
        (&["regex:^{namespace}-{username}-[0-9]{2}$"], &["shop-ada-12"], &["shop-ada-1", "shop-eve-12"]),
    ] {
        for (subject, expected) in yes.iter().map(|s| (s, true)).chain(no.iter().map(|s| (s, false))) {
            assert_eq!(writes("ada", None, patterns, subject.as_bytes()), expected, "{patterns:?} {subject:?}");
        }
    }
    assert!(writes("ada", None, &["a.*"], b"a.\xff\n"), "a subject may be any bytes");
}

#[test]
fn a_value_is_put_in_as_it_is_and_never_as_a_pattern() {
    assert!(!writes(".*", None, &["regex:^{username}$"], b"ada"));
    assert!(writes(".*", None, &["regex:^{username}$"], b".*"));
    assert!(!writes("*", None, &["{username}"], b"ada") && writes("*", None, &["{username}"], b"*"));
    assert!(writes("{namespace}", None, &["{username}"], b"{namespace}"), "a value is not looked through again");
}

#[test]
fn a_clients_id_permits_something_only_once_it_is_told() {
    let patterns = &["{client_id}.*", "all"];
    assert!(writes("ada", Some("c1"), patterns, b"c1.x") && !writes("ada", Some("c2"), patterns, b"c1.x"));
    assert!(!writes("ada", None, patterns, b"{client_id}.x"));
    assert!(writes("ada", None, patterns, b"all") && writes("ada", Some("c1"), patterns, b"all"));
}

#[test]
fn a_refused_subject_is_named() {
    let users = users(options());
    let subjects = [("t".to_owned(), SubjectPermissions::default())].into();
    let shop = Permissions { subjects, ..Permissions::default() };
    users.put("ada", UserConfig { permissions: [("shop".to_owned(), shop)].into(), ..UserConfig::default() });
    let grants = users.grants(&principal(&users, "ada"), "shop").unwrap();
    let error = grants.subjects_of("t").unwrap().require(Action::Write, b"x.y").unwrap_err();
    assert_eq!(error.to_string(), r#"user "ada" may not write subject "x.y" of topic "t" in namespace "shop""#);
}
