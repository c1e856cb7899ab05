//! Avro bodies.
//!
//! Avro's bytes mean nothing without the schema that they were written with. The bodies here are therefore of Avro's *single-object encoding*: two
//! marker bytes, the fingerprint of the writer's schema, then the value. A reader knows the schema of its own type, and those that it is told of
//! ([`WriterSchemas`]); it resolves what was written with another schema to its own by Avro's rules: fields that it does not know are passed
//! over, and those that are not there take the default of its own schema. What was written with a schema that it was never told of it
//! refuses; it does not guess.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Arc, LazyLock};

use apache_avro::headers::{HeaderBuilder, RabinFingerprintHeader};
use apache_avro::{AvroSchema, GenericSingleObjectReader, SpecificSingleObjectWriter};
use bytes::Bytes;
use parking_lot::RwLock;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::essence;
use super::json::short_name;
use super::{Codec, DecodeError, EncodeError, Schema};

/// Marker and fingerprint, in bytes.
const HEADER_LEN: usize = 10;

/// Avro, by `apache-avro`: `codec = Avro` on a type that derives serde's traits and `apache_avro::AvroSchema`.
///
/// A contract that grew within its version names the schemas of its earlier writers with `codec = Avro<Earlier>`. A change that its readers cannot
/// resolve is a new version, with an upcast from the old contract, which has its own schema.
///
/// ```
/// use apache_avro::AvroSchema;
/// use sdk::contract::{self, Avro, WriterSchemas};
/// use serde::{Deserialize, Serialize};
///
/// /// What was written before orders had a currency.
/// struct Earlier;
///
/// impl WriterSchemas for Earlier {
///     const SCHEMAS: &'static [&'static str] =
///         &[r#"{"type": "record", "name": "OrderCreated", "fields": [{"name": "order_id", "type": "string"}]}"#];
/// }
///
/// #[derive(Debug, PartialEq, Serialize, Deserialize, AvroSchema, sdk::Message)]
/// #[message(name = "order.created", key = "order_id", codec = Avro<Earlier>)]
/// struct OrderCreated {
///     order_id: String,
///     #[avro(default = r#""EUR""#)]
///     currency: String,
/// }
///
/// let order = OrderCreated { order_id: "o-1".to_owned(), currency: "CHF".to_owned() };
/// let envelope = contract::encode(&order)?;
/// assert_eq!(contract::decode::<OrderCreated>(&envelope)?, order);
/// # Ok::<(), sdk::Error>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Avro<W = NoOtherSchemas>(PhantomData<W>);

/// Schemas besides the type's own that bodies of its contract were written with.
pub trait WriterSchemas: Send + Sync + 'static {
    /// Each as the text of an Avro schema.
    const SCHEMAS: &'static [&'static str];
}

/// What [`Avro`] knows besides the type's own schema unless it is told: nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoOtherSchemas;

impl WriterSchemas for NoOtherSchemas {
    const SCHEMAS: &'static [&'static str] = &[];
}

impl<M, W> Codec<M> for Avro<W>
where
    M: AvroSchema + Serialize + DeserializeOwned + Send + Sync + 'static,
    W: WriterSchemas,
{
    const CONTENT_TYPE: &'static str = "avro/binary";

    fn encode(message: &M) -> Result<Bytes, EncodeError> {
        let refused =
            |why| EncodeError { name: std::any::type_name::<M>(), content_type: <Self as Codec<M>>::CONTENT_TYPE, why };
        let schemas = Schemas::<M>::of::<W>().map_err(refused)?;
        let mut body = Vec::new();
        schemas.writer.write_ref(message, &mut body).map_err(|error| refused(error.to_string()))?;
        Ok(body.into())
    }

    fn decode(body: &[u8]) -> Result<M, DecodeError> {
        let schemas = Schemas::<M>::of::<W>();
        let decoded = schemas.and_then(|schemas| schemas.read(body));
        decoded.map_err(|why| DecodeError::Body { name: short_name::<M>(), why })
    }

    /// Also `application/avro` and `application/vnd.apache.avro`, which others write.
    fn reads(content_type: &str) -> bool {
        ["avro/binary", "application/avro", "application/vnd.apache.avro"]
            .iter()
            .any(|known| essence(content_type).eq_ignore_ascii_case(known))
    }

    fn schema() -> Option<Schema> {
        let schema = serde_json::to_value(M::get_schema()).ok()?;
        Some(Schema { format: "application/vnd.apache.avro+json;version=1.9.0", schema })
    }
}

/// What reading and writing one type takes, made once: deriving, parsing and resolving schemas costs more than a message does.
struct Schemas<M: AvroSchema> {
    writer: SpecificSingleObjectWriter<M>,
    /// The type's own schema, which what other writers wrote is resolved to.
    own: apache_avro::Schema,
    own_header: Vec<u8>,
    reader: GenericSingleObjectReader,
    /// Readers of other writers' bodies, by what those begin with.
    others: Vec<(Vec<u8>, GenericSingleObjectReader)>,
}

type Kept = RwLock<HashMap<(TypeId, TypeId), Arc<dyn Any + Send + Sync>>>;

/// One entry for each contract that is compiled in.
static KEPT: LazyLock<Kept> = LazyLock::new(Kept::default);

impl<M: AvroSchema + Serialize + DeserializeOwned + Send + Sync + 'static> Schemas<M> {
    fn of<W: WriterSchemas>() -> Result<Arc<Self>, String> {
        let id = (TypeId::of::<M>(), TypeId::of::<W>());
        if let Some(kept) = KEPT.read().get(&id)
            && let Ok(schemas) = Arc::clone(kept).downcast::<Self>()
        {
            return Ok(schemas);
        }
        let schemas = Arc::new(Self::new::<W>()?);
        KEPT.write().insert(id, Arc::clone(&schemas) as Arc<dyn Any + Send + Sync>);
        Ok(schemas)
    }

    fn new<W: WriterSchemas>() -> Result<Self, String> {
        let text = |error: apache_avro::Error| error.to_string();
        let own = M::get_schema();
        let mut others = Vec::new();
        for schema in W::SCHEMAS {
            let schema = apache_avro::Schema::parse_str(schema)
                .map_err(|error| format!("one of the schemas of {} is none: {error}", std::any::type_name::<W>()))?;
            let header = RabinFingerprintHeader::from_schema(&schema).build_header();
            others.push((header, GenericSingleObjectReader::builder().schema(schema).build().map_err(text)?));
        }
        Ok(Self {
            writer: SpecificSingleObjectWriter::new().map_err(text)?,
            own_header: RabinFingerprintHeader::from_schema(&own).build_header(),
            reader: GenericSingleObjectReader::builder().schema(own.clone()).build().map_err(text)?,
            own,
            others,
        })
    }

    fn read(&self, mut body: &[u8]) -> Result<M, String> {
        let Some(header @ [0xC3, 0x01, fingerprint @ ..]) = body.get(..HEADER_LEN) else {
            return Err("it is not of Avro's single-object encoding, so its schema is not known".to_owned());
        };
        let read = if header == self.own_header {
            self.reader.read_deser(&mut body)
        } else if let Some((_, reader)) = self.others.iter().find(|(known, _)| known == header) {
            let written = reader.read_value(&mut body);
            written.and_then(|value| value.resolve(&self.own)).and_then(|value| apache_avro::from_value(&value))
        } else {
            let fingerprint: String = fingerprint.iter().map(|byte| format!("{byte:02x}")).collect();
            return Err(format!(
                "it was written with a schema of fingerprint {fingerprint}, which this service does not know; add that schema to the \
                 codec's `WriterSchemas`, then redrive"
            ));
        };
        let value = read.map_err(|error| error.to_string())?;
        match body.len() {
            0 => Ok(value),
            rest => Err(format!("{rest} bytes follow the value")),
        }
    }
}

#[cfg(all(test, feature = "derive"))]
mod tests {
    use serde::Deserialize;
    use uuid::Uuid;

    use super::*;
    use crate::contract::{decode, encode};
    use crate::{Envelope, headers};

    #[derive(Debug, PartialEq, Serialize, Deserialize, AvroSchema, sdk::Message)]
    #[message(name = "parcel.sent", key = "id", codec = Avro)]
    struct ParcelSentV1 {
        id: Uuid,
        grams: i32,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, AvroSchema, sdk::Message)]
    #[message(name = "parcel.sent", version = 2, key = "id", codec = Avro<Earlier>, upcast(1 = ParcelSentV1))]
    struct ParcelSent {
        id: Uuid,
        kilograms: f64,
        #[avro(default = r#""post""#)]
        carrier: String,
        stops: Vec<Stop>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize, AvroSchema)]
    struct Stop {
        town: String,
        note: Option<String>,
    }

    impl From<ParcelSentV1> for ParcelSent {
        fn from(older: ParcelSentV1) -> Self {
            let carrier = "post".to_owned();
            Self { id: older.id, kilograms: f64::from(older.grams) / 1000.0, carrier, stops: Vec::new() }
        }
    }

    /// Version 2 before it had a carrier, with a field that is no longer looked at.
    const EARLIER: &str = r#"{"type": "record", "name": "ParcelSent", "fields": [
        {"name": "colour", "type": "string"},
        {"name": "id", "type": {"type": "fixed", "size": 16, "logicalType": "uuid", "name": "uuid"}},
        {"name": "kilograms", "type": "float"},
        {"name": "stops", "type": {"type": "array", "items": {"type": "record", "name": "Stop", "fields": [
            {"name": "town", "type": "string"}, {"name": "note", "type": ["null", "string"]}]}}}]}"#;

    struct Earlier;

    impl WriterSchemas for Earlier {
        const SCHEMAS: &'static [&'static str] = &[EARLIER];
    }

    fn parcel() -> ParcelSent {
        let stops = vec![
            Stop { town: "Bern".to_owned(), note: None },
            Stop { town: "Thun".to_owned(), note: Some("!".to_owned()) },
        ];
        ParcelSent { id: Uuid::now_v7(), kilograms: 2.5, carrier: "bike".to_owned(), stops }
    }

    /// A body of another writer: with its schema's fingerprint.
    fn written_with(schema: &str, fields: Vec<(&str, apache_avro::types::Value)>) -> Bytes {
        let schema = apache_avro::Schema::parse_str(schema).expect("a schema");
        let mut writer = apache_avro::GenericSingleObjectWriter::new_with_capacity(&schema, 64).expect("a writer");
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut body = Vec::new();
        writer.write_value(apache_avro::types::Value::Record(fields), &mut body).expect("written");
        body.into()
    }

    fn of_version_2(body: impl Into<Bytes>) -> Envelope {
        let mut envelope = encode(&parcel()).expect("encoded");
        envelope.body = Some(body.into());
        envelope
    }

    #[test]
    fn a_message_comes_back_as_it_went() {
        let parcel = parcel();
        for _ in 0..2 {
            let envelope = encode(&parcel).expect("encoded");
            assert_eq!(envelope.content_type.as_deref(), Some("avro/binary"));
            assert_eq!(envelope.key.as_deref(), Some(parcel.id.to_string().as_bytes()));
            assert_eq!(decode::<ParcelSent>(&envelope).expect("decoded"), parcel);
        }
        let schema = <Avro<Earlier> as Codec<ParcelSent>>::schema().expect("a schema");
        assert_eq!(schema.schema["name"], "ParcelSent");
    }

    #[test]
    fn what_a_known_writer_wrote_is_resolved_by_avros_rules() {
        use apache_avro::types::Value;
        let id = Uuid::now_v7();
        let body = written_with(
            EARLIER,
            vec![
                ("colour", Value::String("red".to_owned())),
                ("id", Value::Uuid(id)),
                ("kilograms", Value::Float(1.5)),
                ("stops", Value::Array(Vec::new())),
            ],
        );
        let wanted = ParcelSent { id, kilograms: 1.5, carrier: "post".to_owned(), stops: Vec::new() };
        assert_eq!(decode::<ParcelSent>(&of_version_2(body)).expect("resolved"), wanted);
    }

    #[test]
    fn what_an_unknown_writer_wrote_is_refused_with_its_fingerprint() {
        let other = r#"{"type": "record", "name": "ParcelSent", "fields": [{"name": "a", "type": "long"}]}"#;
        let body = written_with(other, vec![("a", apache_avro::types::Value::Long(1))]);
        let error = decode::<ParcelSent>(&of_version_2(body)).expect_err("refused").to_string();
        assert!(error.contains("a schema of fingerprint") && error.contains("WriterSchemas"), "{error}");
    }

    #[test]
    fn an_older_version_is_upcast_and_a_newer_one_refused() {
        let older = ParcelSentV1 { id: Uuid::now_v7(), grams: 2500 };
        let mut envelope = encode(&older).expect("encoded");
        let upcast = decode::<ParcelSent>(&envelope).expect("upcast");
        assert_eq!((upcast.id, upcast.kilograms, upcast.carrier.as_str()), (older.id, 2.5, "post"));
        headers::set_value(&mut envelope, headers::VERSION, types::Value::int(3));
        let error = decode::<ParcelSent>(&envelope).expect_err("refused").to_string();
        assert!(error.starts_with("parcel.sent has version 3, and this service knows 2"), "{error}");
    }

    #[test]
    fn another_content_type_or_a_broken_body_is_refused() {
        let mut envelope = encode(&parcel()).expect("encoded");
        envelope.content_type = Some("application/json".into());
        assert!(matches!(decode::<ParcelSent>(&envelope), Err(DecodeError::ContentType { .. })));
        let whole = encode(&parcel()).expect("encoded").body.expect("a body");
        for cut in 0..whole.len() {
            assert!(decode::<ParcelSent>(&of_version_2(whole.slice(..cut))).is_err(), "cut at {cut}");
        }
        let longer = [&whole[..], b"x"].concat();
        let error = decode::<ParcelSent>(&of_version_2(longer)).expect_err("refused").to_string();
        assert_eq!(error, "the body is no ParcelSent: 1 bytes follow the value");
    }
}
