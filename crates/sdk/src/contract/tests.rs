//! Contracts as `#[derive(Message)]` makes them, there and back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, sdk::Message)]
#[message(name = "order.created", topic = "orders", key = "order_id")]
struct OrderCreatedV1 {
    order_id: String,
    total: f64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, sdk::Message)]
#[message(name = "order.created", version = 2, topic = "orders", key = "order_id", upcast(1 = OrderCreatedV1))]
struct OrderCreatedV2 {
    order_id: String,
    total_cents: i64,
}

impl From<OrderCreatedV1> for OrderCreatedV2 {
    fn from(older: OrderCreatedV1) -> Self {
        Self { order_id: older.order_id, total_cents: (older.total * 100.0).round() as i64 }
    }
}

/// Knows its neighbour alone.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, sdk::Message)]
#[message(name = "order.created", version = 3, topic = "orders", key = "order_id", upcast(2 = OrderCreatedV2))]
struct OrderCreated {
    order_id: String,
    total_cents: i64,
    currency: String,
}

impl From<OrderCreatedV2> for OrderCreated {
    fn from(older: OrderCreatedV2) -> Self {
        let currency = "EUR".to_owned();
        Self { order_id: older.order_id, total_cents: older.total_cents, currency }
    }
}

/// Knows each older version by itself.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema, sdk::Message)]
#[message(name = "order.created", version = 3, upcast(1 = OrderCreatedV1, 2 = OrderCreatedV2))]
struct OrderSeen(String);

impl From<OrderCreatedV1> for OrderSeen {
    fn from(older: OrderCreatedV1) -> Self {
        Self(format!("1 {}", older.order_id))
    }
}

impl From<OrderCreatedV2> for OrderSeen {
    fn from(older: OrderCreatedV2) -> Self {
        Self(format!("2 {}", older.order_id))
    }
}

#[derive(Serialize, Deserialize, JsonSchema, sdk::Message)]
#[message(name = "stock.check", key = "product", reply = StockLevel)]
struct StockCheck {
    product: u64,
}

#[derive(Serialize, Deserialize, JsonSchema, sdk::Message)]
#[message(name = "stock.level", key = "type")]
struct StockLevel {
    r#type: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema, sdk::Message)]
#[message(name = "parcel.sent", key = "0")]
struct ParcelSent(#[schemars(with = "String")] UuidText, i64);

/// A type with nothing but `Display`.
#[derive(Serialize, Deserialize)]
struct UuidText(String);

impl std::fmt::Display for UuidText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Serialize, Deserialize, JsonSchema, sdk::Message)]
#[message(name = "audit.noted", version = 7, crate = crate)]
#[serde(bound = "")]
struct Noted<T>(T)
where
    T: Serialize + serde::de::DeserializeOwned + JsonSchema + Send + Sync + 'static;

fn v1() -> OrderCreatedV1 {
    OrderCreatedV1 { order_id: "o-1".to_owned(), total: 12.5 }
}

#[test]
fn a_contract_has_what_its_attribute_says() {
    let contract = Contract::of::<OrderCreated>();
    assert_eq!((contract.name, contract.version, contract.topic), ("order.created", 3, "orders"));
    assert_eq!((contract.content_type, contract.schema_id().as_str()), ("application/json", "order.created/3"));
    assert_eq!((StockCheck::TOPIC, StockCheck::VERSION), ("stock", 1), "the defaults");
    assert_eq!(<StockCheck as Call>::Reply::NAME, "stock.level");
    assert_eq!(Noted::<u8>::VERSION, 7);
}

#[test]
fn a_key_is_written_as_its_display_says() {
    assert!(matches!(v1().key(), Some(Cow::Borrowed("o-1"))), "text is not copied");
    assert_eq!(StockCheck { product: 7 }.key().as_deref(), Some("7"));
    assert_eq!(StockLevel { r#type: None }.key(), None);
    assert_eq!(StockLevel { r#type: Some("book".to_owned()) }.key().as_deref(), Some("book"));
    let id = Uuid::now_v7().to_string();
    assert_eq!(ParcelSent(UuidText(id.clone()), 1).key(), Some(Cow::Borrowed(&*id)));
}

#[test]
fn a_message_comes_back_as_it_went() {
    let order = OrderCreated { order_id: "o-1".to_owned(), total_cents: 1250, currency: "CHF".to_owned() };
    let envelope = encode(&order).expect("encoded");
    assert_eq!(envelope.key.as_deref(), Some(&b"o-1"[..]));
    assert_eq!(headers::text(&envelope, headers::SCHEMA), Some("order.created/3"));
    assert_eq!(decode::<OrderCreated>(&envelope).expect("decoded"), order);
}

#[test]
fn an_older_version_goes_through_every_step_of_its_chain() {
    let envelope = encode(&v1()).expect("encoded");
    let wanted = OrderCreated { order_id: "o-1".to_owned(), total_cents: 1250, currency: "EUR".to_owned() };
    assert_eq!(decode::<OrderCreated>(&envelope).expect("upcast"), wanted);
}

#[test]
fn of_several_upcasts_each_version_takes_its_own() {
    let envelope = encode(&v1()).expect("encoded");
    assert_eq!(decode::<OrderSeen>(&envelope).expect("upcast"), OrderSeen("1 o-1".to_owned()));
    let envelope = encode(&OrderCreatedV2::from(v1())).expect("encoded");
    assert_eq!(decode::<OrderSeen>(&envelope).expect("upcast"), OrderSeen("2 o-1".to_owned()));
}

#[test]
fn an_unknown_version_is_refused_and_named() {
    let mut envelope = encode(&v1()).expect("encoded");
    for (version, text) in [(0, "0"), (4, "4"), (-1, "-1"), (i64::MAX, "9223372036854775807")] {
        headers::set_value(&mut envelope, headers::VERSION, Value::int(version));
        let error = decode::<OrderCreated>(&envelope).expect_err("refused").to_string();
        let wanted = format!(
            "order.created has version {text}, and this service knows 3; deploy one that knows it, then redrive"
        );
        assert_eq!(error, wanted);
    }
    let mut newer = encode(&OrderCreatedV2::from(v1())).expect("encoded");
    assert!(decode::<OrderCreatedV1>(&newer).is_err(), "there is no way back");
    headers::remove(&mut newer, headers::VERSION);
    assert!(decode::<OrderCreatedV2>(&newer).is_ok(), "without a version it is taken for the current one");
}

#[test]
fn another_message_or_content_type_is_refused_and_named() {
    let mut envelope = encode(&v1()).expect("encoded");
    let error = decode::<StockCheck>(&envelope).err().map(|error| error.to_string());
    assert_eq!(error.as_deref(), Some("this is \"order.created\", and the handler takes \"stock.check\""));
    envelope.content_type = Some("text/xml".into());
    let error = decode::<OrderCreated>(&envelope).expect_err("refused").to_string();
    assert_eq!(error, "order.created comes as \"text/xml\", and this service reads \"application/json\"");
    envelope.content_type = Some("application/json; charset=utf-8".into());
    assert!(decode::<OrderCreated>(&envelope).is_ok());
}

#[test]
fn the_derive_allows_names_as_long_as_the_broker_does() {
    assert_eq!(types::limits::MAX_NAME_BYTES, 255, "sdk-derive has this bound too: names.rs");
    assert!(same_name("a.b", "a.b") && !same_name("a.b", "a.c") && !same_name("a.b", "a.bc") && !same_name("", "a"));
}
