//! The management API over a broker on a log in memory.

mod management;
