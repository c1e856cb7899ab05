//! The small binary records of state logs: unsigned numbers in groups of 7 bits, lowest first, the top bit set on all but the last
//! (LEB128); signed ones zigzagged first; texts and bytes with their length before them.

use types::Text;

/// Why a state record cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// It ends too early.
    #[error("the record ends too early")]
    Truncated,
    /// A number that is larger than its field.
    #[error("the record holds a number that is out of range")]
    Number,
    /// A text that is not UTF-8.
    #[error("the record holds a text that is not UTF-8")]
    Text,
    /// A later version's kind, or damage.
    #[error("the record is of the unknown kind {0}")]
    Kind(u8),
    /// More bytes than the record needs.
    #[error("the record is followed by {0} bytes that do not belong to it")]
    Trailing(usize),
}

pub(crate) fn put_uint(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[allow(clippy::cast_sign_loss, reason = "zigzag: the sign goes to the lowest bit")]
pub(crate) fn put_int(out: &mut Vec<u8>, value: i64) {
    put_uint(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads a record from its start.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn uint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Number);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Number)
    }

    #[allow(clippy::cast_possible_wrap, reason = "zigzag: the lowest bit is the sign")]
    pub(crate) fn int(&mut self) -> Result<i64, DecodeError> {
        let value = self.uint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn number<N: TryFrom<u64>>(&mut self) -> Result<N, DecodeError> {
        N::try_from(self.uint()?).map_err(|_| DecodeError::Number)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.number()?;
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> Result<Text, DecodeError> {
        std::str::from_utf8(self.bytes()?).map(Text::from).map_err(|_| DecodeError::Text)
    }

    /// The record ends here.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.rest.len())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_back_and_oversize_ones_refused() {
        for value in [0, 1, 127, 128, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_uint(&mut out, value);
            assert_eq!(Reader::new(&out).uint(), Ok(value));
            assert_eq!(Reader::new(&out[..out.len() - 1]).uint(), Err(DecodeError::Truncated));
        }
        for value in [0, -1, 1, i64::MIN, i64::MAX] {
            let mut out = Vec::new();
            put_int(&mut out, value);
            assert_eq!(Reader::new(&out).int(), Ok(value));
        }
        assert_eq!(Reader::new(&[0xff; 11]).uint(), Err(DecodeError::Number));
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).uint(),
            Err(DecodeError::Number)
        );
        assert_eq!(Reader::new(&[0x80, 0x02]).number::<u8>(), Err(DecodeError::Number));
        assert_eq!(Reader::new(&[5, b'a']).bytes(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[1, 0xff]).text(), Err(DecodeError::Text));
    }
}
