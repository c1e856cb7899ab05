//! Protobuf bodies.

use std::marker::PhantomData;

use bytes::Bytes;

use super::codec::essence;
use super::json::short_name;
use super::{Codec, DecodeError, EncodeError, Schema};

/// Protobuf, by prost: `codec = Protobuf` on a type that derives `prost::Message`.
///
/// Fields that a reader does not know are passed over, and those that are not there have their default, as Protobuf says. Within one version
/// of the contract a field may therefore be added; a number must never be used again for another meaning.
///
/// Prost's types do not carry their `.proto` text. `codec = Protobuf<OrdersProto>` names it, for documents:
///
/// ```
/// use sdk::contract::{Codec, ProtoText, Protobuf};
///
/// struct OrdersProto;
///
/// impl ProtoText for OrdersProto {
///     const TEXT: Option<&'static str> = Some(
///         r#"syntax = "proto3"; message OrderCreated { string order_id = 1; int64 total_cents = 2; }"#,
///     );
/// }
///
/// #[derive(Clone, PartialEq, prost::Message, sdk::Message)]
/// #[message(name = "order.created", key = "order_id", codec = Protobuf<OrdersProto>)]
/// struct OrderCreated {
///     #[prost(string, tag = "1")]
///     order_id: String,
///     #[prost(int64, tag = "2")]
///     total_cents: i64,
/// }
///
/// assert!(<Protobuf<OrdersProto> as Codec<OrderCreated>>::schema().is_some());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Protobuf<T = NoProtoText>(PhantomData<T>);

/// The text of the `.proto` file that a message is in.
pub trait ProtoText: Send + Sync + 'static {
    /// The text; `None` leaves the schema out of documents.
    const TEXT: Option<&'static str>;
}

/// What [`Protobuf`] has for its text unless another is named: none.
#[derive(Clone, Copy, Debug)]
pub struct NoProtoText;

impl ProtoText for NoProtoText {
    const TEXT: Option<&'static str> = None;
}

impl<M: prost::Message + Default, T: ProtoText> Codec<M> for Protobuf<T> {
    const CONTENT_TYPE: &'static str = "application/x-protobuf";

    fn encode(message: &M) -> Result<Bytes, EncodeError> {
        Ok(message.encode_to_vec().into())
    }

    fn decode(body: &[u8]) -> Result<M, DecodeError> {
        M::decode(body).map_err(|error| DecodeError::Body { name: short_name::<M>(), why: error.to_string() })
    }

    /// Also `application/protobuf` and `application/vnd.google.protobuf`, which others write.
    fn reads(content_type: &str) -> bool {
        ["application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf"]
            .iter()
            .any(|known| essence(content_type).eq_ignore_ascii_case(known))
    }

    fn schema() -> Option<Schema> {
        let format = "application/vnd.google.protobuf;version=3";
        T::TEXT.map(|text| Schema { format, schema: text.into() })
    }
}

#[cfg(all(test, feature = "derive"))]
mod tests {
    use super::*;
    use crate::contract::{decode, encode};
    use crate::{Message, headers};

    #[derive(Clone, PartialEq, prost::Message, sdk::Message)]
    #[message(name = "stock.level", key = "product", codec = Protobuf)]
    struct StockLevelV1 {
        #[prost(string, tag = "1")]
        product: String,
    }

    #[derive(Clone, PartialEq, prost::Message, sdk::Message)]
    #[message(name = "stock.level", version = 2, key = "product", codec = Protobuf, upcast(1 = StockLevelV1))]
    struct StockLevel {
        #[prost(string, tag = "1")]
        product: String,
        #[prost(uint32, tag = "2")]
        pieces: u32,
    }

    impl From<StockLevelV1> for StockLevel {
        fn from(older: StockLevelV1) -> Self {
            Self { product: older.product, pieces: 1 }
        }
    }

    /// Version 2 as a later build of its producer writes it.
    #[derive(Clone, PartialEq, prost::Message, sdk::Message)]
    #[message(name = "stock.level", version = 2, codec = Protobuf)]
    struct Grown {
        #[prost(string, tag = "1")]
        product: String,
        #[prost(string, tag = "9")]
        shelf: String,
    }

    #[test]
    fn a_message_comes_back_as_it_went() {
        let level = StockLevel { product: "book".to_owned(), pieces: 7 };
        let envelope = encode(&level).expect("encoded");
        assert_eq!(envelope.content_type.as_deref(), Some("application/x-protobuf"));
        assert_eq!(envelope.key.as_deref(), Some(&b"book"[..]));
        assert_eq!(decode::<StockLevel>(&envelope).expect("decoded"), level);
        assert_eq!(<Protobuf as Codec<StockLevel>>::schema(), None);
    }

    #[test]
    fn unknown_fields_are_passed_over_and_missing_ones_have_their_default() {
        let envelope = encode(&Grown { product: "book".to_owned(), shelf: "A4".to_owned() }).expect("encoded");
        let wanted = StockLevel { product: "book".to_owned(), pieces: 0 };
        assert_eq!(decode::<StockLevel>(&envelope).expect("decoded"), wanted);
    }

    #[test]
    fn an_older_version_is_upcast_and_a_newer_one_refused() {
        let mut envelope = encode(&StockLevelV1 { product: "book".to_owned() }).expect("encoded");
        let wanted = StockLevel { product: "book".to_owned(), pieces: 1 };
        assert_eq!(decode::<StockLevel>(&envelope).expect("upcast"), wanted);
        headers::set_value(&mut envelope, headers::VERSION, types::Value::int(3));
        let error = decode::<StockLevel>(&envelope).expect_err("refused").to_string();
        assert!(error.starts_with("stock.level has version 3, and this service knows 2"), "{error}");
    }

    #[test]
    fn another_content_type_or_a_broken_body_is_refused() {
        let mut envelope = encode(&StockLevel { product: "book".to_owned(), pieces: 7 }).expect("encoded");
        envelope.content_type = Some("application/protobuf".into());
        assert!(decode::<StockLevel>(&envelope).is_ok());
        envelope.content_type = Some("application/json".into());
        assert!(matches!(decode::<StockLevel>(&envelope), Err(DecodeError::ContentType { .. })));
        envelope.content_type = None;
        envelope.body = Some(Bytes::from_static(b"\x0a\xff"));
        let error = decode::<StockLevel>(&envelope).expect_err("refused").to_string();
        assert!(error.starts_with("the body is no StockLevel: "), "{error}");
        assert_eq!(StockLevel::VERSION, 2);
    }
}
