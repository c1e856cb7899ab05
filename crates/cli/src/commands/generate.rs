//! Completions and manual pages, from the definition of the command line.

use std::path::PathBuf;

use clap::CommandFactory;

use crate::args::Cli;
use crate::failure::Failure;
use crate::output;

/// Print completions for a shell.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  posthouse completions bash > /etc/bash_completion.d/posthouse")]
pub(crate) struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Print the manual page, or write one for each command into a directory.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  posthouse man | man -l -\n  posthouse man --dir /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// Write a page for each command into this directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(completions: &Completions) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(completions.shell, &mut Cli::command(), "posthouse", &mut text);
    output::bytes(&text)
}

pub(crate) fn man(man: &Man) -> Result<(), Failure> {
    if let Some(dir) = &man.dir {
        return Ok(clap_mangen::generate_to(Cli::command(), dir)?);
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text)?;
    output::bytes(&text)
}
