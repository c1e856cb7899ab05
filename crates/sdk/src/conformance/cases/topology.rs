//! Declaring what is missing, and what is there already.

use std::time::Duration;

use super::{CORE, broker, cases};
use crate::conformance::ground::{Ground, Proof, check, message, same, to_topic};
use crate::transport::{BindingSpec, ConflictPolicy, QueueSpec, RetrySpec, TopicSpec, Topology, TransportError};

cases! {
    CORE => declaring_twice_is_declaring_once,
    CORE => a_declaration_adds_what_is_missing,
    CORE => declaring_keeps_messages,
    CORE => a_queue_that_is_another_is_kept_when_that_is_the_policy,
    CORE => a_queue_that_is_another_is_changed_or_told_when_that_is_the_policy,
    broker("retry").and("dead_letter") => a_kept_queue_behaves_as_before_and_a_changed_one_as_declared,
    CORE => a_binding_to_something_missing_is_told,
}

fn topology(ground: &Ground<'_>) -> Topology {
    let bindings =
        vec![BindingSpec { topic: ground.name("t"), queue: ground.name("q"), subject: "orders.*".to_owned() }];
    Topology {
        topics: vec![TopicSpec::new(ground.name("t"))],
        queues: vec![QueueSpec::new(ground.name("q"))],
        bindings,
    }
}

async fn declaring_twice_is_declaring_once(ground: &Ground<'_>) -> Proof {
    for _ in 0..3 {
        ground.declare(topology(ground)).await?;
    }
    ground.publish(vec![to_topic(&ground.name("t"), message("orders.created", "1"))]).await?;
    ground.drain(&ground.name("q"), 1).await.map(drop)
}

async fn a_declaration_adds_what_is_missing(ground: &Ground<'_>) -> Proof {
    let mut topology = topology(ground);
    ground.declare(topology.clone()).await?;
    topology.queues.push(QueueSpec::new(ground.name("second")));
    topology.bindings.push(BindingSpec {
        topic: ground.name("t"),
        queue: ground.name("second"),
        subject: "#".to_owned(),
    });
    ground.declare(topology).await?;
    ground.publish(vec![to_topic(&ground.name("t"), message("orders.created", "1"))]).await?;
    ground.drain(&ground.name("q"), 1).await?;
    ground.drain(&ground.name("second"), 1).await.map(drop)
}

async fn declaring_keeps_messages(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1", "2"]).await?;
    ground.queue("q", |_| ()).await?;
    same("what is in it", ground.drain(&queue, 2).await?, vec!["1".to_owned(), "2".to_owned()])
}

/// Another retry policy and another lease than the defaults.
fn another(ground: &Ground<'_>, conflict: ConflictPolicy) -> QueueSpec {
    QueueSpec {
        retry: RetrySpec { max_attempts: Some(1), ..RetrySpec::default() },
        lease: Duration::from_secs(45),
        conflict,
        ..QueueSpec::new(ground.name("q"))
    }
}

async fn declare_queue(ground: &Ground<'_>, queue: QueueSpec) -> Proof<Result<(), TransportError>> {
    let topology = Topology { queues: vec![queue], ..Topology::default() };
    ground.soon("a declaration's end", ground.transport.declare(&topology)).await
}

async fn a_queue_that_is_another_is_kept_when_that_is_the_policy(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1"]).await?;
    declare_queue(ground, another(ground, ConflictPolicy::Keep)).await??;
    same("what is in it", ground.drain(&queue, 1).await?, vec!["1".to_owned()])
}

async fn a_queue_that_is_another_is_changed_or_told_when_that_is_the_policy(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1"]).await?;
    let changed = declare_queue(ground, another(ground, ConflictPolicy::Update)).await?;
    check(matches!(changed, Ok(()) | Err(TransportError::Conflict { .. })), || {
        format!("another queue than there is: expected it to be changed, or Conflict, and {changed:?} came")
    })?;
    same("what is in it", ground.drain(&queue, 1).await?, vec!["1".to_owned()])
}

async fn a_kept_queue_behaves_as_before_and_a_changed_one_as_declared(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let dead = format!("{queue}.dlq");
    declare_queue(ground, another(ground, ConflictPolicy::Keep)).await??;
    ground.put(&queue, &["1"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    let first = taker.one().await?;
    taker.fail(&first, Some(Duration::ZERO), "once");
    let again = taker.one().await?;
    same("the attempt that the kept queue allows", again.attempt, 2)?;
    taker.ack(&[again]);
    if let Err(conflict) = declare_queue(ground, another(ground, ConflictPolicy::Update)).await? {
        return check(matches!(conflict, TransportError::Conflict { .. }), || {
            format!("another queue than there is: expected it to be changed, or Conflict, and {conflict:?} came")
        });
    }
    ground.put(&queue, &["2"]).await?;
    let only = taker.one_with("2").await?;
    taker.fail(&only, Some(Duration::ZERO), "once");
    ground.has_length(&dead, 1).await?;
    taker.nothing_more("a second attempt where one is allowed").await
}

async fn a_binding_to_something_missing_is_told(ground: &Ground<'_>) -> Proof {
    let queue = ground.queue("q", |_| ()).await?;
    let binding = |topic: &str, queue: &str| Topology {
        bindings: vec![BindingSpec { topic: topic.to_owned(), queue: queue.to_owned(), subject: "#".to_owned() }],
        ..Topology::default()
    };
    let missing = ground.transport.declare(&binding(&ground.name("missing"), &queue)).await;
    check(matches!(missing, Err(TransportError::NotFound(_))), || {
        format!("a binding of a missing topic: expected NotFound, and {missing:?} came")
    })?;
    // Whatever the refusal did to a connection, the transport goes on.
    let topic = ground.topic("t", |_| ()).await?;
    ground.bind(&topic, &queue, "#").await
}
