//! What each command does.

pub(crate) mod backup;
pub(crate) mod binding;
pub(crate) mod config;
pub(crate) mod consume;
pub(crate) mod dlq;
pub(crate) mod generate;
pub(crate) mod group;
pub(crate) mod log;
pub(crate) mod messages;
pub(crate) mod namespace;
pub(crate) mod policy;
pub(crate) mod publish;
pub(crate) mod queue;
pub(crate) mod queue_flags;
pub(crate) mod replay;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod restore;
pub(crate) mod serve;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod topic;
pub(crate) mod user;

use std::future::Future;
use std::process::ExitCode;

use crate::args::{Cli, Command};
use crate::bench;
use crate::client::{Client, ClientArgs};
use crate::failure::Failure;
use crate::output;

/// Runs a command, and says on standard error what went wrong if something did.
pub(crate) fn run(cli: Cli) -> ExitCode {
    match dispatch(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough: that is no failure of ours.
        Err(failure) if failure.what.contains("Broken pipe") => ExitCode::SUCCESS,
        Err(failure) => {
            output::remark(failure.to_string());
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(serve) => serve::run(&serve),
        Command::Topic(command) => remote(&command.client, |client| topic::run(client, command.action)),
        Command::Queue(command) => remote(&command.client, |client| queue::run(client, command.action)),
        Command::Binding(command) => remote(&command.client, |client| binding::run(client, command.action)),
        Command::Group(command) => remote(&command.client, |client| group::run(client, command.action)),
        Command::Policy(command) => remote(&command.client, |client| policy::run(client, command.action)),
        Command::Namespace(command) => remote(&command.client, |client| namespace::run(client, command.action)),
        Command::User(command) => match user::offline(&command.client, command.action)? {
            Some(action) => remote(&command.client, |client| user::run(client, action)),
            None => Ok(()),
        },
        Command::Token(command) => remote(&command.client, |client| token::run(client, command.action)),
        Command::Publish(command) => remote(&command.client, |client| publish::run(client, command.action)),
        Command::Consume(command) => remote(&command.client, |client| consume::run(client, command.action)),
        Command::Dlq(command) => remote(&command.client, |client| dlq::run(client, command.action)),
        Command::Request(command) => remote(&command.client, |client| request::run(client, command.action)),
        Command::Reply(command) => remote(&command.client, |client| reply::run(client, command.action)),
        Command::Status(command) => remote(&command.client, |client| status::run(client, command.action)),
        Command::Bench(command) => remote(&command.client, |client| bench::run(client, command.action)),
        Command::Backup(command) => remote(&command.client, |client| backup::run(client, command.action)),
        Command::Restore(command) => restore::run(&command),
        Command::Log(action) => log::run(action),
        Command::Config(action) => config::run(&action),
        Command::Completions(completions) => generate::completions(&completions),
        Command::Man(man) => generate::man(&man),
    }
}

/// Runs what talks to a server. One thread is enough for a client.
fn remote<F>(args: &ClientArgs, work: impl FnOnce(Client) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let client = Client::new(args)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work(client))
}

/// Says what became of a declaration, for people: `queue "orders" created`.
fn outcome(kind: &str, name: &str, outcome: api::Outcome) -> Result<(), Failure> {
    let word = match outcome {
        api::Outcome::Created => "created",
        api::Outcome::Unchanged => "is there already, unchanged",
        api::Outcome::Updated => "updated",
    };
    output::line(format!("{kind} {name:?} {word}"))
}

/// Deletes something, and says so.
async fn delete(client: &Client, url: reqwest::Url, kind: &str, name: &str) -> Result<(), Failure> {
    let answer = client.delete(url).await?;
    if client.format == output::Format::Json {
        return output::json(&serde_json::json!({ "deleted": name }));
    }
    let with = answer.get("messages").and_then(serde_json::Value::as_u64).filter(|messages| *messages > 0);
    match with {
        Some(messages) => output::line(format!("{kind} {name:?} deleted, with {messages} messages")),
        None => output::line(format!("{kind} {name:?} deleted")),
    }
}
