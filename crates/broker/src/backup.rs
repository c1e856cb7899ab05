//! Backups of the running broker: who may make one, and how the last one ended.

use std::sync::Arc;

use bytes::Bytes;
use types::Timestamp;

use crate::access::Principal;
use crate::broker::Broker;
use crate::errors::BackupError;
use crate::shared::Shared;

/// Bytes of one piece of a backup.
const PIECE_BYTES: usize = 256 * 1024;

/// A backup under way. Dropped before its end it is given up, and the disk that it held is free.
pub struct Backup {
    /// `None` while a piece is being read, and once it has ended.
    copy: Option<Box<dyn log::Backup>>,
    shared: Arc<Shared>,
    len_bytes: u64,
    began: Timestamp,
    is_settled: bool,
}

/// How the backups since the start ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupHistory {
    /// When the last backup was begun that was read to its end.
    pub last_success: Option<Timestamp>,
    /// Why the last backup was not, if it was not.
    pub last_error: Option<String>,
}

impl Broker {
    /// Begins a backup: everything that was confirmed before this call is in it. Administrators only.
    ///
    /// # Errors
    /// See [`BackupError`].
    pub async fn backup(&self, by: &Principal) -> Result<Backup, BackupError> {
        self.require_admin(by, "backups")?;
        if self.shared().is_closed() {
            return Err(BackupError::Engine(log::BackupError::GivenUp("the broker is stopping".to_owned())));
        }
        let (shared, now) = (Arc::clone(self.shared()), self.shared().clock.now().wall);
        let log = Arc::clone(&shared.log);
        let copy = off_the_runtime(move || log.backup(now)).await??;
        let len_bytes = copy.len_bytes();
        Ok(Backup { copy: Some(copy), shared, len_bytes, began: now, is_settled: false })
    }

    /// How the backups since the start ended.
    #[must_use]
    pub fn backup_history(&self) -> BackupHistory {
        self.shared().backups.lock().clone()
    }
}

/// Runs what waits for a disk where it holds up nobody.
async fn off_the_runtime<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BackupError> {
    let given_up = |error: tokio::task::JoinError| log::BackupError::GivenUp(error.to_string());
    Ok(tokio::task::spawn_blocking(work).await.map_err(given_up)?)
}

impl Backup {
    /// The whole backup's size in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// See [`BackupError`]. What came before is of no use then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        let Some(mut copy) = self.copy.take() else { return Ok(None) };
        let read = off_the_runtime(move || {
            let mut piece = vec![0; PIECE_BYTES];
            let read = copy.read(&mut piece);
            (
                copy,
                read.map(|count| {
                    piece.truncate(count);
                    piece
                }),
            )
        });
        match read.await.and_then(|(copy, piece)| Ok((copy, piece?))) {
            Ok((_, piece)) if piece.is_empty() => {
                self.is_settled = true;
                *self.shared.backups.lock() = BackupHistory { last_success: Some(self.began), last_error: None };
                Ok(None)
            }
            Ok((copy, piece)) => {
                self.copy = Some(copy);
                Ok(Some(Bytes::from(piece)))
            }
            Err(error) => {
                self.settle(&error.to_string());
                Err(error)
            }
        }
    }

    /// Gives the backup up, for a reason that is kept for whoever asks.
    pub fn give_up(mut self, why: &str) {
        self.settle(why);
    }

    fn settle(&mut self, why: &str) {
        if !std::mem::replace(&mut self.is_settled, true) {
            tracing::warn!(why, "a backup did not come to its end");
            self.shared.backups.lock().last_error = Some(why.to_owned());
        }
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        self.settle("the client went away");
    }
}
