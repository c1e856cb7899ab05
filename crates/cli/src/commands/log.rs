//! `log`: a data directory, looked at without a server.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use log::{DumpItem, FileDisk, FilePurpose, VerifyReport};
use serde_json::json;

use super::messages::printable;
use crate::failure::{Exit, Failure};
use crate::output::{self, Format, Rows};
use crate::values::{show_bytes, show_time};

/// The log of definitions, without which the server does not start.
const DEFINITIONS: types::LogId = types::LogId(0);
/// Bytes of a record's value that a dump shows.
const EXCERPT_BYTES: usize = 200;

#[derive(Subcommand, Debug)]
pub(crate) enum Action {
    /// Check every checksum, and say what is there and what is damaged. Changes nothing.
    #[command(after_help = "Example:\n  posthouse log verify ./data\n\nExit code 1 if there is damage.")]
    Verify {
        /// The data directory. A running server should be stopped first, or what is newest may look torn.
        dir: PathBuf,
        /// How the result is written.
        #[arg(long, short = 'o', env = "POSTHOUSE_OUTPUT", default_value = "table", value_name = "FORMAT")]
        output: Format,
    },
    /// Print every log's records.
    #[command(after_help = "Examples:\n  posthouse log dump ./data\n  posthouse log dump ./data --log 12 -o json")]
    Dump {
        /// The data directory.
        dir: PathBuf,
        /// Only this log.
        #[arg(long, value_name = "ID")]
        log: Option<u64>,
        /// How records are written; JSON is an object a line.
        #[arg(long, short = 'o', env = "POSTHOUSE_OUTPUT", default_value = "table", value_name = "FORMAT")]
        output: Format,
    },
}

pub(crate) fn run(action: Action) -> Result<(), Failure> {
    match action {
        Action::Verify { dir, output } => verify(&dir, output),
        Action::Dump { dir, log, output } => dump(&dir, log, output),
    }
}

fn open(dir: &Path) -> Result<Arc<FileDisk>, Failure> {
    if !dir.is_dir() {
        return Err(Failure::new(Exit::NotFound, format!("there is no directory {}", dir.display())));
    }
    Ok(Arc::new(FileDisk::read_only(dir)))
}

fn broken(error: &log::StartError) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}

fn verify(dir: &Path, format: Format) -> Result<(), Failure> {
    let report = log::verify(open(dir)?).map_err(|error| broken(&error))?;
    match format {
        Format::Json => output::json(&as_json(&report))?,
        Format::Table => print(&report)?,
    }
    verdict(dir, &report)
}

fn verdict(dir: &Path, report: &VerifyReport) -> Result<(), Failure> {
    if report.faults.is_empty() {
        return Ok(());
    }
    let what = format!("{} is damaged in {} places", dir.display(), report.faults.len());
    let hint = if report.faults.iter().any(|fault| fault.logs.is_empty() || fault.logs.contains(&DEFINITIONS)) {
        "the definitions may be damaged (log 0), so the server does not start; keep a copy before anything else"
    } else {
        "the server still starts: the logs named above are read-only then, and all others work; keep a copy first"
    };
    Err(Failure::new(Exit::Failed, what).hint(hint))
}

fn print(report: &VerifyReport) -> Result<(), Failure> {
    let mut files = Rows::new(&["file", ">size", "purpose"]);
    for file in &report.files {
        files.add([file.path.display().to_string(), show_bytes(file.bytes), purpose(file.purpose)]);
    }
    let mut logs = Rows::new(&[">log", "label", ">start", ">end", ">records", ">on disk", "damage"]);
    for log in &report.logs {
        logs.add([
            log.id.to_string(),
            log.config.label.clone(),
            log.state.start.to_string(),
            log.state.end.to_string(),
            log.state.records.to_string(),
            show_bytes(log.state.disk_bytes),
            log.damage.clone().unwrap_or_default(),
        ]);
    }
    output::line(files.text())?;
    output::line("")?;
    output::line(logs.text())?;
    output::line("")?;
    for note in &report.notes {
        output::line(format!("note: {note}"))?;
    }
    for fault in &report.faults {
        output::line(format!("DAMAGE at {}: {} ({})", fault.place, fault.what, touched(&fault.logs)))?;
    }
    if report.faults.is_empty() {
        output::line(format!("{} logs in {} files, no damage", report.logs.len(), report.files.len()))?;
    }
    Ok(())
}

fn touched(logs: &[types::LogId]) -> String {
    if logs.is_empty() {
        return "touches all logs".to_owned();
    }
    let logs: Vec<String> = logs.iter().map(ToString::to_string).collect();
    format!("touches log {}", logs.join(", "))
}

fn purpose(purpose: FilePurpose) -> String {
    match purpose {
        FilePurpose::WriteAhead { sequence } => format!("write-ahead log, part {sequence}"),
        FilePurpose::Spare => "space kept for the write-ahead log".to_owned(),
        FilePurpose::Segment => "segment".to_owned(),
        FilePurpose::Orphan => "left over from a crash; the next start removes it".to_owned(),
        FilePurpose::Cut => "write-ahead log, cut before the end of its header".to_owned(),
        FilePurpose::Checkpoint => "checkpoint".to_owned(),
    }
}

fn as_json(report: &VerifyReport) -> serde_json::Value {
    let logs: Vec<_> = report.logs.iter().map(log_json).collect();
    let files: Vec<_> = report
        .files
        .iter()
        .map(|file| json!({ "path": file.path, "bytes": file.bytes, "purpose": purpose(file.purpose) }))
        .collect();
    let faults: Vec<_> = report
        .faults
        .iter()
        .map(|fault| {
            let logs: Vec<u64> = fault.logs.iter().map(|log| log.0).collect();
            json!({ "place": fault.place, "what": fault.what, "logs": logs })
        })
        .collect();
    json!({ "logs": logs, "files": files, "faults": faults, "notes": report.notes })
}

fn log_json(log: &log::LogReport) -> serde_json::Value {
    json!({
        "log": log.id.0,
        "label": log.config.label,
        "start": log.state.start.0,
        "end": log.state.end.0,
        "records": log.state.records,
        "disk_bytes": log.state.disk_bytes,
        "damage": log.damage,
    })
}

fn dump(dir: &Path, only: Option<u64>, format: Format) -> Result<(), Failure> {
    let disk = open(dir)?;
    let mut shown = false;
    let mut found = false;
    let mut failed = Ok(());
    let report = log::dump(disk, &mut |item| {
        if let DumpItem::Log(log) = &item {
            shown = only.is_none_or(|only| log.id.0 == only);
            found |= shown;
        }
        if shown && failed.is_ok() {
            failed = show(&item, format);
        }
    });
    let report = report.map_err(|error| broken(&error))?;
    failed?;
    if let Some(id) = only.filter(|_| !found) {
        return Err(Failure::new(Exit::NotFound, format!("there is no log {id}"))
            .hint("`posthouse log verify` shows those there are"));
    }
    verdict(dir, &report)
}

fn show(item: &DumpItem<'_>, format: Format) -> Result<(), Failure> {
    match (item, format) {
        (DumpItem::Log(log), Format::Json) => output::json_line(&log_json(log)),
        (DumpItem::Log(log), Format::Table) => output::line(format!(
            "log {} {:?}: offsets {} to {}, {} records",
            log.id, log.config.label, log.state.start, log.state.end, log.state.records
        )),
        (DumpItem::Damage(error), Format::Json) => output::json_line(&json!({ "damage": error.to_string() })),
        (DumpItem::Damage(error), Format::Table) => output::line(format!("  DAMAGE: {error}")),
        (DumpItem::Batch(entry), format) => batch(entry, format),
    }
}

fn batch(entry: &log::Entry, format: Format) -> Result<(), Failure> {
    let records = match entry.batch.records() {
        Ok(records) => records,
        Err(error) => return output::line(format!("  DAMAGE at offset {}: {error}", entry.base)),
    };
    for record in records {
        let record = match record {
            Ok(record) => record,
            Err(error) => return output::line(format!("  DAMAGE in the batch at offset {}: {error}", entry.base)),
        };
        if !entry.live.contains(record.offset_delta) {
            continue;
        }
        // A batch does not know where it stands; the entry does.
        let offset = entry.base.plus(u64::from(record.offset_delta));
        let headers: Vec<String> = record
            .headers
            .iter_shared()
            .map(|(name, value)| {
                format!("{}={}", text(&name), value.map_or_else(|| "null".to_owned(), |value| text(&value)))
            })
            .collect();
        let key = record.key.as_deref().map(text);
        let value = record.value.as_deref().map(text);
        match format {
            Format::Json => output::json_line(&json!({
                "offset": offset.0, "timestamp_ms": record.timestamp_ms, "key": key, "headers": headers, "value": value,
                "value_bytes": record.value.as_ref().map(bytes_len),
            }))?,
            Format::Table => output::line(format!(
                "  {offset} {} key={} {} {}",
                show_time(record.timestamp_ms),
                key.as_deref().unwrap_or("null"),
                headers.join(" "),
                value.as_deref().unwrap_or("null"),
            ))?,
        }
    }
    Ok(())
}

fn bytes_len(bytes: &impl AsRef<[u8]>) -> usize {
    bytes.as_ref().len()
}

/// Bytes as text, as far as a dump shows them; what is not text as hexadecimal.
fn text(bytes: &[u8]) -> String {
    let head = bytes.get(..EXCERPT_BYTES).unwrap_or(bytes);
    let more = if head.len() < bytes.len() { format!("... ({} bytes)", bytes.len()) } else { String::new() };
    let text = match std::str::from_utf8(head) {
        Ok(text) => text.chars().map(printable).collect(),
        // A character may have been cut by the excerpt's end.
        Err(error) if head.len() < bytes.len() && error.valid_up_to() + 4 > head.len() => {
            String::from_utf8_lossy(head).chars().map(printable).collect()
        }
        Err(_) => head.iter().fold("0x".to_owned(), |hex, byte| format!("{hex}{byte:02x}")),
    };
    text + &more
}
