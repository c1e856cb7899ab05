//! The write-ahead log: one file of it, as a start finds it.

use crate::data_directory::{Kind, check_files};

/// See [`crate::data_directory::check`].
///
/// # Panics
/// As that does.
pub fn check(input: &[u8]) {
    check_files(vec![(Kind::WriteAhead, 1, input.to_vec())]);
}
