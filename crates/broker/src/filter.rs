//! The stored form of a filter.

use serde::{Deserialize, Serialize};
use types::Filter;

/// The serialised form of a [`Filter`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FilterRecord {}

impl From<Filter> for FilterRecord {
    fn from(_: Filter) -> Self {
        todo!()
    }
}

impl From<FilterRecord> for Filter {
    fn from(_: FilterRecord) -> Self {
        todo!()
    }
}
