//! Zstandard, in one call a block and with contexts that live as long as their thread: making one
//! costs more than compressing a small batch.

use std::cell::RefCell;
use std::io::Cursor;

use zstd::zstd_safe::{CCtx, DCtx, compress_bound, get_error_name, get_frame_content_size};

use super::{Codec, CodecError, first_capacity};

/// The library's own default level, and that of Kafka's clients.
const LEVEL: i32 = 3;

/// The library's stable error number for "Destination buffer is too small".
const ERROR_DESTINATION_TOO_SMALL: usize = 70;

/// The smallest output buffer to try.
const MIN_CAPACITY_BYTES: usize = 1024;

/// How many times the input a claimed content size may be to be believed at once.
const MAX_TRUSTED_EXPANSION: usize = 64;

/// How the output buffer grows when it was too small.
const GROWTH: usize = 4;

thread_local! {
    static COMPRESSOR: RefCell<CCtx<'static>> = RefCell::new(CCtx::create());
    static DECOMPRESSOR: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    out.reserve(compress_bound(input.len()));
    let mut room = Cursor::new(out);
    room.set_position(start as u64);
    COMPRESSOR
        .with_borrow_mut(|context| context.compress(&mut room, input, LEVEL))
        .map(|_| ())
        .map_err(|code| CodecError::compress(Codec::Zstd, get_error_name(code)))
}

/// Decompresses in one call, growing the buffer and starting over when it was too small: unlike
/// the streaming calls this needs no window, whose size the input could claim at will.
pub(super) fn decompress(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CodecError> {
    let too_large = CodecError::TooLarge { codec: Codec::Zstd, limit_bytes };
    let claimed = get_frame_content_size(input)
        .map_err(|_| CodecError::malformed(Codec::Zstd, "the frame header is malformed"))?;
    if claimed.is_some_and(|claimed| claimed > limit_bytes as u64) {
        return Err(too_large);
    }
    let trusted = input.len().saturating_mul(MAX_TRUSTED_EXPANSION);
    let first = claimed.map_or(first_capacity(input, limit_bytes), |claimed| claimed as usize);
    let mut capacity = first.min(trusted).max(MIN_CAPACITY_BYTES).min(limit_bytes);
    loop {
        let mut out = Vec::with_capacity(capacity);
        let result = DECOMPRESSOR.with_borrow_mut(|context| context.decompress(&mut out, input));
        match result {
            Ok(_) if out.len() > limit_bytes => return Err(too_large),
            Ok(_) => return Ok(out),
            Err(code) if code.wrapping_neg() != ERROR_DESTINATION_TOO_SMALL => {
                return Err(CodecError::malformed(Codec::Zstd, get_error_name(code)));
            }
            Err(_) if capacity >= limit_bytes => return Err(too_large),
            Err(_) => capacity = capacity.saturating_mul(GROWTH).min(limit_bytes),
        }
    }
}
