//! Frames of the WebSocket protocol. Each is a JSON object of one member, named by the frame's kind.
//!
//! See docs/protocols/websocket.md for what each one does.

use serde::{Deserialize, Serialize};

use crate::consume::{Delivery, SettleResult, Settlement};
use crate::message::Message;
use crate::problem::Problem;
use crate::publish::{PublishQuery, Published, Target};
use crate::replay::{Record, StartAt};

/// A frame from the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientFrame {
    /// Publishes messages, all or none.
    Publish(Box<Publish>),
    /// Attaches a consumer to a queue.
    Consume(Consume),
    /// Gives a consumer or a tail more credit.
    Credit(Credit),
    /// Ends deliveries, or extends their leases.
    Settle(Settle),
    /// Ends a consumer, a subscription or a tail.
    Cancel(Cancel),
    /// Opens a live subscription.
    Subscribe(Subscribe),
    /// Follows a topic's log.
    Tail(Tail),
    /// Asks and waits for one answer.
    Request(Box<Request>),
    /// Answers a request.
    Reply(Box<Reply>),
    /// Asks for a `pong`.
    Ping(Ping),
}

/// Publishes messages, all or none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// Comes back in `published` or `failed`.
    pub seq: u64,
    /// Where to.
    pub to: Target,
    /// What.
    pub messages: Vec<Message>,
    /// As the query of a publish over HTTP.
    #[serde(default)]
    pub options: PublishQuery,
}

/// Attaches a consumer to a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consume {
    /// Chosen by the client; names the consumer on this connection.
    pub id: String,
    /// The queue.
    pub queue: String,
    /// Deliveries that may be sent before more credit is given.
    pub credit: u32,
    /// Overrides the queue's lease, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_ms: Option<u64>,
    /// Acknowledged as they are sent.
    #[serde(default)]
    pub auto_ack: bool,
    /// No other consumer may be there.
    #[serde(default)]
    pub exclusive: bool,
    /// Consumers of higher priority are served first.
    #[serde(default)]
    pub priority: i32,
    /// For people: shown with the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Gives a consumer or a tail more credit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credit {
    /// Which.
    pub id: String,
    /// So many more deliveries or records.
    pub messages: u32,
}

/// Ends deliveries, or extends their leases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// Comes back in `settled`. Without one, only what failed is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The settlements.
    pub settlements: Vec<Settlement>,
}

/// Ends a consumer, a subscription or a tail.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Which.
    pub id: String,
}

/// Opens a live subscription.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subscribe {
    /// Chosen by the client.
    pub id: String,
    /// Subject pattern.
    pub subject: String,
    /// Of the subscriptions of one group each message reaches one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Follows a topic's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Chosen by the client.
    pub id: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    #[serde(default)]
    pub partition: u32,
    /// Where to begin.
    pub from: StartAt,
    /// Records that may be sent before more credit is given.
    pub credit: u32,
}

/// Asks and waits for one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Comes back in `answer` or `failed`.
    pub seq: u64,
    /// The request; its subject says who is asked.
    pub message: Message,
    /// How long to wait, in milliseconds; 5000 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Answers a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Comes back in `replied` or `failed`. Without one, only a failure is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The request's `reply_to`.
    pub reply_to: String,
    /// The request's correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The answer.
    pub message: Message,
}

/// Asks for a `pong`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ping {
    /// Comes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerFrame {
    /// The first frame: who is talking, and the limits.
    Welcome {
        /// The broker's version.
        version: String,
        /// The namespace.
        namespace: String,
        /// Largest frame from the client, in bytes.
        max_frame_bytes: u64,
        /// Most publishes that wait for their confirmation; beyond, the connection is not read.
        max_pipelined: u32,
        /// Most consumers, subscriptions and tails together.
        max_streams: u32,
    },
    /// Messages are durable.
    Published {
        /// Of the publish.
        seq: u64,
        /// One a message, in order.
        published: Vec<Published>,
    },
    /// A publish, request, reply or stream failed; the connection goes on.
    Failed {
        /// Of the frame that failed, if it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// Of the stream that could not be opened or changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Why.
        problem: Problem,
    },
    /// A consumer, subscription or tail is open.
    Opened {
        /// Which.
        id: String,
    },
    /// A message for a consumer.
    Delivery {
        /// Which consumer.
        id: String,
        /// The delivery.
        delivery: Delivery,
    },
    /// Settlements are done.
    Settled {
        /// Of the settle frame, if it had one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
        /// One a settlement, in order; without a `seq`, only those that failed.
        results: Vec<SettleResult>,
    },
    /// A message for a live subscription.
    Message {
        /// Which subscription.
        id: String,
        /// The message.
        message: Message,
    },
    /// A live subscription was too slow.
    Lost {
        /// Which subscription.
        id: String,
        /// Messages lost so far.
        messages: u64,
    },
    /// A record for a tail.
    Record {
        /// Which tail.
        id: String,
        /// The record.
        record: Record,
    },
    /// The answer to a request.
    Answer {
        /// Of the request.
        seq: u64,
        /// The answer.
        message: Message,
    },
    /// A reply went out.
    Replied {
        /// Of the reply.
        seq: u64,
    },
    /// A consumer, subscription or tail has ended.
    Ended {
        /// Which.
        id: String,
        /// Why, unless the client asked for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        problem: Option<Problem>,
    },
    /// The answer to a ping.
    Pong {
        /// Of the ping.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seq: Option<u64>,
    },
    /// A frame could not be understood; the connection closes.
    Error {
        /// Why.
        problem: Problem,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_an_object_of_one_member() {
        let json = r#"{"publish":{"seq":1,"to":{"topic":"orders"},"messages":[{"body":{"a": 1e400}}],"options":{}}}"#;
        let frame: ClientFrame = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&frame).unwrap(), json);
        assert!(serde_json::from_str::<ClientFrame>(r#"{"ping":{"sec":1}}"#).unwrap_err().to_string().contains("sec"));
    }
}
