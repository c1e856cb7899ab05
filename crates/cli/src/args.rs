//! The command line: every command and flag, each defined once. Help, completions and man pages come from here.

use clap::{Args, Parser, Subcommand};

use crate::client::ClientArgs;
use crate::commands::{
    binding, config, consume, dlq, generate, group, log, namespace, policy, publish, queue, reply, request, serve,
    status, token, topic, user,
};
use crate::failure::EXIT_CODES;

/// The message broker that speaks every service's language, and the commands that operate it.
#[derive(Parser, Debug)]
#[command(name = "posthouse", version, propagate_version = true, after_help = EXIT_CODES, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// A command that talks to a server, and what it does there.
#[derive(Args, Debug)]
pub(crate) struct Remote<A: Args> {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(flatten)]
    pub(crate) action: A,
}

/// As [`Remote`], of commands that have commands of their own.
#[derive(Args, Debug)]
pub(crate) struct RemoteGroup<A: Subcommand> {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) action: A,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Start the broker.
    Serve(Box<serve::Serve>),
    /// Topics: what producers publish to.
    Topic(RemoteGroup<topic::Action>),
    /// Queues: what consumers take messages from.
    Queue(RemoteGroup<queue::Action>),
    /// Bindings: which of a topic's messages a queue gets.
    Binding(RemoteGroup<binding::Action>),
    /// Groups: who has read how far in a topic's log.
    Group(RemoteGroup<group::Action>),
    /// Policies: an operator's defaults and overrides for all names that fit a pattern.
    Policy(RemoteGroup<policy::Action>),
    /// Namespaces: isolation of names, users and quotas.
    Namespace(RemoteGroup<namespace::Action>),
    /// Users and what they may do.
    User(RemoteGroup<user::Action>),
    /// API tokens of users.
    Token(RemoteGroup<token::Action>),
    /// Publish messages.
    Publish(Remote<publish::Publish>),
    /// Take messages from a queue, or read a topic's log.
    Consume(Remote<consume::Consume>),
    /// Dead-letter queues: what was given up, why, and putting it back.
    Dlq(RemoteGroup<dlq::Action>),
    /// Ask whoever answers on a subject, and print the answer.
    Request(Remote<request::Request>),
    /// Answer the requests on a subject.
    Reply(Remote<reply::Reply>),
    /// How the server, its queues and its topics are.
    Status(Remote<status::Status>),
    /// Check or print a data directory, without a server.
    #[command(subcommand)]
    Log(log::Action),
    /// The server's configuration: check it, or print it with where each value came from.
    #[command(subcommand)]
    Config(config::Action),
    /// Print completions for a shell.
    Completions(generate::Completions),
    /// Print the manual page, or write one for each command into a directory.
    Man(generate::Man),
}
