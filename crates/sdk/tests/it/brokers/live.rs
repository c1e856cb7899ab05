//! Live messages: listeners, groups, requests and answers.

use std::time::Duration;

use sdk::Envelope;
use sdk::transport::{Destination, Outgoing, Transport};
use tokio::time::timeout;

use super::ground::{PATIENCE, Wire, connect, fresh, message, on_both};

on_both!(a_request_is_answered, a_group_hears_each_message_once, it_is_heard_again_after_a_lost_connection);

fn live(message: Envelope) -> Outgoing {
    Outgoing { to: Destination::Live, message }
}

async fn a_request_is_answered(url: &str) {
    let (asks, answers) = (connect(url).await, connect(url).await);
    let word = fresh("word");
    let nobody = asks.publish(vec![live(message("1", &format!("{word}.ask")))]).await.remove(0).unwrap();
    assert_eq!(nobody.routed, Some(false));
    let mut listener = answers.listen(&format!("{word}.*"), None).await.unwrap();
    let mut inbox = asks.open_inbox().await.unwrap();
    let request = Envelope {
        reply_to: Some(inbox.address().into()),
        correlation_id: Some("c".into()),
        ..message("2", &format!("{word}.ask"))
    };
    let published = asks.publish(vec![live(request)]).await.remove(0).unwrap();
    assert_eq!(published.routed, Some(true));
    let heard = timeout(PATIENCE, listener.next()).await.unwrap().unwrap();
    assert_eq!(heard.subject, format!("{word}.ask"));
    let answer = Envelope { correlation_id: heard.correlation_id.clone(), ..message("3", "") };
    answers.answer(heard.reply_to.as_deref().unwrap(), answer).await.unwrap();
    let answer = timeout(PATIENCE, inbox.next()).await.unwrap().unwrap();
    assert_eq!((answer.correlation_id.as_deref(), answer.body.as_deref()), (Some("c"), Some(&b"3"[..])));
    answers.answer(&fresh("gone"), message("4", "")).await.unwrap();
    asks.close().await;
    assert!(timeout(PATIENCE, inbox.next()).await.unwrap().is_none());
}

async fn a_group_hears_each_message_once(url: &str) {
    let amqp = connect(url).await;
    let word = fresh("word");
    let pattern = format!("{word}.#");
    let mut all = amqp.listen(&pattern, None).await.unwrap();
    let mut first = amqp.listen(&pattern, Some("g")).await.unwrap();
    let mut second = amqp.listen(&pattern, Some("g")).await.unwrap();
    let messages = (0..20).map(|at| live(message(&at.to_string(), &format!("{word}.a.b"))));
    assert!(amqp.publish(messages.collect()).await.iter().all(Result::is_ok));
    for _ in 0..20 {
        timeout(PATIENCE, all.next()).await.unwrap().unwrap();
    }
    let mut shared = Vec::new();
    while shared.len() < 20 {
        let heard = tokio::select! {
            heard = first.next() => heard,
            heard = second.next() => heard,
            () = tokio::time::sleep(PATIENCE) => panic!("{} came", shared.len()),
        };
        shared.push(heard.unwrap().id);
    }
    shared.sort_by_key(|id| id.as_ref().unwrap().to_string());
    shared.dedup();
    assert_eq!(shared.len(), 20);
}

async fn it_is_heard_again_after_a_lost_connection(url: &str) {
    let wire = Wire::to(url).await;
    let (amqp, far) = (connect(wire.url()).await, connect(url).await);
    let subject = format!("{}.x", fresh("word"));
    let mut listener = amqp.listen(&subject, Some("g")).await.unwrap();
    let mut inbox = amqp.open_inbox().await.unwrap();
    wire.cut();
    amqp.connection().wait_for(|state| *state == sdk::transport::Connection::Down).await.unwrap();
    wire.mend();
    // What is published while nobody listens is heard by nobody: until it is heard.
    let heard = timeout(PATIENCE, async {
        loop {
            far.publish(vec![live(message("again", &subject))]).await.remove(0).unwrap();
            if let Ok(heard) = timeout(Duration::from_millis(100), listener.next()).await {
                break heard.unwrap();
            }
        }
    });
    assert_eq!(heard.await.unwrap().subject, subject);
    let answered = timeout(PATIENCE, async {
        loop {
            far.answer(&inbox.address(), message("answer", "")).await.unwrap();
            if let Ok(answer) = timeout(Duration::from_millis(100), inbox.next()).await {
                break answer.unwrap();
            }
        }
    });
    assert_eq!(answered.await.unwrap().body.as_deref(), Some(&b"answer"[..]));
}
