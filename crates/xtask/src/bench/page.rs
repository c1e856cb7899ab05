//! The table of docs/performance.md.

use std::path::Path;

use anyhow::Context;

use super::figure::Figure;
use super::machine::Machine;

const PAGE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- The figures are written by `cargo xtask bench`. -->\n";
const END: &str = "<!-- End of the figures. -->\n";

/// The table, ratios first.
pub(super) fn table((machine, figures): &(Machine, Vec<Figure>)) -> String {
    let mut text = format!("{machine}\n\n| what | figure | goal | | from |\n|---|---|---|---|---|\n");
    for figure in figures {
        let Figure { what, figure: value, goal, from, .. } = figure;
        let verdict = figure.verdict();
        text += &format!("| {what} | {value} | {goal} | {verdict} | {from} |\n");
    }
    text
}

/// Puts the table into the page.
///
/// # Errors
/// If the page has no place for it.
pub(super) fn write(root: &Path, figures: &(Machine, Vec<Figure>)) -> anyhow::Result<()> {
    let path = root.join(PAGE);
    let page = std::fs::read_to_string(&path).with_context(|| format!("{PAGE} cannot be read"))?;
    std::fs::write(&path, replace(&page, &table(figures))?)?;
    println!("{PAGE} is written");
    Ok(())
}

fn replace(page: &str, table: &str) -> anyhow::Result<String> {
    let place = || format!("{PAGE} has no place for the figures: {} and {}", BEGIN.trim(), END.trim());
    let (before, rest) = page.split_once(BEGIN).with_context(place)?;
    let (_, after) = rest.split_once(END).with_context(place)?;
    Ok(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let page = format!("a\n{BEGIN}old\n{END}b\n");
        let once = replace(&page, "new\n").unwrap();
        assert_eq!(once, format!("a\n{BEGIN}\nnew\n\n{END}b\n"));
        assert_eq!(replace(&once, "new\n").unwrap(), once);
        assert!(replace("a", "b").is_err());
    }

    #[test]
    fn the_page_has_a_place_for_the_figures() {
        let page = std::fs::read_to_string(crate::repository_root().unwrap().join(PAGE)).unwrap();
        replace(&page, "x").unwrap();
    }
}
