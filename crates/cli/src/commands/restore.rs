//! `restore`: a data directory from a backup, without a server.

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use log::{FileDisk, FileDiskError, Manifest, RestoreError};

use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::values::{show_bytes, show_time};

/// Standard input or output, in the place of a file's name.
pub(super) const STDIO: &str = "-";
/// Read at once.
const READ_BYTES: usize = 1024 * 1024;
/// What may be in a directory that counts as empty: a lock, what a file system puts there, what a restore makes.
const OF_NO_ACCOUNT: [&str; 4] = ["LOCK", "lost+found", "wal", "segments"];
/// What says that a restore was here that did not end.
const RESTORING: &str = "RESTORING";

/// Make a data directory from a backup, or only check one. Needs no server.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  posthouse restore --verify monday.tar\n  posthouse restore monday.tar --data /var/lib/posthouse\n  \
                  zstd -dc monday.tar.zst | posthouse restore - --data ./data\n\n\
                  The directory must be empty or not there. A server starts on it only when all of the backup was found good and is on the\n\
                  disk; a restore that was stopped is run again. Exit code 1 if the backup is damaged, 4 if the directory is not empty."
)]
pub(crate) struct Restore {
    /// The backup; `-` is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The data directory to make.
    #[arg(long, value_name = "DIR", required_unless_present = "verify")]
    data: Option<PathBuf>,
    /// Read all of the backup and check every checksum; write nothing.
    #[arg(long, conflicts_with = "data")]
    verify: bool,
    /// How the result is written.
    #[arg(long, short = 'o', env = "POSTHOUSE_OUTPUT", default_value = "table", value_name = "FORMAT")]
    output: Format,
}

pub(crate) fn run(restore: &Restore) -> Result<(), Failure> {
    let (archive, bytes) = open(&restore.file)?;
    let bar = bar(bytes);
    let mut progress = |done, whole| {
        if let Some(bar) = &bar {
            bar.set_length(whole);
            bar.set_position(done);
        }
    };
    let checked = match &restore.data {
        Some(dir) => into(dir, archive, &mut progress),
        None => log::check_backup(archive, &mut progress).map_err(|error| failed(&error.into())),
    };
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let manifest = checked?.manifest;
    for fault in &manifest.faults {
        output::remark(format!("warning: was damaged when the backup was made, and is now: {fault}"));
    }
    if restore.output == Format::Json {
        return output::json(&manifest);
    }
    match &restore.data {
        Some(dir) => output::line(format!(
            "{} holds {}\nstart it with: posthouse serve --data {}",
            dir.display(),
            describe(&manifest),
            dir.display()
        )),
        None => output::line(format!("{} is whole: {}", restore.file.display(), describe(&manifest))),
    }
}

/// What a backup holds, in words.
pub(super) fn describe(manifest: &Manifest) -> String {
    format!(
        "{} logs with {} records, {}, as of {}",
        manifest.logs,
        manifest.records,
        show_bytes(manifest.data_bytes()),
        show_time(manifest.created_ms)
    )
}

/// A bar that counts bytes, if somebody looks.
pub(super) fn bar(bytes: u64) -> Option<ProgressBar> {
    if !io::stderr().is_terminal() {
        return None;
    }
    let template = "{bar:30} {binary_bytes} of {binary_total_bytes}, {binary_bytes_per_sec}, {eta} left";
    let bar = ProgressBar::new(bytes);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    Some(bar)
}

fn open(file: &Path) -> Result<(Box<dyn Read>, u64), Failure> {
    if file == Path::new(STDIO) {
        return Ok((Box::new(BufReader::with_capacity(READ_BYTES, io::stdin())), 0));
    }
    let opened = File::open(file).and_then(|opened| Ok((opened.metadata()?.len(), opened)));
    let (bytes, opened) = opened.map_err(|error| {
        let exit = if error.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, format!("{}: {error}", file.display()))
    })?;
    Ok((Box::new(BufReader::with_capacity(READ_BYTES, opened)), bytes))
}

fn into(dir: &Path, archive: impl Read, progress: &mut dyn FnMut(u64, u64)) -> Result<log::Checked, Failure> {
    let is_new = !dir.exists();
    refuse_what_is_there(dir)?;
    let disk = FileDisk::open(dir).map_err(|error| {
        let exit = if matches!(error, FileDiskError::InUse { .. }) { Exit::Refused } else { Exit::Failed };
        Failure::new(exit, error.to_string())
    })?;
    let restored = log::restore_backup(archive, &disk, progress).map_err(|error| failed(&error));
    drop(disk);
    if restored.is_err() && is_new {
        // What the restore could not remove itself keeps the directory, marked as one that is not whole.
        let _ = ["wal", "segments"].map(|part| std::fs::remove_dir(dir.join(part)));
        if !dir.join(RESTORING).exists() {
            let _ = std::fs::remove_file(dir.join("LOCK"));
            let _ = std::fs::remove_dir(dir);
        }
    }
    let restored = restored?;
    // Its own name must be durable too.
    let parent = dir.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()?;
    Ok(restored)
}

/// Looks before anything is made in somebody's directory.
fn refuse_what_is_there(dir: &Path) -> Result<(), Failure> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::new(Exit::Failed, format!("{}: {error}", dir.display()))),
    };
    let mut names: Vec<String> = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    if names.iter().any(|name| name == RESTORING) {
        return Ok(());
    }
    match names.iter().find(|name| !OF_NO_ACCOUNT.contains(&name.as_str())) {
        Some(name) => Err(failed(&RestoreError::NotEmpty(name.clone()))),
        None => Ok(()),
    }
}

fn failed(error: &RestoreError) -> Failure {
    let exit = if matches!(error, RestoreError::NotEmpty(_)) { Exit::Refused } else { Exit::Failed };
    Failure::new(exit, error.to_string())
}
