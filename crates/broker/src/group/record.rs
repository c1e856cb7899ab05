//! What a group writes into its state log. The bytes are drawn in docs/formats/group-records.md.

use types::{Offset, Text, Timestamp};

use crate::codec::{DecodeError, Reader, put_bytes, put_int, put_uint};

/// How far a group has come in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    /// What the consumer wrote beside it; empty if nothing.
    pub metadata: Text,
    /// When it was committed.
    pub at: Timestamp,
}

/// A change of a group's offsets. The owner writes it, and applies it once it is durable; replayed in order, the records give
/// the group's offsets again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupRecord {
    /// A consumer has come so far.
    Commit {
        /// Which partition.
        partition: u32,
        /// How far.
        committed: Committed,
    },
    /// An operator or consumer set the place, forwards or back.
    Seek {
        /// Which partition.
        partition: u32,
        /// Where to.
        committed: Committed,
    },
    /// The partition has no committed offset any more.
    Forget {
        /// Which partition.
        partition: u32,
    },
    /// All offsets; records before it are not needed any more.
    Snapshot {
        /// By partition, ascending.
        offsets: Vec<(u32, Committed)>,
    },
}

const COMMIT: u8 = 1;
const SEEK: u8 = 2;
const FORGET: u8 = 3;
const SNAPSHOT: u8 = 4;

impl GroupRecord {
    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        match self {
            Self::Commit { partition, committed } => {
                out.push(COMMIT);
                put_place(&mut out, *partition, committed);
            }
            Self::Seek { partition, committed } => {
                out.push(SEEK);
                put_place(&mut out, *partition, committed);
            }
            Self::Forget { partition } => {
                out.push(FORGET);
                put_uint(&mut out, u64::from(*partition));
            }
            Self::Snapshot { offsets } => {
                out.push(SNAPSHOT);
                put_uint(&mut out, offsets.len() as u64);
                for (partition, committed) in offsets {
                    put_place(&mut out, *partition, committed);
                }
            }
        }
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let record = match reader.byte()? {
            COMMIT => {
                let (partition, committed) = read_place(&mut reader)?;
                Self::Commit { partition, committed }
            }
            SEEK => {
                let (partition, committed) = read_place(&mut reader)?;
                Self::Seek { partition, committed }
            }
            FORGET => Self::Forget { partition: reader.number()? },
            SNAPSHOT => {
                // The count is foreign: it is not trusted to size anything, only to say when to stop.
                let count = reader.uint()?;
                let mut offsets = Vec::new();
                for _ in 0..count {
                    offsets.push(read_place(&mut reader)?);
                }
                Self::Snapshot { offsets }
            }
            kind => return Err(DecodeError::Kind(kind)),
        };
        reader.finish()?;
        Ok(record)
    }
}

fn put_place(out: &mut Vec<u8>, partition: u32, committed: &Committed) {
    put_uint(out, u64::from(partition));
    put_uint(out, committed.offset.0);
    put_int(out, committed.at.0);
    put_bytes(out, committed.metadata.bytes());
}

fn read_place(reader: &mut Reader<'_>) -> Result<(u32, Committed), DecodeError> {
    let partition = reader.number()?;
    let offset = Offset(reader.uint()?);
    let at = Timestamp(reader.int()?);
    Ok((partition, Committed { offset, metadata: reader.text()?, at }))
}
