//! The command line: every command and flag, each defined once. Help, completions and man pages come from here.

use clap::{Args, Parser, Subcommand};

use crate::bench;
use crate::client::ClientArgs;
use crate::commands::{
    backup, binding, config, consume, dlq, generate, group, log, namespace, policy, publish, queue, reply, request,
    restore, serve, status, token, topic, user,
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
    /// Measure a running server, or a disk.
    Bench(RemoteGroup<bench::Action>),
    /// Copy all that a running server keeps into a file, as it is at this moment. For administrators.
    Backup(Remote<backup::Backup>),
    /// Make a data directory from a backup, or only check one. Needs no server.
    Restore(restore::Restore),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Cli, ErrorKind> {
        Cli::try_parse_from(line.split(' ')).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_hides_a_global_flag_behind_an_argument_of_its_own() {
        for group in Cli::command().get_subcommands() {
            let global = |id: &clap::Id| group.get_arguments().any(|arg| arg.is_global_set() && arg.get_id() == id);
            for inner in group.get_subcommands() {
                let hidden: Vec<_> = inner.get_arguments().map(clap::Arg::get_id).filter(|id| global(id)).collect();
                assert!(hidden.is_empty(), "{} {} hides {hidden:?}", group.get_name(), inner.get_name());
            }
        }
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn walk(command: &clap::Command, path: &str) {
            assert!(command.get_about().is_some(), "{path} has no help");
            for arg in command.get_arguments() {
                assert!(arg.get_help().is_some(), "{path}: {} has no help", arg.get_id());
            }
            for inner in command.get_subcommands() {
                walk(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        walk(&Cli::command(), "posthouse");
    }

    /// The rows of the page's table of commands, from the definition.
    fn rows(command: &clap::Command, path: &str) -> String {
        let mut text = String::new();
        for inner in command.get_subcommands() {
            let path = format!("{path}{}", inner.get_name());
            if inner.get_subcommands().next().is_some() {
                text += &rows(inner, &format!("{path} "));
            } else {
                let about = inner.get_about().map(ToString::to_string).unwrap_or_default();
                text += &format!("| `{path}` | {} |\n", about.trim_end_matches('.'));
            }
        }
        text
    }

    #[test]
    fn the_page_lists_every_command() {
        const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        const HEAD: &str = "| command | what it does |\n|---|---|\n";
        let page = std::fs::read_to_string(PAGE).unwrap();
        let (before, rest) = page.split_once(HEAD).unwrap();
        let after = rest.find("\n\n").map(|at| &rest[at + 1..]).unwrap_or_default();
        let wanted = format!("{before}{HEAD}{}{after}", rows(&Cli::command(), ""));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PAGE, &wanted).unwrap();
        } else {
            assert!(
                page == wanted,
                "docs/cli.md is not what the definition says: UPDATE_DOCS=1 cargo test -p cli writes it"
            );
        }
    }

    #[test]
    fn flags_that_do_not_go_together_are_refused() {
        let conflict = ErrorKind::ArgumentConflict;
        assert_eq!(parse("posthouse consume orders --topic orders").err(), Some(conflict));
        assert_eq!(parse("posthouse consume orders --from earliest").err(), Some(conflict));
        assert_eq!(parse("posthouse consume").err(), Some(ErrorKind::MissingRequiredArgument));
        assert_eq!(parse("posthouse publish").err(), Some(ErrorKind::MissingRequiredArgument));
        assert_eq!(parse("posthouse publish a b --file c").err(), Some(conflict));
        assert_eq!(parse("posthouse publish a --topic t --queue q").err(), Some(conflict));
        assert_eq!(parse("posthouse restore a").err(), Some(ErrorKind::MissingRequiredArgument));
        assert_eq!(parse("posthouse restore a --verify --data b").err(), Some(conflict));
        assert_eq!(parse("posthouse reply a").err(), Some(ErrorKind::MissingRequiredArgument));
        assert_eq!(parse("posthouse serve --admin-password x").err(), Some(ErrorKind::UnknownArgument));
        assert_eq!(parse("posthouse serve --engine raft").err(), Some(ErrorKind::InvalidValue));
        assert_eq!(parse("posthouse topic create t --retain soon").err(), Some(ErrorKind::ValueValidation));
        assert_eq!(parse("posthouse queue create q --overflow spill").err(), Some(ErrorKind::ValueValidation));
    }

    #[test]
    fn what_the_manual_shows_is_accepted() {
        for line in [
            "posthouse serve --insecure --http off --tls-client-required=false",
            "posthouse consume payment --exec ./charge.sh --reject-exit 65",
            "posthouse consume --topic orders --from 2026-03-01T12:00:00Z",
            "posthouse publish --topic orders --ndjson orders.ndjson",
            "posthouse publish --queue payment body",
            "posthouse queue create q --breaker 0.5,20,10s --keyed --dead-letter topic:lost",
            "posthouse topic create prices --retain forever --compact --key-index --partitions 8",
            "posthouse binding create orders audit --header region=eu --any-header tier --subject a.* --subject b.#",
            "posthouse topic replay orders --to audit --from 2026-03-01T12:00:00Z --partition 0",
            "posthouse dlq redrive payment --rate 50 --max 1000 -o json --url http://localhost:1",
            "posthouse backup - --max-rate 20MiB",
            "posthouse restore --verify monday.tar",
            "posthouse restore - --data ./data",
            "posthouse status --watch=500ms",
            "posthouse -V",
        ] {
            let parsed = parse(line);
            assert!(matches!(parsed, Ok(_) | Err(ErrorKind::DisplayVersion)), "{line}: {:?}", parsed.err());
        }
    }
}
