//! What one authenticated caller does in one namespace: every operation of the broker, checked and named.

mod admin;
mod bindings;
mod checks;
mod consume;
mod expecting;
mod groups;
mod holding;
mod limits;
mod live;
mod policies;
mod publish;
mod publish_each;
mod publishes;
mod queues;
mod removal;
mod replay;
mod stamps;
mod started;
mod topics;
mod transact;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use types::{Now, Offset};

use crate::access::{Action, Grants, Principal};
use crate::broker::Broker;
use crate::definitions::DurabilityConfig;
use crate::errors::AccessError;
use crate::holder::Holder;
use crate::shared::{Namespace, Shared};
use crate::views::{ReadFrom, Record};

pub use publishes::Publishes;
pub use started::Started;

pub(crate) use admin::{Change, define_queue, define_topic, to_the_end};
pub(crate) use bindings::router_binding;
pub(crate) use policies::Resolved;
pub(crate) use queues::{dead_letter_config, install_queue, make_queue};
pub(crate) use removal::remove_queues;
pub(crate) use topics::{capture_rule, install_topic, is_volatile, keep_log, log_config, router_topic};

/// One caller in one namespace. Cheap to clone; a protocol's connection holds one.
#[derive(Clone)]
pub struct Session {
    broker: Broker,
    principal: Principal,
    pub(crate) space: Arc<Namespace>,
    grants: Arc<ArcSwapOption<KnownGrants>>,
    /// The connection that it belongs to, if that can hold queues.
    holder: Option<Arc<Holder>>,
    /// See [`with_client_id`](Self::with_client_id).
    client_id: Option<Arc<str>>,
    /// See [`writing_to_queues_as`](Self::writing_to_queues_as).
    queues_written_as: Option<(&'static str, Arc<str>)>,
}

/// What the caller may do, as of a generation of the users.
struct KnownGrants {
    generation: u64,
    grants: Arc<Grants>,
}

/// Where a publish goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PublishTo {
    /// Through a topic, by its bindings.
    Topic(String),
    /// Straight into a queue.
    Queue(String),
    /// To whatever the message's subject reaches: the topic that captures it, and live subscriptions.
    Subject,
}

/// What a publish asks for besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// Stored only if the version is as expected; for a single message to a topic with a key index and one partition per key.
    pub expect: Option<Expect>,
    /// Idempotent publish.
    pub producer: Option<ProducerStamp>,
    /// This partition of the topic's log rather than the key's.
    pub partition: Option<u32>,
    /// Overrides the durability of the topic or queue.
    pub durability: Option<DurabilityConfig>,
    /// Queues that are full and reject are passed over, message by message, and counted in [`Published::refused`]; without it, one full queue
    /// refuses the whole publish.
    ///
    /// [`Published::refused`]: crate::views::Published::refused
    pub partial: bool,
}

/// The version that a conditional publish expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Whether the message's key or its subject names the series.
    pub of: ExpectOf,
    /// The offset of the series' last record; `None` expects that there is none.
    pub version: Option<Offset>,
}

/// What names the series of a conditional publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectOf {
    /// The message's key.
    Key,
    /// The message's subject.
    Subject,
}

/// An idempotent producer's stamp: the same stamp is stored once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer's id, chosen by it.
    pub id: String,
    /// Grows with each instance of the producer; an older one is fenced.
    pub epoch: u32,
    /// Sequence of the first message; the messages of one call are numbered on from it.
    pub sequence: u64,
}

/// What a deletion respects. Nothing, unless said otherwise, but for what refers to the thing by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Refused while it is used: a topic by bindings from it, a queue by consumers.
    pub if_unused: bool,
    /// Of a queue: refused while it holds messages.
    pub if_empty: bool,
    /// Deleted even if definitions refer to it: queues whose dead letters go to it, topics whose alternate it is. They keep the name, and find
    /// whatever has it later. Groups that read a topic go with it.
    pub even_if_referenced: bool,
}

/// How a topic is declared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeclareTopic {
    /// One that exists with another definition is changed, rather than refused.
    pub update: bool,
    /// The alternate may be a topic that does not exist (yet): what no binding takes is unrouted until it does.
    pub alternate_may_be_missing: bool,
}

/// How a queue's messages go back to where they came from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Redrive {
    /// To this queue; `None` is each message's own source queue.
    pub to: Option<String>,
    /// Messages a second; `None` is as fast as it goes.
    pub rate: Option<f64>,
    /// At most so many; `None` is all that are there now.
    pub max: Option<u64>,
}

/// A receive without a standing consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receive {
    /// At most so many messages.
    pub max: usize,
    /// At most so many bytes; one message is given even if it weighs more.
    pub max_bytes: u64,
    /// How long to wait for the first.
    pub wait: Duration,
    /// Overrides the queue's lease.
    pub lease: Option<Duration>,
    /// Acknowledged as it is handed out.
    pub auto_ack: bool,
}

/// A read of a topic's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Which partition.
    pub partition: u32,
    /// From where.
    pub from: ReadFrom,
    /// At most so many records.
    pub max: usize,
    /// At most so many bytes; one record is given even if it weighs more.
    pub max_bytes: usize,
    /// How long to wait for the first.
    pub wait: Duration,
}

/// What a read gave.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadAnswer {
    /// The records.
    pub records: Vec<Record>,
    /// Where to go on.
    pub next: Offset,
    /// The log's next offset.
    pub end: Offset,
}

impl Session {
    pub(crate) fn new(broker: Broker, principal: Principal, space: Arc<Namespace>) -> Self {
        Self {
            broker,
            principal,
            space,
            grants: Arc::default(),
            holder: None,
            client_id: None,
            queues_written_as: None,
        }
    }

    /// The broker.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.space.name
    }

    /// The user's name; `None` of an anonymous session.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.principal.name()
    }

    /// Whose name what the caller holds is counted under; `None` of an anonymous session and of the broker's own.
    pub(crate) fn counted_user(&self) -> Option<Arc<str>> {
        self.principal.user.clone().filter(|_| !self.principal.is_internal())
    }

    /// The caller.
    #[must_use]
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.broker.shared()
    }

    pub(crate) fn now(&self) -> Now {
        self.shared().clock.now()
    }

    /// What the caller may do now. Looked up again only when users changed: it is asked on every operation.
    fn grants(&self) -> Result<Arc<Grants>, AccessError> {
        if self.space.is_deleted() {
            return Err(AccessError::NoSuchNamespace(self.space.name.to_string()));
        }
        if self.principal.expires().is_some_and(|end| end <= self.now().wall) {
            return Err(AccessError::Unauthenticated);
        }
        let users = &self.shared().users;
        // Read before the lookup: a change in between is seen at the next operation.
        let generation = users.generation();
        if let Some(known) = &*self.grants.load()
            && known.generation == generation
        {
            return Ok(Arc::clone(&known.grants));
        }
        let grants = users.grants(&self.principal, &self.space.name).ok_or(AccessError::Unauthenticated)?;
        let grants = Arc::new(match &self.client_id {
            Some(client_id) => grants.for_client(client_id),
            None => grants,
        });
        self.grants.store(Some(Arc::new(KnownGrants { generation, grants: Arc::clone(&grants) })));
        Ok(grants)
    }

    /// Checks that the caller may do this to the entity of this name. Every operation does so itself; a protocol asks where its own rules want
    /// more, or where it acts in the broker's name for the caller. `kind` is `topic`, `queue` and the like, for the error.
    ///
    /// # Errors
    /// See [`AccessError`].
    pub fn may(&self, action: Action, kind: &str, name: &str) -> Result<(), AccessError> {
        self.grants()?.require(action, kind, name)
    }

    /// Begins a change of this namespace's definitions.
    ///
    /// # Errors
    /// If the namespace was deleted meanwhile, or the caller may do nothing any more.
    pub(crate) async fn begin_change(&self) -> Result<Change, AccessError> {
        let change = Change::begin(self.shared()).await;
        self.grants()?;
        Ok(change)
    }

    /// Whether the caller may see the entity of this name.
    pub(crate) fn sees(&self, grants: &Grants, name: &str) -> bool {
        [Action::Configure, Action::Write, Action::Read].into_iter().any(|action| grants.allows(action, name))
    }
}
