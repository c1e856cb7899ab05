//! Many messages a call that have nothing to do with each other, and many calls under way at once.

use broker::definitions::QueueConfig;
use broker::queue::Settle;
use std::sync::Arc;

use broker::definitions::{BindingConfig, BindingTarget, TopicConfig};
use broker::{PublishError, PublishOptions, PublishTo, Publishes};
use types::Message;

use crate::harness::{Bench, bodies, depth, queue, receive, to};

fn numbered(range: std::ops::Range<usize>) -> Vec<Message> {
    range.map(|number| Message::new("", number.to_string())).collect()
}

fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn each_to(queues: &[&str], messages: Vec<Message>) -> Publishes {
    let mut publishes = Publishes::default();
    for (queue, message) in queues.iter().zip(messages) {
        publishes.push(&Arc::new(to(queue)), message);
    }
    publishes
}

#[tokio::test]
async fn a_message_that_is_refused_does_not_keep_its_neighbours() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let mut messages = numbered(0..7);
    for bad in [0, 3, 6] {
        messages[bad].headers.push(("ph-subject".into(), "reserved".into()));
    }
    let ends = session.publish_each(Publishes::to(to("q"), messages), PublishOptions::default()).await;
    let refused: Vec<bool> = ends
        .iter()
        .map(|end| matches!(end, Err(PublishError::Invalid { field, .. }) if field == "headers.ph-subject"))
        .collect();
    assert_eq!(refused, [true, false, false, true, false, false, true]);
    assert_eq!(bodies(&receive(&session, "q", 10).await), ["1", "2", "4", "5"]);
}

#[tokio::test]
async fn what_still_fits_a_full_queue_is_taken_in_order() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig { max_messages: Some(5), ..QueueConfig::default() }).await;
    let ends = session.publish_each(Publishes::to(to("q"), numbered(0..9)), PublishOptions::default()).await;
    let taken: Vec<bool> = ends.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, true, true, true, true, false, false, false, false]);
    assert_eq!(bodies(&receive(&session, "q", 10).await), texts(0..5));
    assert_eq!(depth(&session, "q"), (0, 0, 0, 5), "no room stays reserved for what was refused");
}

#[tokio::test]
async fn everybody_hears_of_what_concerns_all() {
    let bench = Bench::new();
    let session = bench.session();
    let ends = session.publish_each(Publishes::to(to("nowhere"), numbered(0..3)), PublishOptions::default()).await;
    assert!(ends.len() == 3 && ends.iter().all(|end| matches!(end, Err(PublishError::NotFound { .. }))));
    assert!(session.publish_each(Publishes::default(), PublishOptions::default()).await.is_empty());
}

#[tokio::test]
async fn calls_under_way_at_once_keep_the_order_in_which_they_began() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let begin = |number: usize| {
        let publishes = Publishes::to(to("q"), numbered(number * 3..number * 3 + 3));
        session.start_publish_each(publishes, PublishOptions::default()).unwrap()
    };
    let under_way: Vec<_> = (0..20).map(begin).collect();
    for started in under_way.into_iter().rev() {
        assert!(started.await.iter().all(Result::is_ok));
    }
    let taken = receive(&session, "q", 100).await;
    assert_eq!(bodies(&taken), texts(0..60));
    let acks = |from: usize| taken[from..from + 30].iter().map(|one| (one.receipt, Settle::Ack)).collect();
    let (first, second) = (session.start_settle(acks(0)), session.start_settle(acks(30)));
    drop(first);
    assert!(second.await.iter().all(Result::is_ok));
    assert_eq!(depth(&session, "q"), (0, 0, 0, 0), "one that nobody waits for ends all the same");
}

#[tokio::test]
async fn messages_to_many_queues_end_each_for_itself() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "a", QueueConfig::default()).await;
    queue(&session, "b", QueueConfig { max_messages: Some(2), ..QueueConfig::default() }).await;
    let names = ["a", "b", "nowhere", "a", "b", "b", "a"];
    let mut messages = numbered(0..7);
    messages[3].headers.push(("ph-subject".into(), "reserved".into()));
    let ends = session.publish_each(each_to(&names, messages), PublishOptions::default()).await;
    let words = ends.iter().map(|end| match end {
        Ok(published) => {
            if published.queues == 1 {
                "taken"
            } else {
                "lost"
            }
        }
        Err(PublishError::NotFound { .. }) => "missing",
        Err(PublishError::Invalid { .. }) => "invalid",
        Err(PublishError::QueueFull { .. }) => "full",
        Err(_) => "other",
    });
    assert_eq!(words.collect::<Vec<_>>(), ["taken", "taken", "missing", "invalid", "taken", "full", "taken"]);
    assert_eq!(bodies(&receive(&session, "a", 10).await), ["0", "6"]);
    assert_eq!(bodies(&receive(&session, "b", 10).await), ["1", "4"]);
}

/// A topic of this name that leads to these queues.
async fn topic(session: &broker::Session, name: &str, queues: &[&str]) {
    session.declare_topic(name, TopicConfig::default(), false).await.unwrap();
    for queue in queues {
        let binding = BindingConfig {
            topic: name.to_owned(),
            target: BindingTarget::Queue((*queue).to_owned()),
            filter: types::Filter::All.into(),
            weight: None,
            arguments: Default::default(),
        };
        session.bind(binding).await.unwrap();
    }
}

#[tokio::test]
async fn what_meets_in_a_queue_keeps_its_order_whatever_way_it_came() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    topic(&session, "left", &["q"]).await;
    topic(&session, "right", &["q"]).await;
    let ways = [to("q"), PublishTo::Topic("left".into()), PublishTo::Topic("right".into())].map(Arc::new);
    let mut publishes = Publishes::default();
    for (at, message) in numbered(0..30).into_iter().enumerate() {
        publishes.push(&ways[at * 7 % 3], message);
    }
    let ends = session.publish_each(publishes, PublishOptions::default()).await;
    assert!(ends.iter().all(|end| matches!(end, Ok(published) if published.queues == 1)));
    assert_eq!(bodies(&receive(&session, "q", 100).await), texts(0..30));
}

#[tokio::test]
async fn what_a_full_queue_leaves_over_does_not_come_before_its_turn() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "small", QueueConfig { max_messages: Some(1), ..QueueConfig::default() }).await;
    queue(&session, "q", QueueConfig::default()).await;
    topic(&session, "both", &["small", "q"]).await;
    topic(&session, "one", &["q"]).await;
    let (both, one) = (Arc::new(PublishTo::Topic("both".into())), Arc::new(PublishTo::Topic("one".into())));
    let mut publishes = Publishes::default();
    for (to, message) in [&both, &one, &both, &both, &one].into_iter().zip(numbered(0..5)) {
        publishes.push(to, message);
    }
    let first = session.start_publish_each(publishes, PublishOptions::default()).unwrap();
    let next = session.start_publish_each(each_to(&["q"], numbered(5..6)), PublishOptions::default()).unwrap();
    assert!(next.await.iter().all(Result::is_ok));
    let taken: Vec<bool> = first.await.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, true, false, false, true]);
    assert_eq!(bodies(&receive(&session, "q", 100).await), ["0", "1", "4", "5"]);
}
