//! The router over a broker in memory.
