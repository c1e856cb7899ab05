//! Users, tokens, and who may do what.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use broker::definitions::{
    BindingTarget, CredentialRecord, DeadLetterConfig, GroupConfig, GroupStart, HashAlgorithm, NamespaceConfig,
    Permissions, PolicyScope, PolicyValues, QueueConfig, Quota, RouterConfig, SubjectPermissions, TopicConfig,
    UserLimits,
};
use broker::queue::{ConsumerRules, Settle};
use broker::views::{Declared, ReadFrom};
use broker::{
    AccessError, ConsumerOptions, Credentials, DeclareError, Principal, PublishOptions, PublishTo, Publishes,
    QuotaError, Receipt, Receive, Redrive, Session, StoredPassword, UserChange,
};
use types::{Filter, Offset};

use crate::harness::{Bench, bind, publish, queue, receive, topic};
use crate::support::{binding, indexed, message, pattern, policy, reading, through};

fn anyone(bench: &Bench) -> Principal {
    bench.broker.authenticate(&Credentials::Anonymous).expect("open")
}

fn password(user: &str, password: &str) -> Credentials {
    Credentials::Password { user: user.to_owned(), password: password.to_owned() }
}

fn admin() -> UserChange {
    UserChange { password: Some("correct horse".into()), admin: Some(true), ..UserChange::default() }
}

async fn with_admin() -> (Bench, Principal) {
    let bench = Bench::new();
    bench.broker.put_user(&anyone(&bench), "root", admin()).await.expect("makes");
    let root = bench.broker.authenticate(&password("root", "correct horse")).expect("is let in");
    (bench, root)
}

/// A user who may do exactly this, and a session of it.
async fn user_with(bench: &Bench, root: &Principal, name: &str, permissions: Permissions) -> Session {
    let change = UserChange { permissions: vec![("default".into(), Some(permissions))], ..UserChange::default() };
    bench.broker.put_user(root, name, change).await.expect("puts");
    let token = bench.broker.create_token(root, name, "for a test", None).await.expect("makes");
    let principal = bench.broker.authenticate(&Credentials::Token(token)).expect("is let in");
    bench.broker.session(&principal, "default").expect("sees it")
}

fn may(configure: &[&str], write: &[&str], read: &[&str]) -> Permissions {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Permissions { configure: list(configure), write: list(write), read: list(read), ..Permissions::default() }
}

#[tokio::test]
async fn the_first_user_administers_and_ends_anonymous_use() {
    let bench = Bench::new();
    let (session, nobody) = (bench.session(), anyone(&bench));
    topic(&session, "t", indexed()).await;
    let change = UserChange { password: Some("pw-long-enough".into()), ..UserChange::default() };
    let refused = bench.broker.put_user(&nobody, "u", change.clone()).await;
    assert!(matches!(&refused, Err(DeclareError::Invalid { field, .. }) if field == "admin"), "{refused:?}");
    let locked_out = UserChange { admin: Some(true), ..UserChange::default() };
    let refused = bench.broker.put_user(&nobody, "u", locked_out).await;
    assert!(matches!(&refused, Err(DeclareError::Invalid { field, .. }) if field == "password"), "{refused:?}");
    assert_eq!(bench.broker.put_user(&nobody, "root", admin()).await.unwrap(), Declared::Created);
    assert_eq!(bench.broker.authenticate(&Credentials::Anonymous), Err(AccessError::Unauthenticated));
    assert!(matches!(session.topics(), Err(DeclareError::Access(AccessError::Unauthenticated))));
    assert!(matches!(bench.broker.users(&nobody), Err(DeclareError::Access(AccessError::Unauthenticated))));
    assert!(bench.broker.authenticate(&password("root", "wrong")).is_err());
    let root = bench.broker.authenticate(&password("root", "correct horse")).unwrap();
    // The last administrator stays one while there are others to administer.
    bench.broker.put_user(&root, "u", change).await.unwrap();
    let demoted = UserChange { admin: Some(false), ..UserChange::default() };
    let in_use = bench.broker.put_user(&root, "root", demoted.clone()).await;
    assert!(matches!(in_use, Err(DeclareError::InUse { .. })));
    assert!(matches!(bench.broker.delete_user(&root, "root").await, Err(DeclareError::InUse { .. })));
    bench.broker.put_user(&root, "second", admin()).await.unwrap();
    assert_eq!(bench.broker.put_user(&root, "root", demoted).await.unwrap(), Declared::Updated);
    let forbidden = bench.broker.users(&root);
    assert!(matches!(forbidden, Err(DeclareError::Access(AccessError::Forbidden { .. }))), "no longer one");
    drop(session);
    let bench = bench.restart();
    let second = bench.broker.authenticate(&password("second", "correct horse")).unwrap();
    let users = bench.broker.users(&second).unwrap();
    let shown: Vec<_> = users.iter().map(|user| (user.name.as_str(), user.admin, user.has_password)).collect();
    assert_eq!(shown, [("root", false, true), ("second", true, true), ("u", false, true)]);
}

#[tokio::test]
async fn a_session_ends_with_its_user_its_token_and_the_tokens_time() {
    let (bench, root) = with_admin().await;
    let session = user_with(&bench, &root, "u", may(&["*"], &["*"], &["*"])).await;
    topic(&session, "t", indexed()).await;
    queue(&session, "q", QueueConfig::default()).await;
    let rules = ConsumerRules { exclusive: false, priority: 0, lease: None, auto_ack: false };
    let mut consumer = session.consume("q", ConsumerOptions { name: "c".into(), rules }).unwrap();
    let mut live = session.subscribe(pattern(">"), None).unwrap();
    let by_root = bench.broker.session(&root, "default").unwrap();
    // Permissions that change hold for sessions that are open.
    let nothing =
        UserChange { permissions: vec![("default".into(), Some(may(&[], &[], &["x"])))], ..Default::default() };
    bench.broker.put_user(&root, "u", nothing).await.unwrap();
    assert!(matches!(session.read("t", reading(0, ReadFrom::Earliest)).await, Err(error) if forbidden(&error)));
    publish(&by_root, PublishTo::Queue("q".into()), vec![message("", "x")]).await;
    publish(&by_root, PublishTo::Subject, vec![message("s", "x")]).await;
    let credit = broker::queue::Credit { messages: 1, bytes: u64::MAX };
    assert!(consumer.next(credit).await.is_err_and(|error| forbidden(&error)));
    assert_eq!(live.next().await, None);
    let all =
        UserChange { permissions: vec![("default".into(), Some(may(&["*"], &["*"], &["*"])))], ..Default::default() };
    bench.broker.put_user(&root, "u", all.clone()).await.unwrap();
    assert!(session.topics().is_ok());
    let id = bench.broker.users(&root).unwrap().into_iter().find(|user| user.name == "u").unwrap().tokens[0].0.clone();
    bench.broker.revoke_token(&root, &id).await.unwrap();
    assert!(matches!(session.topics(), Err(DeclareError::Access(AccessError::Unauthenticated))));
    assert!(matches!(bench.broker.revoke_token(&root, &id).await, Err(DeclareError::NotFound { .. })));
    // A token that runs out.
    let now = types::Clock::now(&*bench.clock).wall;
    let token = bench.broker.create_token(&root, "u", "short", Some(now.0 + 60_000)).await.unwrap();
    let principal = bench.broker.authenticate(&Credentials::Token(token.clone())).unwrap();
    let session = bench.broker.session(&principal, "default").unwrap();
    bench.clock.advance(Duration::from_secs(59));
    assert!(session.topics().is_ok());
    bench.clock.advance(Duration::from_secs(1));
    assert!(matches!(session.topics(), Err(DeclareError::Access(AccessError::Unauthenticated))));
    assert_eq!(bench.broker.authenticate(&Credentials::Token(token)), Err(AccessError::Unauthenticated));
    assert!(matches!(bench.broker.session(&principal, "default"), Err(AccessError::Unauthenticated)));
    // A user who is deleted and made again is somebody else.
    let session = user_with(&bench, &root, "u", may(&["*"], &["*"], &["*"])).await;
    assert!(session.topics().is_ok());
    bench.broker.delete_user(&root, "u").await.unwrap();
    bench.broker.put_user(&root, "u", all).await.unwrap();
    assert!(matches!(session.topics(), Err(DeclareError::Access(AccessError::Unauthenticated))));
}

fn forbidden(error: &dyn std::fmt::Debug) -> bool {
    format!("{error:?}").contains("Forbidden")
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

struct Operation {
    name: &'static str,
    needs: &'static [(&'static str, &'static str)],
    call: for<'a> fn(&'a Session, Receipt) -> Answer<'a>,
}

macro_rules! operation {
    ($name:literal, $needs:expr, |$session:ident, $receipt:ident| $call:expr) => {
        Operation {
            name: $name,
            needs: $needs,
            call: |$session, $receipt| {
                Box::pin(async move {
                    let _ = $receipt;
                    $call.map(drop).map_err(|error| format!("{error:?}"))
                })
            },
        }
    };
}

const READ: &str = "read";
const WRITE: &str = "write";
const CONFIGURE: &str = "configure";

fn of_queue(queue: &str) -> PublishTo {
    PublishTo::Queue(queue.to_owned())
}

fn group() -> GroupConfig {
    GroupConfig { topic: "t".into(), start: GroupStart::Earliest, session_ms: None }
}

fn options() -> PublishOptions {
    PublishOptions::default()
}

fn operations() -> Vec<Operation> {
    let topics = vec![
        operation!("declare_topic", &[(CONFIGURE, "new")], |s, r| s
            .declare_topic("new", TopicConfig::default(), false)
            .await),
        operation!("declare_topic, alternate", &[(CONFIGURE, "new"), (WRITE, "t")], |s, r| {
            s.declare_topic("new", TopicConfig { alternate: Some("t".into()), ..TopicConfig::default() }, true).await
        }),
        operation!("declare_topic, captures", &[(CONFIGURE, "new"), (READ, "s.>")], |s, r| {
            s.declare_topic("new", TopicConfig { captures: Some(vec!["s.>".into()]), ..TopicConfig::default() }, true)
                .await
        }),
        operation!("delete_topic", &[(CONFIGURE, "new")], |s, r| s.delete_topic("new", false).await),
        operation!("read", &[(READ, "t")], |s, r| s.read("t", reading(0, ReadFrom::Earliest)).await),
        operation!("read_key", &[(READ, "t")], |s, r| s.read_key("t", b"k", types::Offset::ZERO, 1)),
        operation!("last_value", &[(READ, "t")], |s, r| s.last_value("t", b"k")),
        operation!("publish to a topic", &[(WRITE, "t")], |s, r| s
            .publish(&through("t"), vec![message("", "x")], options())
            .await),
        operation!("publish to a queue", &[(WRITE, "q")], |s, r| s
            .publish(&of_queue("q"), vec![message("", "x")], options())
            .await),
        operation!("publish to a captured subject", &[(WRITE, "t")], |s, r| {
            s.publish(&PublishTo::Subject, vec![message("t.x", "x")], options()).await
        }),
        operation!("publish to subjects", &[(WRITE, "free.1"), (WRITE, "free.2"), (WRITE, "t")], |s, r| {
            let messages = ["free.1", "free.2", "t.x", "free.1"].map(|subject| message(subject, "x"));
            s.publish(&PublishTo::Subject, messages.into(), options()).await
        }),
        operation!("request", &[(WRITE, "free.1")], |s, r| s.request(message("free.1", "x"), Duration::ZERO).await),
        operation!("reply", &[(WRITE, "free.1")], |s, r| {
            let request = types::Message { reply_to: Some("free.1".into()), ..message("", "") };
            s.reply(&request, message("", "x")).await
        }),
        operation!("subscribe", &[(READ, "free.*")], |s, r| s.subscribe(pattern("free.*"), None)),
        operation!("bind", &[(READ, "t"), (WRITE, "q")], |s, r| {
            s.bind(binding("t", BindingTarget::Queue("q".into()), Filter::SubjectExact("z".into()))).await
        }),
        operation!("bind to a topic", &[(READ, "t"), (WRITE, "u")], |s, r| {
            s.bind(binding("t", BindingTarget::Topic("u".into()), Filter::SubjectExact("z".into()))).await
        }),
        operation!("unbind", &[(READ, "t"), (WRITE, "bound")], |s, r| {
            let internal = s.broker().internal_session("default").expect("there");
            let target = BindingTarget::Queue("bound".into());
            match internal.bindings(None, Some(&target)).expect("all").first() {
                Some(binding) => s.unbind(binding.id).await,
                None => Ok(()),
            }
        }),
        operation!("unbind_same", &[(READ, "t"), (WRITE, "q")], |s, r| {
            s.unbind_same(binding("t", BindingTarget::Queue("q".into()), Filter::SubjectExact("z".into()))).await
        }),
    ];
    let groups = vec![
        operation!("declare_group", &[(CONFIGURE, "new"), (READ, "t")], |s, r| s
            .declare_group("new", group(), false)
            .await),
        operation!("delete_group", &[(CONFIGURE, "new")], |s, r| s.delete_group("new").await),
        operation!("group", &[(READ, "g")], |s, r| s.group("g")),
        operation!("join_group", &[(READ, "g"), (READ, "t")], |s, r| s.join_group("g", "m")),
        operation!("fetch_group", &[(READ, "g"), (READ, "t")], |s, r| s
            .fetch_group("g", "m", 0, 1, Duration::ZERO)
            .await),
        operation!("leave_group", &[(READ, "g")], |s, r| s.leave_group("g", "m")),
        operation!("commit_group", &[(READ, "g"), (READ, "t")], |s, r| s
            .commit_group("g", None, &[(0, Offset(0))])
            .await),
        operation!("seek_group", &[(READ, "g"), (READ, "t")], |s, r| s.seek_group("g", None, ReadFrom::Earliest).await),
    ];
    let queues = vec![
        operation!("declare_queue", &[(CONFIGURE, "new")], |s, r| s
            .declare_queue("new", QueueConfig::default(), true)
            .await),
        operation!("declare_queue, dead letters", &[(CONFIGURE, "new"), (WRITE, "dead")], |s, r| {
            let dead_letter = Some(DeadLetterConfig::Queue("dead".into()));
            s.declare_queue("new", QueueConfig { dead_letter, ..QueueConfig::default() }, true).await
        }),
        operation!("declare_owned_queue", &[(CONFIGURE, "held")], |s, r| s
            .with_owner()
            .declare_owned_queue("held", QueueConfig::default(), true)
            .await),
        operation!("delete_queue", &[(CONFIGURE, "new")], |s, r| s.delete_queue("new", false, false).await),
        operation!("purge", &[(READ, "other")], |s, r| s.purge("other").await),
        operation!("receive", &[(READ, "other")], |s, r| {
            let receive = Receive { max: 1, max_bytes: 1, wait: Duration::ZERO, lease: None, auto_ack: false };
            s.receive("other", receive).await
        }),
        operation!("consume", &[(READ, "other")], |s, r| {
            let rules = ConsumerRules { exclusive: false, priority: 0, lease: None, auto_ack: false };
            s.consume("other", ConsumerOptions { name: "c".into(), rules })
        }),
        operation!("browse", &[(READ, "q")], |s, r| s.browse("q", Offset(0), 1)),
        operation!("redrive", &[(READ, "other"), (WRITE, "q")], |s, r| s
            .redrive("other", Redrive { to: Some("q".into()), ..Redrive::default() })),
        operation!("stop_redrive", &[(READ, "other")], |s, r| s.stop_redrive("other")),
        operation!("extend", &[(READ, "q")], |s, r| s.extend(r, Duration::from_secs(60))),
        operation!("ack_and_publish", &[(READ, "q"), (WRITE, "t")], |s, r| {
            s.ack_and_publish(r, vec![(through("t"), vec![message("", "x")])]).await
        }),
        operation!("settle", &[(READ, "q")], |s, r| s.settle(vec![(r, Settle::Ack)]).await.remove(0)),
    ];
    topics.into_iter().chain(groups).chain(queues).collect()
}

#[tokio::test]
async fn every_operation_is_refused_for_want_of_any_one_permission_and_works_with_all_of_them() {
    let (bench, root) = with_admin().await;
    let by_root = bench.broker.session(&root, "default").unwrap();
    for name in ["t", "u"] {
        topic(&by_root, name, indexed()).await;
    }
    for name in ["q", "other", "bound"] {
        queue(&by_root, name, QueueConfig::default()).await;
    }
    bind(&by_root, "t", "bound", Filter::All).await;
    by_root.declare_group("g", group(), false).await.unwrap();
    publish(&by_root, of_queue("q"), vec![message("", "x")]).await;
    let receipt = receive(&by_root, "q", 1).await[0].receipt;
    let session = user_with(&bench, &root, "u", may(&["zz"], &[], &[])).await;
    for operation in operations() {
        for missing in operation.needs.iter().map(Some).chain([None]) {
            let of = |action: &str| -> Vec<&str> {
                let given = operation.needs.iter().filter(|need| Some(*need) != missing);
                let mut names: Vec<&str> = given.filter(|(have, _)| *have == action).map(|(_, name)| *name).collect();
                names.push("zz");
                names
            };
            let permissions = may(&of(CONFIGURE), &of(WRITE), &of(READ));
            let change =
                UserChange { permissions: vec![("default".into(), Some(permissions))], ..UserChange::default() };
            bench.broker.put_user(&root, "u", change).await.unwrap();
            let result = (operation.call)(&session, receipt).await;
            let refused = result.as_ref().is_err_and(|error| error.contains("Forbidden"));
            assert_eq!(refused, missing.is_some(), "{} without {missing:?}: {result:?}", operation.name);
        }
    }
    let administer: Vec<(&str, Result<(), DeclareError>)> = vec![
        ("put_policy", session.put_policy("p", policy("*", PolicyScope::All, PolicyValues::default())).await.map(drop)),
        ("delete_policy", session.delete_policy("p").await),
    ];
    for (name, result) in administer {
        assert!(result.is_err_and(|error| forbidden(&error)), "{name}");
    }
}

#[tokio::test]
async fn lists_show_what_a_user_may_see_and_namespaces_without_permission_do_not_exist() {
    let (bench, root) = with_admin().await;
    bench.broker.put_namespace(&root, "other", Default::default()).await.unwrap();
    let by_root = bench.broker.session(&root, "default").unwrap();
    for name in ["orders", "orders.eu", "secret"] {
        topic(&by_root, name, indexed()).await;
        queue(&by_root, name, QueueConfig::default()).await;
        bind(&by_root, name, name, Filter::All).await;
        let on = GroupConfig { topic: name.into(), ..group() };
        by_root.declare_group(name, on, false).await.unwrap();
    }
    let session = user_with(&bench, &root, "u", may(&[], &["orders"], &["orders.*"])).await;
    let topics: Vec<String> = session.topics().unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(topics, ["orders", "orders.eu"]);
    let queues: Vec<String> = session.queues().unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(queues, ["orders", "orders.dlq", "orders.eu", "orders.eu.dlq"]);
    assert_eq!(session.bindings(None, None).unwrap().len(), 2);
    assert_eq!(session.groups().unwrap().len(), 2);
    assert!(session.topic("secret").is_err_and(|error| forbidden(&error)));
    assert!(session.topic("absent").is_err_and(|error| forbidden(&error)), "whether it exists is not said");
    assert!(session.queue("secret").is_err_and(|error| forbidden(&error)));
    let token = bench.broker.create_token(&root, "u", "x", None).await.unwrap();
    let principal = bench.broker.authenticate(&Credentials::Token(token)).unwrap();
    assert!(matches!(bench.broker.session(&principal, "other"), Err(AccessError::NoSuchNamespace(_))));
    let names: Vec<String> = bench.broker.namespaces(&principal).unwrap().into_iter().map(|info| info.name).collect();
    assert_eq!(names, ["default"]);
    for result in [
        bench.broker.put_namespace(&principal, "x", Default::default()).await.map(drop),
        bench.broker.delete_namespace(&principal, "other").await,
        bench.broker.put_user(&principal, "x", UserChange::default()).await.map(drop),
        bench.broker.delete_user(&principal, "root").await,
        bench.broker.users(&principal).map(drop),
        bench.broker.create_token(&principal, "u", "x", None).await.map(drop),
        bench.broker.revoke_token(&principal, "x").await,
    ] {
        assert!(result.is_err_and(|error| forbidden(&error)));
    }
}

#[tokio::test]
async fn a_namespace_made_again_is_closed_to_those_who_could_enter_the_old_one() {
    let (bench, root) = with_admin().await;
    bench.broker.put_namespace(&root, "other", Default::default()).await.unwrap();
    let permissions = vec![("other".to_owned(), Some(may(&["*"], &["*"], &["*"])))];
    bench.broker.put_user(&root, "u", UserChange { permissions, ..UserChange::default() }).await.unwrap();
    let token = bench.broker.create_token(&root, "u", "x", None).await.unwrap();
    let principal = bench.broker.authenticate(&Credentials::Token(token)).unwrap();
    assert!(bench.broker.session(&principal, "other").is_ok());
    bench.broker.delete_namespace(&root, "other").await.unwrap();
    bench.broker.put_namespace(&root, "other", Default::default()).await.unwrap();
    assert!(bench.broker.session(&principal, "other").is_err());
    let bench = bench.restart();
    let root = bench.broker.authenticate(&password("root", "correct horse")).unwrap();
    let users = bench.broker.users(&root).unwrap();
    assert!(users.iter().all(|user| user.permissions.is_empty()));
}

#[tokio::test]
async fn the_last_administrator_may_go_only_where_the_broker_is_open_without_users() {
    let (bench, root) = with_admin().await;
    bench.broker.delete_user(&root, "root").await.unwrap();
    assert!(bench.session().topics().is_ok(), "open again, as it was before there were users");
    bench.broker.put_user(&anyone(&bench), "root", admin()).await.unwrap();
    let options = broker::BrokerOptions { anonymous: false, ..Default::default() };
    let closed = broker::Broker::open(Arc::new(bench.log.reopen()), bench.clock.clone(), options).unwrap();
    assert_eq!(closed.authenticate(&Credentials::Anonymous), Err(AccessError::Unauthenticated));
    let root = closed.authenticate(&password("root", "correct horse")).unwrap();
    assert!(matches!(closed.delete_user(&root, "root").await, Err(DeclareError::InUse { .. })));
}

/// A user who may do anything with topics, of which `t` routes by subject and is restricted, and `u` is not of that kind.
async fn restricted(bench: &Bench, root: &Principal) -> Session {
    let by_root = bench.broker.session(root, "default").unwrap();
    topic(&by_root, "t", TopicConfig { router: RouterConfig::Subject, ..indexed() }).await;
    topic(&by_root, "u", indexed()).await;
    queue(&by_root, "q", QueueConfig::default()).await;
    let only = || SubjectPermissions {
        write: vec!["regex:^{username}\\.".into(), "{client_id}".into()],
        read: vec!["u.*".into(), "#".into()],
    };
    let subjects = [("t".to_owned(), only()), ("u".to_owned(), only())].into();
    user_with(bench, root, "u", Permissions { subjects, ..may(&["*"], &["*"], &["*"]) }).await
}

#[tokio::test]
async fn publishes_through_a_topic_that_routes_by_subject_keep_to_the_subjects_permitted() {
    let (bench, root) = with_admin().await;
    let session = restricted(&bench, &root).await;
    let put = async |session: &Session, to: PublishTo, subjects: &[&str]| {
        let messages = subjects.iter().map(|subject| message(subject, "x")).collect();
        session.publish(&to, messages, options()).await
    };
    assert!(put(&session, through("t"), &["u.1", "u.2"]).await.is_ok());
    let refused = put(&session, through("t"), &["u.1", "other"]).await.unwrap_err();
    let expected = r#"user "u" may not write subject "other" of topic "t" in namespace "default""#;
    assert_eq!(refused.to_string(), expected);
    assert!(put(&session, PublishTo::Subject, &["t.x"]).await.is_err_and(|error| forbidden(&error)), "captured by t");
    assert!(put(&session, through("u"), &["other"]).await.is_ok(), "its bindings do not filter by subject patterns");
    let receipt = {
        publish(&session, of_queue("q"), vec![message("", "x")]).await;
        receive(&session, "q", 1).await[0].receipt
    };
    let with_ack = session.ack_and_publish(receipt, vec![(through("t"), vec![message("other", "x")])]).await;
    assert!(with_ack.is_err_and(|error| forbidden(&error)));
    let both = Publishes::to(through("t"), vec![message("u.1", "x"), message("no", "x")]);
    let each = session.publish_each(both, options()).await;
    assert_eq!(each.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false]);
    // A client's id.
    assert!(put(&session, through("t"), &["c7"]).await.is_err());
    let client = session.clone().with_client_id("c7");
    assert!(put(&client, through("t"), &["c7", "u.1"]).await.is_ok());
    assert!(put(&client, through("t"), &["c8"]).await.is_err());
    assert_eq!(client.may_write_subject("t", b"c7"), Ok(()));
    assert!(client.may_write_subject("t", b"c8").is_err() && client.may_write_subject("u", b"c8").is_ok());
    let by_root = bench.broker.session(&root, "default").unwrap();
    assert!(put(&by_root, through("t"), &["anything"]).await.is_ok(), "administrators are not restricted");
}

#[tokio::test]
async fn bindings_of_such_a_topic_keep_to_the_patterns_permitted() {
    let (bench, root) = with_admin().await;
    let session = restricted(&bench, &root).await;
    let by_root = bench.broker.session(&root, "default").unwrap();
    let bind_with = |topic: &str, filter: Filter| binding(topic, BindingTarget::Queue("q".into()), filter);
    for (filter, allowed) in [
        (Filter::Subject(pattern("u.*.x")), true),
        (Filter::Subject(pattern("v.*")), false),
        (Filter::SubjectExact("u.1".into()), true),
        (Filter::SubjectExact("v".into()), false),
        (Filter::Subject(pattern("*")), false),
        (Filter::All, true),
    ] {
        let result = session.bind(bind_with("t", filter.clone())).await;
        assert_eq!(result.is_ok(), allowed, "{filter:?}: {result:?}");
        assert!(allowed || result.is_err_and(|error| forbidden(&error)));
        // What others bound is not theirs to undo.
        let (_, made) = by_root.bind(bind_with("t", filter.clone())).await.unwrap();
        assert_eq!(session.unbind(made.id).await.is_ok(), allowed, "{filter:?}");
    }
    assert!(session.bind(bind_with("u", Filter::SubjectExact("v".into()))).await.is_ok(), "u is not of that kind");
}

#[tokio::test]
async fn what_may_be_done_can_be_asked_before_it_is_done() {
    let (bench, root) = with_admin().await;
    let permissions = may(&["regex:^mine"], &["regex:^amq\\.default$", "regex:^$"], &[]);
    let session = user_with(&bench, &root, "u", permissions.clone()).await;
    assert_eq!(session.may_configure("queue", "mine.1"), Ok(()), "which is not there yet");
    assert_eq!((session.may_write("topic", ""), session.may_write("topic", "amq.default")), (Ok(()), Ok(())));
    let refused = session.may_read("queue", "mine.1").unwrap_err();
    assert_eq!(refused.to_string(), r#"user "u" may not read queue "mine.1" in namespace "default""#);
    let by_root = bench.broker.session(&root, "default").unwrap();
    queue(&by_root, "q", QueueConfig::default()).await;
    let send = async |session: &Session| session.publish(&of_queue("q"), vec![message("", "x")], options()).await;
    assert!(send(&session).await.is_err_and(|error| forbidden(&error)));
    let by_name = session.clone().writing_to_queues_as("topic", "amq.default");
    assert!(send(&by_name).await.is_ok(), "asks for the name's permission and not the queue's");
    let closed = by_root.clone().writing_to_queues_as("topic", "amq.default");
    assert!(send(&closed).await.is_ok());
    let user = Credentials::Token(bench.broker.create_token(&root, "u", "", None).await.unwrap());
    let user = bench.broker.authenticate(&user).unwrap();
    let own = bench.broker.own_user(&user).unwrap().unwrap();
    assert_eq!((own.name.as_str(), own.permissions.get("default")), ("u", Some(&permissions)));
    assert!(own.permissions.len() == 1 && !own.admin);
    let seen: Vec<_> = bench.broker.namespaces(&user).unwrap().into_iter().map(|space| space.name).collect();
    assert_eq!(seen, ["default"]);
    bench.broker.delete_user(&root, "u").await.unwrap();
    assert_eq!(bench.broker.own_user(&user), Err(AccessError::Unauthenticated));
}

#[tokio::test]
async fn passwords_come_and_go_as_they_are_stored() {
    let (bench, root) = with_admin().await;
    let hash = "ShRPvRCsG2NrOlnf/5D8X/r7n2BwK/iIKZd+PCEOe6Q=".to_owned();
    let record = CredentialRecord::SaltedHash { algorithm: HashAlgorithm::Sha256, salt: "AQIDBA==".to_owned(), hash };
    let stored = |stored| UserChange { stored_password: Some(stored), ..UserChange::default() };
    bench.broker.put_user(&root, "ada", stored(StoredPassword::Record(record.clone()))).await.unwrap();
    let ada = bench.broker.authenticate(&password("ada", "correct hörse")).expect("is let in");
    assert!(bench.broker.user_definitions(&ada).is_err_and(|error| forbidden(&error)), "administrators only");
    let exported = bench.broker.user_definitions(&root).unwrap();
    assert_eq!(exported[0].1.credentials, [record]);
    // Back into another broker, the password that was hashed here too.
    let other = Bench::new();
    let (name, config) = exported[1].clone();
    let change = UserChange {
        stored_password: Some(StoredPassword::Record(config.credentials[0].clone())),
        admin: Some(true),
        ..UserChange::default()
    };
    other.broker.put_user(&anyone(&other), &name, change).await.unwrap();
    assert!(other.broker.authenticate(&password("root", "correct horse")).is_ok());
    // A new one replaces it, none takes it away, and both at once mean nothing.
    let new = UserChange { password: Some("another one".into()), ..UserChange::default() };
    bench.broker.put_user(&root, "ada", new.clone()).await.unwrap();
    assert!(bench.broker.authenticate(&password("ada", "correct hörse")).is_err());
    let both = UserChange { stored_password: Some(StoredPassword::None), ..new };
    assert!(matches!(bench.broker.put_user(&root, "ada", both).await, Err(DeclareError::Invalid { .. })));
    bench.broker.put_user(&root, "ada", stored(StoredPassword::None)).await.unwrap();
    assert!(bench.broker.authenticate(&password("ada", "another one")).is_err());
    assert!(!bench.broker.users(&root).unwrap()[0].has_password);
}

#[tokio::test]
async fn a_user_for_this_machine_only_survives_a_restart_as_one() {
    let (bench, root) = with_admin().await;
    let change = UserChange { loopback_only: Some(true), password: Some("guest".into()), ..UserChange::default() };
    bench.broker.put_user(&root, "guest", change).await.unwrap();
    let bench = bench.restart();
    let from = |address: &str| bench.broker.login(password("guest", "guest"), Some(address.parse().unwrap()));
    assert!(from("127.0.0.1").await.is_ok());
    assert_eq!(from("192.0.2.1").await, Err(AccessError::Unauthenticated));
}

#[tokio::test]
async fn connections_and_channels_are_counted_and_bounded() {
    let (bench, root) = with_admin().await;
    let quota = Quota { max_connections: Some(2), ..Quota::default() };
    let config = NamespaceConfig { quota, ..NamespaceConfig::default() };
    bench.broker.put_namespace(&root, "default", config).await.unwrap();
    let session = user_with(&bench, &root, "u", may(&["*"], &[], &[])).await;
    let limits = UserLimits { max_connections: Some(1), max_channels: Some(2) };
    let change = UserChange { limits: Some(limits), ..UserChange::default() };
    bench.broker.put_user(&root, "u", change).await.unwrap();
    let held = || {
        let user = bench.broker.users(&root).unwrap().into_iter().find(|user| user.name == "u").unwrap();
        (bench.broker.namespaces(&root).unwrap()[0].connections, user.connections, user.channels)
    };
    let reached = |refused: QuotaError| match refused {
        QuotaError::Reached { limit, value } => (limit, value),
        other => panic!("{other:?}"),
    };
    let connection = session.connection_guard().unwrap();
    assert_eq!(reached(session.connection_guard().unwrap_err()), ("max_connections of the user", 1));
    let channels = [connection.channel().unwrap(), connection.channel().unwrap()];
    assert_eq!(reached(connection.channel().unwrap_err()), ("max_channels of the user", 2));
    assert_eq!(held(), (1, 1, 2));
    let by_root = bench.broker.session(&root, "default").unwrap();
    let others = by_root.connection_guard().unwrap();
    assert_eq!(reached(by_root.connection_guard().unwrap_err()), ("max_connections of the namespace", 2));
    assert_eq!(held(), (2, 1, 2), "what was refused is not counted");
    drop(channels);
    drop(connection);
    assert_eq!(held(), (1, 0, 0));
    let again = session.connection_guard().unwrap();
    drop((again, others));
    assert_eq!(held(), (0, 0, 0));
    bench.broker.delete_user(&root, "u").await.unwrap();
    assert!(matches!(session.connection_guard(), Err(QuotaError::Access(AccessError::Unauthenticated))));
}
