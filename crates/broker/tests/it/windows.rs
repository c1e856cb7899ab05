//! What queues hold in memory, all together.

use std::sync::Arc;

use broker::definitions::QueueConfig;
use broker::queue::Settle;
use broker::{BrokerOptions, PublishOptions};
use log::MemoryLog;
use testkit::ManualClock;
use types::Message;

use crate::harness::{Bench, queue, receive, to};

const BUDGET: u64 = 256 * 1024;
const QUEUES: usize = 8;
const MESSAGES: usize = 1_000;
const BODY: usize = 1_000;
/// A queue's share once the budget is spent, with what its entries take, and the message that goes over a bound.
const SHARE: u64 = 64 * 1024 + 256 * 128 + 4096;

fn configs() -> [QueueConfig; 3] {
    [
        QueueConfig::default(),
        QueueConfig { priority_levels: Some(3), ..QueueConfig::default() },
        QueueConfig { keyed: Some(true), ..QueueConfig::default() },
    ]
}

fn message(number: usize) -> Message {
    let priority = Some(u8::try_from(number % 3).unwrap_or(0));
    let key = Some(format!("k{}", number % 5).into());
    Message { priority, key, ..Message::new("", format!("{number:BODY$}")) }
}

#[tokio::test]
async fn many_long_queues_hold_no_more_than_their_budget_and_lose_nothing_by_it() {
    let options = || BrokerOptions { windows_bytes: BUDGET, ..BrokerOptions::default() };
    let (log, clock) = (Arc::new(MemoryLog::new()), Arc::new(ManualClock::new()));
    let bench = Bench::with(log.clone(), clock.clone(), options());
    let session = bench.session();
    let names: Vec<String> = (0..QUEUES).map(|at| format!("q{at}")).collect();
    for (at, name) in names.iter().enumerate() {
        queue(&session, name, configs()[at % 3].clone()).await;
    }
    for from in (0..MESSAGES).step_by(100) {
        for name in &names {
            let messages = (from..from + 100).map(message).collect();
            session.publish(&to(name), messages, PublishOptions::default()).await.unwrap();
        }
    }
    let held = |bench: &Bench| bench.broker.metrics().windows_bytes;
    let most = BUDGET + QUEUES as u64 * SHARE;
    assert!((BUDGET..=most).contains(&held(&bench)), "{} bytes are held", held(&bench));

    session.delete_queue("q7", false, false).await.unwrap();
    let bench = Bench::with(Arc::new(log.reopen()), clock, options());
    let session = bench.session();
    for name in names.iter().take(QUEUES - 1) {
        let mut came = Vec::new();
        loop {
            let taken = receive(&session, name, 100).await;
            if taken.is_empty() {
                break;
            }
            assert!(held(&bench) <= most, "{} bytes are held", held(&bench));
            let text = |body: &[u8]| String::from_utf8_lossy(body).trim().parse::<usize>().unwrap();
            came.extend(taken.iter().map(|one| text(one.message.body.as_deref().unwrap_or_default())));
            let acks = taken.iter().map(|one| (one.receipt, Settle::Ack)).collect();
            assert!(session.settle(acks).await.iter().all(Result::is_ok));
        }
        match name.as_str() {
            "q0" | "q3" | "q6" => assert!(came.is_sorted(), "{name} keeps its order"),
            "q1" | "q4" => {
                assert!(came.is_sorted_by_key(|number| (2 - number % 3, *number)), "{name} sorts by priority")
            }
            _ => {
                for key in 0..5 {
                    assert!(came.iter().filter(|number| *number % 5 == key).is_sorted(), "{name} keeps a key's order");
                }
            }
        }
        came.sort_unstable();
        assert_eq!(came, (0..MESSAGES).collect::<Vec<_>>(), "{name} has each message once");
    }
    assert_eq!(held(&bench), 0, "what left the queues is not counted");
}
