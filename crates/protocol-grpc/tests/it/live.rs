//! Live subscriptions, requests and answers.

use std::time::Duration;

use api::grpc as g;
use api::grpc::live_client::LiveClient;
use tonic::{Code, Request};

use crate::harness::{Server, body, frames, next, refusal, soon};

fn ask(subject: &str, text: &str) -> g::RequestRequest {
    let message = types::Message::new(subject.to_owned(), text.to_owned());
    g::RequestRequest { message: Some(message.into()), ..Default::default() }
}

fn subscribe(subject: &str) -> g::SubscribeRequest {
    g::SubscribeRequest { subject: subject.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_subscription_gets_what_is_published_from_then_on() {
    let server = Server::start().await;
    let mut client = LiveClient::new(server.channel.clone());
    let mut answers = client.subscribe(subscribe("a.*")).await.unwrap().into_inner();
    assert!(next(&mut answers).await.opened);
    let messages = (0..100).map(|number| types::Message::new("a.b", number.to_string())).collect();
    server.session().publish(&broker::PublishTo::Subject, messages, Default::default()).await.unwrap();
    let mut found = Vec::new();
    while found.len() < 100 {
        found.extend(next(&mut answers).await.messages.into_iter().map(|message| body(Some(message))));
    }
    assert_eq!(found, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    let status = client.subscribe(subscribe("a.>.b")).await.unwrap_err();
    assert_eq!(refusal(&status).2, "subject");
}

#[tokio::test]
async fn requests_are_answered_on_a_stream() {
    let server = Server::start().await;
    let mut client = LiveClient::new(server.channel.clone());
    let status = client.request(ask("upper", "a")).await.unwrap_err();
    assert_eq!((status.code(), refusal(&status).1.as_str()), (Code::Unavailable, "no-responders"));

    let (send, stream) = frames();
    let mut serving = client.reply(stream).await.unwrap().into_inner();
    send.send(g::ReplyFrame { open: Some(subscribe("upper")), ..Default::default() }).await.unwrap();
    assert!(next(&mut serving).await.opened);
    let asking = {
        let mut client = client.clone();
        tokio::spawn(async move { client.request(ask("upper", "abc")).await })
    };
    let mut asked = next(&mut serving).await;
    assert_eq!((asked.first, asked.requests.len()), (1, 1));
    let answer = body(asked.requests.pop()).to_uppercase();
    let answer = g::Answer { request: 1, message: Some(types::Message::new("", answer).into()) };
    send.send(g::ReplyFrame { answers: vec![answer.clone()], ..Default::default() }).await.unwrap();
    assert_eq!(body(soon(asking).await.unwrap().unwrap().into_inner().message), "ABC");

    // The same request again: it was answered.
    send.send(g::ReplyFrame { answers: vec![answer], ..Default::default() }).await.unwrap();
    let failures = next(&mut serving).await.failures;
    assert_eq!((failures[0].request, failures[0].problem.clone().unwrap().r#type.as_str()), (1, "not-found"));

    // Nobody answers in time; then nobody waits.
    let mut late = Request::new(ask("upper", "abc"));
    late.set_timeout(Duration::from_millis(50));
    // This client keeps the deadline too, and calls that a cancellation; whoever is first tells it.
    let code = soon(client.request(late)).await.unwrap_err().code();
    assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
    assert_eq!(next(&mut serving).await.first, 2);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = g::Answer { request: 2, message: Some(types::Message::new("", "late").into()) };
    send.send(g::ReplyFrame { answers: vec![answer], ..Default::default() }).await.unwrap();
    let failures = next(&mut serving).await.failures;
    assert_eq!(failures[0].problem.clone().unwrap().r#type, "nobody-waits");

    drop(send);
    assert_eq!(soon(serving.message()).await.unwrap(), None);
}

#[tokio::test]
async fn an_inbox_is_of_its_stream_alone_and_no_topic_captures_what_comes() {
    let server = Server::start().await;
    let everything = broker::definitions::TopicConfig {
        retention: Some(broker::definitions::RetentionConfig::default()),
        captures: Some(vec!["#".to_owned()]),
        ..Default::default()
    };
    server.session().declare_topic("all", everything, true).await.unwrap();
    let mut client = LiveClient::new(server.channel.clone());
    let open = |key: u8| g::SubscribeRequest { inbox: vec![key; 16].into(), ..Default::default() };
    let mut mine = client.subscribe(open(1)).await.unwrap().into_inner();
    let mut other = client.subscribe(open(2)).await.unwrap().into_inner();
    let (first, second) = (next(&mut mine).await, next(&mut other).await);
    assert!(first.opened && !first.inbox.is_empty() && first.inbox != second.inbox);
    let answer = types::Message::new(first.inbox.clone(), "yes".to_owned());
    let to = broker::PublishTo::Subject;
    let published = server.session().publish(&to, vec![answer.clone()], Default::default()).await.unwrap();
    assert!(published[0].routed() && published[0].position.is_none(), "{published:?}");
    assert_eq!(body(next(&mut mine).await.messages.pop()), "yes");
    // The same key on another stream: it takes over, and the first one's end takes nothing away.
    let mut again = client.subscribe(open(1)).await.unwrap().into_inner();
    assert_eq!(next(&mut again).await.inbox, first.inbox);
    assert!(soon(mine.message()).await.is_err(), "another has its inbox");
    drop(mine);
    server.session().publish(&to, vec![answer], Default::default()).await.unwrap();
    assert_eq!(body(next(&mut again).await.messages.pop()), "yes");
    let short = g::SubscribeRequest { inbox: vec![1; 15].into(), ..Default::default() };
    let both = g::SubscribeRequest { subject: "a".to_owned(), ..open(3) };
    for wrong in [short, both] {
        assert_eq!(refusal(&client.subscribe(wrong).await.unwrap_err()).2, "inbox");
    }
    let (send, stream) = frames();
    let mut serving = client.reply(stream).await.unwrap().into_inner();
    send.send(g::ReplyFrame { open: Some(open(4)), ..Default::default() }).await.unwrap();
    assert_eq!(refusal(&soon(serving.message()).await.unwrap_err()).2, "inbox");
}
