//! What is defined: as the broker shows it, and as a change should leave it.

use std::collections::{BTreeMap, BTreeSet};

use broker::definitions::{
    BindingConfig, BindingTarget, DeadLetterConfig, GroupConfig, Permissions, PolicyConfig, QueueConfig, RetryConfig,
    TopicConfig,
};
use broker::{Broker, Principal, Session};
use types::{EntityId, Filter};

/// The second namespace.
pub(crate) const OTHER: &str = "other";
/// What names of things in it begin with here.
pub(crate) const OTHERS: &str = "other/";

/// A name as its namespace knows it.
pub(crate) fn bare(name: &str) -> &str {
    name.strip_prefix(OTHERS).unwrap_or(name)
}

/// Whether something is in the second namespace.
pub(crate) fn is_other(name: &str) -> bool {
    name.starts_with(OTHERS)
}

fn others(name: &str) -> String {
    format!("{OTHERS}{name}")
}

/// All definitions. Names of the second namespace begin with its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Definitions {
    pub(crate) namespaces: BTreeMap<String, EntityId>,
    pub(crate) queues: BTreeMap<String, (EntityId, QueueConfig)>,
    pub(crate) topics: BTreeMap<String, (EntityId, TopicConfig)>,
    pub(crate) bindings: BTreeMap<EntityId, BindingConfig>,
    pub(crate) groups: BTreeMap<String, (EntityId, GroupConfig)>,
    pub(crate) policies: BTreeMap<String, PolicyConfig>,
    /// Tags and permissions of each user.
    pub(crate) users: BTreeMap<String, (Vec<String>, BTreeMap<String, Permissions>)>,
}

/// A change of definitions.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Makes the second namespace.
    Namespace,
    DeleteNamespace,
    Queue(String, Box<QueueConfig>),
    DeleteQueue(String),
    Topic(String, Box<TopicConfig>),
    DeleteTopic(String),
    Bind(Box<BindingConfig>),
    Unbind(EntityId),
    Group(String, GroupConfig),
    DeleteGroup(String),
    Policy(String, Box<PolicyConfig>),
    DeletePolicy(String),
    User(String, Vec<String>, Permissions),
    DeleteUser(String),
}

impl Change {
    /// The change as the second namespace knows it, if it is one there.
    pub(crate) fn others(&self) -> Option<Self> {
        let name = |name: &str| name.strip_prefix(OTHERS).map(str::to_owned);
        Some(match self {
            Self::Queue(of, config) => Self::Queue(name(of)?, config.clone()),
            Self::DeleteQueue(of) => Self::DeleteQueue(name(of)?),
            Self::Topic(of, config) => Self::Topic(name(of)?, config.clone()),
            Self::DeleteTopic(of) => Self::DeleteTopic(name(of)?),
            Self::Bind(config) => {
                let mut config = config.clone();
                config.topic = name(&config.topic)?;
                let (BindingTarget::Queue(to) | BindingTarget::Topic(to)) = &mut config.target;
                *to = bare(to).to_owned();
                Self::Bind(config)
            }
            _ => return None,
        })
    }
}

/// What a dead-letter queue that came by itself is defined as.
pub(crate) fn made_by_itself() -> QueueConfig {
    QueueConfig {
        dead_letter: Some(DeadLetterConfig::None),
        retry: Some(RetryConfig { max_attempts: Some(0), ..RetryConfig::default() }),
        ..QueueConfig::default()
    }
}

/// The queue that takes this one's dead letters.
pub(crate) fn dead_letter_queue(name: &str, config: &QueueConfig) -> Option<String> {
    match &config.dead_letter {
        Some(DeadLetterConfig::Queue(to)) => Some(to.clone()),
        Some(_) => None,
        None => (!name.ends_with(".dlq")).then(|| format!("{name}.dlq")),
    }
}

impl Definitions {
    /// What a broker shows.
    pub(crate) fn shown(broker: &Broker, by: &Principal, session: &Session) -> Self {
        let queues = session.queues().expect("queues are shown").into_iter();
        let topics = session.topics().expect("topics are shown").into_iter();
        let bindings = session.bindings(None, None).expect("bindings are shown").into_iter();
        let groups = session.groups().expect("groups are shown").into_iter();
        let policies = session.policies().expect("policies are shown").into_iter();
        let users = broker.users(by).expect("users are shown").into_iter();
        let namespaces = broker.namespaces(by).expect("namespaces are shown").into_iter();
        let mut shown = Self {
            namespaces: namespaces.map(|space| (space.name, space.id)).collect(),
            queues: queues.map(|queue| (queue.name, (queue.id, queue.config))).collect(),
            topics: topics.map(|topic| (topic.name, (topic.id, topic.config))).collect(),
            bindings: bindings.map(|binding| (binding.id, binding.config)).collect(),
            groups: groups.map(|group| (group.name, (group.id, group.config))).collect(),
            policies: policies.map(|policy| (policy.name, policy.config)).collect(),
            users: users.map(|user| (user.name, (user.tags, user.permissions))).collect(),
        };
        if shown.namespaces.contains_key(OTHER) {
            shown.add_others(&broker.session(by, OTHER).expect("it is there"));
        }
        shown
    }

    /// Adds what the second namespace holds.
    fn add_others(&mut self, session: &Session) {
        let queues = session.queues().expect("queues are shown").into_iter();
        self.queues.extend(queues.map(|queue| (others(&queue.name), (queue.id, queue.config))));
        let topics = session.topics().expect("topics are shown").into_iter();
        self.topics.extend(topics.map(|topic| (others(&topic.name), (topic.id, topic.config))));
        for binding in session.bindings(None, None).expect("bindings are shown") {
            let mut config = binding.config;
            config.topic = others(&config.topic);
            config.target = match config.target {
                BindingTarget::Queue(name) => BindingTarget::Queue(others(&name)),
                BindingTarget::Topic(name) => BindingTarget::Topic(others(&name)),
            };
            self.bindings.insert(binding.id, config);
        }
    }

    /// What these have that others do not have just so.
    pub(crate) fn beyond(&self, others: &Self) -> Vec<String> {
        fn beyond<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
            all: &BTreeMap<K, V>,
            others: &BTreeMap<K, V>,
        ) -> Vec<String> {
            let differs = |(key, value): &(&K, &V)| others.get(*key) != Some(*value);
            all.iter().filter(differs).map(|(key, value)| format!("{key:?}: {value:?}")).collect()
        }
        let mut all = beyond(&self.namespaces, &others.namespaces);
        all.extend(beyond(&self.queues, &others.queues));
        all.extend(beyond(&self.topics, &others.topics));
        all.extend(beyond(&self.bindings, &others.bindings));
        all.extend(beyond(&self.groups, &others.groups));
        all.extend(beyond(&self.policies, &others.policies));
        all.extend(beyond(&self.users, &others.users));
        all
    }

    /// Every id that is in use.
    pub(crate) fn ids(&self) -> BTreeSet<EntityId> {
        let queues = self.queues.values().map(|(id, _)| *id);
        let topics = self.topics.values().map(|(id, _)| *id);
        let groups = self.groups.values().map(|(id, _)| *id);
        let namespaces = self.namespaces.values().copied();
        namespaces.chain(queues).chain(topics).chain(groups).chain(self.bindings.keys().copied()).collect()
    }

    /// These definitions after a change. Ids that are new are taken from what the broker shows: which they are is its choice.
    pub(crate) fn after(&self, change: &Change, shown: &Self) -> Self {
        let mut after = self.clone();
        match change {
            Change::Namespace => {
                after.namespaces.extend(shown.namespaces.get_key_value(OTHER).map(|(n, id)| (n.clone(), *id)))
            }
            Change::DeleteNamespace => {
                after.namespaces.remove(OTHER);
                after.queues.retain(|name, _| !is_other(name));
                after.topics.retain(|name, _| !is_other(name));
                after.bindings.retain(|_, binding| !is_other(&binding.topic));
            }
            Change::Queue(name, config) => {
                after.put_queue(name, config, shown);
                if let Some(dead) = dead_letter_queue(name, config)
                    && !after.queues.contains_key(&dead)
                {
                    after.put_queue(&dead, &made_by_itself(), shown);
                }
            }
            Change::DeleteQueue(name) => {
                after.queues.remove(name);
                after.bindings.retain(|_, binding| binding.target != BindingTarget::Queue(name.clone()));
            }
            Change::Topic(name, config) => {
                if let Some((id, _)) = self.topics.get(name).or_else(|| shown.topics.get(name)) {
                    after.topics.insert(name.clone(), (*id, (**config).clone()));
                }
            }
            Change::DeleteTopic(name) => {
                after.topics.remove(name);
                let target = BindingTarget::Topic(name.clone());
                after.bindings.retain(|_, binding| binding.topic != *name && binding.target != target);
            }
            Change::Bind(config) => {
                let is_new = |id: &&EntityId| !self.bindings.contains_key(*id);
                if !self.bindings.values().any(|have| have == &**config)
                    && let Some(id) = shown.bindings.keys().find(is_new)
                {
                    after.bindings.insert(*id, (**config).clone());
                }
            }
            Change::Unbind(id) => drop(after.bindings.remove(id)),
            Change::Group(name, config) => {
                if let Some((id, _)) = self.groups.get(name).or_else(|| shown.groups.get(name)) {
                    after.groups.insert(name.clone(), (*id, config.clone()));
                }
            }
            Change::DeleteGroup(name) => drop(after.groups.remove(name)),
            Change::Policy(name, config) => drop(after.policies.insert(name.clone(), (**config).clone())),
            Change::DeletePolicy(name) => drop(after.policies.remove(name)),
            Change::User(name, tags, permissions) => {
                let permissions = BTreeMap::from([("default".to_owned(), permissions.clone())]);
                after.users.insert(name.clone(), (tags.clone(), permissions));
            }
            Change::DeleteUser(name) => drop(after.users.remove(name)),
        }
        after
    }

    fn put_queue(&mut self, name: &str, config: &QueueConfig, shown: &Self) {
        if let Some((id, _)) = self.queues.get(name).or_else(|| shown.queues.get(name)) {
            let id = *id;
            self.queues.insert(name.to_owned(), (id, config.clone()));
        }
    }

    /// Whether the queue is there and drops nothing by itself: one of the circle may have been made as a place for dead letters only.
    pub(crate) fn takes(&self, queue: &str) -> bool {
        self.queues.get(queue).is_some_and(|(_, config)| config.dead_letter != Some(DeadLetterConfig::None))
    }

    pub(crate) fn queue_id(&self, name: &str) -> Option<EntityId> {
        self.queues.get(name).map(|(id, _)| *id)
    }

    pub(crate) fn topic_id(&self, name: &str) -> Option<EntityId> {
        self.topics.get(name).map(|(id, _)| *id)
    }

    pub(crate) fn queue_name(&self, id: EntityId) -> Option<&str> {
        self.queues.iter().find(|(_, (have, _))| *have == id).map(|(name, _)| name.as_str())
    }

    /// The queues and the logs that a message of this subject reaches through a topic, each once.
    pub(crate) fn route(&self, topic: &str, subject: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let (mut queues, mut topics) = (BTreeSet::new(), BTreeSet::new());
        let mut waiting = vec![topic.to_owned()];
        while let Some(name) = waiting.pop() {
            if !topics.insert(name.clone()) {
                continue;
            }
            for binding in self.bindings.values().filter(|binding| binding.topic == name) {
                if !passes(binding, subject) {
                    continue;
                }
                match &binding.target {
                    BindingTarget::Queue(queue) => drop(queues.insert(queue.clone())),
                    BindingTarget::Topic(to) => waiting.push(to.clone()),
                }
            }
        }
        topics.retain(|name| self.topics.get(name).is_some_and(|(_, config)| config.retention.is_some()));
        (queues, topics)
    }
}

fn passes(binding: &BindingConfig, subject: &str) -> bool {
    match Filter::try_from(binding.filter.clone()).expect("a filter that was taken") {
        Filter::All => true,
        Filter::SubjectExact(wanted) => wanted == subject.as_bytes(),
        // The four patterns in use, spelled out, so that this is no echo of what is tested.
        Filter::Subject(pattern) => match pattern.to_string().as_str() {
            "a.*" => subject.starts_with("a."),
            "b.*" => subject.starts_with("b."),
            "*.x" => subject.ends_with(".x"),
            other => panic!("the simulation binds with no pattern {other}"),
        },
        other => panic!("the simulation binds with no {other:?}"),
    }
}
