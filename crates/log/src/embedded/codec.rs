//! Fixed-width little-endian numbers and LEB128 varints, as all of the engine's own formats use them.

use std::ops::Range;

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Ascending ranges as distances: from the end of the one before, and the length.
pub(super) fn put_ranges(out: &mut Vec<u8>, ranges: impl ExactSizeIterator<Item = Range<u64>>) {
    put_varint(out, ranges.len() as u64);
    let mut at = 0;
    for range in ranges {
        put_varint(out, range.start.saturating_sub(at));
        put_varint(out, range.end.saturating_sub(range.start));
        at = range.end;
    }
}

/// Takes values off the front of foreign bytes; `None` as soon as they do not suffice.
#[derive(Clone)]
pub(super) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_le_bytes)
    }

    pub(super) fn varint(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn varint_u32(&mut self) -> Option<u32> {
        u32::try_from(self.varint()?).ok()
    }

    /// A count of things of at least `min_bytes` each, which cannot be more than what is left.
    pub(super) fn count(&mut self, min_bytes: usize) -> Option<usize> {
        let count = usize::try_from(self.varint()?).ok()?;
        (count.checked_mul(min_bytes)? <= self.rest.len()).then_some(count)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.count(1)?;
        self.take(count)
    }

    pub(super) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    pub(super) fn ranges(&mut self) -> Option<Vec<Range<u64>>> {
        let count = self.count(2)?;
        let mut at = 0u64;
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            let start = at.checked_add(self.varint()?)?;
            let end = start.checked_add(self.varint()?)?;
            ranges.push(start..end);
            at = end;
        }
        Some(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_and_ranges_come_back() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Decoder::new(&out).varint(), Some(value));
            assert_eq!(Decoder::new(out.get(..out.len() - 1).unwrap()).varint(), None);
        }
        let ranges = vec![3..5, 5..9, 1 << 40..u64::MAX];
        let mut out = Vec::new();
        put_ranges(&mut out, ranges.iter().cloned());
        assert_eq!(Decoder::new(&out).ranges(), Some(ranges));
    }

    #[test]
    fn a_varint_over_64_bits_is_refused() {
        assert_eq!(Decoder::new(&[0xff; 11]).varint(), None);
        assert_eq!(Decoder::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).varint(), None);
    }
}
