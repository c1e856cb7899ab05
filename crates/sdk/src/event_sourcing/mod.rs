//! Event sourcing: what happened is what is stored, and state is what it adds up to.
//!
//! An [`Aggregate`] is state that events are applied to. A [`Repository`] loads it by its id, lets a decision be made on it, and appends the events that
//! follow *if nobody else appended any in between* (optimistic concurrency: the key's version in the broker's log). Old events stay readable by
//! the upcasters of their contract ([`Message::upcast`]); [`Repository::snapshot_every`] keeps long histories quick to load.
//!
//! Projections are [`Replay`](crate::Replay)s of the events' topic, with a checkpoint; [`Replay::version`](crate::Replay::version) rebuilds one.
//!
//! ```
//! use schemars::JsonSchema;
//! use sdk::event_sourcing::{Aggregate, Repository};
//! use sdk::{Client, Error, Message};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize, JsonSchema, Message)]
//! #[message(name = "account.changed", topic = "accounts")]
//! enum AccountEvent {
//!     Deposited { cents: u64 },
//!     Withdrawn { cents: u64 },
//! }
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Account {
//!     cents: u64,
//! }
//!
//! impl Aggregate for Account {
//!     type Event = AccountEvent;
//!
//!     fn apply(&mut self, event: AccountEvent) {
//!         match event {
//!             AccountEvent::Deposited { cents } => self.cents += cents,
//!             AccountEvent::Withdrawn { cents } => self.cents -= cents,
//!         }
//!     }
//! }
//!
//! async fn withdraw(accounts: Repository<Account>, id: &str, cents: u64) -> Result<(), Error> {
//!     accounts
//!         .update(id, |account| {
//!             if account.cents < cents {
//!                 return Err(Error::terminal("there is not that much in the account"));
//!             }
//!             Ok(vec![AccountEvent::Withdrawn { cents }])
//!         })
//!         .await?;
//!     Ok(())
//! }
//! ```

mod log;
mod repository;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::log::{AppendError, EventLog, LogError, TopicLog};
pub use self::repository::{Loaded, Repository, UpdateError};
use crate::contract::Message;

/// State that is what its events add up to.
pub trait Aggregate: Clone + Default + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What happens to it: as a rule an enum. Its contract's topic is where the events are; its versions and upcasters are how old events are read.
    type Event: Message;

    /// Grows whenever the state's own form changes, so that snapshots of the old one are not used any more.
    const SNAPSHOT_VERSION: u32 = 1;

    /// Adds an event. It has happened: there is nothing here to refuse.
    fn apply(&mut self, event: Self::Event);
}
