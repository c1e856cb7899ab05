//! The words that every Posthouse crate shares: ids, offsets, messages, filters, limits, and the traits through
//! which time and disks are reached.
//!
//! Architecture invariant: this crate knows no runtime, no serialisation framework and no protocol.

pub mod clock;
pub mod disk;
mod filter;
mod ids;
pub mod limits;
mod message;
mod subject;
mod text;
mod value;

pub use clock::{Clock, Monotonic, Now, Timestamp};
pub use filter::{AttributeTest, Field, Fields, Filter, FilterError, HeaderMatch, Number};
pub use ids::{EntityId, Epoch, LogId, Offset};
pub use message::{Headers, Message, MessageId};
pub use subject::{PatternError, SubjectPattern, Word, subject_words};
pub use text::{NameError, Text, check_name};
pub use value::Value;

#[cfg(test)]
mod seeds;
