//! `binding`.

use api::{Binding, BindingConfig, BindingTarget, Declared, Filter, WantedHeader};
use clap::{Args, Subcommand};

use super::delete;
use crate::client::{Client, with_query};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::values::{all_of, filter, wanted};

const EXAMPLES: &str = "\
Examples:
  posthouse binding create orders payment --subject 'orders.*.created'
  posthouse binding create orders eu-audit --header region=eu --header tier
  posthouse binding create orders large --filter '{\"attribute\": {\"field\": {\"body\": [\"total\"]}, \"any_of\": [{\"range\": {\"gte\": 1000}}]}}'
  posthouse binding create orders everything --to-topic

In a subject pattern * is one word, # is any number of words, and > is the rest.";

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Lead a topic's messages to a queue, all of them or those that pass a filter.
    #[command(after_help = EXAMPLES)]
    Create(Create),
    /// Show bindings.
    List {
        /// Of this topic.
        #[arg(long, value_name = "TOPIC")]
        topic: Option<String>,
        /// To this queue.
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
    },
    /// Show one binding.
    Show {
        /// Its id, from `binding list`.
        id: u64,
    },
    /// Delete a binding.
    Delete {
        /// Its id, from `binding list`; or its topic, and then the queue.
        id_or_topic: String,
        /// The queue that it leads to, if a topic was given.
        queue: Option<String>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Create {
    /// The topic.
    topic: String,
    /// The queue.
    target: String,
    /// The target is a topic.
    #[arg(long)]
    to_topic: bool,
    /// Only messages whose subject fits. Given several times: one that fits is enough.
    #[arg(long, value_name = "PATTERN")]
    subject: Vec<String>,
    /// Only messages with this header: NAME=TEXT, NAME:=JSON, or NAME for any value. All that are given must match.
    #[arg(long, value_name = "HEADER", value_parser = wanted)]
    header: Vec<WantedHeader>,
    /// As --header, but one that matches is enough.
    #[arg(long, value_name = "HEADER", value_parser = wanted)]
    any_header: Vec<WantedHeader>,
    /// Only messages that pass this filter, in the API's JSON.
    #[arg(long, value_name = "JSON", value_parser = filter)]
    filter: Option<Filter>,
    /// Its share of a consistent-hash topic.
    #[arg(long, value_name = "NUMBER")]
    weight: Option<u32>,
}

pub(crate) async fn run(client: Client, action: Action) -> Result<(), Failure> {
    match action {
        Action::Create(create) => make(&client, create).await,
        Action::List { topic, queue } => list(&client, topic, queue).await,
        Action::Show { id } => {
            let binding: Binding = client.get(client.within(&["bindings", &id.to_string()])).await?;
            let fields = vec![
                ("id", binding.id.to_string()),
                ("topic", binding.config.topic.clone()),
                ("to", target(&binding.config.target)),
                ("filter", show_filter(&binding.config.filter)),
                ("weight", binding.config.weight.map(|weight| weight.to_string()).unwrap_or_default()),
            ];
            output::show(client.format, &binding, fields)
        }
        Action::Delete { id_or_topic, queue } => remove(&client, id_or_topic, queue).await,
    }
}

async fn make(client: &Client, create: Create) -> Result<(), Failure> {
    let filter = all_of(&create.subject, &create.header, &create.any_header, create.filter.as_ref());
    let target =
        if create.to_topic { BindingTarget::Topic(create.target) } else { BindingTarget::Queue(create.target) };
    let config =
        BindingConfig { topic: create.topic, target, filter, weight: create.weight, arguments: Default::default() };
    let declared: Declared<Binding> = client.post(client.within(&["bindings"]), &config).await?;
    match client.format {
        Format::Json => output::json(&declared),
        Format::Table => {
            let text = format!("{} -> {}", config.topic, self::target(&config.target));
            super::outcome("binding", &text, declared.outcome)
        }
    }
}

async fn list(client: &Client, topic: Option<String>, queue: Option<String>) -> Result<(), Failure> {
    let bindings = find(client, topic, queue).await?;
    output::list(client.format, &bindings, &[">id", "topic", "to", "filter"], |binding| {
        vec![
            binding.id.to_string(),
            binding.config.topic.clone(),
            target(&binding.config.target),
            show_filter(&binding.config.filter),
        ]
    })
}

async fn find(client: &Client, topic: Option<String>, queue: Option<String>) -> Result<Vec<Binding>, Failure> {
    let query = api::BindingsQuery { topic, to_queue: queue, ..Default::default() };
    let page: api::Page<Binding> = client.get(with_query(client.within(&["bindings"]), &query)?).await?;
    Ok(page.items)
}

async fn remove(client: &Client, id_or_topic: String, queue: Option<String>) -> Result<(), Failure> {
    let ids: Vec<String> = match queue {
        None => {
            let id: u64 = id_or_topic.parse().map_err(|_| {
                Failure::usage(format!("{id_or_topic:?} is not a binding's id"))
                    .hint("give an id, or a topic and a queue")
            })?;
            vec![id.to_string()]
        }
        Some(queue) => {
            let found = find(client, Some(id_or_topic.clone()), Some(queue.clone())).await?;
            if found.is_empty() {
                let what = format!("there is no binding from topic {id_or_topic:?} to queue {queue:?}");
                return Err(Failure::new(Exit::NotFound, what).hint("`posthouse binding list` shows those there are"));
            }
            found.iter().map(|binding| binding.id.to_string()).collect()
        }
    };
    for id in ids {
        delete(client, client.within(&["bindings", &id]), "binding", &id).await?;
    }
    Ok(())
}

fn target(target: &BindingTarget) -> String {
    match target {
        BindingTarget::Queue(name) => name.clone(),
        BindingTarget::Topic(name) => format!("topic:{name}"),
    }
}

fn show_filter(filter: &Filter) -> String {
    match filter {
        Filter::All => "everything".to_owned(),
        Filter::Subject(pattern) => format!("subject {pattern}"),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}
