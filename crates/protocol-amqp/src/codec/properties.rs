//! Content headers (specification, section 4.2.6.1): a body's size, and the properties that are there.

use bytes::{Buf, BufMut, Bytes};
use types::Headers;

use super::method::{BASIC, short};
use super::table::{read_table, write_short, write_table};
use crate::fault::Fault;

/// The bit of each property in a content header.
pub(crate) mod flag {
    pub(crate) const CONTENT_TYPE: u16 = 1 << 15;
    pub(crate) const CONTENT_ENCODING: u16 = 1 << 14;
    pub(crate) const HEADERS: u16 = 1 << 13;
    pub(crate) const DELIVERY_MODE: u16 = 1 << 12;
    pub(crate) const PRIORITY: u16 = 1 << 11;
    pub(crate) const CORRELATION_ID: u16 = 1 << 10;
    pub(crate) const REPLY_TO: u16 = 1 << 9;
    pub(crate) const EXPIRATION: u16 = 1 << 8;
    pub(crate) const MESSAGE_ID: u16 = 1 << 7;
    pub(crate) const TIMESTAMP: u16 = 1 << 6;
    pub(crate) const TYPE: u16 = 1 << 5;
    pub(crate) const USER_ID: u16 = 1 << 4;
    pub(crate) const APP_ID: u16 = 1 << 3;
    pub(crate) const CLUSTER_ID: u16 = 1 << 2;
    /// More flags follow, of which no property makes use.
    pub(crate) const MORE: u16 = 1;
}

/// A content header. Short strings are bytes, as clients send what they like.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Properties {
    /// Which were there.
    pub(crate) flags: u16,
    pub(crate) content_type: Option<Bytes>,
    pub(crate) content_encoding: Option<Bytes>,
    pub(crate) headers: Headers,
    pub(crate) delivery_mode: Option<u8>,
    pub(crate) priority: Option<u8>,
    pub(crate) correlation_id: Option<Bytes>,
    pub(crate) reply_to: Option<Bytes>,
    pub(crate) expiration: Option<Bytes>,
    pub(crate) message_id: Option<Bytes>,
    /// Seconds since 1970.
    pub(crate) timestamp: Option<u64>,
    pub(crate) kind: Option<Bytes>,
    pub(crate) user_id: Option<Bytes>,
    pub(crate) app_id: Option<Bytes>,
    pub(crate) cluster_id: Option<Bytes>,
}

/// Reads a content header: the body's size in bytes, and the properties.
///
/// # Errors
/// 502 if it cannot be read, 505 if it is not of a message.
pub(crate) fn read(mut payload: Bytes) -> Result<(u64, Properties), Fault> {
    let malformed = || Fault::syntax_error("a content header ends too early, or too late");
    let class = payload.try_get_u16().map_err(|_| malformed())?;
    if class != BASIC {
        return Err(Fault::unexpected_frame(format_args!("a content header of class {class}, not of basic")));
    }
    let (_weight, size) = (payload.try_get_u16(), payload.try_get_u64().map_err(|_| malformed())?);
    let flags = payload.try_get_u16().map_err(|_| malformed())?;
    if flags & flag::MORE != 0 || flags & 2 != 0 {
        return Err(Fault::syntax_error("a content header has flags that no property has"));
    }
    let properties = properties(flags, &mut payload)?;
    if payload.is_empty() { Ok((size, properties)) } else { Err(malformed()) }
}

fn properties(flags: u16, payload: &mut Bytes) -> Result<Properties, Fault> {
    let malformed = || Fault::syntax_error("a property ends too early");
    let mut found = Properties { flags, ..Properties::default() };
    let has = |bit: u16| flags & bit != 0;
    let text = |bit: u16, payload: &mut Bytes| match has(bit) {
        true => short(payload).map(Some).ok_or_else(malformed),
        false => Ok(None),
    };
    found.content_type = text(flag::CONTENT_TYPE, payload)?;
    found.content_encoding = text(flag::CONTENT_ENCODING, payload)?;
    if has(flag::HEADERS) {
        found.headers =
            read_table(payload).map_err(|error| Fault::syntax_error(format_args!("the headers: {error}")))?;
    }
    if has(flag::DELIVERY_MODE) {
        found.delivery_mode = Some(payload.try_get_u8().map_err(|_| malformed())?);
    }
    if has(flag::PRIORITY) {
        found.priority = Some(payload.try_get_u8().map_err(|_| malformed())?);
    }
    found.correlation_id = text(flag::CORRELATION_ID, payload)?;
    found.reply_to = text(flag::REPLY_TO, payload)?;
    found.expiration = text(flag::EXPIRATION, payload)?;
    found.message_id = text(flag::MESSAGE_ID, payload)?;
    if has(flag::TIMESTAMP) {
        found.timestamp = Some(payload.try_get_u64().map_err(|_| malformed())?);
    }
    found.kind = text(flag::TYPE, payload)?;
    found.user_id = text(flag::USER_ID, payload)?;
    found.app_id = text(flag::APP_ID, payload)?;
    found.cluster_id = text(flag::CLUSTER_ID, payload)?;
    Ok(found)
}

/// A content header as clients get it again: read, and written. `None` if it is none.
#[must_use]
pub fn reread(payload: &[u8]) -> Option<Vec<u8>> {
    let (size, properties) = read(Bytes::copy_from_slice(payload)).ok()?;
    let mut out = Vec::with_capacity(payload.len());
    write(size, &properties, &mut out);
    Some(out)
}

/// Writes the beginning of a content header's payload: all but the properties.
pub(crate) fn write_head(size: u64, flags: u16, out: &mut Vec<u8>) {
    out.put_u16(BASIC);
    out.put_u16(0);
    out.put_u64(size);
    out.put_u16(flags);
}

/// Writes a content header's payload. The flags follow from what is there.
pub(crate) fn write(size: u64, properties: &Properties, out: &mut Vec<u8>) {
    write_head(size, 0, out);
    let place = out.len() - 2;
    let mut flags = 0;
    let text = |flags: &mut u16, bit: u16, value: &Option<Bytes>, out: &mut Vec<u8>| {
        if let Some(value) = value {
            *flags |= bit;
            write_short(value, out);
        }
    };
    text(&mut flags, flag::CONTENT_TYPE, &properties.content_type, out);
    text(&mut flags, flag::CONTENT_ENCODING, &properties.content_encoding, out);
    if properties.flags & flag::HEADERS != 0 || !properties.headers.is_empty() {
        flags |= flag::HEADERS;
        write_table(&properties.headers, out);
    }
    if let Some(mode) = properties.delivery_mode {
        flags |= flag::DELIVERY_MODE;
        out.put_u8(mode);
    }
    if let Some(priority) = properties.priority {
        flags |= flag::PRIORITY;
        out.put_u8(priority);
    }
    text(&mut flags, flag::CORRELATION_ID, &properties.correlation_id, out);
    text(&mut flags, flag::REPLY_TO, &properties.reply_to, out);
    text(&mut flags, flag::EXPIRATION, &properties.expiration, out);
    text(&mut flags, flag::MESSAGE_ID, &properties.message_id, out);
    if let Some(time) = properties.timestamp {
        flags |= flag::TIMESTAMP;
        out.put_u64(time);
    }
    text(&mut flags, flag::TYPE, &properties.kind, out);
    text(&mut flags, flag::USER_ID, &properties.user_id, out);
    text(&mut flags, flag::APP_ID, &properties.app_id, out);
    text(&mut flags, flag::CLUSTER_ID, &properties.cluster_id, out);
    if let Some(written) = out.get_mut(place..place + 2) {
        written.copy_from_slice(&flags.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::parsing::parse_content_header;
    use amq_protocol::protocol::BasicProperties;
    use types::Value;

    use super::*;

    fn full() -> Properties {
        let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        Properties {
            flags: 0xfffc,
            content_type: text("text/plain"),
            content_encoding: text("gzip"),
            headers: vec![("a".into(), Value::int(1))],
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: text("c"),
            reply_to: text("r"),
            expiration: text("60000"),
            message_id: text("m"),
            timestamp: Some(1_700_000_000),
            kind: text("order.created"),
            user_id: text("guest"),
            app_id: text("shop"),
            cluster_id: text(""),
        }
    }

    #[test]
    fn a_content_header_comes_out_as_it_went_in_and_the_protocol_crate_reads_the_same() {
        for properties in [full(), Properties::default()] {
            let mut out = Vec::new();
            write(5, &properties, &mut out);
            assert_eq!(read(Bytes::from(out.clone())).unwrap(), (5, properties.clone()));
            let (_, theirs) = parse_content_header(out.as_slice()).unwrap();
            assert_eq!(theirs.body_size, 5);
            let kind = theirs.properties.kind().as_ref().map(|kind| kind.as_str().to_owned());
            assert_eq!(kind, properties.kind.map(|kind| String::from_utf8(kind.to_vec()).unwrap()));
            for len in 0..out.len() {
                assert_eq!(read(Bytes::copy_from_slice(&out[..len])).unwrap_err().code, 502, "cut at {len}");
            }
        }
        assert_eq!(BasicProperties::default().bitmask(), 0);
    }
}
