//! Bytes to frames and back.

pub(crate) mod frame;
pub(crate) mod method;
pub(crate) mod outbox;
pub(crate) mod properties;
pub(crate) mod table;
