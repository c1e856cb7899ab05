//! Rows of sagas, changed one at a time.

use types::Timestamp;

use super::backend::Backend;
use super::error::SqlError;
use super::limits::MAX_PAGE;
use super::store::{Row, Store, Tx, made};

/// The states of sagas. From [`Store::sagas`].
#[derive(Debug)]
pub struct Sagas<'a, DB: Backend> {
    pub(super) store: &'a Store<DB>,
}

/// The state of one saga.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagaRow {
    /// Which kind of saga: `checkout`.
    pub saga: String,
    /// Which one: the order's id.
    pub id: String,
    /// How often it was saved; 0 before the first time. [`Sagas::save`] counts it.
    pub version: i64,
    /// Where it stands, in the words of whoever runs sagas: `running`, `compensating`, `stuck`.
    pub status: String,
    /// Its data.
    pub state: Vec<u8>,
    /// The step that it is at.
    pub step: String,
    /// Attempts at this step.
    pub attempts: u32,
    /// What went wrong last.
    pub error: Option<String>,
    /// When it was saved; [`Sagas::save`] sets it.
    pub updated: Timestamp,
    /// When something has to happen if nothing else does.
    pub deadline: Option<Timestamp>,
}

/// Why a saga was not saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// Somebody else saved it since it was loaded.
    #[error(
        "the saga {saga} {id:?} is not at version {expected} any more: somebody else saved it; nothing is kept, load it and try again"
    )]
    Conflict {
        /// The kind of saga.
        saga: String,
        /// Which one.
        id: String,
        /// The version that was expected.
        expected: i64,
    },
    /// The database.
    #[error(transparent)]
    Sql(#[from] SqlError),
}

const COLUMNS: &str =
    "SELECT saga, id, version, status, state, step, attempts, error, updated_ms, deadline_ms FROM svc_sagas";

impl<DB: Backend> Sagas<'_, DB> {
    /// The saga of this id.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn load(&self, tx: &mut Tx<DB>, saga: &str, id: &str) -> Result<Option<SagaRow>, SqlError> {
        let sql = made(format!("{COLUMNS} WHERE saga = $1 AND id = $2"));
        let rows = tx.fetch("loading a saga", sql, vec![saga.into(), id.into()]).await?;
        rows.first().map(saga_row).transpose()
    }

    /// The saga of this id, outside of any transaction.
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn get(&self, saga: &str, id: &str) -> Result<Option<SagaRow>, SqlError> {
        let sql = made(format!("{COLUMNS} WHERE saga = $1 AND id = $2"));
        let rows = self.store.fetch("loading a saga", sql, vec![saga.into(), id.into()]).await?;
        rows.first().map(saga_row).transpose()
    }

    /// Saves a saga if it is still at the version it was loaded in, and sets its new version and time. At version 0 it is a new one.
    ///
    /// # Errors
    /// [`SagaError::Conflict`] if it is not, with nothing changed in the transaction; [`SagaError::Sql`].
    pub async fn save(&self, tx: &mut Tx<DB>, row: &mut SagaRow) -> Result<(), SagaError> {
        const INSERT: &str = "INSERT INTO svc_sagas
            (status, state, step, attempts, error, updated_ms, deadline_ms, saga, id, version)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10 + 1) ON CONFLICT (saga, id) DO NOTHING";
        const UPDATE: &str = "UPDATE svc_sagas SET status = $1, state = $2, step = $3, attempts = $4, error = $5,
            updated_ms = $6, deadline_ms = $7, version = version + 1 WHERE saga = $8 AND id = $9 AND version = $10";
        let now = self.store.now();
        let args = vec![
            row.status.as_str().into(),
            row.state.as_slice().into(),
            row.step.as_str().into(),
            i64::from(row.attempts).into(),
            row.error.clone().into(),
            now.0.into(),
            row.deadline.map(|time| time.0).into(),
            row.saga.as_str().into(),
            row.id.as_str().into(),
            row.version.into(),
        ];
        let sql = if row.version == 0 { INSERT } else { UPDATE };
        if tx.execute("saving a saga", sql, args).await? == 0 {
            let (saga, id) = (row.saga.clone(), row.id.clone());
            return Err(SagaError::Conflict { saga, id, expected: row.version });
        }
        row.version += 1;
        row.updated = now;
        Ok(())
    }

    /// Deletes a saga if it is still at this version; whether it was.
    ///
    /// # Errors
    /// [`SqlError::Database`].
    pub async fn delete(&self, tx: &mut Tx<DB>, saga: &str, id: &str, version: i64) -> Result<bool, SqlError> {
        const SQL: &str = "DELETE FROM svc_sagas WHERE saga = $1 AND id = $2 AND version = $3";
        Ok(tx.execute("deleting a saga", SQL, vec![saga.into(), id.into(), version.into()]).await? == 1)
    }

    /// Sagas of one kind and status, those that changed longest ago first, from behind `after` on; `max` up to [`MAX_PAGE`].
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn list(
        &self,
        saga: &str,
        status: &str,
        after: Option<&SagaRow>,
        max: u32,
    ) -> Result<Vec<SagaRow>, SqlError> {
        let sql = format!(
            "{COLUMNS} WHERE saga = $1 AND status = $2 AND (updated_ms, id) > ($3, $4) ORDER BY updated_ms, id LIMIT $5"
        );
        let (updated_ms, id) = after.map_or((i64::MIN, ""), |row| (row.updated.0, &row.id));
        let args = vec![saga.into(), status.into(), updated_ms.into(), id.into(), i64::from(max.min(MAX_PAGE)).into()];
        let rows = self.store.fetch("listing sagas", made(sql), args).await?;
        rows.iter().map(saga_row).collect()
    }

    /// Sagas of one kind whose deadline has come by `now`, the longest overdue first; `max` up to [`MAX_PAGE`].
    ///
    /// # Errors
    /// [`SqlError`].
    pub async fn due(&self, saga: &str, now: Timestamp, max: u32) -> Result<Vec<SagaRow>, SqlError> {
        let sql = format!("{COLUMNS} WHERE saga = $1 AND deadline_ms <= $2 ORDER BY deadline_ms, id LIMIT $3");
        let args = vec![saga.into(), now.0.into(), i64::from(max.min(MAX_PAGE)).into()];
        let rows = self.store.fetch("listing sagas that are due", made(sql), args).await?;
        rows.iter().map(saga_row).collect()
    }
}

fn saga_row<DB: Backend>(row: &Row<DB>) -> Result<SagaRow, SqlError> {
    Ok(SagaRow {
        saga: row.text(0)?,
        id: row.text(1)?,
        version: row.int(2)?,
        status: row.text(3)?,
        state: row.blob(4)?,
        step: row.text(5)?,
        attempts: u32::try_from(row.int(6)?).unwrap_or(u32::MAX),
        error: row.maybe_text(7)?,
        updated: Timestamp(row.int(8)?),
        deadline: row.maybe_int(9)?.map(Timestamp),
    })
}
