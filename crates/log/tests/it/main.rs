//! One suite over every engine behind the `Log` trait.
#![allow(clippy::single_range_in_vec_init, reason = "a list of one range is meant, not the range's numbers")]

mod backup;
mod crash;
mod cut;
mod embedded;
mod fixtures;
mod memory;
mod offline;
mod suite;
mod unknown_damage;
