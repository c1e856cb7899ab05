//! What tests of services use.

pub mod collector;
