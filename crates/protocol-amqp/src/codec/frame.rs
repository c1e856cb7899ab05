//! Frames (specification, section 4.2.3): a type, a channel, a length, a payload, and the octet that ends it.

use amq_protocol::protocol::constants::{FRAME_BODY, FRAME_END, FRAME_HEADER, FRAME_HEARTBEAT, FRAME_METHOD};
use bytes::{Buf, Bytes};

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

/// Bytes of the whole frames at the head of `input`. Sizes are looked at as soon as they are known.
///
/// # Errors
/// 501 if the first frame is longer than agreed on, or has no such type.
pub(crate) fn whole(input: &[u8], frame_max: u32) -> Result<usize, Fault> {
    let mut whole = 0;
    while let Some(rest) = input.get(whole..)
        && let Some(head) = rest.first_chunk::<HEAD>()
    {
        let size = match size_of(head, frame_max) {
            Ok(size) => size,
            // What came before it is still handled.
            Err(_) if whole > 0 => break,
            Err(fault) => return Err(fault),
        };
        if rest.len() < size + OVERHEAD {
            break;
        }
        whole += size + OVERHEAD;
    }
    Ok(whole)
}

/// The size of a frame's payload.
fn size_of(head: &[u8; HEAD], frame_max: u32) -> Result<usize, Fault> {
    let &[kind, _, _, s3, s2, s1, s0] = head;
    kind_of(kind)?;
    let size = usize::try_from(u32::from_be_bytes([s3, s2, s1, s0])).unwrap_or(usize::MAX);
    let max = usize::try_from(frame_max).unwrap_or(usize::MAX);
    if size > max.saturating_sub(OVERHEAD) {
        let why = format_args!("frame of {size} bytes and {OVERHEAD} more is larger than frame_max, {max}");
        return Err(Fault::frame_error(why));
    }
    Ok(size)
}

fn kind_of(kind: u8) -> Result<Kind, Fault> {
    Ok(match kind {
        FRAME_METHOD => Kind::Method,
        FRAME_HEADER => Kind::Header,
        FRAME_BODY => Kind::Body,
        FRAME_HEARTBEAT => Kind::Heartbeat,
        other => return Err(Fault::frame_error(format_args!("type {other} of a frame is unknown"))),
    })
}

/// Takes the first of whole frames; `None` if there is none.
///
/// # Errors
/// 501 if it does not end where it should.
pub(crate) fn next(frames: &mut Bytes) -> Result<Option<Frame>, Fault> {
    let Some(&[kind, high, low, s3, s2, s1, s0]) = frames.first_chunk::<HEAD>() else { return Ok(None) };
    let size = usize::try_from(u32::from_be_bytes([s3, s2, s1, s0])).unwrap_or(usize::MAX);
    let end = frames.get(HEAD + size).copied().unwrap_or_default();
    if end != FRAME_END {
        return Err(Fault::frame_error(format_args!("a frame ends with {end}, not with {FRAME_END}")));
    }
    let (kind, channel) = (kind_of(kind)?, u16::from_be_bytes([high, low]));
    let payload = frames.slice(HEAD..HEAD + size);
    frames.advance(size + OVERHEAD);
    Ok(Some(Frame { kind, channel, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(input: &[u8], frame_max: u32) -> Result<Vec<Frame>, Fault> {
        let mut whole = Bytes::copy_from_slice(&input[..whole(input, frame_max)?]);
        let mut frames = Vec::new();
        while let Some(frame) = next(&mut whole)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[test]
    fn frames_come_out_one_by_one_once_they_are_whole() {
        let input = [&[1, 0, 5, 0, 0, 0, 2][..], b"ab", &[206], &[8, 0, 0, 0, 0, 0, 0, 206]].concat();
        let first = Frame { kind: Kind::Method, channel: 5, payload: Bytes::from_static(b"ab") };
        let second = Frame { kind: Kind::Heartbeat, channel: 0, payload: Bytes::new() };
        for len in 0..10 {
            assert_eq!(frames(&input[..len], 4096), Ok(Vec::new()), "{len} bytes");
        }
        assert_eq!(frames(&input[..17], 4096), Ok(vec![first.clone()]));
        assert_eq!(frames(&input, 4096), Ok(vec![first, second]));
    }

    #[test]
    fn what_is_no_frame_is_told_before_it_has_come_whole() {
        for wrong in [&[1, 0, 0, 0, 1, 0, 0][..], &[4, 0, 0, 0, 0, 0, 0], &[3, 0, 0, 0, 0, 0, 1, b'x', 0]] {
            assert_eq!(frames(wrong, 4096).unwrap_err().code, 501, "{wrong:?}");
            // What stands before it comes out first.
            let behind = [&[8, 0, 0, 0, 0, 0, 0, 206][..], wrong].concat();
            let mut whole = Bytes::copy_from_slice(&behind[..whole(&behind, 4096).unwrap()]);
            assert_eq!(next(&mut whole).unwrap().unwrap().kind, Kind::Heartbeat);
        }
        // Exactly the agreed size passes.
        let largest = [&[3, 0, 1, 0, 0, 15, 248][..], &[0; 4088], &[206]].concat();
        assert_eq!(frames(&largest, 4096).unwrap()[0].payload.len(), 4088);
    }
}
