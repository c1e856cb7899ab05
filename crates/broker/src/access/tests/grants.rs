use super::*;
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
