//! Filters as the broker stores them, and messages as filters see them.

mod fields;
mod record;

pub use fields::MessageFields;
pub use record::{FilterRecord, RecordError};

#[cfg(test)]
mod tests;
