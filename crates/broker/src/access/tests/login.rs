use super::super::secrets::split_token;
use super::*;
use crate::definitions::HashAlgorithm;
use crate::errors::AccessError;

const WRONG: AccessError = AccessError::Unauthenticated;

#[test]
fn the_right_password_gets_in_and_all_else_is_the_same_error() {
    let users = users(options());
    users.put("ada", with_password("right"));
    let ada = users.authenticate(&login("ada", "right"), at(0)).unwrap();
    assert_eq!((ada.name(), ada.token_id(), ada.expires()), (Some("ada"), None, None));
    let long = "x".repeat(2_000);
    for (user, password) in [("ada", "wrong"), ("ada", ""), ("ada", &long), ("bob", "right"), ("", "right")] {
        assert_eq!(users.authenticate(&login(user, password), at(0)), Err(WRONG), "{user:?}");
    }
}

/// What a login costs must not say whether the user exists.
#[test]
fn every_refused_login_costs_one_hash() {
    let users = users(options());
    users.put("ada", with_password("right"));
    users.put("tokens-only", UserConfig::default());
    let broken = CredentialRecord::Argon2 { phc: "$argon2id$nonsense".to_owned() };
    users.put("broken", UserConfig { credentials: vec![broken], ..UserConfig::default() });
    let long = "x".repeat(2_000);
    let logins =
        [("ada", "wrong"), ("ada", ""), ("ada", &long), ("nobody", "wrong"), ("tokens-only", "x"), ("broken", "x")];
    for (count, (user, password)) in (1..).zip(logins) {
        assert_eq!(users.authenticate(&login(user, password), at(0)), Err(WRONG));
        assert_eq!(users.hashes(), count, "{user:?}");
    }
}

#[test]
fn a_right_password_is_remembered_for_a_while_and_a_wrong_one_never() {
    let users = users(options());
    users.put("ada", with_password("right"));
    for second in [0, 1, 59] {
        users.authenticate(&login("ada", "right"), at(second)).unwrap();
    }
    assert_eq!(users.hashes(), 1);
    users.authenticate(&login("ada", "right"), at(60)).unwrap();
    assert_eq!(users.hashes(), 2);
    for _ in 0..3 {
        users.authenticate(&login("ada", "wrong"), at(60)).unwrap_err();
    }
    assert_eq!(users.hashes(), 5);
}

#[test]
fn a_changed_password_holds_at_once() {
    let users = users(options());
    users.put("ada", with_password("old"));
    users.authenticate(&login("ada", "old"), at(0)).unwrap();
    users.put("ada", with_password("new"));
    assert_eq!(users.authenticate(&login("ada", "old"), at(0)), Err(WRONG));
    users.authenticate(&login("ada", "new"), at(0)).unwrap();
    users.remove("ada").unwrap();
    assert_eq!(users.authenticate(&login("ada", "new"), at(0)), Err(WRONG));
}

#[test]
fn a_flood_of_logins_is_turned_away() {
    let users = users(UsersOptions { hashes_at_once: 1, hashes_waiting: 0, ..options() });
    users.put("ada", with_password("right"));
    users.authenticate(&login("ada", "right"), at(0)).unwrap();
    users.while_hashing(|| {
        assert_eq!(users.authenticate(&login("ada", "wrong"), at(0)), Err(AccessError::Busy));
        assert_eq!(users.authenticate(&login("nobody", "x"), at(0)), Err(AccessError::Busy));
        assert_eq!(users.authenticate(&login("nobody", ""), at(0)), Err(AccessError::Busy));
        assert_eq!(users.hash_password("x"), Err(SecretError::Busy));
        users.authenticate(&login("ada", "right"), at(0)).expect("what is remembered needs no hash");
    });
    assert_eq!(users.authenticate(&login("ada", "wrong"), at(0)), Err(WRONG));
}

/// A service that reconnects with all its connections at once pays one hash, not one each.
#[test]
fn logins_that_waited_use_what_the_first_found_out() {
    let users = users(UsersOptions { hashes_at_once: 1, ..options() });
    users.put("ada", with_password("right"));
    std::thread::scope(|scope| {
        users.while_hashing(|| {
            for _ in 0..8 {
                scope.spawn(|| users.authenticate(&login("ada", "right"), at(0)).unwrap());
            }
            while users.waiting() < 8 {
                std::thread::yield_now();
            }
        });
    });
    assert_eq!(users.hashes(), 1);
}

#[test]
fn a_token_works_until_it_runs_out_or_is_revoked() {
    let users = users(options());
    let (text, record) = new_token("till", Some(at(10).wall)).unwrap();
    let (id, secret) = split_token(&text).unwrap();
    users.put("ada", UserConfig { credentials: vec![record], ..UserConfig::default() });
    let show = |text: &str, second| users.authenticate(&Credentials::Token(text.to_owned()), at(second));
    let ada = show(&text, 9).unwrap();
    assert_eq!((ada.name(), ada.token_id(), ada.expires()), (Some("ada"), Some(id), Some(at(10).wall)));
    assert_eq!(users.token_owner(id).as_deref(), Some("ada"));
    assert_eq!(show(&text, 10), Err(WRONG));
    for bad in
        [format!("ph_{id}_{}", secret.to_uppercase()), format!("ph_0_{secret}"), format!("{text}0"), id.to_owned()]
    {
        assert_eq!(show(&bad, 0), Err(WRONG), "{bad}");
    }
    assert!(users.grants(&ada, "default").is_some());
    users.put("ada", UserConfig::default());
    assert_eq!(show(&text, 0), Err(WRONG));
    assert!(users.grants(&ada, "default").is_none(), "a session ends with its token");
    assert_eq!(users.token_owner(id), None);
    assert_eq!(users.hashes(), 0, "a token needs no slow hash");
}

#[test]
fn tokens_of_others_survive_a_change() {
    let users = users(options());
    let (ada, ada_record) = new_token("", None).unwrap();
    let (bob, bob_record) = new_token("", None).unwrap();
    users.put("ada", UserConfig { credentials: vec![ada_record], ..UserConfig::default() });
    users.put("bob", UserConfig { credentials: vec![bob_record], ..UserConfig::default() });
    users.remove("bob");
    assert_eq!(users.authenticate(&Credentials::Token(ada), at(0)).unwrap().name(), Some("ada"));
    assert_eq!(users.authenticate(&Credentials::Token(bob), at(0)), Err(WRONG));
}

#[test]
fn a_record_that_cannot_be_read_lets_nobody_in() {
    let users = users(options());
    let (text, record) = new_token("", None).unwrap();
    let CredentialRecord::Token { id, description, expires_at, .. } = record else { panic!("a token's record") };
    for sha256 in ["", "!", "AAAA"] {
        let (id, description, sha256) = (id.clone(), description.clone(), sha256.to_owned());
        let record = CredentialRecord::Token { id, description, sha256, expires_at };
        users.put("ada", UserConfig { credentials: vec![record], ..UserConfig::default() });
        assert_eq!(users.authenticate(&Credentials::Token(text.clone()), at(0)), Err(WRONG));
    }
}

#[test]
fn a_certificate_names_a_user_who_exists() {
    let users = users(options());
    users.put("ada", UserConfig::default());
    let show = |name: &str| users.authenticate(&Credentials::Certificate { common_name: name.to_owned() }, at(0));
    assert_eq!(show("ada").unwrap().name(), Some("ada"));
    assert_eq!(show("bob"), Err(WRONG));
    assert_eq!(show(""), Err(WRONG));
}

#[test]
fn anonymous_callers_are_let_in_only_where_it_is_allowed_and_only_while_there_are_no_users() {
    let closed = users(options());
    assert_eq!(closed.authenticate(&Credentials::Anonymous, at(0)), Err(WRONG));
    assert!(closed.grants(&Principal::ANONYMOUS, "default").is_none());

    let open = users(UsersOptions { anonymous: true, ..options() });
    let anyone = open.authenticate(&Credentials::Anonymous, at(0)).unwrap();
    assert_eq!(anyone.name(), None);
    let grants = open.grants(&anyone, "default").unwrap();
    assert!(grants.administers() && grants.allows(Action::Configure, "anything"));
    assert_eq!(open.authenticate(&login("ada", "x"), at(0)), Err(WRONG), "wrong credentials are not no credentials");

    open.put("ada", with_password("right"));
    assert_eq!(open.authenticate(&Credentials::Anonymous, at(0)), Err(WRONG));
    assert!(open.grants(&anyone, "default").is_none(), "sessions that began before the first user end too");
}

/// The password `correct hörse`, as Python's hashlib says: the hash of salt and password.
fn salted(algorithm: HashAlgorithm) -> UserConfig {
    let hash = match algorithm {
        HashAlgorithm::Sha256 => "ShRPvRCsG2NrOlnf/5D8X/r7n2BwK/iIKZd+PCEOe6Q=",
        HashAlgorithm::Sha512 => {
            "wbhXLrLusop+c4+MH06SiYYGo7+1VgWIZ8t3tTszNgwNbbG2ed03CP/D7pUZwL3smYmmB3Np3NAjhKVADhOVZw=="
        }
    };
    let record = CredentialRecord::SaltedHash { algorithm, salt: "AQIDBA==".to_owned(), hash: hash.to_owned() };
    UserConfig { credentials: vec![record], ..UserConfig::default() }
}

#[test]
fn a_hash_of_another_system_lets_its_password_in() {
    for algorithm in [HashAlgorithm::Sha256, HashAlgorithm::Sha512] {
        let users = users(options());
        users.put("ada", salted(algorithm));
        users.authenticate(&login("ada", "correct hörse"), at(0)).unwrap();
        assert_eq!(users.authenticate(&login("ada", "correct horse"), at(0)), Err(WRONG));
        users.put("ada", with_password("new"));
        assert_eq!(users.authenticate(&login("ada", "correct hörse"), at(0)), Err(WRONG), "{algorithm:?}");
    }
}

/// It is quick to check, which must not show.
#[test]
fn a_hash_of_another_system_costs_a_slow_one_besides() {
    let users = users(options());
    users.put("ada", salted(HashAlgorithm::Sha256));
    users.authenticate(&login("ada", "wrong"), at(0)).unwrap_err();
    assert_eq!(users.hashes(), 2, "its own, and one as slow as everybody's");
}

#[test]
fn who_may_log_in_from_loopback_only_is_let_in_from_nowhere_else() {
    let users = users(options());
    let (token, record) = new_token("", None).unwrap();
    let mut config = with_password("right");
    config.credentials.push(record);
    users.put("ada", UserConfig { loopback_only: true, ..config });
    users.put("bob", with_password("right"));
    let certificate = Credentials::Certificate { common_name: "ada".to_owned() };
    for credentials in [login("ada", "right"), Credentials::Token(token), certificate] {
        for (address, welcome) in [
            (Some("127.0.0.1"), true),
            (Some("127.8.9.1"), true),
            (Some("::1"), true),
            (Some("::ffff:127.0.0.1"), true),
            (Some("10.0.0.1"), false),
            (Some("::ffff:10.0.0.1"), false),
            (Some("0.0.0.0"), false),
            (Some("fe80::1"), false),
            (None, false),
        ] {
            let peer = address.map(|address| address.parse().unwrap());
            let answer = users.authenticate_from(&credentials, peer, at(0));
            assert_eq!(answer.map(drop), if welcome { Ok(()) } else { Err(WRONG) }, "{credentials:?} {address:?}");
        }
    }
    let far = Some("10.0.0.1".parse().unwrap());
    assert!(users.authenticate_from(&login("bob", "right"), far, at(0)).is_ok());
}
