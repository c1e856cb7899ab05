//! The shop as processes, over the broker's own binary, which is looked for beside the tests': `cargo build -p cli` makes it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod chaos;
mod trace;
