//! Every limit of a record batch, by name.

use types::limits::MAX_PUBLISH_BYTES;

/// Bytes of a batch before its records block: base offset to record count.
pub const HEADER_BYTES: usize = 61;

/// Bytes of a batch that its length field does not count: the base offset and the length itself.
pub const LENGTH_PREFIX_BYTES: usize = 12;

/// The largest whole batch we build. The length field is a signed 32-bit number, and a total that
/// fits one too keeps every position inside the batch within 31 bits.
pub const MAX_BATCH_BYTES: usize = i32::MAX as usize;

/// The largest records block that we decompress, or compress. A compressed batch claims nothing
/// about its real size that can be trusted, so this bounds what one batch can cost in memory. It is
/// what the largest publish call takes, with room for the encoding around its bytes.
pub const MAX_DECOMPRESSED_BYTES: usize = MAX_PUBLISH_BYTES + 32 * 1024 * 1024;

/// The largest encoded record we build. It equals the limit of a decompressed block, so that every
/// record we accept can also be read back from a compressed batch.
pub const MAX_RECORD_BYTES: usize = MAX_DECOMPRESSED_BYTES;

/// The most headers of one record, read or written.
pub const MAX_HEADERS_PER_RECORD: usize = 65_536;

/// The fewest bytes a record can take: seven fields of one byte each. A batch that declares more
/// records than its block could hold at this size is refused before anything is walked.
pub const MIN_RECORD_BYTES: usize = 7;
