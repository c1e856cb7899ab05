//! Sagas by orchestration, kept in the service's own database.

use futures_util::future::BoxFuture;
use types::Timestamp;

use super::backend::Backend;
use super::error::SqlError;
use super::sagas::{SagaError, SagaRow};
use super::store::Store;
use crate::saga::{Instances, SagaInstance, SagaStatus, SagaStore, StoreError, Stored};

impl<DB: Backend> Store<DB> {
    /// Keeps a service's sagas in this database: for [`Service`](crate::Service)s whose broker has no replay, or whose sagas should be where
    /// their other data is.
    #[must_use]
    pub fn saga_store(&self) -> SagaStore {
        let store = self.clone();
        SagaStore::custom(move |service, saga| SqlInstances { store: store.clone(), saga: format!("{service}.{saga}") })
    }
}

/// The sagas of one name of one service. The row's state is the whole instance as JSON; the other columns say of it what is searched for.
struct SqlInstances<DB: Backend> {
    store: Store<DB>,
    saga: String,
}

impl<DB: Backend> Instances for SqlInstances<DB> {
    fn load<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<Stored>, StoreError>> {
        Box::pin(async move {
            let row = self.store.sagas().get(&self.saga, id).await.map_err(unavailable)?;
            row.map(|row| Ok(Stored { version: u64::try_from(row.version).unwrap_or(0), instance: read(&row)? }))
                .transpose()
        })
    }

    fn save<'a>(&'a self, expected: Option<u64>, instance: &'a SagaInstance) -> BoxFuture<'a, Result<u64, StoreError>> {
        Box::pin(async move {
            let mut row = SagaRow {
                saga: self.saga.clone(),
                id: instance.id.clone(),
                version: expected.map_or(0, |version| i64::try_from(version).unwrap_or(i64::MAX)),
                status: instance.status.as_str().to_owned(),
                state: serde_json::to_vec(instance).map_err(|error| StoreError::Unavailable(error.to_string()))?,
                step: instance.step_name.clone().unwrap_or_default(),
                attempts: instance.attempts,
                error: instance.error.clone(),
                updated: Timestamp(instance.updated_ms),
                deadline: instance.deadline_ms.map(Timestamp),
            };
            let mut tx = self.store.begin().await.map_err(unavailable)?;
            match self.store.sagas().save(&mut tx, &mut row).await {
                Ok(()) => tx.commit().await.map_err(unavailable)?,
                Err(SagaError::Conflict { .. }) => return Err(StoreError::Conflict),
                Err(SagaError::Sql(error)) => return Err(unavailable(error)),
            }
            Ok(u64::try_from(row.version).unwrap_or(0))
        })
    }

    fn list(&self, status: SagaStatus, max: usize) -> BoxFuture<'_, Result<Vec<SagaInstance>, StoreError>> {
        Box::pin(async move {
            let mut found: Vec<SagaInstance> = Vec::new();
            let mut last: Option<SagaRow> = None;
            loop {
                let page = u32::try_from(max - found.len()).unwrap_or(u32::MAX);
                let rows = self.store.sagas().list(&self.saga, status.as_str(), last.as_ref(), page).await;
                let rows = rows.map_err(unavailable)?;
                for row in &rows {
                    found.push(read(row)?);
                }
                last = rows.into_iter().next_back();
                if last.is_none() || found.len() >= max {
                    return Ok(found);
                }
            }
        })
    }
}

fn read(row: &SagaRow) -> Result<SagaInstance, StoreError> {
    serde_json::from_slice(&row.state)
        .map_err(|error| StoreError::Unreadable { id: row.id.clone(), why: error.to_string() })
}

#[allow(clippy::needless_pass_by_value, reason = "it is mapped over")]
fn unavailable(error: SqlError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
