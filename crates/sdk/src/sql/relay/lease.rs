//! Whose turn it is to empty the outbox.

use std::time::Duration;

use tokio::time::Instant;

use super::super::backend::Backend;
use super::super::error::SqlError;
use super::super::store::Store;

/// The lease's name in `svc_leases`.
const NAME: &str = "relay";

/// A lease in the database. Its end is counted by the database's clock, which all instances share; what this one holds it to be is counted from
/// before it asked, so it never believes that it has the lease for longer than the others do.
#[derive(Debug)]
pub(super) struct Lease {
    holder: String,
    time: Duration,
    until: Option<Instant>,
}

impl Lease {
    pub(super) fn new(time: Duration) -> Self {
        Self { holder: uuid::Uuid::now_v7().to_string(), time, until: None }
    }

    /// Whether it is this relay's turn.
    pub(super) fn is_held(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() < until)
    }

    /// When it has to be renewed.
    pub(super) fn renew_at(&self) -> Instant {
        self.until.map_or_else(Instant::now, |until| until - self.time / 2)
    }

    /// Takes or renews it if that is due; whether it is this relay's turn.
    pub(super) async fn ensure<DB: Backend>(&mut self, store: &Store<DB>) -> Result<bool, SqlError> {
        const SQL: &str = "INSERT INTO svc_leases (name, holder, until_ms) VALUES ($1, $2, $3)
            ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_ms = excluded.until_ms
            WHERE svc_leases.holder = excluded.holder OR svc_leases.until_ms <= $4";
        const DOING: &str = "taking the relay's lease";
        let asked = Instant::now();
        if self.until.is_some_and(|until| asked < until - self.time / 2) {
            return Ok(true);
        }
        let now_ms =
            store.fetch(DOING, store.dialect().now_ms, vec![]).await?.first().map_or(Ok(0), |row| row.int(0))?;
        let until_ms = now_ms.saturating_add(i64::try_from(self.time.as_millis()).unwrap_or(i64::MAX));
        let args = vec![NAME.into(), self.holder.as_str().into(), until_ms.into(), now_ms.into()];
        let taken = store.execute(DOING, SQL, args).await? == 1;
        self.until = taken.then(|| asked + self.time);
        // The database may have taken as long as the lease.
        Ok(self.is_held())
    }

    /// Gives it back, so that the next relay need not wait. If that fails, it runs out by itself.
    pub(super) async fn release<DB: Backend>(&mut self, store: &Store<DB>) {
        const SQL: &str = "DELETE FROM svc_leases WHERE name = $1 AND holder = $2";
        if self.until.take().is_some() {
            let args = vec![NAME.into(), self.holder.as_str().into()];
            if let Err(error) = store.execute("giving back the relay's lease", SQL, args).await {
                tracing::debug!(%error, "the relay's lease was not given back and runs out by itself");
            }
        }
    }
}
