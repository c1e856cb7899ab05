//! `token`.

use api::{NewToken, TokenRequest, User};
use clap::Subcommand;

use super::delete;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::values::{or_none, show_time, time};

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Make a token, and print it. It is shown only here.
    #[command(after_help = "Example:\n  POSTHOUSE_TOKEN=$(posthouse token create billing --expires +90d)")]
    Create {
        /// Whose.
        #[arg(value_name = "USER")]
        owner: String,
        /// For people.
        #[arg(long, value_name = "TEXT", default_value = "")]
        description: String,
        /// When it ends: a time, or +30d from now. Never if not given.
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<i64>,
    },
    /// Show tokens, without their secrets.
    List {
        /// Only this user's.
        #[arg(value_name = "USER")]
        owner: Option<String>,
    },
    /// Show one token, without its secret.
    Show {
        /// Its id, from `token list`.
        id: String,
    },
    /// Revoke a token.
    Delete {
        /// Its id, from `token list`.
        id: String,
    },
}

/// A token and whose it is.
#[derive(serde::Serialize)]
struct Owned {
    user: String,
    #[serde(flatten)]
    token: api::TokenInfo,
}

pub(crate) async fn run(client: Client, action: Action) -> Result<(), Failure> {
    match action {
        Action::Create { owner, description, expires } => {
            let request = TokenRequest { description, expires_at_ms: expires };
            let made: NewToken = client.post(client.admin(&["users", &owner, "tokens"]), &request).await?;
            match client.format {
                Format::Json => output::json(&made),
                // Alone on standard output, so that it can go into a variable.
                Format::Table => output::line(made.token),
            }
        }
        Action::List { owner } => {
            let tokens = all(&client, owner).await?;
            output::list(client.format, &tokens, &["id", "user", "expires", "description"], |owned| {
                vec![
                    owned.token.id.clone(),
                    owned.user.clone(),
                    or_none(owned.token.expires_at_ms, show_time),
                    owned.token.description.clone(),
                ]
            })
        }
        Action::Show { id } => {
            let found = all(&client, None).await?.into_iter().find(|owned| owned.token.id == id);
            let owned = found.ok_or_else(|| {
                Failure::new(Exit::NotFound, format!("there is no token {id:?}"))
                    .hint("`posthouse token list` shows those there are")
            })?;
            let fields = vec![
                ("id", owned.token.id.clone()),
                ("user", owned.user.clone()),
                ("expires", or_none(owned.token.expires_at_ms, show_time)),
                ("description", owned.token.description.clone()),
            ];
            output::show(client.format, &owned, fields)
        }
        Action::Delete { id } => delete(&client, client.admin(&["tokens", &id]), "token", &id).await,
    }
}

async fn all(client: &Client, user: Option<String>) -> Result<Vec<Owned>, Failure> {
    let users: Vec<User> = match user {
        Some(name) => vec![client.get(client.admin(&["users", &name])).await?],
        None => client.list(client.admin(&["users"])).await?,
    };
    let owned = |user: User| {
        let name = user.name;
        user.tokens.into_iter().map(move |token| Owned { user: name.clone(), token })
    };
    Ok(users.into_iter().flat_map(owned).collect())
}
