//! A bound on how many password hashes are computed at a time.

use parking_lot::{Condvar, Mutex};

/// Lets a few callers in at a time; some more wait, and the rest are turned away.
///
/// One hash costs tens of megabytes and milliseconds by design. Without the gate a flood of logins would take the machine's
/// memory and all its cores from the messages.
#[derive(Debug)]
pub(super) struct Gate {
    inside_max: usize,
    waiting_max: usize,
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    inside: usize,
    waiting: usize,
}

/// A caller inside. Leaving is dropping it.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    gate: &'a Gate,
}

/// As many as may wait are waiting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GateFull;

impl Gate {
    /// A gate for `inside_max` callers (at least one), with room for `waiting_max` in front.
    pub(super) fn new(inside_max: usize, waiting_max: usize) -> Self {
        Self { inside_max: inside_max.max(1), waiting_max, state: Mutex::default(), left: Condvar::new() }
    }

    /// Goes in, after waiting for a place if need be. Blocks the thread for as long as that takes.
    pub(super) fn enter(&self) -> Result<Permit<'_>, GateFull> {
        let mut state = self.state.lock();
        if state.inside >= self.inside_max {
            if state.waiting >= self.waiting_max {
                return Err(GateFull);
            }
            state.waiting += 1;
            while state.inside >= self.inside_max {
                self.left.wait(&mut state);
            }
            state.waiting -= 1;
        }
        state.inside += 1;
        Ok(Permit { gate: self })
    }

    /// How many wait now.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.state.lock().waiting
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.gate.state.lock().inside -= 1;
        self.gate.left.notify_one();
    }
}
