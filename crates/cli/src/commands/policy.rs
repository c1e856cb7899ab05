//! `policy`.

use std::collections::BTreeMap;

use api::{DeclaredOutcome, Policy, PolicyBounds, PolicyConfig, PolicyLayer, PolicyQuery, PolicyScope, PolicyValues};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{delete, outcome};
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::values::{millis, size, word};

const EXAMPLES: &str = "\
Examples:
  posthouse policy create bounded '*' --applies-to queues --default max_messages=1000000 --default retry.max_attempts=10
  posthouse policy create eu-logs 'eu.*' --applies-to topics --override retention.max_age_ms=30d
  posthouse policy create small 'regex:^(mail|sms)\\.' --operator --applies-to queues --bound max_messages=1000

A setting is named as in the API, with a dot before a part of a part. Names that end with _ms take a time such as 30d, and those
that end with _bytes a size such as 1GiB. One policy of the users and one of the operator apply to a queue or topic; a bound of either
holds whatever else is said.";

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Set a policy. One of the same name is replaced.
    #[command(after_help = EXAMPLES)]
    Create(Create),
    /// Show all policies of the users, or the operator's.
    List(Layer),
    /// Show one policy.
    Show {
        /// Its name.
        name: String,
        #[command(flatten)]
        layer: Layer,
    },
    /// Delete a policy: definitions hold as they are written again.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        layer: Layer,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Layer {
    /// Of the operator's policies, which have names of their own.
    #[arg(long)]
    operator: bool,
}

impl Layer {
    fn layer(&self) -> PolicyLayer {
        if self.operator { PolicyLayer::Operator } else { PolicyLayer::User }
    }

    /// Says in an address which layer is meant.
    fn of(&self, url: reqwest::Url) -> Result<reqwest::Url, Failure> {
        with_query(url, &PolicyQuery { layer: self.operator.then_some(PolicyLayer::Operator) })
    }
}

#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Its name.
    name: String,
    /// Names that it applies to: * stands for any run of characters, and regex: begins a regular expression.
    pattern: String,
    /// What it applies to: queues, topics or all.
    #[arg(long, value_name = "KIND", value_parser = word::<PolicyScope>, default_value = "all")]
    applies_to: PolicyScope,
    #[command(flatten)]
    layer: Layer,
    /// Of several that fit the highest wins, as a whole.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// A setting for what definitions leave open. May be given several times.
    #[arg(long = "default", value_name = "NAME=VALUE")]
    defaults: Vec<String>,
    /// A setting that holds whatever definitions say. May be given several times.
    #[arg(long = "override", value_name = "NAME=VALUE")]
    overrides: Vec<String>,
    /// The most that is allowed of a setting, whatever else is said: ttl_ms, max_messages, max_bytes, expires_ms or max_attempts. May be
    /// given several times.
    #[arg(long = "bound", value_name = "NAME=VALUE")]
    bounds: Vec<String>,
}

/// Settings of a policy from `NAME=VALUE`s.
fn values<T: DeserializeOwned>(given: &[String]) -> Result<T, String> {
    let mut all = Map::new();
    for setting in given {
        let (name, text) = setting.split_once('=').ok_or_else(|| format!("{setting:?} is not NAME=VALUE"))?;
        let value = match name {
            _ if name.ends_with("_ms") && text.parse::<u64>().is_err() => Value::from(millis(text)?),
            _ if name.ends_with("_bytes") => Value::from(size(text)?),
            _ => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
        };
        let mut inner = &mut all;
        let (parents, leaf) = name.rsplit_once('.').map_or(("", name), |(parents, leaf)| (parents, leaf));
        for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
            let entry = inner.entry(parent).or_insert_with(|| Value::Object(Map::new()));
            inner = entry.as_object_mut().ok_or_else(|| format!("{parent:?} is given both whole and in parts"))?;
        }
        inner.insert(leaf.to_owned(), value);
    }
    serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())
}

fn read<T: DeserializeOwned>(flag: &str, given: &[String]) -> Result<T, Failure> {
    values(given).map_err(|error| Failure::usage(format!("{flag}: {error}")))
}

pub(crate) async fn run(client: Client, action: Action) -> Result<(), Failure> {
    match action {
        Action::Create(create) => {
            let config = PolicyConfig {
                pattern: create.pattern,
                applies_to: create.applies_to,
                only_arguments: BTreeMap::new(),
                layer: create.layer.layer(),
                priority: create.priority,
                defaults: read::<PolicyValues>("--default", &create.defaults)?,
                overrides: read::<PolicyValues>("--override", &create.overrides)?,
                bounds: read::<PolicyBounds>("--bound", &create.bounds)?,
                arguments: BTreeMap::new(),
            };
            let declared: DeclaredOutcome = client.put(client.within(&["policies", &create.name]), &config).await?;
            match client.format {
                Format::Json => output::json(&declared),
                Format::Table => outcome("policy", &create.name, declared.outcome),
            }
        }
        Action::List(layer) => {
            let policies: Vec<Policy> = client.list(layer.of(client.within(&["policies"]))?).await?;
            let head = ["name", "pattern", "applies to", ">priority", "defaults", "overrides", "bounds"];
            output::list(client.format, &policies, &head, |policy| {
                vec![
                    policy.name.clone(),
                    policy.config.pattern.clone(),
                    scope(policy.config.applies_to),
                    policy.config.priority.to_string(),
                    json(&policy.config.defaults),
                    json(&policy.config.overrides),
                    json(&policy.config.bounds),
                ]
            })
        }
        Action::Show { name, layer } => {
            let policy: Policy = client.get(layer.of(client.within(&["policies", &name]))?).await?;
            let fields = vec![
                ("name", policy.name.clone()),
                ("pattern", policy.config.pattern.clone()),
                ("applies to", scope(policy.config.applies_to)),
                ("priority", policy.config.priority.to_string()),
                ("defaults", json(&policy.config.defaults)),
                ("overrides", json(&policy.config.overrides)),
                ("bounds", json(&policy.config.bounds)),
                ("only arguments", json(&policy.config.only_arguments)),
                ("arguments", json(&policy.config.arguments)),
            ];
            output::show(client.format, &policy, fields)
        }
        Action::Delete { name, layer } => {
            delete(&client, layer.of(client.within(&["policies", &name]))?, "policy", &name).await
        }
    }
}

fn scope(scope: PolicyScope) -> String {
    match scope {
        PolicyScope::Queues => "queues",
        PolicyScope::Topics => "topics",
        PolicyScope::All => "all",
    }
    .to_owned()
}

fn json(values: &impl serde::Serialize) -> String {
    serde_json::to_string(values).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_by_the_ends_of_their_names() {
        let given = ["ttl_ms=1h", "max_bytes=1KiB", "retry.max_attempts=3", "overflow=drop-oldest"];
        let read: PolicyValues = values(&given.map(str::to_owned)).unwrap();
        assert_eq!((read.ttl_ms, read.max_bytes), (Some(3_600_000), Some(1024)));
        assert_eq!(read.retry.and_then(|retry| retry.max_attempts), Some(3));
        assert_eq!(read.overflow, Some(api::Overflow::DropOldest));
        assert!(values::<PolicyValues>(&["max_mesages=1".to_owned()]).unwrap_err().contains("max_messages"));
        assert!(values::<PolicyValues>(&["ttl_ms".to_owned()]).is_err());
        let bounds: PolicyBounds = values(&["max_bytes=1KiB".to_owned(), "max_attempts=3".to_owned()]).unwrap();
        assert_eq!((bounds.max_bytes, bounds.max_attempts), (Some(1024), Some(3)));
        assert!(values::<PolicyBounds>(&["lease_ms=1".to_owned()]).is_err(), "not of a kind that can be bounded");
    }
}
