//! Sessions and the management API over a broker on a log in memory.

mod management;
mod session;
