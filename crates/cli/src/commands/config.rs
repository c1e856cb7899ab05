//! `config`: what the server would run with.

use clap::Subcommand;

use super::serve::Settings;
use crate::failure::Failure;
use crate::output;

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Read file, variables and flags as `serve` would, and say whether they are fine.
    Check(Box<Given>),
    /// Print every setting as TOML, with where its value came from. Secrets are shown as stars.
    Print(Box<Given>),
}

#[derive(clap::Args, Debug)]
pub(crate) struct Given {
    #[command(flatten)]
    settings: Settings,
}

pub(crate) fn run(action: &Action) -> Result<(), Failure> {
    match action {
        Action::Check(given) => {
            given.settings.load()?;
            output::line("the configuration is fine")
        }
        Action::Print(given) => output::bytes(given.settings.load()?.to_toml().as_bytes()),
    }
}
