//! `user`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use api::{DeclaredOutcome, Outcome, Permissions, SubjectPermissions, User, UserChange, UserLimits};
use clap::{Args, Subcommand};
use server::config::Sources;

use super::{delete, outcome};
use crate::client::{Client, ClientArgs};
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};

const EXAMPLES: &str = "\
Examples:
  posthouse user create admin --admin --password-file secret
  echo \"$SECRET\" | posthouse user create billing --password-stdin --write 'orders*' --read 'billing*'
  posthouse user update billing -n shop --configure 'billing*' --read '*'
  posthouse user update sensor --write readings --write-subject 'readings=sensors.{username}.*'
  posthouse user create admin --admin --password-file secret --data /var/lib/posthouse

With --data DIR a user is made or changed without a server, in the data directory of one that is not running: the first user of a
server that others reach, or a new password when nobody knows the old one. Run it as the system's user that runs the server.

Permissions hold in the namespace of --namespace. In a name pattern * stands for any run of characters; a pattern that begins with
regex: is a regular expression, which fits a name if it fits any part of it. Patterns of subjects may speak of {username},
{namespace} and {client_id}. What is given of permissions replaces all that the user has in the namespace.";

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Make a user. While there is none, anybody on the server's own machine may make the first.
    #[command(after_help = EXAMPLES)]
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        flags: Flags,
        #[command(flatten)]
        offline: Offline,
    },
    /// Change what is given, and leave the rest as it is.
    #[command(after_help = EXAMPLES)]
    Update {
        /// Its name.
        name: String,
        #[command(flatten)]
        flags: Flags,
        #[command(flatten)]
        offline: Offline,
        /// Take away all permissions in the namespace.
        #[arg(long, conflicts_with_all = ["configure", "write", "read", "write_subject", "read_subject"])]
        no_permissions: bool,
    },
    /// Show all users.
    List,
    /// Show one user.
    Show {
        /// Its name.
        name: String,
    },
    /// Delete a user; its sessions end.
    Delete {
        /// Its name.
        name: String,
    },
}

/// Where to do it without a server.
#[derive(Args, Debug)]
pub(crate) struct Offline {
    /// In this data directory, of a server that is not running, instead of asking a server.
    #[arg(long = "data", value_name = "DIR")]
    data: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Flags {
    /// File with the new password. A line end after it does not count.
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    password_file: Option<PathBuf>,
    /// Read the new password from standard input.
    #[arg(long)]
    password_stdin: bool,
    /// May do everything everywhere.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    admin: Option<bool>,
    /// Names that it may create, change and delete.
    #[arg(long, value_name = "PATTERN")]
    configure: Vec<String>,
    /// Names that it may publish to.
    #[arg(long, value_name = "PATTERN")]
    write: Vec<String>,
    /// Names that it may consume from.
    #[arg(long, value_name = "PATTERN")]
    read: Vec<String>,
    /// Subjects that it may publish to through a topic that filters by subject patterns, where not all.
    #[arg(long, value_name = "TOPIC=PATTERN", value_parser = topic_and_pattern)]
    write_subject: Vec<(String, String)>,
    /// Subject patterns that it may bind such a topic with, where not all.
    #[arg(long, value_name = "TOPIC=PATTERN", value_parser = topic_and_pattern)]
    read_subject: Vec<(String, String)>,
    /// May log in from the server's own machine only.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    loopback_only: Option<bool>,
    /// Most long-lived connections at a time. What is given of this and --max-channels replaces both.
    #[arg(long, value_name = "COUNT")]
    max_connections: Option<u64>,
    /// Most channels at a time, in all its connections together.
    #[arg(long, value_name = "COUNT")]
    max_channels: Option<u64>,
    /// Take away the bounds on connections and channels.
    #[arg(long, conflicts_with_all = ["max_connections", "max_channels"])]
    no_limits: bool,
    /// Tags, for protocols that know them.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
}

fn topic_and_pattern(text: &str) -> Result<(String, String), String> {
    let (topic, pattern) = text.split_once('=').ok_or("write TOPIC=PATTERN")?;
    Ok((topic.to_owned(), pattern.to_owned()))
}

impl Flags {
    fn change(self, namespace: &str) -> Result<UserChange, Failure> {
        let password = match (&self.password_file, self.password_stdin) {
            (Some(path), _) => Some(
                std::fs::read_to_string(path)
                    .map_err(|error| Failure::usage(format!("--password-file {}: {error}", path.display())))?,
            ),
            (None, true) => {
                if std::io::stdin().is_terminal() {
                    output::remark("type the password, then Enter and Ctrl-D (it is shown as you type)");
                }
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text)?;
                Some(text)
            }
            (None, false) => None,
        };
        let password = password.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        if password.as_ref().is_some_and(String::is_empty) {
            return Err(Failure::usage("the password is empty"));
        }
        let mut change = UserChange { password, admin: self.admin, ..UserChange::default() };
        let mut subjects: BTreeMap<String, SubjectPermissions> = BTreeMap::new();
        for (topic, pattern) in self.write_subject {
            subjects.entry(topic).or_default().write.push(pattern);
        }
        for (topic, pattern) in self.read_subject {
            subjects.entry(topic).or_default().read.push(pattern);
        }
        let permissions = Permissions { configure: self.configure, write: self.write, read: self.read, subjects };
        if permissions != Permissions::default() {
            change.permissions.insert(namespace.to_owned(), Some(permissions));
        }
        change.tags = (!self.tag.is_empty()).then_some(self.tag);
        change.loopback_only = self.loopback_only;
        let limits = UserLimits { max_connections: self.max_connections, max_channels: self.max_channels };
        change.limits = (self.no_limits || limits != UserLimits::default()).then_some(limits);
        Ok(change)
    }
}

/// Does it in a data directory, if one is named; gives the action back otherwise.
///
/// # Errors
/// If the directory is a running server's, or the user cannot be so.
pub(crate) fn offline(args: &ClientArgs, action: Action) -> Result<Option<Action>, Failure> {
    let (name, flags, offline, no_permissions, may_exist) = match action {
        Action::Create { name, flags, offline } if offline.data.is_some() => (name, flags, offline, false, false),
        Action::Update { name, flags, offline, no_permissions } if offline.data.is_some() => {
            (name, flags, offline, no_permissions, true)
        }
        action => return Ok(Some(action)),
    };
    let data = offline.data.unwrap_or_default().display().to_string();
    let config = Sources::of_process(None, vec![("data".to_owned(), data)]).load()?.config;
    let mut change = flags.change(&args.namespace)?;
    if no_permissions {
        change.permissions.insert(args.namespace.clone(), None);
    }
    let subjects = |(topic, given): (String, SubjectPermissions)| {
        (topic, server::offline::SubjectPermissions { write: given.write, read: given.read })
    };
    let permissions = |given: Permissions| server::offline::Permissions {
        configure: given.configure,
        write: given.write,
        read: given.read,
        subjects: given.subjects.into_iter().map(subjects).collect(),
    };
    let limits = |given: UserLimits| server::offline::UserLimits {
        max_connections: given.max_connections,
        max_channels: given.max_channels,
    };
    let stored = server::offline::UserChange {
        password: change.password,
        stored_password: None,
        admin: change.admin,
        permissions: change.permissions.into_iter().map(|(name, given)| (name, given.map(permissions))).collect(),
        tags: change.tags,
        loopback_only: change.loopback_only,
        limits: change.limits.map(limits),
    };
    server::offline::put_user(&config, &name, stored, may_exist)?;
    let outcome = if may_exist { Outcome::Updated } else { Outcome::Created };
    match args.output {
        Format::Json => output::json(&DeclaredOutcome { outcome })?,
        Format::Table => super::outcome("user", &name, outcome)?,
    }
    Ok(None)
}

pub(crate) async fn run(client: Client, action: Action) -> Result<(), Failure> {
    match action {
        Action::Create { name, flags, .. } => {
            let change = flags.change(client.namespace())?;
            match client.get::<User>(client.admin(&["users", &name])).await {
                Ok(_) => {
                    return Err(Failure::new(Exit::Refused, format!("user {name:?} exists"))
                        .hint("`posthouse user update` changes it"));
                }
                Err(failure) if failure.exit == Exit::NotFound => {}
                Err(failure) => return Err(failure),
            }
            put(&client, &name, &change).await?;
            if change.password.is_none() && client.format == Format::Table {
                output::remark(
                    "it has no password: make a token with `posthouse token create`, or use a client certificate",
                );
            }
            Ok(())
        }
        Action::Update { name, flags, no_permissions, .. } => {
            let _: User = client.get(client.admin(&["users", &name])).await?;
            let mut change = flags.change(client.namespace())?;
            if no_permissions {
                change.permissions.insert(client.namespace().to_owned(), None);
            }
            put(&client, &name, &change).await
        }
        Action::List => {
            let users: Vec<User> = client.list(client.admin(&["users"])).await?;
            output::list(client.format, &users, &["name", "admin", "password", ">tokens", "permissions in"], |user| {
                vec![
                    user.name.clone(),
                    user.admin.to_string(),
                    user.has_password.to_string(),
                    user.tokens.len().to_string(),
                    user.permissions.keys().cloned().collect::<Vec<_>>().join(", "),
                ]
            })
        }
        Action::Show { name } => show(&client, &client.get(client.admin(&["users", &name])).await?),
        Action::Delete { name } => delete(&client, client.admin(&["users", &name]), "user", &name).await,
    }
}

async fn put(client: &Client, name: &str, change: &UserChange) -> Result<(), Failure> {
    let declared: DeclaredOutcome = client.put(client.admin(&["users", name]), change).await?;
    match client.format {
        Format::Json => output::json(&declared),
        Format::Table => outcome("user", name, declared.outcome),
    }
}

fn show(client: &Client, user: &User) -> Result<(), Failure> {
    let mut fields = vec![
        ("name", user.name.clone()),
        ("admin", user.admin.to_string()),
        ("password", if user.has_password { "set" } else { "none" }.to_owned()),
        ("tags", user.tags.join(", ")),
        ("logs in from", if user.loopback_only { "loopback addresses only" } else { "anywhere" }.to_owned()),
        ("connections", of_most(user.connections, user.limits.max_connections)),
        ("channels", of_most(user.channels, user.limits.max_channels)),
    ];
    for (namespace, may) in &user.permissions {
        let text = format!("{namespace}: configure {:?}, write {:?}, read {:?}", may.configure, may.write, may.read);
        fields.push(("permissions", text));
        for (topic, may) in &may.subjects {
            fields.push(("subjects", format!("{namespace}: of {topic:?} write {:?}, read {:?}", may.write, may.read)));
        }
    }
    for token in &user.tokens {
        fields.push(("token", format!("{} {}", token.id, token.description)));
    }
    output::show(client.format, user, fields)
}

fn of_most(count: u64, most: Option<u64>) -> String {
    most.map_or_else(|| count.to_string(), |most| format!("{count} of at most {most}"))
}
