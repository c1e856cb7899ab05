//! The topics and queues of a run: made before it, removed after it.

use api::{BindingConfig, BindingTarget, DeadLetter, Declared, Durability, QueueConfig, TopicConfig};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output;

/// Requests that make or remove entities, at a time.
const AT_ONCE: usize = 16;

/// What a run made. Names begin with a prefix that no other run has.
#[derive(Debug)]
pub(super) struct Entities {
    client: Client,
    pub(super) prefix: String,
    durability: Durability,
    queues: Vec<String>,
    topics: Vec<String>,
}

impl Entities {
    pub(super) fn new(client: Client, durability: Durability) -> Self {
        let prefix =
            format!("bench-{}-{:06x}", std::process::id(), jiff::Timestamp::now().as_microsecond() & 0xFF_FFFF);
        Self { client, prefix, durability, queues: Vec::new(), topics: Vec::new() }
    }

    /// Makes so many queues; gives their names. A message that fails is dropped: a dead-letter queue would be left behind.
    ///
    /// # Errors
    /// If the server refuses.
    pub(super) async fn queues(&mut self, count: u32) -> Result<Vec<String>, Failure> {
        let names: Vec<String> = (0..count).map(|at| format!("{}-q{at}", self.prefix)).collect();
        // Before they are made: what was made until an error or Ctrl-C is removed as well.
        self.queues.extend(names.iter().cloned());
        let config = QueueConfig {
            dead_letter: Some(DeadLetter::None),
            durability: Some(self.durability),
            ..QueueConfig::default()
        };
        let client = &self.client;
        stream::iter(&names)
            .map(|name| client.put::<Declared<api::Queue>>(client.within(&["queues", name]), &config))
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| async { Ok(()) })
            .await?;
        Ok(names)
    }

    /// Makes a topic that leads everything to these queues; gives its name.
    ///
    /// # Errors
    /// If the server refuses.
    pub(super) async fn topic(&mut self, queues: &[String]) -> Result<String, Failure> {
        let name = format!("{}-t", self.prefix);
        self.topics.push(name.clone());
        let config = TopicConfig { durability: Some(self.durability), ..TopicConfig::default() };
        let client = &self.client;
        client.put::<Declared<api::Topic>>(client.within(&["topics", &name]), &config).await?;
        for queue in queues {
            let config = BindingConfig {
                topic: name.clone(),
                target: BindingTarget::Queue(queue.clone()),
                filter: api::Filter::All,
                weight: None,
                arguments: Default::default(),
            };
            client.post::<Declared<api::Binding>>(client.within(&["bindings"]), &config).await?;
        }
        Ok(name)
    }

    /// How many messages each queue holds.
    ///
    /// # Errors
    /// If the server refuses.
    pub(super) async fn depths(&self) -> Result<Vec<u64>, Failure> {
        let client = &self.client;
        stream::iter(&self.queues)
            .map(|name| client.get::<api::Queue>(client.within(&["queues", name])))
            .buffered(AT_ONCE)
            .map_ok(|queue| queue.depth.ready)
            .try_collect()
            .await
    }

    /// Removes everything, and says what could not be.
    pub(super) async fn remove(self) {
        let client = &self.client;
        let topics = self.topics.iter().map(|name| ("topics", name));
        let all = topics.chain(self.queues.iter().map(|name| ("queues", name)));
        let removal = stream::iter(all)
            .map(|(kind, name)| async move { client.delete(client.within(&[kind, name])).await.map_err(|f| (name, f)) })
            .buffer_unordered(AT_ONCE)
            .filter_map(|done| async { done.err() })
            .filter(|(_, failure)| std::future::ready(failure.exit != Exit::NotFound))
            .collect::<Vec<_>>();
        let left = tokio::select! {
            left = removal => left,
            _ = tokio::signal::ctrl_c() => {
                output::remark(format!("not everything was removed: see what begins with {}", self.prefix));
                return;
            }
        };
        if let Some((name, failure)) = left.first() {
            output::remark(format!("{} of its entities could not be removed; {name}: {}", left.len(), failure.what));
        }
    }
}
