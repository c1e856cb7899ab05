//! Snappy as Kafka's Java client writes it: blocks in the stream framing of snappy-java.
//!
//! ```text
//! 82 'S' 'N' 'A' 'P' 'P' 'Y' 00 | version i32 = 1 | least version i32 = 1 | (length i32 | block)*
//! ```
//! Numbers are big-endian. Several streams in a row, each with its header, are read as one.

use super::{Codec, CodecError};

const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";

/// What snappy-java compresses at a time when Kafka asks it to.
const BLOCK_BYTES: usize = 32 * 1024;

/// Snappy's densest element makes 64 bytes of three, so a block that claims to be more than this
/// many times its size lies, and nothing is allocated for it.
const MAX_EXPANSION: usize = 22;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    out.extend_from_slice(&HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block).map_err(|e| CodecError::compress(Codec::Snappy, e))?;
        out.extend_from_slice(&(compressed.len() as i32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::new();
    if !input.starts_with(&MAGIC) {
        decompress_block(input, &mut out, limit_bytes)?;
        return Ok(out);
    }
    let mut rest = input;
    while !rest.is_empty() {
        if rest.starts_with(&MAGIC) {
            rest = rest.get(HEADER.len()..).ok_or_else(cut_short)?;
            continue;
        }
        let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(cut_short)?;
        let len = usize::try_from(i32::from_be_bytes(*len))
            .map_err(|_| CodecError::malformed(Codec::Snappy, "a block length is negative"))?;
        let (block, tail) = tail.split_at_checked(len).ok_or_else(cut_short)?;
        decompress_block(block, &mut out, limit_bytes)?;
        rest = tail;
    }
    Ok(out)
}

fn cut_short() -> CodecError {
    CodecError::malformed(Codec::Snappy, "the stream is cut short")
}

fn decompress_block(block: &[u8], out: &mut Vec<u8>, limit_bytes: usize) -> Result<(), CodecError> {
    let malformed = |error| CodecError::malformed(Codec::Snappy, error);
    let claimed = snap::raw::decompress_len(block).map_err(malformed)?;
    if claimed > block.len().saturating_mul(MAX_EXPANSION) {
        return Err(CodecError::malformed(Codec::Snappy, "a block claims an impossible size"));
    }
    if claimed > limit_bytes - out.len() {
        return Err(CodecError::TooLarge { codec: Codec::Snappy, limit_bytes });
    }
    let start = out.len();
    out.resize(start + claimed, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new().decompress(block, room).map_err(malformed)?;
    Ok(())
}
