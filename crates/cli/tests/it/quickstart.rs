//! The quickstart: what the README shows is what the script prints.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Server, posthouse};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What the README shows in the fenced `console` blocks of its quickstart, one after another.
fn shown(readme: &str) -> String {
    let (_, part) = readme.split_once("\n## Quickstart\n").unwrap();
    let part = part.split("\n## ").next().unwrap();
    let blocks = part.split("```console\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.collect()
}

/// A text without what differs from run to run: ids, receipts, times and ages. Columns move with them, so that blanks count as one.
fn masked(text: &str) -> Vec<String> {
    let word = |word: &str| -> String {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let is_id = bare.len() == 36 && bare.matches('-').count() == 4;
        let is_time = bare.len() >= 20 && bare.ends_with('Z') && bare.contains('T') && bare.starts_with("20");
        let is_age = bare.starts_with(|c: char| c.is_ascii_digit())
            && (bare.ends_with("ms") || bare.ends_with('s'))
            && bare.chars().all(|c| c.is_ascii_digit() || matches!(c, 'm' | 's' | 'h'))
            && word == bare
            && bare != "0s";
        match (is_id, is_time, is_age) {
            (true, _, _) => word.replace(bare, "ID"),
            (_, true, _) => word.replace(bare, "TIME"),
            (_, _, true) => "AGE".to_owned(),
            _ => word.to_owned(),
        }
    };
    let line = |line: &str| -> String {
        let line = masked_json(line);
        line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
    };
    text.lines().map(line).collect()
}

/// The values of fields in JSON that differ from run to run.
fn masked_json(line: &str) -> String {
    let mut line = line.to_owned();
    for field in ["id", "receipt", "enqueued_ms", "timestamp_ms"] {
        let start = format!("\"{field}\":");
        let mut done = String::new();
        let mut rest = line.as_str();
        while let Some((before, after)) = rest.split_once(&start) {
            let end = after.find([',', '}']).unwrap_or(after.len());
            done.push_str(before);
            done.push_str(&start);
            done.push('_');
            rest = &after[end..];
        }
        done.push_str(rest);
        line = done;
    }
    line
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that did nothing must say so")]
fn the_quickstart_prints_what_the_readme_shows() {
    // The only test that needs more than the toolchain; .ci/run installs it.
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "curl is missing: CI installs it, so this is no reason to pass");
        eprintln!("skipped: there is no curl on this machine");
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path());
    let binary = posthouse();
    let folder = Path::new(binary.get_program()).parent().unwrap().to_owned();
    let mut path = folder.into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut script = Command::new("bash");
    script.arg(root().join("examples/quickstart/run.sh")).env("PATH", path).env("POSTHOUSE_URL", &server.url);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTHOUSE_") && name != "POSTHOUSE_URL" {
            script.env_remove(name);
        }
    }
    let output = script.env_remove("BANK").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));

    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (wanted, got) = (masked(&shown(&readme)), masked(&printed));
    assert!(!wanted.is_empty());
    for (number, (wanted, got)) in wanted.iter().zip(&got).enumerate() {
        assert_eq!(wanted, got, "line {} of what the quickstart prints:\n{printed}", number + 1);
    }
    assert_eq!(wanted.len(), got.len(), "the README shows more or less than the quickstart prints:\n{printed}");
}

#[test]
fn masks_hide_only_what_differs() {
    let one = "published 01a1fdd7-9bc1-704c-93f9-6209447a0cc9 at 0/0 to 4 queues";
    let other = "published 02a1fdd7-9bc1-704c-93f9-6209447a0cc9 at 0/0 to 4 queues";
    assert_eq!(masked(one), masked(other));
    assert_ne!(masked(one), masked(&one.replace("4 queues", "3 queues")));
    assert_eq!(masked("a  3  1s20ms"), masked("a 3 57ms"));
    assert_ne!(masked("a 3 57ms"), masked("a 4 57ms"));
    assert_ne!(masked("--wait 0s"), masked("--wait 1s"));
    assert_eq!(masked("{\"id\":\"a\",\"n\":1}"), masked("{\"id\":\"b\",\"n\":1}"));
    assert_ne!(masked("{\"id\":\"a\",\"n\":1}"), masked("{\"id\":\"a\",\"n\":2}"));
}
