//! An [AsyncAPI 3.0](https://www.asyncapi.com/docs/reference/specification/v3.0.0) document of what a service sends and receives.
//!
//! [`document`] is a function of plain data: the same description gives the same document, so that it can be kept beside the service's
//! code and compared. Channels are topics, queues and live subjects; each message of each version has one entry below `components`, with its
//! headers and its schema in the format of its codec; what an AsyncAPI tool cannot know of a channel is in the extension `x-posthouse`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::contract::{Contract, Schema};
use crate::headers;

/// The version of the specification that the document is of.
pub const VERSION: &str = "3.0.0";

/// A service, as its document describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Its name.
    pub service: String,
    /// Its version.
    pub version: String,
    /// What it is for; CommonMark.
    pub description: Option<String>,
    /// The broker that it uses.
    pub server: Option<Server>,
    /// What it sends and receives.
    pub operations: Vec<Operation>,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// How it is spoken to: `amqp`, `grpc`, ...
    pub protocol: String,
    /// Host and port, without credentials.
    pub host: String,
}

/// Something that a service does with messages of one contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Its name in the service, such as the handler's.
    pub name: String,
    /// Which way the messages go.
    pub action: Action,
    /// Where they go, or come from.
    pub channel: Channel,
    /// What they are.
    pub contract: Contract,
    /// The answer, if each is a question: that which is waited for where the question is sent, and that which is given where it is received.
    pub reply: Option<Contract>,
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// From the service.
    Send,
    /// To the service.
    Receive,
}

/// Where messages go, or come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// A topic.
    Topic(String),
    /// A queue, and the topic and subject pattern that it is filled from, if it is.
    Queue {
        /// Its name.
        queue: String,
        /// Topic and subject pattern.
        from: Option<(String, String)>,
    },
    /// Those who listen to a subject in the moment.
    Live(String),
}

impl Channel {
    fn kind(&self) -> &'static str {
        match self {
            Self::Topic(_) => "topic",
            Self::Queue { .. } => "queue",
            Self::Live(_) => "live",
        }
    }

    fn address(&self) -> &str {
        match self {
            Self::Topic(name) | Self::Queue { queue: name, .. } | Self::Live(name) => name,
        }
    }
}

/// The document of a service.
///
/// ```
/// use sdk::asyncapi::{self, Action, Channel, Description, Operation};
/// use sdk::contract::Contract;
/// # use schemars::JsonSchema;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Serialize, Deserialize, JsonSchema, sdk::Message)]
/// # #[message(name = "order.created", topic = "orders")]
/// # struct OrderCreated { order_id: String }
///
/// let document = asyncapi::document(&Description {
///     service: "order".to_owned(),
///     version: "1.0.0".to_owned(),
///     description: None,
///     server: None,
///     operations: vec![Operation {
///         name: "created".to_owned(),
///         action: Action::Send,
///         channel: Channel::Topic("orders".to_owned()),
///         contract: Contract::of::<OrderCreated>(),
///         reply: None,
///     }],
/// });
/// assert_eq!(document["channels"]["topic.orders"]["address"], "orders");
/// ```
#[must_use]
pub fn document(description: &Description) -> Value {
    let mut parts = Parts::default();
    for operation in &description.operations {
        parts.operation(operation, description.server.is_some());
    }
    let mut info = Map::new();
    info.insert("title".to_owned(), json!(description.service));
    info.insert("version".to_owned(), json!(description.version));
    if let Some(text) = &description.description {
        info.insert("description".to_owned(), json!(text));
    }
    let mut document = json!({ "asyncapi": VERSION, "info": info });
    if let Some(server) = &description.server {
        document["servers"] = json!({ SERVER: { "host": server.host, "protocol": server.protocol } });
    }
    document["channels"] = parts.channels.values.into();
    document["operations"] = parts.operations.values.into();
    document["components"] = json!({
        "messages": parts.messages.values,
        "schemas": parts.schemas,
        "messageTraits": { TRAIT: envelope_trait() },
        "correlationIds": { CORRELATION: {
            "description": "What request a message answers, or what conversation it belongs to.",
            "location": format!("$message.header#/{CORRELATION_ID}"),
        } },
    });
    document
}

/// Id of the one server.
const SERVER: &str = "broker";
/// Id of what all messages have in common.
const TRAIT: &str = "envelope";
/// Id of the correlation id.
const CORRELATION: &str = "correlation";
/// The message's property, as a header.
const CORRELATION_ID: &str = "correlation-id";
/// The message's property, as a header.
const REPLY_TO: &str = "reply-to";

/// The parts of a document that grow with the operations.
#[derive(Default)]
struct Parts {
    channels: Entries<(&'static str, String)>,
    operations: Entries<usize>,
    messages: Entries<(&'static str, u32, &'static str)>,
    schemas: Map<String, Value>,
}

impl Parts {
    fn operation(&mut self, operation: &Operation, has_server: bool) {
        let channel = self.channel(&operation.channel, has_server);
        let message = self.message_of(&channel, &operation.contract);
        let action = match operation.action {
            Action::Send => "send",
            Action::Receive => "receive",
        };
        let mut value = json!({
            "action": action,
            "channel": { "$ref": format!("#/channels/{channel}") },
            "messages": [{ "$ref": format!("#/channels/{channel}/messages/{message}") }],
        });
        if let Some(reply) = &operation.reply {
            let channel = self.reply_channel(operation.contract.name);
            let message = self.message_of(&channel, reply);
            value["reply"] = json!({
                "address": { "location": format!("$message.header#/{REPLY_TO}") },
                "channel": { "$ref": format!("#/channels/{channel}") },
                "messages": [{ "$ref": format!("#/channels/{channel}/messages/{message}") }],
            });
        }
        let number = self.operations.ids.len();
        self.operations.entry(number, &format!("{action}.{}", operation.name), || value);
    }

    fn channel(&mut self, channel: &Channel, has_server: bool) -> String {
        let (kind, address) = (channel.kind(), channel.address());
        let id = self.channels.entry((kind, address.to_owned()), &format!("{kind}.{address}"), || {
            let mut value = json!({ "address": address, "messages": {}, "x-posthouse": { "kind": kind } });
            if has_server {
                value["servers"] = json!([{ "$ref": format!("#/servers/{SERVER}") }]);
            }
            value
        });
        if let Channel::Queue { from: Some((topic, subject)), .. } = channel {
            let bindings = &mut self.channels.value(&id)["x-posthouse"]["bindings"];
            let binding = json!({ "topic": topic, "subject": subject });
            match bindings.as_array_mut() {
                Some(bindings) if bindings.contains(&binding) => {}
                Some(bindings) => bindings.push(binding),
                None => *bindings = json!([binding]),
            }
        }
        id
    }

    /// Where answers go: an address that the question carries.
    fn reply_channel(&mut self, question: &str) -> String {
        self.channels.entry(
            ("reply", question.to_owned()),
            &format!("reply.{question}"),
            || json!({ "address": null, "messages": {}, "x-posthouse": { "kind": "reply" } }),
        )
    }

    /// The id of a message, in components and in its channel alike.
    fn message_of(&mut self, channel: &str, contract: &Contract) -> String {
        let wanted = format!("{}.v{}", contract.name, contract.version);
        let key = (contract.name, contract.version, contract.content_type);
        let schemas = &mut self.schemas;
        let id = self.messages.entry_with(key, &wanted, |id| {
            if let Some(schema) = &contract.schema {
                schemas.insert(id.to_owned(), payload(schema, &format!("#/components/schemas/{id}/schema")));
            }
            message(contract, id)
        });
        let reference = json!({ "$ref": format!("#/components/messages/{id}") });
        self.channels.value(channel)["messages"][&id] = reference;
        id
    }
}

/// Entries of an object of the document, each with an id of its own made from what it is called.
struct Entries<K> {
    ids: BTreeMap<K, String>,
    values: Map<String, Value>,
}

impl<K> Default for Entries<K> {
    fn default() -> Self {
        Self { ids: BTreeMap::new(), values: Map::new() }
    }
}

impl<K: Ord> Entries<K> {
    fn entry(&mut self, key: K, called: &str, value: impl FnOnce() -> Value) -> String {
        self.entry_with(key, called, |_| value())
    }

    fn entry_with(&mut self, key: K, called: &str, value: impl FnOnce(&str) -> Value) -> String {
        if let Some(id) = self.ids.get(&key) {
            return id.clone();
        }
        let called: String =
            called.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
        let mut id = called.clone();
        let mut number = 2;
        while self.values.contains_key(&id) {
            id = format!("{called}-{number}");
            number += 1;
        }
        self.values.insert(id.clone(), value(&id));
        self.ids.insert(key, id.clone());
        id
    }

    fn value(&mut self, id: &str) -> &mut Value {
        self.values.entry(id).or_insert_with(|| json!({}))
    }
}

fn message(contract: &Contract, id: &str) -> Value {
    let mut message = json!({
        "name": contract.name,
        "title": format!("{}, version {}", contract.name, contract.version),
        "contentType": contract.content_type,
        "headers": {
            "type": "object",
            "required": [headers::MESSAGE, headers::VERSION, headers::SCHEMA],
            "properties": {
                headers::MESSAGE: { "const": contract.name },
                headers::VERSION: { "const": contract.version },
                headers::SCHEMA: { "const": contract.schema_id() },
            },
        },
        "correlationId": { "$ref": format!("#/components/correlationIds/{CORRELATION}") },
        "traits": [{ "$ref": format!("#/components/messageTraits/{TRAIT}") }],
    });
    if contract.schema.is_some() {
        message["payload"] = json!({ "$ref": format!("#/components/schemas/{id}") });
    }
    message
}

/// The headers of every message.
fn envelope_trait() -> Value {
    let text = |description: &str| json!({ "type": "string", "description": description });
    json!({ "headers": {
        "type": "object",
        "properties": {
            headers::SOURCE: text("The service that published it."),
            headers::CAUSATION: text("Id of the message whose handling led to it."),
            headers::TRACEPARENT: text("W3C trace context."),
            headers::TRACESTATE: text("W3C trace context."),
            CORRELATION_ID: text("The message's correlation id, a property of its own on the wire."),
            REPLY_TO: text("Where an answer goes, a property of its own on the wire."),
        },
    } })
}

/// A schema in its format. One of JSON Schema refers to its own parts from its own root, which is no longer the document's.
fn payload(schema: &Schema, at: &str) -> Value {
    let mut value = schema.schema.clone();
    if schema.format.starts_with(JSON_SCHEMA) {
        move_references(&mut value, at);
    }
    json!({ "schemaFormat": schema.format, "schema": value })
}

/// What formats of JSON Schema begin with.
const JSON_SCHEMA: &str = "application/schema+json";

fn move_references(value: &mut Value, root: &str) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                match value {
                    Value::String(reference) if name == "$ref" && reference.starts_with('#') => {
                        reference.replace_range(..1, root);
                    }
                    other => move_references(other, root),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| move_references(value, root)),
        _ => {}
    }
}

#[cfg(all(test, feature = "derive"))]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema, sdk::Message)]
    #[message(name = "order.created", version = 2, topic = "orders")]
    struct OrderCreated {
        lines: Vec<Line>,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Line {
        product: String,
        parts: Vec<Line>,
    }

    #[derive(Serialize, Deserialize, JsonSchema, sdk::Message)]
    #[message(name = "stock.check", reply = StockLevel)]
    struct StockCheck {
        product: String,
    }

    #[derive(Serialize, Deserialize, JsonSchema, sdk::Message)]
    #[message(name = "stock.level")]
    struct StockLevel {
        pieces: u32,
    }

    fn operation(name: &str, action: Action, channel: Channel, contract: Contract) -> Operation {
        Operation { name: name.to_owned(), action, channel, contract, reply: None }
    }

    fn inventory() -> Value {
        let queue = |subject: &str| Channel::Queue {
            queue: "inventory.order created".to_owned(),
            from: Some(("orders".to_owned(), subject.to_owned())),
        };
        let created = Contract::of::<OrderCreated>;
        let mut asked =
            operation("check", Action::Receive, Channel::Live("stock.check".to_owned()), Contract::of::<StockCheck>());
        asked.reply = Some(Contract::of::<StockLevel>());
        #[allow(unused_mut)]
        let mut operations = vec![
            operation("reserve", Action::Receive, queue("order.created"), created()),
            operation("reserve", Action::Receive, queue("order.#"), created()),
            operation("forward", Action::Send, Channel::Topic("orders".to_owned()), created()),
            asked,
        ];
        #[cfg(feature = "avro")]
        operations.push(operation(
            "avro",
            Action::Send,
            Channel::Topic("avro".to_owned()),
            of_codec::<avro_contract::Parcel>(),
        ));
        #[cfg(feature = "protobuf")]
        operations.push(operation(
            "proto",
            Action::Send,
            Channel::Topic("proto".to_owned()),
            of_codec::<proto_contract::Level>(),
        ));
        document(&Description {
            service: "inventory".to_owned(),
            version: "1.2.0".to_owned(),
            description: Some("Keeps the stock.".to_owned()),
            server: Some(Server { protocol: "grpc".to_owned(), host: "broker.example:7443".to_owned() }),
            operations,
        })
    }

    #[cfg(any(feature = "avro", feature = "protobuf"))]
    fn of_codec<M: sdk::Message>() -> Contract {
        Contract::of::<M>()
    }

    #[cfg(feature = "avro")]
    mod avro_contract {
        #[derive(serde::Serialize, serde::Deserialize, apache_avro::AvroSchema, sdk::Message)]
        #[message(name = "parcel.sent", codec = sdk::Avro)]
        pub(super) struct Parcel {
            grams: i32,
        }
    }

    #[cfg(feature = "protobuf")]
    mod proto_contract {
        pub(super) struct Text;

        impl sdk::contract::ProtoText for Text {
            const TEXT: Option<&'static str> = Some("syntax = \"proto3\"; message Level { uint32 pieces = 1; }");
        }

        #[derive(Clone, PartialEq, prost::Message, sdk::Message)]
        #[message(name = "level.seen", codec = sdk::Protobuf<Text>)]
        pub(super) struct Level {
            #[prost(uint32, tag = "1")]
            pieces: u32,
        }
    }

    /// Every `$ref` of the document leads somewhere.
    fn check_references(document: &Value, value: &Value) {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').expect("a reference into the document");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
        }
        match value {
            Value::Object(object) => object.values().for_each(|value| check_references(document, value)),
            Value::Array(values) => values.iter().for_each(|value| check_references(document, value)),
            _ => {}
        }
    }

    #[test]
    fn a_document_says_what_a_service_sends_and_receives() {
        let document = inventory();
        check_references(&document, &document);
        assert_eq!(document["asyncapi"], "3.0.0");
        assert_eq!(
            document["info"],
            json!({"title": "inventory", "version": "1.2.0", "description": "Keeps the stock."})
        );
        assert_eq!(document["servers"]["broker"], json!({"host": "broker.example:7443", "protocol": "grpc"}));

        let queue = &document["channels"]["queue.inventory.order_created"];
        assert_eq!(queue["address"], "inventory.order created");
        assert_eq!(
            queue["x-posthouse"]["bindings"],
            json!([{"topic": "orders", "subject": "order.created"}, {"topic": "orders", "subject": "order.#"}])
        );
        assert_eq!(document["operations"]["receive.reserve"]["action"], "receive");
        assert_eq!(
            document["operations"]["receive.reserve-2"]["channel"]["$ref"],
            "#/channels/queue.inventory.order_created"
        );
        assert_eq!(document["operations"]["send.forward"]["action"], "send");

        let message = &document["components"]["messages"]["order.created.v2"];
        assert_eq!((&message["name"], &message["contentType"]), (&json!("order.created"), &json!("application/json")));
        assert_eq!(message["headers"]["properties"]["svc-version"]["const"], 2);
        let schema = &document["components"]["schemas"]["order.created.v2"];
        assert_eq!(schema["schemaFormat"], "application/schema+json;version=draft-2020-12");
        assert_eq!(
            schema["schema"]["properties"]["lines"]["items"]["$ref"],
            "#/components/schemas/order.created.v2/schema/$defs/Line"
        );
    }

    #[test]
    fn a_question_names_its_answer() {
        let document = inventory();
        let reply = &document["operations"]["receive.check"]["reply"];
        assert_eq!(reply["address"]["location"], "$message.header#/reply-to");
        assert_eq!(reply["messages"][0]["$ref"], "#/channels/reply.stock.check/messages/stock.level.v1");
        assert_eq!(document["channels"]["reply.stock.check"]["address"], Value::Null);
    }

    /// Writes the document for `.ci/checks/asyncapi.sh`, which holds it against the specification.
    #[test]
    fn the_document_is_written_where_a_check_asks_for_it() {
        if let Some(path) = std::env::var_os("ASYNCAPI_OUT") {
            let text = serde_json::to_string_pretty(&inventory()).expect("JSON");
            std::fs::write(path, text).expect("written");
        }
    }
}
