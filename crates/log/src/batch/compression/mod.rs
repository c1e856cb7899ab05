//! Compression of a records block, by the codecs that Kafka's clients use.

mod snappy;
mod zstd_frame;

use std::io::{BufRead, Read, Write};

use bytes::Bytes;

/// How a records block is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Codec {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952; several members in a row are read as one.
    Gzip,
    /// Snappy blocks in the framing of the Java library; a bare block is read too.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Codec {
    /// Every codec, in the order of their numbers.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The number in a batch's attributes.
    pub fn wire_id(self) -> u8 {
        match self {
            Codec::None => 0,
            Codec::Gzip => 1,
            Codec::Snappy => 2,
            Codec::Lz4 => 3,
            Codec::Zstd => 4,
        }
    }

    /// The codec of this number, if there is one.
    pub fn from_wire_id(id: u8) -> Option<Codec> {
        Codec::ALL.into_iter().find(|codec| codec.wire_id() == id)
    }
}

/// Why bytes cannot be compressed or decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes are not what the codec writes.
    #[error("malformed {codec:?} data: {detail}")]
    Malformed {
        /// Which codec.
        codec: Codec,
        /// What it said.
        detail: String,
    },
    /// The bytes decompress to more than the limit.
    #[error("{codec:?} data decompresses to more than {limit_bytes} bytes")]
    TooLarge {
        /// Which codec.
        codec: Codec,
        /// The limit that was given.
        limit_bytes: usize,
    },
    /// The codec failed to compress.
    #[error("{codec:?} failed to compress: {detail}")]
    Compress {
        /// Which codec.
        codec: Codec,
        /// What it said.
        detail: String,
    },
}

impl CodecError {
    fn malformed(codec: Codec, detail: impl ToString) -> CodecError {
        CodecError::Malformed { codec, detail: detail.to_string() }
    }

    fn compress(codec: Codec, detail: impl ToString) -> CodecError {
        CodecError::Compress { codec, detail: detail.to_string() }
    }
}

/// Appends `input`, compressed, to `out`.
///
/// # Errors
/// [`CodecError::Compress`]; what is in `out` after its old end is then of no use.
pub fn compress(codec: Codec, input: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    match codec {
        Codec::None => {
            out.extend_from_slice(input);
            Ok(())
        }
        Codec::Gzip => compress_gzip(input, out),
        Codec::Snappy => snappy::compress(input, out),
        Codec::Lz4 => compress_lz4(input, out),
        Codec::Zstd => zstd_frame::compress(input, out),
    }
}

/// Decompresses `input`; without a codec it is returned as it is, not copied. Memory grows with
/// what really comes out, whatever the input claims, and never over `limit_bytes` by more than a
/// codec's own window (at most about 12 MiB, for LZ4 frames of the largest linked blocks).
///
/// # Errors
/// [`CodecError::Malformed`], or [`CodecError::TooLarge`] for more than `limit_bytes`.
pub fn decompress(codec: Codec, input: &Bytes, limit_bytes: usize) -> Result<Bytes, CodecError> {
    let out = match codec {
        Codec::None => return Ok(input.clone()),
        Codec::Gzip => decompress_gzip(input, limit_bytes)?,
        Codec::Snappy => snappy::decompress(input, limit_bytes)?,
        Codec::Lz4 => decompress_lz4(input, limit_bytes)?,
        Codec::Zstd => zstd_frame::decompress(input, limit_bytes)?,
    };
    Ok(Bytes::from(out))
}

/// A guess at the output's size that the input justifies: messages rarely compress better.
fn first_capacity(input: &[u8], limit_bytes: usize) -> usize {
    input.len().saturating_mul(4).min(limit_bytes)
}

fn compress_gzip(input: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    let failed = |error| CodecError::compress(Codec::Gzip, error);
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
    encoder.write_all(input).map_err(failed)?;
    encoder.finish().map(|_| ()).map_err(failed)
}

fn decompress_gzip(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(first_capacity(input, limit_bytes));
    // One byte past the limit tells a full block from one that is too large.
    let mut decoder = flate2::bufread::MultiGzDecoder::new(input).take(limit_bytes as u64 + 1);
    decoder.read_to_end(&mut out).map_err(|error| CodecError::malformed(Codec::Gzip, error))?;
    if out.len() > limit_bytes {
        return Err(CodecError::TooLarge { codec: Codec::Gzip, limit_bytes });
    }
    Ok(out)
}

fn compress_lz4(input: &[u8], out: &mut Vec<u8>) -> Result<(), CodecError> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    // Kafka's Java client refuses linked blocks, and writes blocks of this size itself.
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(input).map_err(|error| CodecError::compress(Codec::Lz4, error))?;
    encoder.finish().map(|_| ()).map_err(|error| CodecError::compress(Codec::Lz4, error))
}

fn decompress_lz4(input: &[u8], limit_bytes: usize) -> Result<Vec<u8>, CodecError> {
    let malformed = |error: std::io::Error| CodecError::malformed(Codec::Lz4, error);
    if !is_whole_lz4_frame(input) {
        return Err(CodecError::malformed(Codec::Lz4, "this is not one whole frame"));
    }
    let mut out = Vec::with_capacity(first_capacity(input, limit_bytes));
    let mut decoder = lz4_flex::frame::FrameDecoder::new(input);
    loop {
        let block = decoder.fill_buf().map_err(malformed)?;
        if block.is_empty() {
            break;
        }
        if block.len() > limit_bytes - out.len() {
            return Err(CodecError::TooLarge { codec: Codec::Lz4, limit_bytes });
        }
        out.extend_from_slice(block);
        let len = block.len();
        decoder.consume(len);
    }
    if !decoder.get_ref().is_empty() {
        return Err(CodecError::malformed(Codec::Lz4, "bytes follow the frame"));
    }
    Ok(out)
}

/// Whether `input` begins and ends as one LZ4 frame does. The decoder takes the end of the input
/// for the end of the frame and says nothing, and reads frames of older kinds that Kafka's clients
/// do not; here both are refused.
fn is_whole_lz4_frame(input: &[u8]) -> bool {
    const MAGIC: [u8; 4] = 0x184d_2204_u32.to_le_bytes();
    const CONTENT_CHECKSUM_FLAG: u8 = 0b100;
    const END_MARK: [u8; 4] = [0; 4];
    let Some((&flags, tail)) = input.strip_prefix(&MAGIC).and_then(<[u8]>::split_first) else {
        return false;
    };
    let checksum_bytes = if flags & CONTENT_CHECKSUM_FLAG == 0 { 0 } else { 4 };
    let blocks = tail.len().checked_sub(checksum_bytes).and_then(|end| tail.get(..end));
    blocks.is_some_and(|blocks| blocks.ends_with(&END_MARK))
}
