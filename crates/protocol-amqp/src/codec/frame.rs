//! Frames (specification, section 4.2.3): a type, a channel, a length, a payload, and the octet that ends it.

use amq_protocol::protocol::constants::{FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD};
use bytes::{Bytes, BytesMut};

use crate::fault::Fault;

/// Bytes of a frame besides its payload.
pub(crate) const OVERHEAD: usize = 8;
/// Bytes of a frame before its payload.
const HEAD: usize = 7;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Method,
    Header,
    Body,
    Heartbeat,
}

/// A frame whose payload was not looked at yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) channel: u16,
    pub(crate) payload: Bytes,
}

/// The next frame of `input`; `None` if it has not come whole. Its size is looked at as soon as it is known.
///
/// # Errors
/// 501 if it is longer than agreed on, has no such type, or does not end where it should.
pub(crate) fn next(input: &mut BytesMut, frame_max: u32) -> Result<Option<Frame>, Fault> {
    let Some(&[kind, high, low, s3, s2, s1, s0]) = input.first_chunk::<HEAD>() else { return Ok(None) };
    let (channel, size) = (u16::from_be_bytes([high, low]), u32::from_be_bytes([s3, s2, s1, s0]));
    let kind = match kind {
        FRAME_METHOD => Kind::Method,
        FRAME_HEADER => Kind::Header,
        FRAME_BODY => Kind::Body,
        FRAME_HEARTBEAT => Kind::Heartbeat,
        other => return Err(Fault::frame_error(format_args!("type {other} of a frame is unknown"))),
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let max = usize::try_from(frame_max).unwrap_or(usize::MAX);
    if size > max.saturating_sub(OVERHEAD) {
        let why = format_args!("frame of {size} bytes and {OVERHEAD} more is larger than frame_max, {max}");
        return Err(Fault::frame_error(why));
    }
    if input.len() < size + OVERHEAD {
        return Ok(None);
    }
    if input.get(HEAD + size) != Some(&FRAME_END) {
        let end = input.get(HEAD + size).copied().unwrap_or_default();
        return Err(Fault::frame_error(format_args!("a frame ends with {end}, not with {FRAME_END}")));
    }
    let mut frame = input.split_to(size + OVERHEAD).freeze();
    frame.truncate(HEAD + size);
    let payload = frame.split_off(HEAD);
    Ok(Some(Frame { kind, channel, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(parts: &[&[u8]]) -> BytesMut {
        BytesMut::from(parts.concat().as_slice())
    }

    #[test]
    fn frames_come_out_one_by_one_once_they_are_whole() {
        let mut input = bytes(&[&[1, 0, 5, 0, 0, 0, 2], b"ab", &[206], &[8, 0, 0, 0, 0, 0, 0]]);
        let frame = next(&mut input, 4096).unwrap().unwrap();
        assert_eq!(frame, Frame { kind: Kind::Method, channel: 5, payload: Bytes::from_static(b"ab") });
        assert_eq!(next(&mut input, 4096).unwrap(), None);
        input.extend_from_slice(&[206]);
        assert_eq!(next(&mut input, 4096).unwrap().unwrap().kind, Kind::Heartbeat);
        assert!(input.is_empty());
    }

    #[test]
    fn what_is_no_frame_is_told_before_it_has_come_whole() {
        for wrong in [&[1, 0, 0, 0, 1, 0, 0][..], &[4, 0, 0, 0, 0, 0, 0], &[3, 0, 0, 0, 0, 0, 1, b'x', 0]] {
            assert_eq!(next(&mut BytesMut::from(wrong), 4096).unwrap_err().code, 501, "{wrong:?}");
        }
        // Exactly the agreed size passes.
        let mut largest = bytes(&[&[3, 0, 1, 0, 0, 15, 248], &[0; 4088], &[206]]);
        assert_eq!(next(&mut largest, 4096).unwrap().unwrap().payload.len(), 4088);
    }
}
