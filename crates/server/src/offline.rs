//! What is done to a data directory without a server: users, for the time before the first one can log in and the day nobody can any more.

use std::sync::Arc;

pub use broker::UserChange;
pub use broker::definitions::{Permissions, SubjectPermissions, UserLimits};
use broker::{Broker, BrokerOptions};
use types::clock::SystemClock;

use crate::config::Config;
use crate::{StartError, engine};

/// Makes a user, or changes one if `may_exist`, in the data directory of a server that is not running. Blocks while it is recovered.
///
/// # Errors
/// See [`StartError`]; [`StartError::Disk`] if a server has the directory.
pub fn put_user(config: &Config, name: &str, change: UserChange, may_exist: bool) -> Result<(), StartError> {
    let system = |error| StartError::System { what: "the threads cannot be started", error };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(system)?;
    runtime.block_on(async {
        let options = BrokerOptions::default();
        let broker = Broker::open(engine::open(config)?, Arc::new(SystemClock::new()), options)?;
        let done = broker.put_user_offline(name, change, may_exist).await;
        broker.close().await;
        done.map(drop).map_err(|error| StartError::User { name: name.to_owned(), why: error.to_string() })
    })
}
