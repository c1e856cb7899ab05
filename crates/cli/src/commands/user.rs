//! `user`.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use api::{DeclaredOutcome, Outcome, Permissions, User, UserChange};
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
  posthouse user create admin --admin --password-file secret --data /var/lib/posthouse

With --data DIR a user is made or changed without a server, in the data directory of one that is not running: the first user of a
server that others reach, or a new password when nobody knows the old one. Run it as the system's user that runs the server.

Permissions hold in the namespace of --namespace. In a name pattern * stands for any run of characters.";

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
        #[arg(long, conflicts_with_all = ["configure", "write", "read"])]
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
    /// Tags, for protocols that know them.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
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
        let permissions = Permissions { configure: self.configure, write: self.write, read: self.read };
        if permissions != Permissions::default() {
            change.permissions.insert(namespace.to_owned(), Some(permissions));
        }
        change.tags = (!self.tag.is_empty()).then_some(self.tag);
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
    let permissions = |given: Permissions| server::offline::Permissions {
        configure: given.configure,
        write: given.write,
        read: given.read,
    };
    let stored = server::offline::UserChange {
        password: change.password,
        admin: change.admin,
        permissions: change.permissions.into_iter().map(|(name, given)| (name, given.map(permissions))).collect(),
        tags: change.tags,
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
    ];
    for (namespace, may) in &user.permissions {
        let text = format!("{namespace}: configure {:?}, write {:?}, read {:?}", may.configure, may.write, may.read);
        fields.push(("permissions", text));
    }
    for token in &user.tokens {
        fields.push(("token", format!("{} {}", token.id, token.description)));
    }
    output::show(client.format, user, fields)
}
