//! What people read: lines and tables.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the one place that prints")]

use std::io::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

/// Writes a line on standard output. That nobody reads it any more is no reason to stop.
pub fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.as_ref());
    let _ = out.flush();
}

/// Writes a remark on standard error.
pub fn remark(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", text.as_ref());
}

/// A table without frames. A `>` before a name in its head aligns that column to the right.
#[must_use]
pub fn table(head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|name| name.trim_start_matches('>')));
    for row in rows {
        table.add_row(row);
    }
    for (column, name) in table.column_iter_mut().zip(head) {
        column.set_padding((0, 2));
        if name.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Cents as money: `12.05`.
#[must_use]
pub fn money(cents: i64) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    let cents = cents.unsigned_abs();
    format!("{sign}{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_two_places() {
        assert_eq!(money(1205), "12.05");
        assert_eq!(money(-7), "-0.07");
    }

    #[test]
    fn numbers_stand_below_each_other() {
        let text = table(
            &["article", ">sold"],
            [vec!["mug".to_owned(), "7".to_owned()], vec!["tray".to_owned(), "12".to_owned()]],
        );
        assert_eq!(text, "article  sold\nmug         7\ntray       12");
    }
}
