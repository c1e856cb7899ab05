//! No markers of unfinished work in comments: what is not done is an issue, where others can see it.

use std::collections::BTreeMap;

use super::{Finding, Report};

/// Whole words, in capitals.
const MARKERS: &[&str] = &["TODO", "FIXME", "XXX"];

/// How a language opens its comments. Block comments are known by their opening and by `*` at the head of a line.
const RUST_LIKE: &[&str] = &["//", "/*"];
const HASH: &[&str] = &["#"];
const MARKUP: &[&str] = &["<!--", "//", "/*"];

/// Looks through the comments of every file whose language is known.
pub(super) fn check(texts: &BTreeMap<String, String>) -> Report {
    let mut findings = Vec::new();
    let mut files = 0;
    for (path, text) in texts {
        let Some(openings) = comment_openings(path, text) else {
            continue;
        };
        files += 1;
        let comments = if path.ends_with(".rs") { rust_comments(text) } else { line_comments(text, openings) };
        for (line, comment) in comments {
            if let Some(marker) = MARKERS.iter().find(|marker| has_word(&comment, marker)) {
                let what = format!("a comment says {marker}");
                findings.push(Finding::new(
                    path,
                    line,
                    what,
                    "do it now, or open an issue and say here what holds today",
                ));
            }
        }
    }
    Report { name: "markers", summary: format!("{files} files"), findings }
}

fn comment_openings(path: &str, text: &str) -> Option<&'static [&'static str]> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("rs" | "proto" | "js" | "mjs" | "ts" | "go" | "java" | "css") => Some(RUST_LIKE),
        Some("toml" | "sh" | "py" | "yml" | "yaml") => Some(HASH),
        Some("html" | "svg") => Some(MARKUP),
        None if text.starts_with("#!") || name == "Dockerfile" || name == "Makefile" => Some(HASH),
        _ => None,
    }
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text.get(..at).and_then(|before| before.chars().next_back());
        let after = text.get(at + word.len()..).and_then(|after| after.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// What follows the first opening on each line. Strings are not told apart: a marker in one is as easily reworded.
fn line_comments(text: &str, openings: &[&str]) -> Vec<(usize, String)> {
    let mut comments = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let opening = openings.iter().filter_map(|opening| line.find(opening)).min();
        let continued = line.trim_start().starts_with("* ").then_some(0);
        if let Some(comment) = opening.or(continued).and_then(|at| line.get(at..)) {
            comments.push((number, comment.to_owned()));
        }
    }
    comments
}

/// The comments of a Rust file, line by line; what looks like one inside a string is none.
fn rust_comments(text: &str) -> Vec<(usize, String)> {
    let mut comments = Vec::new();
    let mut rest = text;
    let mut line = 1;
    let mut previous = ' ';
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment_length(rest)
        } else {
            // `r` of a raw string, and not the end of a name such as `for`.
            let starts_word = !(previous.is_alphanumeric() || previous == '_');
            literal_length(rest, starts_word).unwrap_or(first.len_utf8())
        };
        let (token, after) = rest.split_at(length);
        if token.starts_with("//") || token.starts_with("/*") {
            comments.extend((line..).zip(token.lines()).map(|(number, part)| (number, part.to_owned())));
        }
        line += token.matches('\n').count();
        previous = token.chars().next_back().unwrap_or(' ');
        rest = after;
    }
    comments
}

/// Bytes of the block comment at the start, with those nested in it; all of the rest when it is not closed.
fn block_comment_length(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// Bytes of the string or character literal at the start, if there is one.
fn literal_length(text: &str, starts_word: bool) -> Option<usize> {
    if text.starts_with('"') {
        return Some(quoted_length(text, '"'));
    }
    if text.starts_with('\'') {
        // A lifetime has no quote after its first character, which may be escaped.
        let mut inside = text.chars().skip(1);
        let is_character = inside.next()? == '\\' || inside.next()? == '\'';
        return is_character.then(|| quoted_length(text, '\''));
    }
    let raw = ["br", "cr", "r"].iter().find_map(|prefix| text.strip_prefix(prefix)).filter(|_| starts_word)?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let body = raw.get(hashes..)?.strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&close).map_or(body.len(), |end| end + close.len());
    Some(text.len() - body.len() + end)
}

/// Bytes up to and with the closing quote; an escaped quote does not close.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_file(path: &str, text: &str) -> Vec<usize> {
        check(&[(path.to_owned(), text.to_owned())].into()).findings.iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn markers_in_rust_comments_are_found() {
        assert_eq!(check_file("a.rs", "fn a() {}\n// TODO: b\n"), [2]);
        assert_eq!(check_file("a.rs", "/// Does FIXME\nfn a() {} /* \n XXX */"), [1, 3]);
        assert_eq!(check_file("a.rs", "/* a /* b */ TODO */"), [1]);
        assert_eq!(check_file("a.rs", "let a = '\"'; // TODO\nlet b: &'static str = c; // XXX"), [1, 2]);
        assert_eq!(check_file("a.rs", "let a = r#\"\"//\"#; let b = \"\\\"\"; // TODO"), [1]);
    }

    #[test]
    fn strings_and_other_words_are_no_markers() {
        let text =
            "let a = \"// TODO\"; let b = r#\"/* \" XXX */\"#; // TODOS, XXXX, todo\nlet c = '/'; let d = \"TODO\";";
        assert_eq!(check_file("a.rs", text), Vec::<usize>::new());
    }

    #[test]
    fn other_languages_have_comments_too() {
        assert_eq!(check_file("a/b.toml", "a = 1 # TODO"), [1]);
        assert_eq!(check_file(".ci/run", "#!/bin/bash\n# FIXME"), [2]);
        assert_eq!(check_file("a.py", "mktemp XXXXXX # fine\n"), Vec::<usize>::new());
        assert_eq!(check_file("a.html", "<p>TODO</p>\n<!-- TODO -->"), [2]);
        assert_eq!(check_file("a.js", "/**\n * TODO\n */"), [2]);
        assert_eq!(check_file("a.md", "A list of TODO items is no comment."), Vec::<usize>::new());
    }
}
