//! Bytes to frames and back.

pub(crate) mod table;
