//! One record, borrowed from a records block or sharing it.

use bytes::Bytes;
use types::Offset;

use super::error::RecordFault;
use super::limits::MAX_HEADERS_PER_RECORD;
use super::varint::Reader;

/// A cheap pointer to one record: where it starts in its batch's decompressed records block.
/// It is only good for the batch it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordPosition(pub u32);

/// A record that borrows its block: nothing is copied or counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// The record's offset in its log.
    pub offset: Offset,
    /// The offset minus the batch's base offset.
    pub offset_delta: u32,
    /// Milliseconds since 1970; the batch's append time if its timestamps mean that.
    pub timestamp_ms: i64,
    /// The key; `None` is null, which is not the same as empty.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is null, which a compacted log reads as a delete.
    pub value: Option<&'a [u8]>,
    /// The headers, decoded as they are asked for.
    pub headers: HeadersRef<'a>,
    /// Where the record starts in the block.
    pub position: RecordPosition,
    /// Bytes of the encoded record, its length prefix included.
    pub encoded_bytes: u32,
}

/// A record that keeps its block alive; key, value and headers are slices of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The record's offset in its log.
    pub offset: Offset,
    /// The offset minus the batch's base offset.
    pub offset_delta: u32,
    /// Milliseconds since 1970; the batch's append time if its timestamps mean that.
    pub timestamp_ms: i64,
    /// The key; `None` is null, which is not the same as empty.
    pub key: Option<Bytes>,
    /// The value; `None` is null, which a compacted log reads as a delete.
    pub value: Option<Bytes>,
    /// The headers, decoded as they are asked for.
    pub headers: Headers,
    /// Where the record starts in the block.
    pub position: RecordPosition,
    /// Bytes of the encoded record, its length prefix included.
    pub encoded_bytes: u32,
}

impl RecordRef<'_> {
    /// The same record, sharing `block`, which it must have been decoded from.
    pub(super) fn share(&self, block: &Bytes) -> Record {
        Record {
            offset: self.offset,
            offset_delta: self.offset_delta,
            timestamp_ms: self.timestamp_ms,
            key: self.key.map(|key| block.slice_ref(key)),
            value: self.value.map(|value| block.slice_ref(value)),
            headers: Headers { count: self.headers.count, encoded: block.slice_ref(self.headers.encoded) },
            position: self.position,
            encoded_bytes: self.encoded_bytes,
        }
    }
}

/// One header, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderRef<'a> {
    /// The name. Kafka says UTF-8, but nothing on the way enforces it.
    pub name: &'a [u8],
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
}

impl<'a> HeaderRef<'a> {
    /// The name as text, or `None` when it is not UTF-8.
    pub fn name_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.name).ok()
    }
}

/// A record's headers in their order, duplicates kept; borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadersRef<'a> {
    count: u32,
    encoded: &'a [u8],
}

impl<'a> HeadersRef<'a> {
    /// Checks all headers, which `encoded` must hold and nothing else, so that iterating them
    /// later cannot fail.
    pub(super) fn check(count: i32, encoded: &'a [u8]) -> Result<Self, RecordFault> {
        let count = u32::try_from(count)
            .ok()
            .filter(|&count| count as usize <= MAX_HEADERS_PER_RECORD)
            .ok_or(RecordFault::HeaderCount)?;
        let mut reader = Reader::new(encoded);
        for _ in 0..count {
            read_header(&mut reader)?;
        }
        if !reader.rest().is_empty() {
            return Err(RecordFault::TrailingBytes);
        }
        Ok(HeadersRef { count, encoded })
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in order.
    pub fn iter(&self) -> HeaderIter<'a> {
        HeaderIter { reader: Reader::new(self.encoded), remaining: self.count }
    }

    /// The first header of this name.
    pub fn get(&self, name: &[u8]) -> Option<HeaderRef<'a>> {
        self.iter().find(|header| header.name == name)
    }
}

impl<'a> IntoIterator for HeadersRef<'a> {
    type Item = HeaderRef<'a>;
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// A record's headers in their order, duplicates kept; sharing the records block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    count: u32,
    encoded: Bytes,
}

impl Headers {
    /// The same headers, borrowed.
    pub fn as_ref(&self) -> HeadersRef<'_> {
        HeadersRef { count: self.count, encoded: &self.encoded }
    }

    /// How many headers there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in order, borrowed.
    pub fn iter(&self) -> HeaderIter<'_> {
        self.as_ref().iter()
    }

    /// The headers in order, name and value sharing the records block.
    pub fn iter_shared(&self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> + '_ {
        self.iter().map(|header| {
            let value = header.value.map(|value| self.encoded.slice_ref(value));
            (self.encoded.slice_ref(header.name), value)
        })
    }

    /// The first header of this name.
    pub fn get(&self, name: &[u8]) -> Option<HeaderRef<'_>> {
        self.as_ref().get(name)
    }
}

impl<'a> IntoIterator for &'a Headers {
    type Item = HeaderRef<'a>;
    type IntoIter = HeaderIter<'a>;

    fn into_iter(self) -> HeaderIter<'a> {
        self.iter()
    }
}

/// Iterates the headers of one record.
#[derive(Debug, Clone)]
pub struct HeaderIter<'a> {
    reader: Reader<'a>,
    remaining: u32,
}

impl<'a> Iterator for HeaderIter<'a> {
    type Item = HeaderRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<HeaderRef<'a>> {
        self.remaining = self.remaining.checked_sub(1)?;
        // `HeadersRef::check` has read these bytes before, so this does not fail.
        read_header(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining as usize, Some(self.remaining as usize))
    }
}

impl ExactSizeIterator for HeaderIter<'_> {}

#[inline]
fn read_header<'a>(reader: &mut Reader<'a>) -> Result<HeaderRef<'a>, RecordFault> {
    let name = read_nullable(reader)?.ok_or(RecordFault::NegativeLength)?;
    let value = read_nullable(reader)?;
    Ok(HeaderRef { name, value })
}

/// A length and that many bytes; the length -1 is null.
#[inline]
pub(super) fn read_nullable<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, RecordFault> {
    let len = reader.varint().ok_or(RecordFault::Truncated)?;
    if len == -1 {
        return Ok(None);
    }
    let len = usize::try_from(len).map_err(|_| RecordFault::NegativeLength)?;
    reader.take(len).map(Some).ok_or(RecordFault::Truncated)
}
