//! The message of the `.proto` file as prost's own macros read and write it: a second opinion on the code that is written by hand.

/// `posthouse.v1.Message`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Message {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    subject: String,
    #[prost(bytes = "bytes", optional, tag = "3")]
    key: Option<bytes::Bytes>,
    #[prost(message, repeated, tag = "4")]
    headers: Vec<Header>,
    #[prost(bytes = "bytes", tag = "5")]
    body: bytes::Bytes,
    #[prost(bool, tag = "6")]
    tombstone: bool,
    #[prost(string, optional, tag = "7")]
    content_type: Option<String>,
    #[prost(int64, optional, tag = "8")]
    timestamp_ms: Option<i64>,
    #[prost(string, optional, tag = "9")]
    correlation_id: Option<String>,
    #[prost(string, optional, tag = "10")]
    reply_to: Option<String>,
    #[prost(int64, optional, tag = "11")]
    not_before_ms: Option<i64>,
    #[prost(uint64, optional, tag = "12")]
    delay_ms: Option<u64>,
    #[prost(int64, optional, tag = "13")]
    expires_at_ms: Option<i64>,
    #[prost(uint64, optional, tag = "14")]
    ttl_ms: Option<u64>,
    #[prost(uint32, optional, tag = "15")]
    priority: Option<u32>,
    #[prost(string, optional, tag = "16")]
    dedup_id: Option<String>,
    #[prost(bool, tag = "17")]
    transient: bool,
    #[prost(bytes = "bytes", tag = "18")]
    subject_bytes: bytes::Bytes,
}

impl Message {
    /// Whether it is of no subject.
    pub(crate) fn has_no_subject(&self) -> bool {
        self.subject.is_empty() && self.subject_bytes.is_empty()
    }
}

/// `posthouse.v1.Header`.
#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

/// `posthouse.v1.Value`.
#[derive(Clone, PartialEq, prost::Message)]
struct Value {
    #[prost(oneof = "Kind", tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(bool, tag = "1")]
    Boolean(bool),
    #[prost(sint64, tag = "2")]
    Int(i64),
    #[prost(uint64, tag = "3")]
    Uint(u64),
    #[prost(float, tag = "4")]
    Float(f32),
    #[prost(double, tag = "5")]
    Double(f64),
    #[prost(string, tag = "6")]
    Text(String),
    #[prost(bytes = "bytes", tag = "7")]
    Bytes(bytes::Bytes),
    #[prost(sint64, tag = "8")]
    TimestampMs(i64),
    #[prost(message, tag = "9")]
    List(List),
    #[prost(message, tag = "10")]
    Map(Map),
    #[prost(message, tag = "11")]
    Decimal(Decimal),
    #[prost(message, tag = "12")]
    NarrowInt(NarrowInt),
    #[prost(message, tag = "13")]
    NarrowUint(NarrowUint),
}

#[derive(Clone, PartialEq, prost::Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Map {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<Header>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Decimal {
    #[prost(uint32, tag = "1")]
    scale: u32,
    #[prost(sint64, tag = "2")]
    unscaled: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NarrowInt {
    #[prost(sint64, tag = "1")]
    value: i64,
    #[prost(uint32, tag = "2")]
    width_bytes: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NarrowUint {
    #[prost(uint64, tag = "1")]
    value: u64,
    #[prost(uint32, tag = "2")]
    width_bytes: u32,
}
