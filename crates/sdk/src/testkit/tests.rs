//! Faults over a transport on paper.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use types::{MessageId, Text};

use super::{Fault, Faulty, Plan};
use crate::Envelope;
use crate::transport::paper::Paper;
use crate::transport::{
    Consume, Consumer, Delivery, Destination, Outgoing, PublishError, QueueSpec, Settle, Topology, Transport,
};

const QUEUE: &str = "work";
const SEED: u64 = 7;

async fn faulty(plan: Plan) -> Arc<Faulty> {
    let faulty = Faulty::with_seed(Paper::new(), plan, SEED);
    let topology = Topology { queues: vec![QueueSpec::new(QUEUE)], ..Topology::default() };
    faulty.declare(&topology).await.unwrap();
    faulty
}

async fn put(faulty: &Faulty, bodies: std::ops::Range<u32>) -> Vec<Result<(), PublishError>> {
    let outgoing = |n: u32| {
        let id = Some(MessageId::Text(Text::from(n.to_string())));
        let message = Envelope { id, ..Envelope::new("", n.to_string()) };
        Outgoing { to: Destination::Queue(QUEUE.to_owned()), message }
    };
    let answers = faulty.publish(bodies.map(outgoing).collect()).await;
    answers.into_iter().map(|answer| answer.map(drop)).collect()
}

async fn consumer(faulty: &Faulty) -> Box<dyn Consumer> {
    let consume = Consume { queue: QUEUE.to_owned(), name: "test".to_owned(), credit: 10, lease: None };
    faulty.consume(consume).await.unwrap()
}

fn body(delivery: &Delivery) -> u32 {
    String::from_utf8_lossy(delivery.message.body.as_deref().unwrap()).parse().unwrap()
}

/// Acknowledges everything until nothing comes; the bodies in the order in which they came.
async fn handle_all(consumer: &mut Box<dyn Consumer>) -> Vec<u32> {
    let settler = consumer.settler();
    let mut handled = Vec::new();
    while let Ok(next) = tokio::time::timeout(Duration::from_millis(200), consumer.next()).await {
        for delivery in next.unwrap().unwrap() {
            handled.push(body(&delivery));
            settler.settle(vec![(delivery.tag, Settle::Ack)]);
        }
    }
    handled
}

fn counts(handled: &[u32]) -> BTreeMap<u32, u32> {
    handled.iter().fold(BTreeMap::new(), |mut counts, body| {
        *counts.entry(*body).or_default() += 1;
        counts
    })
}

#[tokio::test]
async fn without_a_plan_nothing_goes_wrong() {
    let faulty = faulty(Plan::none()).await;
    assert_eq!(put(&faulty, 0..30).await, vec![Ok(()); 30]);
    assert_eq!(handle_all(&mut consumer(&faulty).await).await, (0..30).collect::<Vec<_>>());
    assert_eq!((faulty.injected().total(), faulty.injected().to_string()), (0, "no faults".to_owned()));
    assert_eq!(faulty.queue_len(QUEUE).await, Ok(0));
}

#[tokio::test]
async fn a_lost_confirmation_is_of_a_message_that_is_stored() {
    let faulty = faulty(Plan::none().nth(Fault::LoseConfirmation, 2)).await;
    let unconfirmed = Err(PublishError::Unconfirmed { waited: Duration::ZERO });
    assert_eq!(put(&faulty, 0..3).await, [Ok(()), unconfirmed, Ok(())]);
    assert_eq!(handle_all(&mut consumer(&faulty).await).await, [0, 1, 2]);
}

#[tokio::test]
async fn a_publish_that_is_not_sent_is_not_stored_and_its_neighbours_are() {
    let faulty = faulty(Plan::none().nth(Fault::Refuse, 1).nth(Fault::Busy, 2)).await;
    // The refused one is not counted among those that could have met a busy broker.
    let answers = put(&faulty, 0..4).await;
    assert!(
        matches!(answers[..], [Err(PublishError::Refused(_)), Ok(()), Err(PublishError::Busy(_)), Ok(())]),
        "{answers:?}"
    );
    assert_eq!(handle_all(&mut consumer(&faulty).await).await, [1, 3]);
    assert_eq!(faulty.injected().to_string(), "1 × busy broker, 1 × refused publish");
}

#[tokio::test]
async fn every_message_reaches_its_handler_twice_when_asked() {
    let faulty = faulty(Plan::every_message_twice()).await;
    put(&faulty, 0..50).await;
    let handled = handle_all(&mut consumer(&faulty).await).await;
    assert_eq!(counts(&handled), (0..50).map(|body| (body, 2)).collect());
    assert_eq!(faulty.injected().of(Fault::LoseAck), 50);
    assert_eq!(faulty.queue_len(QUEUE).await, Ok(0), "and is done then");
}

#[tokio::test]
async fn a_kill_loses_the_settlement_and_the_message_comes_again() {
    let faulty = faulty(Plan::none().nth(Fault::Kill, 3)).await;
    put(&faulty, 0..5).await;
    let handled = handle_all(&mut consumer(&faulty).await).await;
    assert_eq!(counts(&handled), BTreeMap::from([(0, 1), (1, 1), (2, 2), (3, 1), (4, 1)]));
}

#[tokio::test]
async fn a_dead_letter_that_a_kill_loses_is_not_lost() {
    let faulty = faulty(Plan::none().nth(Fault::Kill, 1)).await;
    put(&faulty, 0..1).await;
    let mut consumer = consumer(&faulty).await;
    for dead in [0, 1] {
        let delivery = consumer.next().await.unwrap().unwrap().remove(0);
        consumer.settler().settle(vec![(delivery.tag, Settle::DeadLetter { reason: "poison".to_owned() })]);
        assert_eq!(faulty.queue_len("work.dlq").await, Ok(dead));
    }
}

#[tokio::test]
async fn duplicates_come_side_by_side_and_are_done_when_both_are() {
    let faulty = faulty(Plan::none().nth(Fault::Duplicate, 1)).await;
    put(&faulty, 0..1).await;
    let mut consumer = consumer(&faulty).await;
    let copies = consumer.next().await.unwrap().unwrap();
    let [first, second] = &copies[..] else { panic!("{copies:?}") };
    assert_eq!((&first.message, first.redelivered, second.redelivered), (&second.message, false, true));
    let settler = consumer.settler();
    settler.settle(vec![(first.tag, Settle::Ack)]);
    settler.settle(vec![(first.tag, Settle::Ack)]);
    assert_eq!(faulty.queue_len(QUEUE).await, Ok(1), "one copy is out still");
    settler.settle(vec![(second.tag, Settle::DeadLetter { reason: "seen before".to_owned() })]);
    assert_eq!(faulty.queue_len(QUEUE).await, Ok(0));
    assert_eq!(faulty.queue_len("work.dlq").await, Ok(1), "the end with the most to follow holds");
}

#[tokio::test]
async fn a_reordered_delivery_is_overtaken_or_comes_after_a_moment() {
    let faulty = faulty(Plan::none().nth(Fault::Reorder, 1).nth(Fault::Reorder, 4)).await;
    put(&faulty, 0..3).await;
    let mut consumer = consumer(&faulty).await;
    assert_eq!(handle_all(&mut consumer).await, [1, 2, 0]);
    put(&faulty, 3..4).await;
    assert_eq!(handle_all(&mut consumer).await, [3], "nothing came that could overtake it");
}

#[tokio::test]
async fn a_delayed_delivery_comes_later_and_is_not_lost() {
    let faulty = faulty(Plan::none().chance(Fault::Delay, 0.5).delay_up_to(Duration::from_millis(40))).await;
    put(&faulty, 0..60).await;
    let mut handled = handle_all(&mut consumer(&faulty).await).await;
    assert!(!handled.is_sorted(), "some overtook others: {handled:?}");
    handled.sort_unstable();
    assert_eq!(handled, (0..60).collect::<Vec<_>>());
    assert!(faulty.injected().of(Fault::Delay) > 10);
}

#[tokio::test]
async fn what_is_held_back_goes_to_the_queue_when_the_consumer_stops() {
    let faulty = faulty(Plan::none().chance(Fault::Delay, 1.0).delay_up_to(Duration::from_secs(3600))).await;
    put(&faulty, 0..5).await;
    let mut stopped = consumer(&faulty).await;
    assert!(tokio::time::timeout(Duration::from_millis(20), stopped.next()).await.is_err(), "all are held back");
    stopped.stop();
    assert!(stopped.next().await.unwrap().is_none());
    faulty.set_plan(Plan::none());
    let mut left = handle_all(&mut consumer(&faulty).await).await;
    left.sort_unstable();
    assert_eq!(left, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn under_some_of_everything_no_message_is_lost_and_a_seed_repeats_the_run() {
    let run = async || {
        let plan = Plan::some_of_everything(0.2).chance(Fault::Delay, 0.0).chance(Fault::Reorder, 0.0);
        let faulty = faulty(plan).await;
        let mut waiting: Vec<u32> = (0..100).collect();
        while let Some(n) = waiting.pop() {
            if matches!(put(&faulty, n..n + 1).await[..], [Err(_)]) {
                waiting.push(n);
            }
        }
        let handled = handle_all(&mut consumer(&faulty).await).await;
        assert_eq!(counts(&handled).into_keys().collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert_eq!(faulty.queue_len(QUEUE).await, Ok(0));
        (handled, faulty.injected())
    };
    let first = run().await;
    for fault in [Fault::Busy, Fault::LoseConfirmation, Fault::Duplicate, Fault::LoseAck, Fault::Kill] {
        assert!(first.1.of(fault) > 0, "no {fault} in {}", first.1);
    }
    assert_eq!(run().await, first);
}

#[cfg(feature = "conformance")]
#[tokio::test]
async fn without_a_plan_it_keeps_what_the_transport_promises() {
    use crate::conformance::{Options, run};
    let options = Options::default().quiet(Duration::from_millis(20)).patience(Duration::from_secs(2));
    run(Faulty::new(Paper::new(), Plan::none()), options).await.assert_passed();
}
