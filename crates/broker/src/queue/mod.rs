//! The queue's state machine: ready order, leases, retries, delays, keys, priorities.
//!
//! [`Queue`] is plain data with methods: no I/O, no lock, no clock. Every waiting message is in exactly one place:
//!
//! - **unread**: in the log from the cursor on, after a restart, and not looked at yet;
//! - **ready**: in the window (`ready`), or as one bit of its level's bitmap once the window is full;
//! - **unsorted**: due, but its priority must be read again before it has a level;
//! - **delayed**: in the delay index (`delay`), exactly while there are few, else as one bit of a due-time bucket;
//! - **parked**: behind an earlier message of its key (`keys`), as one bit and, while there is room, an entry.
//!
//! It goes from there in flight (`leases`), and leaves when it is acknowledged or given up: its owner then says
//! [`departed`](Queue::departed) or [`restore`](Queue::restore).

mod ages;
mod breaker;
mod browse;
mod columns;
mod consumers;
mod contract;
mod delay;
mod delegate;
mod deliver;
mod keys;
mod leases;
mod machine;
mod memory;
mod offsets;
mod paging;
mod ready;
mod retry;
mod rules;
mod run;
mod settle;
mod time;

#[cfg(test)]
mod tests;

pub use browse::{BrowseEntry, BrowseState};
pub use contract::*;
pub use machine::Queue;
pub use memory::WindowBudget;
pub use run::Run;
