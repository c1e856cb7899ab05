//! `serve`: the flags come from the server's table of settings.

use std::path::PathBuf;

use clap::builder::{ArgAction, PossibleValuesParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, value_parser};
use server::config::{Loaded, SETTINGS, Sources};

use crate::failure::{Exit, Failure};
use crate::output;

const EXAMPLES: &str = "\
Examples:
  posthouse serve
  posthouse serve --data /var/lib/posthouse --http 0.0.0.0:7070 --tls-cert cert.pem --tls-key key.pem
  POSTHOUSE_ADMIN_PASSWORD=... posthouse serve --http 0.0.0.0:7070
  posthouse serve --engine memory --http 127.0.0.1:0

Every setting can also be given as a POSTHOUSE_* variable or in the file of --config. A flag goes over a variable, and a variable
over the file. `posthouse config print` shows what holds and why.";

/// Start the broker.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) settings: Settings,
}

/// The settings of the server that were given on the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    file: Option<PathBuf>,
    flags: Vec<(String, String)>,
}

impl Settings {
    /// What holds.
    ///
    /// # Errors
    /// If a setting makes no sense.
    pub(crate) fn load(&self) -> Result<Loaded, Failure> {
        Ok(Sources::of_process(self.file.clone(), self.flags.clone()).load()?)
    }
}

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("POSTHOUSE_CONFIG")
            .value_parser(value_parser!(PathBuf))
            .help("TOML file with settings");
        SETTINGS.iter().fold(command.arg(config), |command, setting| {
            let Some(flag) = setting.flag() else { return command };
            let mut arg = Arg::new(setting.key)
                .long(flag)
                .value_name(setting.value_name)
                .help(format!("{} [variable: {}]", setting.help(), setting.variable()))
                .action(ArgAction::Set);
            if setting.switch {
                arg = arg.num_args(0..=1).require_equals(true).default_missing_value("true");
            }
            if !setting.choices.is_empty() {
                arg = arg.value_parser(PossibleValuesParser::new(setting.choices));
            }
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut settings = Self::default();
        settings.update_from_arg_matches(matches)?;
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.file = matches.get_one::<PathBuf>("config").cloned();
        let given = SETTINGS.iter().filter(|setting| setting.flag().is_some());
        let given = given.filter(|setting| matches.value_source(setting.key) == Some(ValueSource::CommandLine));
        self.flags = given
            .filter_map(|setting| Some((setting.key.to_owned(), matches.get_one::<String>(setting.key)?.clone())))
            .collect();
        Ok(())
    }
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// If it cannot start.
pub(crate) fn run(serve: &Serve) -> Result<(), Failure> {
    let config = serve.settings.load()?.config;
    let stored = match config.engine {
        server::config::Engine::Embedded => format!("data {}", config.data.display()),
        server::config::Engine::Memory => "in memory, nothing is kept".to_owned(),
    };
    let ended = server::run(&config, |server| {
        let management = server.management_url().map(|url| format!("management={url}"));
        let apis = [server.http_url(), server.grpc_url()].into_iter().flatten();
        let places: Vec<String> = apis.chain(server.amqp_urls()).chain(management).collect();
        let place = if places.is_empty() { "no listener".to_owned() } else { places.join(" ") };
        // Whoever started the server may not read this; that is no reason to end it.
        let _ = output::line(format!("posthouse {} ready: {place} ({stored})", env!("CARGO_PKG_VERSION")));
    })?;
    match ended {
        server::Ended::Drained => Ok(()),
        server::Ended::AtOnce => Err(Failure::new(Exit::Failed, "stopped at once by a second signal")),
    }
}
