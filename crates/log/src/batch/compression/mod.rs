//! Compression of a records block, by the codecs that Kafka's clients use.

mod lz4;
mod snappy;
mod zstd_frame;

use std::io::{Read, Write};

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
        Codec::Lz4 => lz4::compress(input, out),
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
        Codec::Lz4 => lz4::decompress(input, limit_bytes)?,
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
