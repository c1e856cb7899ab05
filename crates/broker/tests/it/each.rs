//! Many messages a call that have nothing to do with each other, and many calls under way at once.

use broker::definitions::QueueConfig;
use broker::queue::Settle;
use broker::{PublishError, PublishOptions, PublishTo};
use types::Message;

use crate::harness::{Bench, bodies, depth, queue, receive, to};

fn numbered(range: std::ops::Range<usize>) -> Vec<Message> {
    range.map(|number| Message::new("", number.to_string())).collect()
}

fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
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
    let ends = session.publish_each(&to("q"), messages, PublishOptions::default()).await;
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
    let ends = session.publish_each(&to("q"), numbered(0..9), PublishOptions::default()).await;
    let taken: Vec<bool> = ends.iter().map(Result::is_ok).collect();
    assert_eq!(taken, [true, true, true, true, true, false, false, false, false]);
    assert_eq!(bodies(&receive(&session, "q", 10).await), texts(0..5));
    assert_eq!(depth(&session, "q"), (0, 0, 0, 5), "no room stays reserved for what was refused");
}

#[tokio::test]
async fn everybody_hears_of_what_concerns_all() {
    let bench = Bench::new();
    let session = bench.session();
    let ends = session.publish_each(&to("nowhere"), numbered(0..3), PublishOptions::default()).await;
    assert!(ends.len() == 3 && ends.iter().all(|end| matches!(end, Err(PublishError::NotFound { .. }))));
    assert!(session.publish_each(&to("nowhere"), Vec::new(), PublishOptions::default()).await.is_empty());
}

#[tokio::test]
async fn calls_under_way_at_once_keep_the_order_in_which_they_began() {
    let bench = Bench::new();
    let session = bench.session();
    queue(&session, "q", QueueConfig::default()).await;
    let begin = |number: usize| {
        let to: PublishTo = to("q");
        session.start_publish_each(to, numbered(number * 3..number * 3 + 3), PublishOptions::default())
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
    let mut publishes: Vec<_> = names.iter().map(|name| to(name)).zip(numbered(0..7)).collect();
    publishes[3].1.headers.push(("ph-subject".into(), "reserved".into()));
    let ends = session.publish_each_to(publishes, PublishOptions::default()).await;
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
