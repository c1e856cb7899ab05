//! The end of a transport. The only case here closes it, and so is the last of a run.

use super::{CORE, cases};
use crate::conformance::ground::{Ground, Proof, check, message, same, to_queue};
use crate::transport::{Connection, Consume, PublishError, QueueSpec, Topology, TransportError};

cases! {
    CORE => a_closed_transport_says_so,
}

async fn a_closed_transport_says_so(ground: &Ground<'_>) -> Proof {
    let transport = &ground.transport;
    let queue = ground.queue("q", |_| ()).await?;
    ground.put(&queue, &["1"]).await?;
    let mut taker = ground.consumer(&queue, 5).await?;
    taker.ack_one("1").await?;
    let mut listener = match transport.capabilities().live.is_there() {
        true => Some(ground.listen(&ground.subject("tick"), None).await?),
        false => None,
    };
    let mut connection = transport.connection();
    same("its connection before", *connection.borrow_and_update(), Connection::Up)?;
    ground.soon("its end", transport.close()).await?;
    ground.soon("its end, twice", transport.close()).await?;
    same("its connection", *transport.connection().borrow(), Connection::Closed)?;

    let ended = ground.soon("the end of a consumer", taker.consumer().next()).await?;
    check(matches!(ended, Ok(None) | Err(TransportError::Closed)), || {
        format!("a consumer of a closed transport: expected its end, and {ended:?} came")
    })?;
    if let Some(listener) = &mut listener {
        let heard = ground.soon("the end of a listener", listener.next()).await?;
        check(heard.is_none(), || format!("a listener of a closed transport: expected its end, and {heard:?} came"))?;
    }
    let answers = ground.publish_each(vec![to_queue(&queue, message("", "2"))]).await?;
    same("a publish", answers.into_iter().map(|answer| answer.map(drop)).collect(), vec![Err(PublishError::Closed)])?;
    let closed = Err(TransportError::Closed);
    let topology = Topology { queues: vec![QueueSpec::new(&queue)], ..Topology::default() };
    same("a declaration", ground.soon("an answer", transport.declare(&topology)).await?, closed.clone())?;
    let consume = Consume { queue: queue.clone(), name: "late".to_owned(), credit: 1, lease: None };
    same("a consumer", ground.soon("an answer", transport.consume(consume)).await?.map(drop), closed)?;
    let length = ground.soon("an answer", transport.queue_len(&queue)).await?;
    same("a length", length, Err(TransportError::Closed))
}
