//! Requests and answers, over live subscriptions.

use std::time::Duration;

use sdk::transport::{Destination, Outgoing};

use crate::kit::{log, manual, message, publish, soon, text};

#[tokio::test]
async fn a_request_is_answered_by_one_of_a_group() {
    let (_broker, transport) = manual().await;
    let (mut one, mut two) = (
        transport.listen("price.*", Some("pricing")).await.unwrap(),
        transport.listen("price.*", Some("pricing")).await.unwrap(),
    );
    let mut all = transport.listen("#", None).await.unwrap();
    let mut inbox = transport.open_inbox().await.unwrap();
    let address = inbox.address();
    let asked = 20;
    for n in 0..asked {
        let mut request = message("price.get", &n.to_string());
        request.reply_to = Some(address.clone().into());
        request.correlation_id = Some(n.to_string().into());
        let published = publish(&*transport, vec![Outgoing { to: Destination::Live, message: request }]).await;
        assert_eq!(published[0].routed, Some(true));
        assert_eq!(text(&soon(all.next()).await.unwrap()), n.to_string());
        let request = tokio::select! {
            request = one.next() => request.unwrap(),
            request = two.next() => request.unwrap(),
        };
        let mut answer = message("", &format!("{} EUR", text(&request)));
        answer.correlation_id = request.correlation_id.clone();
        soon(transport.answer(request.reply_to.as_deref().unwrap(), answer)).await.unwrap();
        let answer = soon(inbox.next()).await.unwrap();
        assert_eq!((answer.correlation_id.as_deref(), text(&answer)), (Some(&*n.to_string()), format!("{n} EUR")));
    }
    let nothing = tokio::time::timeout(Duration::from_millis(50), async {
        tokio::select! { message = one.next() => message, message = two.next() => message, message = all.next() => message }
    });
    assert!(nothing.await.is_err(), "each request reached one of the group, and answers reach nobody else");
    soon(transport.answer("_inbox.nobody", message("", "x"))).await.unwrap();
}

#[tokio::test]
async fn listeners_and_inboxes_come_back_after_a_stop() {
    let (broker, transport) = manual().await;
    log(&*transport, "t", 1).await;
    let mut listener = transport.listen("a.#", None).await.unwrap();
    let mut inbox = transport.open_inbox().await.unwrap();
    let address = inbox.address();
    let answered = tokio::spawn(async move { text(&inbox.next().await.unwrap()) });
    let heard = tokio::spawn(async move { text(&listener.next().await.unwrap()) });
    broker.start_again().await.unwrap();
    let answer = || Outgoing { to: Destination::Live, message: message(&address, "yes") };
    while publish(&*transport, vec![answer()]).await[0].routed != Some(true) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(soon(answered).await.unwrap(), "yes", "its address is the same");
    let to = || Outgoing { to: Destination::Live, message: message("a.b", "heard") };
    while publish(&*transport, vec![to()]).await[0].routed != Some(true) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(soon(heard).await.unwrap(), "heard");
}
