//! The gate and the cache by themselves, and what is made of secrets.

use std::sync::mpsc::sync_channel;

use super::super::cache::Cache;
use super::super::gate::{Gate, GateFull};
use super::super::secrets::{HashError, PasswordVerifier, split_token};
use super::*;

#[test]
fn the_gate_lets_some_in_has_some_wait_and_turns_the_rest_away() {
    let gate = Gate::new(2, 1);
    let first = gate.enter().unwrap();
    let _second = gate.enter().unwrap();
    std::thread::scope(|scope| {
        let (entered, did_enter) = sync_channel(1);
        let gate = &gate;
        scope.spawn(move || {
            let permit = gate.enter().unwrap();
            entered.send(()).unwrap();
            drop(permit);
        });
        while gate.waiting() == 0 {
            std::thread::yield_now();
        }
        assert_eq!(gate.enter().unwrap_err(), GateFull);
        assert!(did_enter.try_recv().is_err(), "nobody has left, so nobody can have come in");
        drop(first);
        did_enter.recv().unwrap();
    });
    assert_eq!(gate.waiting(), 0);
    assert!(gate.enter().is_ok());
}

#[test]
fn the_cache_holds_until_its_time_its_revision_or_its_room_ends() {
    let cache = Cache::new(Duration::from_secs(10), 2, [1; 32]);
    let [a, b, c] = ["a", "b", "c"].map(|password| cache.key("ada", password));
    cache.remember(a, 1, at(0));
    assert!(cache.holds(&a, 1, at(9)));
    assert!(!cache.holds(&b, 1, at(0)));
    assert!(!cache.holds(&a, 1, at(10)), "the time is over");
    assert_eq!(cache.len(), 0);

    cache.remember(a, 1, at(20));
    assert!(!cache.holds(&a, 2, at(20)), "the user has changed");
    cache.remember(a, 2, at(20));
    cache.remember(b, 2, at(21));
    cache.remember(c, 2, at(22));
    assert!(!cache.holds(&a, 2, at(22)), "the oldest leaves");
    assert!(cache.holds(&b, 2, at(22)) && cache.holds(&c, 2, at(22)));
    cache.forget(2);
    assert_eq!(cache.len(), 0);
}

/// The list behind the bound must not grow by what was forgotten or renewed.
#[test]
fn the_cache_stays_within_its_bound_whatever_happens() {
    let cache = Cache::new(Duration::from_secs(10), 8, [1; 32]);
    let seed = 3;
    let mut random = fastrand::Rng::with_seed(seed);
    for second in 0..5_000 {
        let key = cache.key("ada", &random.u8(0..20).to_string());
        match random.u8(0..10) {
            0 => cache.forget(random.u64(0..3)),
            _ => cache.remember(key, random.u64(0..3), at(second)),
        }
        assert!(cache.len() <= 8, "seed {seed}, second {second}");
    }
    let none = Cache::new(Duration::ZERO, 8, [1; 32]);
    none.remember([0; 32], 1, at(0));
    assert_eq!(none.len(), 0);
    let none = Cache::new(Duration::from_secs(1), 0, [1; 32]);
    none.remember([0; 32], 1, at(0));
    assert_eq!(none.len(), 0);
}

#[test]
fn cache_keys_differ_by_user_password_and_process() {
    let cache = Cache::new(Duration::from_secs(10), 8, [1; 32]);
    let other = Cache::new(Duration::from_secs(10), 8, [2; 32]);
    assert_ne!(cache.key("ab", "c"), cache.key("a", "bc"));
    assert_ne!(cache.key("ab", "c"), other.key("ab", "c"));
    assert_eq!(cache.key("ab", "c"), cache.key("ab", "c"));
}

#[test]
fn a_password_has_1_to_1024_bytes() {
    assert_eq!(hash_password_at("", CHEAP), Err(SecretError::EmptyPassword));
    assert!(hash_password_at(&"p".repeat(1024), CHEAP).is_ok());
    let too_long = hash_password_at(&"p".repeat(1025), CHEAP);
    assert_eq!(too_long, Err(SecretError::PasswordTooLong { len_bytes: 1025 }));
    let huge = HashCost { memory_kib: 1 << 30, ..CHEAP };
    assert_eq!(hash_password_at("p", huge), Err(SecretError::Cost));
}

#[test]
fn a_password_is_hashed_at_the_advised_cost_with_a_salt_of_its_own() {
    let phc = |record| match record {
        CredentialRecord::Argon2 { phc } => phc,
        other => panic!("{other:?}"),
    };
    let first = phc(hash_password("correct horse").unwrap());
    assert!(first.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{first}");
    assert!(PasswordVerifier::read(&first).unwrap().verify("correct horse"));
    let [one, two] = [(); 2].map(|()| phc(hash_password_at("correct horse", CHEAP).unwrap()));
    assert_ne!(one, two);
}

/// The first hash is a known answer from the reference implementation's tests.
#[test]
fn the_cost_is_read_from_the_record_and_bounded() {
    let known = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
    let read = PasswordVerifier::read(known).unwrap();
    assert!(read.verify("password") && !read.verify("Password"));
    for bad in [
        "",
        "password",
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ",
        "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
        "$2b$12$GhvMmNVjRW29ulnudl.LbuAnUtN/LRfe1JsBm1Xu6LE3059z5Tr8m",
    ] {
        assert_eq!(PasswordVerifier::read(bad).err(), Some(HashError::Format), "{bad:?}");
    }
    for cost in ["m=4000000,t=2,p=1", "m=256,t=1000,p=1", "m=1024,t=2,p=64"] {
        let dear = known.replace("m=256,t=2,p=1", cost);
        assert_eq!(PasswordVerifier::read(&dear).err(), Some(HashError::Cost), "{cost}");
    }
}

#[test]
fn the_dummy_takes_no_password_and_costs_what_it_should() {
    let dummy = PasswordVerifier::dummy(CHEAP).unwrap();
    assert!(!dummy.verify("") && !dummy.verify("password"));
    assert!(PasswordVerifier::dummy(HashCost::default()).is_ok());
}

#[test]
fn a_token_says_what_it_is_and_is_not_kept() {
    let (text, record) = new_token("for the till", Some(Timestamp(5))).unwrap();
    let (id, secret) = split_token(&text).unwrap();
    assert_eq!((id.len(), secret.len(), text.len()), (16, 64, 3 + 16 + 1 + 64));
    let CredentialRecord::Token { id: kept, description, sha256, expires_at } = &record else { panic!("{record:?}") };
    assert_eq!((kept.as_str(), description.as_str(), *expires_at), (id, "for the till", Some(5)));
    assert!(!sha256.contains(secret) && !serde_json::to_string(&record).unwrap().contains(secret));
    assert_ne!(new_token("", None).unwrap().0, new_token("", None).unwrap().0);
    let long = new_token(&"d".repeat(5_000), None).unwrap_err();
    assert_eq!(long, SecretError::DescriptionTooLong { len_bytes: 5_000 });
}

#[test]
fn what_is_no_token_is_seen_at_once() {
    for bad in ["", "ph_", "ph__", "ph_a_", "ph__b", "ph_ab", "xx_a_b", &format!("ph_a_{}", "b".repeat(300))] {
        assert_eq!(split_token(bad), None, "{bad:?}");
    }
    assert_eq!(split_token("ph_a_b"), Some(("a", "b")));
}

#[test]
fn secrets_are_not_in_debug_output() {
    let config = with_password("hunter2");
    let CredentialRecord::Argon2 { phc } = &config.credentials[0] else { panic!("a password's record") };
    let (text, token) = new_token("till", None).unwrap();
    let CredentialRecord::Token { sha256, .. } = &token else { panic!("a token's record") };
    let webhook = crate::definitions::WebhookConfig {
        url: "https://u:pw@hooks.example/services/T0/pathsecret?key=querysecret".to_owned(),
        secret: Some("hmackey".to_owned()),
        concurrency: None,
        timeout_ms: None,
        headers: [("authorization".to_owned(), "Bearer headersecret".to_owned())].into(),
        format: None,
    };
    let salted = CredentialRecord::SaltedHash {
        algorithm: crate::definitions::HashAlgorithm::Sha256,
        salt: "c2FsdHk=".to_owned(),
        hash: "aGFzaHk=".to_owned(),
    };
    let stored = crate::UserChange {
        stored_password: Some(crate::StoredPassword::Record(salted)),
        ..crate::UserChange::default()
    };
    let registry = users(options());
    registry.put("ada", config.clone());
    let all = format!(
        "{config:?} {token:?} {webhook:?} {stored:?} {:?} {:?} {registry:?}",
        login("ada", "hunter2"),
        Credentials::Token(text.clone()),
    );
    let (_, secret) = split_token(&text).unwrap();
    for hidden in [
        phc,
        sha256,
        secret,
        "hunter2",
        "pw",
        "pathsecret",
        "querysecret",
        "hmackey",
        "headersecret",
        "c2FsdHk",
        "aGFzaHk",
    ] {
        assert!(!all.contains(hidden), "{hidden:?} is in {all}");
    }
    assert!(all.contains("https://hooks.example") && all.contains("authorization"), "{all}");
}
