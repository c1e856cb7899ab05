//! What commands print: tables for people, JSON for scripts.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]

use std::io::{self, Write};

use clap::ValueEnum;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::Failure;

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// The API's own shape, for scripts.
    Json,
}

/// Writes a line on standard output.
///
/// # Errors
/// If nobody reads it any more, as `| head` does not.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// Writes bytes as they are.
///
/// # Errors
/// As [`line`].
pub(crate) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// Passes on what a command wrote on its standard error.
pub(crate) fn errors(bytes: &[u8]) {
    let _ = io::stderr().lock().write_all(bytes);
}

/// Writes a remark for people on standard error.
pub(crate) fn remark(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// Writes a value as indented JSON.
///
/// # Errors
/// As [`line`].
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    line(text)
}

/// Writes a value as one line of JSON.
///
/// # Errors
/// As [`line`].
pub(crate) fn json_line(value: &impl Serialize) -> Result<(), Failure> {
    line(serde_json::to_string(value).map_err(io::Error::from)?)
}

/// A table without frames: easy to read, easy to cut.
pub(crate) struct Rows {
    table: Table,
}

impl Rows {
    /// With this head. A `>` before a name aligns its column to the right.
    pub(crate) fn new(head: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(head.iter().map(|name| name.trim_start_matches('>').to_uppercase()));
        for (column, name) in table.column_iter_mut().zip(head) {
            column.set_padding((0, 2));
            if name.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { table }
    }

    pub(crate) fn add(&mut self, row: impl IntoIterator<Item = String>) {
        self.table.add_row(row);
    }

    /// The lines, without blanks at their ends.
    pub(crate) fn text(&self) -> String {
        let lines: Vec<String> = self.table.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n")
    }
}

/// Prints a list as a table, or as JSON.
///
/// # Errors
/// As [`line`].
pub(crate) fn list<T: Serialize>(
    format: Format,
    items: &[T],
    head: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<(), Failure> {
    if format == Format::Json {
        return json(&items);
    }
    if items.is_empty() {
        remark("there are none");
        return Ok(());
    }
    let mut rows = Rows::new(head);
    for item in items {
        rows.add(row(item));
    }
    line(rows.text())
}

/// Prints names and values, one a line, or the value as JSON.
///
/// # Errors
/// As [`line`].
pub(crate) fn show(format: Format, item: &impl Serialize, fields: Vec<(&str, String)>) -> Result<(), Failure> {
    if format == Format::Json {
        return json(item);
    }
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in fields.into_iter().filter(|(_, value)| !value.is_empty()) {
        line(format!("{name:<width$}  {value}"))?;
    }
    Ok(())
}
