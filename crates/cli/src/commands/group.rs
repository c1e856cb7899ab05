//! `group`.

use api::{Declared, Group, GroupConfig, GroupPartition, GroupPositions, GroupStart, SeekRequest, StartAt};
use clap::{Args, Subcommand};

use super::{delete, outcome};
use crate::client::{Client, with_query};
use crate::failure::Failure;
use crate::output::{self, Format};
use crate::values::{millis, or_none, word};

const SEEK_EXAMPLES: &str = "\
Examples:
  posthouse group seek audit earliest
  posthouse group seek audit 2026-03-01T12:00:00Z
  posthouse group seek audit 1200 --partition 0";

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Make a group on a topic's log.
    Create {
        /// Its name.
        name: String,
        /// The topic.
        #[arg(long, value_name = "TOPIC")]
        topic: String,
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
    /// Show all groups.
    List,
    /// Show one group: its members and where it stands.
    Show {
        /// Its name.
        name: String,
    },
    /// Delete a group and its offsets.
    Delete {
        /// Its name.
        name: String,
    },
    /// Move a group: it reads on from there.
    #[command(after_help = SEEK_EXAMPLES)]
    Seek {
        /// The group.
        name: String,
        /// earliest, latest, an offset, or a time such as 2026-03-01T12:00:00Z.
        to: StartAt,
        /// Only this partition.
        #[arg(long, value_name = "NUMBER")]
        partition: Option<u32>,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// Where a partition without an offset begins: earliest or latest.
    #[arg(long, value_name = "PLACE", value_parser = word::<GroupStart>)]
    start: Option<GroupStart>,
    /// How long a member lives without a sign of life.
    #[arg(long, value_name = "TIME", value_parser = millis)]
    session: Option<u64>,
}

impl Flags {
    fn apply(&self, config: &mut GroupConfig) {
        config.start = self.start.unwrap_or(config.start);
        config.session_ms = self.session.or(config.session_ms);
    }
}

pub(crate) async fn run(client: Client, action: Action) -> Result<(), Failure> {
    match action {
        Action::Create { name, topic, flags } => {
            let mut config = GroupConfig { topic, ..GroupConfig::default() };
            flags.apply(&mut config);
            declare(&client, &name, &config, false).await
        }
        Action::Update { name, flags } => {
            let group: Group = client.get(client.within(&["groups", &name])).await?;
            let mut config = group.config;
            flags.apply(&mut config);
            declare(&client, &name, &config, true).await
        }
        Action::List => {
            let groups: Vec<Group> = client.list(client.within(&["groups"])).await?;
            output::list(client.format, &groups, &["name", "topic", ">members", ">lag"], |group| {
                vec![
                    group.name.clone(),
                    group.config.topic.clone(),
                    group.members.len().to_string(),
                    group.partitions.iter().map(|partition| partition.lag).sum::<u64>().to_string(),
                ]
            })
        }
        Action::Show { name } => {
            let group: Group = client.get(client.within(&["groups", &name])).await?;
            let mut fields = vec![
                ("name", group.name.clone()),
                ("topic", group.config.topic.clone()),
                ("generation", group.generation.to_string()),
            ];
            for member in &group.members {
                fields.push(("member", format!("{} reads partitions {:?}", member.member, member.partitions)));
            }
            fields.extend(group.partitions.iter().map(|at| ("partition", place(at))));
            fields.push(("damage", group.damage.clone().unwrap_or_default()));
            output::show(client.format, &group, fields)
        }
        Action::Delete { name } => delete(&client, client.within(&["groups", &name]), "group", &name).await,
        Action::Seek { name, to, partition } => {
            let request = SeekRequest { partition, to };
            let moved: GroupPositions = client.post(client.within(&["groups", &name, "seek"]), &request).await?;
            let fields = moved.partitions.iter().map(|at| ("partition", place(at))).collect();
            output::show(client.format, &moved, fields)
        }
    }
}

async fn declare(client: &Client, name: &str, config: &GroupConfig, update: bool) -> Result<(), Failure> {
    let url = with_query(client.within(&["groups", name]), &api::DeclareQuery { update: Some(update) })?;
    let declared: Declared<Group> = client.put(url, config).await?;
    match client.format {
        Format::Json => output::json(&declared),
        Format::Table => outcome("group", name, declared.outcome),
    }
}

fn place(at: &GroupPartition) -> String {
    let committed = or_none(at.committed, |offset| offset.to_string());
    format!("{}: next {committed}, end {}, lag {}", at.partition, at.end, at.lag)
}
