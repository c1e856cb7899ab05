//! Live subscriptions, requests and their answers.

use std::sync::Arc;
use std::time::Duration;

use broker::definitions::{QueueConfig, TopicConfig};
use broker::{ConsumeError, LiveSubscription, PublishError, PublishTo, RequestError, Session};
use log::Refusal;
use types::{Filter, Message};

use crate::harness::{Bench, bind, publish, queue, receive, topic};
use crate::support::{body, kept, message, pattern, session_of, through};

const LONG: Duration = Duration::from_secs(60);

fn subscribe(session: &Session, text: &str) -> LiveSubscription {
    session.subscribe(pattern(text), None).expect("subscribes")
}

/// What is there now; `None` if nothing is.
async fn next(subscription: &mut LiveSubscription) -> Option<Arc<Message>> {
    tokio::time::timeout(Duration::from_millis(20), subscription.next()).await.ok().flatten()
}

async fn bodies(subscription: &mut LiveSubscription) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(message) = next(subscription).await {
        all.push(body(&message));
    }
    all
}

#[tokio::test]
async fn subscribers_get_what_their_pattern_selects_wherever_it_was_published() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    topic(&session, "quiet", TopicConfig { live: Some(false), ..kept() }).await;
    let (mut all, mut some) = (subscribe(&session, ">"), subscribe(&session, "t.*"));
    let published =
        publish(&session, PublishTo::Subject, vec![message("t.1", "a"), message("t.1.2", "b"), message("free", "c")])
            .await;
    assert_eq!(published.iter().map(|published| published.live).collect::<Vec<_>>(), [2, 1, 1]);
    publish(&session, through("t"), vec![message("x", "d")]).await;
    publish(&session, through("quiet"), vec![message("x", "e")]).await;
    assert_eq!(bodies(&mut all).await, ["a", "b", "c", "d"]);
    assert_eq!(bodies(&mut some).await, ["a"]);
    assert_eq!(bench.broker.metrics().live_subscriptions, 2);
    drop((all, some));
    assert_eq!(bench.broker.metrics().live_subscriptions, 0);
    let published = publish(&session, PublishTo::Subject, vec![message("free", "x")]).await;
    assert!(!published[0].routed());
}

#[tokio::test]
async fn of_a_queue_group_one_member_gets_each_message() {
    let bench = Bench::new();
    let session = bench.session();
    let member = |text: &str| session.subscribe(pattern(text), Some("g".to_owned())).unwrap();
    let (mut a, mut b, mut alone) = (member("s.*"), member("s.>"), subscribe(&session, "s.*"));
    let messages = (0..200).map(|n| message("s.x", &n.to_string())).collect();
    assert!(publish(&session, PublishTo::Subject, messages).await.iter().all(|published| published.live == 2));
    let (of_a, of_b) = (bodies(&mut a).await, bodies(&mut b).await);
    assert!(of_a.len() > 50 && of_b.len() > 50, "{} and {}", of_a.len(), of_b.len());
    let mut both: Vec<u32> = of_a.iter().chain(&of_b).map(|text| text.parse().unwrap()).collect();
    both.sort_unstable();
    assert_eq!(both, (0..200).collect::<Vec<_>>());
    assert_eq!(bodies(&mut alone).await.len(), 200);
}

#[tokio::test]
async fn a_slow_subscriber_loses_the_oldest_and_is_told() {
    let bench = Bench::new();
    let session = bench.session();
    let mut slow = subscribe(&session, "s");
    for from in [0, 5_000] {
        let messages = (from..from + 5_000).map(|n| message("s", &n.to_string())).collect();
        publish(&session, PublishTo::Subject, messages).await;
    }
    let lost = slow.lost();
    assert_eq!(lost, 10_000 - 8_192);
    let got = bodies(&mut slow).await;
    assert_eq!((got.len() as u64 + lost, got[0].as_str(), got.last().unwrap().as_str()), (10_000, "1808", "9999"));
    assert_eq!(bench.broker.metrics().live_lost, lost);
}

#[tokio::test]
async fn live_subscribers_hear_of_a_message_only_once_it_is_durable() {
    let bench = Bench::new();
    let session = bench.session();
    topic(&session, "t", kept()).await;
    let mut live = subscribe(&session, ">");
    bench.log.fail_next(Refusal::DiskFull { free_bytes: 1, reserve_bytes: 2 });
    let refused = session.publish(&through("t"), vec![message("t", "lost")], Default::default()).await;
    assert!(matches!(refused, Err(PublishError::Storage(_))));
    assert_eq!(next(&mut live).await, None);
    publish(&session, through("t"), vec![message("t", "there")]).await;
    assert_eq!(bodies(&mut live).await, ["there"]);
}

#[tokio::test]
async fn a_request_is_answered_and_nobody_else_sees_the_answer() {
    let bench = Bench::new();
    let session = session_of(&bench);
    let (mut everything, mut service) = (subscribe(&session, ">"), subscribe(&session, "service.*"));
    for reserved in ["_inbox.>", "_inbox.*", "_inbox.x"] {
        let refused = session.subscribe(pattern(reserved), None);
        assert!(matches!(refused, Err(ConsumeError::Invalid { .. })), "{reserved}");
    }
    // A topic that captures everything does not capture answers.
    topic(&session, "all", TopicConfig { captures: Some(vec![">".to_owned()]), ..kept() }).await;
    let answering = {
        let session = session.clone();
        tokio::spawn(async move {
            let request = service.next().await.unwrap();
            let answer = message("", &format!("{}!", body(&request)));
            let reached = session.reply(&request, answer.clone()).await.unwrap();
            (reached, request)
        })
    };
    let mut ask = message("service.echo", "hello");
    ask.correlation_id = Some("c-1".into());
    let answer = session.request(ask, LONG).await.unwrap();
    assert_eq!((body(&answer), answer.correlation_id.as_deref()), ("hello!".to_owned(), Some("c-1")));
    let (reached, request) = answering.await.unwrap();
    assert!(reached);
    assert!(!session.reply(&request, message("", "too late")).await.unwrap(), "who asked is gone");
    assert_eq!(bodies(&mut everything).await, ["hello"]);
    let kept = session.read("all", crate::support::reading(0, broker::views::ReadFrom::Earliest)).await.unwrap();
    assert_eq!(crate::support::texts(&kept.records), ["hello"]);
    let large = Message { headers: vec![("ph-id".into(), types::Value::Null)], ..message("", "x") };
    assert!(matches!(session.reply(&request, large).await, Err(RequestError::Publish(PublishError::Invalid { .. }))));
    assert!(session.reply(&message("no", "reply-to"), message("", "x")).await.is_err());
}

#[tokio::test]
async fn a_request_fails_at_once_if_nobody_is_there_and_in_time_if_nobody_answers() {
    let bench = Bench::new();
    let session = bench.session();
    let nobody = session.request(message("service.echo", "x"), LONG).await;
    assert!(matches!(nobody, Err(RequestError::NoResponders(subject)) if subject == "service.echo"));
    assert_eq!(bench.broker.metrics().no_responders, 1);
    let mut silent = subscribe(&session, "service.*");
    let nothing = session.request(message("service.echo", "x"), Duration::from_millis(20)).await;
    assert!(matches!(nothing, Err(RequestError::Timeout(20))));
    let request = next(&mut silent).await.unwrap();
    assert!(request.expires_at.is_some() && request.reply_to.is_some());
}

#[tokio::test]
async fn a_request_may_wait_in_a_queue_for_its_worker_but_no_longer_than_who_asked() {
    let bench = Bench::new();
    let session = session_of(&bench);
    topic(&session, "jobs", TopicConfig::default()).await;
    queue(&session, "work", QueueConfig::default()).await;
    bind(&session, "jobs", "work", Filter::All).await;
    let asking = {
        let session = session.clone();
        tokio::spawn(async move { session.request(message("jobs.double", "21"), LONG).await })
    };
    tokio::task::yield_now().await;
    let taken = receive(&session, "work", 1).await;
    assert!(session.reply(&taken[0].message, message("", "42")).await.unwrap());
    assert_eq!(body(&asking.await.unwrap().unwrap()), "42");
    let nothing = session.request(message("jobs.double", "1"), Duration::from_millis(20)).await;
    assert!(matches!(nothing, Err(RequestError::Timeout(_))));
    bench.pass(Duration::from_secs(1)).await;
    assert!(receive(&session, "work", 1).await.is_empty(), "it expired with the wait");
}

#[tokio::test]
async fn a_reply_to_that_is_no_inbox_is_an_ordinary_subject() {
    let bench = Bench::new();
    let session = bench.session();
    let mut answers = subscribe(&session, "answers.>");
    let request = Message { reply_to: Some("answers.1".into()), ..message("ask", "x") };
    assert!(session.reply(&request, message("", "y")).await.unwrap());
    assert_eq!(bodies(&mut answers).await, ["y"]);
}

#[tokio::test]
async fn subscriptions_end_when_the_broker_stops_or_the_namespace_goes() {
    let bench = Bench::new();
    let session = bench.session();
    let admin = bench.broker.authenticate(&broker::Credentials::Anonymous).unwrap();
    bench.broker.put_namespace(&admin, "other", Default::default()).await.unwrap();
    let other = bench.broker.session(&admin, "other").unwrap();
    let (mut here, mut there) = (subscribe(&session, ">"), subscribe(&other, ">"));
    publish(&other, PublishTo::Subject, vec![message("s", "x")]).await;
    assert_eq!((next(&mut here).await, bodies(&mut there).await), (None, vec!["x".to_owned()]));
    bench.broker.delete_namespace(&admin, "other").await.unwrap();
    assert_eq!(there.next().await, None);
    bench.broker.close().await;
    assert_eq!(here.next().await, None);
    assert!(session.subscribe(pattern(">"), None).is_err());
}
