//! Listeners in memory: what is published live, requests and answers.

use types::Text;

use super::{cases, has};
use crate::Envelope;
use crate::conformance::ground::{Failure, Ground, Proof, check, message, same, text_of};
use crate::transport::{Destination, Inbox, Outgoing};

cases! {
    has("live") => a_listener_hears_what_fits_its_pattern,
    has("live") => every_listener_hears_but_one_of_a_group,
    has("live") => what_nobody_hears_is_not_kept,
    has("live") => a_listener_that_went_hears_nothing,
    has("live") => a_live_message_comes_out_as_it_went_in,
    has("live") => a_request_is_answered_into_its_inbox,
    has("live") => inboxes_are_apart,
    has("live") => an_answer_that_nobody_waits_for_is_no_error,
}

/// Messages that a group shares.
const SHARED: usize = 20;

async fn a_listener_hears_what_fits_its_pattern(ground: &Ground<'_>) -> Proof {
    let mut exact = ground.listen(&ground.subject("orders.created"), None).await?;
    let mut word = ground.listen(&ground.subject("orders.*"), None).await?;
    let mut words = ground.listen(&ground.subject("#"), None).await?;
    for subject in ["orders", "orders.created", "orders.created.eu", "orders.paid"] {
        ground.publish_live(&ground.subject(subject), subject).await?;
    }
    same("at the exact subject", ground.hears(&mut exact).await?, "orders.created".to_owned())?;
    ground.hears_nothing(&mut exact).await?;
    for expected in ["orders.created", "orders.paid"] {
        same("at one word", ground.hears(&mut word).await?, expected.to_owned())?;
    }
    ground.hears_nothing(&mut word).await?;
    for expected in ["orders", "orders.created", "orders.created.eu", "orders.paid"] {
        same("at any words", ground.hears(&mut words).await?, expected.to_owned())?;
    }
    ground.hears_nothing(&mut words).await
}

async fn every_listener_hears_but_one_of_a_group(ground: &Ground<'_>) -> Proof {
    let subject = ground.subject("tick");
    let group = ground.name("group");
    let mut alone = ground.listen(&subject, None).await?;
    let mut one = ground.listen(&subject, Some(&group)).await?;
    let mut two = ground.listen(&subject, Some(&group)).await?;
    let mut expected: Vec<String> = (10..10 + SHARED).map(|n| n.to_string()).collect();
    for body in &expected {
        ground.publish_live(&subject, body).await?;
    }
    for body in &expected {
        same("at the listener without a group", ground.hears(&mut alone).await?, body.clone())?;
    }
    let mut shared = Vec::new();
    while shared.len() < SHARED {
        let next = async {
            tokio::select! {
                heard = one.next() => heard,
                heard = two.next() => heard,
            }
        };
        let heard = ground.soon("each message at one of the group", next).await?;
        shared.push(text_of(&heard.ok_or_else(|| Failure("expected a message, and a listener ended".to_owned()))?));
    }
    shared.sort();
    expected.sort();
    same("what the group heard", shared, expected)?;
    ground.hears_nothing(&mut one).await?;
    ground.hears_nothing(&mut two).await
}

async fn what_nobody_hears_is_not_kept(ground: &Ground<'_>) -> Proof {
    let subject = ground.subject("tick");
    let published = ground.publish_live(&subject, "into the void").await?;
    check(published.routed != Some(true), || {
        "a live message that nobody hears: expected it not to be told as routed, and it is".to_owned()
    })?;
    let mut listener = ground.listen(&subject, None).await?;
    ground.hears_nothing(&mut listener).await?;
    let published = ground.publish_live(&subject, "heard").await?;
    check(published.routed != Some(false), || {
        "a live message that is heard: expected it to be told as routed or nothing, and `false` came".to_owned()
    })?;
    same("what is heard", ground.hears(&mut listener).await?, "heard".to_owned())
}

async fn a_listener_that_went_hears_nothing(ground: &Ground<'_>) -> Proof {
    let subject = ground.subject("tick");
    let group = ground.name("group");
    let gone = ground.listen(&subject, Some(&group)).await?;
    let mut stays = ground.listen(&subject, Some(&group)).await?;
    drop(gone);
    // Its share goes to the other, at once or as soon as the broker knows.
    let publish_until_heard_in_a_row = async {
        let mut in_a_row = 0;
        for n in 0.. {
            let body = n.to_string();
            ground.publish_live(&subject, &body).await?;
            let heard = tokio::time::timeout(ground.quiet(), stays.next()).await;
            in_a_row = if heard.is_ok_and(|heard| heard.is_some_and(|heard| text_of(&heard) == body)) {
                in_a_row + 1
            } else {
                0
            };
            if in_a_row == SHARED {
                break;
            }
        }
        Ok(())
    };
    ground.soon("all messages at the listener that stays", publish_until_heard_in_a_row).await?
}

async fn a_live_message_comes_out_as_it_went_in(ground: &Ground<'_>) -> Proof {
    let subject = ground.subject("tick");
    let mut listener = ground.listen(&subject, None).await?;
    let sent = Envelope {
        key: Some(bytes::Bytes::from_static(b"key")),
        headers: vec![(Text::from("header"), types::Value::int(7))],
        content_type: Some(Text::from("text/plain")),
        correlation_id: Some(Text::from("conversation")),
        ..message(&subject, "body")
    };
    ground.publish(vec![Outgoing { to: Destination::Live, message: sent.clone() }]).await?;
    let came = ground.soon("a message at a listener", listener.next()).await?;
    let came = came.ok_or_else(|| Failure("expected a message at a listener, and it ended".to_owned()))?;
    let id = |message: &Envelope| message.id.as_ref().map(ToString::to_string);
    same("id", id(&came), id(&sent))?;
    same("subject", &came.subject, &sent.subject)?;
    same("key", &came.key, &sent.key)?;
    same("header", came.header("header"), sent.header("header"))?;
    same("content type", &came.content_type, &sent.content_type)?;
    same("correlation id", &came.correlation_id, &sent.correlation_id)?;
    same("body", &came.body, &sent.body)
}

async fn inbox(ground: &Ground<'_>) -> Proof<Box<dyn Inbox>> {
    Ok(ground.soon("an inbox", ground.transport.open_inbox()).await??)
}

async fn answered(ground: &Ground<'_>, inbox: &mut Box<dyn Inbox>) -> Proof<Envelope> {
    let answer = ground.soon("an answer", inbox.next()).await?;
    answer.ok_or_else(|| Failure("expected an answer, and the inbox ended".to_owned()))
}

fn answer(correlation_id: &str, body: &str) -> Envelope {
    Envelope { correlation_id: Some(Text::from(correlation_id)), ..message("", body.to_owned()) }
}

async fn a_request_is_answered_into_its_inbox(ground: &Ground<'_>) -> Proof {
    let subject = ground.subject("quote");
    let mut server = ground.listen(&subject, Some(&ground.name("servers"))).await?;
    let mut inbox = inbox(ground).await?;
    for n in ["1", "2", "3"] {
        let request = Envelope {
            reply_to: Some(Text::from(inbox.address())),
            correlation_id: Some(Text::from(n)),
            ..message(&subject, format!("question {n}"))
        };
        ground.publish(vec![Outgoing { to: Destination::Live, message: request }]).await?;
    }
    // Out of order, as servers answer.
    let mut requests = Vec::new();
    for _ in 0..3 {
        let request = ground.soon("a request at its server", server.next()).await?;
        requests.push(request.ok_or_else(|| Failure("expected a request, and the listener ended".to_owned()))?);
    }
    for request in requests.iter().rev() {
        let address = request.reply_to.as_deref().unwrap_or_default();
        let correlation_id = request.correlation_id.as_deref().unwrap_or_default();
        let answer = answer(correlation_id, &format!("answer to {}", text_of(request)));
        ground.soon("an answer's end", ground.transport.answer(address, answer)).await??;
    }
    for n in ["3", "2", "1"] {
        let came = answered(ground, &mut inbox).await?;
        same("the answer", text_of(&came), format!("answer to question {n}"))?;
        same("what it answers", came.correlation_id.as_deref(), Some(n))?;
    }
    Ok(())
}

async fn inboxes_are_apart(ground: &Ground<'_>) -> Proof {
    let mut one = inbox(ground).await?;
    let mut two = inbox(ground).await?;
    check(one.address() != two.address(), || format!("expected two addresses, and {} came twice", one.address()))?;
    ground.transport.answer(&one.address(), answer("1", "to the first")).await?;
    ground.transport.answer(&two.address(), answer("2", "to the second")).await?;
    same("in the first", text_of(&answered(ground, &mut one).await?), "to the first".to_owned())?;
    same("in the second", text_of(&answered(ground, &mut two).await?), "to the second".to_owned())?;
    let more = tokio::time::timeout(ground.quiet(), one.next()).await;
    check(more.is_err(), || "expected nothing more in an inbox, and something came".to_owned())
}

async fn an_answer_that_nobody_waits_for_is_no_error(ground: &Ground<'_>) -> Proof {
    let gone = inbox(ground).await?;
    let address = gone.address();
    drop(gone);
    for _ in 0..3 {
        ground.soon("an answer's end", ground.transport.answer(&address, answer("1", "too late"))).await??;
    }
    // And whatever that did to a connection, others are answered.
    let mut stays = inbox(ground).await?;
    ground.transport.answer(&stays.address(), answer("2", "in time")).await?;
    same("the answer", text_of(&answered(ground, &mut stays).await?), "in time".to_owned())
}
