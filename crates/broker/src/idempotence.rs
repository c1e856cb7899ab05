//! Idempotent publish: a producer numbers its messages, so that a batch that it sends again is recognised and answered as the first time.
//!
//! One [`ProducerWindows`] stands beside each log that producers publish to (a topic's partition, a queue). It is rebuilt by
//! [`observe`](ProducerWindows::observe) from the batches of the log, or from its own snapshot and the batches after it.
//! Sequence numbers are Kafka's: they go from 0 to 2^31 - 1 and then begin at 0 again.

use std::collections::{BTreeMap, HashMap, VecDeque};

use types::limits::{MAX_PRODUCER_PENDING, MAX_PRODUCERS, PRODUCER_BATCHES, PRODUCER_EXPIRY};
use types::{Now, Offset, Text, Timestamp};

use crate::codec::{DecodeError, Reader, put_bytes, put_int, put_uint};

/// Sequence numbers are counted modulo this.
const SEQUENCES: u32 = 1 << 31;

/// Who produces.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProducerId {
    /// A number that the broker gave out. (Kafka.)
    Number(i64),
    /// A name that the producer chose.
    Name(Text),
}

/// A batch as its producer numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// The producer's epoch: a newer one of the same id fences the older.
    pub epoch: u32,
    /// The sequence number of its first message, below 2^31.
    pub first_sequence: u32,
    /// How many messages, at least one.
    pub messages: u32,
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// Publish it, then [`confirm`](ProducerWindows::confirm) or [`cancel`](ProducerWindows::cancel).
    New,
    /// It is there already: answer with the offset of its first message.
    Duplicate {
        /// Where it is.
        offset: Offset,
    },
    /// It is being written: answer as for the first one, once that is known.
    Pending,
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SequenceError {
    /// Messages before it are missing, or it is older than the batches that are remembered.
    #[error("the batch begins with sequence number {found}, expected was {expected}")]
    OutOfSequence {
        /// The next number.
        expected: u32,
        /// The batch's.
        found: u32,
    },
    /// A newer instance of the producer has taken over.
    #[error("the producer's epoch is {found}; one of epoch {present} has taken over")]
    Fenced {
        /// The newest epoch known.
        present: u32,
        /// The batch's.
        found: u32,
    },
    /// See [`MAX_PRODUCERS`]; all of them have batches under way.
    #[error("at most {MAX_PRODUCERS} producers can publish at once")]
    TooManyProducers,
    /// See [`MAX_PRODUCER_PENDING`].
    #[error("at most {MAX_PRODUCER_PENDING} batches of one producer can be under way at once")]
    TooManyPending,
    /// A batch has messages, and sequence numbers are below 2^31.
    #[error("the batch has no message, or a sequence number beyond 2^31")]
    Malformed,
}

/// A batch: its first sequence number, its messages, and its offset unless it is being written.
type Entry = (u32, u32, Option<Offset>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    epoch: u32,
    /// The number after the last batch's.
    next: u32,
    /// The last durable batches and all that are being written, oldest first.
    batches: VecDeque<Entry>,
    /// Whether a batch was ever durable: what is known of the producer then outlives a cancelled one.
    proven: bool,
    /// Its place in the order of use.
    used: u64,
    at: Timestamp,
}

impl Window {
    fn new(epoch: u32, at: Timestamp) -> Self {
        Self { epoch, next: 0, batches: VecDeque::new(), proven: false, used: 0, at }
    }

    fn pending(&self) -> usize {
        self.batches.iter().filter(|(_, _, offset)| offset.is_none()).count()
    }

    fn place(&self, batch: ProducerBatch) -> Option<usize> {
        self.batches
            .iter()
            .position(|(first, messages, _)| (*first, *messages) == (batch.first_sequence, batch.messages))
    }

    /// Keeps the last durable batches. Only when one has become durable: a batch that is still being written must not push out
    /// another, or cancelling it would lose that one.
    fn trim(&mut self) {
        self.proven = true;
        while self.batches.len() - self.pending() > PRODUCER_BATCHES {
            let oldest = self.batches.iter().position(|(_, _, offset)| offset.is_some());
            oldest.and_then(|at| self.batches.remove(at));
        }
    }
}

/// The producers of one log. Their time is counted by the monotonic clock from a wall time given at the start, so that a jump of the
/// wall clock forgets nobody.
#[derive(Clone, Debug)]
pub struct ProducerWindows {
    start: Now,
    windows: HashMap<ProducerId, Window>,
    /// By use, the one unused for longest first.
    order: BTreeMap<u64, ProducerId>,
    uses: u64,
    /// The latest time seen, so that the order of use is also the order of times.
    latest: Timestamp,
}

impl ProducerWindows {
    /// No producers yet.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self { start: now, windows: HashMap::new(), order: BTreeMap::new(), uses: 0, latest: Timestamp(i64::MIN) }
    }

    /// How many producers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }

    /// Looks at a batch before it is published. A producer that is not known may begin with any number, as it may have been
    /// forgotten; a new epoch begins with 0. A new batch counts as being written from here on.
    ///
    /// # Errors
    /// See [`SequenceError`]; nothing changed then.
    pub fn begin(&mut self, now: Now, producer: &ProducerId, batch: ProducerBatch) -> Result<Sequence, SequenceError> {
        check(batch)?;
        let now = self.expire(now);
        let Some(window) = self.windows.get_mut(producer) else {
            self.make_room()?;
            let window = Window::new(batch.epoch, now);
            self.windows.insert(producer.clone(), window);
            self.push(producer, batch, None);
            return Ok(Sequence::New);
        };
        let found = batch.first_sequence;
        if batch.epoch < window.epoch {
            return Err(SequenceError::Fenced { present: window.epoch, found: batch.epoch });
        }
        if batch.epoch > window.epoch {
            if found != 0 {
                return Err(SequenceError::OutOfSequence { expected: 0, found });
            }
            self.push(producer, batch, None);
            return Ok(Sequence::New);
        }
        match window.place(batch).and_then(|at| window.batches.get(at)) {
            Some((_, _, Some(offset))) => Ok(Sequence::Duplicate { offset: *offset }),
            Some((_, _, None)) => Ok(Sequence::Pending),
            None if found != window.next => Err(SequenceError::OutOfSequence { expected: window.next, found }),
            None if window.pending() >= MAX_PRODUCER_PENDING => Err(SequenceError::TooManyPending),
            None => {
                self.push(producer, batch, None);
                Ok(Sequence::New)
            }
        }
    }

    /// The batch is durable, its first message at this offset.
    pub fn confirm(&mut self, now: Now, producer: &ProducerId, batch: ProducerBatch, offset: Offset) {
        if let Some(window) = self.windows.get_mut(producer).filter(|window| window.epoch == batch.epoch)
            && let Some((_, _, place)) = window.place(batch).and_then(|at| window.batches.get_mut(at))
        {
            *place = Some(offset);
            window.trim();
            return;
        }
        // Cancelled because one before it was, and written all the same, or forgotten meanwhile: what the log holds counts.
        let at = self.time(now);
        self.observe(at, producer, batch, offset);
    }

    /// The batch was not written. Those after it that are still being written no longer count either: their sequence is broken, and the
    /// producer sends all of them again.
    pub fn cancel(&mut self, producer: &ProducerId, batch: ProducerBatch) {
        let Some(window) = self.windows.get_mut(producer).filter(|window| window.epoch == batch.epoch) else { return };
        let Some(at) = window.place(batch) else { return };
        if window.batches.iter().skip(at).all(|(_, _, offset)| offset.is_none()) {
            window.batches.truncate(at);
            window.next = batch.first_sequence;
        } else if window.batches.get(at).is_some_and(|(_, _, offset)| offset.is_none()) {
            // One after it is durable: there is a gap in the log, and the number cannot be used again.
            window.batches.remove(at);
        }
        if window.batches.is_empty() && !window.proven {
            // Nothing is known of it: it may begin with any number, as before.
            let used = window.used;
            self.order.remove(&used);
            self.windows.remove(producer);
        }
    }

    /// Takes in a batch that the log holds: replay, or a write that this machine was not asked about. A batch of an older epoch changes
    /// nothing.
    pub fn observe(&mut self, at: Timestamp, producer: &ProducerId, batch: ProducerBatch, offset: Offset) {
        let Ok(()) = check(batch) else { return };
        match self.windows.get(producer) {
            Some(window) if batch.epoch < window.epoch => return,
            Some(window) if batch.epoch == window.epoch && window.place(batch).is_some() => return,
            Some(_) => {}
            None => {
                // Room is made before the new one comes, which is not to be the one forgotten.
                if self.make_room().is_err() {
                    return;
                }
                let window = Window::new(batch.epoch, at);
                self.windows.insert(producer.clone(), window);
            }
        }
        self.latest = self.latest.max(at);
        self.push(producer, batch, Some(offset));
    }

    /// Forgets the producers that were not heard from for [`PRODUCER_EXPIRY`], and gives the time by the windows' own count. Bounded by
    /// how many are forgotten.
    pub fn expire(&mut self, now: Now) -> Timestamp {
        let at = self.time(now);
        self.latest = self.latest.max(at);
        while let Some((used, producer)) = self.order.first_key_value() {
            let old = |window: &Window| self.latest.since(window.at) >= PRODUCER_EXPIRY && window.pending() == 0;
            if !self.windows.get(producer).is_none_or(old) {
                break;
            }
            let used = *used;
            if let Some(producer) = self.order.remove(&used) {
                self.windows.remove(&producer);
            }
        }
        at
    }

    fn time(&self, now: Now) -> Timestamp {
        self.start.wall.after(now.mono.since(self.start.mono))
    }

    fn make_room(&mut self) -> Result<(), SequenceError> {
        if self.windows.len() < MAX_PRODUCERS {
            return Ok(());
        }
        let idle = |producer: &ProducerId| self.windows.get(producer).is_none_or(|window| window.pending() == 0);
        let used = self.order.iter().find(|(_, producer)| idle(producer)).map(|(used, _)| *used);
        let forgotten = used.and_then(|used| self.order.remove(&used)).ok_or(SequenceError::TooManyProducers)?;
        self.windows.remove(&forgotten);
        Ok(())
    }

    /// Adds a batch to a producer's window, which is there.
    fn push(&mut self, producer: &ProducerId, batch: ProducerBatch, offset: Option<Offset>) {
        let Some(window) = self.windows.get_mut(producer) else { return };
        if batch.epoch > window.epoch {
            window.batches.clear();
            window.epoch = batch.epoch;
        }
        window.batches.push_back((batch.first_sequence, batch.messages, offset));
        if offset.is_some() {
            window.trim();
        }
        window.next = after(batch);
        window.at = self.latest;
        self.uses += 1;
        self.order.remove(&window.used);
        window.used = self.uses;
        self.order.insert(window.used, producer.clone());
    }

    /// All that is durable, for a snapshot: see docs/formats/producer-windows.md.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![SNAPSHOT];
        put_uint(&mut out, self.order.len() as u64);
        for producer in self.order.values() {
            let Some(window) = self.windows.get(producer) else { continue };
            match producer {
                ProducerId::Number(number) => {
                    out.push(NUMBER);
                    put_int(&mut out, *number);
                }
                ProducerId::Name(name) => {
                    out.push(NAME);
                    put_bytes(&mut out, name.bytes());
                }
            }
            put_uint(&mut out, u64::from(window.epoch));
            put_int(&mut out, window.at.0);
            let durable =
                || window.batches.iter().filter_map(|(first, messages, offset)| offset.map(|at| (first, messages, at)));
            put_uint(&mut out, durable().count() as u64);
            for (first, messages, offset) in durable() {
                put_uint(&mut out, u64::from(*first));
                put_uint(&mut out, u64::from(*messages));
                put_uint(&mut out, offset.0);
            }
        }
        out
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub fn decode(now: Now, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        match reader.byte()? {
            SNAPSHOT => {}
            kind => return Err(DecodeError::Kind(kind)),
        }
        let mut windows = Self::new(now);
        for _ in 0..reader.uint()? {
            let producer = match reader.byte()? {
                NUMBER => ProducerId::Number(reader.int()?),
                NAME => ProducerId::Name(reader.text()?),
                kind => return Err(DecodeError::Kind(kind)),
            };
            let epoch = reader.number()?;
            let at = Timestamp(reader.int()?);
            for _ in 0..reader.uint()? {
                let (first_sequence, messages) = (reader.number()?, reader.number()?);
                let offset = Offset(reader.uint()?);
                windows.observe(at, &producer, ProducerBatch { epoch, first_sequence, messages }, offset);
            }
        }
        reader.finish()?;
        Ok(windows)
    }
}

const SNAPSHOT: u8 = 1;
const NUMBER: u8 = 0;
const NAME: u8 = 1;

fn check(batch: ProducerBatch) -> Result<(), SequenceError> {
    let fits = batch.messages > 0 && batch.messages <= SEQUENCES && batch.first_sequence < SEQUENCES;
    if fits { Ok(()) } else { Err(SequenceError::Malformed) }
}

/// The number after the batch's last. Both parts are at most 2^31, so the sum does not reach 2^32 with a first one below it.
fn after(batch: ProducerBatch) -> u32 {
    batch.first_sequence.wrapping_add(batch.messages) % SEQUENCES
}

#[cfg(test)]
mod tests;
