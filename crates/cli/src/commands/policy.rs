//! `policy`.

use api::{DeclaredOutcome, Policy, PolicyConfig, PolicyScope, PolicyValues};
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::{delete, outcome};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::values::{millis, size, word};

const EXAMPLES: &str = "\
Examples:
  posthouse policy create bounded '*' --applies-to queues --default max_messages=1000000 --default retry.max_attempts=10
  posthouse policy create eu-logs 'eu.*' --applies-to topics --override retention.max_age_ms=30d

A setting is named as in the API, with a dot before a part of a part. Names that end with _ms take a time such as 30d, and those
that end with _bytes a size such as 1GiB.";

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Set a policy. One of the same name is replaced.
    #[command(after_help = EXAMPLES)]
    Create(Create),
    /// Show all policies.
    List,
    /// Show one policy.
    Show {
        /// Its name.
        name: String,
    },
    /// Delete a policy: definitions hold as they are written again.
    Delete {
        /// Its name.
        name: String,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Create {
    /// Its name.
    name: String,
    /// Names that it applies to: * stands for any run of characters.
    pattern: String,
    /// What it applies to: queues, topics or all.
    #[arg(long, value_name = "KIND", value_parser = word::<PolicyScope>, default_value = "all")]
    applies_to: PolicyScope,
    /// Of several that fit the highest wins, as a whole.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// A setting for what definitions leave open. May be given several times.
    #[arg(long = "default", value_name = "NAME=VALUE")]
    defaults: Vec<String>,
    /// A setting that holds whatever definitions say. May be given several times.
    #[arg(long = "override", value_name = "NAME=VALUE")]
    overrides: Vec<String>,
}

/// Settings of a policy from `NAME=VALUE`s.
fn values(given: &[String]) -> Result<PolicyValues, String> {
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

pub(crate) async fn run(client: Client, action: Action) -> Result<(), Failure> {
    match action {
        Action::Create(create) => {
            let read = |flag: &str, given: &[String]| {
                values(given).map_err(|error| Failure::usage(format!("{flag}: {error}")))
            };
            let config = PolicyConfig {
                pattern: create.pattern,
                applies_to: create.applies_to,
                priority: create.priority,
                defaults: read("--default", &create.defaults)?,
                overrides: read("--override", &create.overrides)?,
            };
            let declared: DeclaredOutcome = client.put(client.within(&["policies", &create.name]), &config).await?;
            match client.format {
                Format::Json => output::json(&declared),
                Format::Table => outcome("policy", &create.name, declared.outcome),
            }
        }
        Action::List => {
            let policies: Vec<Policy> = client.list(client.within(&["policies"])).await?;
            let head = ["name", "pattern", "applies to", ">priority", "defaults", "overrides"];
            output::list(client.format, &policies, &head, |policy| {
                vec![
                    policy.name.clone(),
                    policy.config.pattern.clone(),
                    scope(policy.config.applies_to),
                    policy.config.priority.to_string(),
                    json(&policy.config.defaults),
                    json(&policy.config.overrides),
                ]
            })
        }
        Action::Show { name } => {
            let policy: Policy = client.get(client.within(&["policies", &name])).await?;
            let fields = vec![
                ("name", policy.name.clone()),
                ("pattern", policy.config.pattern.clone()),
                ("applies to", scope(policy.config.applies_to)),
                ("priority", policy.config.priority.to_string()),
                ("defaults", json(&policy.config.defaults)),
                ("overrides", json(&policy.config.overrides)),
            ];
            output::show(client.format, &policy, fields)
        }
        Action::Delete { name } => delete(&client, client.within(&["policies", &name]), "policy", &name).await,
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

fn json(values: &PolicyValues) -> String {
    serde_json::to_string(values).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_by_the_ends_of_their_names() {
        let given = ["ttl_ms=1h", "max_bytes=1KiB", "retry.max_attempts=3", "overflow=drop-oldest"];
        let read = values(&given.map(str::to_owned)).unwrap();
        assert_eq!((read.ttl_ms, read.max_bytes), (Some(3_600_000), Some(1024)));
        assert_eq!(read.retry.and_then(|retry| retry.max_attempts), Some(3));
        assert_eq!(read.overflow, Some(api::Overflow::DropOldest));
        assert!(values(&["max_mesages=1".to_owned()]).unwrap_err().contains("max_messages"));
        assert!(values(&["ttl_ms".to_owned()]).is_err());
    }
}
