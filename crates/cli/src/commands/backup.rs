//! `backup`: a copy of all that a running server keeps.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::ProgressBar;
use log::{ArchiveError, Manifest};

use super::restore::{STDIO, bar, describe};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format};
use crate::values::size;

/// Pieces of the answer that wait to be checked.
const PIECES: usize = 16;
/// How long the server may send nothing.
const SILENCE: Duration = Duration::from_secs(120);
/// The least rate that may be asked for, in bytes a second: a server gives a client up that takes less.
const LEAST_RATE: u64 = 64 * 1024;

/// Copy all that a running server keeps into a file, as it is at this moment. For administrators.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  posthouse backup /backups/monday.tar\n  posthouse backup - | zstd > monday.tar.zst\n  \
                  posthouse backup --max-rate 20MiB monday.tar\n\n\
                  The file is there, under its name, only when all of it was checked and is on the disk. It holds everything that was\n\
                  confirmed before the command began, users and their password hashes too: keep it as safe as the data itself."
)]
pub(crate) struct Backup {
    /// The file to make; `-` is standard output.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// Take no more than this many bytes a second, so that the server's disk and network have time for others.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_rate: Option<u64>,
}

pub(crate) async fn run(client: Client, backup: Backup) -> Result<(), Failure> {
    if backup.max_rate.is_some_and(|rate| rate < LEAST_RATE) {
        return Err(Failure::usage("--max-rate is at least 64KiB a second"));
    }
    let mut target = Target::check(&backup)?;
    let mut answer = client.download(client.admin(&["backup"])).await?;
    target.open()?;
    let whole = answer.content_length();
    let (pieces, incoming) = sync_channel(PIECES);
    let checking = std::thread::spawn(move || log::check_backup(Incoming::new(incoming), &mut |_, _| {}));
    let mut copy = Copy { bar: bar(whole.unwrap_or(0)), rate: backup.max_rate, done: 0, whole };
    let copied = tokio::select! {
        copied = copy.run(&mut answer, &mut target, pieces) => copied,
        _ = tokio::signal::ctrl_c() => Err(Stop::Failed(Failure::new(Exit::Failed, "interrupted; nothing was kept"))),
    };
    drop(answer);
    if let Some(bar) = copy.bar.take() {
        bar.finish_and_clear();
    }
    let checked = checking.join().unwrap_or_else(|_| Err(ArchiveError::Io("the check ended early".to_owned())));
    let manifest = match (copied, checked) {
        (Ok(()), Ok(checked)) => checked.manifest,
        (Err(Stop::Cut(why)), _) => return Err(cut(&client, why).await),
        (Err(Stop::Failed(failure)), _) => return Err(failure),
        (Ok(()) | Err(Stop::Refused), checked) => {
            let why = checked.err().map_or_else(String::new, |error| error.to_string());
            return Err(Failure::new(Exit::Failed, format!("what the server sent is not a whole backup: {why}")));
        }
    };
    target.keep()?;
    said(client.format, &backup.file, &manifest)
}

/// Prints what was made; not between the bytes of the backup itself.
fn said(format: Format, file: &Path, manifest: &Manifest) -> Result<(), Failure> {
    for fault in &manifest.faults {
        output::remark(format!("warning: damaged on the server, and in the copy too: {fault}"));
    }
    let is_stdout = file == Path::new(STDIO);
    match format {
        Format::Json if !is_stdout => output::json(manifest),
        Format::Table if !is_stdout => output::line(format!("{} holds {}", file.display(), describe(manifest))),
        _ => {
            output::remark(format!("wrote {}", describe(manifest)));
            Ok(())
        }
    }
}

/// An answer that broke off. The server knows why, if it is still there.
async fn cut(client: &Client, why: String) -> Failure {
    let status = client.get::<api::Status>(client.admin(&["status"])).await;
    let said = status.ok().and_then(|status| status.last_backup_error);
    let failure = Failure::new(Exit::Failed, format!("the backup broke off: {}", said.unwrap_or(why)));
    failure.hint("nothing was kept; run it again")
}

/// Why a copy ended early.
enum Stop {
    /// The answer ended before its end.
    Cut(String),
    /// The check found something; it knows what.
    Refused,
    /// Something here.
    Failed(Failure),
}

struct Copy {
    bar: Option<ProgressBar>,
    rate: Option<u64>,
    done: u64,
    whole: Option<u64>,
}

impl Copy {
    async fn run(
        &mut self,
        answer: &mut reqwest::Response,
        target: &mut Target,
        pieces: SyncSender<Bytes>,
    ) -> Result<(), Stop> {
        let started = tokio::time::Instant::now();
        loop {
            let piece = tokio::time::timeout(SILENCE, answer.chunk()).await;
            let piece = piece.map_err(|_| Stop::Cut(format!("nothing came for {} s", SILENCE.as_secs())))?;
            let Some(piece) = piece.map_err(|error| Stop::Cut(error.to_string()))? else { break };
            target.write(&piece).map_err(|error| Stop::Failed(error.into()))?;
            self.done += piece.len() as u64;
            if let Some(bar) = &self.bar {
                bar.set_position(self.done);
            }
            pieces.send(piece).map_err(|_| Stop::Refused)?;
            if let Some(rate) = self.rate {
                let due = Duration::from_secs_f64(self.done as f64 / rate as f64);
                tokio::time::sleep_until(started + due).await;
            }
        }
        match self.whole {
            Some(whole) if whole != self.done => Err(Stop::Cut(format!("{} of {whole} bytes came", self.done))),
            _ => Ok(()),
        }
    }
}

/// What comes, for the check to read.
struct Incoming {
    pieces: Receiver<Bytes>,
    piece: Bytes,
}

impl Incoming {
    fn new(pieces: Receiver<Bytes>) -> Self {
        Self { pieces, piece: Bytes::new() }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.recv() {
                Ok(piece) => self.piece = piece,
                Err(_) => return Ok(0),
            }
        }
        let count = buffer.len().min(self.piece.len());
        let piece = self.piece.split_to(count);
        buffer[..count].copy_from_slice(&piece);
        Ok(count)
    }
}

/// Where the backup goes: a file under another name until it is whole, or standard output.
struct Target {
    file: PathBuf,
    partial: PathBuf,
    open: Option<File>,
    is_kept: bool,
}

impl Target {
    /// Looks before the server is asked whether the file can be made.
    fn check(backup: &Backup) -> Result<Self, Failure> {
        let file = backup.file.clone();
        let mut partial = file.clone().into_os_string();
        partial.push(".partial");
        let target = Self { partial: partial.into(), open: None, is_kept: false, file };
        if target.is_stdout() {
            if io::IsTerminal::is_terminal(&io::stdout()) {
                return Err(Failure::usage("a backup is no text for a terminal").hint("posthouse backup - > FILE"));
            }
            return Ok(target);
        }
        if target.file.is_dir() {
            return Err(Failure::usage(format!("{} is a directory; name a file in it", target.file.display())));
        }
        if target.file.exists() && !backup.force {
            let there = Failure::new(Exit::Refused, format!("{} is there already", target.file.display()));
            return Err(there.hint("name another file, or give --force to replace it once the new one is whole"));
        }
        Ok(target)
    }

    fn is_stdout(&self) -> bool {
        self.file == Path::new(STDIO)
    }

    fn open(&mut self) -> Result<(), Failure> {
        if !self.is_stdout() {
            // Nobody else may read it: there are password hashes in it.
            let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
            let opened = options.open(&self.partial);
            self.open = Some(opened.map_err(|error| Failure::usage(format!("{}: {error}", self.partial.display())))?);
        }
        Ok(())
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        match &mut self.open {
            Some(file) => file.write_all(piece),
            None => io::stdout().lock().write_all(piece),
        }
    }

    /// Makes what was written durable, and gives it its name.
    fn keep(mut self) -> Result<(), Failure> {
        let Some(file) = self.open.take() else { return Ok(io::stdout().lock().flush()?) };
        file.sync_all()?;
        std::fs::rename(&self.partial, &self.file)?;
        self.is_kept = true;
        let parent = self.file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.is_kept && self.open.take().is_some() {
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}
