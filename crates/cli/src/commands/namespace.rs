//! `namespace`.

use api::{Declared, Durability, Namespace, NamespaceConfig};
use clap::{Args, Subcommand};

use super::{delete, outcome};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::values::{show_bytes, size, word};

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Make a namespace.
    #[command(after_help = "Example:\n  posthouse namespace create shop --max-stored-bytes 50GiB --max-queues 200")]
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Change what is given, and leave the rest as it is.
    Update {
        /// Its name.
        name: String,
        #[command(flatten)]
        flags: Flags,
    },
    /// Show all namespaces.
    List,
    /// Show one namespace.
    Show {
        /// Its name.
        name: String,
    },
    /// Delete a namespace and everything in it.
    Delete {
        /// Its name.
        name: String,
        /// It is not asked whether this is meant.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// For people.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Durability of what does not say otherwise: fsync, interval, os or memory.
    #[arg(long, value_name = "KIND", value_parser = word::<Durability>)]
    durability: Option<Durability>,
    /// Most topics.
    #[arg(long, value_name = "COUNT", help_heading = "Quota")]
    max_topics: Option<u64>,
    /// Most queues.
    #[arg(long, value_name = "COUNT", help_heading = "Quota")]
    max_queues: Option<u64>,
    /// Most bindings.
    #[arg(long, value_name = "COUNT", help_heading = "Quota")]
    max_bindings: Option<u64>,
    /// Most bytes of messages in queues and logs together.
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Quota")]
    max_stored_bytes: Option<u64>,
    /// Most messages published a second.
    #[arg(long, value_name = "COUNT", help_heading = "Quota")]
    max_publish_rate: Option<u64>,
    /// Largest body.
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Quota")]
    max_body: Option<u64>,
    /// Most long-lived connections, such as WebSockets.
    #[arg(long, value_name = "COUNT", help_heading = "Quota")]
    max_connections: Option<u64>,
}

impl Flags {
    fn apply(self, config: &mut NamespaceConfig) {
        let quota = &mut config.quota;
        config.description = self.description.or(config.description.take());
        config.durability = self.durability.or(config.durability);
        quota.max_topics = self.max_topics.or(quota.max_topics);
        quota.max_queues = self.max_queues.or(quota.max_queues);
        quota.max_bindings = self.max_bindings.or(quota.max_bindings);
        quota.max_stored_bytes = self.max_stored_bytes.or(quota.max_stored_bytes);
        quota.max_publish_rate = self.max_publish_rate.or(quota.max_publish_rate);
        quota.max_connections = self.max_connections.or(quota.max_connections);
        quota.max_body_bytes = self.max_body.or(quota.max_body_bytes);
    }
}

pub(crate) async fn run(client: Client, action: Action) -> Result<(), Failure> {
    match action {
        Action::Create { name, flags } => {
            let mut config = NamespaceConfig::default();
            flags.apply(&mut config);
            put(&client, &name, &config).await
        }
        Action::Update { name, flags } => {
            let namespace: Namespace = client.get(client.admin(&["namespaces", &name])).await?;
            let mut config = namespace.config;
            flags.apply(&mut config);
            put(&client, &name, &config).await
        }
        Action::List => {
            let namespaces: Vec<Namespace> = client.list(client.admin(&["namespaces"])).await?;
            output::list(client.format, &namespaces, &["name", ">topics", ">queues", ">stored"], |namespace| {
                vec![
                    namespace.name.clone(),
                    namespace.topics.to_string(),
                    namespace.queues.to_string(),
                    show_bytes(namespace.stored_bytes),
                ]
            })
        }
        Action::Show { name } => {
            let namespace: Namespace = client.get(client.admin(&["namespaces", &name])).await?;
            let fields = vec![
                ("name", namespace.name.clone()),
                ("description", namespace.config.description.clone().unwrap_or_default()),
                ("topics", namespace.topics.to_string()),
                ("queues", namespace.queues.to_string()),
                ("stored", show_bytes(namespace.stored_bytes)),
                ("connections", namespace.connections.to_string()),
                ("quota", serde_json::to_string(&namespace.config.quota).unwrap_or_default()),
            ];
            output::show(client.format, &namespace, fields)
        }
        Action::Delete { name, yes } => {
            if !yes {
                let namespace: Namespace = client.get(client.admin(&["namespaces", &name])).await?;
                let what = format!(
                    "namespace {name:?} holds {} topics and {} queues, with {}; all of it would be gone",
                    namespace.topics,
                    namespace.queues,
                    show_bytes(namespace.stored_bytes)
                );
                return Err(Failure::new(Exit::Refused, what).hint("say --yes if that is what you want"));
            }
            delete(&client, client.admin(&["namespaces", &name]), "namespace", &name).await
        }
    }
}

async fn put(client: &Client, name: &str, config: &NamespaceConfig) -> Result<(), Failure> {
    let declared: Declared<Namespace> = client.put(client.admin(&["namespaces", name]), config).await?;
    match client.format {
        Format::Json => output::json(&declared),
        Format::Table => outcome("namespace", name, declared.outcome),
    }
}
