//! LZ4 in its frame format, one frame a records block.

use std::io::{BufRead, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::super::varint::Reader;
use super::{Codec, CodecError, first_capacity};

const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();

// Bits of the frame's flag byte.
const DICTIONARY_FLAG: u8 = 1;
const CONTENT_CHECKSUM_FLAG: u8 = 1 << 2;
const CONTENT_SIZE_FLAG: u8 = 1 << 3;
const BLOCK_CHECKSUM_FLAG: u8 = 1 << 4;

/// Set in a block's length when the block is not compressed.
const STORED_BLOCK_BIT: u32 = 1 << 31;

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let failed = |error: String| CodecError::compress(Codec::Lz4, error);
    // Kafka's Java client refuses linked blocks, and writes blocks of this size itself.
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(input).map_err(|error| failed(error.to_string()))?;
    encoder.finish().map(|_| ()).map_err(|error| failed(error.to_string()))
}

pub(super) fn decompress(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CodecError> {
    if frame_len(input) != Some(input.len()) {
        return Err(CodecError::malformed(Codec::Lz4, "this is not one whole frame"));
    }
    let mut out = Vec::with_capacity(first_capacity(input, limit_bytes));
    let mut decoder = FrameDecoder::new(input);
    loop {
        let block = decoder.fill_buf().map_err(|error| CodecError::malformed(Codec::Lz4, error))?;
        if block.is_empty() {
            // An empty block inside the frame looks the same as the end, except for what is left.
            if decoder.get_ref().is_empty() {
                return Ok(out);
            }
            continue;
        }
        if block.len() > limit_bytes - out.len() {
            return Err(CodecError::TooLarge { codec: Codec::Lz4, limit_bytes });
        }
        out.extend_from_slice(block);
        let len = block.len();
        decoder.consume(len);
    }
}

/// How long the frame at the front of `input` is, if it is all there. The decoder takes the end of
/// its input for the end of the frame and says nothing, so a cut has to be found here; and it reads
/// older kinds of frames, which Kafka's clients do not.
fn frame_len(input: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(input);
    if reader.array()? != MAGIC {
        return None;
    }
    let [flags, _block_size] = reader.array()?;
    let when = |flag: u8, bytes: usize| if flags & flag == 0 { 0 } else { bytes };
    let header_checksum_bytes = 1;
    reader.take(when(CONTENT_SIZE_FLAG, 8) + when(DICTIONARY_FLAG, 4) + header_checksum_bytes)?;
    loop {
        let len = u32::from_le_bytes(reader.array()?);
        if len == 0 {
            break;
        }
        reader.take((len & !STORED_BLOCK_BIT) as usize + when(BLOCK_CHECKSUM_FLAG, 4))?;
    }
    reader.take(when(CONTENT_CHECKSUM_FLAG, 4))?;
    Some(input.len() - reader.rest().len())
}
