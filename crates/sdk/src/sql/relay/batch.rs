//! What is read from the outbox at a time, and what is written of it.

use std::collections::HashSet;

use bytes::Bytes;

use super::super::backend::Backend;
use super::super::envelope;
use super::super::error::SqlError;
use super::super::limits::MAX_RELAY_BATCH_BYTES;
use super::super::outbox::{FAILED, PENDING};
use super::super::schema::placeholders;
use super::super::store::{Store, made};
use super::holds::Holds;
use super::shortened;
use crate::transport::Outgoing;

/// A message that is on its way.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seq: i64,
    pub(super) message_id: String,
    pub(super) destination: String,
    pub(super) attempts: i64,
    pub(super) outgoing: Outgoing,
}

/// What is read at a time.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// In the outbox's order.
    pub(super) entries: Vec<Entry>,
    /// What this version cannot read, and why.
    pub(super) unreadable: Vec<(i64, String)>,
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Confirmed.
    Done,
    /// Refused for good, with the reason.
    Failed(String),
    /// To be tried again, with what went wrong.
    Tried(String),
}

/// Whether anything is on its way to where it may be taken.
pub(super) async fn is_any<DB: Backend>(store: &Store<DB>, holds: &Holds) -> Result<bool, SqlError> {
    let held = holds.names();
    let (list, count) = placeholders(2, held.len());
    let sql = format!("SELECT seq FROM svc_outbox WHERE state = $1 AND destination NOT IN ({list}) LIMIT 1");
    let args = std::iter::once(PENDING.into()).chain(padded(held, count)).collect();
    Ok(!store.fetch("looking into the outbox", made(sql), args).await?.is_empty())
}

/// The oldest messages that are on their way to where they may be taken, up to a number and a size.
pub(super) async fn read_batch<DB: Backend>(store: &Store<DB>, holds: &Holds, max: u32) -> Result<Batch, SqlError> {
    let held = holds.names();
    let (list, count) = placeholders(4, held.len());
    let sql = format!(
        "SELECT seq, message_id, destination, attempts, envelope, body FROM (
            SELECT oldest.*, sum(weight_bytes) OVER (ORDER BY seq) - weight_bytes AS before_bytes FROM (
                SELECT * FROM svc_outbox WHERE state = $1 AND destination NOT IN ({list}) ORDER BY seq LIMIT $2
            ) AS oldest
        ) AS weighed WHERE before_bytes < $3 ORDER BY seq"
    );
    let first = [PENDING.into(), i64::from(max).into(), MAX_RELAY_BATCH_BYTES.into()];
    let args = first.into_iter().chain(padded(held, count)).collect();
    let mut batch = Batch::default();
    for row in store.fetch("reading the outbox", made(sql), args).await? {
        let seq = row.int(0)?;
        match envelope::read(&row.text(4)?, row.maybe_blob(5)?) {
            Ok(outgoing) => batch.entries.push(Entry {
                seq,
                message_id: row.text(1)?,
                destination: row.text(2)?,
                attempts: row.int(3)?,
                outgoing,
            }),
            Err(why) => batch.unreadable.push((seq, shortened(&format!("it cannot be read: {why}")))),
        }
    }
    Ok(batch)
}

/// Takes out what can be published at once: the first of each destination and key, and all that have no key.
pub(super) fn next_wave(entries: &mut Vec<Entry>) -> Vec<Entry> {
    let mut keys: HashSet<(String, Bytes)> = HashSet::new();
    entries
        .extract_if(.., |entry| match &entry.outgoing.message.key {
            Some(key) => keys.insert((entry.destination.clone(), key.clone())),
            None => true,
        })
        .collect()
}

/// Writes what became of messages, all or nothing.
pub(super) async fn settle<DB: Backend>(store: &Store<DB>, outcomes: &[(i64, Outcome)]) -> Result<(), SqlError> {
    const FAIL: &str =
        "UPDATE svc_outbox SET state = $1, attempts = attempts + 1, error = $2, failed_ms = $3 WHERE seq = $4";
    const TRY: &str = "UPDATE svc_outbox SET attempts = attempts + 1, error = $1 WHERE seq = $2";
    const DOING: &str = "writing what was published";
    let mut done = Vec::new();
    let mut tx = store.begin().await?;
    for (seq, outcome) in outcomes {
        match outcome {
            Outcome::Done => done.push(*seq),
            Outcome::Failed(why) => {
                let args = vec![FAILED.into(), why.as_str().into(), store.now().0.into(), (*seq).into()];
                tx.execute(DOING, FAIL, args).await?;
            }
            Outcome::Tried(why) => {
                tx.execute(DOING, TRY, vec![why.as_str().into(), (*seq).into()]).await?;
            }
        }
    }
    if !done.is_empty() {
        let (list, count) = placeholders(1, done.len());
        let last = done.last().copied().unwrap_or_default();
        done.resize(count, last);
        let sql = format!("DELETE FROM svc_outbox WHERE seq IN ({list})");
        tx.execute(DOING, made(sql), done.into_iter().map(Into::into).collect()).await?;
    }
    tx.commit().await
}

/// Values for a list of placeholders, the last one repeated. No destination is empty text.
fn padded(mut values: Vec<String>, count: usize) -> impl Iterator<Item = super::super::backend::Arg> {
    let last = values.last().cloned().unwrap_or_default();
    values.resize(count, last);
    values.into_iter().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Envelope;
    use crate::transport::Destination;

    fn entry(seq: i64, destination: &str, key: Option<&'static str>) -> Entry {
        let message = Envelope { key: key.map(|key| Bytes::from_static(key.as_bytes())), ..Envelope::default() };
        let outgoing = Outgoing { to: Destination::Queue(destination.to_owned()), message };
        Entry { seq, message_id: seq.to_string(), destination: destination.to_owned(), attempts: 0, outgoing }
    }

    #[test]
    fn a_wave_has_each_key_of_a_destination_once() {
        let mut entries = vec![
            entry(1, "a", Some("k")),
            entry(2, "a", Some("k")),
            entry(3, "b", Some("k")),
            entry(4, "a", None),
            entry(5, "a", None),
            entry(6, "a", Some("l")),
            entry(7, "a", Some("k")),
        ];
        let mut waves = Vec::new();
        while !entries.is_empty() {
            waves.push(next_wave(&mut entries).iter().map(|entry| entry.seq).collect::<Vec<_>>());
        }
        assert_eq!(waves, [vec![1, 3, 4, 5, 6], vec![2], vec![7]]);
    }
}
