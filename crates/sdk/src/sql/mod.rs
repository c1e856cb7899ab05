//! The durable patterns in the service's own database: SQLite (feature `sqlite`) or PostgreSQL (feature `postgres`), by sqlx; or either,
//! as a URL says when the service starts (feature `any`).
//!
//! A service that changes its database *and* publishes a message has two systems that can fail apart from each other. Here both happen in one
//! transaction of the database:
//!
//! * the [inbox](Inbox) takes each message once, however often it is delivered;
//! * the [outbox](Outbox) keeps what is published, with the transaction that publishes it; the [relay](Relay) brings it to the broker, in
//!   order, at least once, always with the same id;
//! * [`Sagas`] keep the state of sagas, [`Checkpoints`] how far a projection has read, [`Events`] streams of events and snapshots.
//!
//! All of it hangs on a [`Store`], and what belongs to the service's own work takes its transaction, a [`Tx`]. The tables are called `svc_*` and
//! live beside the service's own.

#[cfg(feature = "any")]
mod any;
mod backend;
mod checkpoints;
mod envelope;
mod error;
mod event_log;
mod events;
mod inbox;
mod instances;
pub mod limits;
mod outbox;
mod relay;
mod sagas;
mod schema;
mod store;
mod work;

pub use self::backend::Backend;
pub use self::checkpoints::{CheckpointError, Checkpoints};
pub use self::error::SqlError;
pub use self::event_log::SqlLog;
pub use self::events::{AppendError, Events, NewEvent, Snapshot, StoredEvent};
pub use self::inbox::{Inbox, WindowTooShort, check_window};
pub use self::outbox::{Backlog, FailedMessage, Outbox};
pub use self::relay::{Relay, RelayError, RelayOptions};
pub use self::sagas::{SagaError, SagaRow, Sagas};
pub use self::store::{Store, Tx};
pub use self::work::Transactional;
