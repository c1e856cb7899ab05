//! What happened in a run, line by line.

use std::hash::{DefaultHasher, Hasher};

/// The lines of a run. Two runs of a seed must give the same ones.
#[derive(Clone, Default)]
pub(crate) struct Trace {
    lines: Vec<String>,
    hasher: DefaultHasher,
}

impl Trace {
    pub(crate) fn add(&mut self, line: String) {
        self.hasher.write(line.as_bytes());
        self.hasher.write_u8(b'\n');
        self.lines.push(line);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }
}
