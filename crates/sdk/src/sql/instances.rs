//! Sagas by orchestration, kept in the service's own database.

use futures_util::future::BoxFuture;
use types::Timestamp;

use super::backend::Backend;
use super::error::SqlError;
use super::sagas::{SagaError, SagaRow};
use super::store::{Store, Tx};
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

impl<DB: Backend> SqlInstances<DB> {
    async fn save_in(
        &self,
        tx: &mut Tx<DB>,
        expected: Option<u64>,
        instance: &SagaInstance,
    ) -> Result<u64, StoreError> {
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
        match self.store.sagas().save(tx, &mut row).await {
            Ok(()) => Ok(u64::try_from(row.version).unwrap_or(0)),
            Err(SagaError::Conflict { .. }) => Err(StoreError::Conflict),
            Err(SagaError::Sql(error)) => Err(unavailable(error)),
        }
    }
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
            let mut tx = self.store.begin().await.map_err(unavailable)?;
            let version = self.save_in(&mut tx, expected, instance).await?;
            tx.commit().await.map_err(unavailable)?;
            Ok(version)
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

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    fn instance(id: &str, status: SagaStatus, updated_ms: i64) -> SagaInstance {
        SagaInstance {
            id: id.to_owned(),
            status,
            step: 1,
            step_name: Some("pay".to_owned()),
            attempts: 2,
            halted: false,
            forward: false,
            error: Some("no answer".to_owned()),
            started_ms: 1,
            updated_ms,
            deadline_ms: Some(9),
            state: serde_json::json!({ "order": "o-1" }),
        }
    }

    #[tokio::test]
    async fn orchestrated_sagas_are_kept_under_their_version() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("service.db")).await.unwrap();
        let sagas = SqlInstances { store, saga: "orders.checkout".to_owned() };
        assert_eq!(sagas.load("o-1").await.unwrap(), None);
        let mut saga = instance("o-1", SagaStatus::Running, 5);
        assert_eq!(sagas.save(None, &saga).await.unwrap(), 1);
        assert!(matches!(sagas.save(None, &saga).await, Err(StoreError::Conflict)));
        saga.status = SagaStatus::Stuck;
        assert_eq!(sagas.save(Some(1), &saga).await.unwrap(), 2);
        assert!(matches!(sagas.save(Some(1), &saga).await, Err(StoreError::Conflict)));
        assert_eq!(sagas.load("o-1").await.unwrap(), Some(Stored { version: 2, instance: saga }));
    }

    #[tokio::test]
    async fn more_sagas_than_a_page_are_listed_by_status() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("service.db")).await.unwrap();
        let sagas = SqlInstances { store: store.clone(), saga: "orders.checkout".to_owned() };
        let count = super::super::limits::MAX_PAGE as usize + 5;
        let mut tx = store.begin().await.unwrap();
        for number in 0..count {
            let saga = instance(&number.to_string(), SagaStatus::Stuck, 5);
            sagas.save_in(&mut tx, None, &saga).await.unwrap();
        }
        tx.commit().await.unwrap();
        sagas.save(None, &instance("other", SagaStatus::Running, 5)).await.unwrap();
        assert_eq!(sagas.list(SagaStatus::Stuck, usize::MAX).await.unwrap().len(), count);
        assert_eq!(sagas.list(SagaStatus::Stuck, 3).await.unwrap().len(), 3);
        assert_eq!(sagas.list(SagaStatus::Running, 3).await.unwrap().len(), 1);
        assert!(sagas.list(SagaStatus::Completed, 3).await.unwrap().is_empty());
    }
}
