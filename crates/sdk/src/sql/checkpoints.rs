//! How far projections have read, saved with what they made of it.

use super::backend::Backend;
use super::error::SqlError;
use super::store::{Store, Tx};
use crate::transport::Position;

/// How far the readers of logs have come. From [`Store::checkpoints`].
///
/// A projection that saves its checkpoint in the transaction in which it changes its tables applies each record exactly once.
#[derive(Debug)]
pub struct Checkpoints<'a, DB: Backend> {
    pub(super) store: &'a Store<DB>,
}

/// Why a checkpoint was not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// It is not where this reader left it.
    #[error(
        "the checkpoint of {name:?}, partition {partition}, is not at {expected} any more: another reader of this name moved it; roll back, \
         load the checkpoints and go on from there"
    )]
    Moved {
        /// The reader's name.
        name: String,
        /// The partition.
        partition: u32,
        /// Where it was expected.
        expected: u64,
    },
    /// The database.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

impl<DB: Backend> Checkpoints<'_, DB> {
    /// The next offset of each partition that this reader has a checkpoint of, as [`StartAt::Positions`](crate::transport::StartAt) takes them.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn load(&self, name: &str) -> Result<Vec<Position>, SqlError> {
        const SQL: &str = "SELECT part, next_offset FROM svc_checkpoints WHERE name = $1 ORDER BY part";
        let rows = self.store.fetch("loading checkpoints", SQL, vec![name.into()]).await?;
        let position = |partition: i64, offset: i64| -> Option<Position> {
            Some(Position { partition: partition.try_into().ok()?, offset: offset.try_into().ok()? })
        };
        rows.iter()
            .map(|row| {
                let (partition, offset) = (row.int(0)?, row.int(1)?);
                position(partition, offset).ok_or_else(|| SqlError::Unreadable {
                    table: "svc_checkpoints",
                    why: format!("partition {partition} at {offset}"),
                })
            })
            .collect()
    }

    /// Moves the checkpoint of a partition from `expected` (0 if there is none yet) to `next.offset`. Of two readers of one name that apply the
    /// same records only one gets through.
    ///
    /// # Errors
    /// [`CheckpointError::Moved`] if it is elsewhere: the transaction is to be rolled back, what it did was done before.
    /// [`CheckpointError::Sql`].
    pub async fn advance(
        &self,
        tx: &mut Tx<DB>,
        name: &str,
        expected: u64,
        next: Position,
    ) -> Result<(), CheckpointError> {
        const INSERT: &str = "INSERT INTO svc_checkpoints (name, part, next_offset, updated_ms) VALUES ($1, $2, 0, $3)
            ON CONFLICT (name, part) DO NOTHING";
        const UPDATE: &str = "UPDATE svc_checkpoints SET next_offset = $1, updated_ms = $2
            WHERE name = $3 AND part = $4 AND next_offset = $5";
        const DOING: &str = "saving a checkpoint";
        let (partition, now_ms) = (i64::from(next.partition), self.store.now().0);
        if expected == 0 {
            tx.execute(DOING, INSERT, vec![name.into(), partition.into(), now_ms.into()]).await?;
        }
        let args = vec![int(next.offset).into(), now_ms.into(), name.into(), partition.into(), int(expected).into()];
        match tx.execute(DOING, UPDATE, args).await? {
            0 => Err(CheckpointError::Moved { name: name.to_owned(), partition: next.partition, expected }),
            _ => Ok(()),
        }
    }

    /// Moves the checkpoint of a partition behind this record, if it is not behind it already: then the record was handled before, by this reader or by
    /// another instance of it, and the answer is `false`. Records in between that nobody handles need not be told.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn pass(&self, tx: &mut Tx<DB>, name: &str, record: Position) -> Result<bool, SqlError> {
        const INSERT: &str = "INSERT INTO svc_checkpoints (name, part, next_offset, updated_ms) VALUES ($1, $2, 0, $3)
            ON CONFLICT (name, part) DO NOTHING";
        const UPDATE: &str = "UPDATE svc_checkpoints SET next_offset = $1, updated_ms = $2
            WHERE name = $3 AND part = $4 AND next_offset <= $5";
        const DOING: &str = "saving a checkpoint";
        let (partition, now_ms) = (i64::from(record.partition), self.store.now().0);
        tx.execute(DOING, INSERT, vec![name.into(), partition.into(), now_ms.into()]).await?;
        let (at, next) = (int(record.offset), int(record.offset.saturating_add(1)));
        let args = vec![next.into(), now_ms.into(), name.into(), partition.into(), at.into()];
        Ok(tx.execute(DOING, UPDATE, args).await? == 1)
    }

    /// Forgets all checkpoints of this reader: it begins again, in the transaction in which its tables are emptied.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn reset(&self, tx: &mut Tx<DB>, name: &str) -> Result<(), SqlError> {
        tx.execute("resetting checkpoints", "DELETE FROM svc_checkpoints WHERE name = $1", vec![name.into()]).await?;
        Ok(())
    }
}

/// Offsets are below 2^63 in every log.
fn int(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
