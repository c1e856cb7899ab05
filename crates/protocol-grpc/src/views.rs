//! What the broker says about messages, in the API's words.

use std::sync::Arc;

use api::grpc as g;
pub(crate) use broker::bounds::whole_ms as ms;
use broker::views as v;
use types::Message;

/// Nobody else has the message as a rule; it is not copied then.
pub(crate) fn message(message: Arc<Message>) -> Option<g::Message> {
    Some(Arc::unwrap_or_clone(message).into())
}

pub(crate) fn published(info: v::Published) -> g::Published {
    g::Published {
        id: info.id.to_string(),
        routed: info.routed(),
        queues: info.queues,
        live: info.live,
        duplicate: info.duplicate,
        position: info.position.map(position),
    }
}

pub(crate) fn position(at: v::Position) -> g::Position {
    g::Position { partition: at.partition, offset: at.offset.0 }
}

pub(crate) fn delivery(info: v::Delivered, with_receipt: bool) -> g::Delivery {
    g::Delivery {
        receipt: if with_receipt { info.receipt.to_string() } else { String::new() },
        attempt: info.attempt,
        redelivered: info.redelivered,
        lease_ms: info.lease.map(ms),
        enqueued_ms: info.enqueued.0,
        message: message(info.message),
    }
}
