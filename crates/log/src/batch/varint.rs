//! Variable-length integers: seven bits a byte, least significant first, zigzag for the sign.
//!
//! Source: Protocol Buffers encoding, as Kafka's record format uses it.

/// Reads fields off the front of a slice. Each read either succeeds and advances, or says `None`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }

    /// What has not been read yet.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A fixed number of bytes, as an array.
    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*head)
    }

    /// The next `len` bytes, not copied.
    #[inline]
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    /// A signed 32-bit number of one to five bytes.
    #[inline]
    pub(super) fn varint(&mut self) -> Option<i32> {
        let (&first, rest) = self.rest.split_first()?;
        let zigzag = if first < 0x80 {
            self.rest = rest;
            u32::from(first)
        } else {
            u32::try_from(self.long_form(5)?).ok()?
        };
        Some((zigzag >> 1) as i32 ^ -((zigzag & 1) as i32))
    }

    /// A signed 64-bit number of one to ten bytes.
    #[inline]
    pub(super) fn varlong(&mut self) -> Option<i64> {
        let (&first, rest) = self.rest.split_first()?;
        let zigzag = if first < 0x80 {
            self.rest = rest;
            u64::from(first)
        } else {
            self.long_form(10)?
        };
        Some((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    fn long_form(&mut self, max_bytes: usize) -> Option<u64> {
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().take(max_bytes).enumerate() {
            // The tenth byte has room for one bit only; more would be lost without a word.
            if index == 9 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                self.rest = self.rest.get(index + 1..)?;
                return Some(value);
            }
        }
        None
    }
}

#[inline]
fn zigzag_32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

#[inline]
fn zigzag_64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Bytes that `put_varint` writes for `value`.
#[inline]
pub(super) fn varint_len(value: i32) -> usize {
    varlong_len(i64::from(value))
}

/// Bytes that `put_varlong` writes for `value`.
#[inline]
pub(super) fn varlong_len(value: i64) -> usize {
    let bits = 64 - (zigzag_64(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, value: i32) {
    put_unsigned(out, u64::from(zigzag_32(value)));
}

#[inline]
pub(super) fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_unsigned(out, zigzag_64(value));
}

#[inline]
fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_at_every_length_come_back_and_are_measured_right() {
        let mut values = vec![0, 1, -1, i64::MAX, i64::MIN];
        for shift in 0..63 {
            values.extend([1i64 << shift, (1i64 << shift) - 1, -(1i64 << shift)]);
        }
        for value in values {
            let mut out = Vec::new();
            put_varlong(&mut out, value);
            assert_eq!(out.len(), varlong_len(value), "{value}");
            assert_eq!(Reader::new(&out).varlong(), Some(value));
            if let Ok(small) = i32::try_from(value) {
                let mut out = Vec::new();
                put_varint(&mut out, small);
                assert_eq!(out.len(), varint_len(small), "{small}");
                assert_eq!(Reader::new(&out).varint(), Some(small));
            }
        }
    }

    #[test]
    fn overlong_and_cut_numbers_are_refused() {
        assert_eq!(Reader::new(&[]).varint(), None);
        assert_eq!(Reader::new(&[0x80]).varint(), None);
        assert_eq!(Reader::new(&[0x80; 6]).varint(), None);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).varint(), None);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint(), Some(i32::MIN));
        assert_eq!(Reader::new(&[0x80; 11]).varlong(), None);
        let mut too_wide = [0xff; 10];
        too_wide[9] = 2;
        assert_eq!(Reader::new(&too_wide).varlong(), None);
    }
}
