//! AMQP's content headers and the tables in them, beside another reader of the same format.

use amq_protocol::frame::AMQPContentHeader;
use amq_protocol::frame::parsing::parse_content_header;
use amq_protocol::types::{AMQPValue, FieldArray, FieldTable};
use protocol_amqp::reread;

use crate::memory::bounded;

/// What reading may hold whatever it reads, and for each byte of it.
const BASE_BYTES: usize = 64 * 1024;
const TIMES: usize = 256;

/// A header that is taken comes out so that it comes out the same from then on, and another reader finds in it what it found before.
///
/// # Panics
/// If it does not.
pub fn check(input: &[u8]) {
    let Some(once) = bounded(input.len(), BASE_BYTES, TIMES, || reread(input)) else { return };
    assert_eq!(reread(&once).as_ref(), Some(&once), "a header changes when it is read again: {input:?}");
    // The other reader has no bound on nesting, so it gets only what is known to be flat enough.
    let Ok((rest, before)) = parse_content_header(input) else { return };
    assert!(rest.is_empty(), "it ends elsewhere: {input:?}");
    let (rest, after) = parse_content_header(once.as_slice()).expect("what was written can be read");
    assert!(rest.is_empty());
    assert_eq!(seen(before), seen(after), "{input:?}");
}

/// What must not change, as text: numbers that are none are equal there.
fn seen(mut header: AMQPContentHeader) -> String {
    let headers = header.properties.headers().clone();
    if let Some(mut table) = headers {
        table = table_as_kept(&table);
        // A table without fields is kept apart from none.
        header.properties = header.properties.with_headers(table);
    }
    format!("{} {} {:?}", header.class_id, header.body_size, header.properties)
}

fn table_as_kept(table: &FieldTable) -> FieldTable {
    let mut kept = FieldTable::default();
    for (name, value) in table.inner() {
        kept.insert(name.clone(), as_kept(value));
    }
    kept
}

/// The two things that change: text that is none comes out as bytes, and times beyond what we count are the last one.
fn as_kept(value: &AMQPValue) -> AMQPValue {
    match value {
        AMQPValue::LongString(text) if std::str::from_utf8(text.as_bytes()).is_err() => {
            AMQPValue::ByteArray(text.as_bytes().to_vec().into())
        }
        AMQPValue::Timestamp(seconds) => AMQPValue::Timestamp((*seconds).min(i64::MAX as u64 / 1000)),
        AMQPValue::FieldArray(values) => {
            AMQPValue::FieldArray(FieldArray::from(values.as_slice().iter().map(as_kept).collect::<Vec<_>>()))
        }
        AMQPValue::FieldTable(table) => AMQPValue::FieldTable(table_as_kept(table)),
        other => other.clone(),
    }
}
